//! The mistakes that the model is surest of, with their texts; of taggers with the spans of the
//! data and those found.

use std::cmp::Ordering;

use ls_data::{LabelSet, Span, decode_spans, locate_words, shown_type};

use super::parts::{Section, missing, passage};
use crate::answers::{Answers, ClassAnswer, LabelsAnswer, NumberAnswer, TagsAnswer, Text};
use crate::folder::Run;
use crate::html::{Element, Markup, el};
use crate::mistakes::{Mistake, mistakes};
use crate::numbers::{count, score, signed};

/// Most that are shown.
const SHOWN: usize = 50;
/// Words that are shown on each side of what is marked.
const AROUND: usize = 25;

/// The section.
pub(super) fn section(run: &Run) -> Section {
    let body = match (&run.answers, &run.settings) {
        (Some(answers), Some(settings)) => match answers {
            Answers::Classes(answers) => classes(answers, &settings.labels),
            Answers::Labels(answers) => labels(answers, &settings.labels),
            Answers::Numbers(answers) => numbers(answers),
            Answers::Spans(answers) => spans(answers),
            Answers::Words(answers) => words(answers),
        },
        _ => missing("The run folder has no predictions.jsonl."),
    };
    Section {
        id: "errors",
        title: "Errors",
        body,
    }
}

/// The surest first; what is not known to be sure last.
fn surest(a: Option<f64>, b: Option<f64>) -> Ordering {
    let value = |score: Option<f64>| score.unwrap_or(f64::NEG_INFINITY);
    value(b).total_cmp(&value(a))
}

/// How many there are, and the first of them.
fn listed<T>(what: &str, total: usize, all: &[T], case: impl Fn(&T) -> Element) -> Markup {
    let (wrong, of) = (count(all.len() as u64), count(total as u64));
    let text = match all.len() {
        0 => format!("No {what} of {of} is wrong."),
        1..=SHOWN => format!("Wrong: {wrong} of {of} {what}s, the surest first."),
        _ => format!("Wrong: {wrong} of {of} {what}s. These are the {SHOWN} surest."),
    };
    let mut body: Vec<Markup> = vec![el("p").text(text).into()];
    if !all.is_empty() {
        let cases = all.iter().take(SHOWN).map(case);
        body.push(el("ol").class("cases").children(cases).into());
    }
    body.into_iter().collect()
}

fn texts(text: &Text) -> Vec<Element> {
    let pair = text.pair.as_deref().map(passage);
    [passage(&text.text)].into_iter().chain(pair).collect()
}

fn gold(name: &str) -> Element {
    el("bdi").class("gold").text(name)
}

fn found(name: &str) -> Element {
    el("bdi").class("found").text(name)
}

fn classes(answers: &[ClassAnswer], labels: &LabelSet) -> Markup {
    let mut wrong: Vec<&ClassAnswer> = answers.iter().filter(|one| one.gold != one.found).collect();
    wrong.sort_by(|a, b| surest(Some(a.scores[a.found]), Some(b.scores[b.found])));
    listed("text", answers.len(), &wrong, |one| {
        let verdict = el("p")
            .class("verdict")
            .text("found ")
            .child(found(labels.name(one.found)))
            .text(format!(" ({}), in the data ", score(one.scores[one.found])))
            .child(gold(labels.name(one.gold)))
            .text(format!(" ({})", score(one.scores[one.gold])));
        el("li").children(texts(&one.text)).child(verdict)
    })
}

fn labels(answers: &[LabelsAnswer], labels: &LabelSet) -> Markup {
    // Of each text its wrong decisions: the label, whether it was found, and how sure that was.
    type Wrong<'a> = (&'a LabelsAnswer, Vec<(usize, bool, f64)>);
    let each = answers.iter().filter_map(|one| -> Option<Wrong<'_>> {
        let wrong = (0..labels.names().len()).filter_map(|label| {
            let (holds, is_found) = (one.gold.contains(&label), one.found.contains(&label));
            let score = one.scores[label];
            let sure = if is_found { score } else { 1.0 - score };
            (holds != is_found).then_some((label, is_found, sure))
        });
        let wrong: Vec<_> = wrong.collect();
        (!wrong.is_empty()).then_some((one, wrong))
    });
    let mut wrong: Vec<Wrong<'_>> = each.collect();
    let most = |one: &Wrong<'_>| one.1.iter().map(|(_, _, sure)| *sure).fold(0.0, f64::max);
    wrong.sort_by(|a, b| surest(Some(most(a)), Some(most(b))));
    listed("text", answers.len(), &wrong, |(one, wrong)| {
        let verdicts = wrong.iter().map(|(label, is_found, _)| {
            let (name, value) = (labels.name(*label), score(one.scores[*label]));
            let verdict = el("p").class("verdict");
            if *is_found {
                verdict
                    .text("found ")
                    .child(found(name))
                    .text(format!(" ({value}), which the data do not have"))
            } else {
                verdict
                    .text("missed ")
                    .child(gold(name))
                    .text(format!(" ({value}), which the data have"))
            }
        });
        el("li").children(texts(&one.text)).children(verdicts)
    })
}

