//! Keeps the joint between `ledger` and `consensus`: a ledger block as the engine orders it and as peers exchange it.
//!
//! Invariant: a [`ChainBlock`] with a tip has passed `ChainTip::check` (or was made here) on exactly its parent; the
//! encoded bytes are made once and shared by every send.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use quipu_consensus::block::{Block as EngineBlock, Configuration};
use quipu_consensus::message::{Append, Message};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::BlockId;
use quipu_ledger::block::{Block, Items, Kind};
use quipu_ledger::membership::{Membership, NodeRole};
use quipu_ledger::rules::ChainTip;

use crate::peer_protocol::BlockBytes;

/// A block of the ledger on its way through the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainBlock {
    block: Block,
    encoded: Bytes,
    tip: Option<Arc<ChainTip>>,
}

impl ChainBlock {
    /// A block with the chain that it ends.
    #[must_use]
    pub fn new(block: Block, tip: Arc<ChainTip>) -> Self {
        let encoded = Bytes::from(block.encode());
        Self {
            block,
            encoded,
            tip: Some(tip),
        }
    }

    /// A block of the own store that is only passed on to a peer.
    #[must_use]
    pub fn stored(block: Block) -> Self {
        let encoded = Bytes::from(block.encode());
        Self {
            block,
            encoded,
            tip: None,
        }
    }

    /// The block.
    #[must_use]
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// The chain that ends with it; none where it only passes through.
    #[must_use]
    pub const fn tip(&self) -> Option<&Arc<ChainTip>> {
        self.tip.as_ref()
    }
}

impl EngineBlock for ChainBlock {
    fn id(&self) -> BlockId {
        self.block.id()
    }

    fn previous(&self) -> Hash {
        self.block.header().previous
    }

    fn is_opening(&self) -> bool {
        self.block.header().kind == Kind::Opening
    }

    fn size(&self) -> u64 {
        u64::try_from(self.encoded.len()).unwrap_or(u64::MAX)
    }

    fn configuration(&self) -> Option<Configuration> {
        match &self.block.body().items {
            Items::Membership(record) => Some(configuration(record.membership())),
            Items::Votes(_) | Items::Transactions(_) => None,
        }
    }
}

/// Who counts, as the engine sees it.
#[must_use]
pub fn configuration(membership: &Membership) -> Configuration {
    Configuration {
        voters: membership.voters().map(|node| node.slot).collect(),
        outgoing: membership.outgoing.iter().map(|node| node.slot).collect(),
        learners: membership
            .nodes
            .iter()
            .filter(|node| node.role == NodeRole::Learner)
            .map(|node| node.slot)
            .collect(),
    }
}

/// The message with its blocks as bytes.
#[must_use]
pub fn to_wire(message: Message<ChainBlock>) -> Message<BlockBytes> {
    let Ok(message) = message.map_blocks(|block| Ok::<_, Infallible>(BlockBytes::from(block.encoded.to_vec())));
    message
}

/// An append without its blocks, and the blocks.
#[must_use]
pub fn take_blocks<B>(mut append: Append<B>) -> (Append<B>, Vec<B>) {
    let blocks = std::mem::take(&mut append.blocks);
    (append, blocks)
}

/// The same append around other blocks.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "its blocks are given up for the others")]
pub fn with_blocks<A, B>(append: Append<A>, blocks: Vec<B>) -> Append<B> {
    let Append {
        term,
        previous,
        blocks: _,
        commit,
        read_token,
        sign_at,
    } = append;
    Append {
        term,
        previous,
        blocks,
        commit,
        read_token,
        sign_at,
    }
}
