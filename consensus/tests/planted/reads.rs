//! Bugs of reads.

use quipu_consensus::raft::Rules;
use quipu_crypto::id::Term;

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
    /// C-1r: a new leader reads before it knows what is committed.
    ReadsTooEarly, 2, "I18", "c01r": {
        fn reads_at(&self, _committed: Term, _own: Term) -> bool { true }
    }
    /// C-2r: a deposed leader answers reads.
    ReadsWithoutRound, 27, "I18", "c02r": {
        fn read_needs_round(&self) -> bool { false }
    }
    /// C-2r: the echo of an earlier contact confirms a read.
    CountsEarlierEchoes, 153, "I18", "c02r": {
        fn confirms(&self, echoed: u64, round: u64) -> bool { echoed.saturating_add(1) >= round }
    }
    /// C-7r: a leader that steps down says nothing to those who wait for a read.
    LosesReadsSilently, 1, "C-7r", "c07r": {
        fn tells_lost_reads(&self) -> bool { false }
    }
}
