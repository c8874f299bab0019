//! Keeps the making of signed transactions.
//!
//! Invariant: a nonce is drawn for each, so equal wishes are different transactions; the expiry is counted from the
//! moment of signing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quipu_crypto::id::{NetworkId, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_crypto::random;
use quipu_ledger::operation::Operation;
use quipu_ledger::transaction::{SignedTransaction, TRANSACTION_VERSION, TransactionBody};

use crate::failure::Failure;
use crate::session::Session;

/// Signs for one sender in one network.
#[derive(Clone)]
pub(crate) struct Signer {
    network: NetworkId,
    key: SecretKey,
    lifetime: Duration,
}

impl Signer {
    /// Signs as the session's identity; transactions live for `lifetime`, or for half of what the network allows.
    ///
    /// Half, because the time of a block may be a little behind our clock, and because a lost transaction should be
    /// known as lost before its sender has gone home.
    pub(crate) fn new(session: &Session, lifetime: Option<Duration>) -> Self {
        let most = session.genesis.membership().parameters.max_lifetime_ms;
        Self {
            network: session.genesis.network_id(),
            key: session.key.clone(),
            lifetime: lifetime.unwrap_or(Duration::from_millis(most / 2)),
        }
    }

    /// Signs with this key for this network.
    #[cfg(test)]
    pub(crate) const fn with(network: NetworkId, key: SecretKey, lifetime: Duration) -> Self {
        Self { network, key, lifetime }
    }

    /// The body that would be signed now.
    pub(crate) fn body(&self, operations: Vec<Operation>, memo: Vec<u8>) -> Result<TransactionBody, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires_at = now.saturating_add(self.lifetime).as_millis();
        Ok(TransactionBody {
            version: TRANSACTION_VERSION,
            network: self.network,
            sender: self.key.public(),
            nonce: random::bytes()?,
            expires_at: TimeMs(u64::try_from(expires_at).unwrap_or(u64::MAX)),
            operations,
            memo,
        })
    }

    /// Signs a transaction.
    pub(crate) fn sign(&self, operations: Vec<Operation>, memo: Vec<u8>) -> Result<SignedTransaction, Failure> {
        Ok(SignedTransaction::sign(self.body(operations, memo)?, &self.key)?)
    }
}
