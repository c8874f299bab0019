//! What a disk that breaks the word of a sync changes: of the node itself everything may be judged anew; of what it
//! told the others nothing.
//!
//! Votes, acknowledgements and commits stay as they were: a node that forgot them must not give them again otherwise
//! (I8, D-10), and what is final stays final (I3, I4). Only a candidacy that was not won, in a term that the disk
//! does not know any more, is void: it died with its process, the vote in it counted for nobody else, and nobody but
//! peers who wrote down that they heard of it could remind the node of it. A block that it held counts as held where a
//! leader may count an acknowledgement that was true when it was given.

use quipu_crypto::id::{BlockId, Slot, Term};

use super::{Oracle, Verdict, View, holds};

impl Oracle {
    /// The disk of `node`, which held the blocks `before`, was struck.
    ///
    /// # Errors
    /// I2 or I15, in what is left.
    pub fn forgot(&mut self, node: View<'_>, before: &[BlockId]) -> Verdict {
        let seen = self.nodes.entry(node.slot).or_default();
        seen.latest = seen.latest.max(seen.vote.term);
        seen.vote = node.vote;
        let gone = before.iter().filter(|id| !holds(node.durable, **id));
        seen.forgotten.extend(gone);
        let leaders = &self.leaders;
        self.votes.retain(|(slot, term), voted_for| {
            let known = *term <= node.vote.term || leaders.get(term) == Some(&node.slot);
            *slot != node.slot || *voted_for != node.slot || known
        });
        self.after_write(node.slot, node.vote.term, node.durable)?;
        Ok(())
    }

    /// Whether `slot` was in a later term once, though its disk may have forgotten it.
    pub(super) fn has_moved_on(&self, slot: Slot, term: Term) -> bool {
        self.nodes.get(&slot).is_some_and(|seen| seen.latest > term)
    }

    /// Whether the disk of `slot` had that block and forgot it.
    pub(super) fn forgot_block(&self, slot: Slot, id: BlockId) -> bool {
        self.nodes.get(&slot).is_some_and(|seen| seen.forgotten.contains(&id))
    }
}
