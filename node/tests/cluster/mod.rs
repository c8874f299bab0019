//! A network of replicas over real stores in one thread: every action is performed at once or queued here.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::input::{Entropy, PersistSeq, SessionId, Tick};
use quipu_consensus::output::LogOperation;
use quipu_crypto::id::{Height, Slot, Term, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_genesis::Genesis;
use quipu_ledger::block::{Block, Body, Executed, Header, Items};
use quipu_ledger::codec;
use quipu_ledger::membership::Membership;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::store::{Executor, LogChange, Store};
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_node::chain_block::ChainBlock;
use quipu_node::client_protocol::{Receipt, Rejection};
use quipu_node::inspect::{Inspector, Known};
use quipu_node::inspect_peers::{self, Passed};
use quipu_node::limits::{ENGINE_SETTINGS, REMEMBERED_BLOCKS};
use quipu_node::log_writer;
use quipu_node::peer_protocol::{MAX_PEER_FRAME_BYTES, PeerFrame, TransactionBytes};
use quipu_node::replica::{Action, Event, ExecutedBlock, Moment, Origin, Replica, Ticket};
use quipu_node::start::restore;
use quipu_node::verified::VerifiedMemory;

use crate::founding::{BEGIN_MS, Founding, slot_of};

struct Seeded(u64);

impl Entropy for Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).checked_rem(bound).unwrap_or(0)
    }
}

struct Running {
    replica: Replica,
    inspector: Inspector,
    store: Store,
    executor: Executor,
    durable: Option<PersistSeq>,
    gated: VecDeque<(PersistSeq, Slot, SessionId, bytes::Bytes)>,
    /// Blocks that wait for an executor that stands still.
    stalled: Option<VecDeque<(Height, Option<Block>)>>,
}

/// What a node does with transactions that a peer forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doors {
    Open,
    /// There is no room for them.
    Full,
    /// They get lost.
    Deaf,
}

struct Member {
    dir: tempfile::TempDir,
    key: SecretKey,
    running: Option<Running>,
    receipts: HashMap<Ticket, Receipt>,
    rejections: HashMap<Ticket, Rejection>,
    reads: HashMap<Ticket, bool>,
}

/// The network, its clock and the messages under way.
pub(crate) struct Cluster {
    genesis: Genesis,
    client: SecretKey,
    members: Vec<Member>,
    wires: VecDeque<(usize, usize, SessionId, bytes::Bytes)>,
    now: u64,
    session: u64,
    sessions: BTreeMap<(usize, usize), SessionId>,
    /// On which ways nothing arrives, from whom to whom.
    cut: BTreeSet<(usize, usize)>,
    tickets: u64,
    /// Of every node.
    pub(crate) doors: Doors,
    entropy: Seeded,
}

impl Cluster {
    /// A fresh network of `count` nodes.
    pub(crate) fn start(count: usize) -> Self {
        let Founding { genesis, keys, client } = Founding::new(count as u8);
        let members = keys
            .into_iter()
            .map(|key| Member {
                dir: tempfile::tempdir().unwrap(),
                key,
                running: None,
                receipts: HashMap::new(),
                rejections: HashMap::new(),
                reads: HashMap::new(),
            })
            .collect();
        let mut cluster = Self {
            genesis,
            client,
            members,
            wires: VecDeque::new(),
            now: 0,
            session: 0,
            sessions: BTreeMap::new(),
            cut: BTreeSet::new(),
            tickets: 0,
            doors: Doors::Open,
            entropy: Seeded(7),
        };
        (0..count).for_each(|node| cluster.restart(node));
        cluster
    }

    fn membership(&self) -> &Membership {
        self.genesis.membership()
    }

    pub(crate) fn slot(&self, node: usize) -> Slot {
        slot_of(&self.genesis, &self.members[node].key)
    }

    fn index(&self, slot: Slot) -> usize {
        (0..self.members.len()).find(|node| self.slot(*node) == slot).unwrap()
    }

