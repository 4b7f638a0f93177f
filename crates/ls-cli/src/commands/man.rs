//! `ls-cli man`: the help of each command as a manual page.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use ls_files::{AtomicFile, FileError, create_folder, exists, is_file, is_folder, print};

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
    let (mut commands, mut pages) = (vec![&root], Vec::new());
    while let Some(command) = commands.pop() {
        // With what stands before it: `ls-cli-config-show`.
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = folder.join(format!("{name}.1"));
        expect_file_if_there(&path)?;
        let mut file = AtomicFile::create(&path)?;
        let written = file.write_all(&page(command)?);
        written.map_err(FileError::writing(&path))?;
        pages.push(file);
        commands.extend(command.get_subcommands());
    }
    // Not before each is written: if one cannot be, all stay as they were.
    for page in pages {
        page.commit()?;
    }
    Ok(())
}

/// Sees that a page can be put in a place: what is no file is not replaced.
fn expect_file_if_there(path: &Path) -> Result<()> {
    if exists(path)? && !is_file(path)? {
        let found = if is_folder(path)? {
            "a folder"
        } else {
            "a pipe or a device"
        };
        let path = path.to_path_buf();
        return Err(FileError::NotRegular { path, found }.into());
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
