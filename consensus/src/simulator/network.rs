//! Keeps the simulated links: which are cut or clogged, which session is live, when a message arrives.
//!
//! Invariant: a session number is given once; a message keeps the session that it was sent over, also when it arrives
//! after the end of that session (H-9).
//! Leaves the carrying itself to the world's queue.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::Slot;

use super::faults::{Fault, Faults};
use super::random::Random;
use crate::input::{Entropy, SessionId};

/// The links between all nodes.
#[derive(Debug, Default)]
pub struct Network {
    /// Directions that carry nothing now.
    cut: BTreeSet<(Slot, Slot)>,
    /// Directions that keep what they carry until then.
    clogged: BTreeMap<(Slot, Slot), u64>,
    /// The live session of a pair, lower slot first.
    sessions: BTreeMap<(Slot, Slot), SessionId>,
    /// When the last message of a direction arrives.
    last_arrival: BTreeMap<(Slot, Slot), u64>,
    given: u64,
}

/// What becomes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// When it arrives: never, once, or twice.
    pub arrivals: Vec<u64>,
    /// What struck it.
    pub struck: Vec<Fault>,
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

    /// Cuts one direction, or mends it.
    pub fn set_cut(&mut self, from: Slot, to: Slot, cut: bool) {
        if cut && from != to {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Lets one direction keep what it carries until then.
    pub fn clog(&mut self, from: Slot, to: Slot, until: u64) {
        self.clogged.insert((from, to), until);
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        self.cut.clear();
        self.clogged.clear();
    }

    /// Draws a partition: symmetric, one-way, or of single links. Answers the nodes that lost a link.
    pub fn partition(&mut self, shape: Fault, slots: &[Slot], random: &mut Random) -> BTreeSet<Slot> {
        self.mend();
        let side: BTreeSet<Slot> = slots.iter().copied().filter(|_| random.chance(500)).collect();
        let mut struck = BTreeSet::new();
        for (from, to) in slots.iter().flat_map(|from| slots.iter().map(move |to| (*from, *to))) {
            let across = side.contains(&from) && !side.contains(&to);
            let back = side.contains(&to) && !side.contains(&from);
            let cut = match shape {
                Fault::Partition => across || back,
                Fault::OneWay => across,
                _ => random.chance(300),
            };
            if cut && from != to {
                self.set_cut(from, to, true);
                struck.extend([from, to]);
            }
        }
        struck
    }

    /// When a message that is sent at `now` arrives, and what strikes it.
    pub fn pass(&mut self, from: Slot, to: Slot, now: u64, faults: &Faults, random: &mut Random) -> Passage {
        let mut passage = Passage::default();
        if self.cut.contains(&(from, to)) {
            return passage;
        }
        if random.chance(faults.amount(Fault::Loss)) {
            passage.struck.push(Fault::Loss);
            return passage;
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        let copies: usize = if random.chance(faults.amount(Fault::Duplicate)) {
            passage.struck.push(Fault::Duplicate);
            2
        } else {
            1
        };
        for _ in 0..copies {
            let jitter = random.below(faults.jitter_ms.saturating_add(1));
            let mut at = now.saturating_add(faults.delay_ms).saturating_add(jitter);
            if random.chance(faults.amount(Fault::LongDelay)) {
                passage.struck.push(Fault::LongDelay);
                at = at.saturating_add(random.below(faults.tail_ms.saturating_add(1)));
            } else if !random.chance(faults.amount(Fault::Overtake)) {
                at = at.max(*last);
            }
            if let Some(until) = self.clogged.get(&(from, to)).filter(|until| **until > at) {
                passage.struck.push(Fault::Clog);
                at = *until;
            }
            if at < *last {
                passage.struck.push(Fault::Overtake);
            }
            // A straggler does not hold up what comes after it, save where all of its link is kept.
            if at.saturating_sub(now) < 100 {
                *last = at.max(*last);
            }
            passage.arrivals.push(at);
        }
        passage
    }
}
