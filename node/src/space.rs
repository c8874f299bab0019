//! Keeps the watch over free space: below the floor a node takes no blocks and hands over, before a write can fail.
//!
//! Invariant: the replica is told at each crossing, never in between; a node that was below the floor goes on only with
//! an eighth more than the floor, so that it does not flap. Leaves what follows from it to the engine (D-8).

use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use quipu_ledger::store::Store;

use crate::replica::Event;
use crate::run::RunEvent;
use crate::status::SharedStatus;

/// How often the file system is asked: it costs a few microseconds, and no disk writes a floor full in that time.
const EVERY: Duration = Duration::from_millis(100);

/// Watches until the replica is gone.
pub fn run(store: &Store, floor: u64, events: &Sender<RunEvent>, status: &SharedStatus) {
    let mut watch = Watch { floor, enough: true };
    loop {
        let crossed = match store.free_space() {
            Ok(free) => {
                status.set(|node| node.disk.free = free);
                watch.look(free).map(|enough| (enough, free))
            }
            Err(error) => {
                let gone = events.send(RunEvent::Broken(format!("the store's disk does not answer: {error}")));
                return drop(gone);
            }
        };
        if let Some((enough, free)) = crossed {
            status.set(|node| node.disk.full = !enough);
            if enough {
                tracing::info!(free, floor, "the disk has room again: the node takes blocks");
            } else {
                tracing::error!(free, floor, dir = %store.dir().display(),
                    "the disk is nearly full: the node takes no blocks and does not lead until there is room");
            }
            if events.send(RunEvent::Replica(Event::Space { enough })).is_err() {
                return;
            }
        }
        thread::sleep(EVERY);
    }
}

/// What was seen last.
struct Watch {
    floor: u64,
    enough: bool,
}

impl Watch {
    /// Whether there is enough now, where that is news.
    fn look(&mut self, free: u64) -> Option<bool> {
        let wanted = if self.enough {
            self.floor
        } else {
            self.floor.saturating_add(self.floor / 8)
        };
        let enough = free >= wanted;
        (enough != std::mem::replace(&mut self.enough, enough)).then_some(enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crossing_is_told_once_and_a_little_more_than_the_floor_ends_it() {
        let mut watch = Watch {
            floor: 800,
            enough: true,
        };
        let seen = [900, 800, 799, 0, 800, 899, 900, 800, 799].map(|free| watch.look(free));
        let told = [None, None, Some(false), None, None, None, Some(true), None, Some(false)];
        assert_eq!(seen, told);
    }

    #[test]
    fn a_floor_of_nothing_is_never_crossed() {
        let mut watch = Watch { floor: 0, enough: true };
        assert_eq!(watch.look(0), None);
    }
}
