//! Keeps what is done when a stored block cannot be read: the replica is told which block of which hash is missing, so
//! that the engine gets it from a peer; whoever needs it waits, or says so.
//!
//! Invariant: a damaged block is never taken for an absent one. Derived records are not blocks: nobody can send them,
//! and a wrong answer is worse than none, so a node that cannot read one it executes from stops, and says which.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use quipu_crypto::id::{Height, TimeMs};
use quipu_ledger::block::Block;
use quipu_ledger::store::{BlockDamage, Store, StoreError};

use crate::replica::Event;
use crate::run::RunEvent;

/// How often whoever waits for a block looks whether it was written back.
const LOOK: Duration = Duration::from_millis(20);
/// How often it tells again, should the engine have had too many at once.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// How blocks were found and repaired since the start, and how far the scrubber is.
#[derive(Debug, Default)]
pub struct Tally {
    /// Blocks that were found damaged.
    pub damaged: AtomicU64,
    /// Blocks that were written back.
    pub repaired: AtomicU64,
    /// Blocks that the scrubber has read.
    pub scrubbed: AtomicU64,
    /// When its last whole pass ended, ms; zero for none yet.
    pub passed: AtomicU64,
}

impl Tally {
    /// When the scrubber's last whole pass ended.
    #[must_use]
    pub fn passed(&self) -> Option<TimeMs> {
        let passed = self.passed.load(Ordering::Relaxed);
        (passed > 0).then_some(TimeMs(passed))
    }
}

/// Tells the replica of damaged blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Damages {
    store: Store,
    events: Sender<RunEvent>,
    tally: std::sync::Arc<Tally>,
}

impl Damages {
    /// A reporter for this store.
    #[must_use]
    pub fn new(store: Store, events: Sender<RunEvent>) -> Self {
        let tally = std::sync::Arc::default();
        Self { store, events, tally }
    }

    /// What was found and repaired.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Tells what `error` says of a block; nothing where it is about something else. `false` once nobody listens.
    pub fn tell(&self, error: &StoreError) -> bool {
        let StoreError::DamagedBlock { height, damage } = error else {
            return true;
        };
        match self.store.to_restore(*height) {
            Some((at, hash)) => {
                tracing::error!(height = %at, %hash, %damage, "a stored block is damaged; it is asked for");
                self.ask(at, hash)
            }
            None => {
                tracing::error!(%height, %damage, "a stored block was damaged, and can be read now");
                true
            }
        }
    }

    /// Asks for the block of `hash` at `height`; `false` once nobody listens.
    pub fn ask(&self, height: Height, hash: quipu_crypto::hash::Hash) -> bool {
        self.tally.damaged.fetch_add(1, Ordering::Relaxed);
        let event = RunEvent::Replica(Event::Damaged { height, hash });
        self.events.send(event).is_ok()
    }

    /// Reads a block that must be there, waiting until it is written back where it is damaged.
    ///
    /// # Errors
    /// What is no damage of a block; or the damage, once nobody listens.
    pub fn wait_for(&self, height: Height) -> Result<Block, StoreError> {
        let mut told: Option<Instant> = None;
        loop {
            let error = match self.store.block(height) {
                Ok(Some(block)) => return Ok(block),
                Ok(None) => StoreError::DamagedBlock {
                    height,
                    damage: BlockDamage::NoHeader,
                },
                Err(error) => error,
            };
            if !matches!(error, StoreError::DamagedBlock { .. }) {
                return Err(error);
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                if !self.tell(&error) {
                    return Err(error);
                }
            }
            thread::sleep(LOOK);
        }
    }
}
