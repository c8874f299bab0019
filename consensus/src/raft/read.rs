//! Keeps the reads that wait for proof that this node still leads (ReadIndex, thesis 6.4).
//!
//! Invariants: a read's height is the commit height at the start of a round that began after the read arrived; it is
//! ready only when a quorum echoed a contact of that round or a later one (C-2r); no round begins before a block of
//! the own term is committed (C-1r). One round runs at a time; reads that arrive meanwhile share the next.

use quipu_crypto::id::Height;

use super::rules::Rules;
use super::state::{Raft, Stage};
use crate::block::Block;
use crate::input::ReadTicket;
use crate::output::Output;

/// Reads at a leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    waiting: Vec<ReadTicket>,
    round: Option<Round>,
}

/// Reads that share one proof.
#[derive(Clone, Debug)]
struct Round {
    token: u64,
    height: Height,
    tickets: Vec<ReadTicket>,
}

impl Reads {
    /// All reads, which nobody will confirm here any more.
    pub(crate) fn into_tickets(self) -> impl Iterator<Item = ReadTicket> {
        self.round
            .into_iter()
            .flat_map(|round| round.tickets)
            .chain(self.waiting)
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    /// A client wants to read.
    pub(super) fn read(&mut self, ticket: ReadTicket) {
        match &mut self.stage {
            Stage::Leader(lead) => {
                lead.reads.waiting.push(ticket);
                self.next_read_round();
                self.check_reads();
            }
            _ => self.effects.push(Output::ReadLost { ticket }),
        }
    }

    /// Begins a round for the reads that wait, unless one runs or it is too early.
    pub(super) fn next_read_round(&mut self) {
        let Stage::Leader(lead) = &mut self.stage else { return };
        let early = !self.rules.reads_at(self.commit.term, self.vote.term);
        if early || lead.reads.round.is_some() || lead.reads.waiting.is_empty() {
            return;
        }
        lead.token = lead.token.saturating_add(1);
        let tickets = std::mem::take(&mut lead.reads.waiting);
        lead.reads.round = Some(Round {
            token: lead.token,
            height: self.commit.height,
            tickets,
        });
        self.contact_all();
    }

    /// An answer came in: is the round confirmed?
    pub(super) fn check_reads(&mut self) {
        loop {
            let Stage::Leader(lead) = &mut self.stage else { return };
            let Some(round) = &lead.reads.round else { return };
            let (token, own, progress) = (round.token, self.slot, &lead.progress);
            let echoed = |slot| {
                slot == own
                    || progress
                        .get(&slot)
                        .is_some_and(|peer| self.rules.confirms(peer.token, token))
            };
            let confirmed = self.rules.quorum(self.membership.configuration(), &echoed);
            if !confirmed && self.rules.read_needs_round() {
                return;
            }
            if let Some(Round { height, tickets, .. }) = lead.reads.round.take() {
                let ready = |ticket| Output::ReadReady { ticket, height };
                self.effects.extend(tickets.into_iter().map(ready));
            }
            self.next_read_round();
        }
    }
}
