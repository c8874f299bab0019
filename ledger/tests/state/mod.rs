//! A world state in maps, for execution without a store.
//!
//! Invariant: changed by effects alone, each of which fits what it finds.
#![allow(missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use quipu_ledger::block::Block;
use quipu_ledger::execute::{Effects, Remembered, StateView, replay_boundary};
use quipu_ledger::state::{StateKey, StoredValue};

/// A state in maps, changed by effects alone.
#[derive(Default)]
pub struct Maps {
    pub state: BTreeMap<StateKey, StoredValue>,
    pub recent: BTreeSet<Remembered>,
}

impl StateView for Maps {
    type Error = Infallible;

    fn values(&self, keys: &[StateKey]) -> Result<Vec<Option<StoredValue>>, Infallible> {
        Ok(keys.iter().map(|key| self.state.get(key).cloned()).collect())
    }

    fn seen(&self, ids: &[Remembered]) -> Result<Vec<bool>, Infallible> {
        Ok(ids.iter().map(|entry| self.recent.contains(entry)).collect())
    }
}

impl Maps {
    pub fn take(&mut self, block: &Block, effects: &Effects<'_>) {
        for change in &effects.changes {
            assert_eq!(self.state.get(&change.key), change.before.as_ref(), "{}", change.key);
            match change.after {
                Some(stored) => self.state.insert(
                    change.key.clone(),
                    StoredValue {
                        version: stored.version,
                        value: stored.value.to_vec(),
                    },
                ),
                None => self.state.remove(&change.key),
            };
        }
        let boundary = replay_boundary(block.header().time);
        self.recent.retain(|entry| entry.expires_at > boundary);
        let first = effects.first.iter().map(|position| usize::try_from(*position).unwrap());
        self.recent
            .extend(first.map(|position| Remembered::of(&block.transactions()[position])));
    }
}
