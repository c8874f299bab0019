//! The exchange at a start: what do you remember of me? (D-10; `Promise`, `Hello`, `Welcome`)
//!
//! Invariants: a hello is answered in every state, with what was remembered before it; an answer counts for the process
//! that asked and for no other (its nonce says which). Once a start is claimed, everybody is told.
//! Leaves what follows from the answers to `participation` and `recovery`.

use std::collections::BTreeSet;

use quipu_crypto::id::Slot;

use super::participation::{Heard, Participation, Stand};
use super::rules::Rules;
use super::state::Raft;
use crate::block::Block;
use crate::message::{Hello, Message, Promise, Welcome};
use crate::output::Class;

impl<B: Block, R: Rules> Raft<B, R> {
    /// Says hello to a peer: asks, or tells it the start that this node has claimed.
    pub(super) fn greet(&mut self, peer: Slot) {
        if matches!(self.participation, Participation::Claiming { .. }) {
            return;
        }
        let hello = Hello {
            incarnation: self.incarnation,
            nonce: self.nonce,
            start: self.start,
            claimed: matches!(self.participation, Participation::Full),
            term: self.vote.term,
            tip: self.log.tip(),
        };
        self.send(peer, Class::Control, Message::Hello(hello));
    }

    /// A peer starts, or has claimed its start.
    pub(super) fn hello(&mut self, from: Slot, hello: &Hello) {
        if self.memory.is_new(from, hello.nonce) {
            self.forget_progress(from);
        }
        if hello.claimed {
            return self.remember_start(from, hello);
        }
        let welcome = Welcome {
            nonce: hello.nonce,
            term: self.vote.term,
            tip: self.log.tip(),
            takes_part: self.takes_part(),
            remembered: self.memory.of(from),
        };
        self.send(from, Class::Control, Message::Welcome(welcome));
    }

    /// What a peer remembers of this node.
    pub(super) fn welcome(&mut self, from: Slot, welcome: &Welcome) {
        // A block is held and acknowledged in its own term or a later one: an answer that says otherwise is none.
        if !self.rules.answers_start(welcome.nonce, self.nonce)
            || welcome.remembered.accepted.term > welcome.remembered.vote
            || welcome.tip.term > welcome.term
        {
            return;
        }
        let stand = Stand {
            term: welcome.term,
            tip: welcome.tip,
            takes_part: welcome.takes_part,
        };
        let forgotten = Some(welcome.remembered).filter(|remembered| self.has_forgotten(remembered));
        match &mut self.participation {
            Participation::Waiting(greeting) => {
                greeting.heard.insert(from, stand);
                greeting.forgotten.extend(forgotten.map(|promise| (from, promise)));
                self.try_leave_waiting();
            }
            Participation::Recovering(_) => self.learn(from, stand, forgotten),
            Participation::Claiming { .. } => {
                if let Some(promise) = forgotten {
                    self.recover(Heard::from([(from, stand)]), [(from, promise)].into());
                }
            }
            Participation::Full => {}
        }
    }

    /// Whether the own disk is older than what that peer has seen.
    fn has_forgotten(&self, remembered: &Promise) -> bool {
        let started = self.rules.is_old_start(self.start, remembered.start);
        let (voted, accepted) = self.misses(remembered);
        self.rules.has_forgotten(started, voted, accepted)
    }

    /// Asks again, and looks whether the wait is over.
    pub(super) fn hello_tick(&mut self) {
        let (now, settings) = (self.now, self.settings);
        let answered: BTreeSet<Slot> = match &mut self.participation {
            Participation::Waiting(greeting) if now >= greeting.due => {
                greeting.due = now.plus(settings.heartbeat_ms);
                greeting.heard.keys().copied().collect()
            }
            Participation::Recovering(recovery) if now >= recovery.due => {
                recovery.due = now.plus(settings.election_max_ms);
                let sound = recovery.heard.iter().filter(|(_, stand)| stand.takes_part);
                sound.map(|(slot, _)| *slot).collect()
            }
            _ => return self.try_leave_waiting(),
        };
        for peer in self.membership.other_voters(self.slot) {
            if !answered.contains(&peer) {
                self.greet(peer);
            }
        }
        self.try_leave_waiting();
    }
}
