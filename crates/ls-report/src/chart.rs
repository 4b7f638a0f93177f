//! Charts as SVG within the page: curves, histograms, reliability and scatter. Colours and sizes of
//! letters are the style sheet's; a chart has a title and a sentence that says what it shows.

use crate::calibration::Reliability;
use crate::html::{Element, Markup, el};
use crate::numbers::tick;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
/// Room for the ticks' letters.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;
/// Most points of a curve.
const POINTS: usize = 400;
/// Most points of a scatter.
const SCATTERED: usize = 4000;

/// A curve.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// In the order of their first values.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether each point is marked.
    pub(crate) marked: bool,
}

/// The range of an axis, and how it is drawn.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// From the values' least to their largest, widened where these are one.
    fn of(values: impl Iterator<Item = f64>, [from, to]: [f64; 2]) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-12 * high.abs().max(1e-300) {
            let around = if high == 0.0 { 1.0 } else { high.abs() / 2.0 };
            (low, high) = (low - around, high + around);
        }
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values, at most six.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        let step = step.into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let ticks = (first..first + 12).map(|at| at as f64 * step);
        ticks
            .take_while(|value| *value <= self.high + step * 1e-9)
            .collect()
    }
}

/// A chart that has axes and nothing in it yet.
struct Frame {
    x: Axis,
    y: Axis,
    inner: Vec<Element>,
}

fn decimals(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(String::from).unwrap_or(text)
}

impl Frame {
    fn new(x: Axis, y: Axis, [below, beside]: [&str; 2]) -> Self {
        let mut inner = Vec::new();
        for value in y.ticks() {
            let at = decimals(y.place(value));
            let line = el("path").attr("class", "grid");
            inner.push(line.attr("d", format!("M{LEFT} {at}H{}", WIDTH - RIGHT)));
            let letters = el("text").attr("x", LEFT - 6.0).attr("y", &at);
            let letters = letters
                .attr("text-anchor", "end")
                .attr("dominant-baseline", "central");
            inner.push(letters.text(tick(value)));
        }
        for value in x.ticks() {
            let letters = el("text").attr("x", decimals(x.place(value)));
            let letters = letters.attr("y", HEIGHT - BOTTOM + 15.0);
            inner.push(letters.attr("text-anchor", "middle").text(tick(value)));
        }
        let axes = format!("M{LEFT} {TOP}V{}H{}", HEIGHT - BOTTOM, WIDTH - RIGHT);
        inner.push(el("path").attr("class", "axis").attr("d", axes));
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let name = el("text")
            .attr("class", "axis-name")
            .attr("text-anchor", "middle");
        inner.push(
            name.clone()
                .attr("x", middle)
                .attr("y", HEIGHT - 5.0)
                .text(below),
        );
        let turned = format!(
            "translate(11 {}) rotate(-90)",
            (TOP + HEIGHT - BOTTOM) / 2.0
        );
        inner.push(name.attr("transform", turned).text(beside));
        Self { x, y, inner }
    }

    fn push(&mut self, element: Element) {
        self.inner.push(element);
    }

    /// The chart in a figure: `title` above it, `says` for those who do not see it.
    fn figure(self, title: &str, says: &str, legend: Vec<Element>) -> Markup {
        let svg = el("svg").attr("viewBox", format!("0 0 {WIDTH} {HEIGHT}"));
        let svg = svg.attr("role", "img").attr("aria-label", says);
        let mut figure = el("figure").child(el("figcaption").text(title));
        figure = figure.child(svg.children(self.inner));
        if !legend.is_empty() {
            figure = figure.child(el("ul").class("legend").children(legend));
        }
        figure.into()
    }
}

const ACROSS: [f64; 2] = [LEFT, WIDTH - RIGHT];
const UPWARD: [f64; 2] = [HEIGHT - BOTTOM, TOP];

/// The mean of as many neighbours as make a curve one of [`POINTS`] points.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let count = part.len() as f64;
        let sum = part
            .iter()
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(each).map(mean).collect()
}

