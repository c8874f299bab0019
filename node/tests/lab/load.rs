//! Keeps the clients of the lab: concurrent, each with its own seeded chance, all they see recorded for the checker.
//!
//! Few keys and unique values, so that clients meet: writes, swaps of what was read, counters, pairs written at once,
//! reads and scans at nodes drawn at random, and lookups of transactions whose answer was lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quipu_consensus::input::Entropy;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{NetworkId, Slot, TimeMs, TransactionId};
use quipu_crypto::key::SecretKey;
use quipu_ledger::operation::{Condition, Namespace, Operation, Version};
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_node::client::{Client, ClientSettings};
use quipu_node::client_protocol::{Answer, Call, Consistency};
use quipu_node::clock;
use tokio::task::JoinHandle;

use super::{CLIENT_SITES, Lab};
use crate::history::{Act, Fate, Recorded, Wanted};

/// Connections at each place of clients.
const CLIENTS_A_SITE: usize = 2;
/// Workers that share one.
const WORKERS_A_CLIENT: usize = 4;
/// A transaction is good for so long; then its fate is certain.
const LIFETIME_MS: u64 = 20_000;
/// How long a client tries.
const PATIENCE: Duration = Duration::from_secs(6);
const KEYS: u64 = 6;
/// So many transactions are submitted to two nodes at the same time.
const TWICE_PERMILLE: u64 = 100;
/// So many of the last ones may be submitted again.
const EARLIER: usize = 16;

/// What all workers share.
pub(crate) struct Shared {
    begun: Instant,
    stop: AtomicBool,
    /// Nobody will tell the fate of what is open.
    hopeless: AtomicBool,
    /// Transactions acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Reads answered.
    pub(crate) read: AtomicU64,
    key: SecretKey,
    network: NetworkId,
    nodes: Vec<Slot>,
    habits: Habits,
}

/// How clients behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Pause of a worker between two operations, ms on average.
    pub(crate) pause_ms: u64,
    /// How many of its reads a worker wants answered by one node alone.
    pub(crate) picky_permille: u64,
}

impl Shared {
    /// Now, as histories tell it.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap()
    }
}

/// The running load.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    workers: Vec<JoinHandle<Vec<Recorded>>>,
}

impl Load {
    pub(crate) fn start(lab: &Lab, random: &mut Random, habits: &Habits) -> Self {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            stop: AtomicBool::new(false),
            hopeless: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            read: AtomicU64::new(0),
            key: lab.processes.client_key.clone(),
            network: lab.processes.genesis.network_id(),
            nodes: lab
                .processes
                .genesis
                .membership()
                .nodes
                .iter()
                .map(|node| node.slot)
                .collect(),
            habits: *habits,
        });
        let mut workers = Vec::new();
        for site in 0..CLIENT_SITES {
            for _ in 0..CLIENTS_A_SITE {
                let client = lab.client(site, ClientSettings::default());
                for _ in 0..WORKERS_A_CLIENT {
                    let worker = Worker {
                        name: workers.len(),
                        number: 0,
                        client: client.clone(),
                        random: random.split(),
                        shared: Arc::clone(&shared),
                        unresolved: Vec::new(),
                        earlier: VecDeque::new(),
                        recorded: Vec::new(),
                    };
                    workers.push(lab.site(site).spawn(worker.work()));
                }
            }
        }
        Self { shared, workers }
    }

    /// Ends the load of a network that is of no use any more, and gives what was seen.
    pub(crate) fn abandon(self, lab: &Lab) -> Vec<Recorded> {
        self.shared.hopeless.store(true, Ordering::Relaxed);
        self.finish(lab)
    }

    /// Ends the load once the fate of every transaction is known, and gives what was seen.
    pub(crate) fn finish(self, lab: &Lab) -> Vec<Recorded> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for worker in self.workers {
            all.extend(lab.site(0).block_on(worker).unwrap());
        }
        all
    }
}

struct Worker {
    name: usize,
    number: u64,
    client: Client,
    random: Random,
    shared: Arc<Shared>,
    /// Begin, id, expiry of what may or may not have been executed.
    unresolved: Vec<(u64, TransactionId, TimeMs)>,
    /// What it submitted lately, with the begin.
    earlier: VecDeque<(u64, SignedTransaction)>,
    recorded: Vec<Recorded>,
}

