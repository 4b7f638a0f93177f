//! [`serve`]: connections, each with a limit of time, and their end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::router::router;
use crate::service::Service;

/// How long a connection may say nothing, or not all of a request's headers. Proxies keep theirs
/// open for 60 s, and should be the ones to close them.
const SILENCE: Duration = Duration::from_secs(75);
/// How long is waited where no connection can be taken, as where the process has no more files.
const BREATH: Duration = Duration::from_millis(100);

/// Answers what comes in at a socket until `stop` is done. Then it takes no more, and returns once
/// what it took is answered, or after the time that an answer may take.
pub async fn serve(listener: TcpListener, service: Arc<Service>, stop: impl Future<Output = ()>) {
    let router = router(service.clone());
    let places = Arc::new(Semaphore::new(service.limits.max_connections));
    let open = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            // It is never closed.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => break,
            next = next => next,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection cannot be taken: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // Answers are short, and are wanted at once. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        let answering = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(stream), answering);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                // The other side went away, or wrote no HTTP.
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
    drop(listener);
    let all = open.shutdown();
    if tokio::time::timeout(service.limits.timeout, all)
        .await
        .is_err()
    {
        tracing::warn!("connections were cut that took longer than an answer may");
    }
    let stopping = tokio::task::spawn_blocking(move || service.stop());
    // Whatever went wrong there was told to those who waited.
    let _ = stopping.await;
}
