//! One epoch of the demonstration (`configs/demo-sentiment.toml`): reading, encoding, training,
//! evaluation and the run folder.

use std::path::Path;
use std::time::Duration;

use burn::tensor::Device;
use criterion::{Criterion, criterion_group, criterion_main};
use ls_train::RunConfig;
use ls_train::allocator::keep_freed_memory;

fn epoch(criterion: &mut Criterion) {
    keep_freed_memory();
    // The paths of the configuration begin there.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::set_current_dir(root).expect("the root of the repository");
    let set = ["train.epochs=1", "train.baselines=false"].map(String::from);
    let config = RunConfig::from_file(Path::new("configs/demo-sentiment.toml"), &set)
        .expect("the demonstration's configuration");
    let device = Device::flex();
    let mut group = criterion.benchmark_group("epoch");
    group.sample_size(10);
    group.measurement_time(Duration::from_secs(20));
    group.bench_function("demo-sentiment", |b| {
        b.iter(|| {
            let dir = tempfile::tempdir().expect("a temporary folder");
            ls_train::train(&config, &dir.path().join("run"), &device, &mut ()).expect("a run")
        });
    });
    group.finish();
}

criterion_group!(benches, epoch);
criterion_main!(benches);
