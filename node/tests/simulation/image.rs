//! Keeps what the simulated disk of a node holds: the log and the promises, and beside them what was derived.
//!
//! Invariant (P6): what is derived never reaches beyond the log on the same disk. It is written now and then and as a
//! whole, so a crash takes it far back, as it does with a database that writes it without a log of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use quipu_consensus::message::Promise;
use quipu_consensus::output::{LogOperation, VoteRecord};
use quipu_consensus::simulator::participant::{Damage, Link};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_crypto::merkle::Frontier;
use quipu_ledger::block::{Block, Executed, Header, Items};
use quipu_ledger::rules;
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::chain_block::{ChainBlock, configuration};
use quipu_node::start::restore::Stored;

use crate::derived::Derived;

/// The disk.
#[derive(Clone)]
pub(crate) struct Image {
    /// The last start that was claimed.
    pub(crate) starts: u64,
    recovering: Option<BlockId>,
    pub(crate) vote: VoteRecord,
    hint: Height,
    pub(crate) promises: BTreeMap<Slot, Promise>,
    /// What stands beside the log.
    pub(crate) watermark: Option<Promise>,
    blocks: Vec<Block>,
    /// Blocks that cannot be read, or are not those that belong there.
    rotten: BTreeSet<Height>,
    pub(crate) links: Vec<Link>,
    /// Where each client request stands first.
    first: BTreeMap<u64, Height>,
    pub(crate) derived: Rc<Derived>,
}

