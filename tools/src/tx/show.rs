//! Keeps `tx show`: what became of a transaction, for whoever has its id or its signed form.
//!
//! Invariant: *never* is said only where an executed block has reached the expiry and no block has the transaction;
//! that takes the expiry, so an id alone is at best *not found*.

use std::path::Path;

use clap::Args;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{TimeMs, TransactionId};
use quipu_node::client_protocol::{Answer, Call};
use serde_json::json;

use super::saved::Reader;
use super::{receipt_json, receipt_text};
use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::session::{READ_TIMEOUT, Session, unexpected};
use crate::value::time_text;

/// Tell what became of a transaction: applied, failed, still possible, or never possible. Exit 4 for the last two.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The transaction's id, or a file with the signed transaction (`--save`).
    #[arg(value_name = "ID|FILE")]
    transaction: String,
    /// With an id: its expiry, ms since 1970, as a failed command told it.
    #[arg(long, value_name = "MS")]
    expires_at: Option<TimeMs>,
    #[command(flatten)]
    identity: Identity,
}

impl Show {
    pub(super) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(global, &self.identity)?;
        let (id, expires_at) = self.wanted(&session)?;
        let call = Call::Lookup { id, expires_at };
        let (status, text) = match session.run(session.call(call, global.timeout.unwrap_or(READ_TIMEOUT)))? {
            Answer::Executed(receipt) => return output.data(&receipt_json(&receipt), receipt_text(&receipt)),
            Answer::Possible { time, height } => {
                let until = expires_at.map_or_else(String::new, |until| format!(" until {}", time_text(until)));
                let now = time_text(time);
                (
                    "possible",
                    format!("is in no block up to {height} ({now}); it may still be executed{until}"),
                )
            }
            Answer::Never { height } => (
                "never",
                format!("expired and is in no block up to {height}: it never will be executed"),
            ),
            Answer::NotFound { height } => ("not_found", format!("is in no block up to {height}")),
            other => return Err(unexpected(&other)),
        };
        if output.is_json() {
            let none = serde_json::Value::Null;
            output.line(json!({
                "id": id.to_string(), "status": status, "reason": none, "height": none, "position": none,
                "expires_at": expires_at.map(|until| until.to_string()),
            }))?;
        }
        let hint = match status {
            "possible" => "ask again, or send it again with `quipu tx submit FILE`: it is executed at most once",
            "never" => "nothing will come of it; make a new one if it is still wanted",
            _ => {
                "with the signed transaction (`--save FILE`) or --expires-at, `tx show` tells whether it may still come"
            }
        };
        Err(Failure::new(Exit::NotFound, status, format!("transaction {id} {text}")).hint(hint))
    }

    fn wanted(&self, session: &Session) -> Result<(TransactionId, Option<TimeMs>), Failure> {
        if let Ok(id) = self.transaction.parse::<Hash>() {
            return Ok((TransactionId(id), self.expires_at));
        }
        let path = Path::new(&self.transaction);
        if !path.exists() {
            let text = format!(
                "'{}' is neither a transaction's id (64 hex digits) nor a file",
                self.transaction
            );
            return Err(Failure::usage(text));
        }
        let mut reader = Reader::open(path, session.genesis.network_id())?;
        let first = reader.next().transpose()?;
        match (first, reader.next().transpose()?) {
            (Some(one), None) => Ok((one.id(), Some(one.body().expires_at))),
            (Some(_), Some(_)) => Err(
                Failure::usage(format!("{}: holds several transactions", path.display())).hint(
                    "send them again with `quipu tx submit`: it tells what became of all, and changes nothing twice",
                ),
            ),
            (None, _) => Err(Failure::usage(format!("{}: holds no transaction", path.display()))),
        }
    }
}
