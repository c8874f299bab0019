//! Keeps bounded room for many senders so that none can starve another: how much each may hold of it, and whose turn is
//! next.
//!
//! Room: a sender may hold no more than what would still be free after it (the dynamic threshold of Choudhury and
//! Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998, with factor 1). Alone it gets half
//! of the room; two get a third each; whoever comes new finds room, whoever floods is refused.
//! Turns: deficit round robin (Shreedhar and Varghese, 1995), by bytes and a cost for each item.
//!
//! Invariants: of one sender, what came first is served first; totals are the sums of what each holds; who has a turn
//! has a lane, and a lane holds something. Where that is broken the thread ends, and the node with it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Bytes that a sender's turn is worth: some twenty small items, so that turns change often within a batch or a block.
const QUANTUM: usize = 16 * 1024;
/// What an item costs beside its bytes, for its signature is checked and its id and result are kept whatever its
/// length: without it, whoever sends many small items would get most of what a node can do.
const ITEM_COST: usize = 512;

/// How much may be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Items.
    pub items: usize,
    /// Bytes of them.
    pub bytes: usize,
}

impl Room {
    fn add(&mut self, bytes: usize) {
        self.items = self.items.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, bytes: usize) {
        const NO_MORE: &str = "no more is given back than was taken";
        self.items = self.items.checked_sub(1).expect(NO_MORE);
        self.bytes = self.bytes.checked_sub(bytes).expect(NO_MORE);
    }
}

/// Who holds how much of a bounded room.
#[derive(Debug)]
pub struct Shares<K> {
    limit: Room,
    held: Room,
    each: HashMap<K, Room>,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    /// Nobody holds anything of `limit`.
    #[must_use]
    pub fn new(limit: Room) -> Self {
        Self {
            limit,
            held: Room::default(),
            each: HashMap::new(),
        }
    }

    /// Whether `sender` may hold one more item, of so many bytes; one of none needs no room for bytes.
    #[must_use]
    pub fn has_room(&self, sender: &K, bytes: usize) -> bool {
        let own = self.each.get(sender).copied().unwrap_or_default();
        let items = self.held.items.saturating_add(own.items);
        let all = self.held.bytes.saturating_add(own.bytes).saturating_add(bytes);
        items < self.limit.items && (bytes == 0 || all <= self.limit.bytes)
    }

    /// `sender` holds one more item.
    pub fn take(&mut self, sender: K, bytes: usize) {
        self.held.add(bytes);
        self.each.entry(sender).or_default().add(bytes);
    }

    /// `sender` holds one item less.
    pub fn give_back(&mut self, sender: &K, bytes: usize) {
        self.held.remove(bytes);
        let own = self.each.get_mut(sender).expect("whoever gives back holds something");
        own.remove(bytes);
        if own.items == 0 {
            self.each.remove(sender);
        }
    }

    /// What all hold.
    #[must_use]
    pub const fn held(&self) -> Room {
        self.held
    }
}

/// What one sender waits with.
#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(T, usize)>,
    /// What its turns are worth so far, while something waits.
    credit: usize,
}

/// Items that wait, each sender's in a lane of its own.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    shares: Shares<K>,
    lanes: HashMap<K, Lane<T>>,
    /// Senders with something that waits, the next one first.
    turns: VecDeque<K>,
}

