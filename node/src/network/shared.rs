//! Keeps what every connection of a node needs: who may connect, where events go, when to stop.
//!
//! Invariant: whoever holds it is a task of this network; [`super::Network::close`] waits until nobody does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use tokio::sync::{mpsc, watch};

use super::identity::Identity;
use super::peers::Peers;
use super::transport::Times;
use super::{CallHandler, Directory, NetworkSettings, PeerAddress, PeerEvent};
use crate::client_protocol::CloseCode;

/// Most connections of one client key at a time.
const MAX_CONNECTIONS_PER_CLIENT: usize = 64;

/// See the module.
pub(crate) struct Shared {
    pub(crate) settings: NetworkSettings,
    pub(crate) identity: Identity,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) directory: watch::Receiver<Arc<Directory>>,
    pub(crate) events: mpsc::Sender<PeerEvent>,
    pub(crate) peers: Peers,
    pub(crate) calls: Arc<dyn CallHandler>,
    pub(crate) clients: Arc<Clients>,
    /// Some once the node closes.
    pub(crate) closing: watch::Receiver<Option<CloseCode>>,
    /// Closed when the last task has let go of this.
    pub(crate) _alive: mpsc::Sender<()>,
}

impl Shared {
    /// Times of connections between peers, and of those that clients make.
    pub(crate) const fn times(&self) -> Times {
        Times {
            idle: self.settings.idle_timeout,
            keep_alive: Some(self.settings.keep_alive),
        }
    }

    /// The code to close with, once the node closes.
    pub(crate) async fn closed(&self) -> CloseCode {
        let mut closing = self.closing.clone();
        // Where the network was dropped without closing, the sender is gone.
        let code = closing.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        code.unwrap_or(CloseCode::Stopping)
    }

    /// Waits until the directory no longer holds what a connection rests on.
    pub(crate) async fn until_not(&self, holds: impl Fn(&Directory) -> bool + Send) {
        let mut directory = self.directory.clone();
        if directory.wait_for(|directory| !holds(directory)).await.is_err() {
            // Its owner is gone and the membership stays as it is.
            std::future::pending::<()>().await;
        }
    }
}

impl Directory {
    /// The peer of that slot.
    pub(crate) fn peer(&self, slot: Slot) -> Option<&PeerAddress> {
        self.peers.iter().find(|peer| peer.slot == slot)
    }

    /// The slot of a peer's key.
    pub(crate) fn slot_of(&self, key: &PublicKey) -> Option<Slot> {
        self.peers.iter().find(|peer| peer.key == *key).map(|peer| peer.slot)
    }
}

/// How many connections clients have.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_key: HashMap<PublicKey, usize>,
}

impl Clients {
    /// How many there are now.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Counts a connection in, until the ticket is dropped; none where there are too many.
    pub(crate) fn admit(self: &Arc<Self>, key: PublicKey, max: usize) -> Option<ClientTicket> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_key.get(&key).copied().unwrap_or_default();
        if counts.all >= max || own >= MAX_CONNECTIONS_PER_CLIENT {
            return None;
        }
        counts.all = counts.all.saturating_add(1);
        counts.by_key.insert(key, own.saturating_add(1));
        Some(ClientTicket {
            clients: Arc::clone(self),
            key,
        })
    }
}

/// A place among the clients.
#[derive(Debug)]
pub(crate) struct ClientTicket {
    clients: Arc<Clients>,
    key: PublicKey,
}

impl Drop for ClientTicket {
    fn drop(&mut self) {
        let mut counts = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        let left = counts
            .by_key
            .get(&self.key)
            .copied()
            .unwrap_or_default()
            .saturating_sub(1);
        if left == 0 {
            counts.by_key.remove(&self.key);
        } else {
            counts.by_key.insert(self.key, left);
        }
    }
}
