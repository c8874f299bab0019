//! Keeps the connections of a node: one session to every peer, one service connection to every client.
//!
//! Invariants: who connects has proven its key in the TLS handshake, and the key is in the [`Directory`] as long as
//! the connection lives; every `Up` is followed by its `Down` before the next `Up` of that slot; every queue is
//! bounded. A stranger gets no stream: its connection allows none and is closed with [`CloseCode::Stranger`].
//! Leaves the meaning of frames to the replica, and of calls to the [`CallHandler`].

mod accept;
mod bulk;
pub(crate) mod close;
pub(crate) mod dial;
pub(crate) mod frame;
pub(crate) mod identity;
mod peers;
mod queue;
mod service;
mod session;
mod shared;
pub(crate) mod transport;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // an overflow is a failed test
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_consensus::input::SessionId;
use quipu_crypto::id::{NetworkId, Slot};
use quipu_crypto::key::{PublicKey, SecretKey};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use self::identity::Identity;
use self::shared::{Clients, Shared};
use self::transport::Times;
use crate::client_protocol::{Answer, Call, CloseCode};
use crate::peer_protocol::PeerFrame;

pub use self::frame::{FrameError, decode_frame, encode_frame};
pub use self::peers::Peers;

/// How long the last packets of a closing node may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

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
    /// Longest handshake; for a peer, until its first preamble is here as well.
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
        /// When.
        since: Instant,
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

/// The sockets, connections and tasks of a node. Dropping it closes them at once; [`Self::close`] is kinder.
pub struct Network {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    peers: Peers,
    clients: Arc<Clients>,
    closing: watch::Sender<Option<CloseCode>>,
    /// Ends when the last task has ended.
    ended: mpsc::Receiver<()>,
    drain: Duration,
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
        let identity = Identity::new(key).map_err(|error| NetworkError::Key(error.to_string()))?;
        let endpoint = listen(&settings, key, &identity)?;
        let listening = |source| NetworkError::Listen {
            address: settings.listen,
            source,
        };
        let address = endpoint.local_addr().map_err(listening)?;
        let (closing, closed) = watch::channel(None);
        let (alive, ended) = mpsc::channel(1);
        let peers = Peers::new();
        let clients = Arc::<Clients>::default();
        let drain = settings.drain_timeout;
        let shared = Arc::new(Shared {
            settings,
            identity,
            endpoint: endpoint.clone(),
            directory,
            events: peer_events,
            peers: peers.clone(),
            calls,
            clients: Arc::clone(&clients),
            closing: closed,
            _alive: alive,
        });
        tokio::spawn(accept::run(Arc::clone(&shared)));
        tokio::spawn(dial::run(shared));
        Ok(Self {
            endpoint,
            address,
            peers,
            clients,
            closing,
            ended,
            drain,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The way to send to peers.
    #[must_use]
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }

    /// How many connections clients have now.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.count()
    }

    /// Stops listening and dialling, lets waiting calls be answered for a short while, closes every connection.
    ///
    /// Every session still reports its `Down`, unless nobody takes it within 200 ms.
    pub async fn close(mut self, code: CloseCode) {
        self.closing.send_replace(Some(code));
        let _ = timeout(self.drain.saturating_add(CLOSE_TIMEOUT), self.ended.recv()).await;
        self.endpoint.close(code.number(), b"");
        let _ = timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.endpoint.close(CloseCode::Stopping.number(), b"");
    }
}

/// Binds the socket that peers and clients share.
fn listen(settings: &NetworkSettings, key: &SecretKey, identity: &Identity) -> Result<quinn::Endpoint, NetworkError> {
    let crypto = identity.server(&accept::PROTOCOLS);
    let crypto = crypto.map_err(|error| NetworkError::Key(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let times = Times {
        idle: settings.idle_timeout,
        keep_alive: Some(settings.keep_alive),
    };
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    server
        .transport_config(Arc::new(transport::accepting(times)))
        .validation_token_config(tokens)
        .migration(false)
        .max_incoming(settings.max_handshakes);
    let runtime = quinn::default_runtime().ok_or(NetworkError::NoRuntime)?;
    let listening = |source| NetworkError::Listen {
        address: settings.listen,
        source,
    };
    let socket = std::net::UdpSocket::bind(settings.listen).map_err(listening)?;
    quinn::Endpoint::new(transport::endpoint(key), Some(server), socket, runtime).map_err(listening)
}
