//! [`Service`]: models, engine and limits: from examples to answers.

use std::ops::{AddAssign, Range};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ls_data::{DataError, SequenceExample, TokenExample};
use ls_train::dataset::Examples;
use ls_train::{Encoded, Predicted, TrainError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::{Computed, Engine};
use crate::error::{Result, ServeError};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::models::{Model, Models};
use crate::request_id::RequestId;
use crate::stopping::Stopping;
use crate::token::Token;
use crate::tokenizing::Tokenizing;

/// Bodies over [`SMALL_BODY`] that are in memory at once: what is made of one takes several times
/// its size.
const LARGE_BODIES: usize = 64;
/// Bytes of a body that any connection may have in memory.
pub(crate) const SMALL_BODY: usize = 1 << 16;

/// What answers requests.
pub struct Service {
    /// What it answers with.
    pub models: Models,
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) token: Option<Token>,
    /// Whether texts stand in the log.
    log_texts: bool,
    /// Requests that more may be taken.
    free: Arc<Semaphore>,
    /// Streams of lines that more may be taken.
    pub(crate) streams: Arc<Semaphore>,
    /// Large bodies that more may be taken.
    pub(crate) large_bodies: Arc<Semaphore>,
    tokenizing: Tokenizing,
    pub(crate) stopping: Stopping,
}

/// The answers to a request, and what they took.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) predicted: Predicted,
    /// Of each text, before anything makes scores of it; empty of a tagger.
    pub(crate) raw_scores: Vec<Option<Vec<f32>>>,
    pub(crate) cost: Cost,
}

/// One of the requests that may be at work at once.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

/// What a request took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) inputs: usize,
    pub(crate) tokens: usize,
    pub(crate) queued: Duration,
    pub(crate) computing: Duration,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.inputs += other.inputs;
        self.tokens += other.tokens;
        self.queued += other.queued;
        self.computing += other.computing;
    }
}

impl Service {
    /// A service within limits. With a token, all that answers with models or changes them wants
    /// it.
    ///
    /// # Errors
    ///
    /// If the system has no thread to compute on.
    pub fn start(models: Models, limits: Limits, token: Option<Token>) -> Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let engine = Engine::start(&limits, metrics.clone()).map_err(ServeError::Thread)?;
        Ok(Self {
            models,
            engine,
            metrics,
            token,
            log_texts: false,
            free: Arc::new(Semaphore::new(limits.max_concurrent_requests)),
            streams: Arc::new(Semaphore::new(limits.max_streams)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
            tokenizing: Tokenizing::start().map_err(ServeError::Thread)?,
            stopping: Stopping::default(),
            limits,
        })
    }

    /// The same with the texts of requests in its log.
    #[must_use]
    pub fn with_logged_texts(self) -> Self {
        Self {
            log_texts: true,
            ..self
        }
    }

    /// Takes no more requests, and returns once those that it took are answered.
    pub fn stop(&self) {
        self.stopping.ask();
        self.engine.stop();
    }

    /// Answers for examples of a model's task: bit for bit those of `Predictor::predict`, whatever
    /// else is asked for at the same time.
    ///
    /// # Errors
    ///
    /// If there are none or too many; if there is no room for them in the queue, or as many
    /// requests are at work as may be.
    pub(crate) async fn answers(
        &self,
        id: &RequestId,
        model: &Model,
        examples: Examples,
    ) -> Result<Answers> {
        self.write_texts(id, model, &examples);
        let most = self.limits.max_client_batch_size;
        match examples.len() {
            0 => return Err(ServeError::Nothing),
            found if found > most => return Err(ServeError::TooMany { found, most }),
            _ => {}
        }
        // Only now that it is read: a body may be long in coming.
        let Ok(place) = self.free.clone().try_acquire_owned() else {
            let most = self.limits.max_concurrent_requests;
            return Err(ServeError::Busy { most });
        };
        let (examples, place) = (Arc::new(examples), Some(Arc::new(place)));
        let encoded = self.encoded(model, &examples, place.clone()).await?;
        let computed = self.computed(model, &encoded).await?;
        self.finished(model, examples, encoded, computed, place)
            .await
    }

    /// Answers for some examples of a stream. They wait for room in the queue instead of being
    /// refused, and have as much of it at once as leaves some to others.
    ///
    /// # Errors
    ///
    /// If an input is longer than the queue.
    pub(crate) async fn answers_in_turn(
        &self,
        model: &Model,
        examples: Arc<Examples>,
    ) -> Result<Answers> {
        let encoded = self.encoded(model, &examples, None).await?;
        let mut all = Computed::default();
        for inputs in slices(encoded.lengths(), self.engine.slice()) {
            let (predictor, encoded) = (model.predictor.clone(), encoded.clone());
            let computed = self
                .engine
                .logits_in_turn(predictor, encoded, inputs)
                .await?;
            self.metrics.computed(computed.queued, computed.computing);
            all.logits.extend(computed.logits);
            all.queued += computed.queued;
            all.computing += computed.computing;
        }
        self.finished(model, examples, encoded, all, None).await
    }

