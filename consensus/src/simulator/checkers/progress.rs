//! I10 what a leader believes to be durable at a peer is durable there, and the same block.

use quipu_crypto::id::{Height, Slot};

use super::{Oracle, Verdict, View, at, holds, violation};
use crate::engine::Status;

impl Oracle {
    /// What a leader has is what can be acknowledged to it. It appends only, so the list grows and never changes.
    pub(super) fn leads_with(&mut self, node: View<'_>, status: &Status) {
        let led = self.led.entry(status.term).or_default();
        led.extend(node.chain.iter().skip(led.len()).map(|link| link.id));
    }

    /// I10: a leader believes of a peer no more than that peer has acknowledged in this very term, and sends it
    /// nothing at or below that.
    pub(super) fn matched_is_acknowledged(&self, node: View<'_>, status: &Status) -> Verdict {
        for (slot, peer) in &status.peers {
            let said = self
                .accepted
                .get(&(*slot, status.term))
                .copied()
                .unwrap_or(Height::ZERO);
            if peer.matched > said {
                let matched = peer.matched;
                return violation(
                    "I10",
                    format!("{} believes {slot} to hold {matched}, it said {said}", node.slot),
                );
            }
            if peer.next <= peer.matched {
                return violation(
                    "R-14",
                    format!("{} sends {slot} {} after {}", node.slot, peer.next, peer.matched),
                );
            }
        }
        Ok(())
    }

    /// I10. A peer that has moved on to a later term may have cut lawfully what it acknowledged in this one; one whose
    /// disk has forgotten it cannot know.
    pub(super) fn matched_is_durable<'a>(
        &self,
        node: View<'a>,
        status: &Status,
        all: &dyn Fn(Slot) -> Option<View<'a>>,
    ) -> Verdict {
        for (slot, peer) in &status.peers {
            let in_term = |other: &View<'_>| other.vote.term <= status.term && !self.has_moved_on(*slot, status.term);
            let Some(other) = all(*slot).filter(in_term) else {
                continue;
            };
            let Some(link) = at(node.chain, peer.matched) else {
                return violation("I10", format!("{} believes {slot} to hold {}", node.slot, peer.matched));
            };
            if !holds(other.durable, link.id) && !self.forgot_block(*slot, link.id) {
                return violation("I10", format!("{} believes {slot} to hold {}", node.slot, link.id));
            }
        }
        Ok(())
    }
}
