//! Keeps a thread of the node as the replica sees it: it takes one thing after the other, and each takes a while.
//!
//! Invariant: what comes out comes in the order in which it went in. What a thing sees, it sees when it is begun; what
//! came of it is known when it is done.

use std::collections::VecDeque;

/// A thread that makes an `O` of each `I`.
#[derive(Debug)]
pub(crate) struct Worker<I, O> {
    waiting: VecDeque<I>,
    /// What it is at, and until when.
    busy: Option<(u64, O)>,
}

impl<I, O> Worker<I, O> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            busy: None,
        }
    }

    pub(crate) fn push(&mut self, item: I) {
        self.waiting.push_back(item);
    }

    /// The next thing, where it may be begun; then [`Self::begin`] must follow.
    pub(crate) fn next(&mut self) -> Option<I> {
        if self.busy.is_some() {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Gives back what cannot be begun yet.
    pub(crate) fn put_back(&mut self, item: I) {
        self.waiting.push_front(item);
    }

    pub(crate) fn begin(&mut self, until: u64, outcome: O) {
        assert!(self.busy.is_none(), "a thread does one thing at a time");
        self.busy = Some((until, outcome));
    }

    /// What came of it, once it is done.
    pub(crate) fn done(&mut self, now: u64) -> Option<O> {
        if self.busy.as_ref().is_none_or(|(until, _)| *until > now) {
            return None;
        }
        self.busy.take().map(|(_, outcome)| outcome)
    }
}
