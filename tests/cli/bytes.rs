//! Any bytes in the files of a model and a run give a value or an error: the stored seeds of the
//! fuzz targets, and inputs made from them.

use crate::any_bytes::TARGETS;
use crate::smoke::smoke;

#[test]
fn any_bytes_of_a_model_and_a_run_give_a_value_or_an_error() {
    smoke(TARGETS);
}
