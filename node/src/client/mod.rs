//! Keeps the way of a client to the network: one connection to each node, any number of calls on it.
//!
//! Invariants: a call is sent again elsewhere until it is answered or its deadline has passed; that is safe because
//! every call may be repeated. Leaves signing and the meaning of answers to its caller.

mod attempts;
mod link;
mod node;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // an overflow is a failed test
mod tests;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use quipu_crypto::id::{Slot, TransactionId};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_ledger::transaction::SignedTransaction;
use tokio::time::{Instant, sleep, timeout_at};

use self::attempts::{Attempts, Next};
use self::node::{Dialler, Encoded, Failure, Node};
use crate::client_protocol::{Answer, Call, CloseCode, Rejection};
use crate::network::dial::jittered;
use crate::network::identity::Identity;

/// Pause after every node has been asked in vain; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Candidates that are dialled where no connection is there yet.
const CANDIDATES: usize = 3;
/// How much later each of them is dialled than the one before it.
const STAGGER: Duration = Duration::from_millis(75);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_millis(400);
/// A deadline that the clock cannot hold is this far.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A node as clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number in the membership.
    pub slot: Slot,
    /// Its name, for messages.
    pub name: String,
    /// `host:port`, resolved at each connection.
    pub address: String,
    /// The key that it must show.
    pub key: PublicKey,
}

/// How long a client waits for what.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Longest wait for a connection to one node.
    pub connect_timeout: Duration,
    /// A node that has answered nothing for so long, while calls wait, is left for another.
    pub request_timeout: Duration,
    /// A node that does not even acknowledge for so long, while calls wait, is dead or cut off: it is left for another.
    pub silence_timeout: Duration,
    /// A connection that is silent for so long is gone.
    pub idle_timeout: Duration,
    /// How often a quiet connection is kept alive.
    pub keep_alive: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            silence_timeout: Duration::from_millis(250),
            idle_timeout: Duration::from_millis(1500),
            keep_alive: Duration::from_millis(300),
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Every node that could be reached closed the connection for a reason that will not pass by itself.
    #[error("{node} refused the connection: {}", code.meaning())]
    Refused {
        /// Who.
        node: String,
        /// Why.
        code: CloseCode,
        /// The key that was shown.
        key: PublicKey,
    },
    /// No node could be reached, or none could answer; nothing came of the call.
    #[error("no node answered in time; tried {}", tried.join("; "))]
    Unreachable {
        /// Each node and what happened last.
        tried: Vec<String>,
    },
    /// The deadline passed after the transaction was sent: it may still be executed.
    #[error("no answer for transaction {id} in time: it may or may not be executed; look with `quipu tx show {id}`")]
    Unresolved {
        /// Which.
        id: TransactionId,
        /// The last refusal by a node that may not have known of an earlier sending.
        rejection: Option<Box<Rejection>>,
        /// Each node and what happened last.
        tried: Vec<String>,
    },
    /// What came was not the protocol.
    #[error("{node} does not speak this protocol: {detail}")]
    Protocol {
        /// Who.
        node: String,
        /// What came.
        detail: String,
    },
    /// The client cannot be made or used like this.
    #[error("{0}")]
    Setup(String),
}

/// Calls to the nodes of one network. Cheap to clone; all clones share their connections.
///
/// Any number of calls may wait at a time: they share one connection to the node that answers.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Never empty.
    nodes: Vec<Node>,
    dialler: Dialler,
    key: PublicKey,
    /// Index of the node to ask first: the last that answered, or the leader where one was named.
    preferred: AtomicUsize,
}

impl Client {
    /// A client that will speak as `identity`. Connects at the first call.
    ///
    /// # Errors
    /// [`ClientError::Setup`] where there is no endpoint or the key does not serve.
    pub fn new(endpoints: Vec<Endpoint>, identity: &SecretKey, settings: ClientSettings) -> Result<Self, ClientError> {
        if endpoints.is_empty() {
            return Err(ClientError::Setup("no node is named to connect to".to_owned()));
        }
        let key = identity.public();
        let identity = Identity::new(identity)
            .map_err(|error| ClientError::Setup(format!("the key cannot be used for TLS: {error}")))?;
        Ok(Self(Arc::new(Inner {
            nodes: endpoints.into_iter().map(Node::new).collect(),
            dialler: Dialler::new(settings, identity),
            key,
            preferred: AtomicUsize::new(0),
        })))
    }

