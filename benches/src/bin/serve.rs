//! `ls-bench-serve`: clients that ask a service, and how long it lets them wait; also whether each
//! answer is the one that belongs to its question.

// Its result is what it prints, and nothing is lost with it.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Clients that ask a service, and how long it lets them wait
///
/// Each line of QUESTIONS is a JSON object with `path`, `body` and, where the answer is known,
/// `answer`; all are asked in turn. A client asks again once it has its answer, or with --rate at
/// moments that are fixed beforehand: then waiting for a client's turn counts too. Ends with 1
/// where an answer was wrong or lost, or failed by the service's fault (5xx but 503).
#[derive(Debug, Parser)]
#[command(name = "ls-bench-serve")]
struct Args {
    /// Address of the service, such as 127.0.0.1:8080
    #[arg(long)]
    address: String,
    /// JSON lines of questions
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Clients at once, each with a connection
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long is asked
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// How many questions are asked, however long it takes
    #[arg(long)]
    requests: Option<u64>,
    /// Questions in a second, together
    #[arg(long)]
    rate: Option<f64>,
    /// Ends with 1 where a question was refused, too
    #[arg(long)]
    answer_all: bool,
}

/// What is asked.
struct Question {
    path: String,
    body: Bytes,
    answer: Option<Value>,
}

/// What clients have in common.
struct Work {
    address: String,
    questions: Vec<Question>,
    next: AtomicU64,
    began: Instant,
    until: Option<Instant>,
    requests: u64,
    /// Seconds between two questions; none where clients ask as soon as they can.
    pause: Option<f64>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    seconds: Vec<f64>,
    statuses: BTreeMap<u16, u64>,
    wrong: u64,
    lost: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.clients > 0, "expected at least one client");
    let text = std::fs::read_to_string(&args.questions)
        .with_context(|| format!("cannot read {}", args.questions.display()))?;
    let questions = text.lines().map(question).collect::<Result<Vec<_>>>()?;
    ensure!(
        !questions.is_empty(),
        "{}: no questions",
        args.questions.display()
    );
    let began = Instant::now();
    let work = Arc::new(Work {
        address: args.address.clone(),
        questions,
        next: AtomicU64::new(0),
        began,
        until: match args.requests {
            Some(_) => None,
            None => Some(began + Duration::from_secs_f64(args.seconds)),
        },
        requests: args.requests.unwrap_or(u64::MAX),
        pause: args.rate.map(|rate| 1.0 / rate),
        seen: Mutex::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let clients = (0..args.clients).map(|_| tokio::spawn(client(work.clone())));
        for client in clients.collect::<Vec<_>>() {
            client.await??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let took = began.elapsed().as_secs_f64();
    let mut seen = std::mem::take(&mut *work.seen.lock().expect("clients have ended"));
    seen.seconds.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let last = seen.seconds.len().saturating_sub(1);
        let seconds = seen.seconds.get((last as f64 * part).round() as usize);
        (seconds.copied().unwrap_or(f64::NAN) * 1e4).round() / 10.0
    };
    let answered = seen.statuses.get(&200).copied().unwrap_or(0);
    println!(
        "{}",
        json!({
            "clients": args.clients,
            "rate": args.rate,
            "seconds": (took * 10.0).round() / 10.0,
            "answered": answered,
            "per_second": (answered as f64 / took * 10.0).round() / 10.0,
            "p50_ms": at(0.5),
            "p90_ms": at(0.9),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
            "statuses": seen.statuses,
            "wrong_answers": seen.wrong,
            "lost": seen.lost,
        })
    );
    if seen.wrong + seen.lost > 0 {
        bail!("{} wrong answers, {} lost", seen.wrong, seen.lost);
    }
    let is_fault = |status: u16| match status {
        200 => false,
        503 => args.answer_all,
        status => args.answer_all || status >= 500,
    };
    let faults = seen
        .statuses
        .iter()
        .filter(|(status, _)| is_fault(**status));
    let faults: BTreeMap<_, _> = faults.collect();
    ensure!(faults.is_empty(), "not answered, by status: {faults:?}");
    Ok(())
}

fn question(line: &str) -> Result<Question> {
    let value: Value = serde_json::from_str(line)?;
    let path = value["path"].as_str().context("a question without path")?;
    Ok(Question {
        path: path.to_owned(),
        body: value["body"].to_string().into(),
        answer: value.get("answer").cloned(),
    })
}

/// Asks one question after the other.
async fn client(work: Arc<Work>) -> Result<()> {
    let mut connection = connect(&work.address).await?;
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.requests {
            return Ok(());
        }
        let mut began = Instant::now();
        if let Some(pause) = work.pause {
            began = work.began + Duration::from_secs_f64(pause * number as f64);
            if work.until.is_some_and(|until| began >= until) {
                return Ok(());
            }
            tokio::time::sleep_until(began.into()).await;
        } else if work.until.is_some_and(|until| began >= until) {
            return Ok(());
        }
        // Strides, so that neighbours in time are no neighbours in the list.
        let at = number.wrapping_mul(7919) % work.questions.len() as u64;
        let question = &work.questions[at as usize];
        let answered = ask(&mut connection, &work.address, question).await;
        let took = began.elapsed().as_secs_f64();
        let lost = answered.is_err();
        {
            let mut seen = work.seen.lock().expect("no client panics");
            match answered {
                Ok((status, body)) => {
                    *seen.statuses.entry(status.as_u16()).or_default() += 1;
                    if status == StatusCode::OK {
                        seen.seconds.push(took);
                        let expected = question.answer.as_ref();
                        seen.wrong += u64::from(expected.is_some_and(|answer| *answer != body));
                    }
                }
                Err(_) => seen.lost += 1,
            }
        }
        if lost {
            connection = connect(&work.address).await?;
        }
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its end is seen at the next question.
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(
    connection: &mut SendRequest<Full<Bytes>>,
    address: &str,
    question: &Question,
) -> Result<(StatusCode, Value)> {
    connection.ready().await?;
    let request = Request::post(&question.path)
        .header("host", address)
        .header("content-type", "application/json")
        .body(Full::new(question.body.clone()))?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
