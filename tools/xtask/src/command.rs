//! Keeps how other programs are run: cargo without the traces of the cargo that started us, small questions with short
//! answers, and long work whose output is passed on while it is read.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// A cargo that runs in `root` with `variables` added. What `cargo run` told *us* is taken away again: build scripts
/// that watch those variables would otherwise run anew whenever the user changes between `cargo` and `cargo xtask`.
pub(crate) fn cargo(root: &Path, variables: &[(String, String)]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stdin(Stdio::null());
    let ours = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
    ];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// The standard output of a small question, trimmed; `None` if the program is not there, fails or says nothing.
pub(crate) fn answer<I: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = I>) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The command as a user could type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "-_=./:,+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs to its end with the terminal as it is; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    Ok(status.success())
}

/// Runs to its end, passing standard output and standard error on line by line; whether it succeeded, and all lines.
pub(crate) fn passed_on(command: &mut Command) -> anyhow::Result<(bool, Vec<String>)> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    let output = child.stdout.take().context("its output is piped")?;
    let errors = child.stderr.take().context("its errors are piped")?;
    let reader = std::thread::spawn(move || pass_on(errors));
    let mut lines = pass_on(output);
    lines.extend(reader.join().unwrap_or_default());
    Ok((child.wait()?.success(), lines))
}

fn pass_on(from: impl Read) -> Vec<String> {
    let mut lines = Vec::new();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // Nobody left to read it is no reason to stop the work.
        let _ = std::io::stdout().write_all(&line);
        lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_typed() {
        let mut command = Command::new("/usr/bin/git");
        command.args(["commit", "-m", "it's done", ""]);
        assert_eq!(shown(&command), r"git commit -m 'it'\''s done' ''");
    }

    #[test]
    fn output_is_passed_on_and_kept() {
        let (ok, mut lines) = passed_on(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"])).unwrap();
        lines.sort();
        assert!(!ok);
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_question_to_nobody_has_no_answer() {
        assert_eq!(answer("no-such-program-here", ["x"]), None);
        assert_eq!(answer("sh", ["-c", "echo yes; exit 1"]), None);
        assert_eq!(answer("sh", ["-c", "echo ' yes '"]), Some("yes".to_owned()));
    }
}
