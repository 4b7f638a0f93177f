//! [`Engine`]: one thread that computes what waits, as much in a pass as fits into it.
//!
//! Requests come and go while it works. A pass takes inputs of all that wait, whichever adapter
//! they are for: there is no batch to be filled, and none to be waited for.

use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ls_train::{Encoded, Predictor, Share, TrainError, logits_of_shares};
use tokio::sync::oneshot;

use crate::error::ServeError;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pass::{Waiting, pack};
use crate::room::{Place, Room};

/// Computes the logits of requests, those of several in one pass.
pub struct Engine {
    /// None once it takes no more.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// For all that is taken and not answered.
    room: Room,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The logits of a request, and how long they took.
#[derive(Debug, Default)]
pub struct Computed {
    /// Of each input.
    pub logits: Vec<Vec<f32>>,
    /// Until its first pass began.
    pub queued: Duration,
    /// From then on.
    pub computing: Duration,
}

/// A request on its way.
struct Job {
    predictor: Arc<Predictor>,
    encoded: Arc<Encoded>,
    /// Those of the encoded that it asks for.
    inputs: Range<usize>,
    /// Of the inputs so far.
    logits: Vec<Vec<f32>>,
    taken: Instant,
    began: Option<Instant>,
    answer: oneshot::Sender<Result<Computed, ServeError>>,
    _place: Place,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has none.
    pub fn start(limits: &Limits, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (jobs, arrivals) = mpsc::channel();
        let (tokens_per_pass, passes) = (limits.max_batch_tokens, metrics.clone());
        let thread = std::thread::Builder::new().name("compute".into());
        let thread = thread.spawn(move || compute(&arrivals, tokens_per_pass, &passes))?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            room: Room::of(limits.max_queue_tokens),
            metrics,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The logits of the inputs of a request. Whoever no longer waits for them takes the request
    /// out of the queue.
    ///
    /// # Errors
    ///
    /// If it is too much for the queue, or for what is free of it; if the engine was stopped; if
    /// an output is NaN or infinite.
    pub async fn logits(
        &self,
        predictor: Arc<Predictor>,
        encoded: Arc<Encoded>,
    ) -> Result<Computed, ServeError> {
        let place = self.place(encoded.lengths().iter().sum())?;
        let inputs = 0..encoded.lengths().len();
        self.computed(predictor, encoded, inputs, place).await
    }

    /// The logits of some of the inputs of a stream, which waits for room until it is its turn.
    ///
    /// # Errors
    ///
    /// As [`Engine::logits`], but for the room.
    pub(crate) async fn logits_in_turn(
        &self,
        predictor: Arc<Predictor>,
        encoded: Arc<Encoded>,
        inputs: Range<usize>,
    ) -> Result<Computed, ServeError> {
        let tokens = encoded.lengths()[inputs.clone()].iter().sum();
        self.fits(tokens)?;
        let place = self.room.wait_for(tokens).await;
        self.computed(predictor, encoded, inputs, place).await
    }

    async fn computed(
        &self,
        predictor: Arc<Predictor>,
        encoded: Arc<Encoded>,
        inputs: Range<usize>,
        place: Place,
    ) -> Result<Computed, ServeError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            predictor,
            encoded,
            inputs,
            logits: Vec::new(),
            taken: Instant::now(),
            began: None,
            answer,
            _place: place,
        };
        match &*lock(&self.jobs) {
            Some(jobs) if jobs.send(job).is_ok() => {}
            _ => return Err(ServeError::Stopping),
        }
        answered.await.unwrap_or(Err(ServeError::Stopping))
    }

    /// Tokens that wait, or are being computed.
    pub fn waiting_tokens(&self) -> usize {
        self.room.taken()
    }

    /// Tokens that a stream best asks for at once.
    pub(crate) fn slice(&self) -> usize {
        self.room.slice()
    }

    fn fits(&self, tokens: usize) -> Result<(), ServeError> {
        let most = self.room.most();
        if tokens > most {
            return Err(ServeError::TooLong { tokens, most });
        }
        Ok(())
    }

    fn place(&self, taken: usize) -> Result<Place, ServeError> {
        self.fits(taken)?;
        self.room.take(taken).ok_or_else(|| {
            let waiting = self.room.taken();
            let over = (waiting + taken).saturating_sub(self.room.most());
            ServeError::QueueFull {
                waiting,
                retry_after: self.metrics.time_for(over),
            }
        })
    }

