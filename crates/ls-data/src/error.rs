//! The one error type of the crate: where it went wrong, what was found, what was expected.

use std::path::{Path, PathBuf};

use ls_files::{FileError, did_you_mean, nearest};

/// Result of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// Everything that can be wrong with data, labels or a tokenizer.
///
/// Messages begin with `path:line` where a line is known, so that editors can jump to it. Lines
/// and columns count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that cannot be read or written, or whose text is not what its format asks for.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no example: no bytes, only blank lines, or only a header.
    #[error("{}: holds no examples", path.display())]
    Empty {
        /// File that was read.
        path: PathBuf,
    },
    /// A folder was named in the place of a file.
    #[error("{}: {}", path.display(), of_folder(path, held, example.as_deref(), datasets))]
    IsFolder {
        /// The folder.
        path: PathBuf,
        /// The names in it.
        held: Vec<String>,
        /// A file of it that could be read.
        example: Option<PathBuf>,
        /// Known data sets whose files it may hold.
        datasets: Vec<String>,
    },
    /// The file name does not say what format the file has.
    #[error("{}: {}", path.display(), of_extension(path))]
    UnknownFormat {
        /// File whose name was read.
        path: PathBuf,
    },
    /// The format cannot hold this kind of example.
    #[error("{}: {format} files cannot hold {expected}", path.display())]
    UnsupportedFormat {
        /// File that was to be read.
        path: PathBuf,
        /// Format that was asked for.
        format: &'static str,
        /// Kind of example that was asked for.
        expected: &'static str,
    },
    /// The header has no column of this name.
    #[error("{}: no column `{column}`; the file has {}{}", path.display(), list(available), did_you_mean(nearest))]
    UnknownColumn {
        /// File that was read.
        path: PathBuf,
        /// Name that was asked for.
        column: String,
        /// Names that the header holds.
        available: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
    },
    /// The columns of a file do not say which of them is meant.
    #[error("{}: {what}; the file has {}", path.display(), list(columns))]
    ColumnsUnclear {
        /// File that was read.
        path: PathBuf,
        /// What was looked for, and what was found of it.
        what: String,
        /// The columns of the file.
        columns: Vec<String>,
        /// Settings of which each list makes it clear, as `key=value`.
        settings: Vec<Vec<String>>,
    },
    /// The header has a column twice that is asked for.
    #[error("{}:{line}: the header has `{column}` twice, as columns {first} and {second} (counted from 0); rename one of them, or give the number of the one that is meant", path.display())]
    ColumnTwice {
        /// File that was read.
        path: PathBuf,
        /// Line of the header.
        line: usize,
        /// Name of the column.
        column: String,
        /// Where it stands first.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// A delimiter that cannot be one.
    #[error(
        "found {name:?}, expected one ASCII character that is no quote and no line end, such as \";\", \"|\" or \"\\t\" (tab)"
    )]
    BadDelimiter {
        /// What was given.
        name: String,
    },
    /// An encoding that is not known.
    #[error(
        "unknown encoding {name:?}; expected utf-8, utf-16, windows-1252 (latin-1), iso-8859-2, windows-1251, koi8-r, shift_jis, euc-jp, gbk, gb18030, big5, euc-kr or another label of the WHATWG's encoding standard"
    )]
    UnknownEncoding {
        /// What was given.
        name: String,
    },
    /// The bytes are not UTF-8, and no other encoding was named.
    #[error("{}:{line}:{column}: byte 0x{byte:02x} is not valid UTF-8; save the file as UTF-8, or name its encoding, such as data.encoding = \"windows-1252\"", path.display())]
    NotUtf8 {
        /// File that was read.
        path: PathBuf,
        /// Line of the first bad byte.
        line: usize,
        /// Byte position in the line (for CSV, in the field) of the first bad byte.
        column: usize,
        /// The first bad byte.
        byte: u8,
    },
    /// A text cannot be decoded.
    #[error("{}:{line}: the text {fault}", path.display())]
    Undecodable {
        /// File that was read.
        path: PathBuf,
        /// Line that was reached.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// A file of JSON is not one list of objects.
    #[error("{}:{line}:{column}: malformed JSON: found {found}, expected {expected}", path.display())]
    JsonList {
        /// File that was read.
        path: PathBuf,
        /// Line of the fault.
        line: usize,
        /// Column in the line.
        column: usize,
        /// What stands there.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A value in a list of JSON never ends.
    #[error("{}:{line}: a value begins here and never ends; is a quote or a bracket not closed?", path.display())]
    JsonNeverEnds {
        /// File that was read.
        path: PathBuf,
        /// Line where it begins.
        line: usize,
    },
    /// A file is one JSON object that holds no list of examples, or several.
    #[error("{}: found one JSON object {}; expected one object a line, a list of objects, or an object with one such list{}", path.display(), keys_and_lists(keys, lists), way_out(lists))]
    NoJsonList {
        /// File that was read.
        path: PathBuf,
        /// The keys that were seen.
        keys: Vec<String>,
        /// Those of lists of objects.
        lists: Vec<String>,
    },
    /// A span of a text cannot be used.
    #[error("{}:{line}: key `{key}`: {reason}", path.display())]
    Span {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// Where the span stands.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Spans of a text are no whole words, or overlap.
    #[error("{}:{line}: {}{}; {advice}", path.display(), shown.join("; "), more(shown, *count))]
    BadSpans {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// The first faults.
        shown: Vec<String>,
        /// Number of faults.
        count: usize,
        /// What may be done.
        advice: String,
    },
    /// An example has words with tags and a text with entities, and they differ.
    #[error("{}:{line}: the tags and the entities of the example differ ({found}); say which of them count: data.tags = \"tags\" or \"entities\"", path.display())]
    TwoAnswers {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// A difference.
        found: String,
    },
    /// An answer that is to be scored says why there is none.
    #[error("{}:{line}: no `{key}` to score, because {reason}; take the example out of both files, or write the label here that it is to count as", path.display())]
    Unanswered {
        /// File that was read.
        path: PathBuf,
        /// Line of the answer.
        line: usize,
        /// Where it would stand.
        key: String,
        /// Why it does not.
        reason: String,
    },
    /// Tags were asked for by a name that no column of a CoNLL file has.
    #[error("{}:{line}: no column `{column}`; {}", path.display(), if columns.is_empty() { "the columns of this file have no names: give a number, from 0".to_string() } else { format!("the columns are {}, and MISC has no such key", list(columns)) })]
    NoNamedColumn {
        /// File that was read.
        path: PathBuf,
        /// Its first line with a word.
        line: usize,
        /// Name that was asked for.
        column: String,
        /// The names that there are.
        columns: Vec<String>,
    },
    /// Nothing says which column of a CoNLL-U file holds the tags.
    #[error("{}:{line}: the words are numbered, as in CoNLL-U, and no column holds tags such as `B-PER`; name the column of the tags, such as data.tags = \"upos\", \"misc\" or a number from 0", path.display())]
    TagsNeeded {
        /// File that was read.
        path: PathBuf,
        /// Its first line with a word.
        line: usize,
    },
    /// MISC of a CoNLL-U file holds a value that is no tag.
    #[error("{}:{line}: MISC has `{found}`, expected a tag such as `B-PER` or `O`", path.display())]
    MiscTag {
        /// File that was read.
        path: PathBuf,
        /// Line of the word.
        line: usize,
        /// The value.
        found: String,
    },
    /// A column was asked for by name, but the file was said to have no header.
    #[error("{}: column `{column}` is asked for by name, but the file is read without a header; give its index, or say that there is a header", path.display())]
    NoHeader {
        /// File that was read.
        path: PathBuf,
        /// Name that was asked for.
        column: String,
    },
    /// A column was asked for by an index past the last one.
    #[error("{}:{line}: no column {index}; there are {found}, counted from 0", path.display())]
    ColumnIndex {
        /// File that was read.
        path: PathBuf,
        /// Line of the header or of the first row.
        line: usize,
        /// Index that was asked for.
        index: usize,
        /// Number of columns.
        found: usize,
    },
    /// A JSON key was asked for by index.
    #[error("{}: JSON objects have no column {index}; give the key's name", path.display())]
    IndexInJson {
        /// File that was read.
        path: PathBuf,
        /// Index that was asked for.
        index: usize,
    },
    /// A row has more or fewer fields than the header or the first row.
    #[error("{}:{line}: found {found} fields, expected {expected}", path.display())]
    FieldCount {
        /// File that was read.
        path: PathBuf,
        /// Line where the row begins.
        line: usize,
        /// Fields in this row.
        found: usize,
        /// Fields in the header or the first row.
        expected: usize,
    },
    /// The words of a CoNLL file and their tags are asked for in one column.
    #[error("{}:{line}: column {column} is that of the words and also that of the tags, counted from 0; `tokens` and `tags` have to name two", path.display())]
    OneColumn {
        /// File that was read.
        path: PathBuf,
        /// Its first line with a word.
        line: usize,
        /// The column.
        column: usize,
    },
    /// The first line of a CoNLL file has no column for the tag beside those that are asked for.
    #[error("{}:{line}: found {found} fields, expected {expected}", path.display())]
    NoTagColumn {
        /// File that was read.
        path: PathBuf,
        /// Its first line with a word.
        line: usize,
        /// Fields of the line.
        found: usize,
        /// Fields that it would have to have.
        expected: usize,
    },
    /// A quoted CSV field never ends, so the rest of the file would be swallowed by it.
    #[error("{}:{line}: a quoted field begins in this row and never ends; double the quotes inside fields, or read the file as TSV", path.display())]
    UnclosedQuote {
        /// File that was read.
        path: PathBuf,
        /// Line where the row begins.
        line: usize,
    },
    /// A row is too long to be one example.
    #[error("{}:{line}: the row is longer than {} MiB; are line ends missing, or is a quote not closed?", path.display(), limit >> 20)]
    RowTooLong {
        /// File that was read.
        path: PathBuf,
        /// Line where the row begins.
        line: usize,
        /// Longest row, in bytes.
        limit: usize,
    },
    /// Several rows are bad.
    #[error("{}", lines_and_more(shown, *count))]
    BadRows {
        /// File that was read.
        path: PathBuf,
        /// The first messages, each with its place.
        shown: Vec<String>,
        /// Number of bad rows.
        count: usize,
    },
    /// A text, label, token or tag is empty or only white space.
    #[error("{}:{line}: {what} is empty", path.display())]
    EmptyField {
        /// File that was read.
        path: PathBuf,
        /// Line of the example or of the token.
        line: usize,
        /// What is empty: `text`, `text_pair`, `label`, `token`, `tag` or `tokens`.
        what: &'static str,
    },
    /// A JSON object lacks a key.
    #[error("{}:{line}: no key `{key}`; the object has {}{}", path.display(), list(available), did_you_mean(nearest))]
    MissingKey {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// Key that was asked for.
        key: String,
        /// Keys that are there.
        available: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
    },
    /// A JSON value has the wrong type.
    #[error("{}:{line}: key `{key}`: found {found}, expected {expected}", path.display())]
    WrongType {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// Key of the value, with an index inside a list.
        key: String,
        /// Type that was found.
        found: &'static str,
        /// Type that was expected.
        expected: &'static str,
    },
    /// An example has more tags than tokens, or fewer.
    #[error("{}:{line}: found {tags} tags for {tokens} tokens", path.display())]
    TokenTagCount {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// Number of tokens.
        tokens: usize,
        /// Number of tags.
        tags: usize,
    },
    /// A line has too few columns.
    #[error("{}:{line}: found {found} columns, expected at least {needed}", path.display())]
    TooFewFields {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// Columns in this line.
        found: usize,
        /// Columns that there must be.
        needed: usize,
    },
    /// The brackets of a name, in a file of CoNLL 2012, do not match.
    #[error("{}:{line}: name `{found}` {fault}", path.display())]
    Brackets {
        /// File that was read.
        path: PathBuf,
        /// Line of the word.
        line: usize,
        /// What stands in the column of the names.
        found: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A line is not a tree with brackets.
    #[error("{}:{line}:{column}: not a tree: {fault}; expected the form `(3 (2 It) (4 works))`", path.display())]
    Tree {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// Byte position in the line, from 1.
        column: usize,
        /// What is wrong there.
        fault: &'static str,
    },
    /// A line of fastText has several labels, or one behind its text.
    #[error("{}:{line}: found {found} words with `__label__`, expected {expected} at the beginning of the line", path.display())]
    LabelPlace {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// Number of labels in the line.
        found: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// A string holds no list of labels.
    #[error("{}:{line}: found {found:?}, expected a JSON list of labels such as [\"a\", \"b\"]; where something parts the labels in a string, data.label_delimiter says what", path.display())]
    LabelList {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// A text has one label twice.
    #[error("{}:{line}: the label {label:?} stands twice in the list of one text", path.display())]
    LabelTwice {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// The label.
        label: String,
    },
    /// A label that has to be a number is none that can be learnt.
    #[error("{}:{line}: found {found:?}, expected a number as the label: finite, at most 3.4e38", path.display())]
    NotANumber {
        /// File that was read.
        path: PathBuf,
        /// Line of the file.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// A column of a Parquet file holds groups or lists of lists.
    #[error("{}: column `{column}` holds neither plain values nor lists of plain values", path.display())]
    ColumnShape {
        /// File that was read.
        path: PathBuf,
        /// Name of the column.
        column: String,
    },
    /// A Parquet file could not be understood.
    #[error("{}: cannot read as Parquet: {message}", path.display())]
    Parquet {
        /// File that was read.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// A Parquet file was to be read from a stream.
    #[error("{}: Parquet is read from a file, not from a stream", path.display())]
    ParquetStream {
        /// Name of the stream.
        path: PathBuf,
    },
    /// Reading Parquet was not built in.
    #[error("{}: this build does not read Parquet; build with `--features parquet`", path.display())]
    NoParquet {
        /// File that was to be read.
        path: PathBuf,
    },
    /// No known data set has this name.
    #[error(
        "no data set is called `{name}`; the known ones are {}{}",
        list(known),
        did_you_mean(nearest)
    )]
    UnknownDataset {
        /// Name that was asked for.
        name: String,
        /// Names of the known ones.
        known: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
    },
    /// A folder holds a known data set in none of its known forms.
    #[error("{}: no files of {dataset}; looked for {}{}{}", path.display(), list(looked_for), unfit_files(unfit), remedy)]
    NoDatasetFiles {
        /// Folder that was read.
        path: PathBuf,
        /// Name of the data set.
        dataset: String,
        /// A file of each form.
        looked_for: Vec<String>,
        /// Files that have such a name but another form.
        unfit: Vec<PathBuf>,
        /// Where they can be had.
        remedy: String,
    },
    /// A data set has several languages and none was chosen.
    #[error("{dataset} has several languages; choose one of {}", list(known))]
    LanguageNeeded {
        /// Name of the data set.
        dataset: String,
        /// Its languages.
        known: Vec<String>,
    },
    /// A data set does not have this language.
    #[error("{dataset} has no language `{language}`; it has {}", list(known))]
    UnknownLanguage {
        /// Name of the data set.
        dataset: String,
        /// Language that was asked for.
        language: String,
        /// Its languages.
        known: Vec<String>,
    },
    /// A label is not in the label set.
    #[error("{}:{line}: unknown label `{label}`; the labels are {}{}", path.display(), list(known), did_you_mean(nearest))]
    UnknownLabel {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// Label that was found.
        label: String,
        /// Labels of the set, in order.
        known: Vec<String>,
        /// The most similar of them.
        nearest: Option<String>,
    },
    /// An integer label has no name.
    #[error("{}:{line}: label {index} has no name; names are given for {first} to {}", path.display(), first + *count as i64 - 1)]
    LabelIndex {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// Integer that was found.
        index: i64,
        /// Integer of the first name.
        first: i64,
        /// Number of names.
        count: usize,
    },
    /// Tags are integers and nothing says what they mean: mirrors of one data set number its tags
    /// differently, so a guess would be wrong in silence.
    #[error("{}:{line}: key `{key}` holds integers, and no label names are given", path.display())]
    NamesNeeded {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// Key of the tags.
        key: String,
    },
    /// A `label.json` does not name integers.
    #[error("{}: expected names with their integers from 0 on, each once, such as {{\"O\": 0, \"B-PER\": 1}}", path.display())]
    LabelJson {
        /// File that was read.
        path: PathBuf,
    },
    /// An example without a label where one is needed.
    #[error("{}:{line}: the example has no label", path.display())]
    Unlabelled {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
    },
    /// A label set without labels.
    #[error("no labels: the label set is empty")]
    NoLabels,
    /// A label set names a label twice.
    #[error("label `{name}` is named twice")]
    DuplicateLabel {
        /// The repeated name.
        name: String,
    },
    /// A label set holds an empty name.
    #[error("label {index} has an empty name")]
    EmptyLabelName {
        /// Position of the name.
        index: usize,
    },
    /// The folder has no `tokenizer.json`.
    #[error("{}: no tokenizer.json{}", path.display(), if *sentencepiece { "; there is a tokenizer.model, which transformers converts: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)" } else { "" })]
    NoTokenizer {
        /// Folder that was read.
        path: PathBuf,
        /// Whether the folder has a SentencePiece `tokenizer.model` instead.
        sentencepiece: bool,
    },
    /// A tokenizer file could not be understood.
    #[error("{}: not a usable tokenizer: {message}", path.display())]
    Tokenizer {
        /// File that was read.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// The tokenizer failed on a text.
    #[error("cannot tokenise {text:?}: {message}")]
    Encode {
        /// Beginning of the text, or of the first text of its batch.
        text: String,
        /// What the tokenizer said.
        message: String,
    },
    /// The tokenizer has no special token at all, so nothing can pad a batch.
    #[error("{}: no special token can serve as padding; add a pad token to the tokenizer", path.display())]
    NoPadToken {
        /// `tokenizer.json` that was read.
        path: PathBuf,
    },
    /// The length limit leaves no room for text.
    #[error("max_length {max_length} leaves no room for text beside {special} special tokens")]
    MaxLength {
        /// Limit in tokens, special ones included.
        max_length: usize,
        /// Number of special tokens.
        special: usize,
    },
    /// Tags that are no whole spans by their scheme, where such are refused.
    #[error("{}:{line}: {reason}; data.malformed = \"repair\" reads them as conlleval does", path.display())]
    BadTags {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A pair of texts has no windows: each would hold a part of one text only.
    #[error(
        "a pair of texts is longer than max_length and cannot be read in windows: cut it with long_inputs = truncate, tail or head_tail"
    )]
    WindowsOfPair,
    /// A list of words is read in windows or cut at its end.
    #[error(
        "a list of words cannot be cut at its beginning or in its middle: long_inputs is window or truncate for taggers"
    )]
    CutOfWords,
    /// An example gives no token beside the special ones.
    #[error("{}:{line}: the text tokenises to nothing", path.display())]
    NoTokens {
        /// File that was read.
        path: PathBuf,
        /// Line of the example.
        line: usize,
    },
    /// A tag does not belong to the scheme by which spans are read strictly.
    #[error(
        "tag `{tag}` at word {position} is not an {scheme} tag; {scheme} tags begin with one of {prefixes}"
    )]
    TagScheme {
        /// The tag.
        tag: String,
        /// Its word, counted from 0.
        position: usize,
        /// Scheme that was asked for.
        scheme: &'static str,
        /// The prefixes that it has.
        prefixes: &'static str,
    },
    /// A tag stands where its scheme does not allow it.
    #[error(
        "tag `{tag}` at word {position} stands {side} {found}; {scheme} allows it only {side} {allowed}"
    )]
    TagOrder {
        /// The tag.
        tag: String,
        /// Its word, counted from 0.
        position: usize,
        /// `after` or `before`.
        side: &'static str,
        /// The neighbour on that side.
        found: String,
        /// The neighbours that are allowed there.
        allowed: String,
        /// Scheme that was asked for.
        scheme: &'static str,
    },
    /// No tag scheme has this name.
    #[error(
        "unknown tag scheme `{name}`; expected one of iob1 iob2 (bio) ioe1 ioe2 (ioe) iobes (bioes) bilou"
    )]
    UnknownScheme {
        /// Name that was given.
        name: String,
    },
    /// Labels that a scheme cannot use.
    #[error("the labels are not of {scheme}: {reason}")]
    SchemeMisfit {
        /// Scheme that was asked for.
        scheme: &'static str,
        /// The label, and why.
        reason: String,
    },
    /// A task that does not exist.
    #[error("unknown task {name:?} (expected sequence or token)")]
    UnknownTask {
        /// Name that was given.
        name: String,
    },
    /// Gold and predictions differ in number.
    #[error("{found} predictions for {expected} gold {what}{}", sentence.map(|s| format!(" in sentence {s}")).unwrap_or_default())]
    ScoreLength {
        /// What is counted: `examples`, `sentences` or `tags`.
        what: &'static str,
        /// Sentence, counted from 0, when tags are counted.
        sentence: Option<usize>,
        /// Number of predictions.
        found: usize,
        /// Number of gold values.
        expected: usize,
    },
    /// Two files that should answer the same examples do not.
    #[error("{}:{line}: found {found}, but {}:{gold_line} has {expected}; both files must hold the same examples in the same order", path.display(), gold_path.display())]
    NotAligned {
        /// File that is held against the gold one.
        path: PathBuf,
        /// Line of it.
        line: usize,
        /// What stands there.
        found: String,
        /// File with the gold answers.
        gold_path: PathBuf,
        /// Line of it.
        gold_line: usize,
        /// What stands there.
        expected: String,
    },
    /// Examples have different numbers of probabilities.
    #[error("example {example} has {found} probabilities, expected {expected}")]
    ProbabilityCount {
        /// Example, counted from 0.
        example: usize,
        /// Its probabilities.
        found: usize,
        /// Those of the first example.
        expected: usize,
    },
    /// Values that are no probabilities of classes that exclude each other.
    #[error(
        "the probabilities of example {example} add up to {sum}; expected values from 0 to 1 that add up to 1"
    )]
    NotProbabilities {
        /// Example, counted from 0.
        example: usize,
        /// Sum of its values.
        sum: f64,
    },
    /// A calibration error over no bins.
    #[error("a calibration error needs at least one bin")]
    NoBins,
    /// Resampling that cannot give an interval.
    #[error(
        "cannot resample {examples} examples {samples} times for an interval of {level}; at least one example, one sample and a level between 0 and 1 are needed"
    )]
    Resampling {
        /// Resamples that were asked for.
        samples: usize,
        /// Level that was asked for.
        level: f64,
        /// Examples that are there.
        examples: usize,
    },
    /// A class id past the label set.
    #[error("class {id} is past the {count} labels")]
    ClassId {
        /// The id.
        id: usize,
        /// Number of labels.
        count: usize,
    },
}