    /// Starts a node from its directory.
    pub(crate) fn restart(&mut self, node: usize) {
        let slot = self.slot(node);
        let member = self.membership().node(slot).unwrap().clone();
        let dir = self.members[node].dir.path().join("data");
        let store = if dir.exists() {
            Store::open(&dir).unwrap()
        } else {
            Store::create(
                &dir,
                self.genesis.network_id(),
                &self.genesis.block(),
                member.incarnation,
            )
            .unwrap()
        };
        let executor = Executor::open(&store).unwrap();
        let key = self.members[node].key.clone();
        let start = restore::Start {
            node: &member,
            key: &key,
            settings: ENGINE_SETTINGS,
            watermark: None,
        };
        let restart = restore::read(&store, executor.executed(), &start, Tick(self.now), &mut self.entropy).unwrap();
        let inspector = Inspector::new(
            slot,
            Arc::new(VerifiedMemory::default()),
            Arc::clone(&restart.base),
            restart.blocks.into_iter(),
        );
        let replica = Replica::new(restart.beginning);
        self.members[node].running = Some(Running {
            replica,
            inspector,
            store,
            executor,
            durable: None,
            gated: VecDeque::new(),
            stalled: None,
        });
        for other in 0..self.members.len() {
            if other != node && self.members[other].running.is_some() {
                self.session += 1;
                let session = SessionId(self.session);
                self.sessions.insert((node.min(other), node.max(other)), session);
                self.handle(
                    node,
                    Event::PeerUp {
                        peer: self.slot(other),
                        session,
                    },
                );
                self.handle(other, Event::PeerUp { peer: slot, session });
            }
        }
    }

    /// Stops a node without a word; what it had not yet written is lost.
    pub(crate) fn kill(&mut self, node: usize) {
        self.members[node].running = None;
        let slot = self.slot(node);
        self.wires.retain(|(from, to, ..)| *from != node && *to != node);
        for other in 0..self.members.len() {
            if other != node && self.members[other].running.is_some() {
                let session = self.sessions[&(node.min(other), node.max(other))];
                self.handle(other, Event::PeerDown { peer: slot, session });
            }
        }
    }

    /// Nothing that `from` sends arrives at `to` any more.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// A node is told to stop: it hands over what it leads.
    pub(crate) fn stop(&mut self, node: usize) {
        self.handle(node, Event::Stop);
        self.deliver();
    }

    /// Whether a node leads.
    pub(crate) fn leads(&self, node: usize) -> bool {
        let running = self.members[node].running.as_ref();
        running.is_some_and(|running| running.replica.leads())
    }

    /// A node hears late of a session with `peer` that ended before the present one began.
    pub(crate) fn hear_of_an_ended_session(&mut self, node: usize, peer: usize) {
        let session = SessionId(0);
        let peer = self.slot(peer);
        self.handle(node, Event::PeerUp { peer, session });
    }

    /// The executor of a node stands still until [`Self::resume_execution`].
    pub(crate) fn stall_execution(&mut self, node: usize) {
        let running = self.members[node].running.as_mut().unwrap();
        running.stalled = Some(VecDeque::new());
    }

    /// The executor of a node goes on with what waits for it.
    pub(crate) fn resume_execution(&mut self, node: usize) {
        let running = self.members[node].running.as_mut().unwrap();
        let mut events = VecDeque::new();
        for (height, block) in running.stalled.take().unwrap() {
            self.perform(node, Action::Execute { height, block }, &mut events);
        }
        events.into_iter().for_each(|event| self.handle(node, event));
        self.deliver();
    }

    /// A node looks at more blocks than it remembers, none of them on its chain.
    pub(crate) fn crowd_inspector(&mut self, node: usize) {
        let genesis = ChainTip::genesis(&self.genesis.block()).unwrap();
        let slot = self.slot(node);
        for n in 0..=REMEMBERED_BLOCKS as u64 {
            let body = Body {
                items: Items::Votes(Vec::new()),
                certificate: None,
            };
            let header = genesis.next(Term(1), TimeMs(BEGIN_MS + n), slot, Executed::genesis(), &body);
            let block = rules::seal(header, body, &self.members[node].key).unwrap();
            let tip = Arc::new(genesis.extend(&block).unwrap());
            let running = self.members[node].running.as_mut().unwrap();
            let known = Known::of(&ChainBlock::new(block, tip)).unwrap();
            running.inspector.remember(known);
        }
    }

