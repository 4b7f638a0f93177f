//! Confident learning against numpy and cleanlab (`fixtures/make.py`).

use ls_report::ConfidentJoint;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    given: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
    thresholds: Vec<Option<f64>>,
    counts: Vec<Vec<usize>>,
    suspects: Vec<(usize, usize)>,
    estimated_errors: f64,
    cleanlab_counts: Option<Vec<Vec<usize>>>,
    cleanlab_issues: Option<Vec<usize>>,
}

#[test]
fn likely_label_errors_are_those_of_numpy_and_cleanlab() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("fixtures/label_errors.json")).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let found = ConfidentJoint::new(&case.given, &case.probabilities);
        for (found, expected) in found.thresholds.iter().zip(&case.thresholds) {
            let (found, expected) = (found.unwrap(), expected.unwrap());
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(found.counts, case.counts);
        assert_eq!(found.suspects, case.suspects);
        let estimated = found.estimated_errors(&case.given);
        assert!((estimated - case.estimated_errors).abs() < 1e-9);
        if let Some(counts) = case.cleanlab_counts {
            assert_eq!(found.counts, counts);
        }
        if let Some(mut issues) = case.cleanlab_issues {
            let mut numbers: Vec<usize> = found.suspects.iter().map(|one| one.0).collect();
            issues.sort_unstable();
            numbers.sort_unstable();
            assert_eq!(numbers, issues);
        }
    }
}
