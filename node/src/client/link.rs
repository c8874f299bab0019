//! Keeps one connection to a node: calls go out on one stream and their answers come back in any order.
//!
//! Invariants: every call that waits is answered or learns that the link is gone; at most [`MAX_CALLS`] wait at the
//! node, the others wait here, so the node has no reason to say *busy*. No task a call: one writes, one reads, and one
//! watches: nobody says that a machine has died, only its acknowledgements stay away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use quipu_ledger::codec;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client_protocol::{Answer, Call, CloseCode, MAX_RESPONSE_BYTES, MAX_WAITING_REQUESTS, Response};
use crate::network::close::close;
use crate::network::frame::{Batch, FrameError, FrameReader};

/// Most calls that wait at the node. Below its own limit, which also counts calls that were given up here.
const MAX_CALLS: usize = MAX_WAITING_REQUESTS / 4 * 3;
/// Frames between the calls and the writer.
const OUTGOING: usize = 512;
/// How often it is looked whether the node still acknowledges.
const LOOK: Duration = Duration::from_millis(50);
/// After so many looks at which a call waited and nothing came, the node is asked for a sign of life.
const LOOKS_BEFORE_PROBE: u32 = 2;
/// The number of that question; no call has it.
const PROBE: u64 = u64::MAX;
/// So many may be without an answer: a node that acknowledges and answers nothing is asked no more.
const MOST_PROBES: u32 = 16;

/// Why a call on a link has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkError {
    /// The connection is gone.
    Gone,
    /// The node has answered nothing for so long.
    Quiet(Duration),
}

/// See the module. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: quinn::Connection,
    outgoing: mpsc::Sender<Bytes>,
    waiting: Arc<Waiting>,
    places: Semaphore,
    next: AtomicU64,
    tasks: [JoinHandle<()>; 3],
}

/// The calls that wait for their answers.
#[derive(Debug)]
struct Waiting {
    begun: Instant,
    /// When an answer was last heard, in ms after `begun`.
    heard: AtomicU64,
    /// None once the link is gone.
    calls: Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>,
    /// What came that was not the protocol.
    broken: Mutex<Option<String>>,
    /// Probes that were not answered yet. Invariant: at most [`MOST_PROBES`].
    probes: AtomicU32,
}

impl Link {
    /// Takes a connection on which the node has let us open our stream.
    ///
    /// While calls wait, a node that acknowledges nothing for about `silence` is gone.
    pub(crate) fn new(
        connection: quinn::Connection,
        sending: SendStream,
        receiving: RecvStream,
        silence: Duration,
    ) -> Self {
        let waiting = Arc::new(Waiting {
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            calls: Mutex::new(Some(HashMap::new())),
            broken: Mutex::new(None),
            probes: AtomicU32::new(0),
        });
        let (outgoing, frames) = mpsc::channel(OUTGOING);
        let writer = tokio::spawn(write(sending, frames));
        let reader = tokio::spawn(read(receiving, connection.clone(), Arc::clone(&waiting)));
        let watcher = Watcher {
            connection: connection.clone(),
            waiting: Arc::clone(&waiting),
            outgoing: outgoing.clone(),
            silence,
        };
        let watcher = tokio::spawn(watcher.watch());
        Self {
            connection,
            outgoing,
            waiting,
            places: Semaphore::new(MAX_CALLS),
            next: AtomicU64::new(0),
            tasks: [writer, reader, watcher],
        }
    }

    /// Whether nothing can be called on it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.connection.close_reason().is_some() || self.waiting.lock().is_none()
    }

    /// What the node said that is not the protocol.
    pub(crate) fn broken(&self) -> Option<String> {
        self.waiting
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Calls with the encoded `call`; gives up after the node has answered nothing for `quiet`, if that is given.
    ///
    /// A node that answers others is busy with this call, not gone, so it is waited for.
    /// `sent` becomes true when the node may have taken it.
    pub(crate) async fn call(
        &self,
        call: &[u8],
        quiet: Option<Duration>,
        sent: &AtomicBool,
    ) -> Result<Answer, LinkError> {
        let _place = self.places.acquire().await.map_err(|_| LinkError::Gone)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answer) = oneshot::channel();
        self.waiting
            .lock()
            .as_mut()
            .ok_or(LinkError::Gone)?
            .insert(number, sender);
        let _forget = Forget {
            waiting: &self.waiting,
            number,
        };
        // A request in canonical form is its number, then its call.
        let mut frame = codec::encode(&number);
        frame.extend_from_slice(call);
        sent.store(true, Ordering::Relaxed);
        self.outgoing.send(frame.into()).await.map_err(|_| LinkError::Gone)?;
        let Some(quiet) = quiet else {
            return answer.await.map_err(|_| LinkError::Gone);
        };
        let mut since = Duration::ZERO;
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(|_| LinkError::Gone),
                () = sleep(quiet.saturating_sub(since)) => {}
            }
            since = self.waiting.silence();
            if since >= quiet {
                return Err(LinkError::Quiet(quiet));
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.connection.close(quinn::VarInt::from_u32(0), b"");
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, response: Response) {
        if response.number == PROBE {
            // It lives, which says nothing of the calls that wait.
            self.probes.store(0, Ordering::Relaxed);
            return;
        }
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
        let caller = self.lock().as_mut().and_then(|calls| calls.remove(&response.number));
        if let Some(caller) = caller {
            // It may have given up in this moment.
            let _ = caller.send(response.answer);
        }
    }

    /// How long nothing was heard.
    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(heard)
    }
}

