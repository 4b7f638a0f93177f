//! Numbers and keys for people.

use ls_data::Interval;

/// An interval in words.
pub(crate) fn between(interval: Interval) -> String {
    format!("{} to {}", score(interval.low), score(interval.high))
}

/// With so many decimals as scores have, and fewer of large ones, as of errors of large numbers.
pub fn score(value: f64) -> String {
    match value {
        value if value.is_nan() => "not a number".into(),
        value if value.abs() >= 1e7 => format!("{value:.3e}"),
        value if value.abs() >= 1000.0 => format!("{value:.1}"),
        value => format!("{value:.4}"),
    }
}

/// The same with its sign.
pub fn signed(value: f64) -> String {
    let sign = if value < 0.0 { "\u{2212}" } else { "+" };
    format!("{sign}{}", score(value.abs()))
}

/// A count with thousands apart.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A part of 1 as a percentage.
pub(crate) fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

/// Bytes, as `1.5 GB`.
pub fn bytes(value: u64) -> String {
    match value as f64 {
        value if value >= 1e9 => format!("{:.1} GB", value / 1e9),
        value if value >= 1e6 => format!("{:.0} MB", value / 1e6),
        value => format!("{:.0} kB", value / 1e3),
    }
}

/// Seconds with a part, minutes and seconds, or hours and minutes: what took its time. A clock's
/// `0:00` says nothing of what is short.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Below it a p value may have become 0, or lost digits: numbers end soon.
const LEAST_P: f64 = 1e-300;

/// A p value: how likely a difference is by chance.
pub fn p_value(p: f64) -> String {
    if p < LEAST_P {
        format!("< {LEAST_P:e}")
    } else if p < 0.0005 {
        format!("{p:.1e}")
    } else {
        format!("{p:.3}")
    }
}

/// A tick of an axis: no digits that say nothing, such as those that multiplying leaves.
pub(crate) fn tick(value: f64) -> String {
    let value = format!("{value:.5e}").parse().unwrap_or(value);
    match value.abs() {
        0.0 => "0".into(),
        1e-3..1e5 => format!("{value}"),
        _ => format!("{value:e}"),
    }
}

/// What a score is called.
pub fn title(key: &str) -> String {
    let known = match key {
        "accuracy" => "Accuracy",
        "mcc" => "Matthews correlation",
        "log_loss" => "Log-loss",
        "ece" => "Calibration error (ECE)",
        "subset_accuracy" => "Accuracy of whole label sets",
        "average_precision_macro" => "Mean average precision",
        "average_precision_micro" => "Average precision (micro)",
        "pearson" => "Pearson correlation",
        "spearman" => "Spearman correlation",
        "mae" => "Mean absolute error",
        "mse" => "Mean squared error",
        "token_accuracy" => "Accuracy of words",
        "loss" => "Loss",
        _ => "",
    };
    if !known.is_empty() {
        return known.into();
    }
    let (spans, rest) = match key.strip_prefix("span_") {
        Some(rest) => ("Span ", rest),
        None => ("", key),
    };
    let (name, mean) = rest.rsplit_once('_').unwrap_or((rest, ""));
    let name = match name {
        "f1" => "F1",
        other => other,
    };
    let mut title = match mean {
        "" => format!("{spans}{name}"),
        mean => format!("{spans}{name} ({mean})"),
    };
    if let Some(first) = title.get(..1) {
        let first = first.to_uppercase();
        title.replace_range(..1, &first);
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_what_they_can() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((count(0), count(999)), ("0".into(), "999".into()));
        assert_eq!(tick(0.25), "0.25");
        let steps = [3.0 * 2e-4, 3.0 * 0.1, -7.0 * 0.1, 123_450.0, 1e300, -0.0];
        assert_eq!(
            steps.map(tick),
            ["6e-4", "0.3", "-0.7", "1.2345e5", "1e300", "0"]
        );
        let large = [27_833_376_351.464, -1e7, 9_999_999.0, 1000.0].map(score);
        assert_eq!(large, ["2.783e10", "-1.000e7", "9999999.0", "1000.0"]);
        assert_eq!(
            (tick(100.0), tick(1e-5), tick(-0.5)),
            ("100".into(), "1e-5".into(), "-0.5".into())
        );
        assert_eq!(
            (signed(-0.1), signed(0.0)),
            ("\u{2212}0.1000".into(), "+0.0000".into())
        );
        assert_eq!(
            (duration(59.4), duration(59.94)),
            ("59.4 s".into(), "1 min 0 s".into())
        );
        let p = [0.999e-3, 0.0004, 1.0, 0.0, 1e-310, 2e-300].map(p_value);
        let expected = [
            "0.001", "4.0e-4", "1.000", "< 1e-300", "< 1e-300", "2.0e-300",
        ];
        assert_eq!(p, expected);
        assert_eq!(
            (duration(61.0), duration(7260.0)),
            ("1 min 1 s".into(), "2 h 1 min".into())
        );
    }

    #[test]
    fn keys_have_titles() {
        for (key, expected) in [
            ("span_f1_micro", "Span F1 (micro)"),
            ("precision_macro", "Precision (macro)"),
            ("recall_weighted", "Recall (weighted)"),
            ("mcc", "Matthews correlation"),
            ("ünknown", "ünknown"),
        ] {
            assert_eq!(title(key), expected);
        }
    }
}
