//! Bugs that no seed is known to kill; each has its scenario.
//!
//! Four only cost time: they break no invariant of a network that heals, for what heals it ends them as well (a new
//! session, a new leader, room on the disks). The others take more at once than any of 2,000 seeds brings, such as a
//! majority that has lost its disks, or a leader that is cut off while its own voters forget it. Two of them,
//! `ForgetsThatItRecovers` and `EchoesPassedTerms`, died in longer searches, of 8,070 and of 12,481 seeds.

use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Term};

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
    /// Shows a fork that it has no room to replace, though what it was sent fits below.
    ShowsItsFork, 0, "", "d10": {
        fn shows(&self, _fits: BlockId, tip: BlockId) -> BlockId { tip }
    }
    /// Begins a transfer anew whenever it is asked for one.
    BeginsTransfersAnew, 0, "", "v12": {
        fn begins_transfer(&self, _one_runs: bool) -> bool { true }
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
    /// A restart ends a recovery.
    ForgetsThatItRecovers, 0, "", "d10": {
        fn notes_recovery(&self, _noted: bool) -> bool { false }
    }
    /// C-2r: a refusal in a later term echoes the contact of an earlier one.
    EchoesPassedTerms, 0, "", "c02r": {
        fn echoes(&self, _asked: Term, _own: Term, takes_part: bool) -> bool { takes_part }
    }
}
