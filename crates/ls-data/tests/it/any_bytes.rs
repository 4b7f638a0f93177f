//! What must hold of every reader of data, tokenizers and weights for any bytes at all. The fuzz
//! targets of `fuzz/` and the test `bytes.rs` run these functions.

use std::io::Read;
use std::path::Path;

use ls_data::{
    BadSpans, DataError, EncodedSplit, FileFormat, InputLimits, Offsets, ReadSpec, SequenceExample,
    SequenceInputs, SplitWriter, TaskKind, TextEncoding, TextTokenizer, TokenExample, WordInput,
    WordInputs,
};

/// A function of this module with the name of its fuzz target.
pub type Target = (&'static str, fn(&[u8]));

/// Every function.
pub const TARGETS: &[Target] = &[
    ("csv", csv),
    ("tsv", tsv),
    ("jsonl_sequence", jsonl_sequence),
    ("jsonl_tokens", jsonl_tokens),
    ("spans", spans),
    ("encoded", encoded),
    ("conll", conll),
    ("conll2012", conll2012),
    ("fasttext", fasttext),
    ("trees", trees),
    ("label_json", label_json),
    ("dataset_toml", dataset_toml),
    ("tokenizer_json", tokenizer_json),
    ("safetensors", safetensors),
    ("pickled", pickled),
    ("gguf", gguf),
    ("shard_index", shard_index),
    ("cache_entry", cache_entry),
    #[cfg(feature = "parquet")]
    ("parquet", parquet),
];

/// Bytes that come one at a time, so that every row crosses the edge of a read.
struct Dripping(std::io::Cursor<Vec<u8>>);

impl Read for Dripping {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

type Rows<T> = Vec<Result<T, String>>;

/// Reads rows to the end and checks what holds of each.
fn rows<T>(
    rows: Result<impl Iterator<Item = Result<T, DataError>>, DataError>,
    at_most: usize,
    good: impl Fn(&T) -> (usize, bool),
) -> Rows<T> {
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return vec![Err(error.to_string())],
    };
    let mut ended = false;
    let mut last = 0;
    let mut all = Vec::new();
    for row in rows {
        assert!(!ended, "a row behind a fault of the whole file");
        if let Err(error) = &row {
            ended = !error.is_row();
        }
        if let Ok(row) = &row {
            let (line, good) = good(row);
            assert!(good, "an example that must not be");
            // A carriage return alone ends a row of CSV, but no line.
            assert!(line >= last.max(1), "line {line} behind {last}");
            last = line;
        }
        all.push(row.map_err(|error| error.to_string()));
        assert!(all.len() <= at_most, "more rows than there is room for");
    }
    all
}

fn sequences(spec: &ReadSpec, data: &[u8]) -> Rows<SequenceExample> {
    let read = |reader| {
        let read: Result<_, _> = spec.read_sequence_from(reader, Path::new("data"));
        rows(read, data.len() + 1, |row: &SequenceExample| {
            let label = row.class().is_some_and(|l| !l.trim().is_empty());
            (row.line, !row.text.trim().is_empty() && label)
        })
    };
    let whole: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(data.to_vec()));
    let dripping: Box<dyn Read + Send> = Box::new(Dripping(std::io::Cursor::new(data.to_vec())));
    let found = read(whole);
    assert_eq!(read(dripping), found, "rows depend on how bytes come");
    found
}

fn tokens(spec: &ReadSpec, data: &[u8]) -> Rows<TokenExample> {
    let read = |reader| {
        let read: Result<_, _> = spec.read_tokens_from(reader, Path::new("data"));
        rows(read, data.len() + 1, |row: &TokenExample| {
            let tags = row.tags.as_ref().map_or(0, Vec::len);
            (row.line, !row.tokens.is_empty() && tags == row.tokens.len())
        })
    };
    let whole: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(data.to_vec()));
    let dripping: Box<dyn Read + Send> = Box::new(Dripping(std::io::Cursor::new(data.to_vec())));
    let found = read(whole);
    assert_eq!(read(dripping), found, "rows depend on how bytes come");
    found
}

/// A table with three columns and no header, or whatever its header says.
fn table(format: FileFormat, data: &[u8]) {
    let mut by_name = ReadSpec::new(format);
    by_name.sequence.text_pair = Some("pair".into());
    sequences(&by_name, data);
    let mut by_index = ReadSpec::new(format);
    by_index.header = false;
    by_index.sequence.text = 0.into();
    by_index.sequence.label = Some(1.into());
    sequences(&by_index, data);
}

/// CSV.
pub fn csv(data: &[u8]) {
    table(FileFormat::Csv, data);
}

/// TSV.
pub fn tsv(data: &[u8]) {
    table(FileFormat::Tsv, data);
}

