//! Keeps the order in which transactions may be sent: one that touches a key waits until every earlier one that touches
//! the key has been executed; the others pass it.
//!
//! Invariants: of those that touch a key at most one is let go at a time, and in the order in which they came; nobody
//! waits for ever, since the oldest one that was not let go waits only for older ones that were.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A transaction that waits, in the order of coming.
pub(super) type Ticket = u64;

/// Who waits for whom.
pub(super) struct Order<K, T> {
    queues: HashMap<K, VecDeque<Ticket>>,
    /// Those that were not let go yet, with the number of queues at whose head they do not stand.
    waiting: HashMap<Ticket, (usize, T)>,
    ready: VecDeque<(Ticket, T)>,
    keys: HashMap<Ticket, Vec<K>>,
    next: Ticket,
}

impl<K: Clone + Eq + Hash, T> Order<K, T> {
    pub(super) fn new() -> Self {
        Self {
            queues: HashMap::new(),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            keys: HashMap::new(),
            next: 0,
        }
    }

    /// How many have come and are not done.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Takes the next one, with the keys that it touches.
    pub(super) fn push(&mut self, mut keys: Vec<K>, item: T)
    where
        K: Ord,
    {
        keys.sort_unstable();
        keys.dedup();
        let ticket = self.next;
        self.next = self.next.saturating_add(1);
        let mut behind = 0_usize;
        for key in &keys {
            let queue = self.queues.entry(key.clone()).or_default();
            behind = behind.saturating_add(usize::from(!queue.is_empty()));
            queue.push_back(ticket);
        }
        self.keys.insert(ticket, keys);
        if behind == 0 {
            self.ready.push_back((ticket, item));
        } else {
            self.waiting.insert(ticket, (behind, item));
        }
    }

    /// Lets one go, if any may.
    pub(super) fn pop(&mut self) -> Option<(Ticket, T)> {
        self.ready.pop_front()
    }

    /// One that was let go is done: those behind it come forward.
    pub(super) fn done(&mut self, ticket: Ticket) {
        for key in self.keys.remove(&ticket).unwrap_or_default() {
            let Some(queue) = self.queues.get_mut(&key) else {
                continue;
            };
            queue.retain(|waiting| *waiting != ticket);
            let Some(head) = queue.front().copied() else {
                self.queues.remove(&key);
                continue;
            };
            if let Some((behind, _)) = self.waiting.get_mut(&head) {
                *behind = behind.saturating_sub(1);
                if *behind == 0
                    && let Some((_, item)) = self.waiting.remove(&head)
                {
                    self.ready.push_back((head, item));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_goes_in_order_and_others_pass() {
        let mut order = Order::new();
        for (keys, name) in [
            (vec!['a'], 1),
            (vec!['a'], 2),
            (vec!['b'], 3),
            (vec!['a', 'b'], 4),
            (vec!['c', 'c'], 5),
        ] {
            order.push(keys, name);
        }
        let first: Vec<_> = std::iter::from_fn(|| order.pop()).collect();
        assert_eq!(first.iter().map(|one| one.1).collect::<Vec<_>>(), [1, 3, 5]);
        order.done(first[1].0);
        assert_eq!(order.pop(), None);
        order.done(first[0].0);
        let (second, name) = order.pop().unwrap();
        assert_eq!((name, order.pop()), (2, None));
        order.done(second);
        let (last, name) = order.pop().unwrap();
        assert_eq!(name, 4);
        order.done(last);
        order.done(first[2].0);
        assert_eq!(order.len(), 0);
        assert!(order.queues.is_empty());
    }

    #[test]
    fn whatever_comes_goes_in_the_order_of_each_key() {
        // A small generator of its own: the same sequence at every run.
        let mut seed = 1_u64;
        let mut draw = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut order = Order::new();
        let mut out: Vec<(Ticket, Vec<u64>)> = Vec::new();
        let mut last: HashMap<u64, Ticket> = HashMap::new();
        let mut count = 0;
        for _ in 0..20_000 {
            if draw(2) == 0 {
                let keys: Vec<u64> = (0..=draw(3)).map(|_| draw(8)).collect();
                order.push(keys.clone(), keys);
            } else if draw(2) == 0 {
                if let Some((ticket, keys)) = order.pop() {
                    assert!(
                        out.iter()
                            .all(|(_, others)| others.iter().all(|key| !keys.contains(key)))
                    );
                    for key in &keys {
                        assert!(last.insert(*key, ticket).is_none_or(|before| before <= ticket));
                    }
                    out.push((ticket, keys));
                }
            } else if !out.is_empty() {
                let index = usize::try_from(draw(out.len() as u64)).unwrap();
                order.done(out.swap_remove(index).0);
                count += 1;
            }
        }
        assert!(count > 1_000);
    }
}
