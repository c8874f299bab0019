//! Handing leadership over: the leader waits until its target holds everything, then asks it to campaign at once.
//!
//! Invariants: no block is taken while a transfer runs; a transfer that has not worked within the longest election
//! timeout is given up and the leader goes on (V-12); an order of another term or from another node is void.

use quipu_crypto::id::{Height, Slot};

use super::rules::Rules;
use super::state::{Raft, Stage, Transfer};
use crate::block::Block;
use crate::message::{Message, TimeoutNow};
use crate::output::Class;

impl<B: Block, R: Rules> Raft<B, R> {
    /// Hands over to `to`, or to the live voter that holds most. One at a time: begun anew at each request, a transfer
    /// would have no end, and the leader takes no block meanwhile (V-12).
    pub(super) fn transfer(&mut self, to: Option<Slot>) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        if !self.rules.begins_transfer(lead.transfer.is_some()) {
            return;
        }
        let patience = self.settings.election_max_ms;
        let live: Vec<(Slot, Height)> = lead
            .progress
            .iter()
            .filter(|(slot, peer)| self.membership.votes(**slot) && self.now.since(peer.heard) < patience)
            .map(|(slot, peer)| (*slot, peer.matched_height()))
            .collect();
        let failed = &mut lead.failed_transfers;
        if live.iter().all(|(slot, _)| failed.contains(slot)) {
            failed.clear();
        }
        let best = live
            .into_iter()
            .max_by_key(|(slot, matched)| (!failed.contains(slot), *matched, std::cmp::Reverse(*slot)))
            .map(|(slot, _)| slot);
        let target = to
            .filter(|slot| *slot != self.slot && self.membership.votes(*slot))
            .or(best);
        if let Some(target) = target {
            lead.transfer = Some(Transfer {
                target,
                until: self.now.plus(patience),
                told: false,
            });
            self.try_hand_over();
        }
    }

    /// Gives a transfer up that has not worked in its time; the next ones try every other target first.
    pub(super) fn expire_transfer(&mut self) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let (now, rules) = (self.now, &self.rules);
        let expired = |transfer: &mut Transfer| rules.gives_up_transfer(now >= transfer.until);
        if let Some(transfer) = lead.transfer.take_if(expired) {
            if !rules.remembers_targets() {
                lead.failed_transfers.clear();
            }
            lead.failed_transfers.insert(transfer.target);
        }
    }

    /// Gives the order as soon as the target holds everything.
    pub(super) fn try_hand_over(&mut self) {
        let term = self.vote.term;
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some(transfer) = lead.transfer.as_mut().filter(|transfer| !transfer.told) else {
            return;
        };
        let target = transfer.target;
        let caught_up = lead
            .progress
            .get(&target)
            .is_some_and(|peer| peer.matched == Some(self.log.tip()));
        if caught_up {
            transfer.told = true;
            self.send(target, Class::Control, Message::TimeoutNow(TimeoutNow { term, target }));
        }
    }

    /// The leader of this term asks this node to campaign now, without asking the others first.
    pub(super) fn timeout_now(&mut self, from: Slot, order: &TimeoutNow) {
        let by_leader = self.leader == Some(from);
        let valid = self.rules.obeys_order(order.term, self.vote.term, by_leader) && order.target == self.slot;
        if valid && matches!(self.stage, Stage::Follower) {
            self.campaign(true);
        }
    }
}
