//! Two and more networks on loopback, and strangers at their door.

mod decoders;
mod door;
mod peers;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quipu_consensus::input::SessionId;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, NetworkId, Slot, TimeMs};
use quipu_crypto::key::{PublicKey, SecretKey};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::identity::{Identity, SERVER_NAME};
use super::transport::{self, Times};
use super::{CallHandler, Directory, Network, NetworkSettings, PeerAddress, PeerEvent};
use crate::client_protocol::{Answer, Call, CloseCode};
use crate::peer_protocol::PeerFrame;

/// The key of a slot.
pub(crate) fn key(slot: u32) -> SecretKey {
    SecretKey::from_seed([u8::try_from(slot).unwrap(); 32])
}

/// The network that all tests are in.
pub(crate) fn network_id() -> NetworkId {
    NetworkId(Hash::from_bytes([7; 32]))
}

/// Answers nothing but where it stands.
pub(crate) struct Echo;

impl CallHandler for Echo {
    fn call(&self, _caller: PublicKey, call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        Box::pin(async move {
            match call {
                Call::Await { after } => Answer::NotFound { height: after },
                _ => Answer::Pending,
            }
        })
    }
}

/// A runtime that may be dropped within another.
pub(crate) struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A node of a test.
pub(crate) struct Node {
    pub(crate) slot: Slot,
    pub(crate) network: Network,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) directory: watch::Sender<Arc<Directory>>,
    runtime: Own,
}

impl Node {
    pub(crate) fn start_at(listen: SocketAddr, slot: u32, directory: Directory, calls: Arc<dyn CallHandler>) -> Self {
        Self::start_with(NetworkSettings::new(listen, Slot(slot), network_id()), directory, calls)
    }

    pub(crate) fn start_with(settings: NetworkSettings, directory: Directory, calls: Arc<dyn CallHandler>) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(directory));
        let (events, incoming) = mpsc::channel(64);
        let slot = settings.slot;
        // A runtime of its own, so that it can be killed: nothing more is sent then.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let network = Network::start(settings, &key(slot.0), receiver, events, calls).unwrap();
        drop(entered);
        Self {
            slot,
            network,
            events: incoming,
            directory: sender,
            runtime: Own(Some(runtime)),
        }
    }

    /// As kill -9 does: no packet leaves any more, the socket is free again.
    pub(crate) async fn kill(self) -> SocketAddr {
        let address = self.network.local_addr();
        let Self {
            network,
            events,
            directory,
            mut runtime,
            ..
        } = self;
        let runtime = runtime.0.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
        drop((network, events, directory));
        address
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(self, code: CloseCode) -> mpsc::Receiver<PeerEvent> {
        self.network.close(code).await;
        self.events
    }

    pub(crate) fn start(slot: u32) -> Self {
        Self::start_at(loopback(), slot, Directory::default(), Arc::new(Echo))
    }

    pub(crate) fn address(&self) -> PeerAddress {
        PeerAddress {
            slot: self.slot,
            key: key(self.slot.0).public(),
            address: self.network.local_addr().to_string(),
        }
    }

    pub(crate) fn know(&self, peers: &[&Self]) {
        let peers = peers.iter().map(|peer| peer.address()).collect();
        let members = BTreeSet::new();
        self.directory.send_replace(Arc::new(Directory { peers, members }));
    }

    pub(crate) async fn event(&mut self) -> PeerEvent {
        timeout(Duration::from_secs(5), self.events.recv())
            .await
            .expect("an event within 5 s")
            .expect("the network runs")
    }

    pub(crate) async fn up(&mut self) -> SessionId {
        match self.event().await {
            PeerEvent::Up { session, .. } => session,
            other => panic!("{other:?} instead of Up"),
        }
    }

    pub(crate) async fn down(&mut self, of: SessionId) {
        loop {
            match self.event().await {
                PeerEvent::Down { session, .. } => return assert_eq!(session, of),
                PeerEvent::Frame { .. } => {}
                PeerEvent::Up { .. } => panic!("Up instead of Down"),
            }
        }
    }

    pub(crate) async fn frame(&mut self, of: SessionId) -> PeerFrame {
        match self.event().await {
            PeerEvent::Frame { session, frame, .. } => {
                assert_eq!(session, of);
                frame
            }
            other => panic!("{other:?} instead of a frame"),
        }
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Two nodes that are up with each other.
pub(crate) async fn pair() -> (Node, SessionId, Node, SessionId) {
    let (mut one, mut two) = (Node::start(1), Node::start(2));
    two.know(&[&one]);
    one.know(&[&two]);
    let (first, second) = (one.up().await, two.up().await);
    (one, first, two, second)
}

pub(crate) fn clock(time: u64) -> PeerFrame {
    PeerFrame::Clock { time: TimeMs(time) }
}

pub(crate) fn read_height(number: u64) -> PeerFrame {
    PeerFrame::ReadHeight {
        number,
        height: Some(Height(number)),
    }
}

/// A party that does as the test says: a connection with any key, to any protocol.
pub(crate) struct Raw {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
}

impl Raw {
    /// Shows the key of `slot` to `node` and speaks `alpn`.
    pub(crate) async fn connect(node: &Node, slot: u32, alpn: &[u8]) -> Self {
        let identity = Identity::new(&key(slot)).unwrap();
        let tls = identity.client_tls(key(node.slot.0).public(), alpn).unwrap();
        let (endpoint, config) = Self::parts(tls);
        let connecting = endpoint
            .connect_with(config, node.network.local_addr(), SERVER_NAME)
            .unwrap();
        let connection = connecting.await.unwrap();
        Self { endpoint, connection }
    }

    /// A socket and the configuration of a dial, with these TLS parameters.
    pub(crate) fn parts(tls: rustls::ClientConfig) -> (quinn::Endpoint, quinn::ClientConfig) {
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport::dialling(Times {
            idle: Duration::from_secs(5),
            keep_alive: None,
        })));
        (quinn::Endpoint::client(loopback()).unwrap(), config)
    }

    /// Waits for the end and says with which code the node closed.
    pub(crate) async fn code(&self) -> Option<CloseCode> {
        let error = timeout(Duration::from_secs(5), self.connection.closed())
            .await
            .expect("closed within 5 s");
        CloseCode::from_error(&error)
    }

    /// Opens a stream to the node and writes these bytes.
    pub(crate) async fn say(&self, bytes: &[u8]) -> quinn::SendStream {
        let mut stream = self.connection.open_uni().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// Nobody but these members.
pub(crate) fn directory_of(members: &[u32]) -> Directory {
    Directory {
        peers: vec![],
        members: members.iter().map(|member| key(*member).public()).collect(),
    }
}

/// Answers nothing until it is released.
pub(crate) struct Held {
    open: watch::Sender<bool>,
    calls: AtomicUsize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            open: watch::Sender::new(false),
            calls: AtomicUsize::new(0),
        }
    }
}

impl Held {
    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl CallHandler for Held {
    fn call(&self, _caller: PublicKey, _call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            Answer::Pending
        })
    }
}