    /// Writes texts into the log, if they are to stand there.
    pub(crate) fn write_texts(&self, RequestId(id): &RequestId, model: &Model, of: &Examples) {
        if !self.log_texts {
            return;
        }
        let model = &model.name;
        match of {
            Examples::Sequence(all) => {
                for SequenceExample {
                    text, text_pair, ..
                } in all
                {
                    tracing::info!(request_id = id, model, text, pair = text_pair);
                }
            }
            Examples::Token(all) => {
                for TokenExample { tokens, .. } in all {
                    tracing::info!(request_id = id, model, text = tokens.join(" "));
                }
            }
        }
    }

    /// Examples as a model reads them. The work itself has the request's place, also where the
    /// client has gone meanwhile. What cannot be read is the request's fault.
    async fn encoded(
        &self,
        model: &Model,
        examples: &Arc<Examples>,
        place: Option<Place>,
    ) -> Result<Arc<Encoded>> {
        let (predictor, examples) = (model.predictor.clone(), examples.clone());
        let bytes = examples.text_bytes();
        let encode = move || {
            let _held = place;
            predictor.encode_here(Path::new("request"), &examples)
        };
        let encoded = self.tokenizing.run(bytes, encode).await?;
        Ok(Arc::new(encoded.map_err(unreadable)?))
    }

    /// The answers that logits give; those of a request, which has a place, with the scores of
    /// tags, and of texts with what the head gives.
    async fn finished(
        &self,
        model: &Model,
        examples: Arc<Examples>,
        encoded: Arc<Encoded>,
        computed: Computed,
        place: Option<Place>,
    ) -> Result<Answers> {
        let predictor = model.predictor.clone();
        let cost = Cost {
            inputs: examples.len(),
            tokens: encoded.lengths().iter().sum(),
            queued: computed.queued,
            computing: computed.computing,
        };
        aside(move || {
            let logits = &computed.logits;
            let (predicted, raw_scores) = if place.is_some() {
                (
                    predictor.answers_with_tag_scores(&examples, &encoded, logits)?,
                    predictor.raw_scores(&examples, &encoded, logits)?,
                )
            } else {
                (predictor.answers(&examples, &encoded, logits)?, Vec::new())
            };
            Ok(Answers {
                predicted,
                raw_scores,
                cost,
            })
        })
        .await
    }

    async fn computed(&self, model: &Model, encoded: &Arc<Encoded>) -> Result<Computed> {
        if encoded.lengths().is_empty() {
            return Ok(Computed::default());
        }
        let predictor = model.predictor.clone();
        let computed = self.engine.logits(predictor, encoded.clone()).await?;
        self.metrics.computed(computed.queued, computed.computing);
        Ok(computed)
    }
}

/// Why examples cannot be read, of which their text is no part: the reason of what is the service's
/// fault stands in the log.
fn unreadable(error: TrainError) -> ServeError {
    match error {
        // The request asks for what this model has not learnt, or spells out what it does not know.
        TrainError::Data(DataError::WindowsOfPair | DataError::MaxLength { .. })
        | TrainError::TokenId { .. } => ServeError::Value(error.to_string()),
        // What it says may quote the text.
        TrainError::Data(DataError::Encode { .. }) => {
            ServeError::Failed("the tokenizer breaks down on an input".into())
        }
        other => ServeError::Failed(other.to_string()),
    }
}

/// Inputs of these lengths, in their order, so many tokens at a time; a longer input alone.
fn slices(lengths: &[usize], tokens: usize) -> Vec<Range<usize>> {
    let (mut slices, mut first, mut sum) = (Vec::new(), 0, 0);
    for (at, length) in lengths.iter().enumerate() {
        if at > first && sum + length > tokens {
            slices.push(first..at);
            (first, sum) = (at, 0);
        }
        sum += length;
    }
    if first < lengths.len() {
        slices.push(first..lengths.len());
    }
    slices
}

/// Does on another thread what would keep this one from other requests.
async fn aside<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> ls_train::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| ServeError::Failed(error.to_string())),
        Err(_) => Err(ServeError::Failed("the work ended unexpectedly".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_full_but_no_fuller_and_leave_nothing_out() {
        assert_eq!(
            slices(&[3, 3, 4, 1, 20, 2, 2], 10),
            [0..3, 3..4, 4..5, 5..7]
        );
        assert_eq!(slices(&[5, 6], 1), [0..1, 1..2]);
        assert!(slices(&[], 10).is_empty());
    }
}
