//! Keeps the load itself: a closed loop of clients that wait, or an open loop of steps that become due.
//!
//! Invariants: each step is begun once and counted once; in an open loop its latency begins when it was due. What a
//! busy node refuses is sent again by a client of a closed loop, when the node says, and by nobody in an open one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quipu_ledger::result::Outcome;
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call, Consistency, Entry, Receipt, Rejection};
use quipu_node::clock;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::accounts::{self, Account};
use super::schedule::Schedule;
use super::supply::{Plan, Step, Supply, Taken};
use super::tally::{End, Tally};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{READ_TIMEOUT, unexpected};
use crate::tx::settle::{Fate, settle};

/// How long a sender waits where nothing is signed yet.
const NOTHING_READY: Duration = Duration::from_millis(1);
/// Longest sleep of whoever looks at the timetable.
const LOOK: Duration = Duration::from_millis(5);

/// What to send, and how.
pub(super) struct Load {
    /// Never empty; steps go over one after the other.
    pub(super) connections: Vec<Client>,
    pub(super) plan: Arc<Plan>,
    pub(super) supply: Supply,
    pub(super) clients: usize,
    /// Steps that become due in a second; a closed loop without.
    pub(super) rate: Option<u32>,
    /// When a closed loop stops sending; when all are sent, without.
    pub(super) until: Option<Duration>,
    /// How fresh reads are.
    pub(super) consistency: Consistency,
    /// How long one may take.
    pub(super) wait: Duration,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) supply: Supply,
    /// When the first step was begun, ms since 1970.
    pub(super) began: u64,
    pub(super) elapsed: Duration,
    /// Everything that was made for a run by time was sent before the time was over.
    pub(super) ran_dry: bool,
}

/// What all senders share.
struct Shared {
    load: Load,
    /// Steps that were begun.
    steps: AtomicUsize,
    begun: Instant,
    tally: Mutex<Tally>,
    progress: Progress,
}

impl Load {
    /// Sends everything and waits for the last answer.
    pub(super) async fn run(self, output: Output) -> Result<Measured, Failure> {
        let (rate, clients, until) = (self.rate, self.clients, self.until);
        let schedule = rate.map(|rate| Schedule::new(rate, self.plan.count));
        let tally = Mutex::new(Tally::new()?);
        for client in &self.connections {
            // Connects, and lets the client learn who leads.
            client.call(Call::Status, READ_TIMEOUT).await?;
        }
        self.supply.go_on();
        let began = clock::wall().get();
        let shared = Arc::new(Shared {
            load: self,
            steps: AtomicUsize::new(0),
            begun: Instant::now(),
            tally,
            progress: Progress::spinner(output, "sending"),
        });
        let mut senders = JoinSet::new();
        match schedule {
            None => {
                for _ in 0..clients {
                    senders.spawn(Arc::clone(&shared).in_turn());
                }
            }
            Some(schedule) => Arc::clone(&shared).as_due(schedule, clients, &mut senders).await,
        }
        while senders.join_next().await.is_some() {}
        let elapsed = shared.begun.elapsed();
        let shared = Arc::into_inner(shared).ok_or_else(|| Failure::general("internal", "a sender is still there"))?;
        Ok(Measured {
            tally: shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner),
            ran_dry: rate.is_none() && until.is_some_and(|until| elapsed < until),
            supply: shared.load.supply,
            began,
            elapsed,
        })
    }
}

impl Shared {
    /// One client of a closed loop.
    async fn in_turn(self: Arc<Self>) {
        while self.load.until.is_none_or(|until| self.begun.elapsed() < until) {
            let Some(step) = self.next().await else { return };
            let begun = Instant::now();
            let end = self.perform(step, true).await;
            self.count(end, begun.elapsed());
        }
    }

    /// The next step, as soon as there is one.
    async fn next(&self) -> Option<Step> {
        loop {
            match self.load.supply.take() {
                Taken::Step(step) => return Some(step),
                Taken::NotYet => tokio::time::sleep(NOTHING_READY).await,
                Taken::End => return None,
            }
        }
    }

    /// An open loop: each is sent when it is due, or as soon after as fewer than `most` wait for their answer.
    async fn as_due(self: Arc<Self>, schedule: Schedule, most: usize, senders: &mut JoinSet<()>) {
        let places = Arc::new(Semaphore::new(most));
        let (due, mut dues) = mpsc::unbounded_channel();
        let begun = self.begun;
        thread::spawn(move || tell_when_due(schedule, begun, &due));
        let mut number = 0_u64;
        while let Some(upto) = dues.recv().await {
            while number < upto {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let Some(step) = self.next().await else { return };
                let (shared, this) = (Arc::clone(&self), number);
                shared.lagged(schedule.latency(this, begun.elapsed()));
                senders.spawn(async move {
                    let end = shared.perform(step, false).await;
                    shared.count(end, schedule.latency(this, begun.elapsed()));
                    drop(place);
                });
                while senders.try_join_next().is_some() {}
                number = number.saturating_add(1);
            }
        }
    }

