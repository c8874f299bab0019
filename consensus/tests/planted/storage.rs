//! Bugs of durability: what may leave, count or be believed before the disk has it.

use quipu_consensus::input::PersistSeq;
use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Height};

use super::{Mutant, Planted};

mutants! {
    /// P1, P2: nothing waits for its write.
    SendsBeforeSync, 1, "I20", "v02": {
        fn gate(&self, _vote: Option<PersistSeq>, _blocks: Option<PersistSeq>) -> Option<PersistSeq> { None }
    }
    /// V-2, P1: a vote leaves before its record is on disk.
    VotesBeforeSync, 1, "I20", "v02": {
        fn gate(&self, _vote: Option<PersistSeq>, blocks: Option<PersistSeq>) -> Option<PersistSeq> { blocks }
    }
    /// P2: an acknowledgement leaves before the blocks are on disk.
    AcknowledgesBeforeSync, 1, "I20", "r03": {
        fn gate(&self, vote: Option<PersistSeq>, _blocks: Option<PersistSeq>) -> Option<PersistSeq> { vote }
    }
    /// P3: the leader counts itself before its own sync.
    CountsItselfUnsynced, 1, "I6", "r10": {
        fn own_height(&self, _durable: Height, tip: Height) -> Height { tip }
    }
    /// A leader never counts its own copy.
    NeverCountsItself, 4, "L3", "r09": {
        fn own_height(&self, _durable: Height, _tip: Height) -> Height { Height::ZERO }
    }
    /// the late completion of an overwritten append proves the block that took its place.
    OverwrittenWritesCount, 2, "I20", "r05": {
        fn proven_after_cut(&self, durable: BlockId, _below: BlockId) -> BlockId { durable }
    }
    /// P4: a start takes all that is on its disk for committed.
    TakesItsTipForCommitted, 3, "I7", "d05": {
        fn restored_commit(&self, _hint: Height, tip: Height) -> Height { tip }
    }
}
