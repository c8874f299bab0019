//! The follower's side of replication: blocks in, one write, one answer.
//!
//! Invariants: the chain is cut only where a block really differs (CCF#5927), never at or below the commit height
//! (CCF#5674); an answer covers the message and no more (CCF#6001) and leaves only when the blocks are durable (P2).
//! Every field of a message is taken for arbitrary until it is checked here.

use quipu_crypto::id::{BlockId, Height, Slot};

use super::log;
use super::rules::Rules;
use super::state::{Raft, Redraw, Stage};
use crate::block::Block;
use crate::message::{Accepted, Append, Message, Rejected};
use crate::output::Class;

/// How a message's blocks stand to the own chain.
enum Fit {
    /// They follow, or are there already; `from` is the first that differs or is missing.
    Joins { first_difference: Option<Height> },
    /// The own chain has no such `previous`.
    Parted,
    /// They contradict what is committed, or show two blocks where one can be. By a sound leader impossible.
    Contradicts(BlockId),
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// A leader's blocks, or its contact.
    pub(super) fn receive_append(&mut self, from: Slot, append: &Append<B>) {
        if !self.rules.is_current(append.term, self.vote.term) {
            return self.reject(from, append, self.log.tip());
        }
        let last = append.blocks.last().map_or(append.previous, Block::id);
        let ordered = last.term <= append.term && log::chained(append.previous, &append.blocks);
        if !ordered || self.is_distrusted(from, append.term) || !self.accepts_leader(from, append) {
            return;
        }
        match self.fit(append) {
            Fit::Parted => self.reject(from, append, self.log.tip()),
            Fit::Contradicts(shown) => {
                self.contradiction(from, shown);
                self.distrust(from);
            }
            Fit::Joins { first_difference } => {
                let last = match first_difference {
                    Some(first) if !self.rules.takes_blocks(self.may_append) => {
                        let last = self.before(first, append);
                        if last == append.previous {
                            // Taken for a success, that would be answered with more blocks.
                            self.take_commit(append, last);
                            return self.refuse_what_fits(from, append, last);
                        }
                        last
                    }
                    _ => {
                        self.take_blocks(append, first_difference);
                        last
                    }
                };
                self.take_commit(append, last);
                self.accept(from, append, last);
            }
        }
    }

    /// Follows the sender where its term says so. One leader a term: a second one is not believed.
    fn accepts_leader(&mut self, from: Slot, append: &Append<B>) -> bool {
        let newer = append.term > self.vote.term;
        let other_leader = self.leader.is_some_and(|leader| leader != from);
        if !newer && (other_leader || matches!(self.stage, Stage::Leader(_))) {
            return false;
        }
        if newer || self.leader.is_none() || !matches!(self.stage, Stage::Follower) {
            // V-3: in the same term the vote record stays as it is.
            self.follow(append.term, Some(from));
        }
        self.leader_heard = self.now;
        self.redraw = Redraw::Fully;
        true
    }

    fn fit(&self, append: &Append<B>) -> Fit {
        let previous = append.previous;
        let base = self.log.base();
        if previous.height >= base.height {
            match self.log.id(previous.height) {
                Some(held) if self.rules.same_block(held, previous) => {}
                Some(held) if self.rules.contradicts(held, previous, self.commit.height) => {
                    return Fit::Contradicts(previous);
                }
                _ => return Fit::Parted,
            }
        }
        // Below the base everything is committed: the chains can only be equal there, up to and at the base.
        for id in append
            .blocks
            .iter()
            .map(Block::id)
            .filter(|id| id.height >= base.height)
        {
            match self.log.id(id.height) {
                Some(held) if self.rules.same_block(held, id) => {}
                Some(held) if self.rules.contradicts(held, id, self.commit.height) => {
                    return Fit::Contradicts(id);
                }
                _ => {
                    return Fit::Joins {
                        first_difference: Some(id.height),
                    };
                }
            }
        }
        Fit::Joins { first_difference: None }
    }

    fn take_blocks(&mut self, append: &Append<B>, first_difference: Option<Height>) {
        let Some(from) = self.rules.cut(first_difference, append.previous.height) else {
            return;
        };
        let blocks: Vec<B> = append
            .blocks
            .iter()
            .filter(|block| block.id().height >= from)
            .cloned()
            .collect();
        if from <= self.log.tip().height {
            self.cut(from);
        }
        if !blocks.is_empty() {
            self.append(blocks);
        }
    }

    /// Of a message whose blocks from `from` on find no room (D-8), the last that is held: it is a contact there.
    fn before(&self, from: Height, append: &Append<B>) -> BlockId {
        let below = from.previous().filter(|below| *below > append.previous.height);
        below.and_then(|height| self.log.id(height)).unwrap_or(append.previous)
    }

    /// The hash says whether the leader's committed block is in this chain; where it is not, the message's end counts.
    fn take_commit(&mut self, append: &Append<B>, last: BlockId) {
        if append.commit.height > self.commit.height && self.log.id(append.commit.height) == Some(append.commit) {
            return self.commit_to(append.commit);
        }
        let upto = self
            .rules
            .follower_commit(append.commit.height, last.height, self.log.tip().height);
        if let Some(id) = self.log.id(upto) {
            self.commit_to(id);
        }
    }

    fn accept(&mut self, to: Slot, append: &Append<B>, last: BlockId) {
        if !self.takes_part() {
            // D-10: a recovering node acknowledges nothing.
            return self.refuse_what_fits(to, append, last);
        }
        // Below the base the hash is not at hand, but the term is: what differs there is not acknowledged.
        if last.height < self.log.base().height && self.log.term(last.height) != Some(last.term) {
            return;
        }
        let upto = self.rules.acknowledged(last, self.log.tip());
        let accepted = Accepted {
            term: self.vote.term,
            upto,
            executed: self.executed,
            read_token: append.read_token,
        };
        self.send_after(to, Class::Control, Message::Accepted(accepted), Some(upto.height));
    }

    /// Shows what to send next, though `last`, of the message, is here: what follows it, or what is committed here,
    /// which every leader has.
    fn refuse_what_fits(&mut self, to: Slot, append: &Append<B>, last: BlockId) {
        let fits = std::cmp::max_by_key(last, self.commit, |id| id.height);
        let shown = self.rules.shows(fits, self.log.tip());
        self.reject(to, append, shown);
    }

    fn reject(&mut self, to: Slot, append: &Append<B>, tip: BlockId) {
        let at = append.previous.height.min(tip.height);
        let (conflict_term, conflict_first) = self.log.run(at).unwrap_or((tip.term, tip.height));
        let echoes = self.rules.echoes(append.term, self.vote.term, self.takes_part());
        let rejected = Rejected {
            term: self.vote.term,
            previous: append.previous.height,
            conflict_term,
            conflict_first,
            tip,
            read_token: if echoes { append.read_token } else { 0 },
        };
        self.send(to, Class::Control, Message::Rejected(rejected));
    }
}
