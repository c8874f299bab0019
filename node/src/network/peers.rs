//! Keeps the sessions: which connection stands for which peer now, and what waits to be sent on it.
//!
//! Invariants: at most one session a slot; numbers of sessions only grow; the newest connection of a peer wins,
//! because a peer dials only when it has none. Leaves driving a session to `session`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quipu_consensus::input::SessionId;
use quipu_consensus::output::Class;
use quipu_crypto::id::Slot;
use tokio::sync::{mpsc, watch};

use super::bulk::Lane;
use super::queue::Queue;
use crate::peer_protocol::MAX_PEER_FRAME_BYTES;

/// Most bytes that wait on a session for its control stream.
const CONTROL_QUEUE: usize = 16 * 1024 * 1024;
/// For its log stream.
const LOG_QUEUE: usize = 32 * 1024 * 1024;
/// For its bulk connection.
const BULK_QUEUE: usize = 16 * 1024 * 1024;

const _: () = assert!(CONTROL_QUEUE > 2 * MAX_PEER_FRAME_BYTES);
const _: () = assert!(BULK_QUEUE > 2 * MAX_PEER_FRAME_BYTES);

/// Names a session to both of its ends and to nobody else: keying material of its TLS connection.
pub(crate) type SessionTag = [u8; 32];

/// One connection to a peer, as long as it is the one in use.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) slot: Slot,
    pub(crate) id: SessionId,
    pub(crate) tag: SessionTag,
    pub(crate) connection: quinn::Connection,
    pub(crate) control: Queue,
    pub(crate) log: Queue,
    pub(crate) bulk: Queue,
    /// Takes the second connection, whoever made it.
    pub(crate) lanes: mpsc::Sender<Lane>,
    /// Becomes true after its `Down` has been reported.
    ended: watch::Sender<bool>,
}

impl Session {
    /// Waits until its `Down` has been reported.
    pub(crate) async fn ended(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn queue(&self, class: Class) -> &Queue {
        match class {
            Class::Control => &self.control,
            Class::Log => &self.log,
            Class::Bulk => &self.bulk,
        }
    }
}

/// Sends to peers. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Mutex<Sessions>>);

#[derive(Debug)]
struct Sessions {
    current: HashMap<Slot, Arc<Session>>,
    last: SessionId,
}

impl Peers {
    /// No sessions yet. Their numbers begin at the time of day, so that logs of two runs can be told apart.
    pub(crate) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Mutex::new(Sessions {
            current: HashMap::new(),
            last: SessionId(u64::try_from(since.as_micros()).unwrap_or_default()),
        })))
    }

    /// Queues an encoded frame ([`super::encode_frame`]) on a session; never blocks.
    ///
    /// False where the session has ended, its queue of that class is full or the frame is too long: the frame is
    /// dropped, as if the network had lost it. True is no promise that it arrives: the session may end, and frames of
    /// [`Class::Bulk`] may also be lost within a session.
    #[must_use]
    pub fn send(&self, to: Slot, session: SessionId, class: Class, frame: Bytes) -> bool {
        if frame.len() > MAX_PEER_FRAME_BYTES {
            return false;
        }
        let current = self.lock().current.get(&to).cloned();
        current.is_some_and(|current| current.id == session && current.queue(class).push(frame))
    }

    /// Makes a connection the one in use; gives the one that it replaces, which is to be closed and waited for.
    pub(crate) fn enter(
        &self,
        slot: Slot,
        tag: SessionTag,
        connection: quinn::Connection,
        lanes: mpsc::Sender<Lane>,
    ) -> (Entered, Option<Arc<Session>>) {
        let mut sessions = self.lock();
        sessions.last = SessionId(sessions.last.0.saturating_add(1));
        let session = Arc::new(Session {
            slot,
            id: sessions.last,
            tag,
            connection,
            control: Queue::new(CONTROL_QUEUE),
            log: Queue::new(LOG_QUEUE),
            bulk: Queue::new(BULK_QUEUE),
            lanes,
            ended: watch::Sender::new(false),
        });
        let replaced = sessions.current.insert(slot, Arc::clone(&session));
        let entered = Entered {
            peers: self.clone(),
            session,
        };
        (entered, replaced)
    }

    /// The session to which a bulk connection belongs.
    pub(crate) fn find(&self, slot: Slot, tag: &SessionTag) -> Option<Arc<Session>> {
        let session = self.lock().current.get(&slot).cloned()?;
        (session.tag == *tag).then_some(session)
    }

    fn leave(&self, session: &Session) {
        let mut sessions = self.lock();
        if sessions
            .current
            .get(&session.slot)
            .is_some_and(|current| current.id == session.id)
        {
            sessions.current.remove(&session.slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session in use; dropping it ends the session, whatever the reason.
pub(crate) struct Entered {
    peers: Peers,
    pub(crate) session: Arc<Session>,
}

impl Entered {
    /// From now on nothing more can be queued.
    pub(crate) fn leave(&self) {
        self.peers.leave(&self.session);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.leave();
        self.session.ended.send_replace(true);
    }
}
