//! Readers, labels, tokenisation, alignment, batches and scores for text classification and
//! tagging. Nothing here knows a tensor, a device or a model.
//!
//! # Reading order
//!
//! 1. [`readers`]: a file to [`SequenceExample`]s or [`TokenExample`]s, errors with `path:line`;
//!    [`words`] for raw text that is to be tagged; [`catalog`] for known data sets by name,
//!    [`find_columns()`] for files of which nothing is said.
//! 2. [`labels`]: names to ids and back.
//! 3. [`tokenize`]: text to ids, words to ids with the word of each; [`windows`] for what is longer
//!    than the model takes; [`inputs`]: what comes of it.
//! 4. [`align`]: a word's label to its sub-words, predictions back to words.
//! 5. [`batch`]: a seeded order, padding, a [`Batch`] on the host.
//! 6. [`scheme`], [`convert`], [`span`], [`metrics`]: tags by other schemes, tags to spans, scores;
//!    [`tag_names`]: tags that are no spans; [`answers`] to score files.
//! 7. [`profile`]: what a split is like before anything is learnt from it; [`concerns()`] of it.
//!
//! # Example
//!
//! ```
//! use std::path::Path;
//! use ls_data::*;
//!
//! # fn main() -> ls_data::Result<()> {
//! # let tokenizer_dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizers/llama2");
//! let csv = "text,label\nA warm ending.,good\n\"Slow, dull\",bad\n";
//! let name = Path::new("reviews.csv");
//! let columns = SequenceColumns::default();
//! let examples =
//!     read_sequence_from(csv.as_bytes(), name, FileFormat::Csv, true, &columns, None)?;
//! let labels = LabelSet::from_sequence_examples(&examples)?;
//!
//! let tokenizer = TextTokenizer::from_dir(Path::new(tokenizer_dir))?;
//! let limits = InputLimits::truncate(64);
//! let mut ready = Vec::new();
//! for example in &examples {
//!     let encoded = tokenizer.sequence_inputs(&example.text, None, &limits)?;
//!     let label = example.class().unwrap_or_default();
//!     let labels = ExampleLabels::Class(labels.encode(label, name, example.line)? as i64);
//!     for input_ids in encoded.inputs {
//!         ready.push(EncodedExample { input_ids, labels: labels.clone() });
//!     }
//! }
//! let options = BatchOptions {
//!     batch_size: 2,
//!     pad_id: tokenizer.pad_token().id,
//!     padding_side: PaddingSide::Right,
//!     padding_mode: PaddingMode::Masked,
//!     pad_to: None,
//!     group_by_length: false,
//! };
//! let lengths: Vec<usize> = ready.iter().map(|e| e.input_ids.len()).collect();
//! for indices in epoch_order(&lengths, &options, 42, 0) {
//!     let batch = collate(&ready, &indices, &options);
//!     assert_eq!(batch.real_tokens(), lengths.iter().sum::<usize>());
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod align;
pub mod answers;
mod arrivals;
pub mod batch;
mod beside;
mod cache;
pub mod catalog;
mod checksums;
pub mod concerns;
pub mod convert;
pub mod encoded;
mod error;
mod example;
pub mod find_columns;
mod for_transformers;
mod gguf_tokenizer;
pub mod inputs;
pub mod labels;
mod look_alikes;
pub mod metrics;
mod parallel;
pub mod profile;
pub mod readers;
pub mod reading;
pub mod scheme;
mod segments;
pub mod source;
pub mod span;
mod special_tokens;
mod split_writer;
pub mod tag_names;
mod task;
mod text_label;
pub mod tokenize;
mod tokenizer_class;
mod viterbi;
pub mod windows;
pub mod words;

pub use align::{Alignment, LabelPosition};
pub use answers::{
    AnswerColumn, AnswerOptions, Answers, LabelAnswer, TagAnswer, check_aligned, class_names,
    predicted_kind, probability_rows, read_answers,
};
pub use arrivals::{Arrivals, ChunkLimits, Patience};
pub use batch::{
    Batch, BatchLabels, BatchOptions, EncodedExample, ExampleLabels, PaddingMode, PaddingSide,
    collate, draw, epoch_order, sequential_order, split_fold, split_off,
};
pub use beside::splits_beside;
pub use cache::default_cache;
pub use concerns::{Concern, concerns};
pub use convert::Malformed;
pub use encoded::{EncodedInput, EncodedRow, EncodedSplit, HighestId, SeenLabel};
pub use error::{DataError, Result};
pub use example::{InputRow, SequenceExample, TokenExample};
pub use find_columns::{FoundColumns, GivenColumns, find_columns};
pub use for_transformers::ForTransformers;
pub use gguf_tokenizer::{TokenizerFiles, tokenizer_from_gguf};
pub use inputs::{
    CutReport, EncodedSequence, EncodedTokens, SequenceInputs, WordInput, WordInputs,
};
pub use labels::{IGNORE_INDEX, LabelSet};
pub use look_alikes::look_alikes;
pub use metrics::{
    CONFUSION_CLASSES, ClassScores, ClassTally, ClassificationScores, Comparison, Drawn, ECE_BINS,
    Interval, MultiLabelAnswer, MultiLabelScores, RegressionScores, Resampling, SpanMode,
    SpanScores, SpanTally, TEMPERATURES, Tally, average_precision, best_f1_threshold, bootstrap,
    compare, conlleval_report, expected_calibration_error, fit_temperature, log_loss, span_report,
};
pub use parallel::in_parallel;
pub use profile::{Lengths, Overlap, Profile, ProfileOptions};
pub use readers::{
    BadRows, BadSpans, Column, ColumnRef, Delimiter, FileFormat, Holds, Offsets, Position,
    ReadSpec, RowSieve, SequenceColumns, SequenceReader, SkippedRows, SniffOptions, Sniffed,
    SpanRepairs, Stream, TextEncoding, TokenColumns, TokenReader, TurnedDown, for_each_row,
    line_reader, read_label_json, read_lines_from, read_sequence, read_sequence_from, read_tokens,
    read_tokens_from, sniff, sniff_stream,
};
pub use reading::{Reading, SpecialTokensAs, WordsAs};
pub use scheme::TagScheme;
pub use source::{EncodingProgress, SplitSource, TagChanges};
pub use span::{Span, bilou_as_iobes, decode_spans, decode_spans_strict, has_bilou_tags};
pub use special_tokens::{PadReason, PadToken};
pub use split_writer::SplitWriter;
pub use tag_names::{NoLabel, OddTags, Scheme, TagKind, odd_tags, quoted, shown_type, with_hyphen};
pub use task::TaskKind;
pub use text_label::{LabelKind, TextLabel};
pub use tokenize::TextTokenizer;
pub use viterbi::TagGrammar;
pub use windows::{Context, InputLimits, LongInputs};
pub use words::{TextWord, locate_words, place_words, split_words};
