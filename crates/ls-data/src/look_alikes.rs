//! Labels that look the same: most likely one class that was written in two ways.

use std::collections::BTreeMap;

/// The labels, each with its count, that differ from another only by case, by white space, or as
/// numbers are written (`1` and `1.0`): a list for each such class, in the order given.
///
/// ```
/// use ls_data::look_alikes;
///
/// let labels = [("Good", 3), ("bad", 2), ("good", 1), ("1", 1), ("1.0", 4)];
/// assert_eq!(look_alikes(labels), [vec![("1", 1), ("1.0", 4)], vec![("Good", 3), ("good", 1)]]);
/// assert!(look_alikes([("B-PER", 1), ("I-PER", 1), ("O", 9)]).is_empty());
/// ```
pub fn look_alikes<'a>(
    labels: impl IntoIterator<Item = (&'a str, usize)>,
) -> Vec<Vec<(&'a str, usize)>> {
    let mut alike: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for (label, count) in labels {
        alike.entry(looks(label)).or_default().push((label, count));
    }
    alike.into_values().filter(|same| same.len() > 1).collect()
}

/// What a label looks like.
fn looks(label: &str) -> String {
    let words: Vec<&str> = label.split_whitespace().collect();
    let label = words.join(" ").to_lowercase();
    match label.parse::<f64>() {
        // Not the names `inf` and `nan`.
        Ok(number) if number.is_finite() => number.to_string(),
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[&str], expected: usize) {
        let counted = labels.iter().map(|label| (*label, 1));
        assert_eq!(look_alikes(counted).len(), expected, "{labels:?}");
    }

    #[test]
    fn only_spellings_of_one_class_look_the_same() {
        check(&["ÉTÉ", "été"], 1);
        check(&["a ", "a"], 1);
        check(&["a  b", "a b", "A B"], 1);
        check(&["01", "1", "1e0"], 1);
        check(&["-1", "1"], 0);
        check(&["inf", "nan", "NAN"], 1);
        check(&["ab", "a b"], 0);
        check(&["1", "1.5", "10"], 0);
    }
}
