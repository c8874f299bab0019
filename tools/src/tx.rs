//! Keeps `tx`: transactions made, sent, looked up.
//!
//! Invariant: whatever fails, the caller can find out what became of a transaction, and sending it again changes
//! nothing: an id is executed at most once.

mod deliver;
mod import;
mod order;
mod put;
mod records;
mod saved;
pub(crate) mod settle;
mod show;
pub(crate) mod sign;
mod submit;

use clap::Subcommand;
use quipu_ledger::result::{Outcome, Reason};
use quipu_node::client_protocol::Receipt;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Transactions: make, send, look up.
#[derive(Debug, Subcommand)]
pub(crate) enum Tx {
    /// Set a key to a value, in one signed transaction, and wait until it is executed.
    Put(put::Put),
    /// Send signed transactions of a file; those that were executed before change nothing.
    Submit(submit::Submit),
    /// Make and send one signed transaction for each record of an NDJSON or CSV file.
    Import(import::Import),
    /// Tell what became of a transaction: applied, failed, still possible, or never possible.
    Show(show::Show),
}

impl Tx {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Self::Put(verb) => verb.run(global, output),
            Self::Submit(verb) => verb.run(global, output),
            Self::Import(verb) => verb.run(global, output),
            Self::Show(verb) => verb.run(global, output),
        }
    }
}

/// What came of an executed transaction, as JSON.
pub(crate) fn receipt_json(receipt: &Receipt) -> Value {
    let reason = failed_for(receipt).map(Reason::code);
    json!({
        "id": receipt.id.to_string(),
        "status": if reason.is_none() { "applied" } else { "failed" },
        "reason": reason,
        "height": receipt.version.height.to_string(),
        "position": receipt.version.position.to_string(),
        "block": receipt.block.to_string(),
    })
}

/// The same for people.
pub(crate) fn receipt_text(receipt: &Receipt) -> String {
    let status = failed_for(receipt).map_or_else(|| "applied".to_owned(), |reason| format!("failed: {reason}"));
    format!(
        "{}  height {}  position {}  {status}",
        receipt.id, receipt.version.height, receipt.version.position
    )
}

/// What is told of it where standard output cannot be written.
fn receipt_done(receipt: &Receipt) -> String {
    let (id, height) = (receipt.id, receipt.version.height);
    match failed_for(receipt) {
        None => format!("transaction {id} was applied at height {height}"),
        Some(reason) => format!("transaction {id} was executed at height {height} without effect ({reason})"),
    }
}

const fn failed_for(receipt: &Receipt) -> Option<Reason> {
    match receipt.outcome {
        Outcome::Applied => None,
        Outcome::Failed(reason) => Some(reason),
    }
}

/// The failure of a transaction that was executed without effect.
fn without_effect(receipt: &Receipt) -> Result<(), Failure> {
    let Some(reason) = failed_for(receipt) else {
        return Ok(());
    };
    let text = format!("transaction {} had no effect: {reason}", receipt.id);
    let hint = match reason {
        Reason::RequirementFailed { .. } => "read the key again, and decide anew",
        Reason::NotPermitted { .. } => "`quipu genesis show` lists who may write where",
        _ => "make and sign a new one",
    };
    Err(Failure::new(Exit::Rejected, reason.code(), text).hint(hint))
}
