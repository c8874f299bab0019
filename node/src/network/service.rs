//! Keeps one client's connection: one bidirectional stream of its own, requests in, answers out as they come.
//!
//! Invariants: at most [`MAX_WAITING_REQUESTS`] requests and [`REQUEST_BUDGET`] of their bytes wait, further ones are
//! answered *busy*; a call begins only when its longest answer has room in [`ANSWER_BUDGET`], and keeps what its
//! answer takes until that is written. Several answers leave in one write. Knows no ledger: the handler does.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use quipu_crypto::key::PublicKey;
use quipu_ledger::codec;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::CallHandler;
use super::close::close;
use super::frame::{Batch, FrameReader};
use super::session::{End, end_of};
use super::shared::Shared;
use crate::client_protocol::{
    Answer, Call, CloseCode, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_WAITING_REQUESTS, Rejection, Request, Response,
    Unavailable,
};
use crate::limits::RETRY_AFTER_MS;

/// Most bytes of requests that wait on one connection.
const REQUEST_BUDGET: usize = 64 * 1024 * 1024;
/// Most bytes of answers that are made or wait to be written on one connection.
const ANSWER_BUDGET: usize = 32 * 1024 * 1024;
/// Most calls of one connection that wait for something to happen ([`Call::Await`]).
const MAX_AWAITS: usize = 64;
/// Longest answer that is neither a value nor a page nor a block.
const SMALL_ANSWER: usize = 4 * 1024;
/// Longest answer to [`Call::Measures`]: every bucket of every stage full, and every thread named.
const LONGEST_MEASURES: usize = 128 * 1024;
/// Answers between the calls and the writer.
const OUTGOING: usize = 512;

const _: () = assert!(MAX_WAITING_REQUESTS * SMALL_ANSWER <= ANSWER_BUDGET);

/// What one connection may hold at a time.
struct Budget {
    waiting: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    awaits: Arc<Semaphore>,
}

/// Given back when dropped.
struct Charge {
    _waiting: OwnedSemaphorePermit,
    _request: OwnedSemaphorePermit,
    _await: Option<OwnedSemaphorePermit>,
}

impl Budget {
    fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING_REQUESTS)),
            requests: Arc::new(Semaphore::new(REQUEST_BUDGET)),
            answers: Arc::new(Semaphore::new(ANSWER_BUDGET)),
            awaits: Arc::new(Semaphore::new(MAX_AWAITS)),
        }
    }

    /// A place for a request, or none where the client must come back later.
    fn charge(&self, call: &Call, bytes: usize) -> Option<Charge> {
        let bytes = u32::try_from(bytes).ok()?;
        let waits = matches!(call, Call::Await { .. });
        Some(Charge {
            _waiting: Arc::clone(&self.waiting).try_acquire_owned().ok()?,
            _request: Arc::clone(&self.requests).try_acquire_many_owned(bytes).ok()?,
            _await: if waits {
                Some(Arc::clone(&self.awaits).try_acquire_owned().ok()?)
            } else {
                None
            },
        })
    }
}

/// An answer on its way to the writer.
struct Outgoing {
    frame: Bytes,
    _held: Option<(Charge, OwnedSemaphorePermit)>,
}

/// Serves a client until it goes, is no longer allowed, or the node closes.
pub(crate) async fn run(shared: &Arc<Shared>, caller: PublicKey, connection: quinn::Connection) {
    let stream = tokio::select! {
        stream = connection.accept_bi() => stream,
        code = shared.closed() => {
            close(&connection, code);
            return;
        }
        () = shared.until_not(|directory| directory.members.contains(&caller)) => {
            close(&connection, CloseCode::Stranger);
            return;
        }
    };
    let Ok((sending, receiving)) = stream else {
        return;
    };
    let (outgoing, answers) = mpsc::channel(OUTGOING);
    let mut writer = tokio::spawn(write(sending, answers));
    let mut calls = JoinSet::new();
    let mut client = Service {
        caller,
        handler: Arc::clone(&shared.calls),
        budget: Budget::new(),
        outgoing,
    };
    let reader = FrameReader::new(receiving, MAX_REQUEST_BYTES);
    let (end, drain) = tokio::select! {
        end = client.read(reader, &mut calls) => (end, end.is_none()),
        _ = &mut writer => (None, false),
        code = shared.closed() => (Some(code), code == CloseCode::Stopping),
        () = shared.until_not(|directory| directory.members.contains(&caller)) => (Some(CloseCode::Stranger), false),
    };
    if drain && connection.close_reason().is_none() {
        let drained = async {
            while calls.join_next().await.is_some() {}
            drop(client);
            let _ = (&mut writer).await;
        };
        let _ = timeout(shared.settings.drain_timeout, drained).await;
    }
    calls.shutdown().await;
    writer.abort();
    match end {
        Some(code) => close(&connection, code),
        // The client has ended its stream: it is done.
        None => connection.close(VarInt::from_u32(0), b""),
    }
}

