//! The exchange at a start, and the memory of what the peers promised (D-10; `Promise`, `Hello`, `Welcome`).
//!
//! Invariants: before every other voter has answered, or a majority after a bounded wait, a node decides nothing; if a
//! peer remembers more of it than its own disk does, it is recovering: it decides nothing, takes blocks, and never
//! votes in a term that it may have voted in. Hellos are answered in every state.
//! Leaves the syncing of the start counter, before the first hello, to the host.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::{Slot, Term};

use super::rules::Rules;
use super::state::{Raft, Redraw, Stage};
use crate::block::Block;
use crate::input::{Entropy, SessionId, Tick};
use crate::message::{Accepted, Hello, Message, Promise, Welcome};
use crate::output::{Class, Output, RoleChange};

/// A node that waits for its welcomes.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    since: Tick,
    due: Tick,
    heard: BTreeSet<Slot>,
    /// What peers remember that the own disk does not.
    forgotten: BTreeMap<Slot, Promise>,
}

/// A node that forgot a promise.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    heard: BTreeSet<Slot>,
    forgotten: BTreeMap<Slot, Promise>,
    due: Tick,
}

/// What the peers were seen to promise, and who was greeted over which session.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    promises: BTreeMap<Slot, Promise>,
    /// The latest hello of each peer: its start, over which session, and the start remembered before it. A repeated
    /// hello of one session is answered as the first was.
    greeted_by: BTreeMap<Slot, (u64, SessionId, u64)>,
    /// Each peer's latest session over which this node said hello, and whether it was the first.
    greeted: BTreeMap<Slot, (SessionId, bool)>,
}

impl Memory {
    pub(crate) fn new(promises: BTreeMap<Slot, Promise>) -> Self {
        Self {
            promises,
            greeted_by: BTreeMap::new(),
            greeted: BTreeMap::new(),
        }
    }

