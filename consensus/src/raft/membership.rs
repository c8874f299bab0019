//! Keeps which configuration is in force: a function of the chain, from the append of a membership block on, rolled
//! back when that block is cut (thesis 4.1, CCF; M-5, M-9).
//!
//! Invariant: never empty; heights ascend; the last one is in force.
//! Seam: the engine follows the membership blocks that it is sent, joint ones included, but proposes none yet.

use quipu_crypto::id::{Height, Slot};

use crate::block::{Block, Configuration};

/// The configurations of the chain, from the one in force at what is committed.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    first: (Height, Configuration),
    later: Vec<(Height, Configuration)>,
}

impl Membership {
    pub(crate) fn new(height: Height, configuration: Configuration) -> Self {
        Self {
            first: (height, configuration),
            later: Vec::new(),
        }
    }

    /// A block was appended.
    pub(crate) fn appended<B: Block>(&mut self, block: &B) {
        if let Some(configuration) = block.configuration() {
            self.later.push((block.id().height, configuration));
        }
    }

    /// Blocks from `from` on were cut.
    pub(crate) fn truncated(&mut self, from: Height) {
        self.later.retain(|(height, _)| *height < from);
    }

    /// What lies at or below `height` cannot be rolled back any more.
    pub(crate) fn settled(&mut self, height: Height) {
        while self.later.first().is_some_and(|(first, _)| *first <= height) {
            self.first = self.later.remove(0);
        }
    }

    fn last(&self) -> &(Height, Configuration) {
        self.later.last().unwrap_or(&self.first)
    }

    /// Height of the membership block in force.
    pub(crate) fn height(&self) -> Height {
        self.last().0
    }

    /// The configuration in force.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.last().1
    }

    /// Whether `slot` votes.
    pub(crate) fn votes(&self, slot: Slot) -> bool {
        let configuration = self.configuration();
        configuration.voters.contains(&slot) || configuration.outgoing.contains(&slot)
    }

    /// Everybody else who votes.
    pub(crate) fn other_voters(&self, own: Slot) -> Vec<Slot> {
        let configuration = self.configuration();
        configuration
            .voters
            .union(&configuration.outgoing)
            .copied()
            .filter(|slot| *slot != own)
            .collect()
    }

    /// Everybody else who receives blocks.
    pub(crate) fn peers(&self, own: Slot) -> Vec<Slot> {
        let mut peers = self.other_voters(own);
        peers.extend(
            self.configuration()
                .learners
                .iter()
                .copied()
                .filter(|slot| *slot != own),
        );
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}
