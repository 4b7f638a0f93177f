//! [`Service`]: models, engine and limits: from examples to what is written of their answers.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ls_data::{DataError, InputRow, SequenceExample, TokenExample};
use ls_train::dataset::Examples;
use ls_train::{Encoded, TrainError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answers::{Account, Answered, Answers, Cost, Shape};
use crate::engine::{Computed, Engine};
use crate::error::{Result, ServeError};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::models::{Model, Models};
use crate::request_id::RequestId;
use crate::stopping::Stopping;
use crate::token::Token;
use crate::workers::Workers;

/// Bodies over [`SMALL_BODY`] that are in memory at once, and as many answers: what is made of one
/// takes several times its size.
const LARGE_BODIES: usize = 64;
/// Bytes of a body, or of an answer, that any connection may have in memory.
pub(crate) const SMALL_BODY: usize = 1 << 16;
/// Words of all requests at work are so many times the tokens of the queue at most. A word is in
/// memory as itself and as its answer, also where a model reads the first few hundred alone.
const WORDS_OF_QUEUE: usize = 4;
/// What it takes to write a label beside its score, in bytes of text that are read in that time.
const LABEL: usize = 64;
/// Bytes of a label beside its score in an answer, at least.
const LEAST_OF_ANSWER: usize = 24;

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
    /// Large answers that more may wait for their readers.
    large_answers: Arc<Semaphore>,
    /// Words of requests that more may be taken.
    words: Arc<Semaphore>,
    /// Words of streams that more may be taken; of a single line all of them.
    words_of_streams: Arc<Semaphore>,
    pub(crate) workers: Workers,
    pub(crate) stopping: Stopping,
}

/// What a request has of what may be at work at once, until its answer is written.
#[derive(Debug)]
struct Place {
    _request: OwnedSemaphorePermit,
    _words: OwnedSemaphorePermit,
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
            free: semaphore(limits.max_concurrent_requests),
            streams: semaphore(limits.max_streams),
            large_bodies: semaphore(LARGE_BODIES),
            large_answers: semaphore(LARGE_BODIES),
            words: semaphore(WORDS_OF_QUEUE.saturating_mul(limits.max_queue_tokens)),
            words_of_streams: semaphore(limits.max_queue_tokens),
            workers: Workers::start().map_err(ServeError::Thread)?,
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
    /// else is asked for at the same time; written as the question has them.
    ///
    /// # Errors
    ///
    /// If there are none; if there is no room for them in the queue, or as much is at work as may
    /// be; what the question refuses.
    pub(crate) async fn answers<S: Shape>(
        &self,
        id: &RequestId,
        model: &Arc<Model>,
        examples: Examples,
        shape: S,
    ) -> Result<Answered> {
        if examples.is_empty() {
            return Err(ServeError::Nothing);
        }
        let place = Some(Arc::new(self.place(model, &examples)?));
        self.write_texts(id, model, &examples);
        let examples = Arc::new(examples);
        let encoded = self.encoded(model, &examples, place.clone()).await?;
        shape.check(model, &encoded)?;
        let computed = self.computed(model, &encoded).await?;
        let (model, work) = (model.clone(), work_of(model, &examples));
        let write = move || {
            let _held = place;
            let (cost, logits) = (Cost::of(&examples, &encoded, &computed), &computed.logits);
            let predictor = &model.predictor;
            let predicted = predictor.answers_with_tag_scores(&examples, &encoded, logits);
            let raw_scores = predictor.raw_scores(&examples, &encoded, logits);
            let answers = Answers {
                predicted: predicted.map_err(failed)?,
                raw_scores: raw_scores.map_err(failed)?,
                cost,
            };
            let body = serde_json::to_vec(&shape.body(&model, &answers)?);
            let account = Account {
                model: model.name.clone(),
                cost,
            };
            Ok::<_, ServeError>((body.map_err(failed)?, account))
        };
        let (body, account) = self.workers.run(work, write).await??;
        Ok(Answered {
            place: self.place_of_answer(body.len())?,
            body: body.into(),
            account,
        })
    }

