//! Keeps a queue that never holds its sender up: where it is full the oldest is lost.
//!
//! For what somebody may come too late to take, and of which only the youngest matter.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The queue; its clones are its ends.
#[derive(Debug)]
pub struct Youngest<T> {
    most: usize,
    waiting: Arc<Mutex<VecDeque<T>>>,
}

impl<T> Clone for Youngest<T> {
    fn clone(&self) -> Self {
        Self {
            most: self.most,
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<T> Youngest<T> {
    /// Holds at most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Arc::default(),
        }
    }

    /// Adds one, the youngest.
    pub fn push(&self, item: T) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.most {
            waiting.pop_front();
        }
        waiting.push_back(item);
    }

    /// Takes all, the oldest first.
    #[must_use]
    pub fn take(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_takes_costs_no_more_than_the_bound() {
        let queue = Youngest::new(3);
        let other_end = queue.clone();
        (0..10).for_each(|item| queue.push(item));
        assert_eq!(other_end.take(), [7, 8, 9]);
        assert!(queue.take().is_empty());
    }
}
