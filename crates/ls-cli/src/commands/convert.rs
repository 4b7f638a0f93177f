//! `ls-cli convert`: a GGUF file to a Hugging Face folder.

use anyhow::Result;
use ls_files::{Dtype, print};
use ls_train::convert_gguf;

use crate::args::ConvertArgs;
use crate::task::{Task, Unit};

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let mut task: Option<Task> = None;
    let dtype = args.dtype.map(Dtype::from);
    let tokenizer = args.tokenizer.as_deref();
    let converted = convert_gguf(&args.file, &args.folder, tokenizer, dtype, |done, all| {
        let task =
            task.get_or_insert_with(|| Task::begin("unpacking", Unit::Of("tensors"), all as u64));
        task.at(done as u64);
    });
    drop(task);
    let converted = converted?;
    print(format!(
        "{}: {} weights in {}, {} tokens\n",
        args.folder.display(),
        converted.num_parameters,
        converted.dtype,
        converted.vocab_size
    ))?;
    Ok(())
}
