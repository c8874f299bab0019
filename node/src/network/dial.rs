//! Keeps this node's way to the peers that it dials: those with a greater slot; the others dial it.
//!
//! One direction a pair, so there is never a question which of two connections counts: the newest. A restarted peer
//! is found again within a second: its socket resets connections that it has forgotten, and an unanswered dial is
//! repeated at once, while a refused one backs off.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::ClientConfig;
use quipu_crypto::id::Slot;
use tokio::time::{Instant, sleep, timeout};

use super::session::{self, Peer};
use super::shared::Shared;
use super::{PeerAddress, transport};
use crate::client_protocol::CloseCode;
use crate::network::identity::SERVER_NAME;
use crate::peer_protocol::PEER_ALPN;

/// Longest wait for the answer to a dial; the first packet is repeated after 60 ms, 180 ms, 420 ms.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause after a dial that failed, and the pause after one that nobody answered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A session that lasted so long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(2);

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("'{address}' has no address: {reason}")]
    Resolve { address: String, reason: String },
    #[error("no answer")]
    Silent,
    #[error("closed with {0:?}")]
    Closed(CloseCode),
    #[error("{0}")]
    Refused(String),
}

/// Dials every peer that is this node's to dial, also those that come later.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut directory = shared.directory.clone();
    let mut begun = BTreeSet::new();
    loop {
        let now = Arc::clone(&directory.borrow_and_update());
        for peer in &now.peers {
            if peer.slot > shared.settings.slot && begun.insert(peer.slot) {
                tokio::spawn(keep(Arc::clone(&shared), peer.slot));
            }
        }
        tokio::select! {
            changed = directory.changed() => if changed.is_err() {
                return;
            },
            _ = shared.closed() => return,
        }
    }
}

/// Keeps a session with one peer as long as the node runs.
async fn keep(shared: Arc<Shared>, slot: Slot) {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    loop {
        let peer = tokio::select! {
            peer = known(&shared, slot) => peer,
            _ = shared.closed() => return,
        };
        let dialled = tokio::select! {
            dialled = connect(&shared, &peer, PEER_ALPN) => dialled,
            _ = shared.closed() => return,
        };
        pause = match dialled {
            Ok(connection) => {
                let begun = Instant::now();
                let peer = Peer {
                    slot,
                    key: peer.key,
                    dialled: Some(peer),
                };
                let kept = connection.clone();
                let was_up = session::run(&shared, peer, connection).await;
                said = if was_up {
                    String::new()
                } else {
                    tell(slot, &refusal(&kept), &said)
                };
                if was_up && begun.elapsed() > GOOD_SESSION {
                    FIRST_PAUSE
                } else {
                    longer(pause)
                }
            }
            Err(error) => {
                let next = if matches!(error, DialError::Silent) {
                    FIRST_PAUSE
                } else {
                    longer(pause)
                };
                said = tell(slot, &error, &said);
                next
            }
        };
        tokio::select! {
            () = sleep(jittered(pause)) => {}
            _ = shared.closed() => return,
        }
    }
}

/// Says why a peer is not reached, once until the reason changes.
fn tell(slot: Slot, error: &DialError, said: &str) -> String {
    let text = error.to_string();
    if text != said {
        tracing::warn!(peer = %slot, reason = text, "peer is not reached; dialling on");
    }
    text
}

/// Why a connection that was made was not accepted.
fn refusal(connection: &quinn::Connection) -> DialError {
    match connection.close_reason() {
        Some(error) => dial_error(&error),
        None => DialError::Silent,
    }
}

fn dial_error(error: &quinn::ConnectionError) -> DialError {
    match (CloseCode::from_error(error), error) {
        (Some(code), _) => DialError::Closed(code),
        (None, quinn::ConnectionError::TimedOut | quinn::ConnectionError::Reset) => DialError::Silent,
        (None, other) => DialError::Refused(other.to_string()),
    }
}

/// Waits until the peer is in the directory.
async fn known(shared: &Shared, slot: Slot) -> PeerAddress {
    loop {
        let found = shared.directory.borrow().peer(slot).cloned();
        if let Some(peer) = found {
            return peer;
        }
        shared.until_not(|directory| directory.peer(slot).is_none()).await;
    }
}

/// A connection to the peer's address on which the peer has shown its key; it may still refuse ours.
pub(crate) async fn connect(shared: &Shared, peer: &PeerAddress, alpn: &[u8]) -> Result<quinn::Connection, DialError> {
    let crypto = shared.identity.client(peer.key, alpn);
    let crypto = crypto.map_err(|error| DialError::Refused(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport::dialling(shared.times())));
    let dial = async {
        let address = resolve(&peer.address, shared.settings.listen).await?;
        let connecting = shared.endpoint.connect_with(config, address, SERVER_NAME);
        let connecting = connecting.map_err(|error| DialError::Refused(error.to_string()))?;
        connecting.await.map_err(|error| dial_error(&error))
    };
    timeout(DIAL_TIMEOUT, dial).await.unwrap_or(Err(DialError::Silent))
}

/// The first address of that name that the socket can reach.
pub(crate) async fn resolve(address: &str, from: SocketAddr) -> Result<SocketAddr, DialError> {
    let failed = |reason: String| DialError::Resolve {
        address: address.to_owned(),
        reason,
    };
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|error| failed(error.to_string()))?;
    found
        .find(|found| found.is_ipv4() == from.is_ipv4())
        .ok_or_else(|| failed("none of the right IP version".to_owned()))
}

fn longer(pause: Duration) -> Duration {
    pause.saturating_mul(2).min(LAST_PAUSE)
}

/// Between half of `pause` and all of it, so that nodes do not act in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let chance = quipu_crypto::random::bytes::<1>().unwrap_or([u8::MAX]);
    let share = f64::from(u8::from_be_bytes(chance)) / f64::from(u8::MAX);
    pause.mul_f64(share.midpoint(1.0))
}
