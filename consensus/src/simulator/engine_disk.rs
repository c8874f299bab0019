//! Keeps the disk of an engine's host: the chain, what belongs at each height, and what is noted beside it.
//!
//! Invariant: a block is read only where it is the one that belongs there, and sound.
//! Leaves when a write is durable to `disk`.

use std::collections::BTreeMap;

use quipu_crypto::id::{BlockId, Height, Slot};

use super::block::SimulatedBlock;
use super::participant::{Damage, Link};
use crate::input::{FetchId, Input};
use crate::message::Promise;
use crate::output::{LogOperation, VoteRecord};

/// A question of the engine for blocks of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) fetch: FetchId,
    pub(super) first: Height,
    pub(super) last: Height,
    pub(super) max_bytes: u64,
}

/// The disk of an engine's host.
#[derive(Clone, Debug)]
pub struct EngineDisk {
    /// The last start that was claimed.
    pub(super) starts: u64,
    pub(super) recovering: Option<BlockId>,
    pub(super) vote: VoteRecord,
    /// Contents, which a disk may damage.
    pub(super) blocks: Vec<SimulatedBlock>,
    /// What the header records say: which block belongs at each height.
    pub(super) links: Vec<Link>,
    pub(super) hint: Height,
    pub(super) promises: BTreeMap<Slot, Promise>,
    pub(super) watermark: Option<Promise>,
}

impl EngineDisk {
    /// One that has block 0 and nothing else.
    pub(super) fn blank() -> Self {
        let genesis = SimulatedBlock::genesis();
        Self {
            starts: 0,
            recovering: None,
            vote: VoteRecord::default(),
            links: vec![link(&genesis)],
            blocks: vec![genesis],
            hint: Height::ZERO,
            promises: BTreeMap::new(),
            watermark: None,
        }
    }

    /// Does what the engine asked for.
    pub(super) fn write(&mut self, write: &[LogOperation<SimulatedBlock>]) {
        for operation in write {
            match operation {
                LogOperation::SetVote(record) => self.vote = *record,
                LogOperation::Truncate { from } => self.truncate(*from),
                LogOperation::Append(blocks) => {
                    self.links.extend(blocks.iter().map(link));
                    self.blocks.extend(blocks.iter().cloned());
                }
                LogOperation::CommitHint(height) => self.hint = *height,
                LogOperation::Remember { peer, promise } => {
                    self.promises.insert(*peer, *promise);
                }
                LogOperation::Watermark(promise) => self.watermark = Some(*promise),
                LogOperation::Start(number) => self.starts = *number,
                LogOperation::Recover(lacking) => self.recovering = *lacking,
                LogOperation::Restore(block) => {
                    if let Some(stored) = self.blocks.get_mut(place(block.id.height)) {
                        *stored = block.clone();
                    }
                }
            }
        }
    }

    /// Does what nobody asked for; whether there was something to damage.
    pub(super) fn damage(&mut self, damage: Damage, at: Height) -> bool {
        if at == Height::ZERO || at > self.tip() {
            return false;
        }
        match damage {
            Damage::Rot => {
                if let Some(block) = self.blocks.get_mut(place(at)) {
                    block.payload ^= 1 << 40;
                }
            }
            Damage::Misdirected => {
                let other = at.previous().and_then(|below| self.blocks.get(place(below)).cloned());
                if let (Some(other), Some(block)) = (other, self.blocks.get_mut(place(at))) {
                    *block = other;
                }
            }
            Damage::LostTail => self.lose_tail(at),
            Damage::LostTailAndOldWatermark => {
                let first = self.links.get(place(at)).map_or(BlockId::default(), |link| link.id);
                self.watermark = self.watermark.map(|noted| Promise {
                    vote: first.term,
                    accepted: first,
                    ..noted
                });
                self.lose_tail(at);
            }
            Damage::LostTailAndWatermark => {
                self.watermark = None;
                self.lose_tail(at);
            }
        }
        true
    }

    /// The block at a height, if it is the one that belongs there.
    pub(super) fn read(&self, height: Height) -> Option<&SimulatedBlock> {
        let link = self.links.get(place(height))?;
        let block = self.blocks.get(place(height))?;
        (block.id == link.id && block.is_sound()).then_some(block)
    }

    pub(super) fn tip(&self) -> Height {
        self.links.last().map_or(Height::ZERO, |link| link.id.height)
    }

    pub(super) fn truncate(&mut self, from: Height) {
        self.blocks.truncate(place(from));
        self.links.truncate(place(from));
    }

    fn lose_tail(&mut self, from: Height) {
        self.truncate(from);
        self.hint = self.hint.min(self.tip());
    }

    /// Reads blocks for the engine, and tells it where one is damaged.
    pub(super) fn answer(&self, load: Load, inputs: &mut Vec<Input<SimulatedBlock>>) {
        let below = load.first.previous().and_then(|height| self.links.get(place(height)));
        let mut blocks: Vec<SimulatedBlock> = Vec::new();
        let mut bytes = 0_u64;
        let mut height = load.first;
        while height <= load.last && height <= self.tip() {
            let Some(block) = self.read(height) else {
                inputs.extend(self.damaged(height));
                break;
            };
            bytes = bytes.saturating_add(block.size);
            if bytes > load.max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block.clone());
            height = height.next();
        }
        inputs.push(Input::Loaded {
            fetch: load.fetch,
            previous: below.map_or(BlockId::default(), |link| link.id),
            blocks,
        });
    }

    /// The report of a block that cannot be read.
    pub(super) fn damaged(&self, height: Height) -> Option<Input<SimulatedBlock>> {
        let link = self.links.get(place(height))?;
        Some(Input::Damaged {
            height,
            hash: link.id.hash,
        })
    }
}

fn link(block: &SimulatedBlock) -> Link {
    Link {
        id: block.id,
        previous: block.previous,
        requests: (block.payload != 0).then_some(block.payload).into_iter().collect(),
        configuration: block.configuration.clone(),
    }
}

/// The place of a height in a list that begins with block 0.
pub(super) fn place(height: Height) -> usize {
    usize::try_from(height.get()).unwrap_or(usize::MAX)
}
