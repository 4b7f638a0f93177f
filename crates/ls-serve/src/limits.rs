//! [`Limits`]: how much a service takes at once, and for how long.

use std::time::Duration;

/// How much a service takes at once, and for how long. What is over a limit is refused with a
/// reason, but for connections and the lines of streams, which wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of one pass over the weights. A single longer input has a pass of its own.
    pub max_batch_tokens: usize,
    /// Tokens of all requests that are taken and not answered. A request for a tagger has no more
    /// words than that either, and all of them together four times as many.
    pub max_queue_tokens: usize,
    /// Requests that are at work at once.
    pub max_concurrent_requests: usize,
    /// Streams of lines at once (`/batch`), of any length.
    pub max_streams: usize,
    /// Inputs of one request.
    pub max_client_batch_size: usize,
    /// Bytes of the body of one request, and of a line of a stream.
    pub max_body_bytes: usize,
    /// From a request's headers to its answer.
    pub timeout: Duration,
    /// Connections at once; more of them wait for one that ends, or that has been at nothing for a
    /// second and is closed for them. Processes often have 1024 files at most.
    pub max_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch_tokens: 1024,
            max_queue_tokens: 1 << 17,
            max_concurrent_requests: 512,
            max_streams: 16,
            max_client_batch_size: 1024,
            max_body_bytes: 2 << 20,
            timeout: Duration::from_secs(60),
            max_connections: 1000,
        }
    }
}
