//! Keeps a node that forgot something it promised: what it must have again, and when it surely has (D-4, D-10).
//!
//! Invariants: it decides nothing and acknowledges nothing, but takes blocks; it never votes in a term in which it may
//! have voted; that it recovers is on its disk before anything that it does meanwhile, so a restart goes on with it.

use std::collections::BTreeMap;

use quipu_crypto::id::{BlockId, Slot, Term};

use super::participation::{Heard, Participation, Stand};
use super::rules::Rules;
use super::state::Raft;
use crate::block::Block;
use crate::input::Tick;
use crate::message::Promise;
use crate::output::LogOperation;

/// A node that forgot a promise.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    pub(super) heard: Heard,
    /// What is remembered, by whom; under the own slot, what is noted here.
    forgotten: BTreeMap<Slot, Promise>,
    /// When to ask those again who have not answered, or did not take part themselves.
    pub(super) due: Tick,
    /// The block that the disk says it must get.
    noted: Option<BlockId>,
}

/// The most of both: a later block supersedes an earlier one, for only what was never final is ever replaced.
pub(super) fn most(one: Promise, other: Promise) -> Promise {
    let place = |id: &BlockId| (id.term, id.height);
    Promise {
        start: one.start.max(other.start),
        vote: one.vote.max(other.vote),
        accepted: std::cmp::max_by_key(one.accepted, other.accepted, place),
    }
}

impl Recovery {
    /// Everything that is remembered, in one.
    fn promised(&self) -> Promise {
        self.forgotten.values().copied().reduce(most).unwrap_or_default()
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// Whether the own disk lacks a vote, and whether it lacks a block, that was promised.
    pub(super) fn misses(&self, promised: &Promise) -> (bool, bool) {
        let voted = promised.vote > self.vote.term;
        // `vote` is at least the term in which the block was accepted: a chain that holds a block of a later term has
        // moved on since, and lawfully lost that one.
        // What is committed up to its height is as good as the block, see `try_leave_recovery`.
        let accepted = !self.rules.settles(self.commit.height, promised.accepted.height)
            && !self.log.contains(promised.accepted)
            && self.log.tip().term <= promised.vote;
        (voted, accepted)
    }

    /// Begins to recover what was forgotten; the votes of those terms may be given.
    pub(super) fn recover(&mut self, heard: Heard, forgotten: BTreeMap<Slot, Promise>) {
        let votes = forgotten.values().map(|promise| promise.vote);
        let terms = heard.values().map(|stand| stand.term);
        let spent = votes.chain(terms).max().unwrap_or(Term::ZERO);
        self.participation = Participation::Recovering(Recovery {
            heard,
            forgotten,
            due: self.now.plus(self.settings.election_max_ms),
            noted: None,
        });
        self.note_recovery();
        self.spend(spent);
    }

    /// Another answer to a recovering node's hello, and what that peer remembers beyond the own disk.
    pub(super) fn learn(&mut self, from: Slot, stand: Stand, remembered: Option<Promise>) {
        let Participation::Recovering(recovery) = &mut self.participation else {
            return;
        };
        recovery.heard.insert(from, stand);
        recovery.forgotten.extend(remembered.map(|promise| (from, promise)));
        self.note_recovery();
        self.spend(remembered.map_or(Term::ZERO, |promise| promise.vote).max(stand.term));
        self.try_leave_recovery();
    }

    /// Writes down what must be had again, where the disk does not say so yet: the next start may find its disk fit
    /// for all that is remembered, and still lack what this start has learned.
    fn note_recovery(&mut self) {
        let Participation::Recovering(recovery) = &mut self.participation else {
            return;
        };
        let lacking = recovery.promised().accepted;
        if self.rules.notes_recovery(recovery.noted == Some(lacking)) {
            recovery.noted = Some(lacking);
            self.writes.stage(LogOperation::Recover(Some(lacking)));
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
    /// What is remembered is the least of what was promised: a memory that was not synced yet is gone with a crash of
    /// the one who kept it. Whoever else held such a block has it on its disk, though, unless it recovers as well, and
    /// every vote that counted has moved its voter's term. So it is over
    /// * with a block committed in a later term than all that is remembered, and than the terms of a quorum of those
    ///   who take part, itself not counted, when they answered: its leader won after this start, over all that was
    ///   final;
    /// * or, once every other voter has answered, with the forgotten blocks, and where those who have a better chain,
    ///   or had one and recover, would with this node be no quorum. What is committed up to the height of a block is as
    ///   good as the block: if it is not among it, it was never final.
    pub(super) fn try_leave_recovery(&mut self) {
        let Participation::Recovering(recovery) = &self.participation else {
            return;
        };
        let (own, heard) = (self.slot, &recovery.heard);
        let members = self.membership.configuration();
        let forgotten = || recovery.forgotten.values().map(|promise| promise.accepted);
        let since = self.rules.quorum(members, &|slot| {
            let stand = heard
                .get(&slot)
                .filter(|stand| slot != own && self.rules.vouches(stand.takes_part));
            stand.is_some_and(|stand| self.commit.term > stand.term)
        });
        let exact = self.rules.remembers_all();
        let later = (exact || since) && forgotten().all(|id| self.commit.term > id.term);
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
            slot == own
                || heard
                    .get(&slot)
                    .is_some_and(|stand| !self.rules.vouches(stand.takes_part) || better(&stand.tip))
        });
        let mut others = self.membership.other_voters(own).into_iter();
        let all = others.all(|peer| heard.contains_key(&peer));
        if self.rules.ends_recovery(later, all, held && (exact || !behind)) {
            self.start = self.start.max(recovery.promised().start.saturating_add(1));
            self.writes.stage(LogOperation::Recover(None));
            self.claim(true);
        }
    }
}