/// Curves over the same axis.
pub(crate) fn curves(title: &str, below: &str, beside: &str, curves: &[Curve]) -> Markup {
    let drawn: Vec<Vec<(f64, f64)>> = curves
        .iter()
        .map(|curve| {
            let finite = curve.points.iter().filter(|(_, y)| y.is_finite());
            thinned(&finite.copied().collect::<Vec<_>>())
        })
        .collect();
    let points = || drawn.iter().flatten();
    let mut frame = Frame::new(
        Axis::of(points().map(|point| point.0), ACROSS),
        Axis::of(points().map(|point| point.1), UPWARD),
        [below, beside],
    );
    let (mut legend, mut said) = (Vec::new(), Vec::new());
    for (at, (curve, points)) in curves.iter().zip(&drawn).enumerate() {
        let class = if at == 0 { "one" } else { "two" };
        let place = |point: &(f64, f64)| (frame.x.place(point.0), frame.y.place(point.1));
        let places: Vec<(f64, f64)> = points.iter().map(place).collect();
        let path = places.iter().enumerate().map(|(at, (x, y))| {
            let letter = if at == 0 { "M" } else { "L" };
            format!("{letter}{} {}", decimals(*x), decimals(*y))
        });
        let path: String = path.collect();
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let ends = [first.1, last.1].map(|value| format!("{value:.4}"));
            said.push(format!("{} from {} to {}", curve.name, ends[0], ends[1]));
        }
        frame.push(
            el("path")
                .attr("class", format!("curve {class}"))
                .attr("d", path),
        );
        if curve.marked {
            for (x, y) in places {
                let mark = el("circle")
                    .attr("class", format!("mark {class}"))
                    .attr("r", 2.5);
                frame.push(mark.attr("cx", decimals(x)).attr("cy", decimals(y)));
            }
        }
        if curves.len() > 1 {
            let swatch = el("span").attr("class", format!("swatch {class}"));
            legend.push(el("li").child(swatch).text(curve.name));
        }
    }
    let says = format!("{title}: {}", said.join("; "));
    frame.figure(title, &says, legend)
}

/// Bars from left to right, `width` values each, the first from `start` on.
pub(crate) fn histogram(
    title: &str,
    below: &str,
    start: f64,
    width: f64,
    bars: &[usize],
) -> Markup {
    let most = bars.iter().copied().max().unwrap_or(0);
    let end = start + width * bars.len() as f64;
    let mut frame = Frame::new(
        Axis::of([start, end].into_iter(), ACROSS),
        Axis::of([0.0, most as f64].into_iter(), UPWARD),
        [below, "count"],
    );
    for (at, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
        let [from, to] = [at, at + 1].map(|at| start + width * at as f64);
        let [left, right] = [from, to].map(|value| frame.x.place(value));
        let top = frame.y.place(*count as f64);
        let bar = el("rect").attr("class", "bar").attr("x", decimals(left));
        let bar = bar
            .attr("y", decimals(top))
            .attr("width", decimals((right - left - 1.0).max(0.5)));
        let bar = bar.attr("height", decimals(HEIGHT - BOTTOM - top));
        let says = format!("{} to {}: {count}", tick(from), tick(to));
        frame.push(bar.child(el("title").text(says)));
    }
    let total: usize = bars.iter().sum();
    let says = format!(
        "{title}: {total} in {} bars, {most} in the highest",
        bars.len()
    );
    frame.figure(title, &says, Vec::new())
}

