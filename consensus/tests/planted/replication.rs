//! Bugs of replication and commit.

use quipu_consensus::block::Configuration;
use quipu_consensus::quorum;
use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
    /// the commit height is one place too high in the sorted list.
    CommitsOneTooFew, 1, "I6", "r01": {
        fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
            let mut heights: Vec<Height> = configuration.voters.iter().map(|voter| held(*voter)).collect();
            heights.sort_unstable();
            let place = heights.len().div_ceil(2);
            heights.get(place).copied().unwrap_or_else(|| quorum::height(configuration, held))
        }
    }
    /// R-1, figure 8: older blocks are committed by counting.
    CommitsOlderTerms, 1, "I7", "r01": {
        fn commits_by_counting(&self, _block: Term, _own: Term) -> bool { true }
    }
    /// CCF#6001: acknowledges all it has, not what the message showed.
    AcknowledgesItsTip, 6, "I10", "r03": {
        fn acknowledged(&self, _last: BlockId, tip: BlockId) -> BlockId { tip }
    }
    /// CCF#5927: cuts after `previous` whether anything differs or not.
    CutsWhatMatches, 1, "I10", "r04": {
        fn cut(&self, _first_difference: Option<Height>, previous: Height) -> Option<Height> {
            Some(previous.next())
        }
    }
    /// Acknowledges blocks that it has not taken.
    AcknowledgesWithoutTaking, 1, "I20", "r03": {
        fn cut(&self, _first_difference: Option<Height>, _previous: Height) -> Option<Height> { None }
    }
    /// Takes the leader's commit height for its own chain, shown to be equal or not.
    CommitsUnseen, 2, "I19", "r03": {
        fn follower_commit(&self, leader_commit: Height, _last: Height, tip: Height) -> Height {
            leader_commit.min(tip)
        }
    }
    /// an older message takes the commit height back.
    CommitFalls, 1, "I9", "r04": {
        fn raises_commit(&self, learned: Height, commit: Height) -> bool { learned != commit }
    }
    /// CCF#5325: a refusal counts as an acknowledgement.
    BelievesRefusals, 1, "I10", "r02": {
        fn matched_after_rejection(&self, matched: Height, tip: Height) -> Height { matched.max(tip) }
    }
    /// answers of an earlier leadership count.
    CountsOldAcknowledgements, 8, "I10", "r07": {
        fn answers_leadership(&self, _answered: Term, _own: Term) -> bool { true }
    }
    /// The consistency check looks at heights only.
    IgnoresThePreviousHash, 1, "I20", "h01": {
        fn same_block(&self, held: BlockId, shown: BlockId) -> bool { held.height == shown.height }
    }
    /// a refusal takes the next block below what was acknowledged.
    GoesBelowTheAcknowledged, 9, "R-14", "r14": {
        fn next_after_refusal(&self, hinted: Height, _matched: Height) -> Height { hinted }
    }
    /// Follows leaders of terms that have passed.
    FollowsPassedTerms, 3, "I10", "r08": {
        fn is_current(&self, _sent: Term, _own: Term) -> bool { true }
    }
    /// M-6 (CCF#3837): while joint, what a majority of all together holds is committed.
    CommitsOnTheUnion, 21, "I6", "m06": {
        fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
            let voters = configuration.voters.union(&configuration.outgoing).copied().collect();
            quorum::height(&Configuration { voters, ..Configuration::default() }, held)
        }
    }
    /// M-11: those who only listen are counted.
    CountsLearners, 57, "I6", "m11": {
        fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
            let voters = configuration.voters.union(&configuration.learners).copied().collect();
            quorum::height(&Configuration { voters, ..configuration.clone() }, held)
        }
    }
    /// the first block of a term is a client's, if one comes.
    LeadsWithoutOpening, 1, "R-1", "c01r": {
        fn must_open(&self, _opened: bool) -> bool { false }
    }
    /// L4: as much is in flight as there is.
    IgnoresTheWindow, 1, "L4", "r17": {
        fn window(&self, _bytes: u64) -> u64 { u64::MAX }
    }
    /// a leader without a quorum takes whatever comes.
    TakesWithoutEnd, 25, "L4", "r15": {
        fn is_full(&self, _uncommitted_bytes: u64, _limit: u64) -> bool { false }
    }
}
