//! Keeps the thread between the network and the replica: each frame of a peer is inspected in order and passed on.

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use crate::admit::Door;
use crate::inspect::{Inspector, Known};
use crate::network::PeerEvent;
use crate::peer_protocol::PeerFrame;
use crate::replica::Event;
use crate::run::RunEvent;
use crate::youngest::Youngest;

/// Serves until the network or the replica is gone.
pub fn run(
    mut inspector: Inspector,
    mut peers: mpsc::Receiver<PeerEvent>,
    appended: &Youngest<Known>,
    events: &Sender<RunEvent>,
    door: &Door,
) {
    while let Some(event) = peers.blocking_recv() {
        appended.take().into_iter().for_each(|known| inspector.appended(known));
        let told = match event {
            PeerEvent::Up { slot, session } => Some(Event::PeerUp { peer: slot, session }),
            PeerEvent::Down { slot, session } => Some(Event::PeerDown { peer: slot, session }),
            PeerEvent::Frame { from, session, frame } => match frame {
                PeerFrame::Engine(message) => match inspector.inspect(from, message) {
                    Ok(message) => Some(Event::Engine { from, session, message }),
                    Err(finding) => {
                        tracing::error!(%from, %finding, "a peer sent what no honest node sends");
                        Some(Event::Faulty { from })
                    }
                },
                PeerFrame::Forward(transactions) => {
                    for bytes in transactions {
                        door.offer(bytes.into_vec(), None);
                    }
                    None
                }
                PeerFrame::ReadIndex { number } => Some(Event::ReadIndex { from, session, number }),
                PeerFrame::ReadHeight { number, height } => Some(Event::ReadHeight { number, height }),
                PeerFrame::Clock { time } => Some(Event::Clock { from, time }),
                PeerFrame::Expire { time } => Some(Event::Expire { time }),
            },
        };
        if told.is_some_and(|event| events.send(RunEvent::Replica(event)).is_err()) {
            return;
        }
    }
}
