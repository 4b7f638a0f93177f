//! [`serve`]: connections, each with a limit of time, and their end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tower::ServiceExt;

use crate::connection::{Answer, Asked, AtWork, State, Wire};
use crate::router::router;
use crate::service::Service;

/// How long a connection may say nothing, or not all of a request's headers. Proxies keep theirs
/// open for 60 s, and should be the ones to close them.
const SILENCE: Duration = Duration::from_secs(75);
/// How long is waited where no connection can be taken, as where the process has no more files.
const BREATH: Duration = Duration::from_millis(100);
/// How long connections stay open at the end for those who ask whether it is near.
const GRACE: Duration = Duration::from_millis(700);
/// Bytes of a request's headers at most, and of its body at a time.
const BUFFER: usize = 1 << 16;
/// How often is looked, at the end, whether a connection is at nothing any more.
const LOOK: Duration = Duration::from_millis(50);

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Connections end once they are at nothing.
    Closing,
    /// They end.
    Over,
}

/// What connections have in common.
struct Connections {
    router: Router,
    service: Arc<Service>,
    http: http1::Builder,
    phase: watch::Sender<Phase>,
    cut: AtomicUsize,
    open: Mutex<Vec<Weak<State>>>,
}

/// Answers what comes in at a socket until `stop` is done. Then it takes no more, and returns once
/// what it took is answered, or after the time that an answer may take. Says how many connections
/// it cut before their answers were there.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()>,
) -> usize {
    // As many as can be waited for at once.
    let most = u32::try_from(service.limits.max_connections).unwrap_or(u32::MAX);
    let places = Arc::new(Semaphore::new(most as usize));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .max_buf_size(BUFFER);
    let connections = Arc::new(Connections {
        router: router(service.clone()),
        service: service.clone(),
        http,
        phase: watch::Sender::new(Phase::Open),
        cut: AtomicUsize::new(0),
        open: Mutex::default(),
    });
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let (stream, _) = listener.accept().await?;
            Ok::<_, io::Error>((stream, connections.place(&places).await))
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection cannot be taken: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // Answers are short, and are wanted at once. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        let connections = connections.clone();
        tokio::spawn(async move {
            let _place = place;
            connections.answer(stream).await;
        });
    }
    drop(listener);
    service.stopping.ask();
    let all_ended = || places.acquire_many(most);
    // Open ones hear of it if they ask.
    let _ = timeout(GRACE, all_ended()).await;
    connections.phase.send_replace(Phase::Closing);
    let _ = timeout(service.limits.timeout, all_ended()).await;
    connections.phase.send_replace(Phase::Over);
    let _ = all_ended().await;
    let stopping = tokio::task::spawn_blocking(move || service.stop());
    // Whatever went wrong there was told to those who waited.
    let _ = stopping.await;
    connections.cut.load(Ordering::Relaxed)
}

impl Connections {
    /// A place for one more connection. Where there is none, the one that was at nothing for
    /// longest makes way, so that those who say nothing keep nobody out.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = places.clone().try_acquire_owned() {
                return Some(place);
            }
            if let Some(idlest) = self.idlest() {
                idlest.ask_to_end();
            }
            if let Ok(place) = timeout(LOOK, places.clone().acquire_owned()).await {
                // It is never closed.
                return place.ok();
            }
        }
    }

    /// The connection that has been at nothing for longest.
    fn idlest(&self) -> Option<Arc<State>> {
        let open = self.open();
        let open = open.iter().filter_map(Weak::upgrade);
        let idle = open.filter_map(|state| Some((state.idle_since()?, state)));
        let idlest = idle.min_by_key(|(since, _)| *since);
        idlest.map(|(_, state)| state)
    }

    fn open(&self) -> MutexGuard<'_, Vec<Weak<State>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what comes in at a connection, until one side ends it.
    async fn answer(&self, stream: TcpStream) {
        let state = Arc::new(State::default());
        {
            let mut open = self.open();
            open.retain(|other| other.strong_count() > 0);
            open.push(Arc::downgrade(&state));
        }
        let wire = Wire::new(stream, state.clone(), self.service.limits.timeout);
        let answer = service_fn(|request: Request<Incoming>| {
            let at_work = AtWork::at(&state);
            let request = request.map(|body| Asked::new(body, &state));
            let answering = self
                .router
                .clone()
                .oneshot(request.map(axum::body::Body::new));
            let (state, limit) = (state.clone(), self.service.limits.timeout);
            async move {
                let response = answering.await?;
                state.answers(response.body(), limit);
                Ok::<_, Infallible>(response.map(|body| Answer {
                    body,
                    _at_work: at_work,
                }))
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(wire), answer));
        let mut phase = self.phase.subscribe();
        let mut look = interval(LOOK);
        // Those of the time before the end are not made up for.
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            let now = *phase.borrow_and_update();
            if now == Phase::Over {
                self.cut(&state);
                return;
            }
            let is_closing = now == Phase::Closing;
            if is_closing {
                connection.as_mut().graceful_shutdown();
            }
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                // The sender is in self.
                _ = phase.changed() => {}
                () = state.is_asked_to_end() => if state.idle_since().is_some() {
                    return;
                },
                // Half of a request's headers are nothing that could be answered.
                _ = look.tick(), if is_closing => if state.is_done() {
                    return;
                },
            }
        };
        if let Err(error) = ended {
            // The other side went away, or wrote no HTTP.
            tracing::debug!("a connection ended: {error}");
            let is_ours = state.has_stalled() || error.is_user();
            if is_ours && self.service.stopping.is_asked() {
                self.cut.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn cut(&self, state: &State) {
        if !state.is_idle() {
            self.cut.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a connection was cut that took longer than an answer may");
        }
    }
}
