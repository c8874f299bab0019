//! Keeps the simulated links: which are cut, which session is live, when a message arrives.
//!
//! Invariant: a session number is given once; a message keeps the session that it was sent over, also when it arrives
//! after the end of that session (H-9).
//! Leaves the carrying itself to the world's queue.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::Slot;

use super::faults::Faults;
use super::random::Random;
use crate::input::{Entropy, SessionId};

/// The links between all nodes.
#[derive(Debug, Default)]
pub struct Network {
    /// Directions that carry nothing now.
    cut: BTreeSet<(Slot, Slot)>,
    /// The live session of a pair, lower slot first.
    sessions: BTreeMap<(Slot, Slot), SessionId>,
    /// When the last message of a direction arrives, where order is kept.
    last_arrival: BTreeMap<(Slot, Slot), u64>,
    given: u64,
}

/// A pair in the order of the slots.
fn pair(left: Slot, right: Slot) -> (Slot, Slot) {
    (left.min(right), left.max(right))
}

impl Network {
    /// Begins a session between two nodes.
    pub fn connect(&mut self, left: Slot, right: Slot) -> SessionId {
        self.given = self.given.saturating_add(1);
        let session = SessionId(self.given);
        self.sessions.insert(pair(left, right), session);
        session
    }

    /// Ends the session between two nodes, where there is one.
    pub fn disconnect(&mut self, left: Slot, right: Slot) -> Option<SessionId> {
        self.sessions.remove(&pair(left, right))
    }

    /// Whether a session is live.
    #[must_use]
    pub fn is_connected(&self, left: Slot, right: Slot) -> bool {
        self.sessions.contains_key(&pair(left, right))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Slot, to: Slot) {
        self.cut.insert((from, to));
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Draws a partition: symmetric, one-way, or of single links.
    pub fn partition(&mut self, slots: &[Slot], random: &mut Random) {
        self.mend();
        let shape = random.below(3);
        let side: BTreeSet<Slot> = slots.iter().copied().filter(|_| random.chance(500)).collect();
        for (from, to) in slots.iter().flat_map(|from| slots.iter().map(move |to| (*from, *to))) {
            let across = side.contains(&from) && !side.contains(&to);
            let back = side.contains(&to) && !side.contains(&from);
            let cut = match shape {
                0 => across || back,
                1 => across,
                _ => random.chance(300),
            };
            if cut && from != to {
                self.cut(from, to);
            }
        }
    }

    /// When a message that is sent at `now` arrives: never, once, or twice.
    pub fn arrivals(&mut self, from: Slot, to: Slot, now: u64, faults: &Faults, random: &mut Random) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || random.chance(faults.loss) {
            return Vec::new();
        }
        let mut arrive = || {
            let tail = if random.chance(faults.tail) {
                random.below(faults.tail_ms.saturating_add(1))
            } else {
                0
            };
            let jitter = random.below(faults.jitter_ms.saturating_add(1));
            now.saturating_add(faults.delay_ms)
                .saturating_add(jitter)
                .saturating_add(tail)
        };
        let mut first = arrive();
        if faults.jitter_ms == 0 {
            let last = self.last_arrival.entry((from, to)).or_default();
            first = first.max(*last);
            *last = first;
        }
        let again = arrive();
        if random.chance(faults.duplicates) {
            vec![first, again]
        } else {
            vec![first]
        }
    }
}