fn numbers(answers: &[NumberAnswer]) -> Markup {
    let off = |one: &NumberAnswer| one.found - one.gold;
    let mut furthest: Vec<&NumberAnswer> = answers.iter().filter(|one| off(one) != 0.0).collect();
    furthest.sort_by(|a, b| surest(Some(off(a).abs()), Some(off(b).abs())));
    let text = format!(
        "The {} of {} texts whose numbers are furthest off.",
        furthest.len().min(SHOWN),
        count(answers.len() as u64)
    );
    let cases = furthest.iter().take(SHOWN).map(|one| {
        let verdict = el("p")
            .class("verdict")
            .text("found ")
            .child(found(&score(one.found)))
            .text(", in the data ")
            .child(gold(&score(one.gold)))
            .text(format!(" ({})", signed(off(one))));
        el("li").children(texts(&one.text)).child(verdict)
    });
    let cases = el("ol").class("cases").children(cases.collect::<Vec<_>>());
    [el("p").text(text).into(), cases.into()]
        .into_iter()
        .collect()
}

fn spans(answers: &[TagsAnswer]) -> Markup {
    let wrong = answers.iter().map(|one| (one, mistakes(one)));
    let mut wrong: Vec<(&TagsAnswer, Vec<Mistake>)> =
        wrong.filter(|(_, mistakes)| !mistakes.is_empty()).collect();
    let most = |all: &[Mistake]| {
        let scores = all.iter().filter_map(|one| one.score);
        scores.reduce(f64::max)
    };
    wrong.sort_by(|a, b| surest(most(&a.1), most(&b.1)));
    listed("sentence", answers.len(), &wrong, |(one, mistakes)| {
        let verdicts = mistakes.iter().map(|mistake| verdict(one, mistake));
        let touched = mistakes
            .iter()
            .flat_map(|one| [Some(&one.span), one.gold.as_ref()]);
        let touched: Vec<&Span> = touched.flatten().collect();
        let first = touched.iter().map(|span| span.start).min().unwrap_or(0);
        let last = touched.iter().map(|span| span.end).max().unwrap_or(0);
        let shown = first.saturating_sub(AROUND)..(last + AROUND).min(one.words.len());
        el("li")
            .child(line(
                "data",
                one,
                &decode_spans(&one.gold),
                &shown,
                "of-gold",
            ))
            .child(line(
                "found",
                one,
                &decode_spans(&one.found),
                &shown,
                "of-found",
            ))
            .children(verdicts.collect::<Vec<_>>())
    })
}

fn verdict(one: &TagsAnswer, mistake: &Mistake) -> Element {
    let words = |span: &Span| one.words[span.start..span.end].join(" ");
    let kind = |span: &Span| shown_type(&span.entity_type).to_string();
    let sure = mistake.score.map(|value| format!(" ({})", score(value)));
    let verdict = el("p")
        .class("verdict")
        .text(mistake.fault.name())
        .text(": ");
    let span = &mistake.span;
    let verdict = verdict
        .data(words(span))
        .text(" ")
        .child(match mistake.fault {
            crate::mistakes::Fault::Missed => gold(&kind(span)),
            _ => found(&kind(span)),
        });
    let verdict = verdict.text(sure.unwrap_or_default());
    match &mistake.gold {
        Some(span) => verdict
            .text(", in the data ")
            .data(words(span))
            .text(" ")
            .child(gold(&kind(span))),
        None => verdict,
    }
}

