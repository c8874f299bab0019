//! Keeps which terms are heard at all: numbers of terms end, and no single peer may take a node there.
//!
//! Invariants: a term at most [`LEAP`] ahead of the own one is heard; one further ahead only where more than half of
//! the other voters have named one as high. So what one peer says moves a term by a leap at most, each at the price of
//! a synced write here: the end is some 2^32 such writes away. And whoever was away while the others moved far still
//! hears them, as soon as enough of them answer: a bound at a fixed number would stop elections once it was reached.
//! Leaves what a term does once it is heard to the handlers of the messages.

use std::collections::BTreeMap;

use quipu_crypto::id::{Slot, Term};

use super::rules::Rules;
use super::state::Raft;
use crate::block::Block;
use crate::message::Message;
use crate::quorum;

/// More elections than any network will hold: a hundred a second for a year and more.
const LEAP: u64 = 1 << 32;

/// The highest term that each peer has named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Horizon(BTreeMap<Slot, Term>);

impl<B: Block, R: Rules> Raft<B, R> {
    /// Whether `message` speaks of a term that this node may come to.
    pub(super) fn hears(&mut self, from: Slot, message: &Message<B>) -> bool {
        let (own, asked) = terms(message);
        let near = self.vote.term.plus(LEAP);
        if own > near {
            let said = self.horizon.0.entry(from).or_default();
            *said = own.max(*said);
        }
        let others = self.membership.other_voters(self.slot).into_iter().collect();
        let far = |slot: Slot| self.horizon.0.get(&slot).is_some_and(|said| *said >= asked);
        self.rules.hears_term(asked, near, quorum::majority(&others, far))
    }
}

/// The term that a message says its sender is in, or would be in, and the one that it can bring its receiver to.
fn terms<B: Block>(message: &Message<B>) -> (Term, Term) {
    let term = match message {
        Message::Append(append) => append.term,
        Message::Accepted(accepted) => accepted.term,
        Message::Rejected(rejected) => rejected.term,
        Message::PreVote(request) | Message::RequestVote(request) => request.term,
        Message::PreVoteAnswer(answer) | Message::VoteAnswer(answer) => answer.term,
        Message::Hello(hello) => return (hello.term, Term::ZERO),
        Message::Welcome(welcome) => return (welcome.term, welcome.remembered.vote.max(welcome.term)),
        Message::TimeoutNow(order) => order.term,
        Message::Want(_) | Message::Found(_) => Term::ZERO,
    };
    (term, term)
}
