//! Keeps the way of one signed transaction to its fate: sent until it is known what became of it.
//!
//! Invariants: it is safe to send it again, so doubt is always resolved by asking or sending again; a refusal because
//! of time is believed only once the ledger says *never*, for an earlier sending may have been taken. Only the caller's
//! deadline ends without a fate.

use std::time::{Duration, Instant};

use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::{Client, ClientError};
use quipu_node::client_protocol::{Answer, Call, Receipt, Rejection};

use crate::failure::{Exit, Failure};
use crate::session::unexpected;

/// Pause before a node that was busy, or could not tell, is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the chain.
    Executed(Receipt),
    /// It was refused at the door, and was not taken before.
    Rejected(Rejection),
    /// It has expired and is in no block: it never will be.
    Never,
}

/// Sends `transaction` until its fate is known, for at most `wait`.
///
/// # Errors
/// Where the fate is not known by then, or nobody can be reached.
pub(crate) async fn settle(client: &Client, transaction: &SignedTransaction, wait: Duration) -> Result<Fate, Failure> {
    let begun = Instant::now();
    // Whether a node may have taken it at an earlier sending.
    let mut doubt = false;
    loop {
        let left = wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(unresolved(transaction));
        }
        match client.submit(transaction, left).await {
            Ok(Answer::Executed(receipt)) => return Ok(Fate::Executed(receipt)),
            Ok(Answer::Rejected(Rejection::Busy { .. })) => tokio::time::sleep(PAUSE).await,
            Ok(Answer::Pending | Answer::Unavailable(_)) => {
                doubt = true;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Answer::Rejected(rejection @ Rejection::Expired { .. })) => {
                return look(
                    client,
                    transaction,
                    wait.saturating_sub(begun.elapsed()),
                    Some(rejection),
                )
                .await;
            }
            Ok(Answer::Rejected(rejection)) => return Ok(Fate::Rejected(rejection)),
            Ok(other) => return Err(unexpected(&other)),
            // Refused by all that can be reached, but taken by someone before: what the ledger says decides.
            Err(ClientError::Unresolved {
                rejection: Some(rejection),
                ..
            }) => {
                return look(
                    client,
                    transaction,
                    wait.saturating_sub(begun.elapsed()),
                    Some(*rejection),
                )
                .await;
            }
            Err(ClientError::Unresolved { .. }) => {
                doubt = true;
                tokio::time::sleep(PAUSE).await;
            }
            Err(ClientError::Unreachable { .. }) if doubt => return Err(unresolved(transaction)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks until it is executed or can never be.
async fn look(
    client: &Client,
    transaction: &SignedTransaction,
    wait: Duration,
    rejection: Option<Rejection>,
) -> Result<Fate, Failure> {
    let begun = Instant::now();
    let call = Call::Lookup {
        id: transaction.id(),
        expires_at: Some(transaction.body().expires_at),
    };
    loop {
        let left = wait.saturating_sub(begun.elapsed());
        match client.call(call.clone(), left.max(PAUSE)).await? {
            Answer::Executed(receipt) => return Ok(Fate::Executed(receipt)),
            Answer::Never { .. } => return Ok(rejection.map_or(Fate::Never, Fate::Rejected)),
            Answer::Possible { .. } | Answer::Unavailable(_) if left.is_zero() => return Err(unresolved(transaction)),
            Answer::Possible { .. } | Answer::Unavailable(_) => tokio::time::sleep(PAUSE).await,
            other => return Err(unexpected(&other)),
        }
    }
}

fn unresolved(transaction: &SignedTransaction) -> Failure {
    let id = transaction.id();
    let text = format!("no answer for transaction {id} in time: it may or may not be executed");
    Failure::new(Exit::Unavailable, "unresolved", text).hint(format!(
        "ask later: quipu tx show {id} --expires-at {}",
        transaction.body().expires_at
    ))
}
