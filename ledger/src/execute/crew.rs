//! Keeps running a block by many at once: the crew that does it, and how the work is shared out.
//!
//! Invariants: the outcome is that of running the block in order, whoever does what and when: transactions run under
//! the locks of `locks`, keys are loaded before and summed up after all who name them, and sums have no order. Nobody
//! waits for another's transaction: who finds nothing free to run goes home, and who ends one runs what that sets free.
//! Leaves what a transaction does to `run`, and making threads to who has them: none are made here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use quipu_crypto::lattice::LatticeHash;

use super::locks::Locks;
use super::run::{Plan, Ran, Slot, Slots};
use super::sync::{AtomicUsize, Ordering};
use super::{Remembered, StateView};
use crate::state::{StateKey, StoredValue};

/// Those who execute a block together.
pub trait Crew: Sync {
    /// Whether a block with so many operations on so many different keys is worth calling them together for: keys are
    /// what takes time, and what sets transactions apart. If not, the caller does everything by itself, in order.
    fn worth(&self, keys: usize, operations: usize) -> bool;

    /// Lets one of them lead.
    fn enter<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R;

    /// Lets the one who leads do a job together with all others who have time, and comes back when all are done.
    fn share(&self, job: impl Fn() + Sync);
}

/// No crew but the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Crew for Alone {
    fn worth(&self, _: usize, _: usize) -> bool {
        false
    }

    fn enter<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R {
        lead()
    }

    fn share(&self, job: impl Fn() + Sync) {
        job();
    }
}

/// Keys or ids that are asked for at once.
const LOAD: usize = 128;

/// A piece of what a block asks a view for, or of the answer.
enum Piece<V, S> {
    Values(V),
    Seen(S),
}

/// The value of each of `keys`, and whether each of `ids` was seen.
pub(super) type Loaded = (Vec<Option<StoredValue>>, Vec<bool>);

/// Asks a view for what a block names, piece by piece.
pub(super) fn load<V>(crew: &impl Crew, view: &V, keys: &[StateKey], ids: &[Remembered]) -> Result<Loaded, V::Error>
where
    V: StateView + Sync,
    V::Error: Send,
{
    let values = keys.chunks(LOAD).map(Piece::Values);
    let pieces: Vec<_> = values.chain(ids.chunks(LOAD).map(Piece::Seen)).collect();
    let answers = spread(crew, &pieces, |piece| match piece {
        Piece::Values(keys) => view.values(keys).map(Piece::Values),
        Piece::Seen(ids) => view.seen(ids).map(Piece::Seen),
    });
    let mut loaded = (Vec::with_capacity(keys.len()), Vec::with_capacity(ids.len()));
    for answer in answers {
        match answer? {
            Piece::Values(values) => loaded.0.extend(values),
            Piece::Seen(seen) => loaded.1.extend(seen),
        }
    }
    Ok(loaded)
}

/// What `work` makes of each piece, in order.
fn spread<P: Sync, T: Send>(crew: &impl Crew, pieces: &[P], work: impl Fn(&P) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(pieces.len()));
    crew.share(|| {
        while let Some((index, piece)) = turn(&next, pieces) {
            let made = work(piece);
            locked(&done).push((index, made));
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, made)| made).collect()
}

fn turn<'p, P>(next: &AtomicUsize, pieces: &'p [P]) -> Option<(usize, &'p P)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    pieces.get(index).map(|piece| (index, piece))
}

/// Runs all transactions of a block, each under its locks, and sums up each key when nobody will change it any more.
pub(super) fn run<'b>(crew: &impl Crew, plan: &Plan<'b>, slots: Vec<Slot<'b>>) -> Ran<'b> {
    let locks = Locks::new(plan.transactions.len(), slots.len(), plan.requests());
    let slots: Vec<Mutex<Slot<'b>>> = slots.into_iter().map(Mutex::new).collect();
    let done = Mutex::new((Vec::with_capacity(plan.transactions.len()), LatticeHash::new()));
    crew.share(|| {
        let (mut settled, mut difference) = (Vec::new(), LatticeHash::new());
        let mut pending = Vec::new();
        let run = |number: usize| {
            if let Some(planned) = plan.transactions.get(number) {
                let mut slots = slots.as_slice();
                settled.push((number, plan.settle(planned, &mut slots, &mut pending)));
            }
        };
        let last = |slot: usize| {
            slots.as_slice().visit(slot, |slot| slot.account(&mut difference));
        };
        locks.work(run, last);
        let mut done = locked(&done);
        done.0.append(&mut settled);
        done.1.combine(&difference);
    });
    let (mut settled, difference) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    settled.sort_unstable_by_key(|(number, _)| *number);
    let slots = slots
        .into_iter()
        .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    Ran {
        settled: settled.into_iter().map(|(_, settled)| settled).collect(),
        slots: slots.collect(),
        difference,
    }
}

/// Slots that many may name: who holds a slot's lock finds its mutex free, but for others who read it too.
impl<'b> Slots<'b> for &[Mutex<Slot<'b>>] {
    fn visit<R>(&mut self, slot: usize, visit: impl FnOnce(&mut Slot<'b>) -> R) -> Option<R> {
        self.get(slot).map(|slot| visit(&mut locked(slot)))
    }
}

/// A panic is passed on by the crew, so what it left behind is never looked at.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
