//! `ls-cli score`: scores predictions in files against gold labels or tags.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ls_data::{
    AnswerColumn, AnswerOptions, Answers, ClassTally, ClassificationScores, ColumnRef, Comparison,
    DataError, Drawn, Interval, LabelAnswer, LabelKind, LabelSet, MultiLabelAnswer, NoLabel,
    Resampling, Scheme, SpanMode, SpanTally, TagAnswer, TagKind, TagScheme, Tally, TaskKind,
    TextLabel, bilou_as_iobes, bootstrap, check_aligned, class_names, compare, decode_spans_strict,
    has_bilou_tags, odd_tags, predicted_kind, probability_rows, read_answers, span_report,
    with_hyphen,
};
use ls_files::{FileError, print};
use ls_train::{Coverage, Problem, Scores, TrainError};
use serde_json::{Map, Value, json};

use super::coverage::{self, expect_answers};
use super::table::table;
use crate::args::{ReadMode, ScoreArgs, ScoreFormat};
use crate::error::UsageError;
use crate::model::problem_type;
use crate::screen::say;

/// The path that stands for standard input, and its name in messages.
const STDIN: [&str; 2] = ["-", "stdin"];

/// A file of labels or tags.
struct File {
    path: PathBuf,
    answers: Answers,
}

/// The files of a command, aligned: the same examples in the same order.
struct Files {
    gold: File,
    pred: File,
    /// Another system's predictions.
    other: Option<File>,
    /// Class names, if given.
    names: Option<LabelSet>,
    /// What the labels of texts are.
    kind: LabelKind,
    /// How many texts are answered, where a system left some unanswered: only these are here.
    coverage: Option<Coverage>,
}

impl Files {
    /// Gold, the system's and another's.
    fn all(&self) -> impl Iterator<Item = &File> {
        [Some(&self.gold), Some(&self.pred), self.other.as_ref()]
            .into_iter()
            .flatten()
    }

    /// The texts or sentences of a file, answered or not.
    fn examples(&self) -> usize {
        match (&self.gold.answers, self.coverage) {
            (_, Some(coverage)) => coverage.of,
            (Answers::Labels(answers), None) => answers.len(),
            (Answers::Tags(answers), None) => answers.len(),
        }
    }

    /// Leaves out the texts to which a system gave no answer, being too unsure.
    fn leave_out_unanswered(&mut self) -> Result<()> {
        if let Answers::Labels(gold) = &self.gold.answers
            && let Some(answer) = gold.iter().find(|answer| answer.abstained)
        {
            let (path, line) = (self.gold.path.display(), answer.line);
            bail!(
                "{path}:{line}: the gold file has no label here, but that a model was too unsure"
            );
        }
        let systems = [Some(&self.pred), self.other.as_ref()]
            .into_iter()
            .flatten();
        let mut kept: Vec<bool> = Vec::new();
        for file in systems {
            let Answers::Labels(answers) = &file.answers else {
                return Ok(());
            };
            kept.resize(answers.len(), true);
            for (kept, answer) in kept.iter_mut().zip(answers) {
                *kept &= !answer.abstained;
            }
        }
        let (answered, of) = (kept.iter().filter(|kept| **kept).count(), kept.len());
        if answered == of {
            return Ok(());
        }
        let coverage = Coverage { answered, of };
        let path = self.pred.path.display().to_string();
        expect_answers(&path, Problem::SingleLabel, coverage)?;
        let files = [
            Some(&mut self.gold),
            Some(&mut self.pred),
            self.other.as_mut(),
        ];
        for file in files.into_iter().flatten() {
            if let Answers::Labels(answers) = &mut file.answers {
                let mut kept = kept.iter();
                answers.retain(|_| kept.next().is_none_or(|kept| *kept));
            }
        }
        self.coverage = Some(coverage);
        Ok(())
    }
}