/// How often answers are right by how sure they are; the diagonal is what they promise.
pub(crate) fn reliability(title: &str, reliability: &Reliability) -> Markup {
    let unit = |to| Axis::of([0.0, 1.0].into_iter(), to);
    let names = ["how sure the answers are", "part that is right"];
    let mut frame = Frame::new(unit(ACROSS), unit(UPWARD), names);
    let bins = reliability.bins.len() as f64;
    let mut said = Vec::new();
    for (at, bin) in reliability
        .bins
        .iter()
        .enumerate()
        .filter(|(_, bin)| bin.count > 0)
    {
        let [left, right] = [at, at + 1].map(|at| frame.x.place(at as f64 / bins));
        let top = frame.y.place(bin.right);
        let bar = el("rect").attr("class", "bar").attr("x", decimals(left));
        let bar = bar
            .attr("y", decimals(top))
            .attr("width", decimals(right - left - 1.0));
        let bar = bar.attr("height", decimals(HEIGHT - BOTTOM - top));
        let says = format!(
            "sure by {:.2}: {:.2} of {} right",
            bin.confidence, bin.right, bin.count
        );
        frame.push(bar.child(el("title").text(&says)));
        let (x, y) = (frame.x.place(bin.confidence), frame.y.place(bin.right));
        let mark = el("circle").attr("class", "mark two").attr("r", 2.5);
        frame.push(mark.attr("cx", decimals(x)).attr("cy", decimals(y)));
        said.push(says);
    }
    let [x, y] = [frame.x, frame.y].map(|axis| [0.0, 1.0].map(|end| decimals(axis.place(end))));
    let diagonal = format!("M{} {}L{} {}", x[0], y[0], x[1], y[1]);
    frame.push(el("path").attr("class", "diagonal").attr("d", diagonal));
    let says = format!("{title}: {}", said.join("; "));
    frame.figure(title, &says, Vec::new())
}

/// Points, and the diagonal on which both values are the same.
pub(crate) fn scatter(title: &str, below: &str, beside: &str, points: &[(f64, f64)]) -> Markup {
    let both = || points.iter().flat_map(|point| [point.0, point.1]);
    let (x, y) = (Axis::of(both(), ACROSS), Axis::of(both(), UPWARD));
    let mut frame = Frame::new(x, y, [below, beside]);
    let [low, high] = [x.low, x.high].map(|end| [x.place(end), y.place(end)].map(decimals));
    let diagonal = format!("M{} {}L{} {}", low[0], low[1], high[0], high[1]);
    frame.push(el("path").attr("class", "diagonal").attr("d", diagonal));
    let each = points.len().div_ceil(SCATTERED).max(1);
    // A line of no length with round ends is a point.
    let dots = points.iter().step_by(each);
    let dots = dots.map(|(at, value)| {
        format!(
            "M{} {}h0",
            decimals(x.place(*at)),
            decimals(y.place(*value))
        )
    });
    let dots: String = dots.collect();
    frame.push(el("path").attr("class", "dots").attr("d", dots));
    let title = match each {
        1 => title.to_string(),
        each => format!("{title} (one of {each} shown)"),
    };
    let says = format!("{title}: {} points", points.len());
    frame.figure(&title, &says, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(low: f64, high: f64) -> Axis {
        Axis::of([low, high].into_iter(), [0.0, 100.0])
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(
            axis(0.0, 1.0).ticks(),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(axis(3.0, 47.0).ticks(), [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(axis(-2.0, 2.0).ticks(), [-2.0, -1.0, 0.0, 1.0, 2.0]);
        for (low, high) in [(5.0, 5.0), (0.0, 0.0), (f64::NAN, f64::NAN), (1e-9, 2e-9)] {
            let axis = axis(low, high);
            let ticks = axis.ticks();
            assert!((2..=6).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            assert!(
                ticks
                    .iter()
                    .all(|value| (-0.1..=100.1).contains(&axis.place(*value)))
            );
        }
    }

    #[test]
    fn long_curves_are_thinned_by_means() {
        let points: Vec<(f64, f64)> = (0..1000).map(|at| (f64::from(at), 1.0)).collect();
        let found = thinned(&points);
        assert_eq!(found.len(), 334);
        assert_eq!(found[0], (1.0, 1.0));
        assert_eq!(thinned(&points[..3]), points[..3]);
        assert!(thinned(&[]).is_empty());
    }

    #[test]
    fn a_chart_without_a_number_is_drawn() {
        let nothing = [Curve {
            name: "loss",
            points: vec![(1.0, f64::NAN)],
            marked: true,
        }];
        let text = curves("Loss", "step", "loss", &nothing).into_string();
        assert!(text.contains("<svg") && !text.contains("NaN"), "{text}");
        let text = histogram("Lengths", "tokens", 0.0, 1.0, &[]).into_string();
        assert!(!text.contains("NaN"), "{text}");
        let text = scatter("a", "b", "c", &[]).into_string();
        assert!(!text.contains("NaN"), "{text}");
    }
}
