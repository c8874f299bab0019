//! Runs the program `quipu` as a user would, and reads what it says.
#![allow(dead_code, reason = "each file takes what it needs")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is a finding"
)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Standard output as one object.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(
            self.out.lines().count(),
            1,
            "not one line: {}\nstderr: {}",
            self.out,
            self.err
        );
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The code and the message of the error object on standard error.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let line = self
            .err
            .lines()
            .last()
            .unwrap_or_else(|| panic!("nothing on standard error"));
        let error: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        (text(&error["error"]["code"]), text(&error["error"]["message"]))
    }
}

#[track_caller]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// The program, in a folder, without what the environment may say.
pub(crate) fn command(dir: &Path, words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    for name in [
        "QUIPU_NETWORK",
        "QUIPU_KEY",
        "QUIPU_OUTPUT",
        "QUIPU_PASSPHRASE",
        "QUIPU_NODE_BIN",
    ] {
        command.env_remove(name);
    }
    command.args(words).current_dir(dir).stdin(Stdio::null());
    command
}

/// Runs `quipu` with `words`.
pub(crate) fn quipu(dir: &Path, words: &[impl AsRef<OsStr>]) -> Said {
    said(&mut command(dir, words))
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same with `--output json`.
pub(crate) fn quipu_json(dir: &Path, words: &[&str]) -> Said {
    quipu(dir, &[&["--output", "json"], words].concat())
}

/// The daemon, which is built together with `quipu`.
pub(crate) fn node_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_quipu")).with_file_name("quipu-node");
    assert!(path.is_file(), "build the daemon first: cargo build --release --bins");
    path
}
