//! `ls-cli completions`: what completes commands and flags in a shell.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};
use ls_files::print;

use crate::args::{Args, CompletionsArgs};

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    // Into memory, since clap_complete panics where its output cannot be written.
    let mut script = Vec::new();
    if args.shell == Shell::Bash {
        // With a hyphen in the name of the program its script for bash knows no command (4.6.12):
        // it is made for a name without, and registered for this one.
        let plain = name.replace('-', "_");
        generate(Shell::Bash, &mut command, &plain, &mut script);
        let text = String::from_utf8_lossy(&script);
        script = text
            .replace(&format!(" {plain}\n"), &format!(" {name}\n"))
            .into();
    } else {
        generate(args.shell, &mut command, name, &mut script);
    }
    print(script)?;
    Ok(())
}
