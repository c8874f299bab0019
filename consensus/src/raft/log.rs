//! Keeps the end of the chain in memory, and of the whole chain where each term begins.
//!
//! Invariants: `base < heights of entries <= tip`, without a gap; every entry names the one before by hash; `terms`
//! ascends in both numbers. The base never lies above what is committed and durable.
//! Leaves what may be appended or cut to `follower` and `replication`, and older blocks to the host's store.

use std::collections::VecDeque;

use quipu_crypto::id::{BlockId, Height, Term};

use crate::block::Block;

/// The chain as far as it is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Log<B> {
    base: BlockId,
    entries: VecDeque<Entry<B>>,
    terms: Vec<(Term, Height)>,
}

/// A block and how many bytes stand from the first entry ever to its own end.
#[derive(Clone, Debug)]
struct Entry<B> {
    block: B,
    id: BlockId,
    bytes_to_here: u64,
}

impl<B: Block> Log<B> {
    /// A log that begins after `base`. `terms` may be empty or end anywhere: what is missing is learned from blocks.
    pub(crate) fn new(base: BlockId, terms: &[(Term, Height)]) -> Self {
        let mut log = Self {
            base,
            entries: VecDeque::new(),
            terms: Vec::new(),
        };
        for (term, first) in terms.iter().filter(|(_, first)| *first <= base.height) {
            log.note_term(*term, *first);
        }
        log.note_term(base.term, base.height);
        log
    }

    fn note_term(&mut self, term: Term, first: Height) {
        if self.terms.last().is_none_or(|(last, _)| *last < term) {
            self.terms.push((term, first));
        }
    }

    /// The block before the first one in memory.
    pub(crate) fn base(&self) -> BlockId {
        self.base
    }

    /// The last block.
    pub(crate) fn tip(&self) -> BlockId {
        self.entries.back().map_or(self.base, |entry| entry.id)
    }

    fn entry(&self, height: Height) -> Option<&Entry<B>> {
        let offset = height.get().checked_sub(self.base.height.get())?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The block at `height`, where it is in memory.
    pub(crate) fn block(&self, height: Height) -> Option<&B> {
        self.entry(height).map(|entry| &entry.block)
    }

    /// The id at `height`: of the base, or of a block in memory.
    pub(crate) fn id(&self, height: Height) -> Option<BlockId> {
        if height == self.base.height {
            Some(self.base)
        } else {
            self.entry(height).map(|entry| entry.id)
        }
    }

    /// The term at `height`, anywhere in the chain.
    pub(crate) fn term(&self, height: Height) -> Option<Term> {
        self.run(height).map(|(term, _)| term)
    }

    /// The term at `height` and the first height of it.
    pub(crate) fn run(&self, height: Height) -> Option<(Term, Height)> {
        if height > self.tip().height {
            return None;
        }
        let after = self.terms.partition_point(|(_, first)| *first <= height);
        self.terms.get(after.checked_sub(1)?).copied()
    }

    /// The last height at or below `limit` whose term is at most `term`.
    pub(crate) fn last_at_most(&self, term: Term, limit: Height) -> Height {
        let limit = limit.min(self.tip().height);
        let after = self.terms.partition_point(|(each, _)| *each <= term);
        match self.terms.get(after) {
            Some((_, next_run)) => limit.min(next_run.previous().unwrap_or(Height::ZERO)),
            None => limit,
        }
    }

    /// Whether this chain holds that block. Below memory, height and term decide (log matching).
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        match self.id(id.height) {
            Some(held) => held == id,
            None => id.height < self.base.height && self.term(id.height) == Some(id.term),
        }
    }

    /// Whether `block` can follow on the tip.
    pub(crate) fn fits(&self, block: &B) -> bool {
        follows(self.tip(), block)
    }

    /// Appends `block`, which fits.
    pub(crate) fn append(&mut self, block: B) {
        let id = block.id();
        let before = self.entries.back().map_or(0, |entry| entry.bytes_to_here);
        let bytes_to_here = before.saturating_add(block.size());
        self.note_term(id.term, id.height);
        self.entries.push_back(Entry {
            block,
            id,
            bytes_to_here,
        });
    }

    /// Removes `from` and everything above; never the base.
    pub(crate) fn truncate(&mut self, from: Height) {
        let keep = from.since(self.base.height.next());
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        let tip = self.tip().height;
        self.terms.retain(|(_, first)| *first <= tip);
    }