/// One atomic write.
#[derive(Clone)]
pub(crate) enum Write {
    Log(Rc<Vec<LogOperation<ChainBlock>>>),
    Derived(Rc<Derived>),
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Derived(derived) => write!(f, "derived to {}", derived.last.height),
            Self::Log(operations) => {
                for operation in operations.iter() {
                    match operation {
                        LogOperation::Append(blocks) => {
                            let ids = blocks.iter().map(|block| block.block().id());
                            let places: Vec<String> = ids.map(|id| format!("{}@{}", id.height, id.term)).collect();
                            write!(f, "append {} ", places.join(" "))?;
                        }
                        other => write!(f, "{other:?} ")?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// The number of a client's request, from its transaction.
pub(crate) fn request_of(transaction: &SignedTransaction) -> u64 {
    u64::from_le_bytes(*transaction.body().nonce.first_chunk().unwrap())
}

impl Image {
    /// Of a node that never ran.
    pub(crate) fn blank(genesis: &Block) -> Self {
        let mut image = Self {
            starts: 0,
            recovering: None,
            vote: VoteRecord::default(),
            hint: Height::ZERO,
            promises: BTreeMap::new(),
            watermark: None,
            blocks: Vec::new(),
            rotten: BTreeSet::new(),
            links: Vec::new(),
            first: BTreeMap::new(),
            derived: Rc::new(Derived::genesis(genesis)),
        };
        image.append(genesis);
        image
    }

    pub(crate) fn apply(&mut self, write: &Write) {
        match write {
            Write::Log(operations) => operations.iter().for_each(|operation| self.change(operation)),
            Write::Derived(derived) => self.derived = Rc::clone(derived),
        }
        let executed = self.derived.last;
        let there = self.links.get(place(executed.height)).map(|link| link.id);
        assert_eq!(
            there,
            Some(executed),
            "P6: derived is of a chain that is not on the disk"
        );
    }

    fn change(&mut self, operation: &LogOperation<ChainBlock>) {
        match operation {
            LogOperation::SetVote(record) => self.vote = *record,
            LogOperation::Truncate { from } => self.truncate(*from),
            LogOperation::Append(blocks) => blocks.iter().for_each(|block| self.append(block.block())),
            LogOperation::CommitHint(height) => self.hint = *height,
            LogOperation::Remember { peer, promise } => {
                self.promises.insert(*peer, *promise);
            }
            LogOperation::Watermark(promise) => self.watermark = Some(*promise),
            LogOperation::Start(number) => self.starts = *number,
            LogOperation::Recover(lacking) => self.recovering = *lacking,
            LogOperation::Restore(block) => {
                let id = block.block().id();
                assert_eq!(
                    self.links[place(id.height)].id,
                    id,
                    "a block is restored where it stood"
                );
                self.rotten.remove(&id.height);
            }
        }
    }

    fn truncate(&mut self, from: Height) {
        self.blocks.truncate(place(from));
        self.links.truncate(place(from));
        self.first.retain(|_, height| *height < from);
        self.rotten.split_off(&from);
    }

    /// The disk does what no write asked for. What is derived is on it with all that it was derived from, so the log
    /// does not end below that.
    pub(crate) fn damage(&mut self, damage: Damage, at: Height) -> bool {
        let there = at > Height::ZERO && at <= self.tip().height;
        match damage {
            Damage::Rot | Damage::Misdirected => there && self.rotten.insert(at),
            Damage::LostTail | Damage::LostTailAndOldWatermark | Damage::LostTailAndWatermark => {
                if !there || at <= self.derived.last.height {
                    return false;
                }
                let first = self.links[place(at)].id;
                self.truncate(at);
                self.hint = self.hint.min(self.tip().height);
                if damage == Damage::LostTailAndOldWatermark {
                    self.watermark = self.watermark.map(|noted| Promise {
                        vote: first.term,
                        accepted: first,
                        ..noted
                    });
                }
                if damage == Damage::LostTailAndWatermark {
                    self.watermark = None;
                }
                true
            }
        }
    }

    /// What a start does with what it cannot read above what is committed: it is cut, and missed.
    pub(crate) fn cut_unreadable_end(&mut self) {
        let settled = self.hint.max(self.derived.last.height);
        if let Some(from) = self.rotten.range(settled.next()..).next().copied() {
            self.truncate(from);
        }
    }

    /// Which block of the chain cannot be read, where that is so at `height`.
    pub(crate) fn unreadable(&self, height: Height) -> Option<(Height, Hash)> {
        let hash = self.links.get(place(height))?.id.hash;
        self.rotten.contains(&height).then_some((height, hash))
    }

    fn append(&mut self, block: &Block) {
        let header = block.header();
        let mut requests = Vec::new();
        for request in block.transactions().iter().map(request_of) {
            if *self.first.entry(request).or_insert(header.height) == header.height && !requests.contains(&request) {
                requests.push(request);
            }
        }
        // Block 0 names the members whom the oracle begins with.
        let membership = match &block.body().items {
            Items::Membership(record) if header.height > Height::ZERO => Some(configuration(record.membership())),
            _ => None,
        };
        self.links.push(Link {
            id: block.id(),
            previous: header.previous,
            requests,
            configuration: membership,
        });
        self.blocks.push(block.clone());
    }

    /// What each block names as executed.
    pub(crate) fn named(&self) -> BTreeMap<Height, Height> {
        let headers = self.blocks.iter().map(Block::header);
        headers.map(|header| (header.height, header.executed.height)).collect()
    }

    /// Blocks for a peer, and the one below them: as `Store::blocks`.
    pub(crate) fn read(&self, first: Height, last: Height, max_bytes: u64) -> (Option<BlockId>, Vec<Block>) {
        let below = first.previous().and_then(|height| self.links.get(place(height)));
        let mut bytes = 0;
        let mut blocks: Vec<Block> = Vec::new();
        for block in self.blocks.iter().take(place(last) + 1).skip(place(first)) {
            if self.rotten.contains(&block.header().height) {
                break;
            }
            bytes += block.size() as u64;
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block.clone());
        }
        (below.map(|link| link.id), blocks)
    }
}

/// The place of a height in a list that begins with block 0.
pub(crate) fn place(height: Height) -> usize {
    usize::try_from(height.get()).unwrap()
}

impl Stored for Image {
    type Error = Infallible;

    fn tip(&self) -> BlockId {
        self.links.last().unwrap().id
    }

    fn commit_hint(&self) -> Result<Height, Infallible> {
        Ok(self.hint)
    }

    fn vote(&self) -> Result<VoteRecord, Infallible> {
        Ok(self.vote)
    }

    fn promises(&self) -> Result<BTreeMap<Slot, Promise>, Infallible> {
        Ok(self.promises.clone())
    }

    fn starts(&self) -> Result<u64, Infallible> {
        Ok(self.starts)
    }

    fn recovering(&self) -> Result<Option<BlockId>, Infallible> {
        Ok(self.recovering)
    }

    fn terms(&self) -> Result<Vec<(Term, Height)>, Infallible> {
        let mut terms: Vec<(Term, Height)> = Vec::new();
        for id in self.links.iter().map(|link| link.id) {
            if terms.last().is_none_or(|(term, _)| *term < id.term) {
                terms.push((id.term, id.height));
            }
        }
        Ok(terms)
    }

    fn header(&self, height: Height) -> Result<Option<Header>, Infallible> {
        Ok(self.blocks.get(place(height)).map(|block| block.header().clone()))
    }

    fn block(&self, height: Height) -> Result<Option<Block>, Infallible> {
        Ok(self.blocks.get(place(height)).cloned())
    }

    fn frontier_to(&self, last: Height) -> Result<Frontier, Infallible> {
        let mut frontier = Frontier::new();
        for link in self.links.iter().take(place(last) + 1) {
            frontier.push(rules::chain_leaf(&link.id.hash));
        }
        Ok(frontier)
    }

    fn executed_at(&self, height: Height) -> Result<Option<Executed>, Infallible> {
        Ok(self.derived.executed_at(height))
    }
}
