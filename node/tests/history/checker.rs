//! Keeps the judgement over a history: linearizable, each transaction at most once, nothing acknowledged lost.
//!
//! The chain gives every write its place, so the order need not be searched for: the chain is replayed with a model of
//! its own, and each client's view is held against it. O(n log n) in the operations. Leaves the copies to `copies`.

use std::collections::{BTreeMap, HashMap, HashSet};

use quipu_crypto::id::{Height, TransactionId};
use quipu_ledger::operation::{Condition, Operation, Version};
use quipu_ledger::result::{Outcome, Reason};

use super::{Act, Fate, Placed, Recorded, Wanted};

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The same transaction took effect a second time.
    Doubled(TransactionId),
    /// A result is not what follows from the chain before it.
    Unjustified {
        at: Version,
        recorded: Outcome,
        follows: Outcome,
    },
    /// A transaction in the chain that no client sent.
    Invented(TransactionId),
    /// Acknowledged, and not in the chain.
    Lost(Recorded),
    /// Acknowledged with another place or result than the chain has.
    Misplaced {
        write: Recorded,
        placed: (Version, Outcome),
    },
    /// Said to be in no block, and is in one.
    CameAfterAll {
        write: Recorded,
        placed: (Version, Outcome),
    },
    /// A write that began after something of a height was `known`, and is placed at or before it.
    OutOfOrder {
        write: Recorded,
        placed: Height,
        known: Recorded,
    },
    /// A read of a state from before what was `known` when it began.
    Stale { read: Recorded, known: Recorded },
    /// A read of what is not the state at its height; none where the chain does not reach there.
    WrongRead { read: Recorded, truth: Option<Found> },
}

/// Key, value, version.
pub(crate) type Found = Vec<(Vec<u8>, Vec<u8>, Version)>;

type State = BTreeMap<Vec<u8>, (Vec<u8>, Version)>;
type Places = HashMap<TransactionId, (Version, Outcome)>;

/// Everything that is wrong with `history`, where `chain` is what came of it and `tip` its last height.
pub(crate) fn check(chain: &[Placed], tip: Height, history: &[Recorded]) -> Vec<Violation> {
    let mut found = Vec::new();
    let places = replay(chain, tip, history, &mut found);
    let mut sent = HashSet::new();
    for recorded in history {
        if let Act::Write { id, fate } = recorded.act {
            sent.insert(id);
            match (fate, places.get(&id)) {
                (Fate::Acknowledged(..), None) => found.push(Violation::Lost(recorded.clone())),
                (Fate::Acknowledged(version, outcome), Some(&placed)) if placed != (version, outcome) => {
                    let write = recorded.clone();
                    found.push(Violation::Misplaced { write, placed });
                }
                (Fate::Never, Some(&placed)) => {
                    let write = recorded.clone();
                    found.push(Violation::CameAfterAll { write, placed });
                }
                _ => {}
            }
        }
    }
    let invented = chain.iter().map(|placed| placed.id).filter(|id| !sent.contains(id));
    found.extend(invented.map(Violation::Invented));
    order(&places, history, &mut found);
    found
}

/// Executes the chain with a model, compares each result, and every read with the state at its height.
fn replay(chain: &[Placed], tip: Height, history: &[Recorded], found: &mut Vec<Violation>) -> Places {
    let mut reads: Vec<&Recorded> = history
        .iter()
        .filter(|recorded| matches!(recorded.act, Act::Read { .. }))
        .collect();
    reads.sort_by_key(|recorded| height_of(&recorded.act));
    let mut reads = reads.into_iter().peekable();
    let mut state = State::new();
    let mut places = Places::new();
    for placed in chain {
        while let Some(read) = reads.next_if(|read| height_of(&read.act) < placed.version.height) {
            compare(&state, read, found);
        }
        let again = places.contains_key(&placed.id);
        let follows = if placed.expired {
            Outcome::Failed(Reason::Expired)
        } else if again {
            Outcome::Failed(Reason::Duplicate)
        } else {
            execute(&mut state, placed)
        };
        if again && placed.outcome == Outcome::Applied {
            found.push(Violation::Doubled(placed.id));
        } else if placed.outcome != follows {
            found.push(Violation::Unjustified {
                at: placed.version,
                recorded: placed.outcome,
                follows,
            });
        }
        places.entry(placed.id).or_insert((placed.version, placed.outcome));
    }
    for read in reads {
        if height_of(&read.act) > tip {
            found.push(Violation::WrongRead {
                read: read.clone(),
                truth: None,
            });
        } else {
            compare(&state, read, found);
        }
    }
    places
}

