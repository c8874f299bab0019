//! Keeps the door: where transactions wait for admission, each sender's in a lane of its own, see `fair`.
//!
//! Who signed one is not known before its signature is checked. A client has a lane by the key of its connection. What
//! a peer forwards it has checked itself: there is a lane for each member that it names, beside those of other peers,
//! so what it claims hurts nobody elsewhere. At the first signature that is none all of its lanes become one: it gains
//! nothing by making up senders. Invariant: once nobody is inside, nobody waits: who does is told that the node stops.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::input::SessionId;
use quipu_crypto::id::{Slot, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::membership::Membership;
use quipu_ledger::transaction::SignedTransaction;
use tokio::sync::oneshot;

use crate::client_protocol::{Answer, Rejection, Unavailable};
use crate::fair::FairQueue;
use crate::limits::{ADMISSION_BATCH, ADMISSION_ROOM, RETRY_AFTER_MS};
use crate::peer_protocol::TransactionBytes;

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
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Client(PublicKey),
    /// A member's transactions as a peer forwards them.
    Forwarded(Slot, PublicKey),
    /// What a peer forwards in the name of nobody, or of anybody where it was found lying.
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
    /// Peers that forwarded what its sender had not signed.
    liars: BTreeSet<Slot>,
    /// Whether somebody is inside.
    served: bool,
}

