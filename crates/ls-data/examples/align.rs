//! Prints a tagged sentence as its sub-words, with the label each one carries, and reads the
//! labels back to words. Run: `cargo run -p ls-data --example align -- [TOKENIZER_DIR]`

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use ls_data::{
    Alignment, LabelPosition, LabelSet, TextTokenizer, TokenColumns, TokenExample, decode_spans,
    read_tokens_from,
};

const SENTENCE: &str = "Anna B-PER\nLindqvist I-PER\nleft O\nZürich B-LOC\n😀 O\n. O\n";

fn main() -> ls_data::Result<()> {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/tokenizers/llama3"
    );
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(|| fixture.into(), PathBuf::from);
    let tokenizer = TextTokenizer::from_dir(&dir)?;
    let name = "sentence.conll".as_ref();
    let format = ls_data::FileFormat::Conll;
    let examples = read_tokens_from(SENTENCE.as_bytes(), name, format, &TokenColumns::default())?;
    let labels = LabelSet::from_token_examples(&examples)?;

    for example in &examples {
        let TokenExample {
            tokens,
            tags: Some(tags),
            line,
            ..
        } = example
        else {
            continue;
        };
        let alignment = Alignment::new(LabelPosition::First, &tokenizer);
        let encoded = tokenizer.encode_words(tokens, 64)?;
        let ids = labels.encode_tags(tags, name, *line)?;
        let (input_ids, word_ids) = (&encoded.input_ids, &encoded.word_ids);
        let aligned = alignment.labels(input_ids, word_ids, &ids);

        println!("{:>6}  {:<24} {:<10} label", "id", "token", "word");
        for ((id, word), label) in input_ids.iter().zip(word_ids).zip(&aligned) {
            let token = tokenizer.id_to_token(*id).unwrap_or_default();
            let word = word.map_or("-", |word| tokens[word].as_str());
            let label = usize::try_from(*label).map_or("-", |label| labels.name(label));
            println!("{id:>6}  {token:<24} {word:<10} {label}");
        }

        // A model would predict a class per sub-word; here the labels stand in for it.
        let predicted = alignment.predictions(input_ids, word_ids, tokens.len(), &aligned);
        let class = |p: Option<i64>| p.and_then(|p| usize::try_from(p).ok());
        let tags: Vec<&str> = predicted
            .into_iter()
            .map(|p| class(p).map_or("O", |id| labels.name(id)))
            .collect();
        for span in decode_spans(&tags) {
            println!(
                "{}: {}",
                span.entity_type,
                tokens[span.start..span.end].join(" ")
            );
        }
    }
    Ok(())
}
