//! Keeps the door: where transactions wait for admission, each sender's in a lane of its own.
//!
//! A sender is whoever brings it, for who signed it is not known before its signature is checked: a client by the key
//! of its connection, a peer by its slot. Nobody fills the door alone, and all are let in in turn, see `fair`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use quipu_crypto::id::Slot;
use quipu_crypto::key::PublicKey;
use tokio::sync::oneshot;

use crate::client_protocol::{Answer, Rejection};
use crate::fair::FairQueue;
use crate::limits::{ADMISSION_BATCH, ADMISSION_ROOM, RETRY_AFTER_MS};

/// Who brings a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bringer {
    /// A client, by the key of its connection.
    Client(PublicKey),
    /// A peer, for its clients.
    Peer(Slot),
}

/// A transaction at the door.
#[derive(Debug)]
pub struct Admission {
    /// The transaction as it came.
    pub bytes: Vec<u8>,
    /// The client of this node that waits; none where a peer forwarded it.
    pub answer: Option<oneshot::Sender<Answer>>,
    /// When it came.
    pub since: Instant,
}

type Queue = FairQueue<Bringer, Admission>;

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
        let queue = Arc::new(Mutex::new(FairQueue::new(ADMISSION_ROOM)));
        let (bell, heard) = crossbeam_channel::bounded(1);
        let inside = Inside {
            queue: Arc::clone(&queue),
            bell: heard,
        };
        (Self { queue, bell }, inside)
    }

    /// Puts a transaction before the admitter; *busy* where there is no room.
    pub fn offer(&self, bringer: Bringer, bytes: Vec<u8>, answer: Option<oneshot::Sender<Answer>>) {
        let length = bytes.len();
        let since = Instant::now();
        let refused = lock(&self.queue).push(bringer, Admission { bytes, answer, since }, length);
        match refused {
            // Rung already, or nobody is inside any more: then the answer is dropped with the queue.
            Ok(()) => drop(self.bell.try_send(())),
            Err(refused) => reply(
                refused.answer,
                Answer::Rejected(Rejection::Busy {
                    retry_after_ms: RETRY_AFTER_MS,
                }),
            ),
        }
    }
}

impl Inside {
    /// The next ones, at most a batch; none once every door is gone.
    pub fn batch(&self) -> Option<Vec<Admission>> {
        loop {
            let mut queue = lock(&self.queue);
            let batch: Vec<Admission> = std::iter::from_fn(|| queue.pop())
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

/// Nothing panics while it is held; if something did, the queue would still be whole.
fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a client that may have gone.
pub fn reply(answer: Option<oneshot::Sender<Answer>>, with: Answer) {
    if let Some(answer) = answer {
        let _gone = answer.send(with);
    }
}

#[cfg(test)]
mod tests {
    use quipu_crypto::key::SecretKey;

    use super::*;

    fn client(seed: u8) -> Bringer {
        Bringer::Client(SecretKey::from_seed([seed; 32]).public())
    }

    #[test]
    fn who_floods_the_door_is_told_so_and_keeps_nobody_out() {
        let (door, inside) = Door::new();
        let (flooding, modest) = (client(1), client(2));
        for _ in 0..ADMISSION_ROOM.items {
            door.offer(flooding, vec![1; 100], None);
        }
        let (answer, mut refused) = oneshot::channel();
        door.offer(flooding, vec![1; 100], Some(answer));
        assert!(matches!(
            refused.try_recv(),
            Ok(Answer::Rejected(Rejection::Busy { retry_after_ms })) if retry_after_ms > 0
        ));
        let (answer, mut waiting) = oneshot::channel();
        door.offer(modest, vec![2; 100], Some(answer));
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
        door.offer(Bringer::Peer(Slot::default()), vec![3], None);
        drop(door);
        assert_eq!(inside.batch().map(|batch| batch.len()), Some(1));
        assert!(inside.batch().is_none());
    }
}
