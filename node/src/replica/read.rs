//! Keeps the reads that must see every acknowledged write: confirmed by the leader (ReadIndex), answered once this node
//! has executed the height that the leader named.
//!
//! Invariant: a read is answered as confirmed only from a state at or above its height; nobody waits for ever.

use std::collections::BTreeMap;

use quipu_consensus::engine::Role;
use quipu_consensus::input::{Input, ReadTicket, SessionId, Tick};
use quipu_crypto::id::{Height, Slot};

use super::{Action, Moment, Replica, Ticket, frame};
use crate::limits::{READ_WAIT_MS, WAITING_READS};
use crate::peer_protocol::PeerFrame;

/// For whom the engine confirms a read.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Client(Ticket),
    Peer {
        slot: Slot,
        session: SessionId,
        number: u64,
    },
}

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next: u64,
    /// At the engine, by engine ticket.
    confirming: BTreeMap<u64, (Asker, Tick)>,
    /// At the leader, by question.
    asked: BTreeMap<u64, (Ticket, Tick)>,
    /// No leader was known: to be tried again.
    homeless: Vec<(Ticket, Tick)>,
    /// Confirmed, waiting for execution of that height; by a number, for there may be many of one height.
    confirmed: BTreeMap<(Height, u64), (Ticket, Tick)>,
}

impl Reads {
    fn number(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn len(&self) -> usize {
        self.confirming
            .len()
            .saturating_add(self.asked.len())
            .saturating_add(self.homeless.len())
            .saturating_add(self.confirmed.len())
    }
}

impl Replica {
    pub(super) fn read(&mut self, moment: &mut Moment<'_>, ticket: Ticket, out: &mut Vec<Action>) {
        if self.reads.len() >= WAITING_READS {
            out.push(Action::ReadNow {
                ticket,
                confirmed: false,
            });
            return;
        }
        self.route_read(moment, ticket, moment.now, out);
    }

    fn route_read(&mut self, moment: &mut Moment<'_>, ticket: Ticket, since: Tick, out: &mut Vec<Action>) {
        let number = self.reads.number();
        if self.role == Role::Leader {
            self.reads.confirming.insert(number, (Asker::Client(ticket), since));
            self.feed(
                moment,
                Input::Read {
                    ticket: ReadTicket(number),
                },
                out,
            );
            return;
        }
        let session = self.leader_session();
        match session {
            Some((leader, session)) => {
                self.reads.asked.insert(number, (ticket, since));
                out.push(frame(leader, session, &PeerFrame::ReadIndex { number }));
            }
            None => self.reads.homeless.push((ticket, since)),
        }
    }

    pub(super) fn read_for_peer(
        &mut self,
        moment: &mut Moment<'_>,
        slot: Slot,
        session: SessionId,
        number: u64,
        out: &mut Vec<Action>,
    ) {
        if self.role != Role::Leader || self.reads.len() >= WAITING_READS {
            out.push(frame(slot, session, &PeerFrame::ReadHeight { number, height: None }));
            return;
        }
        let own = self.reads.number();
        self.reads
            .confirming
            .insert(own, (Asker::Peer { slot, session, number }, moment.now));
        self.feed(
            moment,
            Input::Read {
                ticket: ReadTicket(own),
            },
            out,
        );
    }

    /// The engine confirmed a read, or lost it.
    pub(super) fn read_ready(&mut self, ticket: ReadTicket, height: Option<Height>, out: &mut Vec<Action>) {
        let Some((asker, since)) = self.reads.confirming.remove(&ticket.0) else {
            return;
        };
        match asker {
            Asker::Peer { slot, session, number } => {
                out.push(frame(slot, session, &PeerFrame::ReadHeight { number, height }));
            }
            Asker::Client(ticket) => self.settle(ticket, since, height, out),
        }
    }

    /// The leader answered this node's question.
    pub(super) fn read_height(&mut self, number: u64, height: Option<Height>, out: &mut Vec<Action>) {
        if let Some((ticket, since)) = self.reads.asked.remove(&number) {
            self.settle(ticket, since, height, out);
        }
    }

    fn settle(&mut self, ticket: Ticket, since: Tick, height: Option<Height>, out: &mut Vec<Action>) {
        match height {
            Some(height) if height <= self.agreement.executed() => out.push(Action::ReadNow {
                ticket,
                confirmed: true,
            }),
            Some(height) => {
                let number = self.reads.number();
                self.reads.confirmed.insert((height, number), (ticket, since));
            }
            None => self.reads.homeless.push((ticket, since)),
        }
    }

    /// This node has executed `height`.
    pub(super) fn reads_executed(&mut self, height: Height, out: &mut Vec<Action>) {
        let later = self.reads.confirmed.split_off(&(height.next(), 0));
        let due = std::mem::replace(&mut self.reads.confirmed, later);
        out.extend(due.into_values().map(|(ticket, _)| Action::ReadNow {
            ticket,
            confirmed: true,
        }));
    }

    /// Tries those without a leader again; gives up on those that waited too long, be it for a node that is behind or
    /// waits for a damaged block.
    pub(super) fn expire_reads(&mut self, moment: &mut Moment<'_>, out: &mut Vec<Action>) {
        let now = moment.now.0;
        let late = move |since: Tick| now.saturating_sub(since.0) >= READ_WAIT_MS;
        let give_up = |ticket| Action::ReadNow {
            ticket,
            confirmed: false,
        };
        let asked: Vec<u64> = self
            .reads
            .asked
            .iter()
            .filter(|(_, (_, since))| late(*since))
            .map(|(n, _)| *n)
            .collect();
        out.extend(
            asked
                .iter()
                .filter_map(|number| self.reads.asked.remove(number))
                .map(|(ticket, _)| give_up(ticket)),
        );
        let confirming: Vec<u64> = self
            .reads
            .confirming
            .iter()
            .filter(|(_, (_, since))| late(*since))
            .map(|(n, _)| *n)
            .collect();
        for number in confirming {
            if let Some((Asker::Client(ticket), _)) = self.reads.confirming.remove(&number) {
                out.push(give_up(ticket));
            }
        }
        let behind = self
            .reads
            .confirmed
            .extract_if(.., |_, (_, since)| late(*since))
            .map(|(_, (ticket, _))| give_up(ticket));
        out.extend(behind);
        for (ticket, since) in std::mem::take(&mut self.reads.homeless) {
            if late(since) {
                out.push(give_up(ticket));
            } else {
                self.route_read(moment, ticket, since, out);
            }
        }
    }
}
