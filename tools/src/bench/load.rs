//! Keeps the load itself: a closed loop of clients that wait, or an open loop of transactions that become due.
//!
//! Invariant: no transaction is sent twice, and each that was sent is counted once: committed, rejected or unresolved.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use quipu_ledger::result::Outcome;
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::tx::settle::{Fate, settle};

/// Longest latency that is told apart from longer ones, microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// What to send, and how.
pub(super) struct Load {
    pub(super) transactions: Vec<SignedTransaction>,
    pub(super) clients: usize,
    /// Transactions that become due in a second; a closed loop without.
    pub(super) rate: Option<u32>,
    /// When to stop sending; when all are sent, without.
    pub(super) until: Option<Duration>,
    /// How long one may take.
    pub(super) wait: Duration,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) committed: u64,
    pub(super) rejected: u64,
    pub(super) unresolved: u64,
    pub(super) elapsed: Duration,
    /// Microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) ran_dry: bool,
    /// The first that went wrong.
    pub(super) first: Option<Failure>,
}

/// What all senders share.
struct Shared {
    transactions: Vec<SignedTransaction>,
    next: AtomicUsize,
    client: Client,
    wait: Duration,
    begun: Instant,
    until: Option<Duration>,
    measured: Mutex<Measured>,
    progress: Progress,
}

impl Load {
    /// Sends everything and waits for the last answer.
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<Measured, Failure> {
        let latency =
            Histogram::new_with_bounds(1, LONGEST, DIGITS).map_err(|error| Failure::general("internal", error))?;
        let count = self.transactions.len();
        let measured = Measured {
            committed: 0,
            rejected: 0,
            unresolved: 0,
            elapsed: Duration::ZERO,
            latency,
            ran_dry: false,
            first: None,
        };
        let shared = Arc::new(Shared {
            transactions: self.transactions,
            next: AtomicUsize::new(0),
            client: client.clone(),
            wait: self.wait,
            begun: Instant::now(),
            until: self.until,
            measured: Mutex::new(measured),
            progress: Progress::spinner(output, "sending"),
        });
        let mut senders = JoinSet::new();
        match self.rate {
            None => {
                for _ in 0..self.clients {
                    senders.spawn(Arc::clone(&shared).in_turn());
                }
            }
            Some(rate) => Arc::clone(&shared).as_due(rate, self.clients, &mut senders).await,
        }
        while senders.join_next().await.is_some() {}
        let elapsed = shared.begun.elapsed();
        let shared = Arc::into_inner(shared).ok_or_else(|| Failure::general("internal", "a sender is still there"))?;
        let mut measured = shared.measured.into_inner().unwrap_or_else(PoisonError::into_inner);
        measured.elapsed = elapsed;
        measured.ran_dry =
            self.until.is_some_and(|until| self.rate.is_none() && elapsed < until) && shared.next.into_inner() >= count;
        Ok(measured)
    }
}

impl Shared {
    /// One client of a closed loop.
    async fn in_turn(self: Arc<Self>) {
        while self.until.is_none_or(|until| self.begun.elapsed() < until) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(transaction) = self.transactions.get(index) else {
                return;
            };
            self.send(transaction, Instant::now()).await;
        }
    }

    /// An open loop: each is sent when it is due, or as soon after as fewer than `most` wait for their answer.
    async fn as_due(self: Arc<Self>, rate: u32, most: usize, senders: &mut JoinSet<()>) {
        let places = Arc::new(Semaphore::new(most));
        for index in 0..self.transactions.len() {
            let offset = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) / f64::from(rate);
            let due = self
                .begun
                .checked_add(Duration::from_secs_f64(offset))
                .unwrap_or(self.begun);
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let shared = Arc::clone(&self);
            senders.spawn(async move {
                if let Some(transaction) = shared.transactions.get(index) {
                    shared.send(transaction, due).await;
                }
                drop(place);
            });
            while senders.try_join_next().is_some() {}
        }
    }

    async fn send(&self, transaction: &SignedTransaction, since: Instant) {
        let fate = settle(&self.client, transaction, self.wait).await;
        let latency = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let (counter, failure) = match fate {
            Ok(Fate::Executed(receipt)) => match receipt.outcome {
                Outcome::Applied => (&mut measured.committed, None),
                Outcome::Failed(reason) => {
                    let text = format!("transaction {} had no effect: {reason}", receipt.id);
                    (
                        &mut measured.rejected,
                        Some(Failure::new(Exit::Rejected, reason.code(), text)),
                    )
                }
            },
            Ok(Fate::Rejected(rejection)) => (&mut measured.rejected, Some(rejection.into())),
            Ok(Fate::Never) => {
                let text = format!("transaction {} expired before it was executed", transaction.id());
                (
                    &mut measured.rejected,
                    Some(Failure::new(Exit::Rejected, "expired", text)),
                )
            }
            Err(failure) => (&mut measured.unresolved, Some(failure)),
        };
        *counter = counter.saturating_add(1);
        match failure {
            None => measured.latency.saturating_record(latency),
            Some(failure) => {
                measured.first.get_or_insert(failure);
            }
        }
        drop(measured);
        self.progress.advance(1);
    }
}

impl Measured {
    /// A run in which nothing was committed, or something is in doubt, is no measurement.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match &self.first {
            Some(first) if self.committed == 0 || self.unresolved > 0 => Err(first.clone()),
            _ => Ok(()),
        }
    }
}
