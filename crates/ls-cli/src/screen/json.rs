//! Messages as JSON objects, a line each. `docs/progress.md` lists their fields.

use std::ffi::OsString;
use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Fields of an object.
pub type Fields = Map<String, Value>;

/// The fields of an object, of what is one.
pub fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

/// Whether arguments that could not be read ask for JSON.
pub fn asked_for(args: impl IntoIterator<Item = OsString>) -> bool {
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let follows = args.peek().is_some_and(|next| next == "json");
        if arg == "--log-format=json" || (arg == "--log-format" && follows) {
            return true;
        }
    }
    false
}

/// A message with when, how grave and by whom.
pub fn object(
    level: Level,
    target: &str,
    event: Option<&str>,
    message: &str,
    fields: Fields,
) -> Value {
    let mut object = Fields::new();
    object.insert("timestamp".into(), now().into());
    object.insert("level".into(), level.as_str().into());
    object.insert("target".into(), target.into());
    object.extend(event.map(|event| ("event".to_owned(), event.into())));
    object.insert("message".into(), message.into());
    object.extend(fields);
    Value::Object(object)
}

/// The time in UTC to the second, as RFC 3339 has it.
pub fn now_in_seconds() -> String {
    let now = now();
    let whole = now.split_once('.').map(|(whole, _)| format!("{whole}Z"));
    whole.unwrap_or(now)
}

/// The same to the microsecond.
fn now() -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// Log lines as objects.
pub struct Objects;

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut seen = Seen::default();
        event.record(&mut seen);
        let metadata = event.metadata();
        let target = seen.target.as_deref().unwrap_or(metadata.target());
        let level = *metadata.level();
        let object = object(level, target, Some("log"), &seen.message, seen.fields);
        writeln!(writer, "{object}")
    }
}

/// What a log line holds. One of the crate `log` has where it comes from among its fields.
#[derive(Default)]
struct Seen {
    message: String,
    target: Option<String>,
    fields: Fields,
}

impl Seen {
    fn see(&mut self, field: &Field, value: Value) {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(value),
            "log.target" => self.target = Some(text(value)),
            name if name.starts_with("log.") => {}
            name => {
                self.fields.insert(name.into(), value);
            }
        }
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.see(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.see(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.see(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.see(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.see(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.see(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_heard_where_it_stands() {
        let asked = |args: &[&str]| asked_for(args.iter().map(OsString::from));
        assert!(asked(&["ls-cli", "--log-format", "json", "train"]));
        assert!(asked(&["ls-cli", "train", "--log-format=json", "--what"]));
        assert!(!asked(&["ls-cli", "--log-format", "text", "json"]));
        assert!(!asked(&["ls-cli", "train", "--log-format"]));
    }

    #[test]
    fn an_object_begins_with_when_and_how_grave() {
        let fields = fields(json!({ "step": 3, "loss": f64::NAN }));
        let object = object(Level::WARN, "ls_cli", Some("step"), "a\n\"b\"", fields);
        let text = object.to_string();
        assert!(!text.contains('\n'), "{text}");
        let keys: Vec<&str> = object
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "timestamp",
            "level",
            "target",
            "event",
            "message",
            "step",
            "loss",
        ];
        assert_eq!(keys, expected);
        assert_eq!(object["loss"], Value::Null);
        // 2026-01-02T03:04:05.678901Z
        let time = object["timestamp"].as_str().unwrap();
        let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let shape: String = time.chars().map(shape).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }
}
