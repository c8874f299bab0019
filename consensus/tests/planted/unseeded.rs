//! Bugs that no seed is known to kill; each has its scenario.
//!
//! Three only cost time: they break no invariant of a network that heals, for what heals it ends them as well (a new
//! session, a new leader, room on the disks). Two take a majority that has lost its disks, or a leader that is cut off
//! while its own voters forget it: 2,000 seeds with frail disks did neither so that it was seen.

use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Term};

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
    /// Shows a fork that it has no room to replace, though what it was sent fits below.
    ShowsItsFork, 0, "", "d10": {
        fn shows(&self, _fits: BlockId, tip: BlockId) -> BlockId { tip }
    }
    /// Of those that could not take over, remembers the last one only: goes to and fro between two.
    RemembersOneTarget, 0, "", "v12": {
        fn remembers_targets(&self) -> bool { false }
    }
    /// Gives way to those who are still catching up.
    GivesWayToThoseBehind, 0, "", "p06": {
        fn gives_way(&self, waiting_ms: u64, stall_ms: u64, _quorum_gets_on: bool) -> bool { waiting_ms >= stall_ms }
    }
    /// Two that have lost their disks at once end each other's recovery.
    VouchesForEachOther, 0, "", "d10": {
        fn vouches(&self, _takes_part: bool) -> bool { true }
    }
    /// C-2r: a recovering node confirms a read of a leader that it has voted away, and forgotten.
    EchoesWhileItRecovers, 0, "", "d10": {
        fn echoes(&self, asked: Term, own: Term, _takes_part: bool) -> bool { asked == own }
    }
}
