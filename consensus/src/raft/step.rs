//! One input in, its consequences out: the dispatch, the clock, and the order of what leaves.
//!
//! Invariants: the write of a step comes out before everything else; after `Halt` nothing comes out.
//! Leaves every input to the file that is named after it.

use std::collections::BTreeMap;

use quipu_crypto::id::{Height, Slot};

use super::participation::Participation;
use super::progress::Progress;
use super::rules::Rules;
use super::state::{Raft, Stage};
use crate::block::Block;
use crate::engine::{Engine, PeerStatus, Proposal, Role, Status};
use crate::input::{Entropy, Input, PersistSeq, SessionId, Tick};
use crate::message::Message;
use crate::output::{Halt, Output};

impl<B: Block, R: Rules> Engine for Raft<B, R> {
    type Block = B;

    fn step(&mut self, now: Tick, entropy: &mut dyn Entropy, input: Input<B>, out: &mut Vec<Output<B>>) {
        if self.halted {
            return;
        }
        self.now = self.now.max(now);
        if self.broken.is_none() {
            self.dispatch(input);
        }
        if let Some(halt) = self.broken.take() {
            self.halted = true;
            self.effects.clear();
            out.push(Output::Halt(halt));
            return;
        }
        let redraw = std::mem::take(&mut self.redraw);
        self.draw_deadline(redraw, entropy);
        let watermark = self.watermark();
        out.extend(self.writes.seal(self.now, self.settings.election_max_ms, watermark));
        out.append(&mut self.effects);
    }

    fn status(&self) -> Status {
        Status {
            slot: self.slot,
            role: self.role(),
            term: self.vote.term,
            leader: self.leader,
            tip: self.log.tip(),
            durable: self.writes.durable(),
            commit: self.commit,
            membership: self.membership.height(),
            peers: self.peers(),
        }
    }

    fn proposal(&self) -> Option<Proposal> {
        let Stage::Leader(lead) = &self.stage else { return None };
        let uncommitted = self.log.bytes_above(self.commit.height);
        let waits = self.rules.is_full(uncommitted, self.settings.uncommitted_bytes) || lead.transfer.is_some();
        if self.halted || !self.rules.takes_blocks(self.may_append) || (lead.opened && waits) {
            return None;
        }
        Some(Proposal {
            term: self.vote.term,
            parent: self.log.tip(),
            opening: self.rules.must_open(lead.opened),
            membership: self.membership.height(),
        })
    }

    fn block(&self, height: Height) -> Option<&B> {
        self.log.block(height)
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    fn role(&self) -> Role {
        match (&self.participation, &self.stage) {
            (Participation::Waiting(_) | Participation::Claiming { recovered: false, .. }, _) => Role::Waiting,
            (Participation::Recovering(_) | Participation::Claiming { .. }, _) => Role::Recovering,
            (Participation::Full, Stage::Follower) => Role::Follower,
            (Participation::Full, Stage::PreCandidate(_)) => Role::PreCandidate,
            (Participation::Full, Stage::Candidate(_)) => Role::Candidate,
            (Participation::Full, Stage::Leader(_)) => Role::Leader,
        }
    }

    fn peers(&self) -> BTreeMap<Slot, PeerStatus> {
        let Stage::Leader(lead) = &self.stage else {
            return BTreeMap::new();
        };
        let status = |peer: &Progress| PeerStatus {
            matched: peer.matched_height(),
            next: peer.next,
            in_flight: peer.bytes_in_flight(),
            active: self.now.since(peer.heard) < self.settings.election_max_ms,
            executed: peer.executed,
        };
        lead.progress.iter().map(|(slot, peer)| (*slot, status(peer))).collect()
    }

    fn dispatch(&mut self, input: Input<B>) {
        match input {
            Input::Tick => self.tick(),
            Input::PeerUp { peer, session } => self.peer_up(peer, session),
            Input::PeerDown { peer, session } => self.peer_down(peer, session),
            Input::Receive { from, session, message } => {
                if self.rules.is_live(self.sessions.get(&from).copied(), session) {
                    self.receive(from, message);
                }
            }
            Input::Propose { block } => self.propose(block),
            Input::Persisted { seq } => self.persisted(seq),
            Input::PersistFailed { .. } if self.rules.stops_at_failed_write() => self.halt(Halt::WriteFailed),
            Input::PersistFailed { .. } => {}
            Input::Loaded {
                fetch,
                previous,
                blocks,
            } => self.loaded(fetch, previous, blocks),
            Input::Damaged { height, hash } => self.damaged(height, hash),
            Input::Executed { report } => self.executed = report,
            Input::Read { ticket } => self.read(ticket),
            Input::Transfer { to } => self.transfer(to),
            Input::Distrust { leader } => self.distrust(leader),
            Input::MayCampaign(may) => {
                self.may_campaign = may;
                self.keep_standing();
            }
            Input::MayAppend(may) => {
                self.may_append = may;
                self.keep_standing();
            }
        }
    }

    fn receive(&mut self, from: Slot, message: Message<B>) {
        if !self.hears(from, &message) {
            return;
        }
        match message {
            Message::Hello(hello) => return self.hello(from, &hello),
            Message::Welcome(welcome) => return self.welcome(from, &welcome),
            Message::Want(want) => return self.want(from, want),
            Message::Found(found) => return self.found(found),
            _ if self.is_waiting() && !self.takes_part() => return,
            _ => {}
        }
        match message {
            Message::Append(append) => self.receive_append(from, &append),
            Message::Accepted(accepted) => self.accepted(from, &accepted),
            Message::Rejected(rejected) => self.rejected(from, &rejected),
            Message::PreVote(request) => self.pre_vote(from, &request),
            Message::PreVoteAnswer(answer) => self.pre_vote_answer(from, &answer),
            Message::RequestVote(request) => self.request_vote(from, &request),
            Message::VoteAnswer(answer) => self.vote_answer(from, answer),
            Message::TimeoutNow(order) => self.timeout_now(from, &order),
            Message::Hello(_) | Message::Welcome(_) | Message::Want(_) | Message::Found(_) => {}
        }
    }

    fn tick(&mut self) {
        self.ask_for_damaged();
        self.hello_tick();
        match &self.stage {
            Stage::Leader(_) => self.leader_tick(),
            Stage::Follower | Stage::PreCandidate(_) | Stage::Candidate(_) => {
                if self.now >= self.deadline && !self.is_waiting() {
                    self.ask_for_pre_votes();
                }
            }
        }
    }

    fn peer_up(&mut self, peer: Slot, session: SessionId) {
        if peer == self.slot || self.sessions.get(&peer).is_some_and(|known| *known >= session) {
            return;
        }
        self.sessions.insert(peer, session);
        self.greet(peer);
        self.resume(peer);
    }

    fn peer_down(&mut self, peer: Slot, session: SessionId) {
        if self.sessions.get(&peer) == Some(&session) {
            self.sessions.remove(&peer);
        }
    }

    fn persisted(&mut self, seq: PersistSeq) {
        if let Err(halt) = self.writes.complete(seq) {
            return self.halt(halt);
        }
        self.try_take_part();
        self.own_vote_is_durable();
        self.try_leave_recovery();
        self.try_commit();
        self.trim();
    }

    /// The host found the leader of this term to be wrong: it counts as failed until the term ends.
    pub(super) fn distrust(&mut self, leader: Slot) {
        if leader == self.slot || self.leader != Some(leader) {
            return;
        }
        self.distrusted = Some((self.vote.term, leader));
        self.follow(self.vote.term, None);
    }
}
