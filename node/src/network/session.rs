//! Keeps one session with a peer from its first stream to its `Down`, the same on both sides.
//!
//! Two unidirectional streams each way, control before log, each beginning with a preamble. A session is up when the
//! other side's first preamble has been read: that, not the handshake, is its consent. Invariants: frames of a stream
//! are reported in order; a full event queue stops the streams; no frame is reported after its session's `Down`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bulk::{self, Lane};
use super::close::close;
use super::frame::{Batch, FrameError, FrameReader, decode_frame, framed};
use super::peers::{Entered, Session, SessionTag};
use super::queue::Queue;
use super::shared::Shared;
use super::{PeerAddress, PeerEvent};
use crate::client_protocol::CloseCode;
use crate::peer_protocol::{MAX_PEER_FRAME_BYTES, PEER_VERSION, Preamble};

/// Longest preamble, bytes.
pub(crate) const MAX_PREAMBLE_BYTES: usize = 64;
/// Label of the keying material that names a session.
const TAG_LABEL: &[u8] = b"quipu session";
/// How long the end of a session may wait for its event once the node closes.
const LAST_EVENT: Duration = Duration::from_millis(200);

/// Why a connection to a peer ended. None where the other side went away or closed it.
pub(crate) type End = Option<CloseCode>;

/// Who is at the other end.
pub(crate) struct Peer {
    pub(crate) slot: Slot,
    pub(crate) key: PublicKey,
    /// Where it was dialled; none where it has dialled.
    pub(crate) dialled: Option<PeerAddress>,
}

/// The streams of a session, the first preamble of the other side read.
struct Streams {
    control: SendStream,
    log: SendStream,
    first: FrameReader<RecvStream>,
}

/// Runs a session on a proven connection until it ends. True where it was up.
pub(crate) async fn run(shared: &Arc<Shared>, peer: Peer, connection: quinn::Connection) -> bool {
    let opened = timeout(shared.settings.handshake_timeout, open(shared, peer.slot, &connection)).await;
    let streams = match opened {
        Ok(Ok(streams)) => streams,
        Ok(Err(end)) => {
            if let Some(code) = end {
                close(&connection, code);
            }
            return false;
        }
        Err(_) => {
            close(&connection, CloseCode::Protocol);
            return false;
        }
    };
    let mut tag = SessionTag::default();
    if connection.export_keying_material(&mut tag, TAG_LABEL, b"").is_err() {
        close(&connection, CloseCode::Protocol);
        return false;
    }
    let (lanes, lane) = mpsc::channel(1);
    let (entered, replaced) = shared.peers.enter(peer.slot, tag, connection.clone(), lanes);
    if let Some(replaced) = replaced {
        close(&replaced.connection, CloseCode::Replaced);
        replaced.ended().await;
    }
    up_and_down(shared, &peer, &entered, streams, lane).await;
    true
}

/// Reports the session up, drives it, reports it down.
async fn up_and_down(
    shared: &Arc<Shared>,
    peer: &Peer,
    entered: &Entered,
    streams: Streams,
    lanes: mpsc::Receiver<Lane>,
) {
    let (slot, session) = (peer.slot, &entered.session);
    let id = session.id;
    let up = PeerEvent::Up { slot, session: id };
    tokio::select! {
        sent = shared.events.send(up) => if sent.is_err() {
            close(&session.connection, CloseCode::Stopping);
            return;
        },
        code = shared.closed() => {
            close(&session.connection, code);
            return;
        }
    }
    tracing::info!(peer = %slot, session = id.0, from = %session.connection.remote_address(), "peer is up");
    let end = drive(shared, peer, session, streams, lanes).await;
    if let Some(code) = end {
        close(&session.connection, code);
    }
    let reason = session.connection.close_reason();
    let reason = reason.map_or_else(|| "open".to_owned(), |reason| reason.to_string());
    tracing::info!(peer = %slot, session = id.0, reason, code = ?end, "peer is down");
    entered.leave();
    let down = shared.events.send(PeerEvent::Down { slot, session: id });
    tokio::pin!(down);
    tokio::select! {
        _ = &mut down => {}
        _ = shared.closed() => {
            // Its reader may be the one who waits for the network to close.
            let _ = timeout(LAST_EVENT, down).await;
        }
    }
}

/// Opens this side's streams and reads the other side's first preamble.
async fn open(shared: &Shared, slot: Slot, connection: &quinn::Connection) -> Result<Streams, End> {
    let preamble = framed(&preamble(shared, slot));
    let control = begin(connection, &preamble).await.ok_or(None)?;
    // Fails only on a stream that is gone, which the next use shows.
    let _ = control.set_priority(1);
    let log = begin(connection, &preamble).await.ok_or(None)?;
    let first = connection.accept_uni().await.map_err(|_| None)?;
    let first = accept(shared, slot, first).await?;
    Ok(Streams { control, log, first })
}

/// What this node says first on every stream to that peer.
pub(crate) fn preamble(shared: &Shared, to: Slot) -> Preamble {
    Preamble {
        version: PEER_VERSION,
        network: shared.settings.network,
        from: shared.settings.slot,
        to,
    }
}

