//! Reading is streamed: what it allocates does not grow with the file.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read};
use std::path::Path;

use ls_data::{BadRows, DataError, FileFormat, ReadSpec, TextEncoding, for_each_row};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A file of `left` bytes that repeats `rows`; nothing of it is held.
struct Endless {
    first: &'static [u8],
    rows: &'static [u8],
    at: usize,
    left: usize,
}

impl Endless {
    fn new(first: &'static str, rows: &'static str, bytes: usize) -> Self {
        Self {
            first: first.as_bytes(),
            rows: rows.as_bytes(),
            at: 0,
            left: bytes,
        }
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let source = if self.first.is_empty() {
            &self.rows[self.at..]
        } else {
            self.first
        };
        let count = source.len().min(buffer.len()).min(self.left);
        buffer[..count].copy_from_slice(&source[..count]);
        if self.first.is_empty() {
            self.at = (self.at + count) % self.rows.len()
        } else {
            self.first = &self.first[count..]
        }
        self.left -= count;
        Ok(count)
    }
}

/// Peak of bytes allocated meanwhile, above what was there before, and what `run` returns.
fn peak<T>(run: impl FnOnce() -> T) -> (usize, T) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let result = run();
    (ALLOCATOR.peak_usage().saturating_sub(before), result)
}

fn spec(format: FileFormat, keep_extra: bool) -> ReadSpec {
    let mut spec = ReadSpec::new(format);
    spec.sequence.keep_extra = keep_extra;
    spec.tokens.keep_extra = keep_extra;
    spec
}

// One test, since the allocator counts for all threads.
#[test]
fn memory_is_bounded_by_a_row() {
    const SIZE: usize = 200 << 20;
    const LESS: usize = SIZE / 4;
    const LIMIT: usize = 1 << 20;
    let name = Path::new("data");

    let text = "{\"id\": 17, \"other\": [1, {\"a\": null}], \"text\": \"Rain on the roof, all night.\", \"label\": \"calm\"}\n";
    for keep_extra in [false, true] {
        let (peak, count) = peak(|| {
            let rows = Endless::new("", text, LESS / text.len() * text.len());
            let spec = spec(FileFormat::Jsonl, keep_extra);
            spec.read_sequence_from(rows, name)
                .unwrap()
                .map(Result::unwrap)
                .count()
        });
        assert_eq!(count, LESS / text.len());
        assert!(peak < LIMIT, "jsonl, keep_extra {keep_extra}: {peak} bytes");
    }

    let csv = "\"Rain on the roof,\r\n all \"\"night\"\".\",calm\r\n";
    let (used, count) = peak(|| {
        let rows = Endless::new("text,label\n", csv, LESS);
        let rows = spec(FileFormat::Csv, false).read_sequence_from(rows, name);
        rows.unwrap().filter(Result::is_ok).count()
    });
    assert!(count >= LESS / csv.len() - 1, "{count}");
    assert!(used < LIMIT, "csv: {used} bytes");

    let sentence = "Rain\tO\nover\tO\nOslo\tB-LOC\n\n";
    let (used, count) = peak(|| {
        let rows = Endless::new("", sentence, LESS / sentence.len() * sentence.len());
        let rows = spec(FileFormat::Conll, false).read_tokens_from(rows, name);
        rows.unwrap().map(Result::unwrap).count()
    });
    assert_eq!(count, LESS / sentence.len());
    assert!(used < LIMIT, "conll: {used} bytes");

    // A list of objects, alone or under a key; it never ends here, which is the last row's fault.
    let member = "{\"text\": \"Rain on the\\n roof\",\n \"label\": \"calm\", \"more\": [{}]},\n";
    for first in ["[", "{\"info\": {\"a\": [1]}, \"data\": [\n"] {
        let (used, count) = peak(|| {
            let rows = Endless::new(first, member, LESS);
            let rows = spec(FileFormat::Jsonl, false).read_sequence_from(rows, name);
            rows.unwrap().filter(Result::is_ok).count()
        });
        assert!(count >= LESS / member.len() - 1, "{count}");
        assert!(used < LIMIT, "list: {used} bytes");
    }
    let spans = "{\"text\": \"Rain over Oslo, all night\", \"spans\": [[10, 14, \"LOC\"]]}\n";
    let (used, count) = peak(|| {
        let rows = Endless::new("", spans, LESS / 4);
        let rows = spec(FileFormat::Jsonl, false).read_tokens_from(rows, name);
        rows.unwrap().filter(Result::is_ok).count()
    });
    assert!(count >= LESS / 4 / spans.len(), "{count}");
    assert!(used < LIMIT, "spans: {used} bytes");

    // What is decoded is decoded piece by piece.
    let (used, count) = peak(|| {
        let mut spec = spec(FileFormat::Csv, false);
        spec.encoding = TextEncoding::try_from("latin-1".to_string()).ok();
        let rows = Endless::new("text;label\n", "Rain on the roof;calm\n", LESS);
        let rows = spec.read_sequence_from(rows, name);
        rows.unwrap().filter(Result::is_ok).count()
    });
    assert!(count >= LESS / 22 - 1, "{count}");
    assert!(used < LIMIT, "decoded: {used} bytes");

    // Bad rows cost nothing but the messages that are shown.
    let (used, error) = peak(|| {
        let rows = Endless::new("", "{\"label\": \"calm\"}\n", SIZE / 8);
        let rows = spec(FileFormat::Jsonl, false).read_sequence_from(rows, name);
        for_each_row(rows.unwrap(), name, BadRows::default(), |_| Ok(())).unwrap_err()
    });
    assert!(matches!(error, DataError::BadRows { .. }));
    assert!(used < LIMIT, "bad rows: {used} bytes");

    // A file without line ends, and a quote that never closes, end at the longest row.
    let too_long = |format: FileFormat, first: &'static str| {
        let rows = Endless::new(first, "never an end ", SIZE);
        let (used, error) = peak(|| {
            let mut rows = spec(format, false).read_sequence_from(rows, name).unwrap();
            rows.find_map(Result::err).unwrap()
        });
        assert_eq!(
            error.to_string(),
            "data:2: the row is longer than 4 MiB; are line ends missing, or is a quote not closed?"
        );
        assert!(used < SIZE / 2, "{format:?}: {used} bytes");
    };
    too_long(FileFormat::Tsv, "text\tlabel\n");
    too_long(FileFormat::Csv, "text,label\n\"");
    too_long(FileFormat::Jsonl, "[\n{\"text\": \"");
    too_long(
        FileFormat::Jsonl,
        "{\"text\": \"a\", \"label\": \"b\"}\n{\"text\": \"",
    );
}