impl DataError {
    /// Whether one row is at fault, so that reading can go on behind it.
    pub fn is_row(&self) -> bool {
        matches!(
            self,
            Self::File(FileError::NotUtf8 { .. } | FileError::Malformed { .. })
                | Self::NotUtf8 { .. }
                | Self::MiscTag { .. }
                | Self::Span { .. }
                | Self::BadSpans { .. }
                | Self::Unanswered { .. }
                | Self::TwoAnswers { .. }
                | Self::FieldCount { .. }
                | Self::EmptyField { .. }
                | Self::MissingKey { .. }
                | Self::WrongType { .. }
                | Self::TokenTagCount { .. }
                | Self::TooFewFields { .. }
                | Self::Brackets { .. }
                | Self::Tree { .. }
                | Self::LabelPlace { .. }
                | Self::LabelList { .. }
                | Self::LabelTwice { .. }
                | Self::NotANumber { .. }
                | Self::UnknownLabel { .. }
                | Self::LabelIndex { .. }
                | Self::Unlabelled { .. }
                | Self::NoTokens { .. }
                | Self::BadTags { .. }
        )
    }
}

/// The error of a label that is none of `known`.
pub(crate) fn unknown_label(label: &str, known: &[String], path: &Path, line: usize) -> DataError {
    DataError::UnknownLabel {
        path: path.to_path_buf(),
        line,
        label: label.to_string(),
        known: known.to_vec(),
        nearest: nearest(label, known.iter().map(String::as_str)),
    }
}