/// The scores of the whole, by their JSON keys.
type Metrics = Vec<(&'static str, f64)>;

/// What is printed.
struct Report {
    scores: Scores,
    metrics: Metrics,
    /// How many texts or words were scored of how many, where a system left some unanswered.
    coverage: Option<Coverage>,
    /// One per metric, with `--bootstrap`.
    intervals: Option<Vec<Interval>>,
    /// The other system's metrics, and how they differ.
    comparison: Option<(Metrics, Vec<Comparison>)>,
}

/// Runs the command.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let resampling = resampling(args)?;
    if args.tag_separator.as_deref() == Some("") {
        let message = "--tag-separator: expected what stands between the prefix and the type of a \
                       tag, found nothing";
        return Err(UsageError::new(message).into());
    }
    let files = read(args)?;
    let other = files.other.as_ref().map(|file| &file.answers);
    let report = match (&files.gold.answers, &files.pred.answers, other) {
        (Answers::Tags(gold), Answers::Tags(pred), None) => {
            score_tags(args, &files, &resampling, [gold, pred, pred])?
        }
        (Answers::Tags(gold), Answers::Tags(pred), Some(Answers::Tags(other))) => {
            score_tags(args, &files, &resampling, [gold, pred, other])?
        }
        (Answers::Labels(gold), Answers::Labels(pred), None) => {
            score_labels(args, &files, &resampling, [gold, pred, pred])?
        }
        (Answers::Labels(gold), Answers::Labels(pred), Some(Answers::Labels(other))) => {
            score_labels(args, &files, &resampling, [gold, pred, other])?
        }
        _ => bail!("the files hold labels and tags: score one kind at a time"),
    };
    let mut out = Vec::new();
    match args.format {
        ScoreFormat::Json => {
            let object = object(&report, &files, &resampling)?;
            writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
        }
        ScoreFormat::Text => text(&mut out, &report, &files, &resampling)?,
    }
    Ok(print(out)?)
}

fn resampling(args: &ScoreArgs) -> Result<Resampling> {
    let default = Resampling::default();
    let resampling = Resampling {
        samples: args.bootstrap.unwrap_or(default.samples),
        seed: args.seed,
        level: args.level,
    };
    if resampling.samples == 0 {
        return Err(UsageError::new("--bootstrap 0: at least one resample is needed").into());
    }
    if !(args.level > 0.0 && args.level < 1.0) {
        let message = format!("--level {}: expected a number between 0 and 1", args.level);
        return Err(UsageError::new(message).into());
    }
    Ok(resampling)
}

/// Reads the files (the gold file decides the kind of all) and checks that they align.
fn read(args: &ScoreArgs) -> Result<Files> {
    let names = args.labels.clone().map(LabelSet::from_names);
    let names = names.transpose().map_err(TrainError::from)?;
    let column = |text: &String| match text.parse() {
        Ok(index) => ColumnRef::Index(index),
        Err(_) => ColumnRef::Name(text.clone()),
    };
    let [both, of_predictions] =
        [&args.label, &args.pred_label].map(|key| key.as_ref().map(column));
    let [both, of_predictions] =
        [&both, &of_predictions].map(|key| key.as_ref().map(AnswerColumn::At));

    let [gold_path, pred_path] = match (&args.gold, &args.pred) {
        (Some(gold), Some(pred)) => [gold, pred],
        (Some(one), None) | (None, Some(one)) => [one, one],
        (None, None) => return Err(UsageError::new("expected --gold or --pred").into()),
    };
    let in_one = gold_path == pred_path;
    let stdin = |path: &Path| path == Path::new(STDIN[0]);
    let mut once = vec![gold_path];
    once.extend((!in_one).then_some(pred_path));
    once.extend(&args.compare);
    if once.iter().filter(|path| stdin(path)).count() > 1 {
        return Err(UsageError::new("only one of the files can be stdin").into());
    }
    let [gold_column, pred_column] = if in_one {
        [both.unwrap_or(AnswerColumn::Gold), AnswerColumn::Usual]
    } else {
        [both.unwrap_or(AnswerColumn::Usual); 2]
    };
    let pred_column = of_predictions.unwrap_or(pred_column);
    let (gold_name, gold_bytes) = bytes(gold_path)?;
    let of_pred = if in_one {
        None
    } else {
        Some(bytes(pred_path)?)
    };
    let (pred_name, pred_bytes) = match &of_pred {
        Some((name, bytes)) => (name, bytes),
        None => (&gold_name, &gold_bytes),
    };
    let kind = match problem_type(&args.problem_type)? {
        Some(problem) => Problem::of(TaskKind::Sequence, Some(problem), None).label_kind(),
        None if args.task == Some(TaskKind::Token) => LabelKind::Class,
        None => predicted_kind(pred_bytes),
    };
    // Lists are of labels then, not of tags.
    let task = match kind {
        LabelKind::Class => args.task,
        LabelKind::Classes | LabelKind::Number => Some(TaskKind::Sequence),
    };
    let options = |column, task| AnswerOptions {
        task,
        kind,
        delimiter: args.label_delimiter.as_deref(),
        column,
        names: names.as_ref(),
        header: !args.no_header,
    };

    let gold = read_answers(&gold_bytes, &gold_name, &options(gold_column, task))
        .map_err(|error| explained(error, in_one))?;
    let task = Some(match gold {
        Answers::Labels(_) => TaskKind::Sequence,
        Answers::Tags(_) => TaskKind::Token,
    });
    let system = |path: PathBuf, bytes: &[u8]| -> Result<File> {
        let answers = read_answers(bytes, &path, &options(pred_column, task))
            .map_err(|error| explained(error, false))?;
        check_aligned(&gold, &gold_name, &answers, &path).map_err(TrainError::from)?;
        Ok(File { path, answers })
    };
    let pred = system(pred_name.clone(), pred_bytes)?;
    let other = match &args.compare {
        Some(path) => {
            let (path, bytes) = bytes(path)?;
            Some(system(path, &bytes)?)
        }
        None => None,
    };
    let gold = File {
        path: gold_name,
        answers: gold,
    };
    let mut files = Files {
        gold,
        pred,
        other,
        names,
        kind,
        coverage: None,
    };
    files.leave_out_unanswered()?;
    Ok(files)
}

