//! Keeps the transactions of this node's clients until their fate is known: they are forwarded to the leader, again
//! after a change of leader or a silence, and answered when a block with them is executed here.
//!
//! Invariant: nobody waits for ever: a transaction is answered with its result, or as expired once an executed block
//! has reached its expiry (on an idle network the leader is asked to cut one).

use std::collections::BTreeMap;

use quipu_consensus::engine::Role;
use quipu_consensus::input::Tick;
use quipu_consensus::output::Class;
use quipu_crypto::id::{TimeMs, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::operation::Version;
use quipu_ledger::result::{Outcome, Reason};
use quipu_ledger::transaction::VerifiedTransaction;

use super::{Action, ExecutedBlock, Moment, Replica, Ticket, frame};
use crate::client_protocol::{Receipt, Rejection};
use crate::fair::Shares;
use crate::limits::{FORWARD_AGAIN_MS, FORWARD_FRAME_BYTES, RETRY_AFTER_MS, WAITING_ROOM};
use crate::network;
use crate::peer_protocol::{PeerFrame, TransactionBytes};
use crate::pool::Added;

#[derive(Debug)]
struct Unsettled {
    transaction: VerifiedTransaction,
    tickets: Vec<Ticket>,
    /// When it last went to the pool or to the leader.
    sent: Option<Tick>,
}

/// Who waits for which transaction.
#[derive(Debug)]
pub(super) struct Waiting {
    /// In the order of their ids: what is sent again goes in an order that is the same in every run.
    all: BTreeMap<TransactionId, Unsettled>,
    /// Those to be sent now.
    outbox: Vec<TransactionId>,
    swept: Tick,
    /// The tickets of each sender's transactions; the first of a transaction stands for its bytes.
    shares: Shares<PublicKey>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            outbox: Vec::new(),
            swept: Tick::default(),
            shares: Shares::new(WAITING_ROOM),
        }
    }
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether another ticket for this transaction may wait.
    fn has_room(&self, transaction: &VerifiedTransaction) -> bool {
        let known = self.all.contains_key(&transaction.id());
        let bytes = if known { 0 } else { transaction.bytes().len() };
        self.shares.has_room(&transaction.body().sender, bytes)
    }

    /// One more waits for a transaction that waits already; `false` where there is none.
    fn join(&mut self, id: &TransactionId, ticket: Ticket) -> bool {
        let Some(unsettled) = self.all.get_mut(id) else {
            return false;
        };
        unsettled.tickets.push(ticket);
        self.shares.take(unsettled.transaction.body().sender, 0);
        true
    }

    fn begin(&mut self, transaction: VerifiedTransaction, ticket: Ticket, sent: Option<Tick>) {
        self.shares.take(transaction.body().sender, transaction.bytes().len());
        let tickets = vec![ticket];
        let unsettled = Unsettled {
            transaction,
            tickets,
            sent,
        };
        self.all.insert(unsettled.transaction.id(), unsettled);
    }

    /// Its fate is known.
    fn settle(&mut self, id: &TransactionId) -> Option<Unsettled> {
        let unsettled = self.all.remove(id)?;
        let mut bytes = unsettled.transaction.bytes().len();
        for _ in &unsettled.tickets {
            self.shares.give_back(&unsettled.transaction.body().sender, bytes);
            bytes = 0;
        }
        Some(unsettled)
    }

    /// Lets everything be sent once more: the leader changed.
    pub(super) fn send_again(&mut self) {
        self.all.values_mut().for_each(|unsettled| unsettled.sent = None);
        self.outbox = self.all.keys().copied().collect();
    }
}

