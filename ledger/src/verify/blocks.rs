//! Keeps the way through a copy's blocks: read, judged by the rules, replayed into a scratch store, in batches.
//!
//! Invariants: blocks come in order of height, and the first that is wrong ends the way, so nothing is judged on top
//! of it; signatures are checked before anything is executed. Leaves the stored records to `records`.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Incarnation};

use super::copy::{Copy, Cursor, Flaw};
use super::report::{Finding, Kind, VerifyError};
use crate::block::{Block, Executed, Header, Items, Kind as BlockKind};
use crate::codec;
use crate::limits::MAX_HEADER_BYTES;
use crate::membership::{Membership, MembershipRecord};
use crate::rules::{Ancestors, ChainTip, signatures};
use crate::store::record::{Family, decode_header_record, height_key};
use crate::store::{Executor, LogChange, Store, StoreError, StoreOptions, Workers};

/// A batch is checked and executed when it has so many blocks,
const BATCH_BLOCKS: usize = 256;
/// so many transactions,
const BATCH_TRANSACTIONS: usize = 2048;
/// or so many bytes.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The blocks of a copy, read from the first to the last.
pub(super) struct Blocks<'c> {
    headers: Cursor<'c>,
    bodies: Cursor<'c>,
}

impl<'c> Blocks<'c> {
    pub(super) fn new(copy: &'c Copy) -> Result<Self, Flaw> {
        Ok(Self {
            headers: copy.cursor(Family::Headers)?,
            bodies: copy.cursor(Family::Bodies)?,
        })
    }

    /// The block at `height`, which must be one above the last that was read. `None` where the copy has neither its
    /// header nor its body.
    pub(super) fn read(&mut self, height: Height) -> Result<Option<Block>, Finding> {
        let key = height_key(height);
        let header = self
            .headers
            .take(&key)
            .map_err(|flaw| flawed(flaw, height, Family::Headers))?;
        let body = self
            .bodies
            .take(&key)
            .map_err(|flaw| flawed(flaw, height, Family::Bodies))?;
        match (header, body) {
            (Some(header), Some(body)) => join(height, &header, body).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Kind::Truncated.at_height(height, "its header is missing, but its body is there")),
            (Some(_), None) => Err(Kind::Truncated.at_height(height, "its body is missing, but its header is there")),
        }
    }

    /// What speaks of blocks behind the end at `height`, where there is nothing.
    pub(super) fn beyond(&self, height: Height) -> Option<Finding> {
        for (cursor, what) in [(&self.headers, "headers"), (&self.bodies, "bodies")] {
            match cursor.item() {
                Ok(None) => {}
                Ok(Some(_)) => {
                    let detail = format!("it is missing, but there are {what} of later blocks");
                    return Some(Kind::Truncated.at_height(height, detail));
                }
                Err(flaw) => return Some(flawed(flaw, height, Family::Headers)),
            }
        }
        None
    }
}

fn flawed(flaw: Flaw, height: Height, family: Family) -> Finding {
    match flaw {
        Flaw::Damage(text) => {
            let detail = format!("it cannot be read from {}: {text}", family.name());
            Kind::DamagedDatabase.at_height(height, detail)
        }
        Flaw::Stray(key) => {
            let key = format!("{}/{}", family.name(), key.escape_ascii());
            Kind::ExtraRecord.at_key(key, "the key is not a height, so no block can stand there")
        }
    }
}

/// Makes a block of its stored parts.
fn join(height: Height, header: &[u8], body: Vec<u8>) -> Result<Block, Finding> {
    let damaged = |detail: String| Kind::DamagedBlock.at_height(height, detail);
    let record = decode_header_record(header).map_err(|error| damaged(format!("the header's record is {error}")))?;
    if Hash::of(Context::Header, &[&record.header]) != record.hash {
        return Err(damaged(
            "the header does not have the hash that is stored with it".to_owned(),
        ));
    }
    let block = Block::from_parts(record.header, record.signature, body).map_err(|error| damaged(error.to_string()))?;
    if block.header().height != height {
        return Err(damaged(format!(
            "what is stored there is block {}",
            block.header().height
        )));
    }
    Ok(block)
}

/// Headers and memberships of blocks that were found good.
pub(super) struct Earlier<'c> {
    copy: &'c Copy,
    memberships: BTreeMap<Height, Arc<Membership>>,
    tip: Height,
}

impl<'c> Earlier<'c> {
    pub(super) fn new(copy: &'c Copy, genesis: &ChainTip) -> Self {
        Self {
            copy,
            memberships: BTreeMap::from([(Height::ZERO, Arc::clone(genesis.membership()))]),
            tip: Height::ZERO,
        }
    }

    /// Takes note of a block that was found good.
    pub(super) fn extend(&mut self, tip: &ChainTip) {
        self.tip = tip.id().height;
        if tip.header().kind == BlockKind::Membership {
            self.memberships.insert(self.tip, Arc::clone(tip.membership()));
        }
    }
}

