//! How fast a file becomes examples: `encode_speed TOKENIZER_DIR FILE texts|words REPEATS`, a line
//! of JSON for each repeat.
//!
//! `bare` is the tokenizer's own `encode_batch` over all texts at once, which were read beforehand;
//! `file` is everything from the file on disk to encoded examples in a file; `again` opens what
//! `file` left. `benches/encode` runs it beside Python. With 0 repeats it does `file` and `again`
//! once, and prints the highest resident memory that took (where /proc tells it).

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use ls_data::{
    BadRows, DataError, FileFormat, InputLimits, ReadSpec, SplitSource, TagChanges, TaskKind,
    TextTokenizer,
};
use tokenizers::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tokenizer_dir, file, kind, repeats] = arguments.as_slice() else {
        return Err("usage: encode_speed TOKENIZER_DIR FILE texts|words REPEATS".into());
    };
    let (dir, file) = (Path::new(tokenizer_dir), PathBuf::from(file));
    let format = FileFormat::from_path(&file)?;
    let task = if kind == "words" {
        TaskKind::Token
    } else {
        TaskKind::Sequence
    };
    let mut read = ReadSpec::new(format);
    read.sequence.keep_extra = false;
    read.tokens.keep_extra = false;
    let source = SplitSource {
        files: vec![file],
        read,
        tags: TagChanges::default(),
        bad_rows: BadRows::default(),
    };
    let limits = match task {
        TaskKind::Token => InputLimits::windows(256),
        TaskKind::Sequence => InputLimits::truncate(256),
    };
    let repeats: usize = repeats.parse()?;
    if repeats == 0 {
        let cache = tempfile::tempdir()?;
        let tokenizer = TextTokenizer::from_dir(dir)?;
        for what in ["file", "again"] {
            let start = Instant::now();
            let split = source.encode(task, &tokenizer, &limits, Some(cache.path()))?;
            let seconds = start.elapsed().as_secs_f64();
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let peak = status.lines().find(|line| line.starts_with("VmHWM"));
            let peak = peak.unwrap_or("VmHWM: unknown");
            println!("{what}: {} examples in {seconds:.2} s, {peak}", split.len());
        }
        return Ok(());
    }
    let mut texts = Vec::new();
    if task == TaskKind::Token {
        source.for_each_words(|_, _, row| {
            texts.push(row.tokens.join(" "));
            Ok::<_, DataError>(())
        })?;
    } else {
        source.for_each_sequence(|_, _, row| {
            texts.push(row.text);
            Ok::<_, DataError>(())
        })?;
    }
    let timed = |work: &mut dyn FnMut() -> Result<(), Box<dyn std::error::Error>>| {
        let start = Instant::now();
        work().map(|()| start.elapsed().as_secs_f64())
    };
    for _ in 0..repeats {
        // Each with a tokenizer of its own, whose cache is empty.
        let bare = Tokenizer::from_file(dir.join("tokenizer.json")).map_err(|e| e.to_string())?;
        let mut tokens = 0;
        let seconds_bare = timed(&mut || {
            let inputs: Vec<&str> = texts.iter().map(String::as_str).collect();
            let encoded = bare.encode_batch(inputs, true).map_err(|e| e.to_string())?;
            tokens = encoded.iter().map(|e| e.len()).sum();
            Ok(())
        })?;
        let cache = tempfile::tempdir()?;
        let tokenizer = TextTokenizer::from_dir(dir)?;
        let encode = || source.encode(task, &tokenizer, &limits, Some(cache.path()));
        let mut examples = 0;
        let seconds_file = timed(&mut || {
            examples = encode()?.len();
            Ok(())
        })?;
        let seconds_again = timed(&mut || {
            encode()?;
            Ok(())
        })?;
        println!(
            r#"{{"examples":{examples},"tokens":{tokens},"bare":{seconds_bare:.3},"file":{seconds_file:.3},"again":{seconds_again:.3}}}"#
        );
    }
    Ok(())
}
