//! I10 what a leader believes to be durable at a peer is durable there, and the same block.

use quipu_crypto::id::Slot;

use super::{Oracle, Verdict, View, at, holds, violation};
use crate::engine::Status;

impl Oracle {
    /// I10. A peer that has moved on to a later term may have cut lawfully what it acknowledged in this one.
    pub(super) fn matched_is_durable<'a>(
        node: View<'a>,
        status: &Status,
        all: &dyn Fn(Slot) -> Option<View<'a>>,
    ) -> Verdict {
        for (slot, peer) in &status.peers {
            let Some(other) = all(*slot).filter(|other| other.vote.term <= status.term) else {
                continue;
            };
            let Some(link) = at(node.chain, peer.matched) else {
                return violation("I10", format!("{} believes {slot} to hold {}", node.slot, peer.matched));
            };
            if !holds(other.durable, link.id) {
                return violation("I10", format!("{} believes {slot} to hold {}", node.slot, link.id));
            }
        }
        Ok(())
    }
}
