//! Keeps the clocks of the peers beside the own one: a node whose clock is off must not campaign.
//!
//! Source: design, section 4, `time_ms`: more than 2.5 s from the median over itself and the reachable voters, the
//! lower middle for even counts.

use std::collections::BTreeMap;

use quipu_crypto::id::{Slot, TimeMs};

use crate::client_protocol::ClockStatus;

/// Furthest from the median that a candidate's clock may be, ms.
const MAX_CLOCK_DEVIATION_MS: i64 = 2_500;

/// How far the peers' clocks are ahead of the own one, ms.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    ahead: BTreeMap<Slot, i64>,
}

impl Clocks {
    /// A peer told its time.
    pub(super) fn heard(&mut self, peer: Slot, theirs: TimeMs, own: TimeMs) {
        let ahead = signed(theirs).saturating_sub(signed(own));
        self.ahead.insert(peer, ahead);
    }

    /// A peer can no longer be reached.
    pub(super) fn lost(&mut self, peer: Slot) {
        self.ahead.remove(&peer);
    }

    /// Where the own clock stands beside the median.
    pub(super) fn status(&self) -> ClockStatus {
        let mut all: Vec<i64> = self.ahead.values().copied().chain([0]).collect();
        all.sort_unstable();
        let middle = all.len().saturating_sub(1) / 2;
        let ahead_ms = all.get(middle).map_or(0, |median| median.saturating_neg());
        ClockStatus {
            ahead_ms,
            wrong: ahead_ms.saturating_abs() > MAX_CLOCK_DEVIATION_MS,
        }
    }
}

fn signed(time: TimeMs) -> i64 {
    i64::try_from(time.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_far_from_the_median_is_not_sound_and_one_wrong_peer_does_not_matter() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.status(), ClockStatus::default());
        clocks.heard(Slot(2), TimeMs(100_000), TimeMs(10_000));
        assert!(!clocks.status().wrong, "of two the lower middle is the own clock");
        clocks.heard(Slot(3), TimeMs(10_100), TimeMs(10_000));
        assert!(!clocks.status().wrong);
        clocks.heard(Slot(3), TimeMs(12_501), TimeMs(10_000));
        assert_eq!(
            clocks.status(),
            ClockStatus {
                ahead_ms: -2_501,
                wrong: true
            }
        );
        clocks.lost(Slot(2));
        clocks.lost(Slot(3));
        assert!(!clocks.status().wrong);
    }
}
