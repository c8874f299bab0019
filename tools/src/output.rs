//! Keeps the one way out: data on standard output, as text or as one JSON object; all else on standard error.
//!
//! Invariants: nothing else of this crate writes to either; in JSON, heights, terms, counts and positions are strings,
//! measurements (seconds, rates, latencies) and process ids are numbers; hex has no 0x. Nothing is written after the
//! reader has gone, and nothing panics then.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

/// How data are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Where everything goes that a verb has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person is likely to watch standard error.
    pub(crate) fn is_watched(self) -> bool {
        !self.is_json() && io::stderr().is_terminal()
    }

    /// Writes data: `json` as one object on one line, or the text.
    pub(crate) fn data(self, json: &Value, text: impl Display) -> Result<(), Failure> {
        if self.is_json() {
            self.line(json)
        } else {
            self.line(text)
        }
    }

    /// The same for what a verb has `done`, which is told on standard error where the data cannot be written.
    pub(crate) fn done(self, json: &Value, text: impl Display, done: impl Display) -> Result<(), Failure> {
        self.data(json, text).map_err(|failure| Failure {
            message: format!("{done}, but {}", failure.message),
            ..failure
        })
    }

    /// Writes one line of data.
    pub(crate) fn line(self, line: impl Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| unwritten(&error))
    }

    /// Writes data as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|error| unwritten(&error))
    }

    /// Tells a person something beside the data. Programs are not disturbed.
    pub(crate) fn note(self, note: impl Display) {
        if !self.is_json() {
            // Nobody to be told is no reason to stop the work.
            let _ = writeln!(io::stderr().lock(), "{note}");
        }
    }

    /// The exit code of a command line whose error has been written already.
    pub(crate) fn usage_exit(self) -> ExitCode {
        ExitCode::from(code_of(Exit::Usage))
    }

    /// Tells why the verb failed; answers the exit code.
    pub(crate) fn failed(self, failure: &Failure) -> ExitCode {
        if failure.exit != Exit::Quiet {
            let mut err = io::stderr().lock();
            // Nobody to be told: the exit code says it still.
            let _ = if self.is_json() {
                writeln!(err, "{}", error_object(failure))
            } else if failure.hint.is_empty() {
                writeln!(err, "error: {}", failure.message)
            } else {
                writeln!(err, "error: {}\nhint: {}", failure.message, failure.hint)
            };
        }
        ExitCode::from(code_of(failure.exit))
    }
}

/// A closed pipe ends the program in peace.
fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Quiet, "closed", "the reader of the output has gone"),
        _ => Failure::general("io", format!("standard output cannot be written: {error}")),
    }
}

/// The number of an exit.
const fn code_of(exit: Exit) -> u8 {
    match exit {
        Exit::Quiet => 0,
        Exit::Failure => 1,
        Exit::Usage => 2,
        Exit::Verification => 3,
        Exit::NotFound => 4,
        Exit::Unavailable => 5,
        Exit::Rejected => 6,
    }
}

fn error_object(failure: &Failure) -> Value {
    let hint = (!failure.hint.is_empty()).then_some(&failure.hint);
    json!({"error": {"code": failure.code, "message": failure.message, "hint": hint}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_object() {
        let failure = Failure::new(Exit::NotFound, "not_found", "no \"x\"").hint("look elsewhere");
        insta::assert_snapshot!(
            error_object(&failure),
            @r#"{"error":{"code":"not_found","hint":"look elsewhere","message":"no \"x\""}}"#
        );
        let bare = Failure::usage("nothing");
        insta::assert_snapshot!(error_object(&bare), @r#"{"error":{"code":"usage","hint":null,"message":"nothing"}}"#);
    }
}
