//! Encoding is streamed: what it allocates does not grow with the file.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ls_data::{BadRows, FileFormat, ReadSpec, TaskKind};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

// One test, since the allocator counts for all threads.
#[test]
fn encoding_a_large_file_keeps_neither_its_texts_nor_its_ids_in_memory() {
    const SIZE: usize = 64 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jsonl");
    let row = format!(
        "{{\"text\":\"{}\",\"label\":\"a\"}}\n",
        "harbour ".repeat(250)
    );
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for _ in 0..SIZE / row.len() {
        std::io::Write::write_all(&mut file, row.as_bytes()).unwrap();
    }
    drop(file);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/llama3");
    let tokenizer = ls_data::TextTokenizer::from_dir(&fixtures).unwrap();
    let mut read = ReadSpec::new(FileFormat::Jsonl);
    read.sequence.keep_extra = false;
    let source = ls_data::SplitSource {
        files: vec![path],
        read,
        tags: ls_data::TagChanges::default(),
        bad_rows: BadRows::default(),
    };
    let limits = ls_data::InputLimits::windows(512);
    let cache = dir.path().join("cache");
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let split = {
        source
            .encode(TaskKind::Sequence, &tokenizer, &limits, Some(&cache))
            .unwrap()
    };
    let peak = ALLOCATOR.peak_usage() - before;
    let ids: usize = split.lengths().iter().map(|n| *n as usize * 4).sum();
    assert!(ids > 32 << 20, "the ids alone are {ids} bytes");
    // What the stages hold between them: a few thousand rows of 2 kB, whatever the file's size.
    assert!(peak < 32 << 20, "{peak} bytes at the peak");
}
