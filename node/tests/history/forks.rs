//! Keeps how copies are held against each other: where two of them part, and which operations stand there.

use quipu_crypto::id::Height;

use super::{Act, Copy, Placed, Recorded};

/// Where two copies part, as far as both go: another transaction or result in one place, or another state after one
/// height. None where one is the beginning of the other.
pub(crate) fn fork(one: &Copy, other: &Copy, history: &[Recorded]) -> Option<String> {
    let (here, there) = (&one.node, &other.node);
    let both = one.tip.min(other.tip);
    let upto = |copy: &Copy| copy.placed.partition_point(|placed| placed.version.height <= both);
    let (ours, theirs) = (&one.placed[..upto(one)], &other.placed[..upto(other)]);
    let same = ours.iter().zip(theirs).take_while(|(our, their)| our == their).count();
    if same < ours.len() || same < theirs.len() {
        let at = |placed: Option<&Placed>| {
            placed.map_or_else(
                || "nothing more".to_owned(),
                |placed| format!("{:?} {:?}: {}", placed.version, placed.outcome, told(placed, history)),
            )
        };
        let (our, their) = (at(ours.get(same)), at(theirs.get(same)));
        return Some(format!(
            "the chains part: node {here} has {our}; node {there} has {their}"
        ));
    }
    let differs = |height: &u64| one.executed.get(height) != other.executed.get(height);
    let height = Height((1..=both.get()).find(differs)?);
    let there_stand: Vec<String> = ours
        .iter()
        .filter(|placed| placed.version.height == height)
        .map(|placed| told(placed, history))
        .collect();
    Some(format!(
        "nodes {here} and {there} have different states after height {height}: {}",
        there_stand.join(", ")
    ))
}

/// The operation as its client saw it.
fn told(placed: &Placed, history: &[Recorded]) -> String {
    let seen = history
        .iter()
        .find(|recorded| matches!(recorded.act, Act::Write { id, .. } if id == placed.id));
    seen.map_or_else(|| placed.id.to_string(), ToString::to_string)
}

mod tests {
    use std::collections::BTreeMap;

    use quipu_crypto::hash::Hash;
    use quipu_crypto::id::TransactionId;
    use quipu_ledger::block::Executed;
    use quipu_ledger::operation::Version;
    use quipu_ledger::result::Outcome;

    use super::*;

    /// A copy with a transaction in each block; `odd` of them has this state after it.
    fn copy(node: usize, transactions: &[u8], odd: Option<u64>) -> Copy {
        let placed = |(height, number): (u64, &u8)| Placed {
            version: Version {
                height: Height(height),
                position: 0,
            },
            id: TransactionId(Hash::from_bytes([*number; 32])),
            operations: Vec::new(),
            expired: false,
            outcome: Outcome::Applied,
        };
        let state = |height: u64| Executed {
            height: Height(height),
            state_digest: Hash::from_bytes([if odd == Some(height) { 9 } else { 1 }; 32]),
            ..Executed::default()
        };
        let heights = 1..=transactions.len() as u64;
        Copy {
            node,
            placed: heights.clone().zip(transactions).map(placed).collect(),
            tip: Height(transactions.len() as u64),
            executed: heights
                .map(|height| (height, state(height)))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn one_copy_may_end_before_another_but_not_tell_another_story() {
        let whole = copy(1, &[1, 2, 3], None);
        assert_eq!(fork(&whole, &copy(2, &[1, 2], None), &[]), None);
        let parted = fork(&whole, &copy(2, &[1, 4], None), &[]).unwrap();
        assert!(
            parted.contains("the chains part") && parted.contains("node 2 has"),
            "{parted}"
        );
        let id = whole.placed[1].id.to_string();
        let parted = fork(&whole, &copy(2, &[1, 2, 3], Some(2)), &[]).unwrap();
        assert!(parted.contains("after height 2") && parted.contains(&id), "{parted}");
    }
}
