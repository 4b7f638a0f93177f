//! `ls-cli convert`: a GGUF file to a Hugging Face folder.

use std::ops::ControlFlow;

use anyhow::Result;
use ls_files::{Dtype, print};
use ls_train::convert_gguf;

use crate::args::ConvertArgs;
use crate::error::Stopped;
use crate::screen::ended;
use crate::signals::Signals;
use crate::task::{Task, Unit};

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let signals = Signals::listen_while_writing();
    let mut task: Option<Task> = None;
    let dtype = args.dtype.map(Dtype::from);
    let tokenizer = args.tokenizer.as_deref();
    let converted = convert_gguf(&args.file, &args.folder, tokenizer, dtype, |done, all| {
        // From now on there is something to be removed.
        signals.training();
        let task =
            task.get_or_insert_with(|| Task::begin("unpacking", Unit::Of("tensors"), all as u64));
        task.at(done as u64);
        if signals.asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    drop(task);
    let folder = args.folder.display();
    let converted = match converted {
        Err(error) if error.is_stopped() => {
            ended(format!("stopped: nothing was left of {folder}"));
            let code = signals.exit_code();
            return Err(Stopped { code }.into());
        }
        converted => converted?,
    };
    print(format!(
        "{folder}: {} weights in {}, {} tokens\n",
        converted.num_parameters, converted.dtype, converted.vocab_size
    ))?;
    Ok(())
}
