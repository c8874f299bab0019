//! Keeps what must wait for a write: a message that says that something is durable leaves when it is.
//!
//! Invariants (I20): nothing passes before its write was reported durable, everything does then; what waits leaves in
//! the order in which it came. Leaves what the messages are, and the writing, to `run` and `log_writer`.

use std::collections::VecDeque;

use quipu_consensus::input::PersistSeq;

/// The gate.
#[derive(Debug)]
pub struct Gate<T> {
    waiting: VecDeque<(PersistSeq, T)>,
    /// Writes up to this one are durable.
    durable: Option<PersistSeq>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            durable: None,
        }
    }
}

impl<T> Gate<T> {
    /// Gives `message` back where it may leave now; otherwise it waits for the write `after`.
    #[must_use]
    pub fn pass(&mut self, after: Option<PersistSeq>, message: T) -> Option<T> {
        match after {
            Some(after) if self.durable.is_none_or(|durable| durable < after) => {
                self.waiting.push_back((after, message));
                None
            }
            _ => Some(message),
        }
    }

    /// Writes up to `seq` are durable: what leaves with that.
    pub fn open(&mut self, seq: PersistSeq) -> impl Iterator<Item = T> + '_ {
        self.durable = self.durable.max(Some(seq));
        // The engine names its writes in their order, so the first that must wait ends the search.
        std::iter::from_fn(move || {
            self.waiting
                .pop_front_if(|(after, _)| *after <= seq)
                .map(|(_, message)| message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_of_a_write_leaves_when_that_is_durable_and_in_its_order() {
        let mut gate = Gate::default();
        assert_eq!(gate.pass(None, "a contact"), Some("a contact"));
        for (after, message) in [(1, "vote"), (1, "hello"), (2, "accepted"), (4, "accepted later")] {
            assert_eq!(
                gate.pass(Some(PersistSeq(after)), message),
                None,
                "nothing is durable yet"
            );
        }
        assert_eq!(gate.open(PersistSeq(1)).collect::<Vec<_>>(), ["vote", "hello"]);
        assert_eq!(gate.pass(Some(PersistSeq(1)), "again"), Some("again"));
        assert_eq!(gate.pass(Some(PersistSeq(3)), "third"), None);
        assert_eq!(gate.open(PersistSeq(3)).collect::<Vec<_>>(), ["accepted"]);
        assert_eq!(
            gate.open(PersistSeq(4)).collect::<Vec<_>>(),
            ["accepted later", "third"],
            "one behind a later write leaves with it"
        );
    }
}
