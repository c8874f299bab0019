//! Keeps what an engine owes its host and no oracle sees: every read is answered once (C-7r), a failed write is its end
//! (P9), a full disk gets no blocks (D-8), a term is opened by its first block, and what is on its way to a peer
//! is bounded (L4).
//!
//! Invariant: it only looks; an engine with and without it does the same.

use quipu_crypto::id::Term;

use super::block::SimulatedBlock;
use super::checkers::Violation;
use super::participant::Event;
use crate::engine::{Proposal, Role, Status};
use crate::message::Message;
use crate::output::{LogOperation, Output};

/// What was asked of the engine of one process, and what it did.
#[derive(Clone, Debug, Default)]
pub(super) struct Duties {
    reads: u64,
    /// Reads that the engine has confirmed or given up.
    answered: u64,
    /// Whether it was told that a write has failed.
    failed: bool,
    /// Whether it was told that its disk has no room.
    full: bool,
    /// The last term in which it asked for a block.
    opened: Term,
    /// The size of the largest block that it sent, or was given to send.
    largest: u64,
    /// The first that it did not keep.
    broken: Option<Violation>,
}

impl Duties {
    /// The host tells the engine.
    pub(super) fn told<M>(&mut self, event: &Event<M>) {
        match event {
            Event::Read(_) => self.reads = self.reads.saturating_add(1),
            Event::WriteFailed(_) => self.failed = true,
            Event::DiskFull(full) => self.full = *full,
            _ => {}
        }
    }

    /// The engine asks for a block.
    pub(super) fn asked(&mut self, place: &Proposal) {
        if place.opening == (self.opened == place.term) {
            let said = if place.opening { "a second" } else { "no" };
            self.breaks("R-1", format!("term {} gets {said} opening block", place.term));
        }
        self.opened = place.term;
    }

    /// The engine answers.
    pub(super) fn answers(&mut self, output: &Output<SimulatedBlock>) {
        match output {
            Output::ReadReady { .. } | Output::ReadLost { .. } => self.answered = self.answered.saturating_add(1),
            Output::Persist { operations, .. } if self.full => {
                let mut appended = operations.iter().flat_map(|operation| match operation {
                    LogOperation::Append(blocks) => blocks.as_slice(),
                    _ => &[],
                });
                if let Some(block) = appended.next() {
                    self.breaks("D-8", format!("{} is appended to a full disk", block.id));
                }
            }
            Output::Send {
                message: Message::Append(append),
                ..
            } => self.sends(&append.blocks),
            _ => {}
        }
    }

    /// The engine is given blocks that it sends, or counts as sent where the session has just ended.
    pub(super) fn sends(&mut self, blocks: &[SimulatedBlock]) {
        let sizes = blocks.iter().map(|block| block.size);
        self.largest = sizes.fold(self.largest, u64::max);
    }

    /// What is broken after a step that left the engine in that state.
    pub(super) fn broken(&mut self, status: &Status, window_bytes: u64) -> Option<Violation> {
        let (reads, answered) = (self.reads, self.answered);
        if answered > reads || (answered < reads && status.role != Role::Leader) {
            let role = status.role;
            self.breaks(
                "C-7r",
                format!("of {reads} reads {answered} are answered, by a {role:?}"),
            );
        }
        if self.failed {
            self.breaks("P9", "it goes on after a failed write".to_owned());
        }
        let most = window_bytes.saturating_add(self.largest);
        if let Some((slot, peer)) = status.peers.iter().find(|(_, peer)| peer.in_flight > most) {
            let bytes = peer.in_flight;
            self.breaks(
                "L4",
                format!("{bytes} bytes are on their way to {slot}, {most} at most"),
            );
        }
        self.broken.take()
    }

    fn breaks(&mut self, invariant: &'static str, detail: String) {
        self.broken.get_or_insert(Violation { invariant, detail });
    }
}
