//! Each operation of ls-ops and a decoder block, forward and backward, beside the plain form in
//! burn's own operations, at the size of a 135M LLaMA. `ls-bench-ops` prints the ratios of the two
//! by turns.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ls_benches::operations::{FORMS, PASSES, of_135m};
use ls_train::allocator::keep_freed_memory;

fn ops(criterion: &mut Criterion) {
    keep_freed_memory();
    for operation in of_135m() {
        let mut group = criterion.benchmark_group(format!("ops/{}", operation.name));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_secs(1));
        for (pass_name, pass) in PASSES {
            for (form_name, form) in FORMS {
                group.bench_function(BenchmarkId::new(pass_name, form_name), |b| {
                    b.iter(|| operation.run(form, pass));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, ops);
criterion_main!(benches);
