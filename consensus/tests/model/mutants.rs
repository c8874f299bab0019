//! Keeps the planted bugs that the model must refute, each with the bounds that suffice and the invariant that breaks.
//!
//! They are those of `tests/mutants.rs` whose shortest way to harm lies within small bounds. One type for all: each
//! type would be a model checker of its own to compile.

use quipu_consensus::block::Configuration;
use quipu_consensus::input::PersistSeq;
use quipu_consensus::output::VoteRecord;
use quipu_consensus::raft::{RaftRules, Rules};
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::system::Bounds;

/// The product's rules with one decision changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// P1, P2: nothing waits for its write.
    SendsBeforeSync,
    /// V-1: the vote of a term may be given again.
    VotesTwice,
    /// V-3: stepping down within a term frees its vote.
    ForgetsVoteOnStepDown,
    /// V-4: a candidacy does not use up the own vote.
    ForgetsOwnVote,
    /// Anybody may lead.
    AnyChainWins,
    /// One voter suffices.
    OneIsEnough,
    /// R-1, figure 8: older blocks are committed by counting.
    CommitsOlderTerms,
    /// P3: the leader counts itself before its own sync.
    CountsItselfUnsynced,
}

impl Rules for Planted {
    fn gate(&self, vote: Option<PersistSeq>, block: Option<PersistSeq>) -> Option<PersistSeq> {
        let write = RaftRules.gate(vote, block);
        write.filter(|_| *self != Self::SendsBeforeSync)
    }
    fn vote_is_free(&self, record: VoteRecord, term: Term, candidate: Slot) -> bool {
        match self {
            Self::VotesTwice => term >= record.term,
            _ => RaftRules.vote_is_free(record, term, candidate),
        }
    }
    fn step_down(&self, record: VoteRecord, term: Term) -> VoteRecord {
        match self {
            Self::ForgetsVoteOnStepDown => VoteRecord { term, voted_for: None },
            _ => RaftRules.step_down(record, term),
        }
    }
    fn candidacy(&self, term: Term, own: Slot) -> VoteRecord {
        match self {
            Self::ForgetsOwnVote => VoteRecord { term, voted_for: None },
            _ => RaftRules.candidacy(term, own),
        }
    }
    fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool {
        *self == Self::AnyChainWins || RaftRules.up_to_date(candidate, own)
    }
    fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
        match self {
            Self::OneIsEnough => configuration.voters.iter().any(|voter| agree(*voter)),
            _ => RaftRules.quorum(configuration, agree),
        }
    }
    fn commits_by_counting(&self, block: Term, own: Term) -> bool {
        *self == Self::CommitsOlderTerms || RaftRules.commits_by_counting(block, own)
    }
    fn own_height(&self, durable: Height, tip: Height) -> Height {
        match self {
            Self::CountsItselfUnsynced => tip,
            _ => RaftRules.own_height(durable, tip),
        }
    }
}

/// Each bug, where it is found, and which invariant it breaks there first.
pub(super) const PLANTED: [(Planted, Bounds, &str); 8] = [
    (Planted::SendsBeforeSync, Bounds::of(1, 1, 0, 0), "I10"),
    (Planted::VotesTwice, Bounds::of(1, 2, 0, 0), "I8"),
    (Planted::ForgetsVoteOnStepDown, Bounds::of(1, 2, 0, 0), "I8"),
    (Planted::ForgetsOwnVote, Bounds::of(1, 2, 0, 0), "I8"),
    (Planted::AnyChainWins, Bounds::of(2, 3, 0, 0), "I3"),
    (Planted::OneIsEnough, Bounds::of(1, 2, 0, 0), "I1"),
    (Planted::CommitsOlderTerms, Bounds::of(2, 3, 0, 0), "I7"),
    (Planted::CountsItselfUnsynced, Bounds::of(1, 1, 0, 0), "I6"),
];