    /// Lets `ms` pass.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += 10;
            for node in 0..self.members.len() {
                self.handle(node, Event::Tick);
            }
            self.deliver();
        }
    }

    /// Runs until a node leads.
    pub(crate) fn run_until_leader(&mut self) -> usize {
        for _ in 0..500 {
            self.run(10);
            if let Some(leader) = (0..self.members.len()).find(|node| self.leads(*node)) {
                self.run(200);
                return leader;
            }
        }
        panic!("no leader within five seconds");
    }

    /// A client of `node` sets a key.
    pub(crate) fn put(&mut self, node: usize, key: &str, value: &str) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.tickets.to_le_bytes());
        let body = TransactionBody {
            version: 1,
            network: self.genesis.network_id(),
            sender: self.client.public(),
            nonce,
            expires_at: TimeMs(BEGIN_MS + self.now + 60_000),
            operations: vec![Operation::Put {
                namespace: Namespace::new("default").unwrap(),
                key: key.into(),
                value: value.into(),
            }],
            memo: Vec::new(),
        };
        let transaction = SignedTransaction::sign(body, &self.client).unwrap().verify().unwrap();
        self.handle(
            node,
            Event::Submit {
                origin: Origin::Client {
                    key: self.client.public(),
                    ticket,
                },
                transaction,
            },
        );
        self.deliver();
        ticket
    }

    /// A client of `node` wants to read.
    pub(crate) fn read(&mut self, node: usize) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.handle(node, Event::Read { ticket });
        self.deliver();
        ticket
    }

    pub(crate) fn confirmed(&self, node: usize, ticket: Ticket) -> bool {
        *self.members[node].reads.get(&ticket).expect("the read was answered")
    }

    pub(crate) fn receipt(&self, node: usize, ticket: Ticket) -> Receipt {
        *self.members[node]
            .receipts
            .get(&ticket)
            .expect("the transaction was answered")
    }

    pub(crate) fn rejection(&self, node: usize, ticket: Ticket) -> Option<&Rejection> {
        self.members[node].rejections.get(&ticket)
    }

    pub(crate) fn value(&self, node: usize, key: &str) -> Option<Vec<u8>> {
        let store = &self.members[node].running.as_ref().unwrap().store;
        let namespace = Namespace::new("default").unwrap();
        store
            .view()
            .unwrap()
            .get(&namespace, key.as_bytes())
            .unwrap()
            .map(|entry| entry.value)
    }

    pub(crate) fn tip(&self, node: usize) -> Height {
        self.members[node].running.as_ref().unwrap().store.tip().height
    }

    pub(crate) fn header(&self, node: usize, height: Height) -> Header {
        self.members[node]
            .running
            .as_ref()
            .unwrap()
            .store
            .header(height)
            .unwrap()
            .unwrap()
    }

    /// All running nodes have the same chain and the same quadruple.
    pub(crate) fn assert_converged(&self) {
        let ends: BTreeMap<usize, _> = (0..self.members.len())
            .filter_map(|node| {
                let running = self.members[node].running.as_ref()?;
                Some((node, (running.store.tip(), running.executor.executed())))
            })
            .collect();
        let first = ends.values().next().unwrap();
        assert!(ends.values().all(|end| end == first), "{ends:#?}");
    }

    fn handle(&mut self, node: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(running) = self.members[node].running.as_mut() else {
                return;
            };
            let mut actions = Vec::new();
            let mut moment = Moment {
                now: Tick(self.now),
                wall: TimeMs(BEGIN_MS + self.now),
                entropy: &mut self.entropy,
            };
            running.replica.handle(&mut moment, event, &mut actions);
            running.replica.flow(&mut moment, &mut actions);
            for action in actions {
                self.perform(node, action, &mut events);
            }
        }
    }

    fn perform(&mut self, node: usize, action: Action, events: &mut VecDeque<Event>) {
        let member = &mut self.members[node];
        let running = member.running.as_mut().unwrap();
        match action {
            Action::Persist { seq, operations, sync } => {
                for operation in &operations {
                    if let LogOperation::Append(blocks) = operation {
                        blocks
                            .iter()
                            .for_each(|block| running.inspector.appended(Known::of(block).unwrap()));
                    }
                }
                let changes: Vec<LogChange> = operations.into_iter().flat_map(log_writer::changes).collect();
                running.store.write_log(&changes, sync).unwrap();
                running.durable = Some(seq);
                events.push_back(Event::Persisted { seq });
                let due: Vec<_> = running
                    .gated
                    .iter()
                    .take_while(|gated| gated.0 <= seq)
                    .cloned()
                    .collect();
                running.gated.drain(..due.len());
                for (_, to, session, frame) in due {
                    let to = self.index(to);
                    self.wires.push_back((node, to, session, frame));
                }
            }
            Action::Send {
                to,
                session,
                frame,
                after,
                ..
            } => match after {
                Some(after) if running.durable.is_none_or(|durable| durable < after) => {
                    running.gated.push_back((after, to, session, frame));
                }
                _ => {
                    let to = self.index(to);
                    self.wires.push_back((node, to, session, frame));
                }
            },
            Action::Execute { height, block } => {
                if let Some(stalled) = &mut running.stalled {
                    stalled.push_back((height, block));
                    return;
                }
                let block = block.unwrap_or_else(|| running.store.block(height).unwrap().unwrap());
                let done = running.executor.execute(&block, self.genesis.membership()).unwrap();
                events.push_back(Event::Executed(ExecutedBlock {
                    id: block.id(),
                    time: block.header().time,
                    executed: done.executed,
                    results: done.results,
                }));
            }
            Action::Fetch {
                fetch,
                first,
                last,
                max_bytes,
            } => {
                let (previous, blocks) = running.store.blocks(first, last, max_bytes as usize).unwrap();
                let blocks = blocks.into_iter().map(ChainBlock::stored).collect();
                events.push_back(Event::Loaded {
                    fetch,
                    previous: previous.unwrap(),
                    blocks,
                });
            }
            Action::Answer { ticket, receipt } => {
                assert!(member.receipts.insert(ticket, receipt).is_none(), "answered twice");
            }
            Action::AnswerFromIndex { ticket, id } => {
                let receipt = quipu_node::admit::find(&running.store, id).unwrap().unwrap();
                member.receipts.insert(ticket, receipt);
            }
            Action::Reject { ticket, rejection } => {
                assert_ne!(self.doors, Doors::Open, "{ticket:?}: {rejection}");
                member.rejections.insert(ticket, rejection);
            }
            Action::ReadNow { ticket, confirmed } => {
                member.reads.insert(ticket, confirmed);
            }
            Action::Evidence(evidence) => panic!("{evidence:?}"),
            Action::Distrusted { leader } => panic!("node {node} distrusts {leader}"),
            Action::Halt(reason) => panic!("node {node} halts: {reason}"),
        }
    }

    fn deliver(&mut self) {
        while let Some((from, to, session, bytes)) = self.wires.pop_front() {
            // A session that has ended swallows what is sent over it.
            if self.cut.contains(&(from, to)) || self.sessions.get(&(from.min(to), from.max(to))) != Some(&session) {
                continue;
            }
            let from = self.slot(from);
            let Some(running) = self.members[to].running.as_mut() else {
                continue;
            };
            let frame = codec::decode::<PeerFrame>(&bytes, MAX_PEER_FRAME_BYTES).unwrap();
            let event = match inspect_peers::pass(&mut running.inspector, from, session, frame) {
                Passed::On(event) => event,
                Passed::Faulty(finding) => panic!("{from}: {finding}"),
                Passed::ToAdmission(transactions) => {
                    self.forwarded(from, to, session, transactions);
                    continue;
                }
            };
            self.handle(to, event);
        }
    }

    fn forwarded(&mut self, from: Slot, to: usize, session: SessionId, transactions: Vec<TransactionBytes>) {
        let decode = |bytes: TransactionBytes| SignedTransaction::decode(bytes.into_vec()).unwrap();
        let transactions = transactions.into_iter().map(decode);
        match self.doors {
            Doors::Open => {
                for transaction in transactions {
                    let origin = Origin::Peer { slot: from, session };
                    let transaction = transaction.verify().unwrap();
                    self.handle(to, Event::Submit { origin, transaction });
                }
            }
            Doors::Full => {
                let refused = Event::NoRoom {
                    slot: from,
                    session,
                    transactions: transactions.map(|transaction| transaction.id()).collect(),
                };
                self.handle(to, refused);
            }
            Doors::Deaf => {}
        }
    }
}