/// The largest file of answers that is read: a device has no end.
const MOST: u64 = 1 << 30;

/// A file's name in messages, and what it holds.
fn bytes(path: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let (name, reader): (PathBuf, Box<dyn Read>) = if path == Path::new(STDIN[0]) {
        (STDIN[1].into(), Box::new(std::io::stdin()))
    } else {
        // It is read once, so it may be a pipe.
        let file = std::fs::File::open(path).map_err(FileError::reading(path))?;
        (path.into(), Box::new(file))
    };
    let mut bytes = Vec::new();
    let read = reader.take(MOST + 1).read_to_end(&mut bytes);
    read.map_err(FileError::reading(&name))?;
    if bytes.len() as u64 > MOST {
        return Err(FileError::TooLarge {
            path: name,
            limit: MOST,
        }
        .into());
    }
    Ok((name, bytes))
}

/// Adds a hint where an argument is missing.
fn explained(error: DataError, in_one: bool) -> anyhow::Error {
    let hint = match &error {
        DataError::NamesNeeded { .. } => "name them in their order with --labels O,B-PER,I-PER",
        DataError::MissingKey { .. }
        | DataError::UnknownColumn { .. }
        | DataError::FieldCount { .. }
        | DataError::NoTagColumn { .. }
        | DataError::OneColumn { .. }
            if in_one =>
        {
            "one file has to hold gold and predictions: name the other with --gold or --pred, or the place of the gold answers with --label"
        }
        DataError::TagsNeeded { path, line } => {
            // Its own advice is a key of a configuration.
            return UsageError {
                message: format!(
                    "{}:{line}: the words are numbered, as in CoNLL-U, and no column holds tags \
                     such as `B-PER`",
                    path.display()
                ),
                hint: Some(
                    "give the number of the column of the tags, from 0: --tags 3, of predictions \
                     that stand elsewhere --pred-tags 4"
                        .into(),
                ),
            }
            .into();
        }
        _ => return TrainError::from(error).into(),
    };
    UsageError {
        message: error.to_string(),
        hint: Some(hint.into()),
    }
    .into()
}

