//! Encoding is streamed: what it allocates does not grow with the file.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use ls_data::{BadRows, FileFormat, ReadSpec, TaskKind};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The most bytes that encoding so many texts of so many words takes, and how many the file has.
fn peak(rows: usize, words: usize) -> (usize, usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jsonl");
    let row = format!(
        "{{\"text\":\"{}\",\"label\":\"a\"}}\n",
        "harbour ".repeat(words)
    );
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for _ in 0..rows {
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
    let bytes = rows * row.len();
    assert!(ids > bytes / 3, "the ids alone are {ids} bytes");
    (peak, bytes)
}

// One test, since the allocator counts for all threads.
#[test]
fn encoding_a_large_file_keeps_neither_its_texts_nor_its_ids_in_memory() {
    // What the stages hold between them: a few thousand rows of 2 kB, whatever the file's size.
    let (most, bytes) = peak(40_000, 250);
    assert!(
        bytes > 64 << 20 && most < 40 << 20,
        "{most} bytes at the peak"
    );
    // A single one may be a book: chunks of a thousand would be the whole file, and three times
    // that with its tokens. How much of it the stages hold depends on who waits for whom.
    let (most, bytes) = peak(128, 64_000);
    assert!(
        bytes > 62 << 20 && most < 96 << 20,
        "{most} bytes at the peak"
    );
}
