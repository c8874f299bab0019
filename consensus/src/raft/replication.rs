//! The leader's side of replication: proposals, batches, contacts, answers, commit.
//!
//! Invariants: blocks leave before the own sync, but the leader counts itself only after it (P3); commit moves only by
//! counting a block of the own term; what an answer says is believed only of blocks in the own chain.
//! Leaves what a peer may be sent next to `progress`, and blocks below memory to the host's store (`Output::Fetch`).

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::log;
use super::pace::Pace;
use super::progress::{Flow, Progress};
use super::read::Reads;
use super::rules::Rules;
use super::state::{Leadership, Raft, Stage};
use crate::block::Block;
use crate::engine::Engine;
use crate::input::{FetchId, Tick};
use crate::message::{Accepted, Append, Message, Rejected};
use crate::output::{Class, Halt, Output};

impl Leadership {
    pub(super) fn new(now: Tick, contact_ms: u64) -> Self {
        Self {
            progress: BTreeMap::new(),
            opened: false,
            token: 0,
            reads: Reads::default(),
            transfer: None,
            failed_transfers: BTreeSet::new(),
            contact_due: now.plus(contact_ms),
            pace: Pace::new(now),
        }
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// The peers of the configuration in force: newcomers start at the leader's tip.
    pub(super) fn refresh_peers(&mut self) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let peers = self.membership.peers(self.slot);
        lead.progress.retain(|slot, _| peers.contains(slot));
        for peer in peers {
            let next = self.log.tip().height.next();
            lead.progress
                .entry(peer)
                .or_insert_with(|| Progress::new(next, self.now));
        }
    }

    /// The host made a block at [`crate::engine::Engine::proposal`].
    pub(super) fn propose(&mut self, block: B) {
        let Some(place) = self.proposal() else {
            return self.halt(Halt::Invariant(
                "a block is proposed only where a proposal is asked for",
            ));
        };
        let fits = self.log.fits(&block) && block.id().term == place.term && block.is_opening() == place.opening;
        if !fits {
            return self.halt(Halt::Invariant(
                "a proposed block stands on the tip, in the term, opening it first",
            ));
        }
        if block.configuration().is_some() {
            // Seam: changes of membership will come in as an input of their own, checked here, not as a block.
            return self.halt(Halt::Invariant("membership blocks are not proposed by the host"));
        }
        if let Stage::Leader(lead) = &mut self.stage {
            lead.opened = true;
        }
        self.append(vec![block]);
        for peer in self.membership.peers(self.slot) {
            self.replicate(peer);
        }
    }