/// Scores tags: gold, the system's, and another's (or the same again).
fn score_tags(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    answers: [&Vec<TagAnswer>; 3],
) -> Result<Report> {
    let separated = answers.map(|answers| with_hyphens(args, answers));
    let answers = separated.each_ref().map(AsRef::as_ref);
    let kind = match (args.scheme, args.mode) {
        (Some(Scheme::Labels), ReadMode::Strict) => {
            let message =
                "--mode strict reads spans, and --scheme labels is for tags that are none";
            return Err(UsageError::new(message).into());
        }
        (Some(scheme), _) => scheme.kind(),
        (None, ReadMode::Strict) => TagKind::Spans,
        // Of all files: gold tags that are all `O` say nothing of the predictions.
        (None, ReadMode::Default) => TagKind::of(answers.iter().flat_map(|all| names(all))),
    };
    if kind == TagKind::Labels {
        if args.scheme.is_none() {
            let mut paths: Vec<String> = Vec::new();
            for file in files.all() {
                let path = file.path.display().to_string();
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
            say(format!(
                "note: no tag of {} has a prefix such as B-: each is the label of its word (--scheme labels)",
                paths.join(", ")
            ));
        }
        return score_words(args, files, resampling, answers);
    }
    let scheme = args.scheme.and_then(Scheme::of_spans);
    if args.mode == ReadMode::Default {
        note_odd_tags(files.all().zip(answers));
    }
    let mode = match args.mode {
        ReadMode::Default => SpanMode::Default,
        ReadMode::Strict => SpanMode::Strict(scheme.unwrap_or_default()),
    };
    if let SpanMode::Strict(scheme) = mode {
        for (file, answers) in files.all().zip(answers) {
            check_scheme(&file.path, answers, scheme)?;
        }
    }
    // Lenient reading knows the prefixes of IOBES, not those of BILOU.
    let bilou = mode == SpanMode::Default
        && match scheme {
            Some(scheme) => scheme == TagScheme::Bilou,
            // Gold tags without a span leave it to the predictions.
            None if names(answers[0]).all(|tag| tag == "O") => {
                has_bilou_tags(answers.iter().flat_map(|all| names(all)))
            }
            None => has_bilou_tags(names(answers[0])),
        };
    let [gold, pred, other] = answers.map(|answers| {
        let tags = answers.iter().map(|answer| &answer.tags);
        let read = |tag: &String| {
            if bilou {
                bilou_as_iobes(tag).into_owned()
            } else {
                tag.clone()
            }
        };
        tags.map(|tags| tags.iter().map(read).collect())
            .collect::<Vec<Vec<String>>>()
    });
    let tallies = SpanTally::of_systems(&gold, [&pred, &other], mode).map_err(TrainError::from)?;
    let [pred, other] = &tallies;
    let scores = pred.scores();
    report(
        args,
        files,
        resampling,
        [pred.tally(), other.tally()],
        |totals| pred.scores_of(totals).metrics(),
        Scores::Spans(scores),
    )
}

/// The answers with a hyphen in their tags where --tag-separator says what stands in its place.
fn with_hyphens<'a>(args: &ScoreArgs, answers: &'a [TagAnswer]) -> Cow<'a, [TagAnswer]> {
    let Some(separator) = &args.tag_separator else {
        return Cow::Borrowed(answers);
    };
    let mut answers = answers.to_vec();
    for tag in answers.iter_mut().flat_map(|answer| &mut answer.tags) {
        *tag = with_hyphen(tag, separator).into_owned();
    }
    Cow::Owned(answers)
}

/// Every tag.
fn names(answers: &[TagAnswer]) -> impl Iterator<Item = &str> {
    let tags = answers.iter().flat_map(|answer| &answer.tags);
    tags.map(String::as_str)
}

/// Says of the tags of each file that fit no scheme how they are read, once. A type that is missing
/// is shown to be.
fn note_odd_tags<'a>(files: impl Iterator<Item = (&'a File, &'a [TagAnswer])>) {
    let mut said = Vec::new();
    for (file, answers) in files {
        for odd in odd_tags(names(answers)) {
            if odd.are_prefixes() {
                continue;
            }
            let set = odd.separator.as_ref();
            let set = set.map(|text| format!("; --tag-separator {text} takes it for one"));
            let set = set.unwrap_or_default();
            let note = format!("note: {}: {odd}{set}", file.path.display());
            // One file may hold gold and predictions.
            if !said.contains(&note) {
                say(&note);
                said.push(note);
            }
        }
    }
}

