//! Time that passes by itself: `run MS`. Every process that is not paused ticks every 10 ms, everything on its way
//! arrives where links are not cut, every disk that is not slow syncs. Of all that only roles, terms, commits and
//! answers to clients are written down, each with the time since the command.

use quipu_consensus::raft::Rules;
use quipu_consensus::simulator::participant::Event;
use quipu_crypto::id::Slot;

use super::Script;

/// Between two ticks of a process.
const TICK_MS: u64 = 10;

impl<R: Rules + Clone> Script<R> {
    pub(super) fn run(&mut self, ms: u64) {
        let begun = self.now;
        self.running_since = Some(begun);
        while self.now - begun < ms {
            self.now += TICK_MS;
            let awake: Vec<Slot> = self
                .nodes
                .keys()
                .copied()
                .filter(|slot| !self.paused.contains(slot))
                .collect();
            awake.into_iter().for_each(|slot| self.event(slot, Event::Tick));
            self.deliver_all();
        }
        self.running_since = None;
    }

    /// What stands in the transcript of a `run` too.
    pub(super) fn mark(&mut self, text: &str) {
        match self.running_since {
            _ if self.quiet => {}
            Some(begun) => self.said.push(format!("after {} ms: {text}", self.now - begun)),
            None => self.said.push(text.to_owned()),
        }
    }
}
