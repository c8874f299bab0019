//! Keeps the frames that wait for a stream, bounded in bytes.
//!
//! Invariants: pushing never blocks and drops the newest when full; frames leave in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Most bytes that are taken at a time; what is pushed meanwhile stays in order behind them.
const TAKE_BYTES: usize = 256 * 1024;
/// What a frame costs beside its bytes, so that empty ones are bounded too.
const FRAME_COST: usize = 64;

/// A queue of frames.
#[derive(Debug)]
pub(crate) struct Queue {
    cap: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    /// Invariant: the sum of the frames' costs, at most `cap`.
    bytes: usize,
}

impl Queue {
    /// Holds frames of `cap` bytes in all.
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            cap,
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Adds a frame; false where there is no room for it.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut waiting = self.lock();
        let bytes = waiting.bytes.saturating_add(cost(&frame));
        if bytes > self.cap {
            return false;
        }
        waiting.bytes = bytes;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// Waits for frames and takes some of them, in order; at least one.
    pub(crate) async fn take(&self) -> Vec<Bytes> {
        loop {
            let taken = self.take_now();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn take_now(&self) -> Vec<Bytes> {
        let mut waiting = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0_usize;
        while bytes < TAKE_BYTES {
            let Some(frame) = waiting.frames.pop_front() else {
                break;
            };
            bytes = bytes.saturating_add(cost(&frame));
            taken.push(frame);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(frame: &Bytes) -> usize {
    frame.len().saturating_add(FRAME_COST)
}
