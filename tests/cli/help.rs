//! What the program says of its own commands: `--help` of each, as it is stored, completions for
//! shells and manual pages.

use std::process::{Command, Stdio};

use crate::sandbox::{Sandbox, assert_contains, says};
use crate::stored::are_as_stored;

/// Every command by the words that call it, the program itself first: what `--help` lists, and what
/// it lists of each of those.
pub fn commands(sandbox: &Sandbox) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut at = 0;
    while let Some(words) = commands.get(at).cloned() {
        let help = help_of(sandbox, &words);
        let listed = help
            .split_once("\nCommands:\n")
            .map_or("", |(_, listed)| listed);
        // A line that goes on with the text of the one before stands further right.
        let names = listed
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.strip_prefix("  ")
                    .filter(|line| !line.starts_with(' '))
            })
            .filter_map(|line| line.split_whitespace().next());
        let names = names.filter(|name| *name != "help");
        commands.extend(names.map(|name| [&words[..], &[name.to_owned()]].concat()));
        at += 1;
    }
    commands
}

fn help_of(sandbox: &Sandbox, words: &[String]) -> String {
    let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
    args.push("--help");
    sandbox.ok(&args)
}

/// `ls-cli-config-show` of `config show`.
pub fn joined(words: &[String]) -> String {
    let all = ["ls-cli"]
        .into_iter()
        .chain(words.iter().map(String::as_str));
    all.collect::<Vec<_>>().join("-")
}

#[test]
fn stored_help_of_every_command() {
    let sandbox = Sandbox::empty();
    let help = commands(&sandbox).into_iter().map(|words| {
        let text = help_of(&sandbox, &words);
        (format!("{}.txt", joined(&words)), text)
    });
    are_as_stored("help", &help.collect::<Vec<_>>());
}

/// Pages are made of the commands that clap has; `--help` leaves none of them out.
#[test]
fn every_command_has_a_manual_page_that_shows_its_flags() {
    let sandbox = Sandbox::empty();
    assert_eq!(sandbox.ok(&["man", "--out", "share/man1"]), "");
    let commands = commands(&sandbox);
    let mut names: Vec<String> = commands
        .iter()
        .map(|words| format!("{}.1", joined(words)))
        .collect();
    names.sort();
    assert_eq!(sandbox.listing("share/man1"), names);
    assert!(
        names.contains(&"ls-cli-config-show.1".to_owned()),
        "{names:?}"
    );
    assert_eq!(sandbox.read("share/man1/ls-cli.1"), sandbox.ok(&["man"]));
    for words in &commands {
        let name = format!("share/man1/{}.1", joined(words));
        let page = sandbox.read(&name);
        assert_contains(&page, &["\n.TH ls", "\n.SH NAME\n", "\n.SH SYNOPSIS\n"]);
        // Each flag that stands at the beginning of a line of the help.
        let help = help_of(&sandbox, words);
        let flags = help.lines().filter_map(|line| {
            let flag = &line[line.find("--").filter(|at| *at <= 6)?..];
            let end = flag.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            Some(&flag[..end.unwrap_or(flag.len())])
        });
        let flags: Vec<String> = flags.map(|flag| flag.replace('-', "\\-")).collect();
        assert!(flags.len() >= 4, "{help}");
        assert_contains(&page, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        // Where groff is, the page is one to it.
        let mut groff = Command::new("groff");
        groff
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(sandbox.path(&name));
        if let Ok(outcome) = groff.output() {
            let said = String::from_utf8_lossy(&outcome.stderr);
            assert!(
                outcome.status.success() && said.is_empty(),
                "{name}: {said}"
            );
        }
    }
    // Pages of an earlier version are replaced.
    sandbox.write("share/man1/ls-cli.1", "old");
    sandbox.ok(&["man", "--out", "share/man1"]);
    assert_eq!(sandbox.read("share/man1/ls-cli.1"), sandbox.ok(&["man"]));
}

#[test]
fn a_folder_of_pages_that_cannot_be_is_refused() {
    let sandbox = Sandbox::empty();
    sandbox.write("file", "");
    let outcome = sandbox.run(&["man", "--out", "file/man1"]);
    says(&outcome, 1, &["file/man1"]);
    says(&sandbox.run(&["completions", "cmd"]), 2, &["'cmd'", "bash"]);
    assert_eq!(sandbox.files().len(), 1);
}

/// What bash offers for each line, by the script that completes it, which it reads without a word;
/// nothing where there is no bash.
fn offered(sandbox: &Sandbox, lines: &[Vec<&str>]) -> Option<Vec<Vec<String>>> {
    let script = sandbox.ok(&["completions", "bash"]);
    sandbox.write("ls-cli.bash", script);
    let mut program =
        "source ./ls-cli.bash\nsaid=$(complete -p ls-cli)\nsaid=${said#*-F }\n".to_owned();
    for words in lines {
        let (line, last) = (words.join("' '"), words.len() - 1);
        program += &format!(
            "COMP_WORDS=('{line}')\nCOMP_CWORD={last}\n\
             ${{said%% *}} ls-cli \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"\n\
             echo \"${{COMPREPLY[@]}}\"\n"
        );
    }
    let mut bash = Command::new("bash");
    let bash = bash.args(["--norc", "-c", &program]).stdin(Stdio::null());
    let outcome = bash.current_dir(sandbox.path("")).output().ok()?;
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success() && said.is_empty(), "{said}");
    let offered = String::from_utf8(outcome.stdout).unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    Some(offered.lines().map(words).collect())
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let sandbox = Sandbox::empty();
    let mut cases = vec![
        (vec!["ls-cli", "tr"], vec!["train"]),
        (vec!["ls-cli", "config", "sh"], vec!["show"]),
        (vec!["ls-cli", "train", "--conf"], vec!["--config"]),
        (vec!["ls-cli", "score", "--mode", "s"], vec!["strict"]),
        (vec!["ls-cli", "completions", "z"], vec!["zsh"]),
        (vec!["ls-cli", "predict", "--pooling", "me"], vec!["mean"]),
        (
            vec!["ls-cli", "evaluate", "--constrained", "bil"],
            vec!["bilou"],
        ),
    ];
    // No command is forgotten.
    let commands = commands(&sandbox);
    for words in &commands {
        let words = words.iter().map(String::as_str);
        let line = ["ls-cli"].into_iter().chain(words).chain(["--hel"]);
        cases.push((line.collect(), vec!["--help"]));
    }
    let lines: Vec<Vec<&str>> = cases.iter().map(|(line, _)| line.clone()).collect();
    if let Some(offered) = offered(&sandbox, &lines) {
        assert_eq!(offered.len(), cases.len());
        for (offered, (line, expected)) in offered.iter().zip(&cases) {
            assert_eq!(offered, expected, "{line:?}");
        }
    }
}

#[test]
fn the_completions_of_each_shell_name_every_command() {
    let sandbox = Sandbox::empty();
    let commands = commands(&sandbox);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.ok(&["completions", shell]);
        for words in &commands {
            let name = words.last().map_or("ls-cli", String::as_str);
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
}
