//! I1 one leader a term, elected by a quorum, I3 a leader has everything committed before its term, I8 one vote a term
//! on disk.

use super::{Oracle, Verdict, View, holds, violation};
use crate::engine::Status;
use crate::output::VoteRecord;
use crate::quorum;

impl Oracle {
    /// I8: on disk the term never falls, and the vote of a term never changes.
    pub(super) fn one_vote_a_term_on_disk(&mut self, node: View<'_>) -> Verdict {
        let seen = self.nodes.entry(node.slot).or_default();
        let before = std::mem::replace(&mut seen.vote, node.vote);
        let changed = before.term == node.vote.term && before.voted_for.is_some() && before != node.vote;
        if node.vote.term < before.term || changed {
            return violation(
                "I8",
                format!("{}: vote record {before:?} became {:?}", node.slot, node.vote),
            );
        }
        Ok(())
    }

    /// I1, and I3 at the moment of the win.
    pub(super) fn one_leader_a_term(&mut self, node: View<'_>, status: &Status) -> Verdict {
        let seen = self.nodes.entry(node.slot).or_default();
        if seen.leads == Some(status.term) {
            return Ok(());
        }
        seen.leads = Some(status.term);
        let first = *self.leaders.entry(status.term).or_insert(node.slot);
        if first != node.slot {
            return violation(
                "I1",
                format!("{first} and {} both lead term {}", node.slot, status.term),
            );
        }
        let own = VoteRecord {
            term: status.term,
            voted_for: Some(node.slot),
        };
        let voted = |slot| {
            let left = self.votes.get(&(slot, status.term)) == Some(&node.slot);
            left || (slot == node.slot && node.vote == own)
        };
        if !quorum::reached(self.in_force(node, status.tip.height), voted) {
            let detail = format!("{} leads term {} without a quorum's votes", node.slot, status.term);
            return violation("I1", detail);
        }
        let before = self.committed.iter().rev().find(|(_, term)| *term < status.term);
        if let Some((link, term)) = before.filter(|(link, _)| !holds(node.chain, link.id)) {
            return violation(
                "I3",
                format!(
                    "{} leads term {} without {}, committed in term {term}",
                    node.slot, status.term, link.id
                ),
            );
        }
        Ok(())
    }
}
