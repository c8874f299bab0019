//! I20 no message leaves before what it promises is durable; and of I8 the half that the others see: one grant a term.

use quipu_crypto::id::Slot;

use super::{Oracle, Verdict, View, holds, violation};
use crate::simulator::participant::Claim;

impl Oracle {
    /// A message leaves `node` for `to`.
    ///
    /// # Errors
    /// I8 or I20.
    pub fn leaves(&mut self, node: View<'_>, to: Slot, claim: Claim) -> Verdict {
        let vote = node.vote;
        let kept = match claim {
            Claim::Nothing => true,
            Claim::Term(term) => vote.term >= term,
            Claim::Vote(term) => vote.term > term || (vote.term == term && vote.voted_for == Some(to)),
            Claim::Candidacy(term) => vote.term > term || (vote.term == term && vote.voted_for == Some(node.slot)),
            // What was accepted in an earlier term may be cut by the time that it is said: both writes went down in one
            // sync. It was durable first, and no leader of a later term could have been chosen against it.
            Claim::Accepted(term, id) => vote.term > term || (vote.term == term && holds(node.durable, id)),
        };
        if !kept {
            return violation(
                "I20",
                format!("{} tells {to} {claim:?}, its disk has {vote:?}", node.slot),
            );
        }
        if let Claim::Vote(term) = claim {
            let first = *self.votes.entry((node.slot, term)).or_insert(to);
            if first != to {
                return violation("I8", format!("{} votes for {first} and {to} in term {term}", node.slot));
            }
        }
        if let Claim::Candidacy(term) = claim {
            let first = *self.votes.entry((node.slot, term)).or_insert(node.slot);
            if first != node.slot {
                return violation(
                    "I8",
                    format!("{} stands in term {term}, it voted for {first}", node.slot),
                );
            }
        }
        Ok(())
    }
}
