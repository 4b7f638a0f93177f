//! The known name nearest to a misspelt one, and the key that a guessed one stands for.

/// Bytes of the longest name. Comparing two takes as long as their lengths multiplied, and a name
/// of megabytes is nobody's misspelling.
const LONGEST: usize = 1 << 10;

/// The candidate that `word` is most likely a misspelling of, if any is close: at most a third of
/// its letters differ. Case does not count.
///
/// ```
/// let names = ["sst2", "sst5", "agnews"];
/// assert_eq!(ls_files::nearest("ag-news", names).as_deref(), Some("agnews"));
/// assert_eq!(ls_files::nearest("imdb", names), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| {
            (
                strsim::damerau_levenshtein(&word, &name.to_lowercase()),
                name,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_string())
}

/// The candidate that is most like `word`, if any is much alike: for keys, which people guess and
/// shorten as well as misspell. Common beginnings count most (Jaro-Winkler over 0.75).
///
/// ```
/// let keys = ["learning_rate", "micro_batch_size", "warmup_ratio"];
/// assert_eq!(ls_files::similar("warmup", keys).as_deref(), Some("warmup_ratio"));
/// assert_eq!(ls_files::similar("nonsense", keys), None);
/// ```
pub fn similar<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if word.len() > LONGEST {
        return None;
    }
    candidates
        .into_iter()
        .map(|name| (strsim::jaro_winkler(name, word), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_string())
}

/// The way out at the end of a message: `; did you mean ...?`, or nothing.
pub fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_is_found_and_nothing_far_away() {
        let check = |word: &str, names: &[&str], expected: Option<&str>| {
            assert_eq!(nearest(word, names.iter().copied()).as_deref(), expected);
        };
        let columns = ["sentence", "label", "idx"];
        check("sentense", &columns, Some("sentence"));
        check("Label", &columns, Some("label"));
        check("text", &columns, None);
        let models = ["llama-2-7b", "qwen2.5-0.5b"];
        check("llama2-7b", &models, Some("llama-2-7b"));
        check("qwen2.5-05b", &models, Some("qwen2.5-0.5b"));
        check("bert", &models, None);
        assert_eq!(did_you_mean(&None), "");
        let long = "sentence".repeat(1 << 18);
        check(&long, &columns, None);
        check("sentense", &[&long, "sentence"], Some("sentence"));
        assert_eq!(similar(&long, columns), None);
    }
}