fn execute(state: &mut State, placed: &Placed) -> Outcome {
    let mut after = state.clone();
    for (index, operation) in placed.operations.iter().enumerate() {
        let key = operation.key().to_vec();
        match operation {
            Operation::Put { value, .. } => {
                after.insert(key, (value.clone(), placed.version));
            }
            Operation::Delete { .. } => {
                after.remove(&key);
            }
            Operation::Require { condition, .. } => {
                let now = after.get(&key);
                let holds = match condition {
                    Condition::Absent => now.is_none(),
                    Condition::Present => now.is_some(),
                    Condition::Version(version) => now.is_some_and(|(_, written)| written == version),
                    Condition::Value(value) => now.is_some_and(|(present, _)| present == value),
                };
                if !holds {
                    return Outcome::Failed(Reason::RequirementFailed {
                        operation: index.try_into().unwrap(),
                    });
                }
            }
        }
    }
    *state = after;
    Outcome::Applied
}

fn compare(state: &State, read: &Recorded, found: &mut Vec<Violation>) {
    let Act::Read {
        wanted, found: seen, ..
    } = &read.act
    else {
        return;
    };
    let entry = |(key, (value, version)): (&Vec<u8>, &(Vec<u8>, Version))| (key.clone(), value.clone(), *version);
    let truth: Found = match wanted {
        Wanted::Key(key) => state.get_key_value(key).map(entry).into_iter().collect(),
        Wanted::Prefix(prefix) => state
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(entry)
            .collect(),
    };
    if truth != *seen {
        found.push(Violation::WrongRead {
            read: read.clone(),
            truth: Some(truth),
        });
    }
}

/// The height that somebody knows of who has seen this.
pub(super) fn height_of(act: &Act) -> Height {
    match act {
        Act::Read { height, .. } => *height,
        Act::Write {
            fate: Fate::Acknowledged(version, _),
            ..
        } => version.height,
        Act::Write { .. } => Height(0),
    }
}

/// What was called after something was known stands after it: a transaction in a later block, a read in no older state.
///
/// An unresolved transaction that is in the chain was called as well, so it is held to the same.
fn order(places: &Places, history: &[Recorded], found: &mut Vec<Violation>) {
    let mut by_end: Vec<&Recorded> = history.iter().collect();
    by_end.sort_by_key(|recorded| recorded.end);
    let mut by_begin: Vec<&Recorded> = history.iter().collect();
    by_begin.sort_by_key(|recorded| recorded.begin);
    let mut known = by_end.into_iter().peekable();
    let mut latest: Option<&Recorded> = None;
    for recorded in by_begin {
        while let Some(earlier) = known.next_if(|earlier| earlier.end < recorded.begin) {
            if latest.is_none_or(|latest| height_of(&latest.act) < height_of(&earlier.act)) {
                latest = Some(earlier);
            }
        }
        let Some(latest) = latest else { continue };
        let seen = height_of(&latest.act);
        match &recorded.act {
            Act::Read {
                height, fresh: true, ..
            } if *height < seen => found.push(Violation::Stale {
                read: recorded.clone(),
                known: latest.clone(),
            }),
            Act::Write { id, .. } => {
                if let Some((version, _)) = places.get(id)
                    && version.height <= seen
                {
                    found.push(Violation::OutOfOrder {
                        write: recorded.clone(),
                        placed: version.height,
                        known: latest.clone(),
                    });
                }
            }
            Act::Read { .. } => {}
        }
    }
}

mod tests {
    use quipu_crypto::hash::Hash;
    use quipu_ledger::operation::Namespace;

    use super::*;

    fn id(number: u8) -> TransactionId {
        TransactionId(Hash::from_bytes([number; 32]))
    }