    /// Calls nodes in turn, the last good one first, until one answers or `deadline` has passed.
    ///
    /// An answer that another node might better ([`Answer::Unavailable`]) is returned only when the deadline has
    /// passed. A submission goes through [`Self::submit`].
    ///
    /// # Errors
    /// [`ClientError`], never `Unresolved`.
    pub async fn call(&self, call: Call, deadline: Duration) -> Result<Answer, ClientError> {
        let inner = &*self.0;
        let mut attempts = Attempts::new(inner.nodes.iter().map(|node| &node.endpoint), None);
        inner
            .in_turn(&call, &mut attempts, deadline)
            .await
            .map_or_else(|| attempts.give_up(inner.key), Ok)
    }

    /// Calls one node, again if its connection breaks, and returns whatever it answers.
    ///
    /// # Errors
    /// [`ClientError`], never `Unresolved`.
    pub async fn call_node(&self, slot: Slot, call: Call, deadline: Duration) -> Result<Answer, ClientError> {
        let inner = &*self.0;
        let node = inner.nodes.iter().find(|node| node.endpoint.slot == slot);
        let node = node.ok_or_else(|| ClientError::Setup(format!("no node with slot {slot} is named")))?;
        let mut attempts = Attempts::new(std::iter::once(&node.endpoint), None);
        inner
            .at_one(node, &call, &mut attempts, deadline)
            .await
            .map_or_else(|| attempts.give_up(inner.key), Ok)
    }

    /// Submits a transaction until it is answered: `Executed`, `Rejected`, or at the deadline `Pending`.
    ///
    /// However often it is sent, it is executed at most once, because of its id. A busy network is asked again when
    /// it says; `Rejected(Busy)` is returned at the deadline.
    ///
    /// # Errors
    /// [`ClientError::Unresolved`] where a node may have taken it and the deadline has passed; others where none has.
    pub async fn submit(&self, transaction: &SignedTransaction, deadline: Duration) -> Result<Answer, ClientError> {
        self.send(transaction, deadline, false).await
    }

    /// The same, but a busy node's answer is returned at once: for a caller that has a pace of its own.
    ///
    /// That is `Rejected(Busy)` or `Unavailable(Busy)`, and only while no node may have taken the transaction.
    ///
    /// # Errors
    /// Like [`Self::submit`].
    pub async fn offer(&self, transaction: &SignedTransaction, deadline: Duration) -> Result<Answer, ClientError> {
        self.send(transaction, deadline, true).await
    }

    async fn send(
        &self,
        transaction: &SignedTransaction,
        deadline: Duration,
        takes_busy: bool,
    ) -> Result<Answer, ClientError> {
        let inner = &*self.0;
        let nodes = inner.nodes.iter().map(|node| &node.endpoint);
        let mut attempts = Attempts::new(nodes, Some(transaction.id())).taking_busy(takes_busy);
        let call = Call::Submit {
            transaction: transaction.bytes().to_vec(),
        };
        inner
            .in_turn(&call, &mut attempts, deadline)
            .await
            .map_or_else(|| attempts.give_up(inner.key), Ok)
    }

    /// Tells the nodes that this client is gone and waits shortly until that has been sent.
    pub async fn close(&self) {
        for node in &self.0.nodes {
            node.forget();
        }
        self.0.dialler.idle().await;
    }
}

