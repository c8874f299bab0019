//! Keeps the clock of a node: it runs at its own speed and may jump ahead, never back.
//!
//! Invariant: what it shows never falls.

use crate::input::Tick;

/// The clock of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// It showed `shown` at `since` of the true time, and has run at `rate` of a thousand from then on.
    since: u64,
    shown: u64,
    rate: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            since: 0,
            shown: 0,
            rate: 1000,
        }
    }
}

impl Clock {
    /// What it shows at `now` of the true time.
    pub(super) fn read(&self, now: u64) -> Tick {
        let passed = now.saturating_sub(self.since).saturating_mul(self.rate);
        Tick(self.shown.saturating_add(passed.checked_div(1000).unwrap_or(0)))
    }

    /// It runs at `rate` of a thousand from now on.
    pub(super) fn run_at(&mut self, now: u64, rate: u64) {
        *self = Self {
            since: now,
            shown: self.read(now).0,
            rate,
        };
    }

    /// It jumps ahead.
    pub(super) fn jump(&mut self, ms: u64) {
        self.shown = self.shown.saturating_add(ms);
    }
}