    /// Takes no more, and returns once all that was taken is answered.
    pub fn stop(&self) {
        drop(lock(&self.jobs).take());
        if let Some(thread) = lock(&self.thread).take() {
            // Whatever went wrong there was told to those who waited.
            let _ = thread.join();
        }
    }
}

/// What a lock holds: nothing here panics while it holds one.
fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Computes what arrives, until there is nobody left who could send something.
fn compute(arrivals: &mpsc::Receiver<Job>, tokens_per_pass: usize, metrics: &Metrics) {
    let mut jobs = VecDeque::new();
    loop {
        if jobs.is_empty() {
            match arrivals.recv() {
                Ok(job) => jobs.push_back(job),
                Err(_) => return,
            }
        }
        jobs.extend(arrivals.try_iter());
        jobs.retain(|job: &Job| !job.answer.is_closed());
        if pass(&mut jobs, tokens_per_pass, metrics) {
            // All get to be the first in their turn.
            jobs.rotate_left(1);
        }
    }
}

/// Computes one pass, and answers the requests that are done. Says whether the first is not.
fn pass(jobs: &mut VecDeque<Job>, tokens_per_pass: usize, metrics: &Metrics) -> bool {
    // While a whole model is loaded anew, requests wait for the old one and for the new one.
    let first = jobs.front().map(|job| job.predictor.clone());
    let is_of_pass = |job: &Job| {
        let first = first.as_ref();
        first.is_some_and(|first| job.predictor.is_on_decoder_of(first))
    };
    let none = Waiting {
        lengths: &[],
        done: 0,
    };
    let waiting = jobs.iter().map(|job| {
        if !is_of_pass(job) {
            return none;
        }
        Waiting {
            lengths: job.lengths(),
            done: job.logits.len(),
        }
    });
    let waiting: Vec<_> = waiting.collect();
    let packed = pack(&waiting, tokens_per_pass);
    let inputs: usize = packed.iter().map(ExactSizeIterator::len).sum();
    let tokens = packed.iter().zip(&waiting);
    let tokens = tokens.flat_map(|(inputs, waiting)| &waiting.lengths[inputs.clone()]);
    let tokens: usize = tokens.sum();
    let began = Instant::now();
    for (job, inputs) in jobs.iter_mut().zip(&packed) {
        if !inputs.is_empty() {
            job.began.get_or_insert(began);
        }
    }
    let shares: Vec<_> = jobs
        .iter()
        .zip(&packed)
        .map(|(job, inputs)| Share {
            predictor: &job.predictor,
            encoded: &job.encoded,
            inputs: job.inputs.start + inputs.start..job.inputs.start + inputs.end,
        })
        .collect();
    let computed = match catch_unwind(AssertUnwindSafe(|| logits_of_shares(&shares))) {
        Ok(Ok(computed)) => {
            let failed = |error: TrainError| ServeError::Failed(error.to_string());
            computed.into_iter().map(|of| of.map_err(failed)).collect()
        }
        Ok(Err(error)) => all_fail(&packed, &error.to_string()),
        Err(_) => all_fail(&packed, "a pass ended unexpectedly"),
    };
    if inputs > 0 {
        metrics.passed(inputs, tokens, began.elapsed());
    }
    let mut first_stays = false;
    for (at, (mut job, computed)) in std::mem::take(jobs).into_iter().zip(computed).enumerate() {
        match computed {
            Ok(logits) => {
                job.logits.extend(logits);
                if job.logits.len() < job.inputs.len() {
                    first_stays |= at == 0;
                    jobs.push_back(job);
                } else {
                    job.answer();
                }
            }
            Err(error) => job.refuse(error),
        }
    }
    first_stays
}

/// What those hear that had a part in a pass. Who had none goes on.
fn all_fail(packed: &[Range<usize>], reason: &str) -> Vec<Result<Vec<Vec<f32>>, ServeError>> {
    tracing::error!("a pass failed: {reason}");
    let of = |inputs: &Range<usize>| {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        Err(ServeError::Failed(reason.into()))
    };
    packed.iter().map(of).collect()
}

impl Job {
    fn lengths(&self) -> &[usize] {
        &self.encoded.lengths()[self.inputs.clone()]
    }

    fn answer(self) {
        let began = self.began.unwrap_or(self.taken);
        let computed = Computed {
            logits: self.logits,
            queued: began - self.taken,
            computing: began.elapsed(),
        };
        // Who no longer waits does not hear it.
        let _ = self.answer.send(Ok(computed));
    }

    fn refuse(self, error: ServeError) {
        let _ = self.answer.send(Err(error));
    }
}