impl Inner {
    /// Asks one node after another, the preferred one first. None where the deadline has passed or all is hopeless.
    async fn in_turn(&self, call: &Call, attempts: &mut Attempts<'_>, deadline: Duration) -> Option<Answer> {
        let until = after(deadline);
        let call = Encoded::new(call);
        let mut pause = FIRST_PAUSE;
        let mut index = self.first(self.preferred.load(Ordering::Relaxed), until).await;
        let mut asked = 0_usize;
        loop {
            let node = self.nodes.get(index).or_else(|| self.nodes.first())?;
            let (sent, result) = self.ask(node, &call, until).await;
            let Some(result) = result else {
                attempts.cut(index, sent);
                return None;
            };
            match attempts.ended(index, sent, result) {
                Next::Answer(answer) => {
                    self.prefer(index, &answer);
                    return Some(answer);
                }
                Next::Same(wait) => rest(Duration::from_millis(wait).max(FIRST_PAUSE), until).await?,
                Next::Other => {
                    let other = index
                        .saturating_add(1)
                        .checked_rem(self.nodes.len())
                        .unwrap_or_default();
                    // Where many callers leave a node at the same time, only the first moves the mark.
                    let _ = self
                        .preferred
                        .compare_exchange(index, other, Ordering::Relaxed, Ordering::Relaxed);
                    index = other;
                    asked = asked.saturating_add(1);
                    if asked.is_multiple_of(self.nodes.len()) {
                        if attempts.is_hopeless() {
                            return None;
                        }
                        rest(pause, until).await?;
                        pause = pause.saturating_mul(2).min(LAST_PAUSE);
                    }
                }
            }
        }
    }

    /// Whom to ask first: `preferred` where it is connected, else the first of a few that lets us connect.
    ///
    /// A node that is away then costs a moment, not the whole wait for a connection.
    async fn first(&self, preferred: usize, until: Instant) -> usize {
        if self.nodes.get(preferred).is_none_or(Node::is_connected) {
            return preferred;
        }
        let candidates = (preferred..self.nodes.len()).chain(0..preferred).take(CANDIDATES);
        let mut delay = Duration::ZERO;
        let mut dials: Vec<_> = candidates
            .map(|index| {
                let (node, wait) = (self.nodes.get(index), delay);
                delay = delay.saturating_add(STAGGER);
                Box::pin(async move {
                    sleep(wait).await;
                    let made = node?.connect(&self.dialler).await;
                    made.then_some(index)
                })
            })
            .collect();
        let fastest = poll_fn(|context| {
            let mut found = None;
            dials.retain_mut(|dial| match dial.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(made) => {
                    found = found.or(made);
                    false
                }
            });
            match found {
                None if !dials.is_empty() => Poll::Pending,
                found => Poll::Ready(found),
            }
        });
        timeout_at(until, fastest).await.ok().flatten().unwrap_or(preferred)
    }

    /// Asks one node until it answers. None where the deadline has passed or it refuses for good.
    async fn at_one(
        &self,
        node: &Node,
        call: &Call,
        attempts: &mut Attempts<'_>,
        deadline: Duration,
    ) -> Option<Answer> {
        let until = after(deadline);
        let call = Encoded::new(call);
        let mut pause = FIRST_PAUSE;
        loop {
            let (sent, result) = self.ask(node, &call, until).await;
            let Some(result) = result else {
                attempts.cut(0, sent);
                return None;
            };
            match result {
                Ok(answer) => return Some(answer),
                failed @ Err(_) => attempts.ended(0, sent, failed),
            };
            if attempts.is_hopeless() {
                return None;
            }
            rest(pause, until).await?;
            pause = pause.saturating_mul(2).min(LAST_PAUSE);
        }
    }

    /// One attempt, if the deadline leaves time for it, and whether the call was sent in it.
    async fn ask(&self, node: &Node, call: &Encoded, until: Instant) -> (bool, Option<Result<Answer, Failure>>) {
        let sent = AtomicBool::new(false);
        let result = timeout_at(until, node.call(&self.dialler, call, &sent)).await.ok();
        (sent.load(Ordering::Relaxed), result)
    }

    /// Remembers who answers: the leader where it is named, else this node.
    fn prefer(&self, index: usize, answer: &Answer) {
        let leader = match answer {
            Answer::Status(status) => status.leader,
            _ => None,
        };
        let leader = leader.and_then(|slot| self.nodes.iter().position(|node| node.endpoint.slot == slot));
        let best = leader.unwrap_or(index);
        if self.preferred.load(Ordering::Relaxed) != best {
            self.preferred.store(best, Ordering::Relaxed);
        }
    }
}

/// That point in time.
fn after(deadline: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(deadline)
        .or_else(|| now.checked_add(FOREVER))
        .unwrap_or(now)
}

/// Waits about so long; none where the deadline comes first.
async fn rest(pause: Duration, until: Instant) -> Option<()> {
    timeout_at(until, sleep(jittered(pause))).await.ok()
}
