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
use crate::pass::{Waiting, in_turn, pack};
use crate::room::{Place, Room};

/// What is said where the thread that computes has ended by itself.
pub(crate) const NOBODY: &str = "nothing computes any more: start the service anew";

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
    /// Until its first pass began, with what was waited for room.
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
    /// When it came.
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
        let taken = Instant::now();
        let place = self.place(encoded.lengths().iter().sum())?;
        let inputs = 0..encoded.lengths().len();
        let work = (encoded, inputs);
        self.computed(predictor, work, taken, place).await
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
        let taken = Instant::now();
        let place = self.room.wait_for(tokens).await;
        let work = (encoded, inputs);
        self.computed(predictor, work, taken, place).await
    }

    async fn computed(
        &self,
        predictor: Arc<Predictor>,
        (encoded, inputs): (Arc<Encoded>, Range<usize>),
        taken: Instant,
        place: Place,
    ) -> Result<Computed, ServeError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            predictor,
            encoded,
            inputs,
            logits: Vec::new(),
            taken,
            began: None,
            answer,
            _place: place,
        };
        let sent = lock(&self.jobs).as_ref().map(|jobs| jobs.send(job));
        match sent {
            Some(Ok(())) => answered.await.unwrap_or_else(|_| Err(self.gone())),
            _ => Err(self.gone()),
        }
    }

    /// Why nobody computes: it was stopped, or its thread has ended by a fault of the program.
    fn gone(&self) -> ServeError {
        match *lock(&self.jobs) {
            None => ServeError::Stopping,
            Some(_) => ServeError::Failed(NOBODY.into()),
        }
    }

    /// Tokens that wait, or are being computed.
    pub fn waiting_tokens(&self) -> usize {
        self.room.held()
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

    /// Whether there is who computes. It ends where it was asked to, or by a fault of the program.
    pub fn is_alive(&self) -> bool {
        let thread = lock(&self.thread);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Takes no more, and returns once all that was taken is answered.
    pub fn stop(&self) {
        drop(lock(&self.jobs).take());
        // Not held while it is waited for.
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
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
    let (mut jobs, mut had_part) = (VecDeque::new(), VecDeque::new());
    loop {
        if jobs.is_empty() && had_part.is_empty() {
            match arrivals.recv() {
                Ok(job) => jobs.push_back(job),
                Err(_) => return,
            }
        }
        jobs = in_turn(jobs, arrivals.try_iter(), had_part);
        jobs.retain(|job: &Job| !job.answer.is_closed());
        (jobs, had_part) = pass(jobs, tokens_per_pass, metrics);
    }
}

/// Computes one pass, and answers the requests that are done. What is left: those that had no part
/// in it, which are the first in the next one, and those that had.
fn pass(
    mut jobs: VecDeque<Job>,
    tokens_per_pass: usize,
    metrics: &Metrics,
) -> (VecDeque<Job>, VecDeque<Job>) {
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
    let computed = computed(&shares);
    if inputs > 0 {
        metrics.passed(inputs, tokens, began.elapsed());
    }
    let (mut had_none, mut had_part) = (VecDeque::new(), VecDeque::new());
    for ((mut job, computed), inputs) in jobs.into_iter().zip(computed).zip(&packed) {
        match computed {
            Ok(logits) => {
                job.logits.extend(logits);
                if job.logits.len() == job.inputs.len() {
                    job.answer();
                } else if inputs.is_empty() {
                    had_none.push_back(job);
                } else {
                    had_part.push_back(job);
                }
            }
            Err(error) => job.refuse(error),
        }
    }
    (had_none, had_part)
}

/// Of the inputs of one share.
type Logits = Result<Vec<Vec<f32>>, ServeError>;

/// The logits of each share. Where a pass fails, each is computed by itself: the fault of one is
/// not that of all.
fn computed(shares: &[Share<'_>]) -> Vec<Logits> {
    match attempt(shares) {
        Ok(computed) => computed,
        Err(reason) => {
            tracing::error!("a pass failed: {reason}");
            let [_] = shares else {
                let alone = shares.chunks(1).flat_map(computed);
                return alone.collect();
            };
            vec![Err(ServeError::Failed(reason))]
        }
    }
}

/// The logits of each share, in one pass, or why it failed.
fn attempt(shares: &[Share<'_>]) -> Result<Vec<Logits>, String> {
    let failed = |error: TrainError| ServeError::Failed(error.to_string());
    match catch_unwind(AssertUnwindSafe(|| logits_of_shares(shares))) {
        Ok(Ok(computed)) => Ok(computed.into_iter().map(|of| of.map_err(failed)).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!(
            "it ended unexpectedly: {}",
            ls_files::message_of(&*panic)
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_alive_until_it_is_stopped() {
        let engine = Engine::start(&Limits::default(), Arc::default()).unwrap();
        assert!(engine.is_alive());
        engine.stop();
        assert!(!engine.is_alive());
    }
}
