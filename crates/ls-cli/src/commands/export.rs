//! `ls-cli export`: the best model of a run as a folder for transformers or peft.

use std::fmt::Write;

use anyhow::{Context, Result};
use ls_files::{Dtype, print};
use ls_train::{ExportForm, TrainError, export};

use crate::args::ExportArgs;
use crate::error::{Stopped, WithHint};
use crate::output::Display;
use crate::screen::{ended, say};
use crate::signals::Signals;
use crate::{device, shell};

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<()> {
    let signals = Signals::listen_while_writing();
    let form = if args.adapter_only {
        ExportForm::Adapter
    } else {
        ExportForm::Whole {
            dtype: args.dtype.map_or(Dtype::F32, Dtype::from),
            merge: args.merge,
        }
    };
    let device = device::select(None)?;
    let mut display = Display::default().stopped_by(&signals);
    let on_hub = ls_hub::model_of_snapshot;
    let exported = export(&args.run, &args.out, form, on_hub, &device, &mut display);
    display.finish();
    let exported = match exported {
        Ok(exported) => exported,
        Err(error) if error.is_stopped() => {
            let out = args.out.display();
            ended(format!("stopped: nothing was left of {out}"));
            let code = signals.exit_code();
            return Err(Stopped { code }.into());
        }
        Err(error @ TrainError::Unfinished { .. }) => {
            let command = shell::resume(&args.run, &[]);
            return Err(WithHint {
                error: error.into(),
                hint: format!("go on with: {command}"),
            }
            .into());
        }
        Err(error) => {
            let run = args.run.display();
            return Err(error).with_context(|| format!("cannot export run {run}"));
        }
    };
    if let Some(base) = &exported.base_folder {
        say(format!(
            "  note: adapter_config.json calls the base model {base:?}, without the folders above it: \
             whoever loads the adapter says where the base is, or sets base_model_name_or_path"
        ));
    }
    let out = args.out.display();
    let mut text = match form {
        ExportForm::Adapter => format!(
            "{out}: an adapter of {} weights, for peft\n",
            exported.num_parameters
        ),
        ExportForm::Whole { dtype, .. } => {
            let mut text = format!("{out}: {} weights in {dtype}\n", exported.num_parameters);
            match exported.merged.layers.len() {
                0 => {}
                // It would say that nothing was rounded.
                layers if dtype == Dtype::F32 => {
                    let _ = writeln!(text, "{layers} layers merged");
                }
                _ => {
                    let _ = writeln!(text, "{}", exported.merged);
                }
            }
            text
        }
    };
    if !exported.no_counterpart.is_empty() {
        text += match form {
            ExportForm::Adapter => "peft and transformers answer otherwise:\n",
            ExportForm::Whole { .. } => {
                "the classes of transformers answer otherwise, classifier.py does not:\n"
            }
        };
        for reason in &exported.no_counterpart {
            let _ = writeln!(text, "  {reason}");
        }
    }
    print(text)?;
    Ok(())
}
