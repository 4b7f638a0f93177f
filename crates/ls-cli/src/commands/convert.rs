//! `ls-cli convert`: a GGUF file to a Hugging Face folder.

use anyhow::Result;
use ls_files::{Dtype, print};
use ls_train::convert_gguf;

use crate::args::ConvertArgs;
use crate::output::Display;

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    let mut display = Display::new();
    let mut started = false;
    let dtype = args.dtype.map(Dtype::from);
    let tokenizer = args.tokenizer.as_deref();
    let converted = convert_gguf(&args.file, &args.folder, tokenizer, dtype, |done, all| {
        if !started {
            display.start("unpacking", all);
            started = true;
        }
        display.tick(done);
    });
    display.finish();
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