/// JSON lines of texts: only the wanted keys, or whole objects, give the same examples.
pub fn jsonl_sequence(data: &[u8]) {
    let mut spec = ReadSpec::new(FileFormat::Jsonl);
    let whole = sequences(&spec, data);
    spec.sequence.keep_extra = false;
    let wanted = sequences(&spec, data);
    for (whole, wanted) in whole.into_iter().zip(wanted) {
        // Where a key that is not wanted holds a number past all bounds, only the whole object is
        // an error.
        if let Ok(mut whole) = whole {
            whole.extra = None;
            assert_eq!(Ok(whole), wanted);
        }
    }
}

/// JSON lines of words.
pub fn jsonl_tokens(data: &[u8]) {
    let mut spec = ReadSpec::new(FileFormat::Jsonl);
    let whole = tokens(&spec, data);
    spec.tokens.keep_extra = false;
    for (whole, wanted) in whole.into_iter().zip(tokens(&spec, data)) {
        if let Ok(mut whole) = whole {
            whole.extra = None;
            // Of a text with spans the text is kept.
            let wanted = wanted.map(|row| TokenExample { extra: None, ..row });
            assert_eq!(Ok(whole), wanted);
        }
    }
}

/// Texts with spans, whatever they count, and whatever happens to bad ones: what is read is sound
/// IOB2, and what is not widened is read the same.
pub fn spans(data: &[u8]) {
    for offsets in [Offsets::Characters, Offsets::Utf16, Offsets::Bytes] {
        let mut spec = ReadSpec::new(FileFormat::Jsonl);
        spec.tokens.offsets = offsets;
        spec.tokens.tags_key = Some("spans".into());
        let refused = tokens(&spec, data);
        spec.tokens.bad_spans = BadSpans::Widen;
        for (refused, widened) in refused.into_iter().zip(tokens(&spec, data)) {
            if refused.is_ok() {
                assert_eq!(refused, widened);
            }
        }
    }
}

/// Text in other encodings: UTF-16 behind its mark, and others by their names. Of the formats the
/// one that costs least is taken: none of them sees anything but UTF-8.
pub fn encoded(data: &[u8]) {
    let mut spec = ReadSpec::new(FileFormat::FastText);
    for mark in [&b"\xff\xfe"[..], b"\xfe\xff"] {
        sequences(&spec, &[mark, data].concat());
        // Text that is UTF-8 says the same in UTF-16.
        if let Ok(text) = std::str::from_utf8(data) {
            let text = text.trim_start_matches('\u{feff}');
            let units = text.encode_utf16();
            let bytes: Vec<u8> = match mark[0] {
                0xff => units.flat_map(u16::to_le_bytes).collect(),
                _ => units.flat_map(u16::to_be_bytes).collect(),
            };
            // Two zero bytes behind the mark are that of UTF-32.
            if !bytes.starts_with(&[0, 0]) {
                let found = sequences(&spec, &[mark, &bytes].concat());
                assert_eq!(found, sequences(&spec, text.as_bytes()));
            }
        }
    }
    for name in ["windows-1252", "shift_jis", "gb18030", "utf-8"] {
        spec.encoding = TextEncoding::try_from(name.to_string()).ok();
        sequences(&spec, data);
    }
}

/// CoNLL columns.
pub fn conll(data: &[u8]) {
    tokens(&ReadSpec::new(FileFormat::Conll), data);
}

/// Columns of CoNLL 2012: what is read is sound IOB2.
pub fn conll2012(data: &[u8]) {
    for row in tokens(&ReadSpec::new(FileFormat::Conll2012), data)
        .into_iter()
        .flatten()
    {
        let tags = row.tags.unwrap();
        for (at, tag) in tags.iter().enumerate() {
            if let Some(kind) = tag.strip_prefix("I-") {
                let before = at.checked_sub(1).map_or("", |at| tags[at].as_str());
                assert_eq!(before.get(2..), Some(kind), "{tags:?}");
            }
        }
    }
}

/// Lines of fastText.
pub fn fasttext(data: &[u8]) {
    for row in sequences(&ReadSpec::new(FileFormat::FastText), data)
        .into_iter()
        .flatten()
    {
        assert!(
            !row.text
                .split_whitespace()
                .any(|w| w.starts_with("__label__"))
        );
    }
}

/// Trees.
pub fn trees(data: &[u8]) {
    for row in sequences(&ReadSpec::new(FileFormat::Trees), data)
        .into_iter()
        .flatten()
    {
        assert!(!row.text.contains(['(', ')']));
    }
}

/// `label.json`.
pub fn label_json(data: &[u8]) {
    if let Ok(names) = stored("label.json", data, ls_data::read_label_json) {
        assert!(!names.is_empty());
    }
}