/// Opens a stream and writes its first bytes.
pub(crate) async fn begin(connection: &quinn::Connection, first: &Bytes) -> Option<SendStream> {
    let mut stream = connection.open_uni().await.ok()?;
    stream.write_all(first).await.ok()?;
    Some(stream)
}

/// Takes a stream of the other side: its preamble must be the one that is expected of it.
pub(crate) async fn accept(shared: &Shared, from: Slot, stream: RecvStream) -> Result<FrameReader<RecvStream>, End> {
    let mut reader = FrameReader::new(stream, MAX_PREAMBLE_BYTES);
    let expected = Preamble {
        from,
        to: shared.settings.slot,
        ..preamble(shared, from)
    };
    match reader.value::<Preamble>().await {
        Ok(Some(given)) if given == expected => Ok(reader),
        Ok(Some(given)) => {
            tracing::warn!(peer = %from, ?given, ?expected, "a stream for another version, network or node");
            Err(Some(CloseCode::Protocol))
        }
        Ok(None) => Err(Some(CloseCode::Protocol)),
        Err(error) => Err(end_of(&error)),
    }
}

/// What a failed read means for its connection.
pub(crate) fn end_of(error: &FrameError) -> End {
    error.is_protocol().then_some(CloseCode::Protocol)
}

/// Moves frames until something ends the session. All its tasks are gone when this returns.
async fn drive(
    shared: &Arc<Shared>,
    peer: &Peer,
    session: &Arc<Session>,
    streams: Streams,
    mut lanes: mpsc::Receiver<Lane>,
) -> End {
    let mut main = JoinSet::new();
    let Streams { control, log, first } = streams;
    let writing = Arc::clone(session);
    main.spawn(async move { write(control, &writing.control).await });
    let writing = Arc::clone(session);
    main.spawn(async move { write(log, &writing.log).await });
    main.spawn(read(Arc::clone(shared), Arc::clone(session), first));
    main.spawn(read_second(Arc::clone(shared), Arc::clone(session)));
    if let Some(address) = peer.dialled.clone() {
        main.spawn(bulk::keep(Arc::clone(shared), Arc::clone(session), address));
    }
    let mut second = Second::default();
    let end = loop {
        tokio::select! {
            Some(ended) = main.join_next() => break ended.unwrap_or(None),
            Some(lane) = lanes.recv() => second.replace(shared, session, lane).await,
            Some(ended) = second.tasks.join_next(), if !second.tasks.is_empty() => {
                second.stop(ended.unwrap_or(None).unwrap_or(CloseCode::Replaced)).await;
            }
            () = shared.until_not(|directory| directory.slot_of(&peer.key) == Some(peer.slot)) => {
                break Some(CloseCode::Stranger);
            }
            code = shared.closed() => break Some(code),
        }
    };
    main.shutdown().await;
    second.stop(end.unwrap_or(CloseCode::Replaced)).await;
    end
}

/// The bulk connection in use, if there is one.
#[derive(Default)]
struct Second {
    connection: Option<quinn::Connection>,
    tasks: JoinSet<End>,
}

impl Second {
    async fn replace(&mut self, shared: &Arc<Shared>, session: &Arc<Session>, lane: Lane) {
        self.stop(CloseCode::Replaced).await;
        let Lane {
            connection,
            stream,
            reader,
        } = lane;
        self.connection = Some(connection);
        let writing = Arc::clone(session);
        self.tasks.spawn(async move { write(stream, &writing.bulk).await });
        self.tasks.spawn(read(Arc::clone(shared), Arc::clone(session), reader));
    }

    async fn stop(&mut self, code: CloseCode) {
        if let Some(connection) = self.connection.take() {
            close(&connection, code);
        }
        self.tasks.shutdown().await;
    }
}

/// Writes what is queued until the stream ends.
async fn write(mut stream: SendStream, queue: &Queue) -> End {
    let mut batch = Batch::default();
    loop {
        let frames = tokio::select! {
            frames = queue.take() => frames,
            _ = stream.stopped() => return None,
        };
        for frame in &frames {
            batch.push(frame);
        }
        if batch.write(&mut stream).await.is_err() {
            return None;
        }
    }
}

/// Takes the peer's second stream, for the log, and reads it.
async fn read_second(shared: Arc<Shared>, session: Arc<Session>) -> End {
    let stream = session.connection.accept_uni().await.ok()?;
    match accept(&shared, session.slot, stream).await {
        Ok(reader) => read(shared, session, reader).await,
        Err(end) => end,
    }
}

/// Reports the frames of one stream until it ends.
async fn read(shared: Arc<Shared>, session: Arc<Session>, mut reader: FrameReader<RecvStream>) -> End {
    reader.set_cap(MAX_PEER_FRAME_BYTES);
    loop {
        let bytes = match reader.next().await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Some(CloseCode::Protocol),
            Err(error) => return end_of(&error),
        };
        let frame = match decode_frame(&bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(peer = %session.slot, %error, "a frame that is none");
                return Some(CloseCode::Protocol);
            }
        };
        let event = PeerEvent::Frame {
            from: session.slot,
            session: session.id,
            frame,
            since: Instant::now(),
        };
        shared.events.send(event).await.ok()?;
    }
}