/// Scores tags that are labels of words.
fn score_words(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    answers: [&[TagAnswer]; 3],
) -> Result<Report> {
    let (kept, coverage) = answered_words(answers);
    if let Some(coverage) = coverage {
        let path = files.pred.path.display().to_string();
        expect_answers(&path, Problem::Tags(Some(TagKind::Labels)), coverage)?;
    }
    let [gold, pred, other] = answers.map(|answers| {
        let sentences = answers.iter().zip(&kept);
        let tags = sentences.map(|(answer, kept)| {
            let words = answer.tags.iter().zip(kept);
            let words = words.filter(|(_, kept)| **kept);
            words.map(|(tag, _)| tag.as_str()).collect()
        });
        tags.collect::<Vec<Vec<&str>>>()
    });
    let names = files
        .names
        .as_ref()
        .map(LabelSet::names)
        .unwrap_or_default();
    let [pred, other] =
        ClassTally::of_words(&gold, [&pred, &other], names).map_err(TrainError::from)?;
    let scores = pred.scores();
    let report = report(
        args,
        files,
        resampling,
        [pred.tally(), other.tally()],
        |totals| pred.scores_of(totals).metrics(),
        Scores::Classification(scores),
    )?;
    Ok(Report { coverage, ..report })
}

/// Which words of each sentence are answered by every system, and how many where not all are.
/// Others have `?` in the place of a label, as `predict --abstain-below` writes it, unless that is
/// a gold label.
fn answered_words([gold, systems @ ..]: [&[TagAnswer]; 3]) -> (Vec<Vec<bool>>, Option<Coverage>) {
    let labels: HashSet<&str> = names(gold).collect();
    let unsure = NoLabel::Unsure.beside(|mark| labels.contains(mark));
    let of_sentence = |at: usize| {
        let words = 0..gold[at].tags.len();
        let is_kept = |word: usize| systems.iter().all(|system| system[at].tags[word] != unsure);
        words.map(is_kept).collect::<Vec<bool>>()
    };
    let kept: Vec<Vec<bool>> = (0..gold.len()).map(of_sentence).collect();
    let all = || kept.iter().flatten();
    let (answered, of) = (all().filter(|kept| **kept).count(), all().count());
    let coverage = (answered < of).then_some(Coverage { answered, of });
    (kept, coverage)
}

/// Checks that every tag is one of the scheme.
fn check_scheme(path: &Path, answers: &[TagAnswer], scheme: TagScheme) -> Result<()> {
    for answer in answers {
        let error = match decode_spans_strict(&answer.tags, scheme) {
            Ok(_) => continue,
            Err(error) => error,
        };
        let word = match error {
            DataError::TagScheme { position, .. } => position,
            _ => 0,
        };
        let tags: Vec<&[String]> = answers.iter().map(|a| a.tags.as_slice()).collect();
        let hint = match TagScheme::infer(&tags) {
            Some(scheme) => format!("the tags are {0}: --scheme {0}", scheme.name()),
            None => "name the scheme of the tags with --scheme".into(),
        };
        return Err(UsageError {
            message: format!("{}:{}: {error}", path.display(), answer.line_of(word)),
            hint: Some(hint),
        }
        .into());
    }
    Ok(())
}

/// Scores labels: gold, the system's, and another's (or the same again).
fn score_labels(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    answers: [&Vec<LabelAnswer>; 3],
) -> Result<Report> {
    match files.kind {
        LabelKind::Class => {}
        LabelKind::Classes => return score_lists(args, files, resampling, answers),
        LabelKind::Number => return score_numbers(args, files, resampling, answers),
    }
    let slices = answers.map(Vec::as_slice);
    let classes = class_names(&slices, files.names.as_ref()).map_err(TrainError::from)?;
    let [gold, pred, other] = slices.map(|answers| {
        let ids = answers.iter().flat_map(|answer| ids(answer, &classes));
        ids.collect::<Vec<usize>>()
    });
    let [tally, other] = ClassTally::of_systems(&gold, [&pred, &other], classes.names())
        .map_err(TrainError::from)?;
    let mut scores = tally.scores();
    if let Some(rows) = probability_rows(answers[1], &classes) {
        let names = classes.names();
        match ClassificationScores::with_probabilities(&gold, &pred, &rows, names) {
            Ok(with) => scores = with,
            // A column called `scores` may hold something else than probabilities.
            Err(error @ DataError::NotProbabilities { .. }) => tracing::warn!(
                "{}: no log-loss and calibration error: {error}",
                files.pred.path.display()
            ),
            Err(error) => return Err(TrainError::from(error).into()),
        }
    }
    report(
        args,
        files,
        resampling,
        [tally.tally(), other.tally()],
        |totals| tally.scores_of(totals).metrics(),
        Scores::Classification(scores),
    )
}