/// Forgets a call that is answered or given up.
struct Forget<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(calls) = self.waiting.lock().as_mut() {
            calls.remove(&self.number);
        }
    }
}

/// Writes requests as they come, several at a time.
async fn write(mut stream: SendStream, mut frames: mpsc::Receiver<Bytes>) {
    let mut batch = Batch::default();
    let mut taken = Vec::new();
    loop {
        let count = tokio::select! {
            count = frames.recv_many(&mut taken, OUTGOING) => count,
            _ = stream.stopped() => return,
        };
        for frame in &taken {
            batch.push(frame);
        }
        taken.clear();
        if count == 0 || batch.write(&mut stream).await.is_err() {
            return;
        }
    }
}

/// Ends the link when calls wait and nothing comes back for what was sent, not even an acknowledgement.
///
/// A node that is alive acknowledges at once, however long its answer takes, so this may be much shorter than the wait
/// for an answer. Where a call was acknowledged there is nothing to acknowledge any more, so a quiet node is asked for
/// its status. Looks are counted, not time: where this machine stands still, the node is not to blame.
struct Watcher {
    connection: quinn::Connection,
    waiting: Arc<Waiting>,
    outgoing: mpsc::Sender<Bytes>,
    silence: Duration,
}

impl Watcher {
    async fn watch(self) {
        let (mut heard, mut asked_then) = (0, 0);
        // Looks since something was heard, and since something was asked after that.
        let (mut quiet, mut unanswered) = (0_u32, 0_u32);
        loop {
            sleep(LOOK).await;
            let stats = self.connection.stats();
            // What must be acknowledged: calls, and the probes that ask for a lost acknowledgement or keep alive.
            let asked = stats.frame_tx.stream.saturating_add(stats.frame_tx.ping);
            let waits = self.waiting.lock().as_ref().is_some_and(|calls| !calls.is_empty());
            if stats.udp_rx.datagrams != heard {
                (heard, asked_then) = (stats.udp_rx.datagrams, asked);
                (quiet, unanswered) = (0, 0);
                continue;
            }
            quiet = quiet.saturating_add(1);
            if asked != asked_then {
                unanswered = unanswered.saturating_add(1);
            } else if waits && quiet >= LOOKS_BEFORE_PROBE {
                self.probe();
            }
            let patience = self.silence.max(stats.path.rtt.saturating_mul(4));
            if waits && LOOK.saturating_mul(unanswered) >= patience {
                drop(self.waiting.lock().take());
                self.connection.close(quinn::VarInt::from_u32(0), b"");
                return;
            }
        }
    }

    fn probe(&self) {
        if self.waiting.probes.load(Ordering::Relaxed) >= MOST_PROBES {
            return;
        }
        let mut frame = codec::encode(&PROBE);
        frame.extend_from_slice(&codec::encode(&Call::Status));
        // Where there is no room, there is enough to acknowledge.
        if self.outgoing.try_send(frame.into()).is_ok() {
            self.waiting.probes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Hands answers to their calls until the stream ends; then nobody waits any more.
async fn read(stream: RecvStream, connection: quinn::Connection, waiting: Arc<Waiting>) {
    let mut reader = FrameReader::new(stream, MAX_RESPONSE_BYTES);
    let ended = loop {
        match reader.value::<Response>().await {
            Ok(Some(response)) => waiting.answer(response),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    if let Some(error) = ended.filter(FrameError::is_protocol) {
        *waiting.broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        close(&connection, CloseCode::Protocol);
    }
    // Their senders are dropped: each learns that the link is gone.
    drop(waiting.lock().take());
}