    fn at(height: u64, position: u32) -> Version {
        Version {
            height: Height(height),
            position,
        }
    }

    fn put(value: &str) -> Operation {
        Operation::Put {
            namespace: Namespace::new("default").unwrap(),
            key: b"key".to_vec(),
            value: value.into(),
        }
    }

    fn require(value: &str) -> Operation {
        Operation::Require {
            namespace: Namespace::new("default").unwrap(),
            key: b"key".to_vec(),
            condition: Condition::Value(value.into()),
        }
    }

    fn placed(number: u8, version: Version, operations: Vec<Operation>) -> Placed {
        Placed {
            version,
            id: id(number),
            operations,
            expired: false,
            outcome: Outcome::Applied,
        }
    }

    fn acknowledged(number: u8, times: (u64, u64), version: Version) -> Recorded {
        let fate = Fate::Acknowledged(version, Outcome::Applied);
        written(number, times, fate)
    }

    fn written(number: u8, (begin, end): (u64, u64), fate: Fate) -> Recorded {
        let act = Act::Write { id: id(number), fate };
        Recorded {
            client: 0,
            node: None,
            begin,
            end,
            act,
        }
    }

    fn read((begin, end): (u64, u64), value: &str, version: Version, height: u64) -> Recorded {
        let act = Act::Read {
            wanted: Wanted::Key(b"key".to_vec()),
            found: vec![(b"key".to_vec(), value.into(), version)],
            height: Height(height),
            fresh: true,
        };
        Recorded {
            client: 0,
            node: None,
            begin,
            end,
            act,
        }
    }

    /// Two writes one after the other, in blocks 3 and 5.
    fn two() -> (Vec<Placed>, Vec<Recorded>) {
        let chain = vec![
            placed(1, at(3, 0), vec![put("one")]),
            placed(2, at(5, 1), vec![put("two")]),
        ];
        let history = vec![acknowledged(1, (10, 20), at(3, 0)), acknowledged(2, (30, 40), at(5, 1))];
        (chain, history)
    }

    fn judged(chain: &[Placed], history: &[Recorded]) -> Vec<Violation> {
        check(chain, Height(9), history)
    }

    #[test]
    fn a_sound_history_has_no_violation() {
        let (mut chain, mut history) = two();
        // Reads beside a write may see either; in one block any order will do; an unresolved one may be in the chain.
        history.push(read((31, 39), "one", at(3, 0), 4));
        history.push(read((31, 39), "two", at(5, 1), 5));
        history.push(read((41, 42), "two", at(5, 1), 6));
        chain.push(placed(3, at(7, 0), vec![require("two"), put("three")]));
        chain.push(placed(4, at(7, 1), vec![require("two"), put("four")]));
        chain[3].outcome = Outcome::Failed(Reason::RequirementFailed { operation: 0 });
        history.push(written(4, (43, 50), Fate::Acknowledged(at(7, 1), chain[3].outcome)));
        history.push(written(3, (44, 51), Fate::Unresolved));
        history.push(written(5, (44, 51), Fate::Unresolved));
        history.push(written(6, (44, 51), Fate::Never));
        assert_eq!(judged(&chain, &history), []);
    }

    #[test]
    fn a_stale_read_is_found() {
        let (chain, mut history) = two();
        let stale = Violation::Stale {
            read: read((41, 42), "one", at(3, 0), 4),
            known: history[1].clone(),
        };
        history.push(read((41, 42), "one", at(3, 0), 4));
        assert_eq!(judged(&chain, &history), [stale]);
    }

    #[test]
    fn a_read_after_a_newer_read_is_found_and_a_local_one_may_be_old() {
        let (chain, mut history) = two();
        history.push(read((31, 32), "two", at(5, 1), 5));
        let mut older = read((33, 34), "one", at(3, 0), 4);
        history.push(older.clone());
        let found = judged(&chain, &history);
        assert!(matches!(found[..], [Violation::Stale { .. }]), "{found:?}");
        history.pop();
        let Act::Read { fresh, .. } = &mut older.act else {
            unreachable!()
        };
        *fresh = false;
        history.push(older);
        assert_eq!(judged(&chain, &history), []);
    }

