//! The bytes of records: what is written is read back, and nothing else is taken for it.

use proptest::prelude::*;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term, TimeMs, TransactionId};
use quipu_ledger::block::Executed;
use quipu_ledger::codec;
use quipu_ledger::execute::Remembered;
use quipu_ledger::operation::{Namespace, Version};
use quipu_ledger::result::{Outcome, Reason};
use quipu_ledger::state::{StateKey, StoredValue};
use quipu_ledger::store::record::{self, HeaderRecord, HistoryRecord, PromiseRecord, ResultsRecord, VoteRecord};

/// What each decoder makes of `bytes`, encoded again: must be nothing or `bytes`.
fn again(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    vec![
        record::decode_height_key(bytes)
            .ok()
            .map(|height| record::height_key(height).to_vec()),
        record::decode_promise_key(bytes).ok().map(record::promise_key),
        record::decode_header_record(bytes)
            .ok()
            .map(|record| codec::encode(&record)),
        record::decode_state_value(bytes)
            .ok()
            .map(|stored| record::encode_state_value(stored.as_ref())),
        record::decode_results_record(bytes)
            .ok()
            .map(|record| codec::encode(&record)),
        record::decode_history_key(bytes)
            .ok()
            .map(|(key, version)| record::history_key(&key, version)),
        record::decode_history_record(bytes)
            .ok()
            .map(|record| codec::encode(&record)),
        record::decode_position(bytes).ok().map(record::encode_position),
        record::decode_id(bytes).ok().map(|id| id.0.as_bytes().to_vec()),
        record::decode_recent_key(bytes)
            .ok()
            .map(|entry| record::recent_key(&entry).to_vec()),
        record::decode_incarnation(bytes)
            .ok()
            .map(|incarnation| incarnation.0.to_vec()),
        record::decode_frontier(bytes)
            .ok()
            .map(|frontier| codec::encode(&frontier)),
        StateKey::from_bytes(bytes).ok().map(|key| key.as_bytes().to_vec()),
    ]
}

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash::from_bytes)
}

fn version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u32>()).prop_map(|(height, position)| Version {
        height: Height(height),
        position,
    })
}

fn state_key() -> impl Strategy<Value = StateKey> {
    ("[a-z0-9._-]{1,64}", proptest::collection::vec(any::<u8>(), 1..1025))
        .prop_map(|(namespace, key)| StateKey::new(&Namespace::new(namespace).unwrap(), &key))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Applied),
        Just(Outcome::Failed(Reason::Expired)),
        any::<u32>().prop_map(|operation| Outcome::Failed(Reason::RequirementFailed { operation })),
    ]
}

/// Bytes of one record of each kind.
fn valid() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let key = (
        state_key(),
        version(),
        proptest::collection::vec(any::<u8>(), 0..99),
        hash(),
    );
    let rest = (any::<(u64, u32, bool)>(), proptest::collection::vec(outcome(), 0..9));
    (key, rest).prop_map(|((key, version, bytes, hash), ((number, small, flag), outcomes))| {
        let executed = Executed {
            height: Height(number),
            state_digest: hash,
            ..Executed::default()
        };
        let entry = Remembered {
            expires_at: TimeMs(number),
            id: TransactionId(hash),
        };
        let accepted = BlockId {
            height: Height(number),
            term: Term(number),
            hash,
        };
        let stored = StoredValue {
            version,
            value: bytes.clone(),
        };
        let header = HeaderRecord {
            hash,
            signature: None,
            header: bytes,
        };
        let results = ResultsRecord { executed, outcomes };
        vec![
            key.as_bytes().to_vec(),
            record::history_key(&key, version),
            record::encode_state_value(stored.as_ref()),
            codec::encode(&header),
            codec::encode(&results),
            codec::encode(&HistoryRecord {
                deleted: flag,
                operation: small,
            }),
            record::encode_position(version),
            record::recent_key(&entry).to_vec(),
            record::promise_key(Slot(small)),
            codec::encode(&VoteRecord {
                term: Term(number),
                voted_for: flag.then_some(Slot(small)),
            }),
            codec::encode(&PromiseRecord {
                start: number,
                vote: Term(number),
                accepted,
            }),
        ]
    })
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for found in again(&bytes).into_iter().flatten() {
            prop_assert_eq!(&found, &bytes);
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_canonical(
        records in valid(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
    ) {
        for mut bytes in records {
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = with;
            }
            for found in again(&bytes).into_iter().flatten() {
                prop_assert_eq!(&found, &bytes);
            }
        }
    }

    #[test]
    fn records_are_read_back(records in valid()) {
        // Each of the kinds that have a decoder of their own here is read back by at least that one.
        for bytes in &records[..9] {
            prop_assert!(again(bytes).contains(&Some(bytes.clone())));
        }
    }

    #[test]
    fn keys_sort_as_what_they_stand_for(a in (state_key(), version()), b in (state_key(), version())) {
        let order = |key: &StateKey| (key.namespace().len(), key.namespace().to_owned(), key.key().to_vec());
        prop_assert_eq!(a.0.as_bytes().cmp(b.0.as_bytes()), order(&a.0).cmp(&order(&b.0)));
        let (one, two) = (record::history_key(&a.0, a.1), record::history_key(&a.0, b.1));
        prop_assert_eq!(one.cmp(&two), a.1.cmp(&b.1));
        prop_assert!(a.0 == b.0 || !one.starts_with(&record::history_prefix(&b.0)));
    }
}

#[test]
fn the_longest_records_are_within_their_caps() {
    let failed = Outcome::Failed(Reason::RequirementFailed { operation: u32::MAX });
    let hash = Hash::from_bytes([255; 32]);
    let executed = Executed {
        height: Height::MAX,
        state_digest: hash,
        results_chain: hash,
        state_root: hash,
    };
    let outcomes = vec![failed; quipu_ledger::limits::MAX_BLOCK_TRANSACTIONS];
    let results = ResultsRecord { executed, outcomes };
    assert_eq!(record::decode_results_record(&codec::encode(&results)), Ok(results));
    let version = Version {
        height: Height::MAX,
        position: u32::MAX,
    };
    assert_eq!(record::decode_position(&record::encode_position(version)), Ok(version));
    let history = HistoryRecord {
        deleted: true,
        operation: u32::MAX,
    };
    assert_eq!(record::decode_history_record(&codec::encode(&history)), Ok(history));
}
