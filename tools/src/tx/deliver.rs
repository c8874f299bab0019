//! Keeps the sending of many transactions: signed and saved in the order of their source, a window ahead of sending;
//! sent many at a time, those of one key one after another.
//!
//! Invariants: what is signed here is on the disk before it is sent, where it is saved at all; the saved file is always
//! a beginning of the source; one that failed does not stop the others, one whose fate is unknown does.

use std::time::{Duration, Instant};

use quipu_crypto::id::Height;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::result::Outcome;
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use quipu_node::client_protocol::Receipt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::order::{Order, Ticket};
use super::saved::Writer;
use super::settle::{Fate, settle};
use super::sign::Signer;
use crate::failure::{Exit, Failure, rejection_text};
use crate::progress::Progress;

/// Most transactions that are sent and not answered.
const IN_FLIGHT: usize = 1024;
/// Most that are signed and not answered: how far signing runs ahead.
const AHEAD: usize = 4096;
/// Most that are signed and saved at once.
const BATCH: usize = 512;
/// Most failures that are told one by one.
const TOLD: usize = 5;

/// One transaction to send.
pub(super) struct Parcel {
    /// What to call it when something is wrong with it.
    pub(super) label: String,
    pub(super) content: Content,
}

/// What there is of it.
pub(super) enum Content {
    /// To be signed here.
    Wish(Vec<Operation>),
    /// Signed before.
    Signed(SignedTransaction),
}

/// What came of all.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) submitted: u64,
    pub(super) applied: u64,
    pub(super) failed: u64,
    /// Executed before this run, whatever came of it then.
    pub(super) already: u64,
    /// Fate not known when the run ended.
    pub(super) unresolved: u64,
    pub(super) seconds: f64,
    /// The first failures.
    pub(super) reasons: Vec<String>,
    pub(super) last: Option<Receipt>,
}

/// Sends transactions.
pub(super) struct Delivery {
    pub(super) client: Client,
    /// How long each may take.
    pub(super) wait: Duration,
    pub(super) signer: Signer,
    pub(super) save: Option<Writer>,
    /// What was executed up to here was executed before this run.
    pub(super) before: Option<Height>,
    pub(super) progress: Progress,
}

/// A transaction with its name in messages.
type Labelled = (String, SignedTransaction);
type Key = (Namespace, Vec<u8>);

/// A delivery under way.
struct Run<'d> {
    delivery: &'d mut Delivery,
    order: Order<Key, Labelled>,
    flights: JoinSet<(Ticket, String, Result<Fate, Failure>)>,
    summary: Summary,
    failure: Option<Failure>,
}

impl Delivery {
    /// Sends everything that `source` yields; the source is read on a thread of its own.
    pub(super) async fn run<S>(&mut self, source: S) -> (Summary, Result<(), Failure>)
    where
        S: Iterator<Item = Result<Parcel, Failure>> + Send + 'static,
    {
        let begun = Instant::now();
        let (parcels, mut incoming) = mpsc::channel(BATCH);
        let reader = tokio::task::spawn_blocking(move || {
            for parcel in source {
                let last = parcel.is_err();
                if parcels.blocking_send(parcel).is_err() || last {
                    return;
                }
            }
        });
        let mut run = Run {
            delivery: self,
            order: Order::new(),
            flights: JoinSet::new(),
            summary: Summary::default(),
            failure: None,
        };
        run.go(&mut incoming).await;
        let (mut summary, failure) = (run.summary, run.failure);
        drop(incoming);
        let _ended = reader.await;
        summary.seconds = begun.elapsed().as_secs_f64();
        (summary, failure.map_or(Ok(()), Err))
    }
}