    #[test]
    fn a_value_that_was_never_written_or_is_overwritten_is_found() {
        let (chain, mut history) = two();
        history.push(read((41, 42), "other", at(5, 1), 6));
        history.push(read((41, 42), "one", at(3, 0), 6));
        history.push(read((41, 42), "two", at(5, 1), 10));
        let truth = vec![(b"key".to_vec(), b"two".to_vec(), at(5, 1))];
        let wrong = |read: usize, truth| Violation::WrongRead {
            read: history[read].clone(),
            truth,
        };
        let all = [wrong(2, Some(truth.clone())), wrong(3, Some(truth)), wrong(4, None)];
        assert_eq!(judged(&chain, &history), all);
    }

    #[test]
    fn an_acknowledged_write_that_is_lost_is_found() {
        let (mut chain, history) = two();
        chain.pop();
        assert_eq!(judged(&chain, &history), [Violation::Lost(history[1].clone())]);
    }

    #[test]
    fn a_lost_update_is_found() {
        let (mut chain, mut history) = two();
        // Both read "one" and swapped it: the second did not see the first.
        chain[1].operations = vec![require("one"), put("two")];
        chain.push(placed(3, at(6, 0), vec![require("one"), put("three")]));
        history.push(acknowledged(3, (35, 50), at(6, 0)));
        let unjustified = Violation::Unjustified {
            at: at(6, 0),
            recorded: Outcome::Applied,
            follows: Outcome::Failed(Reason::RequirementFailed { operation: 0 }),
        };
        assert_eq!(judged(&chain, &history), [unjustified]);
    }

    #[test]
    fn a_refusal_without_a_reason_is_found() {
        let (mut chain, mut history) = two();
        let failed = Outcome::Failed(Reason::RequirementFailed { operation: 0 });
        chain[1].operations = vec![require("one"), put("two")];
        chain[1].outcome = failed;
        history[1] = written(2, (30, 40), Fate::Acknowledged(at(5, 1), failed));
        let unjustified = Violation::Unjustified {
            at: at(5, 1),
            recorded: failed,
            follows: Outcome::Applied,
        };
        assert_eq!(judged(&chain, &history), [unjustified]);
    }

    #[test]
    fn a_transaction_that_took_effect_twice_is_found() {
        let (mut chain, history) = two();
        chain.push(placed(2, at(6, 0), vec![put("two")]));
        assert_eq!(judged(&chain, &history), [Violation::Doubled(id(2))]);
        chain[2].outcome = Outcome::Failed(Reason::Duplicate);
        assert_eq!(judged(&chain, &history), []);
    }

    #[test]
    fn what_nobody_sent_or_was_said_to_be_nowhere_is_found() {
        let (mut chain, mut history) = two();
        chain.push(placed(3, at(6, 0), vec![put("three")]));
        assert_eq!(judged(&chain, &history), [Violation::Invented(id(3))]);
        history.push(written(3, (50, 60), Fate::Never));
        let placed = (at(6, 0), Outcome::Applied);
        let write = history[2].clone();
        assert_eq!(judged(&chain, &history), [Violation::CameAfterAll { write, placed }]);
        history[2] = acknowledged(3, (50, 60), at(6, 1));
        let write = history[2].clone();
        assert_eq!(judged(&chain, &history), [Violation::Misplaced { write, placed }]);
    }

    #[test]
    fn a_later_write_in_an_earlier_or_the_same_block_is_found() {
        let (chain, mut history) = two();
        (history[0].begin, history[0].end) = (50, 60);
        let disorder = |history: &[Recorded], placed| Violation::OutOfOrder {
            write: history[0].clone(),
            placed: Height(placed),
            known: history[1].clone(),
        };
        assert_eq!(judged(&chain, &history), [disorder(&history, 3)]);
        // The chain tells the place of an unresolved one too.
        history[0] = written(1, (50, 60), Fate::Unresolved);
        assert_eq!(judged(&chain, &history), [disorder(&history, 3)]);
        let (mut chain, mut history) = two();
        chain[0].version = at(5, 0);
        history[0] = acknowledged(1, (50, 60), at(5, 0));
        assert_eq!(judged(&chain, &history), [disorder(&history, 5)]);
    }
}
