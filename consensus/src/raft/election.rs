//! The candidate's side of an election: the question about one (pre-vote), the candidacy, the count, the win.
//!
//! Invariants: a question changes no term anywhere; a candidacy counts each voter once, its own vote only when durable
//! (P1, V-4), and only answers to itself (V-5); the deadline is drawn anew for every round (V-11).
//! Leaves the voter's side to `vote`, what a leader does to `replication`.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::id::{BlockId, Height, Slot, Term};

use super::rules::Rules;
use super::state::{Leadership, Raft, Redraw, Stage, Tally};
use crate::block::Block;
use crate::engine::Settings;
use crate::input::Entropy;
use crate::message::{Message, VoteAnswer, VoteRequest};
use crate::output::{Class, Output, RoleChange};

impl<B: Block, R: Rules> Raft<B, R> {
    /// Draws when to campaign.
    pub(super) fn draw_deadline(&mut self, redraw: Redraw, entropy: &mut dyn Entropy) {
        let Settings {
            election_min_ms,
            election_max_ms,
            heartbeat_ms,
            ..
        } = self.settings;
        let (least, spread) = match redraw {
            Redraw::No => return,
            Redraw::Fully => (election_min_ms, election_max_ms.saturating_sub(election_min_ms)),
            Redraw::Soon => (heartbeat_ms, election_min_ms),
            Redraw::Late => (election_max_ms.saturating_mul(3), election_max_ms),
        };
        let drawn = entropy.below(spread.saturating_add(1));
        self.deadline = self.now.plus(self.rules.election_wait(least, drawn));
    }

    /// Whether this node may stand for election at all. The last term has no successor.
    pub(super) fn is_electable(&self) -> bool {
        self.may_campaign
            && self.rules.takes_blocks(self.may_append)
            && self.takes_part()
            && self.membership.votes(self.slot)
            && self.vote.term < Term::MAX
    }

    /// Whoever may stand no longer, for its disk is full or its host forbids it, does not go on with what it began: it
    /// could win, and not even open its term.
    pub(super) fn keep_standing(&mut self) {
        let stands = matches!(self.stage, Stage::PreCandidate(_) | Stage::Candidate(_));
        if stands && !self.is_electable() {
            self.follow(self.vote.term, None);
        }
    }

    /// The leader was silent for too long: would the others vote for this node? (thesis 9.6)
    pub(super) fn ask_for_pre_votes(&mut self) {
        self.redraw = Redraw::Fully;
        if !self.is_electable() {
            return;
        }
        if self.leader.is_some() || matches!(self.stage, Stage::Candidate(_)) {
            self.follow(self.vote.term, None);
        }
        if !self.rules.asks_before_standing() {
            return self.campaign(false);
        }
        let tally = self.new_tally(self.vote.term.next());
        let request = request(&tally, self.membership.height(), false);
        self.stage = Stage::PreCandidate(tally);
        for peer in self.membership.other_voters(self.slot) {
            self.send(peer, Class::Control, Message::PreVote(request.clone()));
        }
        self.count_pre_votes(Some(self.slot));
    }

    fn new_tally(&mut self, term: Term) -> Tally {
        self.round = self.round.saturating_add(1);
        let last = self.log.tip();
        Tally {
            round: self.round,
            term,
            last,
            granted: BTreeSet::new(),
            votes: BTreeMap::new(),
        }
    }

    /// Stands for election in the next term, with or without having asked.
    pub(super) fn campaign(&mut self, transfer: bool) {
        if !self.is_electable() {
            return;
        }
        let term = self.vote.term.next();
        let record = self.rules.candidacy(term, self.slot);
        self.set_vote(record);
        let tally = self.new_tally(term);
        let request = request(&tally, self.membership.height(), transfer);
        self.stage = Stage::Candidate(tally);
        self.leader = None;
        self.redraw = Redraw::Fully;
        self.effects.push(Output::Role(RoleChange::Candidate { term }));
        for peer in self.membership.other_voters(self.slot) {
            self.send(peer, Class::Control, Message::RequestVote(request.clone()));
        }
        self.own_vote_is_durable();
    }

    /// A pre-vote was answered. What arrives after the term or the round has moved on is void (V-9).
    pub(super) fn pre_vote_answer(&mut self, from: Slot, answer: &VoteAnswer) {
        if !answer.granted {
            return self.refused(answer);
        }
        let Stage::PreCandidate(tally) = &self.stage else {
            return;
        };
        let fits = self.rules.answers_candidacy(answered(answer), asked(tally));
        if fits {
            self.count_pre_votes(Some(from));
        }
    }

    fn count_pre_votes(&mut self, from: Option<Slot>) {
        let Stage::PreCandidate(tally) = &mut self.stage else {
            return;
        };
        tally.granted.extend(from);
        let granted = &tally.granted;
        if self
            .rules
            .quorum(self.membership.configuration(), &|slot| granted.contains(&slot))
        {
            self.campaign(false);
        }
    }

    /// A vote was answered.
    pub(super) fn vote_answer(&mut self, from: Slot, answer: VoteAnswer) {
        if !answer.granted {
            return self.refused(&answer);
        }
        self.remember_vote(from, answer.term);
        let Stage::Candidate(tally) = &mut self.stage else {
            return;
        };
        let fits = self.rules.answers_candidacy(answered(&answer), asked(tally));
        if !fits {
            return;
        }
        if tally.granted.insert(from) {
            tally.votes.insert(from, answer.signature);
        }
        self.count_votes();
    }

    /// A refusal out of a later term ends this one, also of a pre-vote: else an old node never learns it (V-7).
    fn refused(&mut self, answer: &VoteAnswer) {
        if self.rules.heeds_later_term(answer.term, self.vote.term) {
            self.follow(answer.term, None);
        }
    }

    /// The candidate's own vote counts from the moment that it is durable (P1).
    pub(super) fn own_vote_is_durable(&mut self) {
        if !self.rules.own_vote_counts(self.writes.vote_is_durable()) {
            return;
        }
        if let Stage::Candidate(tally) = &mut self.stage {
            tally.granted.insert(self.slot);
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let Stage::Candidate(tally) = &mut self.stage else {
            return;
        };
        let granted = &tally.granted;
        if !self
            .rules
            .quorum(self.membership.configuration(), &|slot| granted.contains(&slot))
        {
            return;
        }
        let votes = std::mem::take(&mut tally.votes).into_iter().collect();
        let leadership = Leadership::new(self.now, self.settings.heartbeat_ms);
        self.stage = Stage::Leader(leadership);
        self.leader = Some(self.slot);
        self.effects.push(Output::Role(RoleChange::Leader {
            term: self.vote.term,
            votes,
        }));
        self.refresh_peers();
    }
}

fn request(tally: &Tally, membership: Height, transfer: bool) -> VoteRequest {
    VoteRequest {
        term: tally.term,
        round: tally.round,
        last: tally.last,
        membership,
        transfer,
    }
}

/// What an answer is about: term, round and the candidate's last block.
fn answered(answer: &VoteAnswer) -> (Term, u64, BlockId) {
    (answer.term, answer.round, answer.last)
}

/// What was asked.
fn asked(tally: &Tally) -> (Term, u64, BlockId) {
    (tally.term, tally.round, tally.last)
}
