//! Whether a file that nobody named can be a split to score by.

use std::path::Path;

use ls_data::{DataError, TaskKind};

use crate::config::{Files, RunConfig};
use crate::error::{Result, TrainError};
use crate::sources::Sources;

/// What a look at the first rows ends with.
enum Seen {
    Labelled,
    Refused(TrainError),
}

impl From<DataError> for Seen {
    fn from(error: DataError) -> Self {
        Self::Refused(error.into())
    }
}

/// Why a file is no labelled split that is read as the configuration says, if it is none: it has no
/// such column (as the test files of competitions have no labels), or no row with a label. It is
/// read up to the first that has one.
///
/// # Errors
///
/// If its format is not known.
pub fn not_labelled(config: &RunConfig, file: &Path) -> Result<Option<TrainError>> {
    let mut config = config.clone();
    config.data.train = Some(Files::One(file.to_path_buf()));
    (config.data.validation, config.data.test) = (None, None);
    let mut split = Sources::of(&config)?.train.split;
    split.bad_rows.skip = true;
    let seen = match config.task {
        TaskKind::Sequence => split.for_each_sequence(|_, _, row| match row.label {
            Some(_) => Err(Seen::Labelled),
            None => Ok(()),
        }),
        TaskKind::Token => split.for_each_words(|_, _, row| match row.tags {
            Some(_) => Err(Seen::Labelled),
            None => Ok(()),
        }),
    };
    Ok(match seen {
        Err(Seen::Labelled) => None,
        Err(Seen::Refused(error)) => Some(error),
        Ok(()) => Some(
            DataError::Empty {
                path: file.to_path_buf(),
            }
            .into(),
        ),
    })
}