/// What `read` says of a file of this name with these bytes, alone in a folder that is made once in
/// each thread.
fn stored<T>(name: &str, data: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        std::fs::write(&path, data).unwrap();
        let found = read(&path);
        std::fs::remove_file(&path).unwrap();
        found
    })
}

/// The description of a data set.
pub fn dataset_toml(data: &[u8]) {
    if let Ok(spec) = stored("mine.toml", data, ls_data::catalog::DatasetSpec::from_file) {
        assert!(!spec.labels.is_empty());
    }
}

/// `tokenizer.json`: whatever it makes of texts, they are ids of its own vocabulary and words of
/// the list, or an error.
pub fn tokenizer_json(data: &[u8]) {
    let read = |path: &Path| TextTokenizer::from_dir(path.parent().unwrap());
    let Ok(tokenizer) = stored("tokenizer.json", data, read) else {
        return;
    };
    for text in [
        "the film was good",
        "",
        " Zo\u{eb} </s> \u{1f600}\n",
        "a\u{2581}b  c",
    ] {
        let limits = InputLimits::windows(8);
        if let Ok(found) = tokenizer.sequence_inputs(text, None, &limits) {
            assert!(found.inputs.iter().all(|ids| ids.len() <= 8));
        }
        let words: Vec<String> = text.split(' ').map(String::from).collect();
        if let Ok(found) = tokenizer.word_inputs(&words, &limits) {
            for input in found.inputs {
                assert_eq!(input.input_ids.len(), input.word_ids.len());
                assert!(
                    input
                        .word_ids
                        .iter()
                        .flatten()
                        .all(|word| *word < words.len())
                );
                assert!(input.scored.end <= words.len());
            }
        }
    }
}

/// Safetensors: each tensor has the bytes of its shape.
pub fn safetensors(data: &[u8]) {
    let read = |path: &Path| ls_files::TensorFile::open(path);
    let Ok(file) = stored("model.safetensors", data, read) else {
        return;
    };
    for name in file.names().map(str::to_string).collect::<Vec<_>>() {
        let tensor = file.read(&name).unwrap();
        let values: usize = tensor.shape.iter().product();
        assert_eq!(
            tensor.bytes.len(),
            (values * tensor.dtype.bitsize()).div_ceil(8)
        );
    }
}

/// `torch.save`: each tensor has the bytes of its shape, or is an error.
pub fn pickled(data: &[u8]) {
    stored("pytorch_model.bin", data, |path| {
        let Ok(file) = ls_files::TensorFile::open_pickled(path) else {
            return;
        };
        for name in file.names() {
            let (dtype, shape) = file.get(name).unwrap();
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            assert!(bytes <= 4 * data.len());
            if let Ok(tensor) = file.read(name) {
                assert_eq!(tensor.bytes.len(), bytes);
            }
        }
    });
}

/// GGUF: every tensor lies within the file and is unpacked, and a vocabulary becomes a tokenizer or
/// an error.
pub fn gguf(data: &[u8]) {
    let path = Path::new("model.gguf");
    let open = |path: &Path| ls_files::GgufFile::open(path);
    let Ok(file) = stored("model.gguf", data, open) else {
        return;
    };
    for tensor in file.tensors().values() {
        // The widest kind of value has 32 bits, the narrowest two and a scale.
        assert!(tensor.shape.iter().product::<usize>() <= 4 * data.len());
        let mut values = vec![0.0; tensor.width()];
        file.read_rows(tensor, tensor.rows() - 1, &mut values)
            .unwrap();
    }
    if let Ok(files) = ls_data::tokenizer_from_gguf(file.metadata(), path) {
        let read = |path: &Path| {
            let config = path.with_file_name("tokenizer_config.json");
            std::fs::write(&config, &files.config).unwrap();
            let read = TextTokenizer::from_dir(path.parent().unwrap());
            std::fs::remove_file(config).unwrap();
            read
        };
        if let Ok(tokenizer) = stored("tokenizer.json", files.tokenizer.as_ref(), read) {
            let limits = InputLimits::truncate(8);
            let _ = tokenizer.sequence_inputs("ab a\u{301}", None, &limits);
        }
    }
}

/// The index of sharded weights names files beside itself.
pub fn shard_index(data: &[u8]) {
    let read = |path: &Path| ls_files::ShardIndex::read(path);
    if let Ok(index) = stored("model.safetensors.index.json", data, read) {
        assert!(
            index
                .shards
                .iter()
                .all(|shard| !shard.contains(['/', '\\']))
        );
        assert!(index.place.values().all(|at| *at < index.shards.len()));
    }
}

