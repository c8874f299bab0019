//! Keeps whether a node takes part in deciding: what it waits for after a start, and the claim of that start (D-10).
//!
//! Invariants: nobody takes part before it knows that its disk holds what it promised, and before the number of its
//! start is durable and higher than any that is remembered of it. The number is claimed then and not before: an old
//! copy of a disk that crashes again and again while it asks does not count itself past what its peers remember.
//! Leaves the questions to `hello`, and what was forgotten to `recovery`.

use std::collections::BTreeMap;

use quipu_crypto::id::{BlockId, Slot, Term};

use super::recovery::{Recovery, most};
use super::rules::Rules;
use super::state::{Raft, Redraw};
use crate::block::Block;
use crate::input::{Entropy, PersistSeq, Tick};
use crate::message::Promise;
use crate::output::{LogOperation, Output, RoleChange};

/// Whether a node takes part.
#[derive(Clone, Debug)]
pub(super) enum Participation {
    /// Has not heard enough of what the others remember of it.
    Waiting(Greeting),
    /// Has promised something that its disk does not hold.
    Recovering(Recovery),
    /// Its disk holds all; takes part once this write, which claims the start, is durable.
    Claiming {
        write: PersistSeq,
        /// Whether it recovered before, or only waited.
        recovered: bool,
    },
    /// Takes part.
    Full,
}

/// A node that waits for its welcomes.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub(super) since: Tick,
    pub(super) due: Tick,
    pub(super) heard: Heard,
    /// What others remember that the own disk does not hold; under the own slot, what is noted here.
    pub(super) forgotten: BTreeMap<Slot, Promise>,
}

/// Where a peer stood when it answered a hello.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) term: Term,
    pub(super) tip: BlockId,
    /// It takes part itself: neither waits nor recovers.
    pub(super) takes_part: bool,
}

/// Who has answered a hello.
pub(super) type Heard = BTreeMap<Slot, Stand>;

impl<B: Block, R: Rules> Raft<B, R> {
    /// The first state: waiting, unless there is nobody to wait for. `watermark` is what was noted beside the log,
    /// `unfinished` what a recovery before this start still had to get.
    pub(super) fn begin(&mut self, watermark: Option<Promise>, unfinished: Option<BlockId>, entropy: &mut dyn Entropy) {
        let noted = watermark.unwrap_or_default();
        let (voted, accepted) = self.misses(&noted);
        let held = !voted && !accepted && noted.start < self.start;
        let lost = self.rules.has_lost_its_end(held).then_some(noted);
        let unfinished = unfinished.map(|accepted| Promise {
            accepted,
            ..Promise::default()
        });
        let own = lost.into_iter().chain(unfinished).reduce(most);
        let forgotten: BTreeMap<Slot, Promise> = own.map(|own| (self.slot, own)).into_iter().collect();
        if self.membership.other_voters(self.slot).is_empty() {
            if forgotten.is_empty() {
                return self.claim(false);
            }
            // Nobody else has it: it cannot come back, and going on without it would be a lie.
            return self.recover(Heard::new(), forgotten);
        }
        if self.rules.takes_part(true, false) {
            self.participation = Participation::Full;
            return self.draw_deadline(Redraw::Soon, entropy);
        }
        if self.rules.claims_while_it_asks() {
            self.writes.stage(LogOperation::Start(self.start));
        }
        self.participation = Participation::Waiting(Greeting {
            since: self.now,
            due: self.now.plus(self.settings.heartbeat_ms),
            heard: Heard::new(),
            forgotten,
        });
    }

    /// Whether this node takes part in deciding.
    pub(super) fn takes_part(&self) -> bool {
        let recovering = matches!(self.participation, Participation::Recovering(_));
        let full = matches!(self.participation, Participation::Full);
        full || self.rules.takes_part(!recovering, recovering)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.participation, Participation::Waiting(_))
    }

    /// Whether enough others have answered.
    pub(super) fn try_leave_waiting(&mut self) {
        let Participation::Waiting(greeting) = &mut self.participation else {
            return;
        };
        let own = self.slot;
        let heard = &greeting.heard;
        let mut others = self.membership.other_voters(own).into_iter();
        let all = others.all(|peer| heard.contains_key(&peer));
        let waited = self.now.since(greeting.since) >= self.settings.hello_wait_ms;
        let majority = self.rules.quorum(self.membership.configuration(), &|slot| {
            slot == own || heard.contains_key(&slot)
        });
        if !self.rules.ends_wait(all, waited, majority) {
            return;
        }
        let forgotten = std::mem::take(&mut greeting.forgotten);
        let heard = std::mem::take(&mut greeting.heard);
        self.effects.push(Output::Role(RoleChange::Follower {
            term: self.vote.term,
            leader: None,
        }));
        if forgotten.is_empty() {
            return self.claim(false);
        }
        self.recover(heard, forgotten);
        self.try_leave_recovery();
    }

    /// Claims this start: once it is durable, whatever older copy of this disk is ever started announces no later one.
    pub(super) fn claim(&mut self, recovered: bool) {
        let write = self.writes.stage(LogOperation::Start(self.start));
        self.participation = Participation::Claiming { write, recovered };
    }

    /// A write is durable: was it the claim?
    pub(super) fn try_take_part(&mut self) {
        let Participation::Claiming { write, recovered } = self.participation else {
            return;
        };
        if !self.writes.is_done(write) {
            return;
        }
        self.participation = Participation::Full;
        if self.membership.other_voters(self.slot).is_empty() {
            self.deadline = self.now;
        } else {
            self.redraw = if recovered { Redraw::Fully } else { Redraw::Soon };
        }
        for peer in self.membership.peers(self.slot) {
            self.greet(peer);
        }
    }
}
