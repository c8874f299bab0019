//! Keeps the door: where transactions wait for admission, each sender's in a lane of its own.
//!
//! A sender is whoever brings it, for who signed it is not known before its signature is checked: a client by the key
//! of its connection, a peer by its slot. Nobody fills the door alone, and all are let in in turn, see `fair`.
//! Invariant: once nobody is inside, nobody waits: who waited is told that the node stops, and whoever comes is too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::input::SessionId;
use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use tokio::sync::oneshot;

use crate::client_protocol::{Answer, Rejection, Unavailable};
use crate::fair::FairQueue;
use crate::limits::{ADMISSION_BATCH, ADMISSION_ROOM, RETRY_AFTER_MS};

/// Who brings a transaction, and hears what becomes of it.
#[derive(Debug)]
pub enum Bringer {
    /// A client of this node.
    Client {
        /// The key of its connection.
        key: PublicKey,
        /// Where it waits.
        answer: oneshot::Sender<Answer>,
    },
    /// A peer, for a client of its own.
    Peer {
        /// Which.
        slot: Slot,
        /// Over which session.
        session: SessionId,
    },
}

impl Bringer {
    /// Answers a client, that may have gone. A peer has refused the same by itself, or will when it expires.
    pub fn reply(self, with: Answer) {
        match self {
            Self::Client { answer, .. } => {
                let _gone = answer.send(with);
            }
            Self::Peer { .. } => {}
        }
    }

    const fn lane(&self) -> Lane {
        match self {
            Self::Client { key, .. } => Lane::Client(*key),
            Self::Peer { slot, .. } => Lane::Peer(*slot),
        }
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Client(PublicKey),
    Peer(Slot),
}

/// A transaction at the door.
#[derive(Debug)]
pub struct Admission {
    /// The transaction as it came.
    pub bytes: Vec<u8>,
    /// With whom.
    pub bringer: Bringer,
    /// When it came.
    pub since: Instant,
}

#[derive(Debug)]
struct Queue {
    waiting: FairQueue<Lane, Admission>,
    /// Whether somebody is inside.
    served: bool,
}

/// Where transactions are put before the admitter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    queue: Arc<Mutex<Queue>>,
    bell: Sender<()>,
}

/// The admitter's side of the door.
#[derive(Debug)]
pub struct Inside {
    queue: Arc<Mutex<Queue>>,
    bell: Receiver<()>,
}

impl Door {
    /// Both sides of an empty queue.
    #[must_use]
    pub fn new() -> (Self, Inside) {
        let queue = Arc::new(Mutex::new(Queue {
            waiting: FairQueue::new(ADMISSION_ROOM),
            served: true,
        }));
        let (bell, heard) = crossbeam_channel::bounded(1);
        let inside = Inside {
            queue: Arc::clone(&queue),
            bell: heard,
        };
        (Self { queue, bell }, inside)
    }

    /// Puts a transaction before the admitter; *busy* where there is no room.
    pub fn offer(&self, bringer: Bringer, bytes: Vec<u8>) {
        let (lane, length, since) = (bringer.lane(), bytes.len(), Instant::now());
        let mut queue = lock(&self.queue);
        if !queue.served {
            drop(queue);
            bringer.reply(stopping());
            return;
        }
        let refused = queue.waiting.push(lane, Admission { bytes, bringer, since }, length);
        drop(queue);
        match refused {
            // Rung already, or whoever was inside has left since and answered.
            Ok(()) => drop(self.bell.try_send(())),
            Err(refused) => refused.bringer.reply(Answer::Rejected(Rejection::Busy {
                retry_after_ms: RETRY_AFTER_MS,
            })),
        }
    }
}

impl Inside {
    /// The next ones, at most a batch; none once every door is gone.
    pub fn batch(&self) -> Option<Vec<Admission>> {
        loop {
            let mut queue = lock(&self.queue);
            let batch: Vec<Admission> = std::iter::from_fn(|| queue.waiting.pop())
                .map(|(admission, _)| admission)
                .take(ADMISSION_BATCH)
                .collect();
            drop(queue);
            if !batch.is_empty() {
                return Some(batch);
            }
            self.bell.recv().ok()?;
        }
    }
}

impl Drop for Inside {
    /// Nobody will let in what waits: each is told so now, not when it has lost patience.
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.served = false;
        let left = std::mem::replace(&mut queue.waiting, FairQueue::new(ADMISSION_ROOM));
        drop(queue);
        left.into_items()
            .for_each(|admission| admission.bringer.reply(stopping()));
    }
}

const fn stopping() -> Answer {
    Answer::Unavailable(Unavailable::Stopping)
}

/// Nothing panics while it is held but a queue that is broken, and that ends the node; who waits is still answered.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use quipu_crypto::key::SecretKey;

    use super::*;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    fn offer(door: &Door, key: PublicKey, bytes: Vec<u8>) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        door.offer(Bringer::Client { key, answer }, bytes);
        answered
    }

    #[test]
    fn who_floods_the_door_is_told_so_and_keeps_nobody_out() {
        let (door, inside) = Door::new();
        let (flooding, modest) = (key(1), key(2));
        let _waiting: Vec<_> = (0..ADMISSION_ROOM.items)
            .map(|_| offer(&door, flooding, vec![1; 100]))
            .collect();
        let mut refused = offer(&door, flooding, vec![1; 100]);
        assert!(matches!(
            refused.try_recv(),
            Ok(Answer::Rejected(Rejection::Busy { retry_after_ms })) if retry_after_ms > 0
        ));
        let mut waiting = offer(&door, modest, vec![2; 100]);
        assert!(waiting.try_recv().is_err(), "there is room for others");
        let first = inside.batch().unwrap();
        assert_eq!(first.len(), ADMISSION_BATCH);
        assert!(
            first.iter().any(|admission| admission.bytes == [2; 100]),
            "its turn comes soon"
        );
    }

    #[test]
    fn what_waits_is_still_let_in_when_every_door_is_gone() {
        let (door, inside) = Door::new();
        let bringer = Bringer::Peer {
            slot: Slot::default(),
            session: SessionId::default(),
        };
        door.offer(bringer, vec![3]);
        drop(door);
        assert_eq!(inside.batch().map(|batch| batch.len()), Some(1));
        assert!(inside.batch().is_none());
    }

    #[test]
    fn who_waits_when_the_admitter_ends_is_told_at_once_and_so_is_who_comes_later() {
        let (door, inside) = Door::new();
        let mut waiting = offer(&door, key(1), vec![1; 100]);
        drop(inside);
        assert_eq!(waiting.try_recv(), Ok(stopping()));
        assert_eq!(offer(&door, key(2), vec![2; 100]).try_recv(), Ok(stopping()));
    }
}
