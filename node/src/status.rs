//! Keeps what other threads may know of the replica at any moment: its status, and how far it has executed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quipu_crypto::id::{Height, Slot, TimeMs};
use tokio::sync::watch;

use crate::client_protocol::NodeStatus;

/// Written by the run loop and the executor, read by everyone.
#[derive(Debug)]
pub struct SharedStatus {
    node: Mutex<NodeStatus>,
    executed_time: AtomicU64,
    executed: watch::Sender<Height>,
}

impl SharedStatus {
    /// Begins with what the store shows.
    #[must_use]
    pub fn new(node: NodeStatus, executed_time: TimeMs) -> Self {
        let (executed, _) = watch::channel(node.executed.height);
        Self {
            node: Mutex::new(node),
            executed_time: AtomicU64::new(executed_time.get()),
            executed,
        }
    }

    /// Replaces the status.
    pub fn set(&self, change: impl FnOnce(&mut NodeStatus)) {
        change(&mut self.node.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The status now.
    #[must_use]
    pub fn get(&self) -> NodeStatus {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which node this is.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).slot
    }

    /// The node's name, where its disk has no room for more.
    #[must_use]
    pub fn disk_full(&self) -> Option<String> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.disk.full.then(|| node.name.clone())
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.leader == Some(node.slot)
    }

    /// A block was executed.
    pub fn set_executed(&self, height: Height, time: TimeMs) {
        self.executed_time.fetch_max(time.get(), Ordering::Relaxed);
        self.executed.send_replace(height);
    }

    /// Time of the last executed block.
    #[must_use]
    pub fn executed_time(&self) -> TimeMs {
        TimeMs(self.executed_time.load(Ordering::Relaxed))
    }

    /// Tells of each executed height.
    #[must_use]
    pub fn watch_executed(&self) -> watch::Receiver<Height> {
        self.executed.subscribe()
    }
}
