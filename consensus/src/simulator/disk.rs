//! Keeps a simulated disk: writes become durable later, in order, and a crash loses what was not synced.
//!
//! Invariants: a write is applied whole or not at all; what a sync has reported survives everything; of what was not
//! synced a prefix survives a crash, drawn by chance.
//! Leaves when a write completes to the world.

use std::collections::VecDeque;

use super::participant::Participant;
use super::random::Random;
use crate::input::{Entropy, PersistSeq};

/// The disk of one node.
pub struct Disk<P: Participant> {
    /// What survives a crash for sure.
    pub durable: P::Image,
    /// What the process sees: every write that it asked for.
    pub view: P::Image,
    /// Done and reported, but not synced.
    cached: Vec<P::Write>,
    /// Asked for.
    queue: VecDeque<(PersistSeq, P::Write, bool)>,
    /// How many of them are on their way.
    draining: usize,
}

impl<P: Participant> Disk<P> {
    /// A disk that holds `image`.
    pub fn new(image: P::Image) -> Self {
        Self {
            view: image.clone(),
            durable: image,
            cached: Vec::new(),
            queue: VecDeque::new(),
            draining: 0,
        }
    }

    /// A write was asked for.
    pub fn ask(&mut self, seq: PersistSeq, write: P::Write, sync: bool) {
        P::apply(&mut self.view, &write);
        self.queue.push_back((seq, write, sync));
    }

    /// Begins the next drain of the queue: everything asked for so far is written, and synced at most once (group
    /// commit). `None` while one runs or where there is nothing; otherwise whether it syncs.
    pub fn begin(&mut self) -> Option<bool> {
        if self.draining > 0 || self.queue.is_empty() {
            return None;
        }
        self.draining = self.queue.len();
        Some(self.queue.iter().any(|(_, _, sync)| *sync))
    }

    /// The drain is done: the number of its last write.
    pub fn complete(&mut self) -> Option<PersistSeq> {
        let drained: Vec<_> = self.queue.drain(..self.draining).collect();
        self.draining = 0;
        let last = drained.last().map(|(seq, _, _)| *seq);
        let sync = drained.iter().any(|(_, _, sync)| *sync);
        self.cached.extend(drained.into_iter().map(|(_, write, _)| write));
        if sync {
            for write in self.cached.drain(..) {
                P::apply(&mut self.durable, &write);
            }
        }
        last
    }

    /// The write that would complete next.
    pub fn next(&self) -> Option<PersistSeq> {
        self.queue.front().map(|(seq, _, _)| *seq)
    }

    /// The power fails: a prefix of what was on its way has reached the disk.
    pub fn crash(&mut self, random: &mut Random) {
        let mut on_the_way: Vec<P::Write> = std::mem::take(&mut self.cached);
        on_the_way.extend(self.queue.drain(..).map(|(_, write, _)| write));
        self.draining = 0;
        let count = u64::try_from(on_the_way.len()).unwrap_or(0);
        let survive = if random.chance(500) {
            0
        } else {
            random.below(count.saturating_add(1))
        };
        for write in on_the_way.iter().take(usize::try_from(survive).unwrap_or(0)) {
            P::apply(&mut self.durable, write);
        }
        self.view = self.durable.clone();
    }
}
