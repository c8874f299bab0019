//! Bugs of starts: the hello exchange, and the recovery of a node whose disk is older than its promises (D-10).

use quipu_consensus::raft::Rules;

use super::{Mutant, Planted};

mutants! {
    /// A recovery has no end.
    NeverRecovers, 11, "L2", "d10": {
        fn ends_recovery(&self, _later: bool, _all: bool, _held: bool) -> bool { false }
    }
}