impl Worker {
    async fn work(mut self) -> Vec<Recorded> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.random.below(100) {
                0..5 => self.submit_again().await,
                5..30 => {
                    let put = vec![self.put_register()];
                    self.submit(put).await;
                }
                30..50 => self.swap().await,
                50..60 => self.count().await,
                60..65 => {
                    let value = self.value();
                    self.submit(vec![put("pair/one", &value), put("pair/two", &value)])
                        .await;
                }
                65..68 => {
                    let key = self.register();
                    self.submit(vec![Operation::Delete {
                        namespace: namespace(),
                        key: key.into(),
                    }])
                    .await;
                }
                68..85 => {
                    let key = self.register();
                    self.get(&key, true).await;
                }
                85..90 => {
                    let key = self.register();
                    self.get(&key, false).await;
                }
                90..95 => {
                    let prefix = ["pair/", "register/"][usize::from(self.random.chance(500))];
                    self.scan(prefix).await;
                }
                _ => self.look_up(false).await,
            }
            let pause = self.random.below(2 * self.shared.habits.pause_ms + 1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let begin = Instant::now();
        while !self.unresolved.is_empty() {
            if self.shared.hopeless.load(Ordering::Relaxed) {
                for (begin, id, _) in std::mem::take(&mut self.unresolved) {
                    let fate = Fate::Unresolved;
                    self.record(None, begin, Act::Write { id, fate });
                }
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(90),
                "the fate of {} transactions is not known long after their expiry",
                self.unresolved.len()
            );
            self.look_up(true).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.recorded
    }

    fn value(&mut self) -> String {
        self.number += 1;
        format!("{}.{}", self.name, self.number)
    }

    fn register(&mut self) -> String {
        format!("register/{}", self.random.below(KEYS))
    }

    fn put_register(&mut self) -> Operation {
        let (key, value) = (self.register(), self.value());
        put(&key, &value)
    }

    fn node(&mut self) -> Slot {
        let index = self.random.below(self.shared.nodes.len() as u64);
        self.shared.nodes[index as usize]
    }

    /// Reads, and writes only if nobody has written since.
    async fn swap(&mut self) {
        let key = self.register();
        let fresh = self.random.chance(700);
        let Some(found) = self.get(&key, fresh).await else {
            return;
        };
        let condition = match found {
            None => Condition::Absent,
            Some((_, version)) if self.random.chance(500) => Condition::Version(version),
            Some((value, _)) => Condition::Value(value),
        };
        let value = self.value();
        self.submit(vec![require(&key, condition), put(&key, &value)]).await;
    }

    async fn count(&mut self) {
        let Some(found) = self.get("counter", true).await else {
            return;
        };
        let (condition, next) = match found {
            None => (Condition::Absent, 1),
            Some((value, _)) => {
                let next = String::from_utf8_lossy(&value).parse::<u64>().unwrap() + 1;
                (Condition::Value(value), next)
            }
        };
        self.submit(vec![require("counter", condition), put("counter", &next.to_string())])
            .await;
    }

    async fn submit(&mut self, operations: Vec<Operation>) {
        let expires_at = TimeMs(clock::wall().get() + LIFETIME_MS);
        let key = &self.shared.key;
        let body = TransactionBody {
            version: 1,
            network: self.shared.network,
            sender: key.public(),
            nonce: quipu_crypto::random::bytes().unwrap(),
            expires_at,
            operations,
            memo: Vec::new(),
        };
        let transaction = SignedTransaction::sign(body, key).unwrap();
        let id = transaction.id();
        let begin = self.shared.now();
        let twice = self.random.chance(TWICE_PERMILLE);
        let picky = self.random.chance(self.shared.habits.picky_permille / 2);
        let (first, other) = (self.node(), self.node());
        let also = async {
            if twice {
                self.client
                    .call_node(other, submission(&transaction), PATIENCE / 3)
                    .await
                    .ok()
            } else {
                None
            }
        };
        let submitted = async {
            // What is asked of one node alone shows who answers that may not.
            if picky {
                let node = self
                    .client
                    .call_node(first, submission(&transaction), PATIENCE / 3)
                    .await;
                if let Ok(answer @ Answer::Executed(_)) = node {
                    return Ok(answer);
                }
            }
            self.client.submit(&transaction, PATIENCE).await
        };
        let (answer, also) = tokio::join!(submitted, also);
        self.executed(Some(other), begin, id, also.as_ref());
        self.earlier.push_back((begin, transaction));
        if self.earlier.len() > EARLIER {
            self.earlier.pop_front();
        }
        let fate = match answer {
            Ok(Answer::Executed(receipt)) => {
                assert_eq!(receipt.id, id, "the receipt of another");
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                Fate::Acknowledged(receipt.version, receipt.outcome)
            }
            // Of what was submitted twice a refusal says nothing: another node may have taken it.
            Ok(Answer::Rejected(_)) if !twice && !picky => Fate::Never,
            _ => {
                self.unresolved.push((begin, id, expires_at));
                return;
            }
        };
        self.record(None, begin, Act::Write { id, fate });
    }

    /// Submits once more, to a node drawn at random, what it submitted before: it must take effect once all the same.
    async fn submit_again(&mut self) {
        let drawn = self.random.below(EARLIER as u64) as usize;
        let Some((begin, transaction)) = self.earlier.get(drawn).cloned() else {
            return;
        };
        let node = self.node();
        let call = submission(&transaction);
        let answer = self.client.call_node(node, call, PATIENCE / 3).await.ok();
        self.executed(Some(node), begin, transaction.id(), answer.as_ref());
    }

    /// A refusal says nothing of what was submitted twice: the node may not know of the first.
    fn executed(&mut self, node: Option<Slot>, begin: u64, id: TransactionId, answer: Option<&Answer>) {
        if let Some(Answer::Executed(receipt)) = answer {
            assert_eq!(receipt.id, id, "the receipt of another");
            let fate = Fate::Acknowledged(receipt.version, receipt.outcome);
            self.record(node, begin, Act::Write { id, fate });
        }
    }

    /// Asks for one whose answer was lost; `last` for all of them.
    async fn look_up(&mut self, last: bool) {
        let asked = if last { self.unresolved.len() } else { 1 };
        for (begin, id, expires_at) in self
            .unresolved
            .drain(..asked.min(self.unresolved.len()))
            .collect::<Vec<_>>()
        {
            let call = Call::Lookup {
                id,
                expires_at: Some(expires_at),
            };
            let node = self.node();
            let fate = match self.client.call_node(node, call, PATIENCE / 3).await {
                Ok(Answer::Executed(receipt)) => Fate::Acknowledged(receipt.version, receipt.outcome),
                Ok(Answer::Never { .. }) => Fate::Never,
                _ => {
                    self.unresolved.push((begin, id, expires_at));
                    continue;
                }
            };
            self.record(Some(node), begin, Act::Write { id, fate });
        }
    }

    /// None where there was no answer.
    async fn get(&mut self, key: &str, fresh: bool) -> Option<Option<(Vec<u8>, Version)>> {
        let call = Call::Get {
            namespace: namespace(),
            key: key.into(),
            at: None,
            consistency: consistency(fresh),
        };
        let (node, begin, answer) = self.ask(call).await;
        let Some(Answer::Value { entry, height }) = answer else {
            return None;
        };
        let found = entry.map(|entry| (entry.key, entry.value, entry.version));
        let act = Act::Read {
            wanted: Wanted::Key(key.into()),
            found: found.clone().into_iter().collect(),
            height,
            fresh,
        };
        self.record(node, begin, act);
        Some(found.map(|(_, value, version)| (value, version)))
    }

    async fn scan(&mut self, prefix: &str) {
        let call = Call::Scan {
            namespace: namespace(),
            prefix: prefix.into(),
            after: None,
            limit: 100,
            consistency: Consistency::Linearizable,
        };
        let (node, begin, answer) = self.ask(call).await;
        if let Some(Answer::Entries { entries, height, .. }) = answer {
            let entry = |entry: quipu_node::client_protocol::Entry| (entry.key, entry.value, entry.version);
            let act = Act::Read {
                wanted: Wanted::Prefix(prefix.into()),
                found: entries.into_iter().map(entry).collect(),
                height,
                fresh: true,
            };
            self.record(node, begin, act);
        }
    }

    /// Asks a node drawn at random, or whichever answers.
    async fn ask(&mut self, call: Call) -> (Option<Slot>, u64, Option<Answer>) {
        let node = self.node();
        let node = self.random.chance(self.shared.habits.picky_permille).then_some(node);
        let begin = self.shared.now();
        let answer = match node {
            Some(node) => self.client.call_node(node, call, PATIENCE / 3).await,
            None => self.client.call(call, PATIENCE).await,
        };
        (node, begin, answer.ok())
    }

    fn record(&mut self, node: Option<Slot>, begin: u64, act: Act) {
        if matches!(act, Act::Read { .. }) {
            self.shared.read.fetch_add(1, Ordering::Relaxed);
        }
        let end = self.shared.now();
        self.recorded.push(Recorded {
            client: self.name / WORKERS_A_CLIENT,
            node,
            begin,
            end,
            act,
        });
    }
}

fn consistency(fresh: bool) -> Consistency {
    if fresh {
        Consistency::Linearizable
    } else {
        Consistency::Local
    }
}

fn submission(transaction: &SignedTransaction) -> Call {
    Call::Submit {
        transaction: transaction.bytes().to_vec(),
    }
}

fn namespace() -> Namespace {
    Namespace::new("default").unwrap()
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Put {
        namespace: namespace(),
        key: key.into(),
        value: value.into(),
    }
}

fn require(key: &str, condition: Condition) -> Operation {
    Operation::Require {
        namespace: namespace(),
        key: key.into(),
        condition,
    }
}
