//! Keeps which stored blocks are damaged here, and gets them again by their hash from any peer that has them (R-18,
//! D-3; "Protocol-Aware Recovery", FAST 2018).
//!
//! Invariants: a damaged block is never cut, only written again; what comes is believed for its hash alone, so whoever
//! sends it need not be trusted; questions go to one peer after the other, one at a time for each block. Every node
//! answers, in every state. Leaves finding the damage, and reading around it meanwhile, to the host.

use std::collections::BTreeMap;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, Slot};

use super::rules::Rules;
use super::state::Raft;
use crate::block::Block;
use crate::input::{FetchId, Tick};
use crate::message::{Found, Message, Want};
use crate::output::{Class, LogOperation, Output};

/// Most blocks that are asked for at a time. The host reports the others again when it meets them again.
const MOST_WANTED: usize = 64;

/// The damaged blocks, and the questions of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repairs {
    wanted: BTreeMap<Height, Wanted>,
    /// Questions that wait for the store: one a peer, so that nobody can make a node read all day.
    asked: BTreeMap<Slot, (FetchId, Want)>,
}

/// A block that is damaged here.
#[derive(Clone, Debug)]
struct Wanted {
    hash: Hash,
    /// Who was asked last.
    asked: Option<Slot>,
    /// When the next one is asked.
    due: Tick,
}

impl Repairs {
    /// Blocks from `from` on are not in the chain any more.
    pub(crate) fn truncated(&mut self, from: Height) {
        self.wanted.retain(|height, _| *height < from);
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// The host could not read that block.
    pub(super) fn damaged(&mut self, height: Height, hash: Hash) {
        if height > self.log.tip().height || self.log.id(height).is_some_and(|id| id.hash != hash) {
            return;
        }
        if let Some(block) = self.log.block(height).cloned() {
            self.writes.stage(LogOperation::Restore(block));
            return;
        }
        if self.repairs.wanted.len() < MOST_WANTED {
            let (asked, due) = (None, self.now);
            self.repairs.wanted.entry(height).or_insert(Wanted { hash, asked, due });
            self.ask_for_damaged();
        }
    }

    /// Asks the next peer for each damaged block whose last question has had its time.
    pub(super) fn ask_for_damaged(&mut self) {
        if self.repairs.wanted.is_empty() {
            return;
        }
        let peers = self.membership.peers(self.slot);
        let mut questions = Vec::new();
        for (height, wanted) in &mut self.repairs.wanted {
            let live = || peers.iter().copied().filter(|peer| self.sessions.contains_key(peer));
            let after = live().find(|peer| Some(*peer) > wanted.asked);
            let Some(next) = after.or_else(|| live().next()).filter(|_| wanted.due <= self.now) else {
                continue;
            };
            wanted.asked = Some(next);
            wanted.due = self.now.plus(self.settings.election_min_ms);
            let (height, hash) = (*height, wanted.hash);
            questions.push((next, Want { height, hash }));
        }
        for (peer, want) in questions {
            self.send(peer, Class::Control, Message::Want(want));
        }
    }

    /// A peer's copy is damaged.
    pub(super) fn want(&mut self, from: Slot, want: Want) {
        let held = self.log.block(want.height).filter(|block| block.id().hash == want.hash);
        if let Some(block) = held.cloned() {
            return self.answer_want(from, want, Some(block));
        }
        if want.height > self.log.tip().height {
            return self.answer_want(from, want, None);
        }
        if self.repairs.asked.contains_key(&from) {
            return; // asked again in its time
        }
        let fetch = self.next_fetch();
        self.repairs.asked.insert(from, (fetch, want));
        self.effects.push(Output::Fetch {
            fetch,
            first: want.height,
            last: want.height,
            max_bytes: self.settings.append_bytes,
        });
    }

    /// Blocks from the store that answer a peer's question; `false` where the question was another.
    pub(super) fn loaded_for_repair(&mut self, fetch: FetchId, blocks: &[B]) -> bool {
        let asked = self.repairs.asked.iter().find(|(_, (asked, _))| *asked == fetch);
        let Some((peer, want)) = asked.map(|(peer, (_, want))| (*peer, *want)) else {
            return false;
        };
        self.repairs.asked.remove(&peer);
        let block = blocks.first().filter(|block| block.id().hash == want.hash).cloned();
        self.answer_want(peer, want, block);
        true
    }

    fn answer_want(&mut self, to: Slot, Want { height, hash }: Want, block: Option<B>) {
        self.send(to, Class::Bulk, Message::Found(Found { height, hash, block }));
    }

    /// A peer has it, or says that it has not: then the next one is asked in its time.
    pub(super) fn found(&mut self, found: Found<B>) {
        let Some(wanted) = self.repairs.wanted.get(&found.height) else {
            return;
        };
        let (at, hash) = (found.height, wanted.hash);
        let block = found.block.filter(|block| self.rules.is_wanted(block.id(), at, hash));
        if let Some(block) = block {
            self.repairs.wanted.remove(&at);
            self.writes.stage(LogOperation::Restore(block));
        }
    }
}
