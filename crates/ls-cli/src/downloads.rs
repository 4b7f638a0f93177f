//! [`Downloads`]: what is seen of a fetch from the Hub.

use std::sync::{Mutex, PoisonError};

use ls_hub::Event;
use serde_json::json;
use tracing::Level;

use crate::screen::{Fields, fields, screen};
use crate::task::{Task, Unit};

/// Says the events of a fetch, which come from several threads, and shows all its files as one task
/// of bytes.
#[derive(Default)]
pub struct Downloads(Mutex<Option<Task>>);

impl Downloads {
    /// Hears an event.
    pub fn hear(&self, event: &Event<'_>) {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = event.words() {
            screen().tell(Level::INFO, "download", &words, || of_event(event));
        }
        match event {
            Event::Plan { at, missing, .. } => {
                *task = None;
                if *missing > 0 {
                    *task = Some(Task::begin(
                        format!("downloading {at}"),
                        Unit::Bytes,
                        *missing,
                    ));
                }
            }
            Event::Received { bytes, .. } => {
                if let Some(task) = &mut *task {
                    task.add(*bytes);
                }
            }
            _ => {}
        }
    }
}

/// The fields of what is said.
fn of_event(event: &Event<'_>) -> Fields {
    fields(match event {
        Event::Plan {
            at,
            commit,
            files,
            bytes,
            missing,
        } => json!({
            "repository": at.to_string(),
            "commit": commit,
            "files": files,
            "bytes": bytes,
            "missing": missing,
        }),
        Event::Started {
            file,
            size,
            present,
        } => json!({ "file": file, "bytes": size, "present": present }),
        Event::Restarted { file } | Event::Waiting { file, .. } => json!({ "file": file }),
        Event::Retrying { wait, .. } => json!({ "seconds": wait.as_secs_f64() }),
        _ => json!({}),
    })
}

#[cfg(test)]
mod tests {
    use ls_hub::RepoRef;

    use super::*;

    #[test]
    fn all_files_of_a_fetch_are_one_task_of_bytes() {
        let (downloads, at) = (
            Downloads::default(),
            RepoRef::new("org/tiny", "main").unwrap(),
        );
        let plan = Event::Plan {
            at: &at,
            commit: "0123",
            files: 2,
            bytes: 1_500_000,
            missing: 1_000_000,
        };
        assert_eq!(of_event(&plan)["missing"], 1_000_000);
        downloads.hear(&plan);
        for (file, bytes) in [("a", 300_000), ("b", 100_000), ("a", 350_000)] {
            downloads.hear(&Event::Received { file, bytes });
        }
        let standing = || downloads.0.lock().unwrap().as_ref().map(Task::standing);
        let told = standing().unwrap();
        let expected = [
            ("done", json!(750_000)),
            ("total", json!(1_000_000)),
            ("unit", json!("bytes")),
        ];
        for (key, value) in expected {
            assert_eq!(told.fields[key], value, "{key}");
        }
        let begins = format!("downloading {at}: 750 kB of 1 MB (75 %), ");
        assert!(told.line.starts_with(&begins), "{}", told.line);
        // A file that is fetched anew brings more than was missing.
        downloads.hear(&Event::Received {
            file: "b",
            bytes: 900_000,
        });
        assert_eq!(standing().unwrap().fields["done"], 1_000_000);
        downloads.hear(&Event::Plan {
            at: &at,
            commit: "0123",
            files: 2,
            bytes: 1_500_000,
            missing: 0,
        });
        assert!(standing().is_none());
    }
}
