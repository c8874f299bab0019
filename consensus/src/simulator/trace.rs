//! Keeps what happened in a run: as a hash, and on demand as text that a reader can follow.
//!
//! Invariant: the hash covers every event, every effect and every status in their order; with `thorough` also what is
//! in them, to the last field.

use std::fmt::{self, Debug, Write};

use quipu_crypto::id::Slot;

use super::coverage::role_number;
use crate::engine::Status;

/// Kinds of lines; each goes into the hash as its number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Starts,
    Dies,
    Event,
    Effect,
    Fault,
}

/// What happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Whether the text of every line goes into the hash as well.
    thorough: bool,
    lines: Option<Vec<String>>,
}

/// Takes text into a hash without keeping it.
struct Sink(u64);

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// The trace of a run that has not begun.
    #[must_use]
    pub fn new(seed: u64, thorough: bool, readable: bool) -> Self {
        Self {
            hash: seed,
            thorough,
            lines: readable.then(Vec::new),
        }
    }

    /// Over everything so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// What can be read, oldest first.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    /// Something happened at a node.
    pub(super) fn line(&mut self, now: u64, slot: Slot, kind: Kind, word: &str, what: &dyn Debug) {
        self.mix(now);
        self.mix(u64::from(slot.get()));
        self.mix(match kind {
            Kind::Starts => 1,
            Kind::Dies => 2,
            Kind::Event => 3,
            Kind::Effect => 4,
            Kind::Fault => 5,
        });
        if self.thorough {
            let mut sink = Sink(self.hash);
            // Writing into a number cannot fail.
            let _ = write!(sink, "{word}{what:?}");
            self.hash = sink.0;
        }
        if let Some(lines) = &mut self.lines {
            let what = format!("{what:?}");
            // Of a clock only what comes of it is worth a line.
            if what != "Tick" {
                lines.push(format!("{now:>6} {slot} {word} {}", short(&what)));
            }
        }
    }

    /// How a node stands after an event.
    pub(super) fn status(&mut self, before: Option<&Status>, status: &Status) {
        let word = |hash: &[u8; 32]| u64::from_le_bytes(hash.first_chunk().copied().unwrap_or_default());
        for number in [
            role_number(status.role),
            status.term.get(),
            status.commit.height.get(),
            status.durable.height.get(),
            word(status.tip.hash.as_bytes()),
        ] {
            self.mix(number);
        }
        if self.thorough {
            for (slot, peer) in &status.peers {
                self.mix(u64::from(slot.get()));
                self.mix(peer.matched.get());
                self.mix(peer.next.get());
            }
        }
        if let Some(lines) = self.lines.as_mut().filter(|_| before != Some(status)) {
            let Status {
                role,
                term,
                tip,
                durable,
                commit,
                ..
            } = status;
            lines.push(format!(
                "       {} is {role:?} term {term} tip {} durable {} commit {}",
                status.slot, tip.height, durable.height, commit.height
            ));
        }
    }
}

/// The text of `Debug` without what only a compiler needs: `Height(7)` is `7`, and four digits name a hash.
fn short(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    let mut open: Vec<bool> = Vec::new();
    for character in text.chars() {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        let wraps = matches!(
            word.as_str(),
            "Height" | "Term" | "Slot" | "SessionId" | "PersistSeq" | "Tick" | "Hash" | "Some" | "FetchId"
        );
        if character == '(' {
            open.push(wraps);
        }
        let hidden = match character {
            '(' => wraps,
            ')' => open.pop().unwrap_or(false),
            _ => false,
        };
        if !(wraps && character == '(') {
            let digits = word.len() == 64 && word.chars().all(|digit| digit.is_ascii_hexdigit());
            out.push_str(if digits { word.get(..4).unwrap_or(&word) } else { &word });
        }
        word.clear();
        if !hidden {
            out.push(character);
        }
    }
    out + &word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_compiler_needs_is_left_out() {
        let hash = "ab".repeat(32);
        let text = format!("Accepted {{ term: Term(3), upto: (Height(7), Hash({hash})), to: Some(Slot(2)) }}");
        assert_eq!(short(&text), "Accepted { term: 3, upto: (7, abab), to: 2 }");
    }
}
