//! Keeps commit certificates: a majority's signed claim to have stored a block durably in one view.
//!
//! Invariants: the format is fixed for good, because headers bind its digest; [`judge`] is the one rule of validity,
//! for nodes and auditors alike. Making certificates comes with membership changes; until then every header names none.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, NetworkId, Term};
use serde::{Deserialize, Serialize};

use crate::block::Header;
use crate::codec;
use crate::membership::Membership;
use crate::rules::quorum::{self, QuorumFault};
use crate::vote::{EngineId, SignatureEntry};

/// What a voter signs after it has stored a block durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatement {
    /// The network.
    pub network: NetworkId,
    /// The engine.
    pub engine: EngineId,
    /// The term in which the signer accepted the block.
    pub view: Term,
    /// The block's height.
    pub height: Height,
    /// The block's hash.
    pub hash: Hash,
    /// Height of the membership block in force.
    pub membership: Height,
}

impl CommitStatement {
    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(Context::Commit, &[&codec::encode(self)])
    }
}

/// A majority's signatures over one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The engine.
    pub engine: EngineId,
    /// The one view of all signatures.
    pub view: Term,
    /// The certified block's height.
    pub height: Height,
    /// The certified block's hash.
    pub hash: Hash,
    /// Height of the membership block in force at `height`.
    pub membership: Height,
    /// Sorted by (slot, outgoing), unique.
    pub signatures: Vec<SignatureEntry>,
}

impl Certificate {
    /// As the header of the block that carries it names it.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(Context::Certificate, &[&codec::encode(self)])
    }
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It is of another block.
    #[error("it is not of this block")]
    WrongBlock,
    /// It names another membership than the one in force at its block.
    #[error("it names the membership of height {0}, which is not the one in force")]
    WrongMembership(Height),
    /// Its signers accepted the block in another term than its own, which proves no commit (Raft paper, figure 8).
    #[error("its view {0} is not the term of its block")]
    WrongView(Term),
    /// Its signatures are no majority.
    #[error(transparent)]
    Quorum(#[from] QuorumFault),
}

/// Whether `certificate` proves that the block of `header` is final, `membership` being the one in force at its height.
///
/// For Raft: the signers accepted the block in the block's own term. A block of an older term that a majority holds
/// may still be replaced, so a certificate with another view proves nothing, whoever signed it.
///
/// # Errors
/// The first thing that is wrong.
pub fn judge(certificate: &Certificate, header: &Header, membership: &Membership) -> Result<(), CertificateFault> {
    if (certificate.height, certificate.hash) != (header.height, header.hash()) {
        return Err(CertificateFault::WrongBlock);
    }
    if certificate.membership != header.membership {
        return Err(CertificateFault::WrongMembership(certificate.membership));
    }
    match certificate.engine {
        EngineId::Raft => {
            if certificate.view != header.term {
                return Err(CertificateFault::WrongView(certificate.view));
            }
        }
    }
    let statement = CommitStatement {
        network: header.network,
        engine: certificate.engine,
        view: certificate.view,
        height: certificate.height,
        hash: certificate.hash,
        membership: certificate.membership,
    };
    let digest = statement.digest();
    Ok(quorum::check(membership, &certificate.signatures, &|_| digest)?)
}
