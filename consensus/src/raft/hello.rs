//! The exchange at a start, and the memory of what the peers promised (D-10; `Promise`, `Hello`, `Welcome`).
//!
//! Invariants: before every other voter has answered, or a majority after a bounded wait, a node decides nothing; if a
//! peer remembers more of it than its own disk does, it is recovering: it decides nothing, takes blocks, and never
//! votes in a term that it may have voted in. Hellos are answered in every state.
//! Leaves the syncing of the start counter, before the first hello, to the host.

use std::collections::BTreeMap;

use quipu_crypto::id::{BlockId, Slot, Term};

use super::rules::Rules;
use super::state::{Raft, Redraw, Stage};
use crate::block::Block;
use crate::input::{Entropy, SessionId, Tick};
use crate::message::{Accepted, Hello, Message, Promise, Welcome};
use crate::output::{Class, Output, RoleChange};

/// Who has answered a hello, and where each stood then: its term and its tip.
type Heard = BTreeMap<Slot, (Term, BlockId)>;

/// A node that waits for its welcomes.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    since: Tick,
    due: Tick,
    heard: Heard,
    /// What peers remember that the own disk does not.
    forgotten: BTreeMap<Slot, Promise>,
}

/// A node that forgot a promise.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    heard: Heard,
    forgotten: BTreeMap<Slot, Promise>,
    due: Tick,
}

/// The start that a watermark names while its node recovers: no start is ever beyond it.
const RECOVERING: u64 = u64::MAX;

impl Recovery {
    /// Whether what was forgotten is known to the last of it: the own watermark has it, and no peer knows of more.
    fn is_exact(&self, own: Slot) -> bool {
        let place = |id: BlockId| (id.term, id.height);
        let noted = self.forgotten.get(&own).filter(|noted| noted.start != RECOVERING);
        noted.is_some_and(|noted| {
            self.forgotten.values().all(|promise| {
                promise.start <= noted.start
                    && promise.vote <= noted.vote
                    && place(promise.accepted) <= place(noted.accepted)
            })
        })
    }
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
            self.recover(Heard::new(), BTreeMap::from([(self.slot, noted)]));
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
            heard: Heard::new(),
            forgotten: lost.into_iter().collect(),
        });
    }

    /// What this node has promised once its present write is durable; nothing while it may have promised more. What
    /// only peers told it to have forgotten it notes as well: the next start would count past the one they remember.
    pub(super) fn watermark(&self) -> Option<Promise> {
        if let Some(recovery) = &self.recovery {
            let forgotten = recovery.forgotten.values().map(|promise| promise.accepted);
            return self
                .rules
                .notes_recovery(recovery.is_exact(self.slot))
                .then(|| Promise {
                    start: RECOVERING,
                    vote: self.vote.term,
                    accepted: forgotten.max_by_key(|id| (id.term, id.height)).unwrap_or_default(),
                });
        }
        (!matches!(self.stage, Stage::Waiting(_))).then(|| Promise {
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
        // A block is held and acknowledged in its own term or a later one: an answer that says otherwise is none.
        if !self.rules.answers_start(welcome.start, self.start)
            || welcome.remembered.accepted.term > welcome.remembered.vote
            || welcome.tip.term > welcome.term
        {
            return;
        }
        let stands = (welcome.term, welcome.tip);
        let forgotten = self
            .has_forgotten(from, &welcome.remembered)
            .then_some((from, welcome.remembered));
        if let Stage::Waiting(greeting) = &mut self.stage {
            greeting.heard.insert(from, stands);
            greeting.forgotten.extend(forgotten);
            self.try_leave_waiting();
        } else if let Some(recovery) = &mut self.recovery {
            recovery.heard.insert(from, stands);
            recovery.forgotten.extend(forgotten);
            let remembered = forgotten.map_or(Term::ZERO, |(_, promise)| promise.vote);
            self.spend(remembered.max(welcome.term));
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
        let accepted = !self.rules.settles(self.commit.height, promised.accepted.height)
            && !self.log.contains(promised.accepted)
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
            if !heard.contains_key(&peer) {
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
            .all(|peer| heard.contains_key(peer));
        let waited = self.now.since(greeting.since) >= self.settings.hello_wait_ms;
        let majority = self.rules.quorum(self.membership.configuration(), &|slot| {
            slot == own || heard.contains_key(&slot)
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
    fn recover(&mut self, heard: Heard, forgotten: BTreeMap<Slot, Promise>) {
        let votes = forgotten.values().map(|promise| promise.vote);
        let terms = heard.values().map(|(term, _)| *term);
        let spent = votes.chain(terms).max().unwrap_or(Term::ZERO);
        let due = self.now.plus(self.settings.election_max_ms);
        let recovery = Recovery { heard, forgotten, due };
        let exact = recovery.is_exact(self.slot);
        self.recovery = Some(recovery);
        self.spend(spent);
        if !exact {
            // So that the watermark is written now.
            self.set_vote(self.vote);
        }
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

    /// Leaves recovery once the own chain must have every block that this node may ever have helped to commit.
    ///
    /// What peers remember of it is the least of what it promised: a memory that was not synced yet is gone with a
    /// crash of the one who kept it. Whoever else held such a block has it on its disk, though, and every vote that
    /// counted has moved its voter's term. So it is over
    /// * with a block committed in a later term than all that is remembered, and than the terms of a quorum, itself not
    ///   counted, when they answered: its leader won after this start, over all that was final;
    /// * or, once every other voter has answered, with the forgotten blocks, and where those with a better chain would
    ///   with this node be no quorum. What is committed up to the height of a block is as good as the block: if it is
    ///   not among it, it was never final.
    ///
    /// What only the own watermark tells is exact.
    pub(super) fn try_leave_recovery(&mut self) {
        let Some(recovery) = &self.recovery else { return };
        let (own, heard) = (self.slot, &recovery.heard);
        let forgotten = || recovery.forgotten.values().map(|promise| promise.accepted);
        let exact = self.rules.remembers_all(recovery.is_exact(own));
        let members = self.membership.configuration();
        let since = self.rules.quorum(members, &|slot| {
            slot != own && heard.get(&slot).is_some_and(|(term, _)| self.commit.term > *term)
        });
        let later = forgotten().all(|id| self.commit.term > id.term) && (exact || since);
        let durable = self.writes.durable();
        let held = forgotten().all(|id| {
            let settled = self.rules.settles(self.commit.height, id.height) || self.log.contains(id);
            id.height <= durable.height && settled
        });
        let better = |tip: &BlockId| {
            let settled = tip.height <= self.commit.height.min(durable.height);
            !settled && (tip.term, tip.height) > (durable.term, durable.height)
        };
        let behind = self.rules.quorum(members, &|slot| {
            slot == own || heard.get(&slot).is_some_and(|(_, tip)| better(tip))
        });
        let mut others = self.membership.other_voters(own).into_iter();
        let all = others.all(|peer| heard.contains_key(&peer));
        let held = held && (exact || !behind);
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