    /// A leader's clock: check-quorum, lost messages, silence, a transfer that failed.
    pub(super) fn leader_tick(&mut self) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let (own, now, patience) = (self.slot, self.now, self.settings.election_max_ms);
        let progress = &lead.progress;
        let live = |slot| slot == own || progress.get(&slot).is_some_and(|peer| now.since(peer.heard) < patience);
        let answered = self.rules.quorum(self.membership.configuration(), &live);
        if !self.rules.keeps_leading(answered) {
            return self.follow(self.vote.term, None);
        }
        self.expire_transfer();
        if !self.keeps_pace() {
            return;
        }
        let Stage::Leader(lead) = &mut self.stage else { return };
        let retry = self.settings.election_min_ms;
        let mut stuck = Vec::new();
        for (slot, peer) in &mut lead.progress {
            if self.rules.seems_lost(peer.is_stuck(now, retry)) {
                peer.probe(peer.matched_height().next());
                stuck.push(*slot);
            }
        }
        for peer in stuck {
            self.replicate(peer);
        }
        let Stage::Leader(lead) = &mut self.stage else { return };
        if self.rules.contacts(now >= lead.contact_due) {
            self.contact_all();
        }
    }

    /// A contact to everyone, blocks or none.
    pub(super) fn contact_all(&mut self) {
        let due = self.now.plus(self.settings.heartbeat_ms);
        if let Stage::Leader(lead) = &mut self.stage {
            lead.contact_due = due;
        }
        for peer in self.membership.peers(self.slot) {
            self.contact(peer);
        }
    }

    /// An append without blocks. It rests on what surely fits, so that it never overtakes blocks and is refused; only a
    /// peer that is being probed is asked at the probe.
    fn contact(&mut self, to: Slot) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some(peer) = lead.progress.get_mut(&to) else { return };
        let base = self.log.base();
        let retry = self.rules.sends_again_after(self.settings.election_min_ms);
        let mut fetch = false;
        let previous = match peer.flow {
            Flow::Stream => peer.matched.unwrap_or(base),
            Flow::Probe { .. } => match peer.next.previous().and_then(|height| self.log.id(height)) {
                Some(id) => {
                    peer.flow = Flow::Probe { sent: true };
                    id
                }
                None => {
                    fetch = peer.fetch.is_none() && peer.probes_again(self.now, retry);
                    if fetch {
                        peer.flow = Flow::Probe { sent: false };
                    }
                    base
                }
            },
        };
        peer.told_commit = self.commit.height.min(previous.height);
        self.send_append(to, Class::Control, previous, Vec::new());
        if fetch {
            self.replicate(to);
        }
    }

    fn send_append(&mut self, to: Slot, class: Class, previous: BlockId, blocks: Vec<B>) {
        let Stage::Leader(lead) = &self.stage else { return };
        let append = Append {
            term: self.vote.term,
            previous,
            blocks,
            commit: self.commit,
            read_token: lead.token,
            sign_at: Height::ZERO,
        };
        self.send(to, class, Message::Append(append));
    }

    /// Sends what there is and what the window admits.
    pub(super) fn replicate(&mut self, to: Slot) {
        loop {
            let Stage::Leader(lead) = &mut self.stage else { return };
            let Some(peer) = lead.progress.get_mut(&to) else { return };
            let Some(room) = peer.room(self.rules.window(self.settings.window_bytes)) else {
                return;
            };
            let tip = self.log.tip().height;
            let streamed = peer.flow == Flow::Stream && peer.next > tip;
            if streamed || peer.fetch.is_some() || !self.sessions.contains_key(&to) {
                return;
            }
            if peer.next <= self.log.base().height {
                return self.fetch_for(to, room);
            }
            let Some(previous) = peer.next.previous().and_then(|height| self.log.id(height)) else {
                return;
            };
            let (blocks, bytes) = self.log.batch(peer.next, self.settings.append_bytes.min(room));
            if peer.flow == Flow::Stream && !peer.is_idle() && bytes > room {
                return;
            }
            let last = blocks.last().map_or(previous, Block::id);
            peer.sent(last.height, bytes, self.now);
            peer.told_commit = self.commit.height.min(last.height);
            self.send_append(to, Class::Log, previous, blocks);
        }
    }

    /// Asks the store for what a peer needs next and memory no longer holds.
    fn fetch_for(&mut self, to: Slot, room: u64) {
        let fetch = self.next_fetch();
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some(peer) = lead.progress.get_mut(&to) else { return };
        peer.fetch = Some(fetch);
        self.effects.push(Output::Fetch {
            fetch,
            first: peer.next,
            last: self.log.base().height,
            max_bytes: self.settings.append_bytes.min(room),
        });
    }

    /// Blocks from the store: for a peer whose copy is damaged, or for one that is far behind.
    pub(super) fn loaded(&mut self, fetch: FetchId, previous: BlockId, blocks: Vec<B>) {
        if self.loaded_for_repair(fetch, &blocks) {
            return;
        }
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some((to, peer)) = lead.progress.iter_mut().find(|(_, peer)| peer.fetch == Some(fetch)) else {
            return;
        };
        let to = *to;
        peer.fetch = None;
        let Some(last) = blocks.last().map(Block::id) else {
            return;
        };
        if Some(previous.height) != peer.next.previous() {
            // An answer came meanwhile, and something else is to be sent next.
            return self.replicate(to);
        }
        if !log::chained(previous, &blocks) || !self.log.contains(last) {
            return;
        }
        let bytes = blocks.iter().fold(0_u64, |sum, block| sum.saturating_add(block.size()));
        peer.sent(last.height, bytes, self.now);
        peer.told_commit = self.commit.height.min(last.height);
        self.send_append(to, Class::Bulk, previous, blocks);
        self.replicate(to);
    }

    /// Stored durably there.
    pub(super) fn accepted(&mut self, from: Slot, accepted: &Accepted) {
        self.remember_accepted(from, accepted);
        let contained = self.log.contains(accepted.upto);
        let tip = self.log.tip().height;
        let retry = self.rules.sends_again_after(self.settings.election_min_ms);
        let Some(peer) = self.answering(from, accepted.term, accepted.read_token) else {
            return;
        };
        peer.executed = accepted.executed;
        if contained {
            let now = peer.heard;
            peer.acknowledged(accepted.upto, tip, now, retry);
        }
        self.answered(from);
    }

    /// Does not fit there, or this leadership is over.
    pub(super) fn rejected(&mut self, from: Slot, rejected: &Rejected) {
        if self.rules.heeds_later_term(rejected.term, self.vote.term) {
            return self.follow(rejected.term, None);
        }
        let next = self.next_probe(from, rejected);
        let tip = self.log.tip().height;
        let retry = self.rules.sends_again_after(self.settings.election_min_ms);
        let Some(peer) = self.answering(from, rejected.term, rejected.read_token) else {
            return;
        };
        let matched = peer.matched_height();
        match peer.flow {
            Flow::Probe { .. } if Some(rejected.previous) == peer.next.previous() => {
                let again = peer.next != next || (next <= tip && peer.probes_again(peer.heard, retry));
                if next > peer.next {
                    peer.has_news();
                }
                peer.probe(next);
                if !again || (next > tip && rejected.tip.height == tip) {
                    // The same question would get the same answer, be it that a recovering node holds everything and
                    // may not say so: the next contact asks again.
                    peer.flow = Flow::Probe { sent: true };
                }
            }
            // Blocks went missing on the way: what is matched stays matched. They go out again at once, but only once
            // in a while: whoever holds them back without a word would be sent them without an end.
            Flow::Stream if rejected.previous > matched => {
                let again = peer.probes_again(peer.heard, retry);
                peer.probe(matched.next());
                peer.flow = Flow::Probe { sent: !again };
            }
            _ => {}
        }
        let upto = rejected.tip;
        self.believe_rejection(from, upto);
        self.answered(from);
    }

    fn believe_rejection(&mut self, from: Slot, tip: BlockId) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some(peer) = lead.progress.get_mut(&from) else {
            return;
        };
        let matched = self.rules.matched_after_rejection(peer.matched_height(), tip.height);
        if matched > peer.matched_height() {
            peer.matched = self.log.id(matched);
        }
    }

    /// Where to ask next.
    fn next_probe(&self, from: Slot, rejected: &Rejected) -> Height {
        let matched = match &self.stage {
            Stage::Leader(lead) => lead.progress.get(&from).map_or(Height::ZERO, Progress::matched_height),
            _ => Height::ZERO,
        };
        self.rules.next_after_refusal(self.meeting_point(rejected), matched)
    }

    /// Where the chains can meet at the latest, from what a refusal shows of the other chain: each round leaves out at
    /// least one term of one of the two.
    fn meeting_point(&self, rejected: &Rejected) -> Height {
        if rejected.tip.height >= rejected.previous && self.log.contains(rejected.tip) {
            // The follower holds what was asked for, and says from where on it can be sent more.
            return rejected.tip.height.next();
        }
        let limit = rejected
            .previous
            .min(rejected.tip.height.next())
            .previous()
            .unwrap_or(Height::ZERO);
        let last = self
            .log
            .last_at_most(rejected.conflict_term, rejected.previous.min(rejected.tip.height));
        let same_term = self.log.term(last) == Some(rejected.conflict_term);
        let previous = if same_term {
            last
        } else {
            rejected.conflict_first.previous().unwrap_or(Height::ZERO)
        };
        let tip_may_fit = rejected.tip.height < rejected.previous && same_term;
        if tip_may_fit {
            last.next()
        } else {
            previous.min(limit).next()
        }
    }

    /// The peer that answers in this leadership, noted as live.
    fn answering(&mut self, from: Slot, term: Term, token: u64) -> Option<&mut Progress> {
        let Stage::Leader(lead) = &mut self.stage else {
            return None;
        };
        if !self.rules.answers_leadership(term, self.vote.term) {
            return None;
        }
        let peer = lead.progress.get_mut(&from)?;
        peer.heard = self.now;
        peer.token = peer.token.max(token.min(lead.token));
        Some(peer)
    }

    /// What follows from any answer.
    fn answered(&mut self, from: Slot) {
        self.try_commit();
        self.check_reads();
        self.replicate(from);
        self.tell_commit(from);
        self.try_hand_over();
    }

    /// Commits what a quorum holds durably, where a block of the own term is among it.
    pub(super) fn try_commit(&mut self) {
        let Stage::Leader(lead) = &self.stage else { return };
        let own = self
            .rules
            .own_height(self.writes.durable().height, self.log.tip().height);
        let held = |slot| match lead.progress.get(&slot) {
            _ if slot == self.slot => own,
            Some(peer) => peer.matched_height(),
            None => Height::ZERO,
        };
        let height = self.rules.quorum_height(self.membership.configuration(), &held);
        let Some(id) = self.log.id(height).filter(|id| id.height > self.commit.height) else {
            return;
        };
        if !self.rules.commits_by_counting(id.term, self.vote.term) {
            return;
        }
        self.commit_to(id);
        for peer in self.membership.peers(self.slot) {
            self.tell_commit(peer);
        }
        self.next_read_round();
        self.check_reads();
    }

    /// Tells an idle follower at once; a busy one hears it with the next blocks.
    fn tell_commit(&mut self, to: Slot) {
        let Stage::Leader(lead) = &self.stage else { return };
        let Some(peer) = lead.progress.get(&to) else { return };
        let useful = self.commit.height.min(peer.matched_height());
        if peer.flow == Flow::Stream && peer.is_idle() && peer.told_commit < useful {
            self.contact(to);
        }
    }

    /// A new session: whatever was in flight is gone.
    pub(super) fn resume(&mut self, to: Slot) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let Some(peer) = lead.progress.get_mut(&to) else { return };
        let next = if peer.matched.is_some() {
            peer.matched_height()
        } else {
            self.log.tip().height
        };
        peer.probe(next.next());
        self.replicate(to);
    }

    /// A peer started anew: what it acknowledged before is asked for again, not assumed.
    pub(super) fn forget_progress(&mut self, of: Slot) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        if let Some(peer) = lead
            .progress
            .get_mut(&of)
            .filter(|_| self.rules.asks_again_after_restart())
        {
            let fresh = Progress::new(self.log.tip().height.next(), peer.heard);
            *peer = fresh;
        }
    }
}
