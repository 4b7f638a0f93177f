//! Splits that were encoded before: whatever became of an entry, the split is the same, and nothing
//! ends for it.

use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ls_data::{
    DataError, EncodedSplit, FileFormat, InputLimits, SequenceExample, SequenceInputs, SplitSource,
    SplitWriter, TaskKind, TextTokenizer, TokenExample, WordInput, WordInputs,
};
use ls_files::FileError;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};

use crate::any_bytes::sealed;
use crate::encoded::{large, said, source, tokenizer};

/// A small entry of either kind.
fn entry(dir: &Path, task: TaskKind) -> PathBuf {
    let path = dir.join(format!("{task}.bin"));
    let mut writer = SplitWriter::in_file(task, &path).unwrap();
    writer.begin_file(Path::new("data"));
    for line in 1..40 {
        let ids: Vec<u32> = (0..line as u32 * 3).collect();
        if task == TaskKind::Sequence {
            let example = SequenceExample {
                text: String::new(),
                text_pair: None,
                label: Some(format!("l{}", line % 3).into()),
                line,
                extra: None,
            };
            let inputs = SequenceInputs {
                text_tokens: ids.len(),
                inputs: vec![ids],
                cut_tokens: 0,
            };
            writer.push_sequence(line - 1, &example, &inputs).unwrap();
        } else {
            let example = TokenExample {
                tokens: vec!["a".into(); 2],
                tags: Some(vec!["O".into(), format!("B-{}", line % 3)]),
                line,
                extra: None,
            };
            let inputs = WordInputs {
                inputs: vec![WordInput {
                    word_ids: vec![Some(0); ids.len()],
                    input_ids: ids,
                    scored: 0..2,
                }],
                cut_tokens: 0,
                cut_words: 0,
                empty_words: 0,
                text_tokens: 7,
            };
            writer.push_words(line - 1, &example, &inputs).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

#[test]
fn a_bit_that_changed_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for task in [TaskKind::Sequence, TaskKind::Token] {
        let path = entry(dir.path(), task);
        let whole = fs::read(&path).unwrap();
        assert!(whole.len() > 3 * 4096, "several blocks");
        let before = said(&EncodedSplit::open(&path).unwrap());
        // Records, both tables, the footer, the checksums, the trailer, both magics; every byte of
        // the ends and a part of those between.
        let ends = |at: &usize| *at < 16 || at + 80 > whole.len();
        for at in (0..whole.len()).filter(|at| at % 13 == 0 || ends(at)) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            let opened = EncodedSplit::open(&path);
            assert!(opened.is_err(), "a bit of byte {at} of {}", whole.len());
        }
        for cut in (0..whole.len()).step_by(397) {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(EncodedSplit::open(&path).is_err(), "cut at {cut}");
        }
        for (at, extra) in [(0, 1), (whole.len(), 1), (whole.len() / 2, 4096)] {
            let mut longer = whole.clone();
            longer.splice(at..at, vec![0; extra]);
            fs::write(&path, &longer).unwrap();
            assert!(EncodedSplit::open(&path).is_err(), "{extra} bytes at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(said(&EncodedSplit::open(&path).unwrap()), before);
        // The entry of other data under this name.
        let renamed = dir.path().join("other.bin");
        fs::rename(&path, &renamed).unwrap();
        let error = EncodedSplit::open(&renamed).unwrap_err();
        assert!(
            matches!(&error, DataError::File(FileError::Read { source, .. })
                if source.to_string().contains("another name")),
            "{error}"
        );
    }
}

/// What `work` returns, and the warnings that it logs on this thread, a line each.
fn warnings<T>(work: impl FnOnce() -> T) -> (T, String) {
    let log = Log::default();
    let done = tracing::subscriber::with_default(log.clone(), work);
    let text = log.0.lock().unwrap().clone();
    (done, text)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |_: &Field, value: &dyn Debug| {
            writeln!(self.0.lock().unwrap(), "{value:?}").unwrap();
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Kept {
    dir: tempfile::TempDir,
    source: SplitSource,
    tokenizer: TextTokenizer,
    limits: InputLimits,
}

impl Kept {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = large(dir.path(), "a.jsonl", TaskKind::Sequence);
        Self {
            source: source(&[file], FileFormat::Jsonl),
            tokenizer: tokenizer("llama3"),
            limits: InputLimits::truncate(64),
            dir,
        }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn encode(&self) -> EncodedSplit {
        let cache = self.cache();
        self.source
            .encode(
                TaskKind::Sequence,
                &self.tokenizer,
                &self.limits,
                Some(&cache),
            )
            .unwrap()
    }

    fn entry(&self) -> PathBuf {
        let key = self
            .source
            .key(TaskKind::Sequence, &self.tokenizer, &self.limits);
        self.cache().join(format!("{}.bin", key.unwrap()))
    }
}

/// A damaged, an unreadable, a foreign and an unwritable entry: the same split each time.
#[test]
fn whatever_stands_in_an_entrys_place_the_split_is_the_same() {
    let kept = Kept::new();
    let whole = said(&kept.encode());
    let entry = kept.entry();
    let bytes = fs::read(&entry).unwrap();
    let again = |what: &str| {
        let (split, warnings) = warnings(|| kept.encode());
        assert_eq!(said(&split), whole, "{what}");
        warnings
    };
    assert_eq!(again("found again"), "");
    let warns = |what: &str| {
        let warnings = again(what);
        let expected = format!("encoding anew: {}", entry.display());
        assert!(warnings.contains(&expected), "{what}: {warnings}");
    };
    for part in [0, 5, 9] {
        let at = (bytes.len() - 1) * part / 9;
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        fs::write(&entry, &damaged).unwrap();
        warns(&format!("damaged at {at}"));
        assert!(EncodedSplit::open(&entry).is_ok(), "written anew");
    }
    fs::write(&entry, b"").unwrap();
    warns("empty");

    fs::remove_file(&entry).unwrap();
    fs::create_dir_all(entry.join("inner")).unwrap();
    warns("a folder in its place");
    assert!(entry.is_dir(), "what is not the cache's stays");
    fs::remove_dir_all(&entry).unwrap();

    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(&entry).status();
        if made.is_ok_and(|status| status.success()) {
            warns("a pipe in its place");
            fs::remove_file(&entry).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", &entry).unwrap();
        warns("a device in its place");
        fs::remove_file(&entry).unwrap();
        std::os::unix::fs::symlink(&entry, &entry).unwrap();
        warns("a link to itself");
    }
    fs::remove_dir_all(kept.cache()).unwrap();
    fs::write(kept.cache(), "no folder").unwrap();
    warns("a file in the place of the folder");
    #[cfg(unix)]
    {
        fs::remove_file(kept.cache()).unwrap();
        std::os::unix::fs::symlink(kept.cache(), kept.cache()).unwrap();
        warns("a folder that is a link to itself");
    }
}

#[test]
fn a_tag_or_a_word_that_an_entry_does_not_have_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = entry(dir.path(), TaskKind::Token);
    let whole = fs::read(&path).unwrap();
    let trailer = whole.len() - 28;
    let number = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap());
    let (length, footer) = (number(trailer) as usize, number(trailer + 8));
    // Of the first example two tags, three ids and the word of each; what is put in their places.
    for (at, what) in [(8, "labels"), (12, "labels"), (28, "words"), (36, "words")] {
        let mut forged = whole[..length].to_vec();
        forged[at] = 77;
        fs::write(&path, sealed(&forged, footer)).unwrap();
        let split = EncodedSplit::open(&path).unwrap();
        let row = split.examples(0..1).unwrap().remove(0);
        let (tags, input) = (split.listed(&row), split.input(0));
        let error = match what {
            "labels" => (tags.unwrap_err(), input.unwrap()).0,
            _ => (input.unwrap_err(), tags.unwrap()).0,
        };
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            error.contains(what) && error.contains("contradict"),
            "{error}"
        );
    }
}

/// Encodes, and calls `change` once the file was hashed for the entry's name and its examples are
/// being written.
fn encode_while(kept: &Kept, change: impl FnOnce() + Send) -> EncodedSplit {
    let began = || {
        let entries = fs::read_dir(kept.cache()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|name| name.to_string_lossy().starts_with(".tmp-"))
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..60_000 {
                if began() {
                    return change();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            panic!("the encoding did not begin");
        });
        kept.encode()
    })
}

/// An entry whose name is the hash of the old bytes and whose examples are of the new ones would be
/// believed for ever.
#[test]
fn what_changes_while_it_is_encoded_is_not_kept() {
    let kept = Kept::new();
    let file = kept.source.files[0].clone();
    let entries = || fs::read_dir(kept.cache()).unwrap().count();
    let (old, entry) = (fs::read(&file).unwrap(), kept.entry());

    // Written in its place, by a line that was not hashed.
    let line = b"{\"text\":\"a new line\",\"label\":\"new\"}\n";
    encode_while(&kept, || {
        let mut file = fs::File::options().append(true).open(&file).unwrap();
        std::io::Write::write_all(&mut file, line).unwrap();
    });
    assert!(!entry.exists(), "the name of other bytes");
    assert_eq!(entries(), 0);
    // Replaced by one of the same size and time.
    fs::write(&file, &old).unwrap();
    #[cfg(unix)]
    {
        let time = fs::metadata(&file).unwrap().modified().unwrap();
        let other = kept.dir.path().join("other");
        let text = String::from_utf8(old.clone()).unwrap();
        fs::write(&other, text.replace("fine", "dull")).unwrap();
        let handle = fs::File::options().write(true).open(&other).unwrap();
        handle.set_modified(time).unwrap();
        encode_while(&kept, || fs::rename(&other, &file).unwrap());
        assert_eq!(entries(), 0);
        fs::write(&file, &old).unwrap();
    }
    // Names of its labels, which enter the hash too, appear.
    let names = kept.dir.path().join("label.json");
    encode_while(&kept, || fs::write(&names, "{\"x\": 0}").unwrap());
    assert_eq!(entries(), 0);
    fs::remove_file(&names).unwrap();
    // It is at rest again.
    let whole = said(&kept.encode());
    assert!(entry.exists());
    assert_eq!(said(&EncodedSplit::open(&entry).unwrap()), whole);
}

#[test]
fn an_entry_that_is_used_is_the_youngest() {
    let kept = Kept::new();
    drop(kept.encode());
    let entry = kept.entry();
    let old = SystemTime::now() - Duration::from_secs(1000);
    let file = fs::File::options().write(true).open(&entry).unwrap();
    file.set_modified(old).unwrap();
    drop(kept.encode());
    // Of the file that was there: one that is written anew in its place is another.
    let used = file.metadata().unwrap().modified().unwrap();
    assert!(used > old + Duration::from_secs(500));
}

/// A file system knows names that are no text; a split has them like any other.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_is_read_and_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut kept = Kept::new();
    let whole = said(&kept.encode());
    let name = std::ffi::OsStr::from_bytes(b"\xff.jsonl");
    let odd = kept.dir.path().join(name);
    fs::rename(&kept.source.files[0], &odd).unwrap();
    kept.source.files[0] = odd.clone();
    for what in ["found again", "written anew"] {
        let split = kept.encode();
        assert_eq!(said(&split), whole, "{what}");
        assert_eq!(split.files(), std::slice::from_ref(&odd), "{what}");
        drop(split);
        fs::remove_file(kept.entry()).unwrap();
    }
    // A small one, which stays in memory.
    fs::write(&odd, "{\"text\":\"a fine cast\",\"label\":\"a\"}\n").unwrap();
    let split = kept.encode();
    assert_eq!((split.len(), split.files()), (1, &[odd][..]));
}
