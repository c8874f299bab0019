//! Keeps the transactions of this node's clients until their fate is known: they are forwarded to the leader, again
//! after a change of leader or a silence, and answered when a block with them is executed here.
//!
//! Invariant: nobody waits for ever: a transaction is answered with its result, or as expired once an executed block
//! has reached its expiry (on an idle network the leader is asked to cut one).

use quipu_consensus::engine::Role;
use quipu_consensus::input::{SessionId, Tick};
use quipu_consensus::output::Class;
use quipu_crypto::id::{Slot, TimeMs, TransactionId};
use quipu_ledger::operation::Version;
use quipu_ledger::result::{Outcome, Reason};
use quipu_ledger::transaction::VerifiedTransaction;

use super::{Action, ExecutedBlock, Moment, Origin, Replica, frame};
use crate::client_protocol::{Receipt, Rejection};
use crate::limits::{FORWARD_AGAIN_MS, FORWARD_FRAME_BYTES, RETRY_AFTER_MS};
use crate::network;
use crate::peer_protocol::{PeerFrame, TransactionBytes};
use crate::pool::Added;

impl Replica {
    pub(super) fn submitted(
        &mut self,
        now: Tick,
        origin: Origin,
        transaction: VerifiedTransaction,
        out: &mut Vec<Action>,
    ) {
        let id = transaction.id();
        let (key, ticket) = match origin {
            Origin::Client { key, ticket } => (key, ticket),
            Origin::Peer { slot, session } => {
                let wanted = self.role == Role::Leader && !self.leading.in_chain(&id);
                if wanted && self.pool.add(transaction) == Added::Full {
                    self.refusals.entry((slot, session)).or_default().push(id);
                }
                return;
            }
        };
        if self.leading.lately_executed(&id) {
            out.push(Action::AnswerFromIndex { ticket, id });
            return;
        }
        let busy = Rejection::Busy {
            retry_after_ms: RETRY_AFTER_MS,
        };
        if !self.waiting.has_room(&transaction, &key) {
            out.push(Action::Reject {
                ticket,
                rejection: busy,
            });
            return;
        }
        if self.waiting.join(&id, ticket, key) {
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
        let (arrival, unsettled) = self.waiting.begin(transaction, ticket);
        if leads {
            unsettled.goes(now);
        } else {
            self.waiting.outbox.push(arrival);
        }
    }

    /// Sends to the leader what waits to be sent, or puts it in the own pool.
    pub(super) fn forward(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.waiting.outbox.is_empty() {
            return;
        }
        if self.role == Role::Leader {
            self.put_into_pool(now, out);
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
        for arrival in std::mem::take(&mut self.waiting.outbox) {
            let Some(unsettled) = self.waiting.get_mut(arrival) else {
                continue;
            };
            unsettled.goes(now);
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

    fn put_into_pool(&mut self, now: Tick, out: &mut Vec<Action>) {
        let mut full = Vec::new();
        for arrival in std::mem::take(&mut self.waiting.outbox) {
            let Some(unsettled) = self.waiting.get_mut(arrival) else {
                continue;
            };
            unsettled.goes(now);
            let id = unsettled.transaction.id();
            if !self.leading.in_chain(&id) && self.pool.add(unsettled.transaction.clone()) == Added::Full {
                full.push(id);
            }
        }
        self.refuse(&full, RETRY_AFTER_MS, out);
    }

    /// The leader had no room for these.
    pub(super) fn refused_by(
        &mut self,
        from: Slot,
        session: SessionId,
        transactions: &[TransactionId],
        retry_after_ms: u64,
        out: &mut Vec<Action>,
    ) {
        // What another says comes late: meanwhile they went to whoever leads now.
        if self.leader_session() == Some((from, session)) {
            self.refuse(transactions, retry_after_ms, out);
        }
    }

    /// Answers *busy* to those who wait for these, where it is certain that nobody has them.
    fn refuse(&mut self, transactions: &[TransactionId], retry_after_ms: u64, out: &mut Vec<Action>) {
        for refused in transactions.iter().filter_map(|id| self.waiting.refuse(id)) {
            let rejection = Rejection::Busy { retry_after_ms };
            out.extend(refused.tickets().map(|ticket| Action::Reject {
                ticket,
                rejection: rejection.clone(),
            }));
        }
    }

    /// Tells peers for which of their transactions there was no room.
    pub(super) fn tell_refusals(&mut self, out: &mut Vec<Action>) {
        for ((slot, session), transactions) in std::mem::take(&mut self.refusals) {
            let busy = PeerFrame::Busy {
                transactions,
                retry_after_ms: RETRY_AFTER_MS,
            };
            out.push(frame(slot, session, &busy));
        }
    }

    /// Answers those whose transaction was executed in this block, or can no longer be.
    pub(super) fn answer_executed(&mut self, block: &ExecutedBlock, out: &mut Vec<Action>) {
        if self.waiting.is_empty() {
            return;
        }
        for (position, result) in (0_u32..).zip(&block.results) {
            let Some(unsettled) = self.waiting.settle(&result.id) else {
                continue;
            };
            for ticket in unsettled.tickets() {
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
        let mut silent = Vec::new();
        for (arrival, unsettled) in self.waiting.iter() {
            let expires_at = unsettled.transaction.body().expires_at;
            if expires_at <= reached {
                expired.push(unsettled.transaction.id());
            } else if expires_at <= moment.wall {
                overdue = Some(overdue.map_or(expires_at, |later| later.max(expires_at)));
            } else if nothing_to_send && unsettled.is_due(moment.now) {
                silent.push(arrival);
            }
        }
        self.waiting.outbox.extend(silent);
        for id in expired {
            let Some(unsettled) = self.waiting.settle(&id) else {
                continue;
            };
            let expires_at = unsettled.transaction.body().expires_at;
            let rejection = Rejection::Expired {
                expires_at,
                now: reached,
            };
            out.extend(unsettled.tickets().map(|ticket| Action::Reject {
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