/// Where transactions are put before the admitter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    /// A lane is for a member, so there are only so many.
    membership: Arc<Membership>,
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
    pub fn new(membership: Arc<Membership>) -> (Self, Inside) {
        let queue = Arc::new(Mutex::new(Queue {
            waiting: FairQueue::new(ADMISSION_ROOM),
            liars: BTreeSet::new(),
            served: true,
        }));
        let (bell, heard) = crossbeam_channel::bounded(1);
        let inside = Inside {
            queue: Arc::clone(&queue),
            bell: heard,
        };
        let door = Self {
            membership,
            queue,
            bell,
        };
        (door, inside)
    }

    /// Puts a client's transaction before the admitter; *busy* where there is no room.
    pub fn offer(&self, key: PublicKey, bytes: Vec<u8>, answer: oneshot::Sender<Answer>) {
        let (length, since) = (bytes.len(), Instant::now());
        let bringer = Bringer::Client { key, answer };
        let admission = Admission { bytes, bringer, since };
        let mut queue = lock(&self.queue);
        if !queue.served {
            drop(queue);
            admission.bringer.reply(stopping());
            return;
        }
        let refused = queue.waiting.push(Lane::Client(key), admission, length);
        drop(queue);
        match refused {
            Ok(()) => self.ring(),
            Err(refused) => refused.bringer.reply(Answer::Rejected(Rejection::Busy {
                retry_after_ms: RETRY_AFTER_MS,
            })),
        }
    }

    /// Puts what a peer forwards before the admitter; answers with those for which there is no room.
    pub fn forwarded(&self, slot: Slot, session: SessionId, transactions: Vec<TransactionBytes>) -> Vec<TransactionId> {
        let since = Instant::now();
        let mut refused = Vec::new();
        let mut queue = lock(&self.queue);
        if !queue.served {
            // The node stops; the peer will hear of that.
            return refused;
        }
        let believed = !queue.liars.contains(&slot);
        for bytes in transactions.into_iter().map(TransactionBytes::into_vec) {
            let sender = SignedTransaction::claimed_sender(&bytes).filter(|_| believed);
            let member = sender.filter(|sender| self.membership.member(sender).is_some());
            let lane = member.map_or(Lane::Peer(slot), |member| Lane::Forwarded(slot, member));
            let (length, bringer) = (bytes.len(), Bringer::Peer { slot, session });
            let pushed = queue.waiting.push(lane, Admission { bytes, bringer, since }, length);
            refused.extend(
                pushed
                    .err()
                    .and_then(|refused| SignedTransaction::id_of(&refused.bytes)),
            );
        }
        drop(queue);
        self.ring();
        refused
    }

    fn ring(&self) {
        // Rung already, or whoever was inside has left since and answered.
        let _rung = self.bell.try_send(());
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

    /// This peer forwarded what its sender had not signed: from now on it speaks for nobody but itself.
    pub fn disbelieve(&self, slot: Slot) {
        if lock(&self.queue).liars.insert(slot) {
            tracing::error!(from = %slot, "a peer forwards what its sender has not signed: it has one lane now");
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
    use quipu_crypto::id::{NetworkId, TimeMs};
    use quipu_crypto::key::SecretKey;
    use quipu_ledger::membership::{Member, Parameters};
    use quipu_ledger::operation::{Namespace, Operation};
    use quipu_ledger::transaction::TransactionBody;

    use super::*;

    const FLOOD: usize = ADMISSION_ROOM.items;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed([seed; 32]).public()
    }

    /// A door to a network with ten members.
    fn opened() -> (Door, Inside) {
        let mut members: Vec<_> = (1..=10)
            .map(|seed| Member {
                key: key(seed),
                name: seed.to_string(),
                organisation: String::new(),
                roles: Vec::new(),
            })
            .collect();
        members.sort_unstable_by_key(|member| member.key);
        Door::new(Arc::new(Membership {
            nodes: Vec::new(),
            outgoing: Vec::new(),
            organisations: Vec::new(),
            members,
            namespaces: Vec::new(),
            parameters: Parameters {
                max_lifetime_ms: 0,
                certificates: false,
                approvals: 1,
            },
        }))
    }

    fn offer(door: &Door, key: PublicKey, bytes: Vec<u8>) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        door.offer(key, bytes, answer);
        answered
    }

    fn signed(seed: u8) -> SignedTransaction {
        let body = TransactionBody {
            version: 1,
            network: NetworkId::default(),
            sender: key(seed),
            nonce: [0; 16],
            expires_at: TimeMs(1),
            operations: vec![Operation::Delete {
                namespace: Namespace::new("default").unwrap(),
                key: vec![1],
            }],
            memo: Vec::new(),
        };
        SignedTransaction::sign(body, &SecretKey::from_seed([seed; 32])).unwrap()
    }

    /// A peer forwards `count` times a transaction of the member; those for which there is no room.
    fn forward(door: &Door, peer: u32, seed: u8, count: usize) -> Vec<TransactionId> {
        let bytes = signed(seed).bytes().to_vec();
        let transactions = vec![TransactionBytes::from(bytes); count];
        door.forwarded(Slot(peer), SessionId(1), transactions)
    }

    fn names(admission: &Admission, seed: u8) -> bool {
        SignedTransaction::claimed_sender(&admission.bytes) == Some(key(seed))
    }

    #[test]
    fn who_floods_the_door_is_told_so_and_keeps_nobody_out() {
        let (door, inside) = opened();
        let (flooding, modest) = (key(1), key(2));
        let _waiting: Vec<_> = (0..FLOOD).map(|_| offer(&door, flooding, vec![1; 100])).collect();
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
    fn a_busy_member_keeps_out_nobody_behind_the_same_peer_and_the_peer_hears_what_found_no_room() {
        let (door, inside) = opened();
        let refused = forward(&door, 1, 1, FLOOD);
        assert_eq!(refused.len(), FLOOD / 2, "half of the room is for others");
        assert!(refused.iter().all(|id| *id == signed(1).id()));
        assert!(forward(&door, 1, 2, 10).is_empty());
        assert!(forward(&door, 2, 1, 10).is_empty());
        let first = inside.batch().unwrap();
        assert_eq!(first.iter().filter(|admission| names(admission, 2)).count(), 10);
        let of_two = |admission: &&Admission| matches!(admission.bringer, Bringer::Peer { slot: Slot(2), .. });
        assert_eq!(first.iter().filter(of_two).count(), 10, "whoever forwards it");
    }

    #[test]
    fn a_peer_that_makes_up_senders_takes_nothing_from_them_elsewhere_and_is_found_out() {
        let (door, inside) = opened();
        forward(&door, 1, 1, FLOOD);
        assert!(
            forward(&door, 2, 1, 10).is_empty(),
            "its lane behind an honest peer is another"
        );
        assert!(
            offer(&door, key(1), vec![1; 100]).try_recv().is_err(),
            "and so is its own"
        );
        inside.disbelieve(Slot(1));
        forward(&door, 1, 2, FLOOD);
        let refused: usize = (3..=10).map(|seed| forward(&door, 1, seed, 10).len()).sum();
        assert_eq!(refused, 80, "all that it forwards has one share");
        assert!(forward(&door, 2, 3, 10).is_empty());
    }

    #[test]
    fn strangers_behind_a_peer_share_a_lane() {
        let (door, _inside) = opened();
        forward(&door, 1, 100, FLOOD);
        let refused: usize = (101..=110).map(|seed| forward(&door, 1, seed, 10).len()).sum();
        assert_eq!(refused, 100);
        assert!(forward(&door, 1, 1, 10).is_empty(), "members do not suffer from them");
    }

    #[test]
    fn what_waits_is_still_let_in_when_every_door_is_gone() {
        let (door, inside) = opened();
        forward(&door, 1, 1, 1);
        drop(door);
        assert_eq!(inside.batch().map(|batch| batch.len()), Some(1));
        assert!(inside.batch().is_none());
    }

    #[test]
    fn who_waits_when_the_admitter_ends_is_told_at_once_and_so_is_who_comes_later() {
        let (door, inside) = opened();
        let mut waiting = offer(&door, key(1), vec![1; 100]);
        drop(inside);
        assert_eq!(waiting.try_recv(), Ok(stopping()));
        assert_eq!(offer(&door, key(2), vec![2; 100]).try_recv(), Ok(stopping()));
    }
}