/// The ids of an answer's labels.
fn ids(answer: &LabelAnswer, classes: &LabelSet) -> Vec<usize> {
    let names = answer.label.names().iter();
    names.filter_map(|name| classes.id(name)).collect()
}

/// Scores lists of labels in the same way.
fn score_lists(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    answers: [&Vec<LabelAnswer>; 3],
) -> Result<Report> {
    let classes = class_names(&answers.map(Vec::as_slice), files.names.as_ref());
    let classes = classes.map_err(TrainError::from)?;
    let [gold, systems @ ..] = answers;
    // Without a third file the second stands for it.
    let paths = [&files.pred, files.other.as_ref().unwrap_or(&files.pred)].map(|file| &file.path);
    let mut each: Vec<Vec<MultiLabelAnswer>> = Vec::new();
    for (system, path) in systems.into_iter().zip(paths) {
        let rows = probability_rows(system, &classes).ok_or_else(|| UsageError {
            message: format!(
                "{}: lists of labels are ranked for their average precision, and an answer has no \
                 object `scores`",
                path.display()
            ),
            hint: Some(
                "give each label a score, as predict does: \"scores\": {\"a\": 0.9, ..}".into(),
            ),
        })?;
        let all = gold.iter().zip(system).zip(rows);
        let all = all.map(|((gold, found), probabilities)| MultiLabelAnswer {
            gold: ids(gold, &classes),
            predicted: ids(found, &classes),
            probabilities,
        });
        each.push(all.collect());
    }
    let drawn = Drawn::<MultiLabelAnswer>::of_systems(each);
    let scores = |totals: &[usize]| drawn.scores_of(totals, classes.names());
    let whole = scores(&drawn.tally(0).totals()).map_err(TrainError::from)?;
    report(
        args,
        files,
        resampling,
        [drawn.tally(0), drawn.tally(1)],
        // The same answers were scored above.
        |totals| scores(totals).map_or_else(|_| Vec::new(), |scores| scores.metrics()),
        Scores::MultiLabel(whole),
    )
}

/// Scores numbers in the same way.
fn score_numbers(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    [gold, systems @ ..]: [&Vec<LabelAnswer>; 3],
) -> Result<Report> {
    let number = |answer: &LabelAnswer| match answer.label {
        TextLabel::Number(number) => f64::from(number),
        _ => f64::NAN,
    };
    let each = systems.map(|system| {
        let both = gold.iter().zip(system);
        let both = both.map(|(gold, found)| [number(gold), number(found)]);
        both.collect::<Vec<[f64; 2]>>()
    });
    let drawn = Drawn::<[f64; 2]>::of_systems(each);
    let scores = |totals: &[usize]| drawn.scores_of(totals);
    let whole = scores(&drawn.tally(0).totals()).map_err(TrainError::from)?;
    report(
        args,
        files,
        resampling,
        [drawn.tally(0), drawn.tally(1)],
        |totals| scores(totals).map_or_else(|_| Vec::new(), |scores| scores.metrics()),
        Scores::Regression(whole),
    )
}

