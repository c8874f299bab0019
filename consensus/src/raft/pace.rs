//! Keeps whether a leader gets anywhere: leadership hangs on blocks that move, not on contacts that pass.
//!
//! Invariants: a leader whose blocks wait for their commit for too long, though no quorum is catching up either, gives
//! way (P-6); one whose own disk is the last to have what the others have committed hands over (D-9), as does one whose
//! disk has no room (D-8).
//! Leaves how it is handed over to `transfer`.

use super::rules::Rules;
use super::state::{Raft, Redraw, Stage};
use crate::block::Block;
use crate::input::Tick;

/// The pace of a leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Since when the oldest uncommitted block waits, or since when the commit last moved under it.
    waiting: Option<Tick>,
    /// Of the window that began at `window`, how long the commit was ahead of the own disk, ms.
    behind_ms: u64,
    window: Tick,
    looked: Tick,
}

impl Pace {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            waiting: None,
            behind_ms: 0,
            window: now,
            looked: now,
        }
    }

    /// The commit moved.
    pub(crate) fn committed(&mut self) {
        self.waiting = None;
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// Looks whether this node should go on leading; `false` where it does not lead any more.
    pub(super) fn keeps_pace(&mut self) -> bool {
        let now = self.now;
        let stall = self.settings.stall_ms;
        let commit = self.commit.height;
        let uncommitted = self.log.tip().height > commit;
        let behind = self.writes.durable().height < commit;
        let Stage::Leader(lead) = &mut self.stage else {
            return false;
        };
        let pace = &mut lead.pace;
        if behind {
            pace.behind_ms = pace.behind_ms.saturating_add(now.since(pace.looked));
        }
        pace.looked = now;
        let window = now.since(pace.window);
        let slow = window >= stall && self.rules.disk_is_too_slow(pace.behind_ms, window);
        if window >= stall {
            (pace.window, pace.behind_ms) = (now, 0);
        }
        let waited = match (uncommitted, pace.waiting) {
            (true, Some(since)) => now.since(since),
            (true, None) => {
                pace.waiting = Some(now);
                0
            }
            (false, _) => {
                pace.waiting = None;
                0
            }
        };
        if self.rules.gives_way(waited, stall, self.quorum_gets_on()) {
            self.follow(self.vote.term, None);
            self.redraw = Redraw::Late;
            return false;
        }
        let transfers = matches!(&self.stage, Stage::Leader(lead) if lead.transfer.is_some());
        if (slow || !self.rules.takes_blocks(self.may_append)) && !transfers {
            self.transfer(None);
        }
        true
    }

    /// Whether blocks get through to a quorum: one that is far behind needs its time before anything is committed.
    fn quorum_gets_on(&self) -> bool {
        let Stage::Leader(lead) = &self.stage else { return false };
        let (own, now, tip) = (self.slot, self.now, self.log.tip().height);
        let stall = self.settings.stall_ms;
        self.rules.quorum(self.membership.configuration(), &|slot| {
            slot == own
                || lead
                    .progress
                    .get(&slot)
                    .is_some_and(|peer| peer.gets_on(tip, now, stall))
        })
    }
}