    /// Bytes of the blocks above `height`.
    pub(crate) fn bytes_above(&self, height: Height) -> u64 {
        let all = self.entries.back().map_or(0, |entry| entry.bytes_to_here);
        let first = self
            .entries
            .front()
            .map_or(0, |entry| entry.bytes_to_here.saturating_sub(entry.block.size()));
        let upto = self.entry(height).map_or(first, |entry| entry.bytes_to_here);
        all.saturating_sub(upto)
    }

    /// Blocks from `first` on, at most `max_bytes` of them, but one at least; and their size.
    pub(crate) fn batch(&self, first: Height, max_bytes: u64) -> (Vec<B>, u64) {
        let mut blocks = Vec::new();
        let mut bytes = 0_u64;
        let mut height = first;
        while let Some(entry) = self.entry(height) {
            let with = bytes.saturating_add(entry.block.size());
            if !blocks.is_empty() && with > max_bytes {
                break;
            }
            blocks.push(entry.block.clone());
            bytes = with;
            height = height.next();
        }
        (blocks, bytes)
    }

    /// Forgets blocks at or below `settled` while those kept of them weigh more than `cache_bytes`.
    pub(crate) fn trim(&mut self, settled: Height, cache_bytes: u64) {
        let unsettled = self.bytes_above(settled);
        while self.bytes_above(self.base.height).saturating_sub(unsettled) > cache_bytes {
            match self.entries.front() {
                Some(entry) if entry.id.height <= settled => self.base = entry.id,
                _ => break,
            }
            self.entries.pop_front();
        }
    }
}

/// Whether `block` can stand on `parent`: next height, parent's hash, a term that does not fall.
pub(crate) fn follows<B: Block>(parent: BlockId, block: &B) -> bool {
    let id = block.id();
    parent.height < id.height
        && parent.height.next() == id.height
        && parent.hash == block.previous()
        && parent.term <= id.term
}

/// Whether `blocks` are a chain on `parent`.
pub(crate) fn chained<B: Block>(parent: BlockId, blocks: &[B]) -> bool {
    let mut last = parent;
    blocks.iter().all(|block| {
        let fits = follows(last, block);
        last = block.id();
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::block::SimulatedBlock;

    fn log(terms: &[u64]) -> Log<SimulatedBlock> {
        let genesis = SimulatedBlock::genesis();
        let mut log = Log::new(genesis.id(), &[]);
        for term in terms {
            log.append(SimulatedBlock::child(log.tip(), Term(*term), 10, 0));
        }
        log
    }

    #[test]
    fn knows_where_each_term_begins_also_after_a_cut_and_below_memory() {
        let mut log = log(&[1, 1, 2, 2, 4]);
        assert_eq!(log.run(Height(4)), Some((Term(2), Height(3))));
        assert_eq!(log.run(Height(6)), None);
        assert_eq!(log.last_at_most(Term(3), Height(5)), Height(4));
        assert_eq!(log.last_at_most(Term(0), Height(5)), Height(0));
        assert_eq!(log.last_at_most(Term(9), Height(9)), Height(5));
        log.truncate(Height(4));
        assert_eq!(log.tip().height, Height(3));
        assert_eq!(log.run(Height(3)), Some((Term(2), Height(3))));
        log.trim(Height(2), 0);
        assert_eq!((log.base().height, log.tip().height), (Height(2), Height(3)));
        assert_eq!(log.term(Height(1)), Some(Term(1)));
        assert!(log.contains(BlockId {
            height: Height(1),
            term: Term(1),
            ..BlockId::default()
        }));
    }

    #[test]
    fn batches_and_sums_are_counted_in_bytes() {
        let mut log = log(&[1, 1, 1, 1]);
        assert_eq!(log.bytes_above(Height(1)), 30);
        assert_eq!(log.batch(Height(2), 20).0.len(), 2);
        assert_eq!(log.batch(Height(2), 5).0.len(), 1, "one block always fits");
        log.trim(Height(3), 10);
        assert_eq!(log.base().height, Height(2));
        assert_eq!(log.bytes_above(Height(2)), 20);
        assert_eq!(log.bytes_above(Height(3)), 10);
    }
}
