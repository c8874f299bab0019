//! Keeps the answers to clients' calls: submissions go to admission, reads to the store, once they are confirmed.
//!
//! Invariant: a linearizable read is served from a state that was confirmed after the call came in. Nothing here
//! writes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use quipu_crypto::id::{Height, TimeMs, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::operation::{Namespace, Version};
use quipu_ledger::store::{ReadView, Store, StoreError};
use tokio::sync::oneshot;

use crate::admit;
use crate::client_protocol::{
    Answer, Call, Consistency, Entry, MAX_PAGE_ENTRIES, MAX_RESPONSE_BYTES, MEASURES_VERSION, Measures, Unavailable,
    VersionEntry,
};
use crate::clock;
use crate::damage::Damages;
use crate::door::Door;
use crate::network::CallHandler;
use crate::replica::Event;
use crate::run::RunEvent;
use crate::stages::Stages;
use crate::status::SharedStatus;
use crate::usage::Usage;

/// Longest that a submission waits at this node before it is answered *pending*.
const SUBMIT_WAIT: Duration = Duration::from_secs(30);
/// Longest that `Await` waits for something new.
const AWAIT_WAIT: Duration = Duration::from_secs(5);
/// Most bytes of values in one page.
const MAX_PAGE_BYTES: usize = MAX_RESPONSE_BYTES / 2;

/// Serves the calls of clients.
pub struct ClientService {
    /// The executed state.
    pub store: Store,
    /// To admission.
    pub door: Door,
    /// To the run loop.
    pub events: Sender<RunEvent>,
    /// What is known of the replica.
    pub status: Arc<SharedStatus>,
    /// Whom damaged blocks are told to.
    pub damages: Damages,
    /// Where times are counted.
    pub stages: Arc<Stages>,
}

impl CallHandler for ClientService {
    fn call(&self, caller: PublicKey, call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(self.answer(caller, call))
    }
}

impl ClientService {
    async fn answer(&self, caller: PublicKey, call: Call) -> Answer {
        match call {
            Call::Submit { transaction } => self.submit(caller, transaction).await,
            Call::Lookup { id, expires_at } => self.find(id, expires_at).await,
            Call::Get {
                namespace,
                key,
                at,
                consistency,
            } => self.read(consistency, || self.get(&namespace, &key, at)).await,
            Call::Scan {
                namespace,
                prefix,
                after,
                limit,
                consistency,
            } => {
                self.read(consistency, || {
                    self.scan(&namespace, &prefix, after.as_ref().map(|key| key.as_slice()), limit)
                })
                .await
            }
            Call::History {
                namespace,
                key,
                after,
                limit,
                consistency,
            } => {
                self.read(consistency, || self.history(&namespace, &key, after, limit))
                    .await
            }
            Call::Block { height } => self.served(|| self.block(height)),
            Call::Await { after } => {
                let mut executed = self.status.watch_executed();
                let _ = tokio::time::timeout(AWAIT_WAIT, executed.wait_for(|height| *height > after)).await;
                self.served(|| self.block(None))
            }
            Call::Status => Answer::Status(Box::new(self.status.get())),
            Call::Measures => Answer::Measures(Box::new(self.measures())),
        }
    }

    fn measures(&self) -> Measures {
        Measures {
            version: MEASURES_VERSION,
            slot: self.status.slot(),
            usage: Usage::now(),
            stages: self.stages.read(),
        }
    }

    async fn submit(&self, caller: PublicKey, transaction: Vec<u8>) -> Answer {
        // What is ordered elsewhere this node would not see, so it could not answer.
        if let Some(node) = self.status.disk_full() {
            return Answer::Unavailable(Unavailable::DiskFull { node });
        }
        let begun = Instant::now();
        let (answer, answered) = oneshot::channel();
        self.door.offer(caller, transaction, answer);
        match tokio::time::timeout(SUBMIT_WAIT, answered).await {
            Ok(Ok(answer)) => {
                if matches!(answer, Answer::Executed(_)) {
                    self.stages.node.service.record(begun.elapsed(), 1);
                }
                answer
            }
            // Whoever would have answered is gone.
            Ok(Err(_)) => Answer::Unavailable(Unavailable::Stopping),
            Err(_) => Answer::Pending,
        }
    }

    /// What is found, or can never come, is certain here and now. That it is not there is said only of a state that has
    /// everything that was committed when the call came in: a node that restarts has yet to execute again.
    async fn find(&self, id: TransactionId, expires_at: Option<TimeMs>) -> Answer {
        match self.served(|| self.lookup(id, expires_at)) {
            Answer::Possible { .. } | Answer::NotFound { .. } => {
                self.read(Consistency::Linearizable, || self.lookup(id, expires_at))
                    .await
            }
            certain => certain,
        }
    }

    /// Serves a read from a state that is as fresh as it must be.
    async fn read(&self, consistency: Consistency, read: impl FnOnce() -> Result<Answer, StoreError>) -> Answer {
        let begun = Instant::now();
        match self.confirm(consistency).await {
            Ok(()) => {
                let confirmed = Instant::now();
                let waited = confirmed.saturating_duration_since(begun);
                self.stages.read.queue.record(waited, 1);
                let answer = self.served(read);
                self.stages.read.service.record(confirmed.elapsed(), 1);
                answer
            }
            Err(unavailable) => Answer::Unavailable(unavailable),
        }
    }

