//! The lock queues of execution in every interleaving of their callers, as the checker `loom` makes them.
//!
//! Invariant: the file under test is the product's own, compiled with the checker's atomics. The cells below have no
//! lock: two who touch one without an order between them are found by the checker.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[allow(dead_code, unreachable_pub)]
#[path = "../src/execute/locks.rs"]
mod locks;

/// What the file under test is built of.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

use std::sync::Mutex;

use locks::Mode::{Exclusive, Shared};
use locks::{Locks, Mode, Request};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

struct World {
    locks: Locks,
    cells: Vec<UnsafeCell<()>>,
    /// Who was there, by lock; and who ran.
    seen: Vec<Mutex<Vec<usize>>>,
    ran: Mutex<Vec<usize>>,
    closed: Mutex<Vec<usize>>,
}

fn work(world: &World, wanted: &[&[(usize, Mode)]]) {
    let run = |transaction: usize| {
        for (lock, mode) in wanted[transaction] {
            match mode {
                Shared => world.cells[*lock].with(|_| loom::thread::yield_now()),
                Exclusive => world.cells[*lock].with_mut(|_| ()),
            }
            world.seen[*lock].lock().unwrap().push(transaction);
        }
        world.ran.lock().unwrap().push(transaction);
    };
    let last = |lock: usize| {
        world.cells[lock].with_mut(|_| ());
        world.closed.lock().unwrap().push(lock);
    };
    world.locks.work(run, last);
}

/// Who may be seen at a lock: in block order, where those who only read may change places with each other.
fn in_block_order(seen: &[usize], lock: usize, wanted: &[&[(usize, Mode)]]) -> bool {
    let mode = |transaction: usize| {
        wanted[transaction]
            .iter()
            .find(|(at, _)| *at == lock)
            .map(|(_, mode)| *mode)
    };
    let pairs = seen.iter().enumerate();
    let mut pairs = pairs.flat_map(|(at, later)| seen[..at].iter().map(move |earlier| (*earlier, *later)));
    pairs.all(|(earlier, later)| earlier < later || mode(earlier) == Some(Shared) && mode(later) == Some(Shared))
}

fn check(threads: usize, wanted: &'static [&'static [(usize, Mode)]]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let count = wanted
            .iter()
            .flat_map(|locks| locks.iter())
            .map(|(lock, _)| lock + 1)
            .max()
            .unwrap();
        let requests = wanted.iter().zip(0..).flat_map(|(locks, transaction)| {
            locks.iter().map(move |(lock, mode)| Request {
                transaction,
                lock: *lock,
                mode: *mode,
            })
        });
        let world = Arc::new(World {
            locks: Locks::new(wanted.len(), count, requests.collect()),
            cells: (0..count).map(|_| UnsafeCell::new(())).collect(),
            seen: (0..count).map(|_| Mutex::default()).collect(),
            ran: Mutex::default(),
            closed: Mutex::default(),
        });
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let world = Arc::clone(&world);
                loom::thread::spawn(move || work(&world, wanted))
            })
            .collect();
        work(&world, wanted);
        for other in others {
            other.join().unwrap();
        }
        let sorted = |list: &Mutex<Vec<usize>>| {
            let mut list = list.lock().unwrap().clone();
            list.sort_unstable();
            list
        };
        assert_eq!(
            sorted(&world.ran),
            (0..wanted.len()).collect::<Vec<_>>(),
            "each runs once"
        );
        assert_eq!(
            sorted(&world.closed),
            (0..count).collect::<Vec<_>>(),
            "each lock is closed once"
        );
        for (seen, lock) in world.seen.iter().zip(0..) {
            let seen = seen.lock().unwrap();
            assert!(in_block_order(&seen, lock, wanted), "lock {lock}: {seen:?}");
        }
    });
}

#[test]
fn writers_of_one_key_run_in_block_order() {
    check(
        2,
        &[
            &[(0, Exclusive)],
            &[(0, Exclusive)],
            &[(0, Exclusive)],
            &[(1, Exclusive)],
        ],
    );
}

#[test]
fn readers_share_between_writers() {
    check(
        3,
        &[&[(0, Exclusive)], &[(0, Shared)], &[(0, Shared)], &[(0, Exclusive)]],
    );
    check(3, &[&[(0, Shared)], &[(0, Shared)], &[(0, Exclusive)], &[(0, Shared)]]);
}

#[test]
fn crossing_writers_neither_meet_nor_wait_in_a_circle() {
    check(
        2,
        &[
            &[(0, Exclusive), (1, Exclusive)],
            &[(1, Exclusive), (2, Exclusive)],
            &[(2, Exclusive), (0, Exclusive)],
            &[(1, Shared), (2, Shared)],
        ],
    );
}

#[test]
fn who_waits_for_two_is_told_once() {
    check(
        3,
        &[&[(0, Exclusive)], &[(1, Exclusive)], &[(0, Exclusive), (1, Exclusive)]],
    );
}