impl Replica {
    pub(super) fn submitted(
        &mut self,
        now: Tick,
        ticket: Option<Ticket>,
        transaction: VerifiedTransaction,
        out: &mut Vec<Action>,
    ) {
        let id = transaction.id();
        if self.leading.lately_executed(&id) {
            out.extend(ticket.map(|ticket| Action::AnswerFromIndex { ticket, id }));
            return;
        }
        let Some(ticket) = ticket else {
            // Forwarded by a peer: whoever waits for it waits there, and sends again.
            if self.role == Role::Leader && !self.leading.in_chain(&id) {
                self.pool.add(transaction);
            }
            return;
        };
        let busy = Rejection::Busy {
            retry_after_ms: RETRY_AFTER_MS,
        };
        if !self.waiting.has_room(&transaction) {
            out.push(Action::Reject {
                ticket,
                rejection: busy,
            });
            return;
        }
        if self.waiting.join(&id, ticket) {
            return;
        }
        let leads = self.role == Role::Leader;
        if leads && !self.leading.in_chain(&id) && self.pool.add(transaction.clone()) == Added::Full {
            out.push(Action::Reject {
                ticket,
                rejection: busy,
            });
            return;
        }
        let sent = leads.then_some(now);
        self.waiting.begin(transaction, ticket, sent);
        if !leads {
            self.waiting.outbox.push(id);
        }
    }

    /// Sends to the leader what waits to be sent, or puts it in the own pool.
    pub(super) fn forward(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.waiting.outbox.is_empty() {
            return;
        }
        if self.role == Role::Leader {
            for id in std::mem::take(&mut self.waiting.outbox) {
                if let Some(unsettled) = self.waiting.all.get_mut(&id) {
                    if !self.leading.in_chain(&id) {
                        self.pool.add(unsettled.transaction.clone());
                    }
                    unsettled.sent = Some(now);
                }
            }
            return;
        }
        let Some((leader, session)) = self.leader_session() else {
            return;
        };
        let mut batch = Vec::new();
        let mut size = 0_usize;
        let mut send = |batch: &mut Vec<_>, size: &mut usize| {
            let frame = network::encode_frame(&PeerFrame::Forward(std::mem::take(batch)));
            *size = 0;
            out.push(Action::Send {
                to: leader,
                session,
                class: Class::Log,
                frame,
                after: None,
            });
        };
        for id in std::mem::take(&mut self.waiting.outbox) {
            let Some(unsettled) = self.waiting.all.get_mut(&id) else {
                continue;
            };
            unsettled.sent = Some(now);
            size = size.saturating_add(unsettled.transaction.bytes().len());
            batch.push(TransactionBytes::from(unsettled.transaction.bytes().to_vec()));
            if size >= FORWARD_FRAME_BYTES {
                send(&mut batch, &mut size);
            }
        }
        if !batch.is_empty() {
            send(&mut batch, &mut size);
        }
    }

    /// Answers those whose transaction was executed in this block, or can no longer be.
    pub(super) fn answer_executed(&mut self, block: &ExecutedBlock, out: &mut Vec<Action>) {
        if self.waiting.all.is_empty() {
            return;
        }
        for (position, result) in (0_u32..).zip(&block.results) {
            let Some(unsettled) = self.waiting.settle(&result.id) else {
                continue;
            };
            for ticket in unsettled.tickets {
                out.push(if result.outcome == Outcome::Failed(Reason::Duplicate) {
                    Action::AnswerFromIndex { ticket, id: result.id }
                } else {
                    let version = Version {
                        height: block.id.height,
                        position,
                    };
                    let receipt = Receipt {
                        id: result.id,
                        version,
                        outcome: result.outcome,
                        block: block.id.hash,
                    };
                    Action::Answer { ticket, receipt }
                });
            }
        }
    }