/// The parts of a connection that its calls share.
struct Service {
    caller: PublicKey,
    handler: Arc<dyn CallHandler>,
    budget: Budget,
    outgoing: mpsc::Sender<Outgoing>,
}

impl Service {
    /// Begins a call for each request until the stream ends: none where it ended well.
    async fn read(&mut self, mut reader: FrameReader<RecvStream>, calls: &mut JoinSet<()>) -> End {
        loop {
            while calls.try_join_next().is_some() {}
            let bytes = match reader.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return None,
                Err(error) => return end_of(&error),
            };
            let request = match codec::decode::<Request>(&bytes, MAX_REQUEST_BYTES) {
                Ok(request) => request,
                Err(error) => {
                    tracing::warn!(client = %self.caller, %error, "a request that is none");
                    return Some(CloseCode::Protocol);
                }
            };
            match self.budget.charge(&request.call, bytes.len()) {
                Some(charge) => self.begin(request, charge, calls),
                None => self.busy(request).await?,
            }
        }
    }

    fn begin(&self, request: Request, charge: Charge, calls: &mut JoinSet<()>) {
        let handler = Arc::clone(&self.handler);
        let outgoing = self.outgoing.clone();
        let answers = Arc::clone(&self.budget.answers);
        let caller = self.caller;
        calls.spawn(async move {
            let Request { number, call } = request;
            let Ok(mut room) = answers.acquire_many_owned(longest_answer(&call)).await else {
                return;
            };
            let answer = handler.call(caller, call).await;
            let frame = encode(number, answer);
            // What the answer does not take is free for others at once.
            let spare = room.num_permits().saturating_sub(frame.len());
            drop(room.split(spare));
            let held = Some((charge, room));
            // Fails only where the connection is gone.
            let _ = outgoing.send(Outgoing { frame, _held: held }).await;
        });
    }

    /// Tells the client to come back later. Waits where it does not take its answers: then it is read no further.
    async fn busy(&self, request: Request) -> Option<()> {
        let answer = match request.call {
            Call::Submit { .. } => Answer::Rejected(Rejection::Busy {
                retry_after_ms: RETRY_AFTER_MS,
            }),
            _ => Answer::Unavailable(Unavailable::Busy),
        };
        let frame = encode(request.number, answer);
        self.outgoing.send(Outgoing { frame, _held: None }).await.ok()
    }
}

/// Longest answer that a call can get, bytes.
fn longest_answer(call: &Call) -> u32 {
    let bytes = match call {
        Call::Submit { .. } | Call::Lookup { .. } | Call::Status => SMALL_ANSWER,
        Call::Measures => LONGEST_MEASURES,
        Call::Get { .. } => MAX_TRANSACTION_BYTES.saturating_add(SMALL_ANSWER),
        // It may wait long, so it does not hold what its answer may take; how many there are is bounded instead.
        Call::Await { .. } => SMALL_ANSWER,
        Call::Scan { .. } | Call::History { .. } | Call::Block { .. } => MAX_RESPONSE_BYTES,
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The bytes of a response; an answer that is too long becomes one that says so.
fn encode(number: u64, answer: Answer) -> Bytes {
    let bytes = codec::encode(&Response { number, answer });
    if bytes.len() <= MAX_RESPONSE_BYTES {
        return bytes.into();
    }
    let detail = format!("its answer has {} bytes; ask for less at a time", bytes.len());
    let answer = Answer::Unavailable(Unavailable::Invalid(detail));
    codec::encode(&Response { number, answer }).into()
}

/// Writes answers until no more can come or the stream is gone.
async fn write(mut stream: SendStream, mut answers: mpsc::Receiver<Outgoing>) {
    let mut batch = Batch::default();
    let mut taken = Vec::new();
    loop {
        let count = tokio::select! {
            count = answers.recv_many(&mut taken, OUTGOING) => count,
            _ = stream.stopped() => return,
        };
        if count == 0 {
            break;
        }
        for outgoing in &taken {
            batch.push(&outgoing.frame);
        }
        if batch.write(&mut stream).await.is_err() {
            return;
        }
        taken.clear();
    }
    // All is written: wait until it has also arrived.
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}
