//! Keeps transactions on their way: bytes -> [`SignedTransaction`] -> [`VerifiedTransaction`].
//!
//! Invariants: bytes are encoded once and hashed once, id and signature are over the received bytes; only
//! verification makes a [`VerifiedTransaction`], and only that enters a pool or an own block.

use std::sync::Arc;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{NetworkId, TimeMs, TransactionId};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_crypto::signature::{self, Signature, SignedHash};
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::limits::{MAX_MEMO_BYTES, MAX_OPERATIONS, MAX_TRANSACTION_BYTES};
use crate::operation::Operation;

/// The only version of transactions so far.
pub const TRANSACTION_VERSION: u8 = 1;
/// Length of a signature at the end of a signed transaction.
const SIGNATURE_BYTES: usize = 64;

/// What a client signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionBody {
    /// [`TRANSACTION_VERSION`].
    pub version: u8,
    /// The network that it is for; worthless in any other.
    pub network: NetworkId,
    /// Who signs.
    pub sender: PublicKey,
    /// Random, so that equal wishes are different transactions.
    pub nonce: [u8; 16],
    /// Never executed in a block of this time or later.
    pub expires_at: TimeMs,
    /// What to do, all or nothing, in order.
    #[serde(deserialize_with = "operations")]
    pub operations: Vec<Operation>,
    /// For the sender's own use; at most 1024 bytes.
    #[serde(with = "serde_bytes")]
    pub memo: Vec<u8>,
}

fn operations<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    codec::at_most::<D, _, MAX_OPERATIONS>(deserializer)
}

impl TransactionBody {
    fn check_bounds(&self) -> Result<(), DecodeError> {
        if self.version != TRANSACTION_VERSION {
            return Err(DecodeError::OutOfBounds("unknown transaction version"));
        }
        if self.operations.is_empty() || self.operations.len() > MAX_OPERATIONS {
            return Err(DecodeError::OutOfBounds("a transaction has 1 to 1024 operations"));
        }
        if self.memo.len() > MAX_MEMO_BYTES {
            return Err(DecodeError::OutOfBounds("a memo has at most 1024 bytes"));
        }
        self.operations.iter().try_for_each(Operation::check_bounds)
    }
}

/// A transaction as it travels: body and signature, well-formed, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    id: TransactionId,
    body: Arc<TransactionBody>,
    signature: Signature,
    bytes: Arc<[u8]>,
}

impl SignedTransaction {
    /// Signs `body`.
    ///
    /// # Errors
    /// Where the body is out of bounds or too long.
    pub fn sign(body: TransactionBody, key: &SecretKey) -> Result<Self, DecodeError> {
        body.check_bounds()?;
        let mut bytes = codec::encode(&body);
        let id = TransactionId(Hash::of(Context::Transaction, &[&bytes]));
        let signature = key.sign(&id.0);
        bytes.extend_from_slice(signature.as_bytes());
        if bytes.len() > MAX_TRANSACTION_BYTES {
            return Err(DecodeError::TooLong {
                length: bytes.len(),
                cap: MAX_TRANSACTION_BYTES,
            });
        }
        Ok(Self {
            id,
            body: Arc::new(body),
            signature,
            bytes: bytes.into(),
        })
    }

    /// Reads a signed transaction from its bytes: the canonical body, then 64 bytes of signature.
    ///
    /// # Errors
    /// [`DecodeError`]; the signature is not looked at yet.
    pub fn decode(bytes: impl Into<Arc<[u8]>>) -> Result<Self, DecodeError> {
        let bytes: Arc<[u8]> = bytes.into();
        if bytes.len() > MAX_TRANSACTION_BYTES {
            return Err(DecodeError::TooLong {
                length: bytes.len(),
                cap: MAX_TRANSACTION_BYTES,
            });
        }
        let (body_bytes, signature) = bytes
            .split_last_chunk::<SIGNATURE_BYTES>()
            .ok_or(DecodeError::Malformed)?;
        let body: TransactionBody = codec::decode(body_bytes, MAX_TRANSACTION_BYTES)?;
        body.check_bounds()?;
        let id = TransactionId(Hash::of(Context::Transaction, &[body_bytes]));
        Ok(Self {
            id,
            body: Arc::new(body),
            signature: Signature::from_bytes(*signature),
            bytes,
        })
    }

    /// Whom the bytes of a transaction name as their sender: a claim, which costs no more than looking. None where they
    /// are too short for one.
    #[must_use]
    pub fn claimed_sender(bytes: &[u8]) -> Option<PublicKey> {
        // As the body begins.
        let (head, _) = postcard::take_from_bytes::<(u8, NetworkId, PublicKey)>(bytes).ok()?;
        Some(head.2)
    }

    /// The id that bytes have if they are a transaction. None where they are too short for one.
    #[must_use]
    pub fn id_of(bytes: &[u8]) -> Option<TransactionId> {
        let (body, _) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        Some(TransactionId(Hash::of(Context::Transaction, &[body])))
    }

    /// Hash of the body's bytes.
    #[must_use]
    pub const fn id(&self) -> TransactionId {
        self.id
    }

    /// What was signed.
    #[must_use]
    pub fn body(&self) -> &TransactionBody {
        &self.body
    }

    /// The sender's signature over the id.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Body and signature as received or made.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// What there is to verify.
    #[must_use]
    pub fn signed_hash(&self) -> SignedHash {
        SignedHash {
            key: self.body.sender,
            hash: self.id.0,
            signature: self.signature,
        }
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// Gives the transaction back where the signature is not the sender's.
    #[allow(clippy::result_large_err)] // the caller wants it back, whatever its size
    pub fn verify(self) -> Result<VerifiedTransaction, Self> {
        if signature::verify(&self.body.sender, &self.id.0, &self.signature) {
            Ok(VerifiedTransaction(self))
        } else {
            Err(self)
        }
    }
}

/// A transaction whose signature is known to be its sender's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTransaction(SignedTransaction);

impl VerifiedTransaction {
    /// Verifies many at once: much cheaper than one by one, with the same verdict for each.
    #[must_use]
    pub fn verify_all(transactions: Vec<SignedTransaction>) -> Vec<Result<Self, SignedTransaction>> {
        let hashes: Vec<SignedHash> = transactions.iter().map(SignedTransaction::signed_hash).collect();
        let verdicts = signature::verify_each(&hashes);
        let judge = |(transaction, good): (SignedTransaction, bool)| {
            if good { Ok(Self(transaction)) } else { Err(transaction) }
        };
        transactions.into_iter().zip(verdicts).map(judge).collect()
    }

    /// The transaction itself.
    #[must_use]
    pub const fn transaction(&self) -> &SignedTransaction {
        &self.0
    }
}

impl std::ops::Deref for VerifiedTransaction {
    type Target = SignedTransaction;

    fn deref(&self) -> &SignedTransaction {
        &self.0
    }
}
