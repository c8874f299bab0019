//! Keeps a simulated disk: writes become durable later, in order, and a crash loses what was not synced.
//!
//! Invariants: a write is applied whole or not at all; what a sync has reported survives a crash; of what was not
//! synced a prefix survives it, drawn by chance. Only [`Disk::strike`] and [`Disk::replace`] break a sync's word.
//! Leaves when a write completes to the world.

use std::collections::VecDeque;

use super::faults::Fault;
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

    /// How many writes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is on its way: what is durable is all there is.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.cached.is_empty() && self.queue.is_empty()
    }

    /// The power fails: nothing of what was on its way has reached the disk in `all_lost` of a thousand cases, a prefix
    /// of it otherwise. Answers what was lost.
    pub fn crash(&mut self, all_lost: u64, random: &mut Random) -> Option<Fault> {
        let mut on_the_way: Vec<P::Write> = std::mem::take(&mut self.cached);
        on_the_way.extend(self.queue.drain(..).map(|(_, write, _)| write));
        self.draining = 0;
        let count = u64::try_from(on_the_way.len()).unwrap_or(0);
        let survive = if random.chance(all_lost) {
            0
        } else {
            random.below(count.saturating_add(1))
        };
        for write in on_the_way.iter().take(usize::try_from(survive).unwrap_or(0)) {
            P::apply(&mut self.durable, write);
        }
        if count > 0 {
            self.view = self.durable.clone();
        }
        match survive {
            _ if survive == count => None,
            0 => Some(Fault::LostWrites),
            _ => Some(Fault::TornWrites),
        }
    }

    /// The disk does what no write asked for, where nothing is on its way; answers whether there was something to
    /// strike.
    pub fn strike(&mut self, strike: impl FnOnce(&mut P::Image) -> bool) -> bool {
        let struck = self.is_still() && strike(&mut self.durable);
        if struck {
            self.view = self.durable.clone();
        }
        struck
    }

    /// Another disk is in its place.
    pub fn replace(&mut self, image: P::Image) {
        *self = Self::new(image);
    }
}
