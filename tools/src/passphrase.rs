//! Keeps how secret keys are opened: plain files at once, encrypted ones with a passphrase from `QUIPU_PASSPHRASE` or
//! from the person at the terminal.
//!
//! Invariant: a passphrase is never an argument (others can read those), never in a message, and wiped after use.

use std::io::{IsTerminal, stdin};
use std::path::Path;

use quipu_crypto::key::SecretKey;
use quipu_crypto::key_file::{self, KeyFileError};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Where a passphrase may stand.
const VARIABLE: &str = "QUIPU_PASSPHRASE";

/// Reads the secret key in `path`.
pub(crate) fn open(path: &Path) -> Result<SecretKey, Failure> {
    if !key_file::is_encrypted(path)? {
        return Ok(key_file::read(path, None)?);
    }
    let passphrase = match from_environment()? {
        Some(passphrase) => passphrase,
        None if stdin().is_terminal() => ask(&format!("Passphrase of {}: ", path.display()))?,
        None => return Err(KeyFileError::PassphraseNeeded { path: path.to_owned() }.into()),
    };
    Ok(key_file::read(path, Some(&passphrase))?)
}

/// A passphrase for a new key: from the environment, or asked for twice.
pub(crate) fn choose() -> Result<Zeroizing<String>, Failure> {
    if let Some(passphrase) = from_environment()? {
        return Ok(passphrase);
    }
    if !stdin().is_terminal() {
        return Err(
            Failure::general("passphrase", "there is no terminal to ask for a passphrase")
                .hint("set QUIPU_PASSPHRASE, or leave --encrypt away"),
        );
    }
    let first = ask("New passphrase: ")?;
    if first != ask("The same again: ")? {
        return Err(Failure::general("passphrase", "the two passphrases differ").hint("try again"));
    }
    Ok(first)
}

fn from_environment() -> Result<Option<Zeroizing<String>>, Failure> {
    match std::env::var(VARIABLE) {
        Ok(passphrase) => Ok(Some(Zeroizing::new(passphrase))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::general("passphrase", format!("{VARIABLE} is not UTF-8 text")))
        }
    }
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|error| Failure::general("passphrase", format!("no passphrase was read: {error}")))
}