/// Messages, one a line, and how many of `count` are not among them.
pub(crate) fn lines_and_more(shown: &[String], count: usize) -> String {
    let mut text = shown.join("\n");
    match count.saturating_sub(shown.len()) {
        0 => {}
        more if shown.is_empty() => text = format!("{more} bad rows"),
        more => text.push_str(&format!("\nand {more} more")),
    }
    text
}

/// How many of `count` faults are not shown.
fn more(shown: &[String], count: usize) -> String {
    match count.saturating_sub(shown.len()) {
        0 => String::new(),
        more => format!("; and {more} more"),
    }
}

fn keys_and_lists(keys: &[String], lists: &[String]) -> String {
    match (keys, lists) {
        (_, [_, _, ..]) => format!("with several lists of objects, {}", list(lists)),
        ([], _) => "over several lines".to_string(),
        (keys, _) => format!("over several lines, with {}", list(keys)),
    }
}

/// How one of several lists becomes a file. Without a command to copy: one whose output has the
/// input's name would empty the file.
fn way_out(lists: &[String]) -> &'static str {
    match lists {
        [_, _, ..] => "; write the list that is meant to a file of its own",
        _ => "",
    }
}

/// What is said of a file whose extension says no format.
fn of_extension(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("gz" | "bz2" | "xz" | "zst" | "zip" | "tar" | "tgz" | "7z") => {
            "is compressed; unpack it first".to_string()
        }
        Some("xlsx" | "xls" | "ods") => "is a spreadsheet; save it as CSV first".to_string(),
        Some("arrow" | "feather" | "pkl" | "pickle") => {
            "is read by its library alone; save it as JSON lines or Parquet first".to_string()
        }
        _ => "unknown file extension; expected one of .csv .tsv .jsonl .json .ndjson .conll \
              .conllu .conllup .iob .iob2 .bio .bio2 .ner .txt .parquet .gold_conll .ft; or data.format says \
              how it is written"
            .to_string(),
    }
}

fn of_folder(path: &Path, held: &[String], example: Option<&Path>, datasets: &[String]) -> String {
    if held.is_empty() {
        return "is an empty folder; expected a file".to_string();
    }
    let mut text = format!("is a folder, which holds {}; expected a file", list(held));
    if let Some(example) = example {
        text += &format!(", such as \"{}\"", example.display());
    }
    if let Some(first) = datasets.first() {
        text += &format!(
            "; the files may be those of {}: data.dataset = \"{first}\" and data.dir = \"{}\" read \
             them",
            list(datasets),
            path.display()
        );
    }
    text
}

/// How many names a message lists.
const LISTED: usize = 20;

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_string();
    }
    ls_files::listed(names.iter().map(|name| format!("`{name}`")), LISTED)
}

fn unfit_files(unfit: &[PathBuf]) -> String {
    if unfit.is_empty() {
        return String::new();
    }
    let names: Vec<String> = unfit
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!(
        "; there is {}, but its first line is of another form",
        list(&names)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_with_a_count() {
        let names: Vec<String> = (0..23).map(|i| i.to_string()).collect();
        assert!(list(&names).ends_with("`19` and 3 more"));
        assert_eq!(list(&[]), "none");
    }
}