impl<K: Copy + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue with room for `limit`.
    #[must_use]
    pub fn new(limit: Room) -> Self {
        Self {
            shares: Shares::new(limit),
            lanes: HashMap::new(),
            turns: VecDeque::new(),
        }
    }

    /// Lets an item of `sender` wait.
    ///
    /// # Errors
    /// The item, where there is no room for it.
    pub fn push(&mut self, sender: K, item: T, bytes: usize) -> Result<(), T> {
        if !self.shares.has_room(&sender, bytes) {
            return Err(item);
        }
        self.shares.take(sender, bytes);
        let turns = &mut self.turns;
        let lane = self.lanes.entry(sender).or_insert_with(|| {
            turns.push_back(sender);
            Lane {
                waiting: VecDeque::new(),
                credit: QUANTUM,
            }
        });
        lane.waiting.push_back((item, bytes));
        Ok(())
    }

    /// The next one, and its bytes.
    pub fn pop(&mut self) -> Option<(T, usize)> {
        const NOT_EMPTY: &str = "a lane is there exactly while something waits in it";
        loop {
            // None here is the one way to be empty: what follows holds, or the queue is broken.
            let sender = *self.turns.front()?;
            let lane = self.lanes.get_mut(&sender).expect("whoever has a turn has a lane");
            let bytes = lane.waiting.front().map(|(_, bytes)| *bytes).expect(NOT_EMPTY);
            let cost = bytes.saturating_add(ITEM_COST);
            if let Some(left) = lane.credit.checked_sub(cost) {
                lane.credit = left;
                let item = lane.waiting.pop_front().expect(NOT_EMPTY);
                self.shares.give_back(&sender, bytes);
                if lane.waiting.is_empty() {
                    self.lanes.remove(&sender);
                    self.turns.pop_front();
                }
                return Some(item);
            }
            lane.credit = lane.credit.saturating_add(QUANTUM);
            self.turns.rotate_left(1);
        }
    }

    /// Everything that waits, in no order that matters.
    pub fn into_items(self) -> impl Iterator<Item = T> {
        let lanes = self.lanes.into_values();
        lanes.flat_map(|lane| lane.waiting.into_iter().map(|(item, _)| item))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let limit = self.shares.limit;
        *self = Self::new(limit);
    }

    /// What waits.
    #[must_use]
    pub const fn held(&self) -> Room {
        self.shares.held()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: Room = Room {
        items: 120,
        bytes: 1 << 20,
    };

    fn flood(queue: &mut FairQueue<u8, usize>, sender: u8) -> usize {
        (0..).take_while(|item| queue.push(sender, *item, 100).is_ok()).count()
    }

    #[test]
    fn who_floods_leaves_room_for_whoever_comes_new() {
        let mut queue = FairQueue::new(LIMIT);
        let shares = [1, 2, 3].map(|sender| flood(&mut queue, sender));
        assert_eq!(shares, [60, 30, 15], "each half of what was free");
        assert!(queue.push(4, 0, 100).is_ok());
    }

    #[test]
    fn bytes_are_shared_as_items_are() {
        let mut queue = FairQueue::new(LIMIT);
        assert!(queue.push(1, 0, 600_000).is_ok(), "one may be larger than its share");
        assert!(queue.push(1, 1, 1).is_err());
        assert!(queue.push(2, 0, 400_000).is_ok());
        assert!(queue.push(3, 0, 100_000).is_err(), "there is an end");
    }

    #[test]
    fn whoever_waits_with_little_is_served_among_those_who_wait_with_much() {
        let mut queue = FairQueue::new(Room {
            items: 10_000,
            bytes: 1 << 24,
        });
        for item in 0..3_000 {
            queue.push(1, item, 300).unwrap();
        }
        queue.push(2, 7_000, 300).unwrap();
        let place = (0..).find(|_| queue.pop() == Some((7_000, 300))).unwrap();
        assert!(
            place < 2 * QUANTUM / (300 + ITEM_COST),
            "it was served as number {place}"
        );
    }

    #[test]
    fn large_items_and_small_ones_get_the_same_bytes() {
        let mut queue = FairQueue::new(Room {
            items: 10_000,
            bytes: 1 << 26,
        });
        for item in 0..4_000 {
            queue.push(1, item, 1_000).unwrap();
        }
        for item in 0..40 {
            queue.push(2, item, 100_000).unwrap();
        }
        let mut served = [0_usize; 2];
        while served.iter().sum::<usize>() < 2_000_000 {
            let (_, bytes) = queue.pop().unwrap();
            served[usize::from(bytes == 100_000)] += bytes;
        }
        let [small, large] = served;
        assert!(small.abs_diff(large) < 1_000_000, "{small} and {large} bytes");
        assert!(small > 500_000 && large > 500_000, "{small} and {large} bytes");
    }

    #[test]
    #[should_panic = "whoever has a turn has a lane"]
    fn a_broken_queue_stops_the_node_and_does_not_look_empty() {
        let mut queue = FairQueue::new(LIMIT);
        flood(&mut queue, 1);
        queue.lanes.clear();
        queue.pop();
    }

    #[test]
    #[should_panic = "whoever gives back holds something"]
    fn who_holds_nothing_gives_nothing_back() {
        let mut shares = Shares::new(LIMIT);
        shares.take(1, 100);
        shares.give_back(&2, 100);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_a_senders_order_is_kept(
            steps in vec(proptest::option::weighted(0.7, (0_u8..5, 0_usize..40_000)), 0..400),
        ) {
            let mut queue = FairQueue::new(LIMIT);
            let mut expected: HashMap<u8, VecDeque<(usize, usize)>> = HashMap::new();
            let mut held = Room::default();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Some((sender, bytes)) => {
                        if queue.push(sender, (sender, number), bytes).is_ok() {
                            expected.entry(sender).or_default().push_back((number, bytes));
                            held.add(bytes);
                        }
                    }
                    None => match queue.pop() {
                        Some(((sender, number), bytes)) => {
                            prop_assert_eq!(expected.get_mut(&sender).unwrap().pop_front(), Some((number, bytes)));
                            held.remove(bytes);
                        }
                        None => prop_assert_eq!(held, Room::default()),
                    },
                }
                prop_assert_eq!(queue.held(), held);
                prop_assert!(held.items <= LIMIT.items && held.bytes <= LIMIT.bytes);
            }
        }
    }
}
