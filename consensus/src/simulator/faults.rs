//! Keeps what goes wrong in a run, and how much of it: drawn anew by each seed (swarm testing).
//!
//! Invariant: each kind is absent in a good part of the seeds, so that one fault cannot hide what another would show.
//! Source: Groce et al., "Swarm Testing" (ISSTA 2012).

use super::random::Random;

/// Rates of everything that can go wrong. A period of zero means never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// Messages delivered twice, of a thousand.
    pub duplicates: u64,
    /// Least delay of a message, ms.
    pub delay_ms: u64,
    /// Further delay, drawn for each message: so they overtake each other. Zero keeps their order.
    pub jitter_ms: u64,
    /// Messages with a long delay, of a thousand.
    pub tail: u64,
    /// The longest of the long delays, ms.
    pub tail_ms: u64,
    /// Mean time between partitions.
    pub partition_ms: u64,
    /// Mean time between crashes of one node.
    pub crash_ms: u64,
    /// Mean time between crashes of all nodes at once.
    pub blackout_ms: u64,
    /// Mean time between pauses of a process.
    pub pause_ms: u64,
    /// Mean time between ends of a session.
    pub session_ms: u64,
    /// Mean time between orders to hand leadership over.
    pub transfer_ms: u64,
    /// Mean time between failed writes.
    pub write_error_ms: u64,
    /// The slowest sync, ms.
    pub sync_ms: u64,
    /// How far clocks run apart, of a thousand.
    pub skew: u64,
    /// Mean time between client writes.
    pub client_ms: u64,
}

impl Faults {
    /// What seed's generator draws.
    pub fn draw(random: &mut Random) -> Self {
        let mut sometimes = |permille: u64, low: u64, high: u64| {
            let value = random.between(low, high);
            if random.chance(permille) { value } else { 0 }
        };
        Self {
            loss: sometimes(500, 5, 300),
            duplicates: sometimes(400, 5, 500),
            delay_ms: sometimes(700, 1, 15),
            jitter_ms: sometimes(600, 1, 40),
            tail: sometimes(400, 1, 50),
            tail_ms: sometimes(1000, 50, 5000),
            partition_ms: sometimes(500, 400, 4000),
            crash_ms: sometimes(600, 300, 4000),
            blackout_ms: sometimes(150, 1500, 8000),
            pause_ms: sometimes(250, 500, 5000),
            session_ms: sometimes(400, 200, 3000),
            transfer_ms: sometimes(250, 300, 3000),
            write_error_ms: sometimes(100, 1000, 8000),
            sync_ms: sometimes(800, 1, 80),
            skew: sometimes(300, 10, 150),
            client_ms: sometimes(1000, 2, 60),
        }
    }

    /// A network in which only time passes: for the phase that demands progress.
    #[must_use]
    pub const fn healed(self) -> Self {
        Self {
            loss: 0,
            duplicates: 0,
            delay_ms: 2,
            jitter_ms: 3,
            tail: 0,
            tail_ms: 0,
            partition_ms: 0,
            crash_ms: 0,
            blackout_ms: 0,
            pause_ms: 0,
            session_ms: 0,
            transfer_ms: 0,
            write_error_ms: 0,
            sync_ms: 3,
            skew: self.skew,
            client_ms: 200,
        }
    }
}
