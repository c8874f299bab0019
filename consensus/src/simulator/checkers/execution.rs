//! I19 equal stores at equal executed height; of I9 the half below the commit: executed <= commit, executed <= durable.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, Slot};

use super::{Oracle, Verdict, violation};
use crate::engine::Status;

impl Oracle {
    /// After every step: up to where a process has executed, and the digest of what came of it.
    ///
    /// # Errors
    /// I9 or I19.
    pub fn executed(&mut self, slot: Slot, status: &Status, state: Option<(Height, Hash)>) -> Verdict {
        let Some((height, digest)) = state else { return Ok(()) };
        let seen = self.nodes.entry(slot).or_default();
        let before = std::mem::replace(&mut seen.executed, height);
        if height == before {
            return Ok(());
        }
        if height < before || height > status.commit.height || height > status.durable.height {
            let (commit, durable) = (status.commit, status.durable);
            return violation(
                "I9",
                format!("{slot} executed {height} after {before}, commit {commit}, durable {durable}"),
            );
        }
        let first = *self.executed.entry(height).or_insert(digest);
        if first != digest {
            return violation(
                "I19",
                format!("{slot} comes to {digest} at {height}, another to {first}"),
            );
        }
        Ok(())
    }
}
