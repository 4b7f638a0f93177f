//! `ls-cli serve`: answers over HTTP, with many adapters on one base.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ls_serve::{Limits, Models, ServeError, Service, Token, serve};
use tokio::net::TcpListener;

use crate::args::ServeArgs;
use crate::error::UsageError;
use crate::output::Display;
use crate::screen::{say, warn};
use crate::{device, hub, model, panics};

/// Holds the token, where no file does.
const VARIABLE: &str = "LS_LLAMA_TOKEN";

/// Runs the command.
pub fn run(args: &ServeArgs) -> Result<()> {
    let began = Instant::now();
    let device = device::select(args.device.as_deref())?;
    let token = token(args)?;
    let runs = named(&args.run, "--run", false)?;
    let adapters = named(&args.adapter, "--adapter", true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads can be had")?;
    let hangups = runtime.block_on(async { Hangups::heard() })?;
    // Before weights are loaded, so that an address that is taken is told at once.
    let address = SocketAddr::new(args.host, args.port);
    let listener = runtime.block_on(TcpListener::bind(address));
    let listener = listener.map_err(|error| UsageError {
        message: format!("cannot listen on {address}: {error}"),
        hint: Some("choose another --port (0 takes a free one) or --host".into()),
    })?;
    let address = listener.local_addr().unwrap_or(address);

    let mut display = Display::default();
    let asked = args.answering.asked();
    let models = match &args.model {
        Some(base) => {
            let base = hub::model(base, false)?;
            let overrides = model::overrides(&args.overrides, args.max_length)?;
            Models::of_adapters(&base, &adapters, &overrides, asked, &device, &mut display)
        }
        None => Models::of_runs(&runs, asked, &device, &mut display),
    };
    let models = models.map_err(usage)?;
    display.finish();
    if let Err(error) = models.check_answering() {
        // With a token, models that it is for may come later.
        if token.is_none() {
            return Err(usage(error));
        }
        warn(error.to_string());
    }
    let names: Vec<_> = models
        .all()
        .iter()
        .map(|model| model.name.clone())
        .collect();
    let limits = Limits {
        max_batch_tokens: args.max_batch_tokens,
        max_queue_tokens: args.max_queue_tokens,
        max_concurrent_requests: args.max_concurrent_requests,
        max_streams: args.max_streams,
        max_client_batch_size: args.max_client_batch_size,
        max_body_bytes: args.max_body_bytes,
        timeout: Duration::from_secs(args.timeout.into()),
        max_connections: args.max_connections,
    };
    if !args.host.is_loopback() {
        let open = match &token {
            Some(_) => {
                "the token and all texts go there unencrypted: put a proxy with TLS before it"
            }
            None => "anybody who reaches it may use it: give it a token with --token-file",
        };
        warn(format!("{address} is open to other machines: {open}"));
    }
    let mut service = Service::start(models, limits, token)?;
    if args.log_texts {
        service = service.with_logged_texts();
    }
    let service = Arc::new(service);
    // From now on one is the end of a request, and not of the program.
    panics::of_each();
    // Before it is said that it answers: who reads that may ask it to stop.
    let stop = runtime.block_on(async { stop() })?;
    say(format!(
        "http://{address} answers with {} ({:.1} s)",
        names.join(", "),
        began.elapsed().as_secs_f32()
    ));
    let cut = runtime.block_on(async {
        // Beside it, so that who asks to stop does not wait until models are loaded.
        tokio::spawn(hangups.reload(service.clone()));
        serve(listener, service, stop).await
    });
    // Nobody waits for models that are being loaded any more.
    runtime.shutdown_background();
    match cut {
        0 => say("stopped: all that was taken is answered"),
        cut => warn(format!(
            "stopped: not all that was taken is answered; connections that were cut: {cut}"
        )),
    }
    Ok(())
}

/// Signals on which models are loaded anew: SIGHUP.
struct Hangups {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Hangups {
    /// Hears them from now on: one that comes while models are loaded would end the program.
    fn heard() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let signals = signal(SignalKind::hangup()).context("signals cannot be heard")?;
        Ok(Self { signals })
    }

    /// Loads models anew at each of them, one at a time.
    async fn reload(mut self, service: Arc<Service>) {
        while self.signals.recv().await.is_some() {
            say("SIGHUP: loading every model anew");
            reload(&service).await;
        }
    }
}

#[cfg(not(unix))]
impl Hangups {
    fn heard() -> Result<Self> {
        Ok(Self {})
    }

    async fn reload(self, _: Arc<Service>) {}
}

/// Ends at the first signal that asks to stop; a second one ends the program.
#[cfg(unix)]
fn stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let heard = |kind| signal(kind).context("signals cannot be heard");
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut terminate = heard(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        say("stopping: what was taken is answered first (a second signal ends it at once)");
        tokio::spawn(async move {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            std::process::exit(code);
        });
    })
}

/// Ends at Ctrl-C.
#[cfg(not(unix))]
fn stop() -> Result<impl Future<Output = ()>> {
    Ok(async {
        // Where it cannot be heard, it ends the program as it ends others.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(unix)]
async fn reload(service: &Arc<Service>) {
    let at_work = service.clone();
    let reloaded = tokio::task::spawn_blocking(move || at_work.models.reload()).await;
    let reloaded = reloaded.unwrap_or_else(|_| {
        warn("models could not be loaded anew: it ended unexpectedly");
        Vec::new()
    });
    for (name, loaded) in reloaded {
        match loaded {
            Ok(()) => say(format!("{name} is loaded anew")),
            Err(error) => warn(format!("{name} stays as it was: {error}")),
        }
    }
    if let Err(error) = service.models.check_answering() {
        warn(error.to_string());
    }
}

/// The token of the flags or the environment.
fn token(args: &ServeArgs) -> Result<Option<Token>> {
    let token = match (&args.token_file, std::env::var_os(VARIABLE)) {
        (Some(file), _) => Token::from_file(file),
        (None, None) => return Ok(None),
        // Also one that is empty, as where a secret was not filled in: without a token all is open.
        (None, Some(value)) => Token::new(&value.to_string_lossy(), VARIABLE),
    };
    token.map(Some).map_err(usage)
}

/// Folders with names: `NAME=DIR`, or where none is needed `DIR` by its own.
fn named(values: &[String], flag: &str, needed: bool) -> Result<Vec<(String, PathBuf)>> {
    let one = |value: &String| {
        // Folders of a sweep have the sign in their own names.
        let is_folder = !needed && Path::new(value).is_dir();
        match value.split_once('=').filter(|_| !is_folder) {
            Some((name, dir)) => Ok((name.to_owned(), PathBuf::from(dir))),
            None if needed => {
                let message = format!("{flag} {value}: expected a name and a folder, NAME={value}");
                Err(UsageError::new(message).into())
            }
            None => Ok((ls_serve::name_of(value.as_ref()), PathBuf::from(value))),
        }
    };
    values.iter().map(one).collect()
}

/// Whether the command line is at fault, or something else.
fn usage(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Model(error) => error.into(),
        ServeError::Exists { name } => UsageError {
            message: format!("two models have the name {name:?}"),
            hint: Some("give one of them another: --run NAME=DIR".into()),
        }
        .into(),
        ServeError::Name { .. } => UsageError {
            message: error.to_string(),
            hint: Some("give it another: --run NAME=DIR".into()),
        }
        .into(),
        ServeError::Token { .. }
        | ServeError::Answering { .. }
        | ServeError::OtherBase { .. }
        | ServeError::ForNone { .. }
        | ServeError::NoModels => UsageError::new(error.to_string()).into(),
        other => other.into(),
    }
}
