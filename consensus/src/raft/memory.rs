//! Keeps what the peers were seen to promise: for one of them whose disk forgets (D-10).
//!
//! Invariant: of each peer the highest start that it claimed, the highest term that it voted or stood in, and the last
//! block that it acknowledged, in the order of the leader's own chain. What is new rides with the next write.

use std::collections::BTreeMap;

use quipu_crypto::id::{Slot, Term};

use super::rules::Rules;
use super::state::{Raft, Stage};
use crate::block::Block;
use crate::message::{Accepted, Hello, Promise};

/// What is remembered of the peers.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    promises: BTreeMap<Slot, Promise>,
    /// The process that last said hello, of each peer.
    processes: BTreeMap<Slot, u64>,
}

impl Memory {
    pub(super) fn new(promises: BTreeMap<Slot, Promise>) -> Self {
        Self {
            promises,
            processes: BTreeMap::new(),
        }
    }

    pub(super) fn of(&self, peer: Slot) -> Promise {
        self.promises.get(&peer).copied().unwrap_or_default()
    }

    /// Whether this is another process than the one that was last heard of that peer.
    pub(super) fn is_new(&mut self, peer: Slot, nonce: u64) -> bool {
        self.processes.insert(peer, nonce) != Some(nonce)
    }
}

impl<B: Block, R: Rules> Raft<B, R> {
    fn remember(&mut self, peer: Slot, promise: Promise) {
        self.memory.promises.insert(peer, promise);
        self.writes.ride_promise(peer, promise, self.now);
    }

    /// A peer has claimed a start.
    pub(super) fn remember_start(&mut self, peer: Slot, hello: &Hello) {
        let known = self.memory.of(peer);
        if hello.start > known.start {
            let start = hello.start;
            self.remember(peer, Promise { start, ..known });
        }
    }

    /// A peer asked for or gave a vote in `term`.
    pub(super) fn remember_vote(&mut self, peer: Slot, term: Term) {
        let known = self.memory.of(peer);
        if term > known.vote {
            self.remember(peer, Promise { vote: term, ..known });
        }
    }

    /// A peer acknowledged to this leader. The latest counts, in the order of the leader's own chain.
    pub(super) fn remember_accepted(&mut self, peer: Slot, accepted: &Accepted) {
        let leads = matches!(self.stage, Stage::Leader(_)) && accepted.term == self.vote.term;
        if !leads || !self.log.contains(accepted.upto) {
            return;
        }
        let known = self.memory.of(peer);
        let further = !self.log.contains(known.accepted) || accepted.upto.height > known.accepted.height;
        if further || accepted.term > known.vote {
            let held = if further { accepted.upto } else { known.accepted };
            self.remember(
                peer,
                Promise {
                    vote: known.vote.max(accepted.term),
                    accepted: held,
                    ..known
                },
            );
        }
    }
}
