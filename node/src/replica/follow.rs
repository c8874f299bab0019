//! Keeps the gate before the engine: of an append only the prefix that needs nothing more passes, the rest is held
//! until this node has executed what the next block names (design, section 3).
//!
//! Invariant: nothing that the engine takes names a quadruple that this node has not found itself or inherited from the
//! block's parent. What is held follows on the engine's chain; the engine still hears an empty contact there, so the
//! leader counts as alive meanwhile.

use std::collections::VecDeque;

use quipu_consensus::block::Block as _;
use quipu_consensus::input::{Input, SessionId};
use quipu_consensus::message::{Append, Message};
use quipu_crypto::id::{BlockId, Slot};
use quipu_ledger::block::Executed;
use quipu_ledger::limits::MAX_TIME_AHEAD_MS;

use super::{Action, Moment, Replica};
use crate::chain_block::{ChainBlock, take_blocks, with_blocks};
use crate::limits::HELD_BYTES;

/// Appends of one session that wait for execution, in order.
#[derive(Debug, Default)]
pub(super) struct Held {
    from: Option<(Slot, SessionId)>,
    queue: VecDeque<Append<ChainBlock>>,
    bytes: u64,
}

impl Held {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn drop_session(&mut self, peer: Slot, session: SessionId) {
        if self.from == Some((peer, session)) {
            self.clear();
        }
    }

    /// The last block that passed, where something of this session waits behind it.
    fn waits_at(&self, from: Slot, session: SessionId) -> Option<BlockId> {
        let first = self.queue.front().filter(|_| self.from == Some((from, session)))?;
        Some(first.previous)
    }

    /// Keeps an append behind the others; one for which there is no room is dropped, the leader sends it again.
    fn push(&mut self, from: Slot, session: SessionId, append: Append<ChainBlock>) {
        if self.from != Some((from, session)) {
            self.clear();
            self.from = Some((from, session));
        }
        let bytes = size(&append);
        if self.bytes.saturating_add(bytes) <= HELD_BYTES {
            self.bytes = self.bytes.saturating_add(bytes);
            self.queue.push_back(append);
        }
    }

    fn pop(&mut self) -> Option<(Slot, SessionId, Append<ChainBlock>)> {
        let (from, session) = self.from?;
        let append = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&append));
        Some((from, session, append))
    }

    fn put_back(&mut self, append: Append<ChainBlock>) {
        self.bytes = self.bytes.saturating_add(size(&append));
        self.queue.push_front(append);
    }
}

fn size(append: &Append<ChainBlock>) -> u64 {
    append.blocks.iter().map(ChainBlock::size).sum()
}

/// Whether a block may pass.
enum Verdict {
    Pass,
    /// This node must first execute what the block names.
    Wait,
    /// The block's time is too far ahead: not taken now, the leader sends it again.
    Early,
    /// This node found another quadruple there.
    Differs,
}

impl Replica {
    pub(super) fn append_received(
        &mut self,
        moment: &mut Moment<'_>,
        from: Slot,
        session: SessionId,
        append: Append<ChainBlock>,
        out: &mut Vec<Action>,
    ) {
        // What the leader sends now follows on what is held, so to the engine it is a contact at the place where that
        // waits.
        if let Some(waits_at) = self.held.waits_at(from, session) {
            let contact = contact(&append, waits_at);
            if !append.blocks.is_empty() {
                self.held.push(from, session, append);
            }
            self.receive(moment, from, session, contact, out);
            return;
        }
        if let Some(rest) = self.pass_prefix(moment, from, session, append, out) {
            self.held.push(from, session, rest);
        }
    }

    /// Execution went on: what was held may pass now.
    pub(super) fn retry_held(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        while let Some((from, session, append)) = self.held.pop() {
            let parent = self.executed_of(&append.previous);
            let first = append
                .blocks
                .first()
                .map(|block| self.judge(moment, &append, block, parent));
            if matches!(first, Some(Verdict::Wait)) {
                if self.has(append.previous) {
                    self.held.put_back(append);
                    return;
                }
                // What came before it was lost on the way: it would wait for ever, and everything behind it.
                continue;
            }
            if let Some(rest) = self.pass_prefix(moment, from, session, append, out) {
                if self.held.from == Some((from, session)) {
                    self.held.put_back(rest);
                }
                return;
            }
        }
    }

