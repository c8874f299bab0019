//! Keeps the door: takes connections, learns who is there, and lets in only whom the directory names.
//!
//! Invariants: at most so many handshakes at a time; until a key is found to be allowed its connection has no stream
//! and no window; whoever is not allowed is told so by a typed code and nothing else. A dialling peer is known by its
//! key, never by what it says.

use std::sync::Arc;

use quinn::Incoming;
use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::close::close;
use super::identity::{protocol, proven_key};
use super::session::{self, Peer};
use super::shared::Shared;
use super::{bulk, service, transport};
use crate::client_protocol::{CLIENT_ALPN, CloseCode};
use crate::peer_protocol::{BULK_ALPN, PEER_ALPN};

/// Everything that is spoken at the door.
pub(crate) const PROTOCOLS: [&[u8]; 3] = [PEER_ALPN, BULK_ALPN, CLIENT_ALPN];

/// Takes connections until the node closes.
pub(crate) async fn run(shared: Arc<Shared>) {
    let max = shared.settings.max_handshakes;
    let handshakes = Arc::new(Semaphore::new(max));
    loop {
        let incoming = tokio::select! {
            Some(incoming) = shared.endpoint.accept() => incoming,
            _ = shared.closed() => return,
            else => return,
        };
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        if handshakes.available_permits() < max / 2 && !incoming.remote_address_validated() {
            // Busy: only those who can be reached at their address may cost a handshake.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(admit(Arc::clone(&shared), incoming, permit));
    }
}

/// Finishes a handshake and sends the connection where it belongs.
async fn admit(shared: Arc<Shared>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    let from = connecting.remote_address();
    let connection = match timeout(shared.settings.handshake_timeout, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%from, %error, "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%from, "a handshake took too long");
            return;
        }
    };
    drop(permit);
    let (Some(key), Some(spoken)) = (proven_key(&connection), protocol(&connection)) else {
        close(&connection, CloseCode::Protocol);
        return;
    };
    match spoken.as_slice() {
        CLIENT_ALPN => client(&shared, key, connection).await,
        PEER_ALPN => {
            if let Some(slot) = peer(&shared, key, &connection) {
                let dialler = Peer {
                    slot,
                    key,
                    dialled: None,
                };
                session::run(&shared, dialler, connection).await;
            }
        }
        BULK_ALPN => {
            if let Some(slot) = peer(&shared, key, &connection) {
                bulk::accepted(&shared, slot, &connection).await;
            }
        }
        _ => close(&connection, CloseCode::Protocol),
    }
}

/// Lets a peer in if it is one, and one that dials us.
fn peer(shared: &Shared, key: PublicKey, connection: &quinn::Connection) -> Option<Slot> {
    let slot = shared.directory.borrow().slot_of(&key);
    match slot {
        Some(slot) if slot < shared.settings.slot => {
            transport::welcome_peer(connection);
            Some(slot)
        }
        Some(_) => {
            close(connection, CloseCode::Protocol);
            None
        }
        None => {
            stranger(key, connection);
            None
        }
    }
}

/// Serves a client if it is one.
async fn client(shared: &Arc<Shared>, key: PublicKey, connection: quinn::Connection) {
    let known = shared.directory.borrow().members.contains(&key);
    if !known {
        stranger(key, &connection);
        return;
    }
    let Some(ticket) = shared.clients.admit(key, shared.settings.max_clients) else {
        tracing::warn!(client = %key, from = %connection.remote_address(), "too many clients");
        close(&connection, CloseCode::Full);
        return;
    };
    transport::welcome_client(&connection);
    service::run(shared, key, connection).await;
    drop(ticket);
}

fn stranger(key: PublicKey, connection: &quinn::Connection) {
    tracing::warn!(%key, from = %connection.remote_address(), "a stranger was refused");
    close(connection, CloseCode::Stranger);
}