    /// A place for an answer that is large, until it is written: it is no request's fault who reads
    /// the others slowly, but neither are they to fill the memory.
    fn place_of_answer(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>> {
        if bytes <= SMALL_BODY {
            return Ok(None);
        }
        let place = self.large_answers.clone().try_acquire_owned();
        place.map(Some).map_err(|_| ServeError::BusyBodies)
    }

    /// A place for a request. It is asked for only now that all of it is read: a body may be long
    /// in coming. What is sure to find no place for its answer is not computed first.
    fn place(&self, model: &Model, examples: &Examples) -> Result<Place> {
        let words = self.words_of(examples)?;
        let scores = match examples {
            Examples::Sequence(all) => all.len() * model.predictor.settings.labels.len(),
            // Of entities there may be none.
            Examples::Token(_) => 0,
        };
        let is_large = scores * LEAST_OF_ANSWER > SMALL_BODY;
        if is_large && self.large_answers.available_permits() == 0 {
            return Err(ServeError::BusyBodies);
        }
        let Ok(request) = self.free.clone().try_acquire_owned() else {
            let most = self.limits.max_concurrent_requests;
            return Err(ServeError::Busy { most });
        };
        let words = u32::try_from(words).map_err(|_| ServeError::BusyBodies)?;
        let words = self.words.clone().try_acquire_many_owned(words);
        Ok(Place {
            _request: request,
            _words: words.map_err(|_| ServeError::BusyBodies)?,
        })
    }

    /// Words of examples; none of texts, of which there are few.
    fn words_of(&self, examples: &Examples) -> Result<usize> {
        let Examples::Token(all) = examples else {
            return Ok(0);
        };
        let found: usize = all.iter().map(InputRow::words).sum();
        let most = self.limits.max_queue_tokens;
        if found > most {
            return Err(ServeError::TooManyWords { found, most });
        }
        Ok(found)
    }

    /// Answers for some examples of a stream, as JSON lines, and what they took. They wait for room
    /// in the queue instead of being refused, and have as much of it at once as leaves some to
    /// others.
    ///
    /// # Errors
    ///
    /// If an input is longer than the queue.
    pub(crate) async fn lines_in_turn(
        &self,
        model: &Arc<Model>,
        examples: Arc<Examples>,
    ) -> Result<(String, Cost)> {
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
        let (predictor, work) = (model.predictor.clone(), work_of(model, &examples));
        let write = move || {
            let cost = Cost::of(&examples, &encoded, &all);
            let predicted = predictor.answers(&examples, &encoded, &all.logits);
            let objects = predicted.map_err(failed)?.objects;
            let lines = objects.iter().map(|object| format!("{object}\n"));
            Ok((lines.collect(), cost))
        };
        self.workers.run(work, write).await?
    }

    /// Waits for room for so many words of a stream, no more than there are of it.
    pub(crate) async fn words_of_stream(&self, words: usize) -> Option<OwnedSemaphorePermit> {
        let most = self.limits.max_queue_tokens.min(Semaphore::MAX_PERMITS);
        let words = u32::try_from(words.min(most)).unwrap_or(u32::MAX);
        // It is never closed.
        self.words_of_streams
            .clone()
            .acquire_many_owned(words)
            .await
            .ok()
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
        place: Option<Arc<Place>>,
    ) -> Result<Arc<Encoded>> {
        let (predictor, examples) = (model.predictor.clone(), examples.clone());
        let bytes = bytes_of(&examples);
        let encode = move || {
            let _held = place;
            predictor.encode_here(Path::new("request"), &examples)
        };
        let encoded = self.workers.run(bytes, encode).await?;
        Ok(Arc::new(encoded.map_err(unreadable)?))
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

/// Bytes of text, and one for each word, which may be empty.
fn bytes_of(examples: &Examples) -> usize {
    let words = match examples {
        Examples::Sequence(_) => 0,
        Examples::Token(all) => all.iter().map(InputRow::words).sum(),
    };
    examples.text_bytes() + words
}

/// What it takes to write the answers, in bytes of text.
fn work_of(model: &Model, examples: &Examples) -> usize {
    let labels = match examples {
        Examples::Sequence(all) => all.len() * model.predictor.settings.labels.len(),
        Examples::Token(_) => 0,
    };
    bytes_of(examples) + labels * LABEL
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

/// What is no request's fault.
fn failed(error: impl std::fmt::Display) -> ServeError {
    ServeError::Failed(error.to_string())
}

/// For as many as are asked for, or as there may be.
fn semaphore(places: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))
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
