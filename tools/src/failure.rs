//! Keeps what went wrong, for the person who has to do something about it: what happened, to what, what to do next.
//!
//! Invariants: exit codes and `code` are stable, sentences are not. A failure knows its own exit code, so no verb
//! chooses a number. A reader that went away (a closed pipe) is no failure of ours.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quipu_crypto::id::TimeMs;
use quipu_crypto::key_file::KeyFileError;
use quipu_genesis::ReadError;
use quipu_genesis::ceremony::SignError;
use quipu_genesis::file::FileError;
use quipu_ledger::codec::DecodeError;
use quipu_node::client::ClientError;
use quipu_node::client_protocol::{CloseCode, Rejection, Unavailable};

use crate::value::time_text;

/// How much clocks differ without anybody having to look.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// What the program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The reader of our output has gone: nothing is wrong, and nobody is there to be told.
    Quiet,
    /// Anything that has no code of its own.
    Failure,
    /// The command line is wrong.
    Usage,
    /// A copy is not what it should be.
    Verification,
    /// What was asked for is not there.
    NotFound,
    /// Nobody could answer in time.
    Unavailable,
    /// The ledger refused a transaction, or executed it without effect.
    Rejected,
}

/// Why a verb ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Stable, for programs.
    pub(crate) code: Cow<'static, str>,
    /// What happened, and to what.
    pub(crate) message: String,
    /// What to do next; empty where the message says it.
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: impl Into<Cow<'static, str>>, message: impl Display) -> Self {
        Self {
            exit,
            code: code.into(),
            message: message.to_string(),
            hint: String::new(),
        }
    }

    pub(crate) fn general(code: &'static str, message: impl Display) -> Self {
        Self::new(Exit::Failure, code, message)
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A file that could not be used.
    pub(crate) fn file(path: &std::path::Path, action: &str, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::NotFound {
            "no_such_file"
        } else {
            "file"
        };
        Self::general(code, format!("{}: cannot {action} it: {error}", path.display()))
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = hint.to_string();
        self
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::general("io", format!("the system failed: {error}"))
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let failure = Self::general("key_file", &error);
        match error {
            KeyFileError::PassphraseNeeded { .. } => failure.hint("set QUIPU_PASSPHRASE, or run this on a terminal"),
            KeyFileError::Missing { .. } => failure.hint("`quipu key generate FILE` makes a key"),
            _ => failure,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::general("genesis", error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::general("file", error)
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        Self::general("not_signed", error)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::usage(error)
    }
}

impl From<quipu_crypto::key::KeyError> for Failure {
    fn from(error: quipu_crypto::key::KeyError) -> Self {
        Self::general("key", error)
    }
}

impl From<quipu_crypto::random::RandomError> for Failure {
    fn from(error: quipu_crypto::random::RandomError) -> Self {
        Self::general("random", error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Refused { code, key, .. } => match code {
                CloseCode::Stranger => Self::new(
                    Exit::Rejected,
                    "stranger",
                    format!("{message}; the key shown was {key}"),
                )
                .hint("choose a member's key with --key or QUIPU_KEY, or have an administrator enrol this one"),
                CloseCode::Protocol => Self::general("protocol", message)
                    .hint("the node speaks another version; use the quipu that came with it"),
                CloseCode::Stopping | CloseCode::Replaced | CloseCode::Full => {
                    Self::new(Exit::Unavailable, "refused", message).hint("try again in a moment")
                }
            },
            ClientError::Unreachable { .. } => Self::new(Exit::Unavailable, "unreachable", message)
                .hint("see whether the nodes run (`quipu network status`), or give them longer with --timeout"),
            ClientError::Unresolved { .. } => Self::new(Exit::Unavailable, "unresolved", message),
            ClientError::Protocol { .. } => Self::general("protocol", message)
                .hint("the node speaks another version; use the quipu that came with it"),
            ClientError::Setup(_) => Self::general("client", message),
        }
    }
}

/// A refusal for people: times as dates.
pub(crate) fn rejection_text(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Expired { expires_at, now } => format!(
            "the transaction expired at {}; for the network it is {}",
            time_text(*expires_at),
            time_text(*now)
        ),
        Rejection::ExpiryTooFar { expires_at, latest } => format!(
            "the transaction expires at {}; the network allows {} at the latest now",
            time_text(*expires_at),
            time_text(*latest)
        ),
        other => other.to_string(),
    }
}

/// Whether a time is further in the future of this machine than clocks usually differ.
fn is_ahead(time: TimeMs) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(time.get()) > now.saturating_add(CLOCKS_DIFFER)
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        let hint = match &rejection {
            Rejection::Expired { now, .. } if is_ahead(*now) => {
                "the network's time is ahead of this machine's: its genesis is dated in the future, or this clock is \
                 behind; compare with `quipu genesis show`, or sign one with a longer --expires-in"
            }
            Rejection::TooLarge { .. } => "split it, or keep large values elsewhere and their hash here",
            Rejection::WrongNetwork { .. } => "choose the network that it was signed for with --network",
            Rejection::Expired { .. } => "it was not executed; make and sign a new one",
            Rejection::ExpiryTooFar { .. } => "sign one with a shorter --expires-in",
            Rejection::UnknownMember => "choose a member's key with --key or QUIPU_KEY",
            Rejection::NotPermitted { .. } => {
                "`quipu genesis show` lists the namespaces and who may write in each; choose with --namespace and --key"
            }
            Rejection::Busy { .. } => "try again, more slowly",
            Rejection::Malformed(_) | Rejection::BadSignature => "sign it again with this version of quipu",
        };
        Self::new(Exit::Rejected, rejection.code(), rejection_text(&rejection)).hint(hint)
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        let (exit, code) = match &unavailable {
            Unavailable::NoLeader => (Exit::Unavailable, "no_leader"),
            Unavailable::Stopping => (Exit::Unavailable, "stopping"),
            Unavailable::Busy => (Exit::Unavailable, "busy"),
            Unavailable::DiskFull { .. } => (Exit::Unavailable, "disk_full"),
            Unavailable::Store(_) => (Exit::Unavailable, "store"),
            Unavailable::Invalid(_) => (Exit::Failure, "invalid"),
        };
        let failure = Self::new(exit, code, &unavailable);
        match unavailable {
            Unavailable::NoLeader => failure.hint(
                "a majority of the nodes must run; see `quipu network status`, or read what one node has with \
                 --consistency local",
            ),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates_and_a_network_ahead_is_noticed() {
        let expires_at = TimeMs(1_700_000_000_000);
        let past = Failure::from(Rejection::Expired {
            expires_at,
            now: TimeMs(1_700_000_001_000),
        });
        assert!(
            past.message.contains("2023-11-14T22:13:20") && !past.message.contains("1700000000"),
            "{}",
            past.message
        );
        assert!(!past.hint.contains("ahead"), "{}", past.hint);
        let future = Failure::from(Rejection::Expired {
            expires_at,
            now: TimeMs(9_000_000_000_000),
        });
        assert!(future.hint.contains("dated in the future"), "{}", future.hint);
        let far = rejection_text(&Rejection::ExpiryTooFar {
            expires_at,
            latest: expires_at,
        });
        assert_eq!(far.matches("2023-11-14T22:13:20").count(), 2, "{far}");
    }

    #[test]
    fn a_stranger_is_told_its_key_once() {
        let key = quipu_crypto::key::PublicKey::from_bytes([7; 32]);
        let failure = Failure::from(ClientError::Refused {
            node: "node1".to_owned(),
            code: CloseCode::Stranger,
            key,
        });
        let told = format!("{} {}", failure.message, failure.hint);
        assert_eq!(told.matches(&key.to_string()).count(), 1, "{told}");
        assert_eq!(told.matches("QUIPU_KEY").count(), 1, "{told}");
    }
}