    fn of(&self, peer: Slot) -> Promise {
        self.promises.get(&peer).copied().unwrap_or_default()
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// The first state: waiting, unless there is nobody to wait for.
    pub(super) fn begin(&mut self, watermark: Option<Promise>, entropy: &mut dyn Entropy) {
        let alone = self.membership.other_voters(self.slot).is_empty();
        let noted = watermark.unwrap_or_default();
        let (voted, accepted) = self.misses(&noted);
        let held = !voted && !accepted && noted.start < self.start;
        let lost = self.rules.has_lost_its_end(held).then_some((self.slot, noted));
        if let Some((_, noted)) = lost.filter(|_| alone) {
            // Nobody else has it: it cannot come back, and going on without it would be a lie.
            self.recover(BTreeSet::new(), BTreeMap::from([(self.slot, noted)]));
            return;
        }
        if alone || self.rules.takes_part(true, false) {
            self.deadline = self.now;
            if !alone {
                self.draw_deadline(Redraw::Soon, entropy);
            }
            return;
        }
        self.stage = Stage::Waiting(Greeting {
            since: self.now,
            due: self.now.plus(self.settings.heartbeat_ms),
            heard: BTreeSet::new(),
            forgotten: lost.into_iter().collect(),
        });
    }

    /// What this node has promised once its present write is durable; nothing while it may have promised more.
    pub(super) fn watermark(&self) -> Option<Promise> {
        let certain = self.recovery.is_none() && !matches!(self.stage, Stage::Waiting(_));
        certain.then(|| Promise {
            start: self.start,
            vote: self.vote.term,
            accepted: self.log.tip(),
        })
    }

    /// Says hello to a peer that can be reached anew.
    pub(super) fn greet(&mut self, peer: Slot) {
        if !matches!(self.stage, Stage::Waiting(_)) && self.recovery.is_none() {
            return;
        }
        if let Some(session) = self.sessions.get(&peer).copied() {
            let first = self
                .memory
                .greeted
                .get(&peer)
                .is_none_or(|(known, first)| *first && *known == session);
            self.memory.greeted.insert(peer, (session, first));
        }
        let hello = Hello {
            incarnation: self.incarnation,
            start: self.start,
            term: self.vote.term,
            tip: self.log.tip(),
        };
        self.send(peer, Class::Control, Message::Hello(hello));
    }

    /// A peer starts. What was remembered before this hello is the answer.
    pub(super) fn hello(&mut self, from: Slot, session: SessionId, hello: &Hello) {
        let known = self.memory.of(from);
        let before = match self.memory.greeted_by.get(&from) {
            Some((start, over, before)) if (*start, *over) == (hello.start, session) => *before,
            _ => {
                self.forget_progress(from);
                known.start
            }
        };
        self.memory.greeted_by.insert(from, (hello.start, session, before));
        let welcome = Welcome {
            start: hello.start,
            term: self.vote.term,
            tip: self.log.tip(),
            remembered: Promise { start: before, ..known },
        };
        if hello.start > known.start {
            self.remember(
                from,
                Promise {
                    start: hello.start,
                    ..known
                },
            );
        }
        self.send(from, Class::Control, Message::Welcome(welcome));
    }

    /// What a peer remembers of this node.
    pub(super) fn welcome(&mut self, from: Slot, welcome: &Welcome) {
        // A block is acknowledged in its own term or a later one, so a memory that says otherwise is none.
        if !self.rules.answers_start(welcome.start, self.start)
            || welcome.remembered.accepted.term > welcome.remembered.vote
        {
            return;
        }
        let forgotten = self
            .has_forgotten(from, &welcome.remembered)
            .then_some((from, welcome.remembered));
        if let Stage::Waiting(greeting) = &mut self.stage {
            greeting.heard.insert(from);
            greeting.forgotten.extend(forgotten);
            self.try_leave_waiting();
        } else if let Some(recovery) = &mut self.recovery {
            recovery.heard.insert(from);
            recovery.forgotten.extend(forgotten);
            if let Some((_, promise)) = forgotten {
                self.spend(promise.vote);
            }
            self.try_leave_recovery();
        }
    }

    /// Whether the own disk is older than what that peer has seen.
    fn has_forgotten(&self, from: Slot, remembered: &Promise) -> bool {
        // A peer that was greeted over an earlier session of this start may know the start counter from there.
        let first = self.memory.greeted.get(&from).is_none_or(|(_, first)| *first);
        let started = remembered.start > self.start || (remembered.start == self.start && first);
        let (voted, accepted) = self.misses(remembered);
        self.rules.has_forgotten(started, voted, accepted)
    }

    /// Whether the own disk lacks a vote, and whether it lacks a block, that was promised.
    fn misses(&self, promised: &Promise) -> (bool, bool) {
        let voted = promised.vote > self.vote.term;
        // `vote` is at least the term in which the block was accepted: a chain that holds a block of a later term has
        // moved on since, and lawfully lost that one.
        let accepted = !self.log.contains(promised.accepted)
            && promised.accepted.height.get() > 0
            && self.log.tip().term <= promised.vote;
        (voted, accepted)
    }

    /// Resends hellos, and looks whether the wait is over.
    pub(super) fn hello_tick(&mut self) {
        let now = self.now;
        let heard = match (&mut self.stage, &mut self.recovery) {
            (Stage::Waiting(greeting), _) if now >= greeting.due => {
                greeting.due = now.plus(self.settings.heartbeat_ms);
                greeting.heard.clone()
            }
            (_, Some(recovery)) if now >= recovery.due => {
                recovery.due = now.plus(self.settings.election_max_ms);
                recovery.heard.clone()
            }
            _ => return self.try_leave_waiting(),
        };
        for peer in self.membership.other_voters(self.slot) {
            if !heard.contains(&peer) {
                self.greet(peer);
            }
        }
        self.try_leave_waiting();
    }

    fn try_leave_waiting(&mut self) {
        let Stage::Waiting(greeting) = &mut self.stage else {
            return;
        };
        let own = self.slot;
        let heard = &greeting.heard;
        let all = self
            .membership
            .other_voters(own)
            .iter()
            .all(|peer| heard.contains(peer));
        let waited = self.now.since(greeting.since) >= self.settings.hello_wait_ms;
        let majority = self.rules.quorum(self.membership.configuration(), &|slot| {
            slot == own || heard.contains(&slot)
        });
        if !self.rules.ends_wait(all, waited, majority) {
            return;
        }
        let forgotten = std::mem::take(&mut greeting.forgotten);
        let heard = std::mem::take(&mut greeting.heard);
        self.stage = Stage::Follower;
        self.redraw = Redraw::Soon;
        self.effects.push(Output::Role(RoleChange::Follower {
            term: self.vote.term,
            leader: None,
        }));
        if !forgotten.is_empty() {
            self.recover(heard, forgotten);
            self.try_leave_recovery();
        }
    }

    /// Begins to recover what was forgotten; the votes of those terms may be given.
    fn recover(&mut self, heard: BTreeSet<Slot>, forgotten: BTreeMap<Slot, Promise>) {
        let votes = forgotten.values().map(|promise| promise.vote);
        let spent = votes.max().unwrap_or(Term::ZERO);
        let due = self.now.plus(self.settings.election_max_ms);
        self.recovery = Some(Recovery { heard, forgotten, due });
        self.spend(spent);
    }

    /// The vote of `term` may be given, and forgotten: it counts as given to itself, so nobody gets it a second time.
    fn spend(&mut self, term: Term) {
        if term > self.vote.term {
            self.follow(term, None);
        }
        let record = self.rules.spent(self.vote, term, self.slot);
        if record != self.vote {
            self.set_vote(record);
        }
    }

    /// Leaves recovery with a block committed in a later term than every forgotten one, or, once every other voter has
    /// answered, with the forgotten blocks themselves. What is committed up to the height of one is as good: a block
    /// that is not among it was never final and never will be, and all that was acknowledged below it is there.
    pub(super) fn try_leave_recovery(&mut self) {
        let Some(recovery) = &self.recovery else { return };
        let forgotten = || recovery.forgotten.values().map(|promise| promise.accepted);
        let later = forgotten().all(|id| self.commit.term > id.term);
        let durable = self.writes.durable().height;
        let held = forgotten().all(|id| {
            let settled = id.height <= self.commit.height || self.log.contains(id);
            id.height <= durable && settled
        });
        let all = self
            .membership
            .other_voters(self.slot)
            .iter()
            .all(|peer| recovery.heard.contains(peer));
        if self.rules.ends_recovery(later, all, held) {
            self.recovery = None;
            self.redraw = Redraw::Fully;
        }
    }

    fn remember(&mut self, peer: Slot, promise: Promise) {
        self.memory.promises.insert(peer, promise);
        self.writes.ride_promise(peer, promise, self.now);
    }

    /// A peer asked for or gave a vote in `term`.
    pub(super) fn remember_vote(&mut self, peer: Slot, term: Term) {
        let known = self.memory.of(peer);
        if term > known.vote {
            self.remember(peer, Promise { vote: term, ..known });
        }
    }

    /// A peer acknowledged to this leader. The latest counts, in the order of the leader's own chain.
    pub(super) fn remember_accepted(&mut self, peer: Slot, accepted: &Accepted) {
        let leads = matches!(self.stage, Stage::Leader(_)) && accepted.term == self.vote.term;
        if !leads || !self.log.contains(accepted.upto) {
            return;
        }
        let known = self.memory.of(peer);
        let further = !self.log.contains(known.accepted) || accepted.upto.height > known.accepted.height;
        if further || accepted.term > known.vote {
            let held = if further { accepted.upto } else { known.accepted };
            self.remember(
                peer,
                Promise {
                    vote: known.vote.max(accepted.term),
                    accepted: held,
                    ..known
                },
            );
        }
    }
}
