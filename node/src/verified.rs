//! Keeps which transactions this node has verified lately, so that a signature is checked once from admission to block.
//!
//! Invariant: an id does not cover its signature, so both must be equal to count as verified. Two generations bound the
//! memory: when the young one is full it becomes the old one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use quipu_crypto::id::TransactionId;
use quipu_crypto::signature::Signature;
use quipu_ledger::transaction::{SignedTransaction, VerifiedTransaction};

use crate::limits::REMEMBERED_TRANSACTIONS;

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<TransactionId, Signature>,
    old: HashMap<TransactionId, Signature>,
}

/// Shared between admission and inspection.
#[derive(Debug, Default)]
pub struct VerifiedMemory(Mutex<Generations>);

impl VerifiedMemory {
    /// Verifies many at once, and remembers those whose signatures are their senders'.
    #[must_use]
    pub fn verify_all(
        &self,
        transactions: Vec<SignedTransaction>,
    ) -> Vec<Result<VerifiedTransaction, SignedTransaction>> {
        let verdicts = VerifiedTransaction::verify_all(transactions);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for transaction in verdicts.iter().flatten() {
            if generations.young.len() >= REMEMBERED_TRANSACTIONS {
                generations.old = std::mem::take(&mut generations.young);
            }
            generations.young.insert(transaction.id(), *transaction.signature());
        }
        drop(generations);
        verdicts
    }

    /// Which of these are known to be verified, signature included.
    #[must_use]
    pub fn known(&self, transactions: &[&SignedTransaction]) -> Vec<bool> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        transactions
            .iter()
            .map(|transaction| {
                let remembered = generations
                    .young
                    .get(&transaction.id())
                    .or_else(|| generations.old.get(&transaction.id()));
                remembered == Some(transaction.signature())
            })
            .collect()
    }
}
