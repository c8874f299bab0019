//! The words of a line after its command.

use std::collections::BTreeSet;

use quipu_crypto::id::Slot;

/// The words after a command: plain ones, and `name=value`.
pub struct Arguments<'a> {
    /// Those that are only words.
    pub plain: Vec<&'a str>,
    /// Names and values.
    pub named: Vec<(&'a str, &'a str)>,
}

impl<'a> Arguments<'a> {
    pub fn new(words: &[&'a str]) -> Self {
        let named = words.iter().filter_map(|word| word.split_once('=')).collect();
        Self {
            plain: words.iter().copied().filter(|word| !word.contains('=')).collect(),
            named,
        }
    }

    pub fn slot(&self, place: usize) -> Slot {
        Slot(self.plain[place].parse().unwrap())
    }

    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.plain.iter().map(|word| Slot(word.parse().unwrap()))
    }

    pub fn way(&self, place: usize) -> (Slot, Slot) {
        let (from, to) = self.plain[place].split_once('>').unwrap();
        (Slot(from.parse().unwrap()), Slot(to.parse().unwrap()))
    }

    /// Directions: `N>M` is one, `N-M` both.
    pub fn ways(&self) -> Vec<(Slot, Slot)> {
        let mut ways = Vec::new();
        for word in &self.plain {
            let (one, other) = word.split_once(['>', '-']).unwrap();
            let (one, other) = (Slot(one.parse().unwrap()), Slot(other.parse().unwrap()));
            ways.push((one, other));
            if word.contains('-') {
                ways.push((other, one));
            }
        }
        ways
    }

    /// The slots of `name=N,M`.
    pub fn listed(&self, name: &str) -> BTreeSet<Slot> {
        let list = self
            .value(name)
            .unwrap_or("")
            .split(',')
            .filter(|slot| !slot.is_empty());
        list.map(|slot| Slot(slot.parse().unwrap())).collect()
    }

    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.named
            .iter()
            .find(|(each, _)| *each == name)
            .map(|(_, value)| *value)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name).map(|value| value.parse().unwrap())
    }
}
