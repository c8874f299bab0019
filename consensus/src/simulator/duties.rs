//! Keeps what an engine owes its host and no oracle sees: every read is answered, and once (C-7r).
//!
//! Invariant: it only counts; an engine with and without it does the same.

use super::checkers::Violation;
use crate::engine::Role;

/// What was asked of the engine of one process, and what it answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Duties {
    asked: u64,
    /// Reads that the engine has confirmed or given up.
    answered: u64,
}

impl Duties {
    pub(super) fn read_asked(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    pub(super) fn read_answered(&mut self) {
        self.answered = self.answered.saturating_add(1);
    }

    /// What is broken now, in a process of that role: only a leader may let a read wait.
    pub(super) fn broken(&self, role: Role) -> Option<Violation> {
        let Self { asked, answered } = self;
        let silent = answered < asked && role != Role::Leader;
        (silent || answered > asked).then(|| Violation {
            invariant: "C-7r",
            detail: format!("{asked} reads were asked for and {answered} answered, by one who is {role:?}"),
        })
    }
}
