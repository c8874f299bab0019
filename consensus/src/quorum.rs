//! Keeps the arithmetic of majorities. Knows no protocol: sets of slots in, answers out.
//!
//! Invariant: two quorums of one configuration share a voter; while joint, a quorum is one of each majority, so it also
//! shares a voter with every quorum of the configuration before and of the one after.
//! Leaves which configuration is in force to `raft::membership`.

use std::collections::BTreeSet;

use quipu_crypto::id::{Height, Slot};

use crate::block::Configuration;

/// Whether those of `voters` that `agree` are more than half of them. Nobody is no majority of nobody.
#[must_use]
pub fn majority(voters: &BTreeSet<Slot>, agree: impl Fn(Slot) -> bool) -> bool {
    let agreeing = voters.iter().filter(|voter| agree(**voter)).count();
    agreeing > voters.len() / 2
}

/// Whether those that `agree` are a quorum of `configuration`: counted in each majority by itself, never on the union
/// (CCF#3837).
#[must_use]
pub fn reached(configuration: &Configuration, agree: impl Fn(Slot) -> bool) -> bool {
    majority(&configuration.voters, &agree)
        && (configuration.outgoing.is_empty() || majority(&configuration.outgoing, &agree))
}

/// The greatest height that a quorum of `configuration` holds, where each voter holds everything up to `held`.
#[must_use]
pub fn height(configuration: &Configuration, held: impl Fn(Slot) -> Height) -> Height {
    let incoming = height_of_majority(&configuration.voters, &held);
    if configuration.outgoing.is_empty() {
        incoming
    } else {
        incoming.min(height_of_majority(&configuration.outgoing, &held))
    }
}

/// Sorted downwards, the height in the middle is held by a majority and the next greater one is not.
fn height_of_majority(voters: &BTreeSet<Slot>, held: impl Fn(Slot) -> Height) -> Height {
    let mut heights: Vec<Height> = voters.iter().map(|voter| held(*voter)).collect();
    heights.sort_unstable_by(|left, right| right.cmp(left));
    heights.get(heights.len() / 2).copied().unwrap_or(Height::ZERO)
}