    /// Waits until this node has executed everything that was committed when the call came in.
    async fn confirm(&self, consistency: Consistency) -> Result<(), Unavailable> {
        if consistency == Consistency::Local {
            return Ok(());
        }
        // A follower that takes no blocks does not get to see what was committed since.
        if let Some(node) = self.status.disk_full().filter(|_| !self.status.leads()) {
            return Err(Unavailable::DiskFull { node });
        }
        let (answer, answered) = oneshot::channel();
        self.events
            .try_send(RunEvent::Read(answer))
            .map_err(|_| Unavailable::Busy)?;
        match answered.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unavailable::NoLeader),
            Err(_) => Err(Unavailable::Stopping),
        }
    }

    fn served(&self, read: impl FnOnce() -> Result<Answer, StoreError>) -> Answer {
        // A read may wait for the disk; in place, so that the connections of this worker go on elsewhere meanwhile.
        tokio::task::block_in_place(read).unwrap_or_else(|error| {
            tracing::error!(%error, "a read failed");
            self.damages.tell(&error);
            Answer::Unavailable(Unavailable::Store(error.to_string()))
        })
    }

    fn lookup(&self, id: TransactionId, expires_at: Option<TimeMs>) -> Result<Answer, StoreError> {
        let view = self.store.view()?;
        let height = view.height();
        if let Some(receipt) = admit::find(&self.store, id)? {
            return Ok(Answer::Executed(receipt));
        }
        let Some(expires_at) = expires_at else {
            return Ok(Answer::NotFound { height });
        };
        // The view is older than the look into the index: whatever it has outlived can no longer come.
        let time = self.store.header(height)?.map_or(TimeMs::ZERO, |header| header.time);
        if time >= expires_at {
            return Ok(Answer::Never { height });
        }
        if clock::wall() >= expires_at {
            let _busy = self
                .events
                .try_send(RunEvent::Replica(Event::Expire { time: expires_at }));
        }
        Ok(Answer::Possible { time, height })
    }

    fn get(&self, namespace: &Namespace, key: &[u8], at: Option<Height>) -> Result<Answer, StoreError> {
        let view = self.store.view()?;
        let height = view.height();
        let found = match at {
            Some(at) if at > height => {
                let text = format!("height {at} is not executed here yet, the last one is {height}");
                return Ok(Answer::Unavailable(Unavailable::Invalid(text)));
            }
            Some(at) => view.get_at(namespace, key, at)?,
            None => view.get(namespace, key)?,
        };
        Ok(Answer::Value {
            entry: found.map(entry),
            height: at.unwrap_or(height),
        })
    }

    fn scan(
        &self,
        namespace: &Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Answer, StoreError> {
        let view = self.store.view()?;
        let page = view.scan(namespace, prefix, after, page_entries(limit), MAX_PAGE_BYTES)?;
        let next = page.next.map(serde_bytes::ByteBuf::from);
        Ok(Answer::Entries {
            entries: page.items.into_iter().map(entry).collect(),
            next,
            height: view.height(),
        })
    }

    fn history(
        &self,
        namespace: &Namespace,
        key: &[u8],
        after: Option<Version>,
        limit: u32,
    ) -> Result<Answer, StoreError> {
        let view = self.store.view()?;
        let page = view.history(namespace, key, after, page_entries(limit), MAX_PAGE_BYTES)?;
        let versions = page
            .items
            .into_iter()
            .map(|item| VersionEntry {
                version: item.version,
                id: item.id,
                value: item.value.map(serde_bytes::ByteBuf::from),
            })
            .collect();
        Ok(Answer::Versions {
            versions,
            next: page.next,
            height: view.height(),
        })
    }

    fn block(&self, height: Option<Height>) -> Result<Answer, StoreError> {
        let view = self.store.view()?;
        let executed = view.height();
        let wanted = height.unwrap_or(executed);
        if wanted > executed {
            return Ok(Answer::Block {
                block: None,
                outcomes: Vec::new(),
                height: executed,
            });
        }
        let block = self
            .store
            .block(wanted)?
            .map(|block| serde_bytes::ByteBuf::from(block.encode()));
        let outcomes = outcomes(&view, wanted)?;
        Ok(Answer::Block {
            block,
            outcomes,
            height: executed,
        })
    }
}

fn outcomes(view: &ReadView<'_>, height: Height) -> Result<Vec<quipu_ledger::result::Outcome>, StoreError> {
    Ok(view.results(height)?.map_or_else(Vec::new, |record| record.outcomes))
}

fn page_entries(limit: u32) -> usize {
    usize::try_from(limit.clamp(1, MAX_PAGE_ENTRIES)).unwrap_or(1)
}

fn entry(found: quipu_ledger::state::Entry) -> Entry {
    Entry {
        key: found.key,
        value: found.value,
        version: found.version,
    }
}
