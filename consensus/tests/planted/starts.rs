//! Bugs of starts: the hello exchange, and the recovery of a node whose disk is older than its promises (D-10).

use quipu_consensus::raft::Rules;
use quipu_crypto::id::Height;

use super::{Mutant, Planted};

mutants! {
    frail_disks: true;
    /// A recovery has no end.
    NeverRecovers, 1, "L2", "d10": {
        fn ends_recovery(&self, _later: bool, _all: bool, _held: bool) -> bool { false }
    }
    /// Takes part before anybody told what it promised.
    DecidesWhileWaiting, 4, "I8", "d10": {
        fn takes_part(&self, _waiting: bool, recovering: bool) -> bool { !recovering }
    }
    /// Knows that it forgot a promise, and decides all the same.
    DecidesWhileRecovering, 2, "I3", "d10": {
        fn takes_part(&self, waiting: bool, _recovering: bool) -> bool { !waiting }
    }
    /// Only blocks can be forgotten.
    OverlooksForgottenVotes, 6, "I3", "d10": {
        fn has_forgotten(&self, _started: bool, _voted: bool, accepted: bool) -> bool { accepted }
    }
    /// One answer ends the wait.
    WaitsForNobody, 3, "I8", "d10": {
        fn ends_wait(&self, _all: bool, _waited: bool, _quorum: bool) -> bool { true }
    }
    /// Whoever has heard all is recovered.
    RecoversWithoutTheBlocks, 2, "I3", "d10": {
        fn ends_recovery(&self, _later: bool, all: bool, _held: bool) -> bool { all }
    }
    /// A leader supposes that a restarted peer still holds all it acknowledged.
    TrustsRestartedPeers, 453, "L2", "d10": {
        fn asks_again_after_restart(&self) -> bool { false }
    }
    /// Takes what its peers remember for all that it promised, though a crash has taken some of it from them.
    TrustsWhatIsRemembered, 50, "I3", "d10": {
        fn remembers_all(&self) -> bool { true }
    }
    /// An old copy of a disk that starts with a remembered number is taken for sound.
    TakesAnEqualStartForNew, 84, "I3", "d10": {
        fn is_old_start(&self, own: u64, remembered: u64) -> bool { own < remembered }
    }
    /// The number of a start is on record before it is known whether the node may take part.
    ClaimsWhileItAsks, 200, "I3", "d10": {
        fn claims_while_it_asks(&self) -> bool { true }
    }
    /// A memory of a block below its own commit height holds a sound node.
    HeldByOldMemories, 9, "L2", "d10": {
        fn settles(&self, _committed: Height, promised: Height) -> bool { promised == Height::ZERO }
    }
}
