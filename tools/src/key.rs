//! Keeps `key generate` and `key show`: the identities of members and administrators.
//!
//! Invariant: a secret key is written once, for its owner alone, and never shown; `show` tells its public half.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quipu_crypto::key::SecretKey;
use quipu_crypto::key_file;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::passphrase;

/// Keys: make one, look at one.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make a new Ed25519 key in a file that only you can read, and print its public half.
    Generate(Generate),
    /// Print the public half of a key file.
    Show(Show),
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// The new file.
    file: PathBuf,
    /// Encrypt it under a passphrase, from QUIPU_PASSPHRASE or asked for on the terminal.
    #[arg(long)]
    encrypt: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The key file.
    file: PathBuf,
}

impl Key {
    pub(crate) fn run(&self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Generate(generate) => generate.run(output),
            Self::Show(show) => show.run(output),
        }
    }
}

impl Generate {
    fn run(&self, output: Output) -> Result<(), Failure> {
        let passphrase = if self.encrypt {
            Some(passphrase::choose()?)
        } else {
            None
        };
        let key = SecretKey::generate()?;
        key_file::write(
            &self.file,
            &key,
            passphrase.as_ref().map(|passphrase| passphrase.as_str()),
        )?;
        let json = json!({"public": key.public().to_string(), "file": self.file, "encrypted": self.encrypt});
        output.data(&json, key.public())
    }
}

impl Show {
    fn run(&self, output: Output) -> Result<(), Failure> {
        let encrypted = key_file::is_encrypted(&self.file)?;
        let key = passphrase::open(&self.file)?;
        let json = json!({"public": key.public().to_string(), "file": self.file, "encrypted": encrypted});
        output.data(&json, key.public())
    }
}
