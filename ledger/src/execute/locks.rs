//! Keeps the lock queues of a block: ordered strict two-phase locking, as bookkeeping that neither waits nor blocks.
//!
//! Invariants: every lock has a queue in block order, complete before anything runs; it is granted to the front of its
//! queue, alone or to all who share it there; it is held until its transaction is over. So a transaction waits for
//! earlier ones only (no circle of waiting, hence no deadlock, and the first one not done is always free to run), and
//! those in conflict run in the order of the block. Leaves running them to `crew`; `tests/interleavings.rs` compiles
//! this very file with the types of a checker of interleavings.

use super::sync::{AtomicUsize, Ordering};

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Together with others who only read.
    Shared,
    /// Alone.
    Exclusive,
}

/// Who needs which lock. Transactions and locks are numbered from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) transaction: usize,
    pub(super) lock: usize,
    pub(super) mode: Mode,
}

/// The queue of a lock, a part of [`Locks::queued`].
struct Queue {
    /// How many have the lock and have not given it back.
    holders: AtomicUsize,
    /// Where those begin who have not had it yet. Moved by the one who gives it back last: by one at a time.
    next: AtomicUsize,
    end: usize,
}

/// All locks of a block, while it runs.
pub(super) struct Locks {
    /// By transaction, in block order.
    requests: Vec<Request>,
    /// Where in `requests` those of each transaction end.
    ends: Vec<usize>,
    /// By lock, each in block order.
    queued: Vec<Request>,
    queues: Vec<Queue>,
    /// How many of its locks each transaction still waits for.
    waiting: Vec<AtomicUsize>,
    /// Transactions that wait for none from the beginning, and how many of them were taken.
    free: Vec<usize>,
    taken: AtomicUsize,
}

impl Locks {
    /// Queues what a block's transactions need: in block order, each lock once for each transaction.
    pub(super) fn new(transactions: usize, locks: usize, requests: Vec<Request>) -> Self {
        let mut queued = requests.clone();
        queued.sort_by_key(|request| request.lock); // stable: each queue keeps the order of the block
        let mut waiting = vec![0_usize; transactions];
        for request in &requests {
            if let Some(count) = waiting.get_mut(request.transaction) {
                *count = count.saturating_add(1);
            }
        }
        let mut ends = Vec::with_capacity(transactions);
        for count in &waiting {
            ends.push(ends.last().map_or(*count, |end: &usize| end.saturating_add(*count)));
        }
        let mut queues = Vec::with_capacity(locks);
        let mut start = 0;
        for lock in 0..locks {
            let rest = queued.get(start..).unwrap_or_default();
            let end = start.saturating_add(rest.iter().take_while(|request| request.lock == lock).count());
            let group = front(queued.get(start..end).unwrap_or_default());
            for request in group {
                if let Some(count) = waiting.get_mut(request.transaction) {
                    *count = count.saturating_sub(1);
                }
            }
            queues.push(Queue {
                holders: AtomicUsize::new(group.len()),
                next: AtomicUsize::new(start.saturating_add(group.len())),
                end,
            });
            start = end;
        }
        let free = (0..).zip(&waiting).filter(|(_, count)| **count == 0);
        Self {
            requests,
            ends,
            free: free.map(|(transaction, _)| transaction).collect(),
            taken: AtomicUsize::new(0),
            waiting: waiting.into_iter().map(AtomicUsize::new).collect(),
            queued,
            queues,
        }
    }

    /// Runs whatever is free to run until there is nothing left to begin here: each transaction of the block once, by
    /// whichever of the callers comes first, under all its locks. Calls `last` for each lock that nobody will ask for
    /// any more. When all callers are back, everything has run.
    pub(super) fn work(&self, mut run: impl FnMut(usize), mut last: impl FnMut(usize)) {
        let mut ready = Vec::new();
        while let Some(transaction) = ready.pop().or_else(|| self.take()) {
            run(transaction);
            self.release(transaction, &mut ready, &mut last);
        }
    }

    /// A transaction that waited for nothing from the beginning; each is given out once.
    fn take(&self) -> Option<usize> {
        self.free.get(self.taken.fetch_add(1, Ordering::Relaxed)).copied()
    }

    /// Gives back all locks of a transaction that is over. What that makes ready is the caller's to run: it is told of
    /// it alone.
    fn release(&self, transaction: usize, ready: &mut Vec<usize>, last: &mut impl FnMut(usize)) {
        for request in self.requests_of(transaction) {
            let Some(queue) = self.queues.get(request.lock) else {
                continue;
            };
            // Acquire and release: whoever is the last to give it back has seen what all before have done under it.
            if queue.holders.fetch_sub(1, Ordering::AcqRel) != 1 {
                continue;
            }
            let start = queue.next.load(Ordering::Relaxed);
            let group = front(self.queued.get(start..queue.end).unwrap_or_default());
            if group.is_empty() {
                last(request.lock);
                continue;
            }
            queue.next.store(start.saturating_add(group.len()), Ordering::Relaxed);
            queue.holders.store(group.len(), Ordering::Relaxed);
            for next in group {
                let waiting = self.waiting.get(next.transaction);
                if waiting.is_some_and(|count| count.fetch_sub(1, Ordering::AcqRel) == 1) {
                    ready.push(next.transaction);
                }
            }
        }
    }

    fn requests_of(&self, transaction: usize) -> &[Request] {
        let before = transaction.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.copied().unwrap_or(0);
        let end = self.ends.get(transaction).copied().unwrap_or(start);
        self.requests.get(start..end).unwrap_or_default()
    }
}

/// Those at the front of a queue who have the lock together: one that writes, or all that read before the next does.
fn front(queue: &[Request]) -> &[Request] {
    let shared = queue.iter().take_while(|request| request.mode == Mode::Shared).count();
    queue.get(..shared.max(1)).unwrap_or_default()
}
