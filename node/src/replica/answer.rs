//! Keeps the transactions of this node's clients until their fate is known: they are forwarded to the leader, again
//! after a change of leader or a silence, and answered when a block with them is executed here.
//!
//! Invariant: nobody waits for ever: a transaction is answered with its result, or as expired once an executed block
//! has reached its expiry (on an idle network the leader is asked to cut one).

use quipu_consensus::engine::Role;
use quipu_consensus::input::Tick;
use quipu_consensus::output::Class;
use quipu_crypto::id::TimeMs;
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
            Origin::Peer { .. } => {
                // Whoever waits for it waits there, and sends again.
                if self.role == Role::Leader && !self.leading.in_chain(&id) {
                    self.pool.add(transaction);
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
        let sent = leads.then_some(now);
        let arrival = self.waiting.begin(transaction, ticket, sent);
        if !leads {
            self.waiting.outbox.push(arrival);
        }
    }

    /// Sends to the leader what waits to be sent, or puts it in the own pool.
    pub(super) fn forward(&mut self, now: Tick, out: &mut Vec<Action>) {
        if self.waiting.outbox.is_empty() {
            return;
        }
        if self.role == Role::Leader {
            for arrival in std::mem::take(&mut self.waiting.outbox) {
                if let Some(unsettled) = self.waiting.get_mut(arrival) {
                    if !self.leading.in_chain(&unsettled.transaction.id()) {
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
        for arrival in std::mem::take(&mut self.waiting.outbox) {
            let Some(unsettled) = self.waiting.get_mut(arrival) else {
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
            } else if nothing_to_send && is_silent(unsettled.sent, moment.now) {
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

/// Whether what was sent then should have been heard of by now.
fn is_silent(sent: Option<Tick>, now: Tick) -> bool {
    sent.is_none_or(|sent| now.0.saturating_sub(sent.0) >= FORWARD_AGAIN_MS)
}
