//! Bugs of durability: what may leave, count or be believed before the disk has it.

use quipu_consensus::input::PersistSeq;
use quipu_consensus::raft::Rules;
use quipu_crypto::id::{BlockId, Height};

use super::{Mutant, Planted};

mutants! {
    frail_disks: false;
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
    NeverCountsItself, 1, "L3", "r09": {
        fn own_height(&self, _durable: Height, _tip: Height) -> Height { Height::ZERO }
    }
    /// the late completion of an overwritten append proves the block that took its place.
    OverwrittenWritesCount, 1, "I20", "r05": {
        fn proven_after_cut(&self, durable: BlockId, _below: BlockId) -> BlockId { durable }
    }
    /// P4: a start takes all that is on its disk for committed.
    TakesItsTipForCommitted, 1, "I7", "d05": {
        fn restored_commit(&self, _hint: Height, tip: Height) -> Height { tip }
    }
    /// D-1: goes on after a failed write.
    GoesOnAfterAFailedWrite, 3, "P9", "d01": {
        fn stops_at_failed_write(&self) -> bool { false }
    }
    /// D-8: takes blocks without room for them.
    TakesBlocksWithoutRoom, 3, "D-8", "d08": {
        fn takes_blocks(&self, _may_append: bool) -> bool { true }
    }
    /// D-4: does not compare its log with what it noted of it.
    OverlooksItsLostEnd, 83, "I3", "d04": {
        fn has_lost_its_end(&self, _noted_is_held: bool) -> bool { false }
    }
    /// D-8: sends blocks again for every answer that is no news, also to who has no room for them.
    SendsForEveryAnswer, 30, "L4", "d08": {
        fn sends_again_after(&self, _patience_ms: u64) -> u64 { 0 }
    }
    /// What was lost on its way to a node that cannot acknowledge is never sent again.
    SendsOnlyOnce, 43, "L2", "d10": {
        fn sends_again_after(&self, _patience_ms: u64) -> u64 { u64::MAX }
    }
}
