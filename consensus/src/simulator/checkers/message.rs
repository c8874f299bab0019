//! I20 no message leaves before what it promises is durable; of I8 the half that the others see: one grant a term; of
//! I10 the half that leaves the follower: only blocks of its leader are acknowledged.

use quipu_crypto::id::{BlockId, Slot, Term};

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
            Claim::Accepted(term, id) if vote.term == term => holds(node.durable, id),
            Claim::Accepted(term, id) => vote.term > term && self.was_held(node.slot, term, id),
        };
        if !kept {
            return violation(
                "I20",
                format!("{} tells {to} {claim:?}, its disk has {vote:?}", node.slot),
            );
        }
        if let Claim::Accepted(term, id) = claim {
            self.of_the_leader(node.slot, to, term, id)?;
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

    /// Whether a node that has moved on held `id` in `term`, be it that it has cut it since, in one sync with the
    /// append.
    ///
    /// Then it may still say so: its record of a later term is durable, and so is or was all that it wrote before (one
    /// queue, P10). Every vote after the append was weighed against a chain with the block in it (P8): whoever was
    /// elected without the block proves that no quorum held it in `term`, so the answer can commit nothing that is cut.
    fn was_held(&self, slot: Slot, term: Term, id: BlockId) -> bool {
        let Some(seen) = self.nodes.get(&slot) else {
            return false;
        };
        let place = usize::try_from(id.height.get()).unwrap_or(usize::MAX);
        let holds = seen
            .chain
            .get(place)
            .is_some_and(|(held, taken)| *held == id && *taken <= term);
        let held = |(cut, taken, until): &(BlockId, Term, Term)| *cut == id && *taken <= term && term < *until;
        holds || seen.cut.iter().any(held)
    }

    /// I10 on its way: what is acknowledged in a term is a block of the leader of that term, and is said to it alone.
    fn of_the_leader(&mut self, slot: Slot, to: Slot, term: Term, id: BlockId) -> Verdict {
        let place = usize::try_from(id.height.get()).unwrap_or(usize::MAX);
        let has = self.led.get(&term).and_then(|chain| chain.get(place)) == Some(&id);
        if !has || self.leaders.get(&term) != Some(&to) {
            return violation(
                "I10",
                format!("{slot} acknowledges {id} to {to}, whose chain in term {term} has no such block"),
            );
        }
        let most = self.accepted.entry((slot, term)).or_default();
        *most = id.height.max(*most);
        Ok(())
    }
}