impl Run<'_> {
    async fn go(&mut self, incoming: &mut mpsc::Receiver<Result<Parcel, Failure>>) {
        let mut more = true;
        while (self.failure.is_none() && (more || self.order.len() > 0)) || !self.flights.is_empty() {
            let hungry = more && self.failure.is_none() && self.order.len() < AHEAD;
            let mut batch = Vec::new();
            tokio::select! {
                Some(landed) = self.flights.join_next(), if !self.flights.is_empty() => {
                    self.landed(landed);
                    while let Some(landed) = self.flights.try_join_next() {
                        self.landed(landed);
                    }
                }
                count = incoming.recv_many(&mut batch, BATCH), if hungry => more = count > 0,
                else => {}
            }
            if let Err(failure) = self.take_in(batch) {
                self.failure.get_or_insert(failure);
            }
            self.let_go();
        }
    }

    /// Signs and saves what came, in its order.
    fn take_in(&mut self, batch: Vec<Result<Parcel, Failure>>) -> Result<(), Failure> {
        let mut signed: Vec<Labelled> = Vec::with_capacity(batch.len());
        let mut made = Vec::new();
        let mut broken = None;
        for parcel in batch {
            match parcel {
                Err(failure) => broken = Some(failure),
                Ok(Parcel {
                    label,
                    content: Content::Signed(transaction),
                }) => signed.push((label, transaction)),
                Ok(Parcel {
                    label,
                    content: Content::Wish(operations),
                }) => {
                    let transaction = self.delivery.signer.sign(operations, Vec::new())?;
                    made.push(transaction.clone());
                    signed.push((label, transaction));
                }
            }
        }
        if let Some(writer) = &mut self.delivery.save
            && !made.is_empty()
        {
            writer.append(&made)?;
        }
        for (label, transaction) in signed {
            let operations = transaction.body().operations.iter();
            let keys = operations
                .map(|operation| (operation.namespace().clone(), operation.key().to_vec()))
                .collect();
            self.order.push(keys, (label, transaction));
        }
        broken.map_or(Ok(()), Err)
    }

    /// Sends what may be sent.
    fn let_go(&mut self) {
        while self.failure.is_none() && self.flights.len() < IN_FLIGHT {
            let Some((ticket, (label, transaction))) = self.order.pop() else {
                return;
            };
            self.summary.submitted = self.summary.submitted.saturating_add(1);
            let (client, wait) = (self.delivery.client.clone(), self.delivery.wait);
            self.flights
                .spawn(async move { (ticket, label, settle(&client, &transaction, wait).await) });
        }
    }

    fn landed(&mut self, landed: Result<(Ticket, String, Result<Fate, Failure>), tokio::task::JoinError>) {
        let (ticket, label, fate) = match landed {
            Ok(landed) => landed,
            Err(error) => {
                let failure = Failure::general("internal", format!("a task of this program failed: {error}"));
                self.failure.get_or_insert(failure);
                return;
            }
        };
        match fate {
            Ok(fate) => {
                self.count(&label, &fate);
                self.order.done(ticket);
                self.delivery.progress.advance(1);
            }
            Err(failure) => {
                self.summary.unresolved = self.summary.unresolved.saturating_add(1);
                self.failure.get_or_insert(failure);
            }
        }
    }

    fn count(&mut self, label: &str, fate: &Fate) {
        let summary = &mut self.summary;
        let (counter, reason) = match fate {
            Fate::Executed(receipt) => {
                summary.last = Some(*receipt);
                match receipt.outcome {
                    _ if self
                        .delivery
                        .before
                        .is_some_and(|before| receipt.version.height <= before) =>
                    {
                        (&mut summary.already, None)
                    }
                    Outcome::Applied => (&mut summary.applied, None),
                    Outcome::Failed(reason) => (&mut summary.failed, Some(reason.to_string())),
                }
            }
            Fate::Rejected(rejection) => (&mut summary.failed, Some(rejection_text(rejection))),
            Fate::Never => (
                &mut summary.failed,
                Some("it expired, and never will be executed".to_owned()),
            ),
        };
        *counter = counter.saturating_add(1);
        if let Some(reason) = reason
            && summary.reasons.len() < TOLD
        {
            summary.reasons.push(format!("{label}: {reason}"));
        }
    }
}

impl Summary {
    pub(super) fn json(&self) -> Value {
        json!({
            "submitted": self.submitted.to_string(),
            "applied": self.applied.to_string(),
            "failed": self.failed.to_string(),
            "already": self.already.to_string(),
            "unresolved": self.unresolved.to_string(),
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "reasons": self.reasons,
        })
    }

    pub(super) fn text(&self) -> String {
        let unresolved = match self.unresolved {
            0 => String::new(),
            unresolved => format!(", {unresolved} unresolved"),
        };
        format!(
            "{} submitted: {} applied, {} failed, {} already there{unresolved}, in {:.2} s",
            self.submitted, self.applied, self.failed, self.already, self.seconds
        )
    }

    /// The failure that failed transactions are.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.failed == 0 {
            return Ok(());
        }
        let shown = self.reasons.join("\n  ");
        let text = format!(
            "{} of {} transactions had no effect, the first:\n  {shown}",
            self.failed, self.submitted
        );
        Err(Failure::new(Exit::Rejected, "transactions_failed", text))
    }
}
