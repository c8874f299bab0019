//! Performs everything and decides nothing: the loop that owns the replica, feeds it what happened and does what it
//! asks.
//!
//! Invariant: what waits behind the `gate` for a write leaves as soon as that write is reported durable, before the
//! replica hears of it. Leaves every decision to `replica`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use quipu_consensus::engine::Role;
use quipu_consensus::input::{PersistSeq, SessionId};
use quipu_consensus::output::{Class, LogOperation};
use quipu_crypto::id::{Slot, Term};
use quipu_ledger::store::Store;
use quipu_ledger::transaction::VerifiedTransaction;
use tokio::sync::oneshot;

use crate::admit;
use crate::chain_block::ChainBlock;
use crate::client_protocol::{Answer, Rejection, Unavailable};
use crate::clock::{self, SystemEntropy, Ticks};
use crate::damage::Damages;
use crate::door::Bringer;
use crate::executor::{Execution, Fetch};
use crate::gate::Gate;
use crate::inspect::Known;
use crate::limits::{EVENTS_AT_ONCE, TICK_MS};
use crate::log_writer::Write;
use crate::network::Peers;
use crate::passage::Passage;
use crate::replica::{Action, Event, ExecutedBlock, Moment, Origin, Replica, Ticket};
use crate::stages::Stages;
use crate::status::SharedStatus;
use crate::youngest::Youngest;

/// Something for the loop.
#[derive(Debug)]
pub enum RunEvent {
    /// For the replica as it is.
    Replica(Event),
    /// A verified transaction, with the client that waits for it.
    Submit {
        /// The transaction.
        transaction: VerifiedTransaction,
        /// Who brings it.
        bringer: Bringer,
        /// When it was admitted.
        since: Instant,
    },
    /// A block was executed.
    Executed {
        /// What came of it.
        block: ExecutedBlock,
        /// When.
        since: Instant,
    },
    /// A client's read; answered with whether it is confirmed.
    Read(oneshot::Sender<bool>),
    /// Something broke that the node cannot go on without.
    Broken(String),
    /// Stop: hand over, then end.
    Stop,
}

/// Where the loop sends what is to be done.
pub struct Hands {
    /// To the log writer.
    pub log: Sender<Write>,
    /// To the executor.
    pub executor: Sender<Execution>,
    /// To the reader of old blocks.
    pub fetcher: Sender<Fetch>,
    /// To the inspector: what the chain here ends with.
    pub appended: Youngest<Known>,
    /// To the peers.
    pub peers: Peers,
    /// Index of executed transactions.
    pub store: Store,
    /// What was found damaged, and repaired.
    pub damages: Damages,
    /// What others see.
    pub status: Arc<SharedStatus>,
    /// Where times are counted.
    pub stages: Arc<Stages>,
}

/// A message on its way out.
struct Leaving {
    to: Slot,
    session: SessionId,
    class: Class,
    frame: Bytes,
}

/// The loop.
pub struct Runner {
    replica: Replica,
    hands: Hands,
    ticks: Ticks,
    gate: Gate<Leaving>,
    passage: Passage,
    /// When the turn of the loop began.
    turn: Instant,
    next_ticket: u64,
    submitters: HashMap<Ticket, oneshot::Sender<Answer>>,
    readers: HashMap<Ticket, oneshot::Sender<bool>>,
    stop: Option<Stopping>,
    /// Role, term and leader as last told to the log.
    told: Option<(Role, Term, Option<Slot>)>,
    /// Whether the clock was wrong, as last told to the log.
    clock_wrong: bool,
}

/// A stop under way.
struct Stopping {
    until: u64,
    reason: Result<(), String>,
}

/// How long a stopping leader waits for another to take over, ms.
const HANDOVER_MS: u64 = 1_500;

impl Runner {
    /// A loop around `replica`.
    #[must_use]
    pub fn new(replica: Replica, ticks: Ticks, hands: Hands) -> Self {
        Self {
            replica,
            ticks,
            gate: Gate::default(),
            passage: Passage::new(Arc::clone(&hands.stages)),
            turn: Instant::now(),
            hands,
            next_ticket: 0,
            submitters: HashMap::new(),
            readers: HashMap::new(),
            stop: None,
            told: None,
            clock_wrong: false,
        }
    }

