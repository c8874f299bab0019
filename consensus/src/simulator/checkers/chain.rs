//! I2 log matching by hash, I15 every chain holds together from block 0 on.

use quipu_crypto::id::{Slot, Term};

use super::{Oracle, Violation, broken};
use crate::simulator::participant::Link;

impl Oracle {
    /// After every write: the blocks of `chain` that were not there before; `term` is the node's as that write left it.
    ///
    /// Answers whether blocks were cut.
    ///
    /// # Errors
    /// I2 or I15.
    pub fn after_write(&mut self, slot: Slot, term: Term, chain: &[Link]) -> Result<bool, Violation> {
        let seen = self.nodes.entry(slot).or_default();
        // Equal hash means equal prefix, so the walk down ends at the first block that was there before.
        let mut same = seen.chain.len().min(chain.len());
        while same > 0 {
            let (old, new) = (
                seen.chain.get(same.saturating_sub(1)),
                chain.get(same.saturating_sub(1)),
            );
            if old.map(|(id, _)| *id) == new.map(|link| link.id) {
                break;
            }
            same = same.saturating_sub(1);
        }
        let cut = same < seen.chain.len();
        let gone = seen.chain.drain(same..).map(|(id, taken)| (id, taken, term));
        seen.cut.extend(gone);
        let mut parent = same.checked_sub(1).and_then(|place| chain.get(place));
        for link in chain.iter().skip(same) {
            if let Some(parent) = parent {
                let (above, below) = (link.id, parent.id);
                let linked = link.previous == below.hash;
                if !linked || above.height != below.height.next() || above.term < below.term {
                    return Err(broken("I15", format!("{slot}: {above} does not stand on {below}")));
                }
            }
            let first = *self
                .blocks
                .entry((link.id.height, link.id.term))
                .or_insert(link.id.hash);
            if first != link.id.hash {
                return Err(broken(
                    "I2",
                    format!("{slot} holds {}, another has {first} there", link.id),
                ));
            }
            seen.chain.push((link.id, term));
            self.membership_changed |= link.configuration.is_some();
            parent = Some(link);
        }
        Ok(cut)
    }
}
