//! Keeps the two clocks and the source of chance that the node gives to its pure parts.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quipu_consensus::input::{Entropy, Tick};
use quipu_crypto::id::TimeMs;

/// The node's wall clock.
#[must_use]
pub fn wall() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that only ever goes forward.
#[derive(Clone, Copy, Debug)]
pub struct Ticks(Instant);

impl Ticks {
    /// Begins at zero.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Chance from the operating system; it only spreads election timeouts.
#[derive(Clone, Copy, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn below(&mut self, bound: u64) -> u64 {
        let drawn = quipu_crypto::random::bytes::<8>().map_or(0, u64::from_le_bytes);
        drawn.checked_rem(bound).unwrap_or(0)
    }
}