    /// Gives the engine the prefix that may pass; answers with the rest where it must wait.
    fn pass_prefix(
        &mut self,
        moment: &mut Moment<'_>,
        from: Slot,
        session: SessionId,
        append: Append<ChainBlock>,
        out: &mut Vec<Action>,
    ) -> Option<Append<ChainBlock>> {
        if append.term < self.engine.status().term {
            // Who led once may lawfully name what is long past here, and the engine takes no blocks from it.
            self.receive(moment, from, session, append, out);
            return None;
        }
        let mut parent = self.executed_of(&append.previous);
        let mut passed = 0_usize;
        let mut stopped_by = Verdict::Pass;
        for block in &append.blocks {
            match self.judge(moment, &append, block, parent) {
                Verdict::Pass => passed = passed.saturating_add(1),
                other => {
                    stopped_by = other;
                    break;
                }
            }
            parent = Some(block.block().header().executed);
        }
        let (append, mut blocks) = take_blocks(append);
        let rest = blocks.split_off(passed);
        let last = blocks.last().map_or(append.previous, quipu_consensus::block::Block::id);
        let mut prefix = with_blocks(append.clone(), blocks);
        if !rest.is_empty() {
            prefix.commit = clip(append.commit, last);
        }
        self.receive(moment, from, session, prefix, out);
        match stopped_by {
            Verdict::Pass | Verdict::Early => None,
            // What cannot follow here yet would wait for ever, and everything that the leader sends behind it.
            Verdict::Wait => (self.leader == Some(from) && self.has(last)).then(|| Append {
                previous: last,
                blocks: rest,
                ..append
            }),
            Verdict::Differs => {
                out.push(Action::Distrusted { leader: from });
                self.feed(moment, Input::Distrust { leader: from }, out);
                None
            }
        }
    }

    fn judge(
        &self,
        moment: &Moment<'_>,
        append: &Append<ChainBlock>,
        block: &ChainBlock,
        parent: Option<Executed>,
    ) -> Verdict {
        let header = block.block().header();
        if header.height <= self.committed.height {
            return Verdict::Pass; // known here; the engine compares its hash
        }
        let tip = self.tip.header();
        let ahead = header.time.since(moment.wall) > MAX_TIME_AHEAD_MS;
        if ahead && header.term == append.term && header.time != tip.time {
            tracing::warn!(height = %header.height, time = %header.time, "a block is too far ahead of the clock");
            return Verdict::Early;
        }
        if parent == Some(header.executed) {
            return Verdict::Pass;
        }
        match self.agreement.at(header.executed.height) {
            Some(own) if *own == header.executed => Verdict::Pass,
            Some(_) => Verdict::Differs,
            None if header.executed.height > self.agreement.executed() => Verdict::Wait,
            // Older than anything that a block above the commit can lawfully name.
            None => Verdict::Differs,
        }
    }

    /// Whether the engine's chain holds that block, as far as is at hand: what is committed every leader has.
    fn has(&self, id: BlockId) -> bool {
        let held = self.engine.block(id.height).map(ChainBlock::id);
        id.height <= self.committed.height || self.tip.id() == id || held == Some(id)
    }

    /// The quadruple in the header of a block of this chain; none where it is not at hand (the rule then asks for an
    /// own quadruple, which is stricter).
    fn executed_of(&self, id: &BlockId) -> Option<Executed> {
        if self.tip.id() == *id {
            return Some(self.tip.header().executed);
        }
        self.engine
            .block(id.height)
            .filter(|block| block.id() == *id)
            .map(|block| block.block().header().executed)
    }

    fn receive(
        &mut self,
        moment: &mut Moment<'_>,
        from: Slot,
        session: SessionId,
        append: Append<ChainBlock>,
        out: &mut Vec<Action>,
    ) {
        self.feed(
            moment,
            Input::Receive {
                from,
                session,
                message: Message::Append(append),
            },
            out,
        );
    }
}

/// The append without its blocks, on a block that the engine has: says that the leader is there, and no more.
fn contact(append: &Append<ChainBlock>, previous: BlockId) -> Append<ChainBlock> {
    Append {
        previous,
        blocks: Vec::new(),
        commit: clip(append.commit, previous),
        ..append.clone()
    }
}

/// The leader's commit as far as `last`, the end of what passes, reaches: an ancestor of a committed block is
/// committed.
fn clip(commit: BlockId, last: BlockId) -> BlockId {
    if commit.height > last.height { last } else { commit }
}
