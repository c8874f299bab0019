//! Keeps who has executed what: the quadruples of this node and how far its peers agree with them.
//!
//! Invariant: a leader names a height as executed only if a majority that includes itself found the same quadruple
//! (design, section 4). Reports are about committed blocks, so they stay true across terms.

use std::collections::{BTreeMap, BTreeSet};

use quipu_consensus::block::Configuration;
use quipu_consensus::message::Report;
use quipu_crypto::id::{Height, Slot};
use quipu_ledger::block::Executed;

/// What this node and its peers have executed.
#[derive(Debug)]
pub(super) struct Agreement {
    /// Own quadruples, from the one that the last committed block names on.
    own: BTreeMap<Height, Executed>,
    /// Up to where each peer is known to agree.
    agreed: BTreeMap<Slot, Height>,
    /// Reports about heights that this node has not executed yet: of each peer the oldest and the newest. The oldest
    /// falls due soon, also where the peer stays ahead for ever.
    ahead: BTreeMap<Slot, (Report, Report)>,
    /// Peers that found another quadruple.
    differing: BTreeSet<Slot>,
}

impl Agreement {
    /// Begins with what the store knows; at least one quadruple.
    pub(super) fn new(own: BTreeMap<Height, Executed>) -> Self {
        Self {
            own,
            agreed: BTreeMap::new(),
            ahead: BTreeMap::new(),
            differing: BTreeSet::new(),
        }
    }

    /// The quadruple that this node found at `height`, where it is still needed.
    pub(super) fn at(&self, height: Height) -> Option<&Executed> {
        self.own.get(&height)
    }

    /// The last height that this node has executed.
    pub(super) fn executed(&self) -> Height {
        self.own.keys().next_back().copied().unwrap_or_default()
    }

    /// This node executed one more block.
    pub(super) fn executed_here(&mut self, executed: Executed) {
        self.own.insert(executed.height, executed);
        let is_due = |report: &Report| report.height <= executed.height;
        let due: Vec<(Slot, Report, Report)> = self
            .ahead
            .iter()
            .filter(|(_, (oldest, _))| is_due(oldest))
            .map(|(slot, (oldest, newest))| (*slot, *oldest, *newest))
            .collect();
        for (slot, oldest, newest) in due {
            self.ahead.remove(&slot);
            self.reported(slot, oldest);
            if newest != oldest {
                self.reported(slot, newest);
            }
        }
    }

    /// Forgets quadruples below `height`: no later block can name them.
    pub(super) fn forget_below(&mut self, height: Height) {
        let keep = height.min(self.executed());
        self.own = self.own.split_off(&keep);
    }

    /// A peer said what it has executed.
    pub(super) fn reported(&mut self, slot: Slot, report: Report) {
        if report.height > self.executed() {
            let (_, newest) = self.ahead.entry(slot).or_insert((report, report));
            *newest = report;
            return;
        }
        match self.own.get(&report.height) {
            Some(own) if own.hash() == report.digest => {
                let agreed = self.agreed.entry(slot).or_default();
                *agreed = report.height.max(*agreed);
                self.differing.remove(&slot);
            }
            Some(_) => {
                self.differing.insert(slot);
            }
            None => {}
        }
    }

    /// The greatest height whose quadruple a majority of every voter set, this node included, agrees on.
    pub(super) fn named(&self, me: Slot, configuration: &Configuration) -> Option<&Executed> {
        let own = self.executed();
        let mut height = self.majority(me, own, &configuration.voters);
        if !configuration.outgoing.is_empty() {
            height = height.min(self.majority(me, own, &configuration.outgoing));
        }
        self.own.get(&height)
    }

    fn majority(&self, me: Slot, own: Height, voters: &BTreeSet<Slot>) -> Height {
        let mut heights: Vec<Height> = voters
            .iter()
            .map(|slot| {
                if *slot == me {
                    own
                } else {
                    self.agreed.get(slot).copied().unwrap_or_default()
                }
            })
            .collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        let quorum = voters.len() / 2;
        heights.get(quorum).copied().unwrap_or_default().min(own)
    }

    /// Whether a majority of the voters found other quadruples than this node: it must not lead.
    pub(super) fn in_minority(&self, voters: &BTreeSet<Slot>) -> bool {
        self.differing.intersection(voters).count() > voters.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use quipu_crypto::hash::Hash;

    use super::*;

    fn quadruple(height: u64, byte: u8) -> Executed {
        Executed {
            height: Height(height),
            state_digest: Hash::from_bytes([byte; 32]),
            ..Executed::default()
        }
    }

    fn report(height: u64, byte: u8) -> Report {
        Report {
            height: Height(height),
            digest: quadruple(height, byte).hash(),
        }
    }

    fn three_voters() -> Configuration {
        Configuration {
            voters: [Slot(1), Slot(2), Slot(3)].into(),
            ..Configuration::default()
        }
    }

    fn executed_to(height: u64) -> Agreement {
        let mut agreement = Agreement::new(BTreeMap::from([(Height(0), quadruple(0, 0))]));
        (1..=height).for_each(|height| agreement.executed_here(quadruple(height, 0)));
        agreement
    }

    #[test]
    fn a_height_is_named_only_when_a_majority_with_the_leader_agrees() {
        let mut agreement = executed_to(5);
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(0));
        agreement.reported(Slot(2), report(4, 0));
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(4));
        agreement.reported(Slot(3), report(9, 0));
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(4));
    }

    #[test]
    fn a_report_from_ahead_counts_once_this_node_has_caught_up() {
        let mut agreement = executed_to(2);
        agreement.reported(Slot(2), report(4, 0));
        agreement.executed_here(quadruple(3, 0));
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(0));
        agreement.executed_here(quadruple(4, 0));
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(4));
    }

    #[test]
    fn a_peer_that_stays_ahead_is_counted_as_this_node_follows() {
        let mut agreement = executed_to(2);
        for height in 3..20 {
            agreement.reported(Slot(2), report(height + 2, 0));
            agreement.executed_here(quadruple(height, 0));
        }
        let named = agreement.named(Slot(1), &three_voters()).unwrap().height;
        assert!(named >= Height(15), "only {named} is named");
    }

    #[test]
    fn another_quadruple_never_counts_and_two_of_three_make_a_minority_of_the_leader() {
        let mut agreement = executed_to(3);
        agreement.reported(Slot(2), report(3, 7));
        assert_eq!(agreement.named(Slot(1), &three_voters()).unwrap().height, Height(0));
        assert!(!agreement.in_minority(&three_voters().voters));
        agreement.reported(Slot(3), report(2, 7));
        assert!(agreement.in_minority(&three_voters().voters));
    }
}
