//! Keeps one node as a client sees it: its address, and the link to it if there is one.
//!
//! Invariants: at most one link at a time, and one attempt to make one; whoever waited for an attempt that failed
//! takes its failure and does not repeat it, so ten thousand callers cost one connection timeout.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quinn::{ClientConfig, ConnectionError};
use quipu_ledger::codec;
use tokio::time::{Instant, timeout};

use super::link::{Link, LinkError};
use super::{ClientSettings, Endpoint};
use crate::client_protocol::{Answer, CLIENT_ALPN, Call, CloseCode};
use crate::network::identity::{Identity, SERVER_NAME};
use crate::network::transport::{self, Times};

/// Why a node gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It closed the connection and said why.
    #[error("closed the connection: {}", .0.meaning())]
    Closed(CloseCode),
    /// What came was not the protocol.
    #[error("does not speak this protocol: {0}")]
    Protocol(String),
    /// It could not be reached, or went away, or is silent.
    #[error("{0}")]
    Unreachable(String),
}

/// A call as it is sent, however often.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    /// Whether a long silence is a part of the call.
    patient: bool,
}

impl Encoded {
    pub(crate) fn new(call: &Call) -> Self {
        Self {
            bytes: codec::encode(call),
            patient: matches!(call, Call::Await { .. }),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    link: RwLock<Option<Arc<Link>>>,
    connecting: tokio::sync::Mutex<Option<(Instant, Failure)>>,
}

impl Node {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            link: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(None),
        }
    }

    /// Calls this node once; `sent` becomes true when the node may have taken the call.
    pub(crate) async fn call(&self, dialler: &Dialler, call: &Encoded, sent: &AtomicBool) -> Result<Answer, Failure> {
        let link = self.link(dialler).await?;
        let quiet = (!call.patient).then_some(dialler.settings.request_timeout);
        match link.call(&call.bytes, quiet, sent).await {
            Ok(answer) => Ok(answer),
            Err(LinkError::Quiet(quiet)) => Err(Failure::Unreachable(format!("no answer within {quiet:?}"))),
            Err(LinkError::Gone) => Err(match (link.broken(), link.connection.close_reason()) {
                (Some(detail), _) => Failure::Protocol(detail),
                (None, Some(reason)) => failure(&reason),
                (None, None) => Failure::Unreachable("the connection ended".to_owned()),
            }),
        }
    }

    /// The link in use, or a new one.
    async fn link(&self, dialler: &Dialler) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.live() {
            return Ok(link);
        }
        let asked = Instant::now();
        let mut last = self.connecting.lock().await;
        if let Some(link) = self.live() {
            return Ok(link);
        }
        if let Some((when, failure)) = &*last
            && *when >= asked
        {
            return Err(failure.clone());
        }
        match dialler.connect(&self.endpoint).await {
            Ok(link) => {
                let link = Arc::new(link);
                *self.link.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
                *last = None;
                Ok(link)
            }
            Err(failure) => {
                *last = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Whether there is a link to it.
    pub(crate) fn is_connected(&self) -> bool {
        self.live().is_some()
    }

    /// Makes a link to it where there is none; whether there is one then.
    pub(crate) async fn connect(&self, dialler: &Dialler) -> bool {
        self.link(dialler).await.is_ok()
    }

    fn live(&self) -> Option<Arc<Link>> {
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        link.as_ref().filter(|link| !link.is_gone()).cloned()
    }

    /// Lets go of the link.
    pub(crate) fn forget(&self) {
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What a client needs to connect to any node: its key, its sockets, its patience.
#[derive(Debug)]
pub(crate) struct Dialler {
    pub(crate) settings: ClientSettings,
    identity: Identity,
    /// For IPv4 and for IPv6, bound when first needed.
    sockets: [Mutex<Option<quinn::Endpoint>>; 2],
}

impl Dialler {
    pub(crate) fn new(settings: ClientSettings, identity: Identity) -> Self {
        Self {
            settings,
            identity,
            sockets: [Mutex::new(None), Mutex::new(None)],
        }
    }

    /// A link on which the node has accepted this client: it has let it open its stream.
    async fn connect(&self, to: &Endpoint) -> Result<Link, Failure> {
        let limit = self.settings.connect_timeout;
        let made = timeout(limit, self.dial(to)).await;
        made.unwrap_or_else(|_| Err(Failure::Unreachable(format!("no connection within {limit:?}"))))
    }

    async fn dial(&self, to: &Endpoint) -> Result<Link, Failure> {
        let unreachable = |reason: String| Failure::Unreachable(reason);
        let mut found = tokio::net::lookup_host(&to.address)
            .await
            .map_err(|error| unreachable(format!("its name has no address: {error}")))?;
        let address = found
            .next()
            .ok_or_else(|| unreachable("its name has no address".to_owned()))?;
        let crypto = self
            .identity
            .client(to.key, CLIENT_ALPN)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport::calling(Times {
            idle: self.settings.idle_timeout,
            keep_alive: Some(self.settings.keep_alive),
        })));
        let socket = self
            .socket(address)
            .map_err(|error| unreachable(format!("no socket: {error}")))?;
        let connecting = socket
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| unreachable(error.to_string()))?;
        let connection = connecting.await.map_err(|error| failure(&error))?;
        // A node that refuses this key lets the handshake pass and closes the connection then.
        let (sending, receiving) = connection.open_bi().await.map_err(|error| failure(&error))?;
        Ok(Link::new(connection, sending, receiving, self.settings.silence_timeout))
    }

    fn socket(&self, to: SocketAddr) -> std::io::Result<quinn::Endpoint> {
        let [four, six] = &self.sockets;
        let (slot, any) = if to.is_ipv4() {
            (four, SocketAddr::from(([0; 4], 0)))
        } else {
            (six, SocketAddr::from(([0_u16; 8], 0)))
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &*slot {
            return Ok(socket.clone());
        }
        let runtime = quinn::default_runtime().ok_or_else(|| std::io::Error::other("no tokio runtime"))?;
        let bound = std::net::UdpSocket::bind(any)?;
        let socket = quinn::Endpoint::new(transport::client_endpoint(), None, bound, runtime)?;
        *slot = Some(socket.clone());
        Ok(socket)
    }

    /// Waits until everything that was closed has been told so.
    pub(crate) async fn idle(&self) {
        for slot in &self.sockets {
            let socket = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(socket) = socket {
                socket.close(quinn::VarInt::from_u32(0), b"");
                let _ = timeout(self.settings.connect_timeout, socket.wait_idle()).await;
            }
        }
    }
}

/// What the end of a connection means.
fn failure(error: &ConnectionError) -> Failure {
    match (CloseCode::from_error(error), error) {
        (Some(CloseCode::Protocol), _) => Failure::Protocol("it says that this client does not".to_owned()),
        (Some(code), _) => Failure::Closed(code),
        // Only the watcher of a link closes it while calls wait.
        (None, ConnectionError::TimedOut | ConnectionError::LocallyClosed) => {
            Failure::Unreachable("it has gone silent".to_owned())
        }
        (None, ConnectionError::Reset) => Failure::Unreachable("it was restarted".to_owned()),
        (None, ConnectionError::VersionMismatch) => Failure::Protocol("it speaks another version of QUIC".to_owned()),
        (None, other) => Failure::Unreachable(other.to_string()),
    }
}
