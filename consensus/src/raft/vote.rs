//! The voter's side of an election.
//!
//! Invariants: at most one grant a term, on disk before the answer leaves (P1, V-1, V-2); nobody is preferred to a live
//! leader, save where that leader asked for it (V-10, V-12); a slot that showed a contradiction gets nothing (H-1).
//! Leaves the candidate's side to `election`.

use quipu_crypto::id::{BlockId, Slot, Term};

use super::rules::Rules;
use super::state::{Raft, Redraw, Stage};
use crate::block::Block;
use crate::message::{Message, VoteAnswer, VoteRequest, VoteSignature};
use crate::output::{Class, Evidence, Output, VoteRecord};

impl<B: Block, R: Rules> Raft<B, R> {
    /// Would I vote for you? Answers, and changes nothing here.
    pub(super) fn pre_vote(&mut self, from: Slot, request: &VoteRequest) {
        let granted = self.would_grant(from, request) && !self.keeps_to_leader(from, request);
        // A grant names the term asked for; a refusal the own one, so that an old node learns of it (V-7).
        let refusal = self.rules.refusal_names(self.vote.term, request.term);
        let term = if granted { request.term } else { refusal };
        self.send(
            from,
            Class::Control,
            Message::PreVoteAnswer(answer(request, term, granted)),
        );
    }

    /// Vote for me.
    pub(super) fn request_vote(&mut self, from: Slot, request: &VoteRequest) {
        self.remember_vote(from, request.term);
        if self.keeps_to_leader(from, request) || !self.takes_part() {
            // The term stays as it is: a node that was cut off must not end a working leadership (V-10).
            return self.answer_vote(from, request, false);
        }
        let granted = self.would_grant(from, request);
        if request.term > self.vote.term {
            self.follow(request.term, None);
        }
        if granted {
            let record = VoteRecord {
                term: request.term,
                voted_for: Some(from),
            };
            if record != self.vote {
                self.set_vote(record);
            }
            self.redraw = Redraw::Fully;
        }
        self.answer_vote(from, request, granted);
    }

    fn answer_vote(&mut self, to: Slot, request: &VoteRequest, granted: bool) {
        let answer = answer(request, self.vote.term, granted);
        self.send(to, Class::Control, Message::VoteAnswer(answer));
    }

    /// The conditions that a vote and a pre-vote share.
    fn would_grant(&mut self, from: Slot, request: &VoteRequest) -> bool {
        let own = self.rules.weighed(self.log.tip(), self.writes.durable());
        let last = request.last;
        self.contradiction(from, last);
        self.takes_part()
            && request.term > Term::ZERO
            && self.rules.vote_is_free(self.vote, request.term, from)
            && self.rules.up_to_date(last, own)
            && !self.rules.shuns(self.suspects.is_suspect(from, self.now))
    }

    /// Whether a live leader goes before this request. A deposed leader that this node still believes in may ask (V-8).
    fn keeps_to_leader(&self, from: Slot, request: &VoteRequest) -> bool {
        let silence = match (&self.stage, self.leader) {
            (Stage::Leader(_), _) => 0,
            (_, Some(leader)) if leader != from => self.now.since(self.leader_heard),
            _ => return false,
        };
        self.rules
            .keeps_to_leader(silence, self.settings.election_min_ms, request.transfer)
    }

    /// Where `shown` and the block held there are two where one can be, that is kept once, and their bearer gets no
    /// vote for a while (H-1).
    pub(super) fn contradiction(&mut self, by: Slot, shown: BlockId) {
        let Some(held) = self.log.id(shown.height) else { return };
        if held.term != shown.term || held.hash == shown.hash {
            return;
        }
        let evidence = Evidence { held, shown, by };
        if self.suspects.note(&evidence, self.now, self.settings.election_max_ms) {
            self.effects.push(Output::Evidence(evidence));
        }
    }
}

fn answer(request: &VoteRequest, term: Term, granted: bool) -> VoteAnswer {
    VoteAnswer {
        term,
        round: request.round,
        granted,
        last: request.last,
        signature: VoteSignature::default(),
    }
}