/// The words of a sentence with spans marked.
fn line(
    name: &'static str,
    one: &TagsAnswer,
    spans: &[Span],
    shown: &std::ops::Range<usize>,
    class: &'static str,
) -> Element {
    let between = gaps(one);
    let mut words = el("bdi").attr("dir", "auto");
    if shown.start > 0 {
        words = words.text("… ");
    }
    let mut at = shown.start;
    while at < shown.end {
        let span = spans.iter().find(|span| span.start <= at && at < span.end);
        let end = span.map_or(at + 1, |span| span.end).min(shown.end);
        words = match span {
            Some(span) => {
                let mut mark = with_word(el("mark").class(class), &one.words[at]);
                for (gap, word) in between[at..].iter().zip(&one.words[at + 1..end]) {
                    mark = with_word(with_word(mark, gap), word);
                }
                words.child(mark.child(el("small").data(shown_type(&span.entity_type))))
            }
            None => with_word(words, &one.words[at]),
        };
        if end < shown.end {
            words = with_word(words, &between[end - 1]);
        }
        at = end;
    }
    if shown.end < one.words.len() {
        words = words.text(" …");
    }
    let name = el("span").text(name);
    el("p")
        .class("line")
        .child(name)
        .child(el("span").child(words))
}

/// The element with a word behind its content. One that turns the direction of writing is isolated,
/// or it would turn all that follows; others are not, since words of one language that stand among
/// those of another keep their order only together.
fn with_word(element: Element, word: &str) -> Element {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if word.contains(turns) {
        element.data(word)
    } else {
        element.text(word)
    }
}

/// What stands behind each word: what the text has there, else a space.
fn gaps(one: &TagsAnswer) -> Vec<String> {
    let text = one.text.as_deref();
    let places = text.and_then(|text| Some((text, locate_words(text, &one.words)?)));
    let Some((text, places)) = places else {
        return vec![" ".into(); one.words.len()];
    };
    let letters: Vec<char> = text.chars().collect();
    let ends = places.iter().map(|place| place.1);
    let starts = places.iter().skip(1).map(|place| place.0);
    let starts = starts.chain([letters.len()]);
    ends.zip(starts)
        .map(|(from, to)| letters[from..to].iter().collect())
        .collect()
}

fn words(answers: &[TagsAnswer]) -> Markup {
    let each = answers.iter().flat_map(|one| {
        let words = 0..one.words.len();
        let wrong = words.filter(|at| one.gold[*at] != one.found[*at]);
        wrong.map(move |at| (one, at))
    });
    let mut wrong: Vec<(&TagsAnswer, usize)> = each.collect();
    wrong.sort_by(|a, b| surest(a.0.scores[a.1], b.0.scores[b.1]));
    let total = answers.iter().map(|one| one.words.len()).sum();
    listed("word", total, &wrong, |(one, at)| {
        let span = |tag: &str| Span {
            entity_type: tag.into(),
            start: *at,
            end: at + 1,
        };
        let shown = at.saturating_sub(AROUND)..(at + AROUND).min(one.words.len());
        let sure = one.scores[*at].map(|value| format!(" ({})", score(value)));
        let verdict = el("p")
            .class("verdict")
            .text("found ")
            .child(found(&one.found[*at]))
            .text(format!("{}, in the data ", sure.unwrap_or_default()))
            .child(gold(&one.gold[*at]));
        el("li")
            .child(line(
                "found",
                one,
                &[span(&one.found[*at])],
                &shown,
                "of-found",
            ))
            .child(verdict)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_turns_the_direction_of_writing_does_so_alone() {
        let words = ["\u{202e}gnp", "שלום", "new", "\u{2067}york", "<b>"];
        let one = TagsAnswer {
            text: None,
            words: words.map(String::from).to_vec(),
            gold: vec!["O".into(); 5],
            found: vec!["O".into(); 5],
            scores: vec![None; 5],
            untempered: vec![None; 5],
        };
        let span = Span {
            entity_type: "LOC".into(),
            start: 2,
            end: 4,
        };
        let line = Markup::from(line("data", &one, &[span], &(0..5), "of-gold"));
        assert_eq!(
            line.into_string(),
            "<p class=\"line\"><span>data</span><span><bdi dir=\"auto\">\
             <bdi>\u{202e}gnp</bdi> שלום <mark class=\"of-gold\">new <bdi>\u{2067}york</bdi>\
             <small><bdi>LOC</bdi></small></mark> &lt;b&gt;</bdi></span></p>"
        );
    }
}
