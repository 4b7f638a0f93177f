//! Any bytes give examples or errors: what the fuzz targets look for, on random and on damaged
//! input.

use proptest::prelude::*;

use crate::any_bytes::TARGETS;
use crate::smoke::smoke;

/// Something of each format, to be cut up and mixed.
const PIECES: &[&str] = &[
    "text,label,pair\n",
    "text\tlabel\tpair\n",
    "\"",
    "\"\"",
    ",",
    "\t",
    "\r\n",
    "\n",
    "\r",
    "\n\n",
    "\u{feff}",
    "é",
    "😀",
    " ",
    "\\",
    "a",
    "b c",
    "\u{0}",
    "0",
    "-1",
    "99999999999999999999",
    "{\"text\":\"",
    "\"label\":",
    "{\"tokens\":[\"a\",\"b\"],\"tags\":[\"O\",\"B-X\"]}",
    "}",
    "{",
    "[",
    "]",
    "\"text\":\"a\"",
    "{\"text\":\"a\",\"label\":1,\"label_text\":\"one\"}\n",
    "\\ud83d",
    "null",
    "1e999",
    "-DOCSTART- O\n",
    "Ann B-PER\n",
    "ran O\n",
    "#begin document (x); part 000\n",
    "#end document\n",
    "d 0 0 It PRP (S* - - - - * -\n",
    "d 0 1 Oslo NNP * - - - - (GPE) -\n",
    "d 0 1 Oslo NNP * - - - - (GPE* (0)\n",
    "d 0 2 City NNP *) - - - - *) -\n",
    "(",
    ")",
    "*",
    "__label__",
    "__label__1 ",
    "(3 (2 It) (4 works))\n",
    "(3 ",
    "{\"O\":0,\"B-X\":1}",
    "text;label;pair\n",
    "text|label|pair\n",
    ";",
    "|",
    "{\"data\":[",
    "{\n\"data\": [\n",
    "{\"text\":\"é 😀 b-c\",\"spans\":[[0,1,\"X\"],[2,4,\"Y\"]]}",
    "{\"text\":\"ab cd\",\"spans\":[{\"start\":1,\"end\":4,\"label\":\"X\"}]}\n",
    "{\"data\":{\"text\":\"ab cd\"},\"annotations\":[{\"result\":[]}]}",
    "1\tAnn\tB-PER\t_\n",
    "2\tran\tO\tNER=O\n",
    "1-2\tdon't\t_\t_\n",
    "# text = a b\n",
    "# global.columns = ID FORM NE MISC\n",
    "#\tO\n",
    "[\"O\"]",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Targets whose input is written to a file.
const ON_DISK: [&str; 9] = [
    "parquet",
    "label_json",
    "tokenizer_json",
    "dataset_toml",
    "safetensors",
    "pickled",
    "gguf",
    "shard_index",
    "cache_entry",
];

#[test]
fn stored_seeds_and_what_is_made_of_them_give_examples_or_errors() {
    smoke(TARGETS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_give_examples_or_errors(data in bytes()) {
        for (name, target) in TARGETS {
            // What is written to a file has seeds of its own: mixed pieces never are one.
            if !ON_DISK.contains(name) {
                target(&data);
            }
        }
    }
}

#[test]
fn each_piece_alone_passes_every_target() {
    for piece in PIECES {
        for (_, target) in TARGETS {
            target(piece.as_bytes());
        }
    }
}
