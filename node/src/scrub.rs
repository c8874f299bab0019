//! Keeps the scrubber: one slow thread that reads every stored block again, so that damage is found, and repaired from
//! a peer, before a reader needs the block and while the peers still have it.
//!
//! Invariants: it goes down from the last executed block, from hash to hash, so that it also finds a sound block that
//! does not belong there; it reads no more than it is allowed to; it writes nothing. How far it is, it knows in memory
//! only: a start begins a new pass. Leaves getting a block from a peer to the engine.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use quipu_crypto::hash::Hash;
use quipu_crypto::id::Height;
use quipu_ledger::store::Store;

use crate::clock;
use crate::damage::Damages;

/// Longest pause at a time.
const STEP: Duration = Duration::from_millis(200);
/// How long it rests after a whole pass, so that a short chain is not read all day.
const REST: Duration = Duration::from_secs(60);
/// How long it waits for a damaged header before it begins anew at the top.
const PATIENCE: Duration = Duration::from_secs(10);

/// How fast it may go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of blocks a second.
    pub bytes_per_second: u64,
    /// Rest between two passes.
    pub rest: Duration,
}

impl Pace {
    /// The usual rest.
    #[must_use]
    pub const fn of(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            rest: REST,
        }
    }
}

/// Scrubs until the replica is gone; returns at once where it may read nothing.
pub fn run(store: &Store, pace: Pace, damages: &Damages) {
    if pace.bytes_per_second == 0 {
        return;
    }
    loop {
        match pass(store, pace, damages) {
            Passed::Whole => {
                damages.tally().passed.store(clock::wall().get(), Ordering::Relaxed);
                tracing::debug!("every stored block was read");
            }
            Passed::Stuck => {}
            Passed::Ended => return,
        }
        thread::sleep(pace.rest);
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// At block 0.
    Whole,
    /// At a header that could not be had again in time.
    Stuck,
    /// Nobody listens any more.
    Ended,
}

/// What stands at a height.
enum Found {
    /// The block that belongs there: the hash of the one below, and how many bytes it has.
    Sound { below: Hash, bytes: u64 },
    /// Its header is sound, the rest is not.
    Body { below: Hash },
    /// Its header is not.
    Header,
}

fn pass(store: &Store, pace: Pace, damages: &Damages) -> Passed {
    let Some((mut height, mut hash)) = top(store) else {
        return Passed::Stuck;
    };
    let mut budget = Budget::new(pace.bytes_per_second);
    loop {
        let found = look(store, height, hash);
        damages.tally().scrubbed.fetch_add(1, Ordering::Relaxed);
        if !matches!(found, Found::Sound { .. }) {
            tracing::error!(%height, %hash, "the scrubber found a damaged block; it is asked for");
            if !damages.ask(height, hash) {
                return Passed::Ended;
            }
        }
        let below = match found {
            Found::Sound { below, bytes } => {
                budget.spend(bytes);
                below
            }
            Found::Body { below } => below,
            Found::Header => match wait_for_header(store, height, hash) {
                Some(below) => below,
                None => return Passed::Stuck,
            },
        };
        let Some(next) = height.previous() else {
            return Passed::Whole;
        };
        (height, hash) = (next, below);
    }
}

/// The last executed block.
fn top(store: &Store) -> Option<(Height, Hash)> {
    let height = store.view().ok()?.height();
    let above = store.header(height.next()).ok().flatten().map(|above| above.previous);
    let hash = above.or_else(|| Some(store.block_id(height).ok()??.hash))?;
    Some((height, hash))
}

fn look(store: &Store, height: Height, hash: Hash) -> Found {
    if let Ok(Some(block)) = store.block(height)
        && block.hash() == hash
    {
        let bytes = u64::try_from(block.size()).unwrap_or(u64::MAX);
        let below = block.header().previous;
        return Found::Sound { below, bytes };
    }
    header(store, height, hash).map_or(Found::Header, |below| Found::Body { below })
}

/// What the header of `hash` names below itself, where that is the stored one.
fn header(store: &Store, height: Height, hash: Hash) -> Option<Hash> {
    let header = store.header(height).ok()??;
    (header.hash() == hash).then_some(header.previous)
}

fn wait_for_header(store: &Store, height: Height, hash: Hash) -> Option<Hash> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(below) = header(store, height, hash) {
            return Some(below);
        }
        thread::sleep(STEP);
    }
    None
}

/// What may be read, by the time that has passed.
struct Budget {
    bytes_per_second: u64,
    begin: Instant,
    spent: u64,
}

impl Budget {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            begin: Instant::now(),
            spent: 0,
        }
    }

    /// Sleeps as long as so many bytes are worth.
    fn spend(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
        let due = self.spent.saturating_mul(1000).checked_div(self.bytes_per_second);
        let due = Duration::from_millis(due.unwrap_or_default());
        if let Some(early) = due.checked_sub(self.begin.elapsed())
            && early >= Duration::from_millis(5)
        {
            thread::sleep(early);
        }
    }
}
