//! [`Metrics`]: what a service counts, as Prometheus reads it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Of a request: its path as it is declared, and the status of its answer.
pub(crate) type Labels = [(&'static str, String); 2];

/// Of a request: its path alone.
pub(crate) type Path = [(&'static str, String); 1];

/// Of a stream: how it ended.
pub(crate) type End = [(&'static str, &'static str); 1];

/// What a service counts.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Family<Path, Histogram>,
    streams: Family<End, Counter>,
    queued: Histogram,
    computing: Histogram,
    pass_tokens: Histogram,
    pass_seconds: Histogram,
    inputs: Counter,
    tokens: Counter,
    waiting: Gauge,
    models: Gauge,
    /// Nanoseconds that a token takes, of the last passes; 0 before the first.
    per_token: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ls_llama");
        // From 1 ms to 131 s: more than a request has by default.
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 18));
        let all = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            streams: Family::default(),
            queued: seconds(),
            computing: seconds(),
            pass_tokens: Histogram::new(exponential_buckets(8.0, 2.0, 12)),
            pass_seconds: seconds(),
            inputs: Counter::default(),
            tokens: Counter::default(),
            waiting: Gauge::default(),
            models: Gauge::default(),
            per_token: AtomicU64::new(0),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests that were answered",
            all.requests.clone(),
        );
        let help = "From a request to its answer, of a stream to its beginning";
        let metric = all.seconds.clone();
        registry.register_with_unit("request", help, Unit::Seconds, metric);
        registry.register(
            "streams",
            "Streams of lines that ended: whole, refused, failed, stopped or cut",
            all.streams.clone(),
        );
        for (name, help, metric) in [
            (
                "queue",
                "Until the first pass of a request, or of a slice of a stream, began, from when it \
                 was tokenised",
                &all.queued,
            ),
            (
                "compute",
                "From the first pass of a request, or of a slice of a stream, to its last",
                &all.computing,
            ),
            ("pass", "One pass over the weights", &all.pass_seconds),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        let tokens = all.pass_tokens.clone();
        registry.register("pass_tokens", "Tokens of one pass over the weights", tokens);
        registry.register("inputs", "Inputs of all passes", all.inputs.clone());
        registry.register("tokens", "Tokens of all passes", all.tokens.clone());
        let waiting = all.waiting.clone();
        registry.register(
            "queue_tokens",
            "Tokens that wait or are being computed",
            waiting,
        );
        registry.register("models", "Models that answer", all.models.clone());
        Self { registry, ..all }
    }
}

impl Metrics {
    /// A pass was computed.
    pub(crate) fn passed(&self, inputs: usize, tokens: usize, took: Duration) {
        self.inputs.inc_by(inputs as u64);
        self.tokens.inc_by(tokens as u64);
        self.pass_tokens.observe(tokens as f64);
        self.pass_seconds.observe(took.as_secs_f64());
        let now = took.as_nanos() as u64 / tokens.max(1) as u64;
        let before = self.per_token.load(Ordering::Relaxed);
        // A mean in which the last passes weigh most.
        let mean = if before == 0 {
            now
        } else {
            before - before / 8 + now / 8
        };
        self.per_token.store(mean.max(1), Ordering::Relaxed);
    }

    /// How long so many tokens take, by the last passes.
    pub(crate) fn time_for(&self, tokens: usize) -> Duration {
        let per_token = self.per_token.load(Ordering::Relaxed);
        Duration::from_nanos(per_token.saturating_mul(tokens as u64))
    }

    /// A request of a path was answered.
    pub(crate) fn answered(&self, path: &str, status: u16, took: Duration) {
        let labels = [("path", path.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        let path = [("path", path.to_owned())];
        self.seconds
            .get_or_create(&path)
            .observe(took.as_secs_f64());
    }

    /// A stream of lines ended so.
    pub(crate) fn streamed(&self, end: &'static str) {
        self.streams.get_or_create(&[("end", end)]).inc();
    }

    /// The logits of a request were computed.
    pub(crate) fn computed(&self, queued: Duration, computing: Duration) {
        self.queued.observe(queued.as_secs_f64());
        self.computing.observe(computing.as_secs_f64());
    }

    /// All of it, in OpenMetrics' text format; with how much waits and how many models answer now.
    pub(crate) fn text(&self, waiting_tokens: usize, models: usize) -> String {
        self.waiting.set(waiting_tokens as i64);
        self.models.set(models as i64);
        let mut text = String::new();
        // A String takes all that is written.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