/// Resamples as asked. `metrics` turns sums of the tallies' counts into scores.
fn report(
    args: &ScoreArgs,
    files: &Files,
    resampling: &Resampling,
    [tally, other]: [&Tally; 2],
    metrics: impl Fn(&[usize]) -> Metrics,
    scores: Scores,
) -> Result<Report> {
    let values = |totals: &[usize]| -> Vec<f64> {
        let metrics = metrics(totals);
        metrics.into_iter().map(|(_, value)| value).collect()
    };
    let intervals = args
        .bootstrap
        .map(|_| bootstrap(tally, resampling, values))
        .transpose()
        .map_err(TrainError::from)?;
    let comparison = files
        .other
        .as_ref()
        .map(|_| compare(tally, other, resampling, values))
        .transpose()
        .map_err(TrainError::from)?;
    Ok(Report {
        scores,
        metrics: metrics(&tally.totals()),
        coverage: files.coverage,
        intervals,
        comparison: comparison.map(|rows| (metrics(&other.totals()), rows)),
    })
}

fn object(report: &Report, files: &Files, resampling: &Resampling) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    object.insert("gold".into(), json!(files.gold.path));
    object.insert("pred".into(), json!(files.pred.path));
    object.insert("examples".into(), json!(files.examples()));
    if let Some(coverage) = report.coverage {
        object.extend(coverage::fields(coverage, Value::Null));
    }
    if let Value::Object(scores) = serde_json::to_value(&report.scores)? {
        object.extend(scores);
    }
    let header = || -> Map<String, Value> {
        let header = [
            ("level", json!(resampling.level)),
            ("samples", json!(resampling.samples)),
            ("seed", json!(resampling.seed)),
        ];
        header
            .map(|(key, value)| (key.into(), value))
            .into_iter()
            .collect()
    };
    if let Some(intervals) = &report.intervals {
        let mut confidence = header();
        for ((name, _), interval) in report.metrics.iter().zip(intervals) {
            confidence.insert((*name).into(), json!(interval));
        }
        object.insert("confidence".into(), confidence.into());
    }
    if let (Some((metrics, rows)), Some(other)) = (&report.comparison, &files.other) {
        let mut comparison = header();
        comparison.insert("other".into(), json!(other.path));
        let scores = report.metrics.iter().zip(metrics).zip(rows);
        for (((name, score), (_, other)), row) in scores {
            let mut values = Map::new();
            values.insert("score".into(), json!(score));
            values.insert("other".into(), json!(other));
            if let Value::Object(row) = json!(row) {
                values.extend(row);
            }
            comparison.insert((*name).into(), values.into());
        }
        object.insert("comparison".into(), comparison.into());
    }
    Ok(object)
}

fn text(
    out: &mut impl Write,
    report: &Report,
    files: &Files,
    resampling: &Resampling,
) -> Result<()> {
    if let Some(coverage) = report.coverage {
        let problem = match files.gold.answers {
            Answers::Labels(_) => Problem::SingleLabel,
            Answers::Tags(_) => Problem::Tags(Some(TagKind::Labels)),
        };
        writeln!(out, "{}", coverage::line(problem, coverage, ""))?;
    }
    match &report.scores {
        Scores::Spans(scores) => write!(out, "{}", span_report(scores))?,
        scores => table(out, scores)?,
    }
    let Resampling {
        samples,
        seed,
        level,
    } = resampling;
    let width = report.metrics.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default();
    if let Some(intervals) = &report.intervals {
        writeln!(
            out,
            "\nintervals of level {level} from {samples} resamples, seed {seed}"
        )?;
        writeln!(out, "{:width$}    score      low     high", "")?;
        for ((name, score), Interval { low, high }) in report.metrics.iter().zip(intervals) {
            writeln!(out, "{name:width$}  {score:7.4}  {low:7.4}  {high:7.4}")?;
        }
    }
    if let (Some((metrics, rows)), Some(other)) = (&report.comparison, &files.other) {
        let path = other.path.display();
        writeln!(
            out,
            "\ncompared with {path}: intervals of level {level} and p from {samples} resamples, seed {seed}"
        )?;
        writeln!(
            out,
            "{:width$}    score    other  difference      low     high       p",
            ""
        )?;
        for (((name, score), (_, other)), row) in report.metrics.iter().zip(metrics).zip(rows) {
            let Comparison {
                difference,
                low,
                high,
                p_value,
            } = row;
            writeln!(
                out,
                "{name:width$}  {score:7.4}  {other:7.4}     {difference:7.4}  {low:7.4}  {high:7.4}  {p_value:6.4}"
            )?;
        }
    }
    Ok(())
}
