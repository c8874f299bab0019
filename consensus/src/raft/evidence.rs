//! Keeps which peers showed a contradiction: two blocks of equal height and term with different hashes (H-1).
//!
//! Invariant: one record a peer, so memory stays bounded whatever is shown; the same pair again is nothing new.
//! Leaves the keeping of the blocks themselves to the host (`Output::Evidence`).

use std::collections::BTreeMap;

use quipu_crypto::id::Slot;

use crate::input::Tick;
use crate::output::Evidence;

/// The peers that get no vote for a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects(BTreeMap<Slot, Suspect>);

#[derive(Clone, Debug)]
struct Suspect {
    latest: Evidence,
    until: Tick,
    penalty_ms: u64,
}

impl Suspects {
    /// Notes evidence; whether it is new. Each new one doubles the time without a vote, from `first_ms` on.
    pub(crate) fn note(&mut self, evidence: &Evidence, now: Tick, first_ms: u64) -> bool {
        let penalty_ms = match self.0.get(&evidence.by) {
            Some(suspect) if suspect.latest == *evidence => return false,
            Some(suspect) => suspect.penalty_ms.saturating_mul(2),
            None => first_ms,
        };
        let suspect = Suspect {
            latest: evidence.clone(),
            until: now.plus(penalty_ms),
            penalty_ms,
        };
        self.0.insert(evidence.by, suspect);
        true
    }

    /// Whether `slot` gets neither vote nor pre-vote now.
    pub(crate) fn is_suspect(&self, slot: Slot, now: Tick) -> bool {
        self.0.get(&slot).is_some_and(|suspect| now < suspect.until)
    }
}