/// A split of a few examples as the file that is kept of it.
fn entry(task: TaskKind) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    let mut writer = SplitWriter::in_file(task, &path).unwrap();
    writer.begin_file(Path::new("data"));
    for line in 1..5 {
        if task == TaskKind::Token {
            let window = |scored: std::ops::Range<usize>| WordInput {
                input_ids: vec![7; line + 1],
                word_ids: [vec![None], vec![Some(scored.start); line]].concat(),
                scored,
            };
            let inputs = WordInputs {
                inputs: vec![window(0..1), window(1..2)],
                text_tokens: 2 * line,
                cut_tokens: 0,
                cut_words: 0,
                empty_words: 0,
            };
            let example = TokenExample {
                tokens: vec!["w".into(); 2],
                tags: Some(vec!["O".into(), "B-x".into()]),
                line,
                extra: None,
            };
            writer.push_words(line, &example, &inputs).unwrap();
        } else {
            let inputs = SequenceInputs {
                inputs: vec![vec![7; line]; 2],
                cut_tokens: 0,
                text_tokens: line,
            };
            let example = SequenceExample {
                text: String::new(),
                text_pair: None,
                label: Some("a".into()),
                line,
                extra: None,
            };
            writer.push_sequence(line, &example, &inputs).unwrap();
        }
    }
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

/// A split that was encoded before: damaged it is refused, and with the checksums of whatever it
/// holds, all that it says can be read or is refused.
pub fn cache_entry(data: &[u8]) {
    static WHOLE: std::sync::LazyLock<[Vec<u8>; 2]> =
        std::sync::LazyLock::new(|| [TaskKind::Sequence, TaskKind::Token].map(entry));
    for whole in &*WHOLE {
        changes_of_entry(whole, data);
    }
}

/// The content of an entry, whose footer has so many bytes, with the right checksums.
pub fn sealed(content: &[u8], footer: u64) -> Vec<u8> {
    let sums = content
        .chunks(4096)
        .flat_map(|block| crc32fast::hash(block).to_le_bytes());
    let mut end: Vec<u8> = sums.collect();
    end.extend((content.len() as u64).to_le_bytes());
    end.extend(footer.to_le_bytes());
    end.extend(crc32fast::hash(&end).to_le_bytes());
    [content, &end, &content[..8]].concat()
}

/// A good entry with changes, and the bytes as an entry.
fn changes_of_entry(whole: &[u8], data: &[u8]) {
    const MAGIC: usize = 8;
    let open = |bytes: &[u8]| stored("x.bin", bytes, EncodedSplit::open);
    // As a whole file, and as changes of a good one: a place and what is put there.
    let mut changed = whole.to_vec();
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % whole.len();
        changed[at] ^= change[2];
    }
    assert_eq!(open(&changed).is_ok(), changed == *whole);
    let trailer = changed.len() - 28;
    let content = trailer - 4 * trailer.div_ceil(4100);
    let footer = u64::from_le_bytes(whole[trailer + 8..trailer + 16].try_into().unwrap());
    for content in [&changed[..content], data] {
        let mut content = content.to_vec();
        let magic = MAGIC.min(content.len());
        content[..magic].copy_from_slice(&whole[..magic]);
        content.resize(content.len().max(MAGIC), 0);
        let Ok(split) = open(&sealed(&content, footer)) else {
            continue;
        };
        for row in split.examples(0..split.len()).unwrap() {
            let labels = split.seen_labels().len();
            assert!(row.label.is_none_or(|label| label < labels));
            if let Ok(tags) = split.listed(&row) {
                assert!(tags.len() <= row.words && tags.iter().all(|tag| *tag < labels));
            }
            for input in row.inputs.clone() {
                let Ok(input) = split.input(input) else {
                    continue;
                };
                if let Some(words) = input.word_ids {
                    assert_eq!(words.len(), input.input_ids.len());
                    let words_of_example = split.examples(input.example..input.example + 1);
                    let most = words_of_example.unwrap()[0].words;
                    assert!(words.iter().flatten().all(|word| *word < most));
                    assert!(input.scored.end <= most);
                }
            }
        }
    }
}

/// Parquet.
#[cfg(feature = "parquet")]
pub fn parquet(data: &[u8]) {
    let spec = ReadSpec::new(FileFormat::Parquet);
    // A few bytes can stand for any number of equal rows.
    const MOST: usize = 100_000;
    stored("data.parquet", data, |path| {
        rows(
            spec.read_sequence(path).map(|rows| rows.take(MOST)),
            MOST,
            |row: &SequenceExample| (row.line, row.label.is_some()),
        );
        rows(
            spec.read_tokens(path).map(|rows| rows.take(MOST)),
            MOST,
            |row: &TokenExample| (row.line, row.tags.is_some()),
        );
    });
}