impl Ancestors for Earlier<'_> {
    fn header(&self, height: Height) -> Option<(Hash, Header)> {
        if height > self.tip {
            return None;
        }
        let bytes = self.copy.get(Family::Headers, &height_key(height)).ok()??;
        let record = decode_header_record(&bytes).ok()?;
        let header = codec::decode(&record.header, MAX_HEADER_BYTES).ok()?;
        Some((record.hash, header))
    }

    fn membership(&self, height: Height) -> Option<Arc<Membership>> {
        self.memberships.get(&height).cloned()
    }
}

/// Blocks that the rules accepted and that are not executed yet, each with the membership in force.
#[derive(Default)]
pub(super) struct Batch {
    blocks: Vec<(Block, Arc<Membership>)>,
    transactions: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, block: Block, membership: &Arc<Membership>) {
        self.transactions = self.transactions.saturating_add(block.transactions().len());
        self.bytes = self.bytes.saturating_add(block.size());
        self.blocks.push((block, Arc::clone(membership)));
    }

    pub(super) fn is_full(&self) -> bool {
        self.blocks.len() >= BATCH_BLOCKS || self.transactions >= BATCH_TRANSACTIONS || self.bytes >= BATCH_BYTES
    }

    /// Checks the senders' signatures. Blocks from the first bad one on are dropped, and the finding names it.
    pub(super) fn check_signatures(&mut self) -> Option<Finding> {
        let blocks: Vec<&Block> = self.blocks.iter().map(|(block, _)| block).collect();
        let bad = signatures::check(&blocks).err()?;
        self.blocks.retain(|(block, _)| block.header().height < bad.height);
        Some(Finding {
            place: super::report::Place::Height(bad.height),
            kind: bad.fault.code(),
            detail: format!("transaction {} ({}): {}", bad.position, bad.id, bad.fault),
        })
    }

    pub(super) fn take(&mut self) -> Vec<(Block, Arc<Membership>)> {
        std::mem::take(self).blocks
    }
}

/// The scratch store in which the chain is executed again.
pub(super) struct Replay {
    pub(super) store: Store,
    executor: Executor,
    /// Quadruples from the height on that the last header named.
    known: VecDeque<Executed>,
    named: Height,
}

impl Replay {
    pub(super) fn new(dir: &Path, genesis: &Block) -> Result<Self, VerifyError> {
        let settings = StoreOptions {
            block_cache: 64 * 1024 * 1024,
            write_buffers: 64 * 1024 * 1024,
            ..StoreOptions::default()
        };
        let dir = dir.join("replay");
        let network = genesis.header().network;
        let store = Store::create_with(&dir, network, genesis, Incarnation::default(), &settings)
            .map_err(|error| VerifyError::Scratch(error.to_string()))?;
        let workers = Workers::new(0).map_err(|error| scratch(&error))?;
        let executor = Executor::open_with(&store, workers).map_err(|error| scratch(&error))?;
        let known = VecDeque::from([executor.executed()]);
        Ok(Self {
            store,
            executor,
            known,
            named: Height::ZERO,
        })
    }

    /// Executes blocks; the findings are of headers that name another result.
    pub(super) fn execute(&mut self, blocks: &[(Block, Arc<Membership>)]) -> Result<Vec<Finding>, VerifyError> {
        let append: Vec<LogChange> = blocks
            .iter()
            .map(|(block, _)| LogChange::Append(block.clone()))
            .collect();
        self.store.write_log(&append, false).map_err(|error| scratch(&error))?;
        let mut findings = Vec::new();
        for (block, membership) in blocks {
            findings.extend(self.check_named(block.header()));
            let done = self
                .executor
                .execute(block, membership)
                .map_err(|error| scratch(&error))?;
            self.known.push_back(done.executed);
        }
        Ok(findings)
    }

    /// A repeated quadruple was judged when it was first named, and the rules let it repeat only byte for byte.
    fn check_named(&mut self, header: &Header) -> Option<Finding> {
        let named = header.executed;
        if named.height == self.named {
            return None;
        }
        self.named = named.height;
        while self.known.front().is_some_and(|known| known.height < named.height) {
            self.known.pop_front();
        }
        let known = self.known.front()?;
        let what = if known.state_digest != named.state_digest {
            "state digest"
        } else if known.results_chain != named.results_chain {
            "link of the results chain"
        } else if known == &named {
            return None;
        } else {
            "state root"
        };
        let detail = format!(
            "the {what} that it names for height {} is not what replaying gives",
            named.height
        );
        Some(Kind::WrongExecuted.at_height(header.height, detail))
    }
}

fn scratch(error: &StoreError) -> VerifyError {
    VerifyError::Scratch(error.to_string())
}

/// The height of the newest certificate in a block that was found good.
pub(super) fn certified_by(block: &Block) -> Option<Height> {
    let carried = block.body().certificate.as_ref().map(|certificate| certificate.height);
    let of_final = match &block.body().items {
        Items::Membership(record) => match record.as_ref() {
            MembershipRecord::Final { certificate, .. } => Some(certificate.height),
            MembershipRecord::Genesis(_) | MembershipRecord::Joint { .. } => None,
        },
        Items::Votes(_) | Items::Transactions(_) => None,
    };
    carried.max(of_final)
}
