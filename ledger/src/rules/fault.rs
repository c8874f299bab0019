//! Keeps every way in which a block can break the rules, with a stable code and a sentence that names what is wrong.
//!
//! Invariant: codes never change once published; the sentence may. The order is that of the checks.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, NetworkId, Slot, Term, TimeMs};

use super::change::{ChangeFault, MembershipFault};
use super::quorum::QuorumFault;
use crate::certificate::CertificateFault;

/// The first rule that a block breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Block 0 is not one that a genesis makes.
    #[error("block 0: its {0} is not that of a genesis block")]
    WrongGenesis(&'static str),
    /// The block that should carry the membership in force does not.
    #[error("block {0} carries no membership")]
    NoMembership(Height),
    /// A header of a version that this program does not know.
    #[error("header version {0} is not known here")]
    WrongVersion(u8),
    /// Of another network.
    #[error("the block is of network {0}")]
    WrongNetwork(NetworkId),
    /// Not the next height.
    #[error("height {found} where {expected} must follow")]
    WrongHeight {
        /// In the header.
        found: Height,
        /// One more than the parent's.
        expected: Height,
    },
    /// Follows on another block.
    #[error("previous hash {found}, but the block before has hash {expected}")]
    WrongPrevious {
        /// In the header.
        found: Hash,
        /// The parent's.
        expected: Hash,
    },
    /// Earlier than its parent.
    #[error("time {found} is before the parent's {parent}")]
    TimeFalls {
        /// In the header.
        found: TimeMs,
        /// The parent's.
        parent: TimeMs,
    },
    /// The root over the earlier blocks is not theirs.
    #[error("chain_root is not that of the blocks before")]
    WrongChainRoot,
    /// Of an earlier term than its parent.
    #[error("term {found} is before the parent's {parent}")]
    TermFalls {
        /// In the header.
        found: Term,
        /// The parent's.
        parent: Term,
    },
    /// A second opening block for one term.
    #[error("term {0} was opened before")]
    TermOpenedTwice(Term),
    /// A term that does not begin with an opening block.
    #[error("term {0} has no opening block")]
    TermNotOpened(Term),
    /// Proposed by another node than the one that opened the term.
    #[error("slot {found} proposed, but slot {leader} was elected for the term")]
    NotTheLeader {
        /// In the header.
        found: Slot,
        /// Who opened the term.
        leader: Slot,
    },
    /// Claims to know the result of itself or of a later block.
    #[error("executed height {0} is not below the block's own")]
    ExecutedAhead(Height),
    /// Names an earlier height as executed than its parent.
    #[error("executed height {found} is below the parent's {parent}")]
    ExecutedFalls {
        /// In the header.
        found: Height,
        /// The parent's.
        parent: Height,
    },
    /// Names the height that its parent names, with another result.
    #[error("executed height {0} is the parent's, but with another result")]
    ExecutedChanged(Height),
    /// Names another membership block than the one in force.
    #[error("membership height {0} is not that of the membership in force")]
    WrongMembershipHeight(Height),
    /// Larger than a block may be.
    #[error("{0} bytes are more than a block may have")]
    TooLarge(usize),
    /// More transactions than a block may have.
    #[error("{0} transactions are more than a block may have")]
    TooManyTransactions(usize),
    /// Carries a certificate of a block that is not before it in this chain.
    #[error("the certificate is of a block at height {0} that is not an ancestor")]
    CertificateOfStranger(Height),
    /// Carries a certificate that is not valid.
    #[error("certificate: {0}")]
    Certificate(CertificateFault),
    /// An opening block without the vote of its own proposer.
    #[error("the vote of slot {0} for itself is missing")]
    NoOwnVote(Slot),
    /// An opening block whose votes elect nobody.
    #[error("votes: {0}")]
    Votes(QuorumFault),
    /// A membership that could not be in force.
    #[error("membership: {0}")]
    Membership(#[from] MembershipFault),
    /// A change of membership that nobody may make, or not now.
    #[error("change of membership: {0}")]
    Change(#[from] ChangeFault),
    /// Not signed at all; only block 0 may be so.
    #[error("the proposer's signature is missing")]
    NotSigned,
    /// Proposed by a slot that is no voter.
    #[error("slot {0} proposed, but is no voter")]
    UnknownProposer(Slot),
    /// The signature is not the proposer's.
    #[error("the signature is not that of slot {0}")]
    WrongSignature(Slot),
}

impl Fault {
    /// Stable code, as findings and evidence carry it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WrongGenesis(_) => "wrong_genesis_block",
            Self::NoMembership(_) => "no_membership",
            Self::WrongVersion(_) => "wrong_version",
            Self::WrongNetwork(_) => "wrong_network",
            Self::WrongHeight { .. } => "wrong_height",
            Self::WrongPrevious { .. } => "wrong_previous",
            Self::TimeFalls { .. } => "time_falls",
            Self::WrongChainRoot => "wrong_chain_root",
            Self::TermFalls { .. } => "term_falls",
            Self::TermOpenedTwice(_) => "term_opened_twice",
            Self::TermNotOpened(_) => "term_not_opened",
            Self::NotTheLeader { .. } => "not_the_leader",
            Self::ExecutedAhead(_) => "executed_ahead",
            Self::ExecutedFalls { .. } => "executed_falls",
            Self::ExecutedChanged(_) => "executed_changed",
            Self::WrongMembershipHeight(_) => "wrong_membership_height",
            Self::TooLarge(_) => "block_too_large",
            Self::TooManyTransactions(_) => "too_many_transactions",
            Self::CertificateOfStranger(_) => "certificate_of_stranger",
            Self::Certificate(_) => "wrong_certificate",
            Self::NoOwnVote(_) => "no_own_vote",
            Self::Votes(_) => "wrong_votes",
            Self::Membership(_) => "wrong_membership",
            Self::Change(_) => "wrong_change",
            Self::NotSigned => "not_signed",
            Self::UnknownProposer(_) => "unknown_proposer",
            Self::WrongSignature(_) => "wrong_signature",
        }
    }
}
