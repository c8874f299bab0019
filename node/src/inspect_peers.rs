//! Keeps the thread between the network and the replica: each frame of a peer is inspected in order and passed on.

use std::time::Instant;

use crossbeam_channel::Sender;
use quipu_consensus::input::SessionId;
use quipu_consensus::message::Message;
use quipu_crypto::id::Slot;
use tokio::sync::mpsc;

use crate::door::Door;
use crate::inspect::{Finding, Inspector, Known};
use crate::network::PeerEvent;
use crate::peer_protocol::{PeerFrame, TransactionBytes};
use crate::replica::Event;
use crate::run::RunEvent;
use crate::stages::Stages;
use crate::youngest::Youngest;

/// What becomes of a frame.
#[derive(Debug)]
pub enum Passed {
    /// It is for the replica.
    On(Event),
    /// Transactions of a peer's clients, for admission.
    ToAdmission(Vec<TransactionBytes>),
    /// A peer sent what no honest node sends.
    Faulty(Finding),
}

/// Inspects one frame of `from`.
pub fn pass(inspector: &mut Inspector, from: Slot, session: SessionId, frame: PeerFrame) -> Passed {
    match frame {
        PeerFrame::Engine(message) => match inspector.inspect(from, message) {
            Ok(message) => Passed::On(Event::Engine { from, session, message }),
            Err(finding) => Passed::Faulty(finding),
        },
        PeerFrame::Forward(transactions) => Passed::ToAdmission(transactions),
        PeerFrame::ReadIndex { number } => Passed::On(Event::ReadIndex { from, session, number }),
        PeerFrame::ReadHeight { number, height } => Passed::On(Event::ReadHeight { number, height }),
        PeerFrame::Clock { time } => Passed::On(Event::Clock { from, time }),
        PeerFrame::Expire { time } => Passed::On(Event::Expire { time }),
        PeerFrame::Busy {
            transactions,
            retry_after_ms,
        } => Passed::On(Event::Busy {
            from,
            session,
            transactions,
            retry_after_ms,
        }),
    }
}

/// Inspects, and notes how long the transactions of a frame's blocks waited for it and how long it took.
fn timed(stages: &Stages, since: Instant, inspect: impl FnOnce() -> Passed) -> Passed {
    let begun = Instant::now();
    let passed = inspect();
    if let Passed::On(Event::Engine { message, .. }) = &passed
        && let Message::Append(append) = message
    {
        let transactions = append
            .blocks
            .iter()
            .map(|block| block.block().transactions().len())
            .sum::<usize>();
        let count = u64::try_from(transactions).unwrap_or(u64::MAX);
        let waited = begun.saturating_duration_since(since);
        stages.inspection.queue.record(waited, count);
        stages.inspection.served(begun, count);
    }
    passed
}

/// Serves until the network or the replica is gone.
pub fn run(
    mut inspector: Inspector,
    mut peers: mpsc::Receiver<PeerEvent>,
    appended: &Youngest<Known>,
    events: &Sender<RunEvent>,
    door: &Door,
    stages: &Stages,
) {
    while let Some(event) = peers.blocking_recv() {
        appended.take().into_iter().for_each(|known| inspector.appended(known));
        let told = match event {
            PeerEvent::Up { slot, session } => Event::PeerUp { peer: slot, session },
            PeerEvent::Down { slot, session } => Event::PeerDown { peer: slot, session },
            PeerEvent::Frame {
                from,
                session,
                frame,
                since,
            } => match timed(stages, since, || pass(&mut inspector, from, session, frame)) {
                Passed::On(event) => event,
                Passed::ToAdmission(transactions) => {
                    let refused = door.forwarded(from, session, transactions);
                    if refused.is_empty() {
                        continue;
                    }
                    Event::NoRoom {
                        slot: from,
                        session,
                        transactions: refused,
                    }
                }
                Passed::Faulty(finding) => {
                    tracing::error!(%from, %finding, "a peer sent what no honest node sends");
                    Event::Faulty { from }
                }
            },
        };
        if events.send(RunEvent::Replica(told)).is_err() {
            return;
        }
    }
}
