//! `ls-fetch`: weights and data sets from the Hugging Face Hub into the cache that Python shares.
//!
//! Prints `FOLDER<tab>REPOSITORY@COMMIT` on stdout, one line for each name; everything else goes to
//! stderr. Exit 0: all are there, 1: one could not be fetched, 2: bad usage.

#![forbid(unsafe_code)]

mod data;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ls_files::{StdoutError, print, say};
use ls_hub::display::{Display, Shown};
use ls_hub::fetch::{FetchRequest, Fetcher};
use ls_hub::models::{KnownModel, MODELS};
use ls_hub::{Files, HubError, RepoKind, Settings};

/// Fetches weights and data sets from the Hugging Face Hub into its cache.
#[derive(Parser)]
#[command(name = "ls-fetch", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetches models: short names (--list) or org/name, either with @REVISION.
    Weights {
        /// Models.
        #[arg(required_unless_present = "list")]
        models: Vec<String>,
        /// Lists the short names and ends.
        #[arg(long)]
        list: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Fetches data sets: names of the catalogue (--list) or org/name, either with @REVISION.
    Data {
        /// Data sets.
        #[arg(required_unless_present = "list")]
        names: Vec<String>,
        /// Language of a data set in several; may be given more than once. All without it.
        #[arg(long)]
        language: Vec<String>,
        /// Lists the catalogue and ends.
        #[arg(long)]
        list: bool,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args)]
struct Options {
    /// Branch, tag or commit of whatever is named without one.
    #[arg(long)]
    revision: Option<String>,
    /// Cache folder, instead of the one that HF_HUB_CACHE or HF_HOME names.
    #[arg(long)]
    cache_dir: Option<PathBuf>,
    /// Files at a time.
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// How progress is shown.
    #[arg(long, value_enum, value_name = "WAY", default_value_t = Progress::Auto)]
    progress: Progress,
    /// Only results and errors: no progress, no messages.
    #[arg(short, long, conflicts_with = "progress")]
    quiet: bool,
}

impl Options {
    fn shown(&self) -> Shown {
        match self.progress {
            _ if self.quiet => Shown::Nothing,
            Progress::Auto => Shown::Auto,
            Progress::Plain => Shown::Lines,
            Progress::Off => Shown::Messages,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, ValueEnum)]
enum Progress {
    /// Bars on a terminal, else lines.
    Auto,
    /// A line for each tenth.
    Plain,
    /// Not at all.
    Off,
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            return match printed {
                Err(fault) if !error.use_stderr() => not_printed(fault.into()),
                _ => code,
            };
        }
    };
    let (requests, options) = match command {
        Command::Weights { list: true, .. } => return printed(&list()),
        Command::Weights {
            models, options, ..
        } => (requests(&models, &options, weights), options),
        Command::Data { list: true, .. } => return printed(&data::list()),
        Command::Data {
            names,
            language,
            options,
            ..
        } => {
            let read = |name: &str| data::request(name, &language);
            (requests(&names, &options, read), options)
        }
    };
    // All names are read before anything is fetched: a misspelt one shows at once.
    let requests = match requests {
        Ok(requests) => requests,
        Err(error) => {
            report(&error);
            return ExitCode::from(2);
        }
    };
    let shown = options.shown();
    let mut settings = Settings::from_env();
    if let Some(dir) = options.cache_dir {
        settings.cache_dir = dir;
    }
    let mut fetcher = Fetcher::new(settings);
    fetcher.jobs = options.jobs;
    let display = Display::new(shown);
    let mut code = ExitCode::SUCCESS;
    for request in requests {
        let fetched = fetcher.fetch(&request, &|event| display.show(event));
        display.end();
        match fetched {
            Ok(fetched) => {
                let (path, repo) = (fetched.path.display(), &request.at.repo);
                let line = format!("{path}\t{repo}@{}\n", fetched.commit);
                match print(line) {
                    // The rest is fetched all the same.
                    Ok(()) | Err(StdoutError::Closed) => {}
                    Err(error) => code = not_printed(error),
                }
            }
            Err(error) => {
                report(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn requests(
    names: &[String],
    options: &Options,
    read: impl Fn(&str) -> Result<FetchRequest, HubError>,
) -> Result<Vec<FetchRequest>, HubError> {
    let request = |name: &String| match &options.revision {
        Some(revision) if !name.contains('@') => read(&format!("{name}@{revision}")),
        _ => read(name),
    };
    names.iter().map(request).collect()
}

fn weights(name: &str) -> Result<FetchRequest, HubError> {
    Ok(FetchRequest {
        kind: RepoKind::Model,
        at: name.parse()?,
        files: Files::Weights,
    })
}

fn list() -> String {
    let line = |model: &KnownModel| {
        let gated = if model.gated {
            format!("to be accepted at {}", model.page())
        } else {
            String::new()
        };
        let line = format!(
            "{:15} {:52} {:14} {gated}",
            model.name, model.repo, model.licence
        );
        format!("{}\n", line.trim_end())
    };
    MODELS.iter().map(line).collect()
}

/// Prints a list, and how that ended.
fn printed(text: &str) -> ExitCode {
    print(text).map_or_else(not_printed, |()| ExitCode::SUCCESS)
}

/// A reader that went away is no failure.
fn not_printed(error: StdoutError) -> ExitCode {
    match error {
        StdoutError::Closed => ExitCode::SUCCESS,
        error => {
            say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn report(error: &HubError) {
    say(format_args!("error: {error}"));
    let mut cause = error.source();
    while let Some(error) = cause {
        say(format_args!("  caused by: {error}"));
        cause = error.source();
    }
}
