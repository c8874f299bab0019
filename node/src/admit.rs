//! Keeps admission: what is refused at the door, and the verification of signatures in batches. One thread.
//!
//! The order of the checks is fixed (design, section 3): size, network, known id, expiry, rights, signature.
//! Invariant: only a `VerifiedTransaction` goes on. Rights are decided at execution; here they are early advice.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use quipu_crypto::id::{NetworkId, TimeMs, TransactionId};
use quipu_ledger::codec::DecodeError;
use quipu_ledger::execute;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use quipu_ledger::membership::Membership;
use quipu_ledger::result::Reason;
use quipu_ledger::store::Store;
use quipu_ledger::transaction::SignedTransaction;

use crate::client_protocol::{Answer, Receipt, Rejection, Unavailable};
use crate::clock;
use crate::door::{Admission, Bringer, Inside};
use crate::run::RunEvent;
use crate::stages::Stages;
use crate::status::SharedStatus;
use crate::verified::VerifiedMemory;

/// Decides who may come in.
pub struct Admitter {
    /// Index of executed transactions.
    pub store: Store,
    /// Who may send.
    pub membership: Arc<Membership>,
    /// Time of the last executed block, among others.
    pub status: Arc<SharedStatus>,
    /// Where verdicts are remembered.
    pub verified: Arc<VerifiedMemory>,
    /// Where admitted ones go.
    pub events: Sender<RunEvent>,
    /// Where times are counted.
    pub stages: Arc<Stages>,
}

impl Admitter {
    /// Serves the queue until its senders are gone.
    pub fn run(&self, inside: &Inside) {
        while self.serve(inside) {}
    }

    /// Waits for a batch and lets it in; `false` once no more can come, or nobody takes what is admitted.
    pub fn serve(&self, inside: &Inside) -> bool {
        let Some(batch) = inside.batch() else {
            return false;
        };
        let begun = Instant::now();
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        for admission in &batch {
            let waited = begun.saturating_duration_since(admission.since);
            self.stages.admission.queue.record(waited, 1);
        }
        let goes_on = self.admit(batch, inside);
        self.stages.admission.served(begun, count);
        goes_on
    }

    /// Checks a batch; `false` once nobody takes what is admitted.
    fn admit(&self, batch: Vec<Admission>, inside: &Inside) -> bool {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut transactions = Vec::with_capacity(batch.len());
        for Admission { bytes, bringer, .. } in batch {
            match self.check(bytes) {
                Ok(transaction) => {
                    waiting.push(bringer);
                    transactions.push(transaction);
                }
                Err(refusal) => bringer.reply(*refusal),
            }
        }
        let verdicts = self.verified.verify_all(transactions);
        let since = Instant::now();
        for (verdict, bringer) in verdicts.into_iter().zip(waiting) {
            match verdict {
                Ok(transaction) => {
                    let submit = RunEvent::Submit {
                        transaction,
                        bringer,
                        since,
                    };
                    if self.events.send(submit).is_err() {
                        return false;
                    }
                }
                Err(_) => {
                    if let Bringer::Peer { slot, .. } = bringer {
                        inside.disbelieve(slot);
                    }
                    bringer.reply(Answer::Rejected(Rejection::BadSignature));
                }
            }
        }
        true
    }

    /// All checks but the signature.
    fn check(&self, bytes: Vec<u8>) -> Result<SignedTransaction, Box<Answer>> {
        let rules = Rules {
            network: self.store.network(),
            membership: &self.membership,
            now: clock::wall().max(self.status.executed_time()),
        };
        rules.check(bytes, |id| {
            find(&self.store, id).map_err(|error| Unavailable::Store(error.to_string()))
        })
    }
}

/// What is refused at the door, but for the signature.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// This network.
    pub network: NetworkId,
    /// Who may send.
    pub membership: &'a Membership,
    /// The node's clock, or the last executed block's time where that is later.
    pub now: TimeMs,
}

impl Rules<'_> {
    /// Checks a transaction; `find` says what is recorded of one that was executed before.
    ///
    /// # Errors
    /// The answer for its client: a refusal, or the recorded result.
    pub fn check(
        &self,
        bytes: Vec<u8>,
        find: impl FnOnce(TransactionId) -> Result<Option<Receipt>, Unavailable>,
    ) -> Result<SignedTransaction, Box<Answer>> {
        let reject = |rejection| Box::new(Answer::Rejected(rejection));
        let transaction = SignedTransaction::decode(bytes).map_err(|error| reject(refused(error)))?;
        let body = transaction.body();
        if body.network != self.network {
            return Err(reject(Rejection::WrongNetwork {
                given: body.network,
                here: self.network,
            }));
        }
        match find(transaction.id()) {
            Ok(None) => {}
            Ok(Some(receipt)) => return Err(Box::new(Answer::Executed(receipt))),
            Err(unavailable) => return Err(Box::new(Answer::Unavailable(unavailable))),
        }
        let now = self.now;
        if body.expires_at <= now {
            return Err(reject(Rejection::Expired {
                expires_at: body.expires_at,
                now,
            }));
        }
        let latest = TimeMs(now.get().saturating_add(self.membership.parameters.max_lifetime_ms));
        if body.expires_at > latest {
            return Err(reject(Rejection::ExpiryTooFar {
                expires_at: body.expires_at,
                latest,
            }));
        }
        execute::check_rights(body, self.membership).map_err(|reason| reject(not_allowed(&transaction, reason)))?;
        Ok(transaction)
    }
}

/// Where a transaction stands, from the index.
///
/// # Errors
/// Where the store cannot be read.
pub fn find(store: &Store, id: TransactionId) -> Result<Option<Receipt>, quipu_ledger::store::StoreError> {
    let Some(found) = store.view()?.transaction(id)? else {
        return Ok(None);
    };
    let block = store.block_id(found.version.height)?.unwrap_or_default();
    Ok(Some(Receipt {
        id,
        version: found.version,
        outcome: found.result.outcome,
        block: block.hash,
    }))
}

fn refused(error: DecodeError) -> Rejection {
    match error {
        DecodeError::TooLong { length, .. } => Rejection::TooLarge {
            length: u64::try_from(length).unwrap_or(u64::MAX),
            cap: u64::try_from(MAX_TRANSACTION_BYTES).unwrap_or(u64::MAX),
        },
        other => Rejection::Malformed(other.to_string()),
    }
}

fn not_allowed(transaction: &SignedTransaction, reason: Reason) -> Rejection {
    match reason {
        Reason::NotPermitted { operation } => {
            let operations = &transaction.body().operations;
            let found = usize::try_from(operation).ok().and_then(|index| operations.get(index));
            match found {
                Some(found) => Rejection::NotPermitted {
                    operation,
                    namespace: found.namespace().clone(),
                },
                None => Rejection::UnknownMember,
            }
        }
        _ => Rejection::UnknownMember,
    }
}