    /// Now and then: sends again what was met with silence, answers what an executed block has outlived, and asks for a
    /// block where the chain's time stands still before an expiry.
    pub(super) fn expire_waiting(&mut self, moment: &Moment<'_>, out: &mut Vec<Action>) {
        if moment.now.0.saturating_sub(self.waiting.swept.0) < FORWARD_AGAIN_MS / 4 {
            return;
        }
        self.waiting.swept = moment.now;
        let reached = self.executed_time;
        // What waits there already has not been sent yet: no leader is known.
        let nothing_to_send = self.waiting.outbox.is_empty();
        let mut overdue: Option<TimeMs> = None;
        let mut expired = Vec::new();
        for (id, unsettled) in &self.waiting.all {
            let expires_at = unsettled.transaction.body().expires_at;
            if expires_at <= reached {
                expired.push(*id);
            } else if expires_at <= moment.wall {
                overdue = Some(overdue.map_or(expires_at, |later| later.max(expires_at)));
            } else if nothing_to_send && is_silent(unsettled.sent, moment.now) {
                self.waiting.outbox.push(*id);
            }
        }
        for id in expired {
            let Some(unsettled) = self.waiting.settle(&id) else {
                continue;
            };
            let expires_at = unsettled.transaction.body().expires_at;
            let rejection = Rejection::Expired {
                expires_at,
                now: reached,
            };
            out.extend(unsettled.tickets.into_iter().map(|ticket| Action::Reject {
                ticket,
                rejection: rejection.clone(),
            }));
        }
        if let Some(time) = overdue {
            self.ask_for_block_at(time, out);
        }
    }

    /// Somebody waits for the chain's time to reach `time`.
    pub(super) fn ask_for_block_at(&mut self, time: TimeMs, out: &mut Vec<Action>) {
        if self.role == Role::Leader {
            let reached = self.tip.header().time;
            self.leading.wait_for(time, reached);
        } else if let Some((leader, session)) = self.leader_session() {
            out.push(frame(leader, session, &PeerFrame::Expire { time }));
        }
    }
}

/// Whether what was sent then should have been heard of by now.
fn is_silent(sent: Option<Tick>, now: Tick) -> bool {
    sent.is_none_or(|sent| now.0.saturating_sub(sent.0) >= FORWARD_AGAIN_MS)
}

#[cfg(test)]
mod tests {
    use quipu_crypto::key::SecretKey;
    use quipu_ledger::operation::{Namespace, Operation};
    use quipu_ledger::transaction::{SignedTransaction, TransactionBody};

    use super::*;
    use crate::fair::Room;

    fn transaction(nonce: u8, bytes: usize) -> VerifiedTransaction {
        let key = SecretKey::from_seed([1; 32]);
        let body = TransactionBody {
            version: 1,
            network: Default::default(),
            sender: key.public(),
            nonce: [nonce; 16],
            expires_at: TimeMs(1),
            operations: vec![Operation::Put {
                namespace: Namespace::new("default").unwrap(),
                key: vec![1],
                value: vec![0; bytes],
            }],
            memo: Vec::new(),
        };
        SignedTransaction::sign(body, &key).unwrap().verify().unwrap()
    }

    #[test]
    fn those_who_wait_are_bounded_in_bytes_and_in_number_also_for_one_transaction() {
        let mut waiting = Waiting::default();
        let large = |nonce| transaction(nonce, 200_000);
        let length = large(0).bytes().len();
        let mut begun = Vec::new();
        for next in (0..u8::MAX).map(large) {
            if !waiting.has_room(&next) {
                break;
            }
            begun.push(next.clone());
            waiting.begin(next, Ticket(0), None);
        }
        let share = WAITING_ROOM.bytes / 2 / length;
        assert!(
            begun.len().abs_diff(share) <= 1,
            "{} of {share} of one sender",
            begun.len()
        );
        let mut tickets = begun.len();
        while waiting.has_room(&begun[0]) {
            assert!(waiting.join(&begun[0].id(), Ticket(tickets as u64)));
            tickets += 1;
        }
        assert_eq!(tickets, WAITING_ROOM.items / 2);
        begun.iter().for_each(|settled| drop(waiting.settle(&settled.id())));
        assert_eq!(waiting.shares.held(), Room::default());
    }
}
