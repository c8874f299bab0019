//! Two hundred operations on a store as a node performs them, and what the log must hold after each.
//!
//! Invariant: drawn from a fixed seed, so that the process that runs them and the one that checks agree on every byte;
//! only what is durable is committed, only what is committed is executed, nothing committed is cut off.

use std::collections::BTreeMap;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};
use quipu_ledger::block::Block;
use quipu_ledger::certificate::Certificate;
use quipu_ledger::membership::Membership;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::store::record::{PromiseRecord, VoteRecord};
use quipu_ledger::store::{Executor, LogChange, Store, StoreError, StoreOptions};
use quipu_ledger::transaction::SignedTransaction;

use crate::network;

/// How many operations.
pub const LENGTH: usize = 200;

/// So little memory that families are flushed, logs change and tables are merged within the script.
pub const fn options() -> StoreOptions {
    StoreOptions {
        block_cache: 1024 * 1024,
        write_buffers: 256 * 1024,
        max_wal: 512 * 1024,
        max_open_files: 64,
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Step {
    /// One call of [`Store::write_log`].
    Log {
        /// What is changed.
        changes: Vec<LogChange>,
        /// Whether it is durable when the call returns.
        sync: bool,
    },
    /// Executes up to this height.
    Execute(Height),
    /// [`Store::flush`].
    Flush,
    /// Closes the store and opens it again.
    Reopen,
}

impl Step {
    /// Whether everything that was done before it returns survives a power cut from then on.
    pub const fn makes_durable(&self) -> bool {
        matches!(self, Self::Log { sync: true, .. } | Self::Flush | Self::Reopen)
    }
}

/// All that the log's side of a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Term and vote.
    pub vote: VoteRecord,
    /// The start counter.
    pub start: u64,
    /// Noted as committed.
    pub hint: Height,
    /// What is remembered of peers.
    pub promises: BTreeMap<Slot, PromiseRecord>,
    /// By height.
    pub certificates: BTreeMap<Height, Certificate>,
    /// By height.
    pub chain: Vec<BlockId>,
}

/// After some number of operations.
#[derive(Clone, Debug)]
pub struct Point {
    /// What the log's side holds.
    pub log: LogState,
    /// What may be executed.
    pub committed: Height,
    /// What is executed.
    pub executed: Height,
}

/// The script and what must come of it.
pub struct Script {
    /// Who may do what.
    pub membership: Membership,
    /// Block 0.
    pub genesis: Block,
    /// The operations; the first one has number 1.
    pub steps: Vec<Step>,
    /// After each number of operations, from 0 on.
    pub points: Vec<Point>,
    /// Every block that was ever appended, by hash.
    pub blocks: BTreeMap<Hash, Block>,
    tips: BTreeMap<Hash, ChainTip>,
}

impl Script {
    /// The block that a new leader would put on the block with this hash.
    pub fn next_block(&self, tip: &Hash) -> Block {
        let tip = &self.tips[tip];
        network::opening(tip, tip.header().term.next(), 0, &[0])
    }

    /// The first operation from `number` on after which blocks are not safe yet.
    pub fn unsafe_from(&self, number: usize) -> usize {
        let appends = |change: &LogChange| matches!(change, LogChange::Append(_));
        let unsafe_ = |step: &Step| matches!(step, Step::Log { changes, sync: false } if changes.iter().any(appends));
        let steps = self.steps.iter().zip(1..).skip(number - 1);
        steps.into_iter().find(|(step, _)| unsafe_(step)).unwrap().1
    }

    /// The blocks of the chain after the whole script.
    pub fn final_chain(&self) -> impl Iterator<Item = &Block> {
        let chain = &self.points.last().unwrap().log.chain;
        chain.iter().map(|id| &self.blocks[&id.hash])
    }
}

/// Performs the operation with this number.
pub fn perform(script: &Script, number: usize, running: Running, split: bool) -> Result<Running, StoreError> {
    let Running { store, mut executor } = running;
    match &script.steps[number - 1] {
        Step::Log { changes, sync } if split => {
            for change in changes {
                store.write_log(std::slice::from_ref(change), *sync)?;
            }
        }
        Step::Log { changes, sync } => store.write_log(changes, *sync)?,
        Step::Execute(to) => {
            while executor.executed().height < *to {
                let block = store.block(executor.executed().height.next())?.unwrap();
                executor.execute(&block, &script.membership)?;
            }
        }
        Step::Flush => store.flush()?,
        Step::Reopen => {
            let dir = store.dir().to_owned();
            drop(executor);
            drop(store);
            return Ok(Running::of(Store::open_with(&dir, &options()).unwrap()));
        }
    }
    Ok(Running { store, executor })
}

/// A store in use.
pub struct Running {
    /// The store.
    pub store: Store,
    /// Its executor.
    pub executor: Executor,
}

impl Running {
    /// With a new executor.
    pub fn of(store: Store) -> Self {
        let executor = Executor::open(&store).unwrap();
        Self { store, executor }
    }
}

/// Draws the script.
struct Author {
    script: Script,
    seed: u64,
    now: Point,
    /// Up to here the chain is durable.
    durable: Height,
    made: Vec<SignedTransaction>,
}

/// The script; always the same.
pub fn write() -> Script {
    let membership = network::membership(1);
    let genesis = network::genesis(7, membership.clone());
    let tip = ChainTip::genesis(&genesis).unwrap();
    let id = genesis.id();
    let now = Point {
        log: LogState {
            chain: vec![id],
            ..LogState::default()
        },
        committed: Height::ZERO,
        executed: Height::ZERO,
    };
    let mut author = Author {
        script: Script {
            membership,
            genesis: genesis.clone(),
            steps: Vec::new(),
            points: vec![now.clone()],
            blocks: BTreeMap::from([(id.hash, genesis)]),
            tips: BTreeMap::from([(id.hash, tip)]),
        },
        seed: 4,
        now,
        durable: Height::ZERO,
        made: Vec::new(),
    };
    let begin = [author.start(), author.vote(), author.opening()];
    author.log(begin.into(), true);
    while author.script.steps.len() < LENGTH {
        author.step();
    }
    author.script
}

impl Author {
    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn tip(&self) -> BlockId {
        *self.now.log.chain.last().unwrap()
    }

    fn step(&mut self) {
        let sync = self.draw(5) > 1;
        match self.draw(100) {
            0..28 => {
                let blocks = 1 + self.draw(3);
                let changes = (0..blocks).map(|_| self.block()).collect();
                self.log(changes, sync);
            }
            28..40 => self.replacement(),
            40..48 => {
                let vote = self.vote();
                self.log(vec![vote], true);
            }
            48..56 => {
                let hint = self.hint();
                self.log(vec![hint], false);
            }
            56..64 => {
                let promise = self.promise();
                self.log(vec![promise], sync);
            }
            64..68 => {
                let certificate = self.certificate();
                self.log(vec![certificate], sync);
            }
            68..78 => {
                // What the log's writer makes of a queue that has filled up.
                let changes = vec![self.vote(), self.block(), self.hint(), self.promise(), self.block()];
                self.log(changes, true);
            }
            78..94 => self.execute(),
            94..96 => {
                let start = self.start();
                self.log(vec![start], true);
            }
            96..98 => self.other(Step::Flush),
            _ => self.other(Step::Reopen),
        }
    }

    /// A new term takes the place of a suffix, in one batch.
    fn replacement(&mut self) {
        let committed = self.now.committed;
        let above = self.tip().height.since(committed);
        if above == 0 {
            return self.execute();
        }
        let from = committed.plus(1 + self.draw(above));
        let mut changes = vec![self.vote(), LogChange::Truncate { from }];
        let length = usize::try_from(from.get()).unwrap();
        self.now.log.chain.truncate(length);
        self.durable = self.durable.min(self.tip().height);
        changes.push(self.opening());
        for _ in 0..self.draw(3) {
            changes.push(self.block());
        }
        self.log(changes, true);
    }

    fn execute(&mut self) {
        let room = self.durable.since(self.now.committed);
        if room == 0 {
            let block = self.block();
            return self.log(vec![block], true);
        }
        self.now.committed = self.now.committed.plus(1 + self.draw(room));
        self.now.executed = self.now.committed;
        self.other(Step::Execute(self.now.committed));
    }

    fn log(&mut self, changes: Vec<LogChange>, sync: bool) {
        if sync {
            self.durable = self.tip().height;
        }
        self.push(Step::Log { changes, sync });
    }

    fn other(&mut self, step: Step) {
        if step.makes_durable() {
            self.durable = self.tip().height;
        }
        self.push(step);
    }

    fn push(&mut self, step: Step) {
        self.script.steps.push(step);
        self.script.points.push(self.now.clone());
    }

    fn start(&mut self) -> LogChange {
        self.now.log.start += 1;
        LogChange::Start(self.now.log.start)
    }

    fn vote(&mut self) -> LogChange {
        let vote = VoteRecord {
            term: self.now.log.vote.term.next(),
            voted_for: Some(Slot(u32::try_from(self.draw(5)).unwrap())),
        };
        self.now.log.vote = vote;
        LogChange::Vote(vote)
    }

    fn hint(&mut self) -> LogChange {
        self.now.log.hint = self.now.committed;
        LogChange::CommitHint(self.now.committed)
    }

    fn promise(&mut self) -> LogChange {
        let peer = Slot(u32::try_from(self.draw(4)).unwrap());
        let promise = PromiseRecord {
            start: self.draw(1 << 20),
            vote: self.now.log.vote.term,
            accepted: self.tip(),
        };
        self.now.log.promises.insert(peer, promise);
        LogChange::Remember { peer, promise }
    }

    fn certificate(&mut self) -> LogChange {
        let height = usize::try_from(self.now.committed.get()).unwrap();
        let block = &self.script.blocks[&self.now.log.chain[height].hash];
        let signers = [(0, false, network::node_key(0))];
        let certificate = network::certificate(block.header(), block.header().term, &signers);
        let held = certificate.clone();
        self.now.log.certificates.insert(certificate.height, held);
        LogChange::Certify(certificate)
    }

    fn opening(&mut self) -> LogChange {
        let tip = &self.script.tips[&self.tip().hash];
        let term = Term(self.now.log.vote.term.get().max(tip.header().term.get() + 1));
        let block = network::opening(tip, term, 0, &[0]);
        self.append(block)
    }

    fn block(&mut self) -> LogChange {
        let pause = [300, 1_500, 4_000][usize::try_from(self.draw(3)).unwrap()];
        let tip = self.script.tips[&self.tip().hash].clone();
        let time = tip.header().time.plus(pause);
        let count = self.draw(4);
        let transactions = (0..count).map(|_| self.transaction(&tip)).collect();
        let body = network::transactions_of(transactions);
        let header = tip.next(tip.header().term, time, Slot(0), tip.header().executed, &body);
        let block = rules::seal(header, body, &network::node_key(0)).unwrap();
        self.append(block)
    }

    fn append(&mut self, block: Block) -> LogChange {
        let tip = self.script.tips[&self.tip().hash].check(&block).unwrap();
        let id = block.id();
        self.now.log.chain.push(id);
        self.script.tips.insert(id.hash, tip);
        self.script.blocks.insert(id.hash, block.clone());
        LogChange::Append(block)
    }

    fn transaction(&mut self, tip: &ChainTip) -> SignedTransaction {
        if !self.made.is_empty() && self.draw(6) == 0 {
            let number = usize::try_from(self.draw(1 << 20)).unwrap() % self.made.len();
            return self.made[number].clone();
        }
        let operations = (0..=self.draw(2)).map(|_| self.operation()).collect();
        let number = u64::try_from(self.made.len()).unwrap();
        let expires_at = tip.header().time.plus(5_000 + self.draw(20_000));
        let transaction = network::transaction(tip.network(), 0, number, expires_at, operations);
        self.made.push(transaction.clone());
        transaction
    }

    fn operation(&mut self) -> Operation {
        let namespace = Namespace::new("default").unwrap();
        let key = self.draw(40).to_be_bytes().to_vec();
        if self.draw(5) == 0 {
            return Operation::Delete { namespace, key };
        }
        // Now and then so long that the body is put aside.
        let length = if self.draw(8) == 0 { 6_000 } else { self.draw(600) };
        let byte = u8::try_from(self.draw(256)).unwrap();
        let value = vec![byte; usize::try_from(length).unwrap()];
        Operation::Put { namespace, key, value }
    }
}
