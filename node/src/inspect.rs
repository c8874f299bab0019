//! Keeps the check of everything that comes from peers, before the replica sees it: chain rules, proposers' and
//! senders' signatures, votes. One thread, so messages of a peer stay in order.
//!
//! Invariant: an `Event::Engine` holds only blocks that passed `ChainTip::check` on their parents and whose
//! transactions' signatures were verified, and only votes whose signatures were. Leaves the `executed` quadruple to the
//! replica.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::message::{Append, Found, Message, VoteAnswer};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, Incarnation, NetworkId, Slot};
use quipu_crypto::signature::{self, Signature};
use quipu_ledger::block::{Block, BlockError};
use quipu_ledger::rules::{ChainTip, Fault, signatures};
use quipu_ledger::vote::{EngineId, VoteStatement};

use crate::chain_block::{ChainBlock, take_blocks, with_blocks};
use crate::limits::REMEMBERED_BLOCKS;
use crate::peer_protocol::BlockBytes;
use crate::replica::vote_entries;
use crate::verified::VerifiedMemory;

/// Why a message was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum Finding {
    /// The bytes are no block.
    #[error("not a block: {0}")]
    Block(#[from] BlockError),
    /// The block breaks a rule.
    #[error("block {height} breaks a rule: {fault}")]
    Fault {
        /// Its height.
        height: Height,
        /// The rule.
        fault: Fault,
    },
    /// A transaction in it must not be there.
    #[error(transparent)]
    Transaction(#[from] signatures::BadTransaction),
    /// A node starts on another directory than the membership names.
    #[error("it says hello as incarnation {found}, the membership names {expected}: its directory is another one")]
    Incarnation {
        /// In the hello.
        found: Incarnation,
        /// In the membership.
        expected: Incarnation,
    },
    /// A granted vote is not signed by its voter.
    #[error("the vote is not signed by its voter")]
    Vote,
}

/// What is kept of a block that was found good: enough to build on it, and to know it again.
#[derive(Clone, Debug)]
pub struct Known {
    tip: Arc<ChainTip>,
    /// The proposer's, which the hash does not cover.
    signature: Option<Signature>,
}

impl Known {
    /// What is to be kept of a block that knows the chain it ends.
    #[must_use]
    pub fn of(block: &ChainBlock) -> Option<Self> {
        Some(Self {
            tip: Arc::clone(block.tip()?),
            signature: block.block().signature().copied(),
        })
    }
}

/// Checks messages of peers.
pub struct Inspector {
    slot: Slot,
    network: NetworkId,
    verified: Arc<VerifiedMemory>,
    /// Checked blocks by hash, the youngest last in `order`; at most so many.
    checked: HashMap<Hash, Known>,
    most: usize,
    order: VecDeque<Hash>,
    /// The end of the committed chain at the start: its block has no entry above.
    beginning: Arc<ChainTip>,
    /// The end of the chain here: whatever was looked at since, what follows on it can be judged.
    end: Arc<ChainTip>,
}

impl Inspector {
    /// Begins with the stored chain: its base, and the blocks above it.
    #[must_use]
    pub fn new(
        slot: Slot,
        verified: Arc<VerifiedMemory>,
        beginning: Arc<ChainTip>,
        stored: impl Iterator<Item = ChainBlock>,
    ) -> Self {
        let mut inspector = Self {
            slot,
            network: beginning.network(),
            verified,
            checked: HashMap::new(),
            most: REMEMBERED_BLOCKS,
            order: VecDeque::new(),
            end: Arc::clone(&beginning),
            beginning,
        };
        stored
            .filter_map(|block| Known::of(&block))
            .for_each(|known| inspector.appended(known));
        inspector
    }

    /// Remembers at most so many blocks from now on.
    #[must_use]
    pub fn remembering(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The chain here ends with this block now; it may have been made here.
    pub fn appended(&mut self, known: Known) {
        self.end = Arc::clone(&known.tip);
        self.remember(known);
    }

    /// Takes note of a block that was found good: what comes may build on it.
    pub fn remember(&mut self, known: Known) {
        let hash = known.tip.id().hash;
        if self.checked.insert(hash, known).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.checked.remove(&oldest);
            }
        }
    }

    /// Checks a message of `from`.
    ///
    /// # Errors
    /// What no honest node sends.
    pub fn inspect(&mut self, from: Slot, message: Message<BlockBytes>) -> Result<Message<ChainBlock>, Finding> {
        match message {
            Message::Append(append) => self.append(append).map(Message::Append),
            Message::VoteAnswer(mut answer) if answer.granted => {
                // One for a block that is not known here comes late, for a candidacy of long ago: it does not count,
                // and is not held against its voter.
                match self.tip(&answer.last.hash) {
                    Some(last) => self.vote(from, &answer, &last)?,
                    None => answer.granted = false,
                }
                Ok(Message::VoteAnswer(answer))
            }
            Message::Hello(hello) => {
                self.hello(from, hello.incarnation)?;
                Ok(Message::Hello(hello))
            }
            Message::Found(found) => self.found(found).map(Message::Found),
            other => other.map_blocks(|bytes| Ok(ChainBlock::stored(Block::decode(bytes.as_slice())?))),
        }
    }

    /// An append of which nothing is known passes without blocks: the engine says what it has instead.
    fn append(&mut self, append: Append<BlockBytes>) -> Result<Append<ChainBlock>, Finding> {
        let (mut append, encoded) = take_blocks(append);
        let mut parent = self.tip(&append.previous.hash);
        let mut blocks: Vec<ChainBlock> = Vec::new();
        let mut fresh: Vec<Block> = Vec::new();
        for bytes in encoded {
            let block = Block::decode(bytes.as_slice())?;
            if blocks.is_empty() {
                // Below what was committed at the start, nothing is remembered: the first known parent is the
                // beginning.
                parent = self.tip(&block.header().previous);
            }
            let Some(tip) = parent.clone() else {
                // The block itself may be the first one that is remembered: it is shown, and what follows is judged.
                if let Some(known) = self.tip(&block.hash()) {
                    append.previous = known.id();
                }
                continue;
            };
            if blocks.is_empty() {
                append.previous = tip.id();
            }
            // The hash binds all but the proposer's signature, so a block with both known is the very same.
            let known = self.checked.get(&block.hash());
            if let Some(known) = known.filter(|known| known.signature.as_ref() == block.signature()) {
                parent = Some(Arc::clone(&known.tip));
                blocks.push(ChainBlock::new(block, Arc::clone(&known.tip)));
                continue;
            }
            let height = block.header().height;
            let next = Arc::new(tip.check(&block).map_err(|fault| Finding::Fault { height, fault })?);
            fresh.push(block.clone());
            blocks.push(ChainBlock::new(block, Arc::clone(&next)));
            parent = Some(next);
        }
        self.verify(&fresh)?;
        blocks
            .iter()
            .filter_map(Known::of)
            .for_each(|known| self.remember(known));
        let beginning = self.beginning.id();
        if blocks.is_empty() && append.previous.height < beginning.height {
            // Every leader has what was committed: speak of that, so that it goes on from there.
            append.previous = beginning;
            append.commit = append.commit.max(beginning);
        }
        Ok(with_blocks(append, blocks))
    }

    /// What another directory of the same key promises binds nobody: it does not even get an answer (M-2, M-3).
    fn hello(&self, from: Slot, found: Incarnation) -> Result<(), Finding> {
        let membership = self.end.membership();
        let mut nodes = membership.nodes.iter().chain(&membership.outgoing);
        match nodes.find(|node| node.slot == from) {
            Some(node) if node.incarnation != found => Err(Finding::Incarnation {
                found,
                expected: node.incarnation,
            }),
            _ => Ok(()),
        }
    }

    /// A block that was asked for by its hash, which binds all of it but the signature.
    fn found(&self, found: Found<BlockBytes>) -> Result<Found<ChainBlock>, Finding> {
        let Found { height, hash, block } = found;
        let block = block.map(|bytes| Block::decode(bytes.as_slice())).transpose()?;
        if let Some(block) = &block
            && block.header().height > Height::ZERO
        {
            // Seam: a block of an older membership needs the keys of that one.
            let checked = self.end.check_proposer(block);
            checked.map_err(|fault| Finding::Fault { height, fault })?;
        }
        let block = block.map(ChainBlock::stored);
        Ok(Found { height, hash, block })
    }

    fn verify(&self, blocks: &[Block]) -> Result<(), Finding> {
        let transactions: Vec<_> = blocks.iter().flat_map(Block::transactions).collect();
        let known = self.verified.known(&transactions);
        let mut known = known.into_iter();
        let blocks: Vec<&Block> = blocks.iter().collect();
        Ok(signatures::check_unless(&blocks, |_| known.next().unwrap_or(false))?)
    }

    fn tip(&self, hash: &Hash) -> Option<Arc<ChainTip>> {
        if let Some(end) = [&self.end, &self.beginning]
            .into_iter()
            .find(|end| end.id().hash == *hash)
        {
            return Some(Arc::clone(end));
        }
        self.checked.get(hash).map(|known| Arc::clone(&known.tip))
    }

    fn vote(&self, from: Slot, answer: &VoteAnswer, last: &ChainTip) -> Result<(), Finding> {
        let entries = vote_entries(&answer.signature).ok_or(Finding::Vote)?;
        let statement = VoteStatement {
            network: self.network,
            engine: EngineId::Raft,
            term: answer.term,
            candidate: self.slot,
            voter: from,
            last: answer.last,
        };
        let membership = last.membership();
        let signed = !entries.is_empty()
            && entries.iter().all(|entry| {
                let nodes = if entry.outgoing {
                    &membership.outgoing
                } else {
                    &membership.nodes
                };
                let key = nodes.iter().find(|node| node.slot == from).map(|node| node.key);
                entry.slot == from
                    && key.is_some_and(|key| signature::verify(&key, &statement.hash(), &entry.signature))
            });
        if signed { Ok(()) } else { Err(Finding::Vote) }
    }
}