    /// The client whose turn it is.
    fn client(&self) -> Result<&Client, Failure> {
        let clients = &self.load.connections;
        let step = self.steps.fetch_add(1, Ordering::Relaxed);
        let client = step.checked_rem(clients.len()).and_then(|index| clients.get(index));
        client.ok_or_else(|| Failure::general("internal", "there is no connection"))
    }

    async fn perform(&self, step: Step, patient: bool) -> End {
        match step {
            Step::Put(transaction) => self.send(&transaction, patient).await,
            Step::Read(key) => match self.read(key).await {
                Ok(_) => End::Read,
                Err(failure) => End::Unread(failure),
            },
            Step::Transfer { from, to } => self.transfer(from, to, patient).await,
        }
    }

    /// Reads both accounts, then sends a transaction that counts only while they are as they were read.
    async fn transfer(&self, from: u64, to: u64, patient: bool) -> End {
        let plan = &self.load.plan;
        let (from, to) = tokio::join!(self.account(plan.space.key(from)), self.account(plan.space.key(to)));
        let signed = from.and_then(|from| to.and_then(|to| accounts::sign(plan, from, to)));
        match signed {
            Ok(signed) => self.send(&signed, patient).await,
            // Nothing was sent, because of a read that is counted.
            Err(failure) => End::Refused(failure),
        }
    }

    async fn account(&self, key: Vec<u8>) -> Result<Account, Failure> {
        let begun = Instant::now();
        let entry = self.read(key).await;
        let account = entry.and_then(|entry| {
            entry.map_or_else(
                || Err(Failure::general("internal", "an account of this run is gone")),
                Account::of,
            )
        });
        let end = match &account {
            Ok(_) => End::Read,
            Err(failure) => End::Unread(failure.clone()),
        };
        self.count(end, begun.elapsed());
        account
    }

    async fn read(&self, key: Vec<u8>) -> Result<Option<Entry>, Failure> {
        let call = Call::Get {
            namespace: self.load.plan.namespace.clone(),
            key,
            at: None,
            consistency: self.load.consistency,
        };
        match self.client()?.call(call, self.load.wait).await? {
            Answer::Value { entry, .. } => Ok(entry),
            Answer::Unavailable(unavailable) => Err(unavailable.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a transaction until its fate is known. What a busy node has refused is sent again only by the `patient`.
    async fn send(&self, transaction: &SignedTransaction, patient: bool) -> End {
        let begun = Instant::now();
        let client = match self.client() {
            Ok(client) => client,
            Err(failure) => return End::Refused(failure),
        };
        loop {
            let left = self.load.wait.saturating_sub(begun.elapsed());
            let busy = match client.offer(transaction, left).await {
                Ok(Answer::Executed(receipt)) => return executed(&receipt),
                Ok(Answer::Rejected(Rejection::Busy { retry_after_ms })) => retry_after_ms,
                Ok(Answer::Rejected(rejection)) if !matches!(rejection, Rejection::Expired { .. }) => {
                    return End::Refused(rejection.into());
                }
                _ => return self.settled(client, transaction, left).await,
            };
            self.note(|tally| tally.hint(busy));
            let pause = Duration::from_millis(busy);
            if !patient || left <= pause {
                return End::Refused(Rejection::Busy { retry_after_ms: busy }.into());
            }
            self.note(|tally| tally.busy = tally.busy.saturating_add(1));
            tokio::time::sleep(pause).await;
        }
    }

    /// Nobody said what has become of it: sends it again until somebody does.
    async fn settled(&self, client: &Client, transaction: &SignedTransaction, wait: Duration) -> End {
        self.note(|tally| tally.resent = tally.resent.saturating_add(1));
        match settle(client, transaction, wait).await {
            Ok(Fate::Executed(receipt)) => executed(&receipt),
            Ok(Fate::Rejected(rejection)) => End::Refused(rejection.into()),
            Ok(Fate::Never) => {
                let text = format!("transaction {} expired before it was executed", transaction.id());
                End::Refused(Failure::new(Exit::Rejected, "expired", text))
            }
            Err(failure) => End::Unresolved(failure),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn lagged(&self, lag: Duration) {
        let lag = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.note(|tally| tally.lag.saturating_record(lag));
    }

    fn count(&self, end: End, latency: Duration) {
        let elapsed = self.begun.elapsed();
        self.note(|tally| tally.count(end, elapsed, latency));
        self.progress.advance(1);
    }
}

fn executed(receipt: &Receipt) -> End {
    match receipt.outcome {
        Outcome::Applied => End::Applied,
        Outcome::Failed(reason) => {
            let text = format!("transaction {} had no effect: {reason}", receipt.id);
            End::Failed(Failure::new(Exit::Rejected, reason.code(), text))
        }
    }
}

/// Says how many are due, whenever that changes. A thread of its own: its sleep is finer than the runtime's timer.
fn tell_when_due(schedule: Schedule, begun: Instant, due: &mpsc::UnboundedSender<u64>) {
    let mut told = 0_u64;
    while told < schedule.total() {
        let elapsed = begun.elapsed();
        let upto = schedule.due_by(elapsed);
        if upto > told {
            told = upto;
            if due.send(upto).is_err() {
                return;
            }
        }
        thread::sleep(schedule.due(told).saturating_sub(begun.elapsed()).min(LOOK));
    }
}
