//! `ls-cli man`: the help of each command as a manual page.

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use ls_files::{create_folder, print, write_atomic};

use crate::args::{Args, ManArgs};

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<()> {
    let mut root = Args::command().disable_help_subcommand(true);
    root.build();
    let Some(folder) = &args.out else {
        print(page(&root)?)?;
        return Ok(());
    };
    create_folder(folder)?;
    let mut commands = vec![&root];
    while let Some(command) = commands.pop() {
        // With what stands before it: `ls-cli-config-show`.
        let name = command.get_display_name().unwrap_or(command.get_name());
        write_atomic(folder.join(format!("{name}.1")), page(command)?)?;
        commands.extend(command.get_subcommands());
    }
    Ok(())
}

/// The page of a command, in roff.
fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let version = concat!("ls-cli ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(version);
    man.render(&mut page)?;
    Ok(page)
}
