//! Keeps what is left out where the network is orderly: messages between two nodes arrive in order and once, though any
//! may be lost; a disk has done its writes, and peers have met again, before anything happens but a crash.
//!
//! Invariant: every run of an orderly network is one of the network as it is, so what breaks here breaks there. It is
//! for spaces that are to be searched to the last state.

use quipu_crypto::id::Slot;

use super::node::{Decides, Letter, Stimulus};
use super::system::{State, Step};

const fn link(letter: &Letter) -> (Slot, Slot) {
    (letter.from, letter.to)
}

impl<R: Decides> State<R> {
    /// Puts a message behind those on the same way; whether it is not among them already.
    pub(super) fn queue(&mut self, letter: &'static Letter) -> bool {
        if self.letters.contains(&letter) {
            return false;
        }
        let end = self.letters.partition_point(|known| link(known) <= link(letter));
        self.letters.insert(end, letter);
        true
    }

    /// A message is here: those before it on the same way are lost.
    pub(super) fn unqueue(&mut self, letter: &'static Letter) {
        let begin = self.letters.partition_point(|known| link(known) < link(letter));
        let place = self.letters.iter().position(|known| *known == letter).unwrap();
        self.letters.drain(begin..=place);
    }

    /// What is done before anything else; whether there is such a thing.
    pub(super) fn first(&self, steps: &mut Vec<Step>) -> bool {
        if let Some(node) = self.nodes.iter().find(|node| node.has_writes()) {
            if self.left.crashes > 0 {
                self.crash(node, steps);
            }
            steps.push(Step(node.slot, Stimulus::Written));
            return true;
        }
        let before = steps.len();
        steps.extend(self.meetings().take(1));
        steps.len() > before
    }
}