    /// Runs until the node stops.
    ///
    /// # Errors
    /// What broke, where it did not stop by request.
    pub fn run(mut self, events: &Receiver<RunEvent>) -> Result<(), String> {
        let mut ticked = self.ticks.now();
        loop {
            let first = match events.recv_timeout(Duration::from_millis(TICK_MS)) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err("every other part of the node is gone".to_owned()),
            };
            self.turn = Instant::now();
            let mut actions = Vec::new();
            let mut taken = 0_u64;
            for event in first.into_iter().chain(events.try_iter().take(EVENTS_AT_ONCE)) {
                self.take(event, &mut actions);
                taken = taken.saturating_add(1);
            }
            let now = self.ticks.now();
            if now.0.saturating_sub(ticked.0) >= TICK_MS {
                ticked = now;
                self.tell(Event::Tick, &mut actions);
                self.show();
            }
            let mut entropy = SystemEntropy;
            let mut moment = Moment {
                now,
                wall: clock::wall(),
                entropy: &mut entropy,
            };
            self.replica.flow(&mut moment, &mut actions);
            actions.into_iter().for_each(|action| self.perform(action));
            self.hands.stages.replica.served(self.turn, taken);
            if let Some(reason) = self.ended(now.0) {
                return reason;
            }
        }
    }

    fn tell(&mut self, event: Event, actions: &mut Vec<Action>) {
        let mut entropy = SystemEntropy;
        let mut moment = Moment {
            now: self.ticks.now(),
            wall: clock::wall(),
            entropy: &mut entropy,
        };
        self.replica.handle(&mut moment, event, actions);
    }

    fn take(&mut self, event: RunEvent, actions: &mut Vec<Action>) {
        match event {
            RunEvent::Replica(event) => {
                if let Event::Engine { message, .. } = &event {
                    self.passage.heard(message, self.turn);
                }
                if let Event::Persisted { seq } = &event {
                    self.passage.persisted(*seq, self.turn);
                    self.gate
                        .open(*seq)
                        .for_each(|leaving| send(&self.hands.peers, leaving));
                }
                self.tell(event, actions);
            }
            RunEvent::Submit {
                transaction,
                bringer,
                since,
            } => {
                self.hands.stages.replica.queue.record(self.waited(since), 1);
                if self.replica.leads() {
                    self.passage.submitted(transaction.id(), self.turn);
                }
                let origin = match bringer {
                    Bringer::Client { key, answer } => {
                        let ticket = self.ticket();
                        self.submitters.insert(ticket, answer);
                        Origin::Client { key, ticket }
                    }
                    Bringer::Peer { slot, session } => Origin::Peer { slot, session },
                };
                self.tell(Event::Submit { origin, transaction }, actions);
            }
            RunEvent::Executed { block, since } => {
                let count = u64::try_from(block.results.len()).unwrap_or(u64::MAX);
                self.hands.stages.answer.queue.record(self.waited(since), count);
                self.tell(Event::Executed(block), actions);
            }
            RunEvent::Read(answer) => {
                let ticket = self.ticket();
                self.readers.insert(ticket, answer);
                self.tell(Event::Read { ticket }, actions);
            }
            RunEvent::Broken(reason) => self.halt(reason),
            RunEvent::Stop => {
                let until = self.ticks.now().0.saturating_add(HANDOVER_MS);
                self.stop.get_or_insert(Stopping { until, reason: Ok(()) });
                self.tell(Event::Stop, actions);
            }
        }
    }

    fn waited(&self, since: Instant) -> Duration {
        self.turn.saturating_duration_since(since)
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        Ticket(self.next_ticket)
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Persist { seq, operations, sync } => self.persist(seq, operations, sync),
            Action::Send {
                to,
                session,
                class,
                frame,
                after,
            } => {
                let leaving = Leaving {
                    to,
                    session,
                    class,
                    frame,
                };
                if let Some(leaving) = self.gate.pass(after, leaving) {
                    send(&self.hands.peers, leaving);
                }
            }
            Action::Execute { height, block } => {
                let since = Instant::now();
                self.passage.committed(height, since);
                self.hand(|hands| hands.executor.send(Execution { height, block, since }).is_ok());
            }
            Action::Fetch {
                fetch,
                first,
                last,
                max_bytes,
            } => {
                self.hand(|hands| {
                    hands
                        .fetcher
                        .send(Fetch {
                            fetch,
                            first,
                            last,
                            max_bytes,
                        })
                        .is_ok()
                });
            }
            Action::Answer { ticket, receipt } => self.answer(ticket, Answer::Executed(receipt)),
            Action::AnswerFromIndex { ticket, id } => {
                let answer = match admit::find(&self.hands.store, id) {
                    Ok(Some(receipt)) => Answer::Executed(receipt),
                    Ok(None) => Answer::Pending,
                    Err(error) => Answer::Unavailable(Unavailable::Store(error.to_string())),
                };
                self.answer(ticket, answer);
            }
            Action::Reject { ticket, rejection } => self.reject(ticket, rejection),
            Action::ReadNow { ticket, confirmed } => {
                if let Some(reader) = self.readers.remove(&ticket) {
                    let _gone = reader.send(confirmed);
                }
            }
            Action::Evidence(evidence) => {
                tracing::error!(held = %evidence.held, shown = %evidence.shown, by = %evidence.by,
                    "evidence: two blocks of one height and term");
            }
            Action::Distrusted { leader } => {
                tracing::error!(%leader, "the leader names another result of execution than was found here");
            }
            Action::Halt(reason) => self.halt(reason),
        }
    }

    fn persist(&mut self, seq: PersistSeq, operations: Vec<LogOperation<ChainBlock>>, sync: bool) {
        for operation in &operations {
            if let LogOperation::Append(blocks) = operation {
                let known = blocks.iter().filter_map(Known::of);
                known.for_each(|known| self.hands.appended.push(known));
            }
        }
        let write = Write {
            seq,
            transactions: self.passage.appended(seq, &operations, self.replica.leads()),
            operations,
            sync,
            since: Instant::now(),
        };
        self.hand(|hands| hands.log.send(write).is_ok());
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(submitter) = self.submitters.remove(&ticket) {
            let _gone = submitter.send(answer);
        }
    }

    fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        self.answer(ticket, Answer::Rejected(rejection));
    }

    /// Gives work to another thread; one that is gone has said why.
    fn hand(&mut self, give: impl FnOnce(&Hands) -> bool) {
        if !give(&self.hands) {
            self.halt("a part of the node is gone".to_owned());
        }
    }

    /// The first reason is the cause: what breaks after it breaks because of it.
    fn halt(&mut self, reason: String) {
        if matches!(self.stop, Some(Stopping { reason: Err(_), .. })) {
            tracing::debug!(reason, "this broke too");
            return;
        }
        tracing::error!(reason, "the node halts");
        self.stop = Some(Stopping {
            until: 0,
            reason: Err(reason),
        });
    }

    /// Whether it is time to end: at once when broken, otherwise when another leads or nobody took over in time.
    fn ended(&mut self, now: u64) -> Option<Result<(), String>> {
        let leads = self.replica.hands_over();
        let due = self
            .stop
            .as_ref()
            .is_some_and(|stop| stop.reason.is_err() || !leads || now >= stop.until);
        due.then(|| self.stop.take().map_or(Ok(()), |stop| stop.reason))
    }

    /// Shows the replica's status to the others.
    fn show(&mut self) {
        let status = self.replica.status();
        let standing = (status.role, status.term, status.leader);
        if self.told != Some(standing) {
            self.told = Some(standing);
            let leader = status
                .leader
                .map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            tracing::info!(role = role(status.role), term = %status.term, leader, tip = %status.tip, "role");
        }
        let clock = self.replica.clock();
        if clock.wrong != self.clock_wrong {
            self.clock_wrong = clock.wrong;
            let ahead_ms = clock.ahead_ms;
            if clock.wrong {
                tracing::error!(
                    ahead_ms,
                    "the clock is too far from the peers': this node must not lead"
                );
            } else {
                tracing::info!(ahead_ms, "the clock agrees with the peers' again");
            }
        }
        let executed = self.replica.executed();
        let waiting = u64::try_from(self.replica.waiting()).unwrap_or(u64::MAX);
        let tally = self.hands.damages.tally();
        self.hands.status.set(|node| {
            node.role = role(status.role).to_owned();
            node.term = status.term;
            node.leader = status.leader;
            node.tip = status.tip;
            node.commit = status.commit.height;
            node.executed = executed;
            node.waiting = waiting;
            node.clock = clock;
            node.disk.lost = node
                .disk
                .lost
                .filter(|_| status.role == Role::Waiting || status.role == Role::Recovering);
            node.disk.damaged = tally.damaged.load(Ordering::Relaxed);
            node.disk.repaired = tally.repaired.load(Ordering::Relaxed);
            node.disk.scrubbed = tally.scrubbed.load(Ordering::Relaxed);
            node.disk.passed = tally.passed();
        });
    }
}

fn send(peers: &Peers, leaving: Leaving) {
    let Leaving {
        to,
        session,
        class,
        frame,
    } = leaving;
    if !peers.send(to, session, class, frame) {
        tracing::trace!(%to, "a message was dropped: the session is gone or its queue is full");
    }
}

/// As operators say it.
fn role(role: Role) -> &'static str {
    match role {
        Role::Waiting => "waiting",
        Role::Recovering => "recovering",
        Role::Follower => "follower",
        Role::PreCandidate | Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
