//! Keeps the decisions on which the safety of the engine rests, one function each, apart from the machinery.
//!
//! Invariant: every default is the rule itself and cites where it comes from. [`RaftRules`] changes none of them; the
//! mutants of the tests change one each, so a rule without a test that notices its absence cannot hide.
//! Leaves when to ask, and what follows from the answer, to the modules beside it.

use quipu_crypto::id::{BlockId, Height, Slot, Term};

use crate::block::Configuration;
use crate::input::PersistSeq;
use crate::output::VoteRecord;
use crate::quorum;

/// The decision points of the engine. Each default is the product's rule.
pub trait Rules {
    /// Whether a candidate's last block is at least as good as one's own: by term first, then by height (V-6). Equal
    /// height and term with another hash is a contradiction, never good enough (H-1).
    fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool {
        let (theirs, ours) = ((candidate.term, candidate.height), (own.term, own.height));
        theirs > ours || (theirs == ours && candidate.hash == own.hash)
    }

    /// Whether the vote of `term` is still free for `candidate`: one vote a term, for ever (V-1, V-3).
    fn vote_is_free(&self, record: VoteRecord, term: Term, candidate: Slot) -> bool {
        match record.voted_for {
            _ if term > record.term => true,
            Some(slot) => term == record.term && slot == candidate,
            None => term == record.term,
        }
    }

    /// The vote record after stepping down into `term`: the vote of a term is kept for as long as the term (V-3).
    fn step_down(&self, record: VoteRecord, term: Term) -> VoteRecord {
        if term > record.term {
            VoteRecord { term, voted_for: None }
        } else {
            record
        }
    }

    /// The vote record of a candidacy: one's own vote is a vote (V-4).
    fn candidacy(&self, term: Term, own: Slot) -> VoteRecord {
        VoteRecord {
            term,
            voted_for: Some(own),
        }
    }

    /// Whether a follower keeps to the leader that it hears: a candidate that was cut off must wait (V-10).
    fn keeps_to_leader(&self, silence_ms: u64, election_min_ms: u64, transfer: bool) -> bool {
        !transfer && silence_ms < election_min_ms
    }

    /// Whether an answer to a candidacy counts: it must answer this one, not an earlier one (V-5).
    fn answers_candidacy(&self, answered: (Term, u64, BlockId), asked: (Term, u64, BlockId)) -> bool {
        answered == asked
    }

    /// Whether a set of voters decides.
    fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
        quorum::reached(configuration, agree)
    }

    /// The greatest height that a deciding set of voters holds.
    fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
        quorum::height(configuration, held)
    }

    /// The write that a message must wait for (P1, P2).
    fn gate(&self, write: Option<PersistSeq>) -> Option<PersistSeq> {
        write
    }

    /// Whether one's own vote counts already: not before it is durable (P1).
    fn own_vote_counts(&self, durable: bool) -> bool {
        durable
    }

    /// Up to where the leader counts itself: what it has durably, not what it has (P3).
    fn own_height(&self, durable: Height, _tip: Height) -> Height {
        durable
    }

    /// Whether a block of `block` term may be committed by counting in `own` term (R-1, figure 8 of the Raft paper).
    fn commits_by_counting(&self, block: Term, own: Term) -> bool {
        block == own
    }

    /// Whether two blocks are one: by hash, not by height and term alone.
    fn same_block(&self, held: BlockId, shown: BlockId) -> bool {
        held == shown
    }

    /// What to acknowledge: the last block of the message, never more (CCF#6001).
    fn acknowledged(&self, last_of_message: BlockId, _tip: BlockId) -> BlockId {
        last_of_message
    }

    /// Where to cut before appending: at the first block that differs; nowhere if none does (CCF#5927).
    fn cut(&self, first_difference: Option<Height>, _previous: Height) -> Option<Height> {
        first_difference
    }

    /// Up to where a follower may take the leader's word: no further than the message shows the chains to be equal.
    fn follower_commit(&self, leader_commit: Height, last_of_message: Height, _tip: Height) -> Height {
        leader_commit.min(last_of_message)
    }

    /// Whether an answer belongs to this leadership.
    fn answers_leadership(&self, answered: Term, own: Term) -> bool {
        answered == own
    }

    /// What a refusal proves to be stored: nothing (CCF#5325).
    fn matched_after_rejection(&self, matched: Height, _tip: Height) -> Height {
        matched
    }

    /// Whether a read may go on before the leader has committed a block of its own term (C-1r).
    fn reads_at(&self, committed: Term, own: Term) -> bool {
        committed == own
    }

    /// Whether a read needs a round of contacts (C-2r).
    fn read_needs_round(&self) -> bool {
        true
    }

    /// Whether a node takes part in deciding before it has heard enough peers remember it (D-10).
    fn takes_part(&self, waiting: bool, recovering: bool) -> bool {
        !waiting && !recovering
    }
}

/// The rules of the product: every default as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftRules;

impl Rules for RaftRules {}
