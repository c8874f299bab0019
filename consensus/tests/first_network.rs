//! Three engines on a bus without faults: the shortest host that can drive them.

// A test stops where it fails.
#![allow(clippy::panic, clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};

use quipu_consensus::block::{Block, Configuration};
use quipu_consensus::engine::{Engine, Restored, Role, Settings};
use quipu_consensus::input::{Input, ReadTicket, SessionId, Tick};
use quipu_consensus::output::{Output, VoteRecord};
use quipu_consensus::raft::{Raft, RaftRules};
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{Height, Incarnation, Slot};

const SETTINGS: Settings = Settings {
    election_min_ms: 150,
    election_max_ms: 300,
    heartbeat_ms: 30,
    stall_ms: 1_500,
    hello_wait_ms: 500,
    append_bytes: 1000,
    window_bytes: 4000,
    uncommitted_bytes: 8000,
    cache_bytes: 2000,
};

struct Bus {
    now: Tick,
    random: Random,
    nodes: BTreeMap<Slot, Raft<SimulatedBlock, RaftRules>>,
    queue: VecDeque<(Slot, Input<SimulatedBlock>)>,
    reads: Vec<(Slot, Height)>,
}

impl Bus {
    fn new(count: u32) -> Self {
        let voters: std::collections::BTreeSet<Slot> = (1..=count).map(Slot).collect();
        let configuration = Configuration {
            voters: voters.clone(),
            ..Configuration::default()
        };
        let mut random = Random::new(7);
        let restored = |slot| Restored {
            slot,
            incarnation: Incarnation([u8::try_from(slot.0).unwrap(); 16]),
            starts: 0,
            vote: VoteRecord::default(),
            terms: Vec::new(),
            base: SimulatedBlock::genesis().id(),
            blocks: Vec::new(),
            commit_hint: Height::ZERO,
            configuration: (Height::ZERO, configuration.clone()),
            promises: BTreeMap::new(),
            watermark: None,
            recovering: None,
        };
        let nodes = voters
            .iter()
            .map(|slot| {
                (
                    *slot,
                    Raft::new(SETTINGS, restored(*slot), RaftRules, Tick(0), &mut random),
                )
            })
            .collect();
        let mut bus = Self {
            now: Tick(0),
            random,
            nodes,
            queue: VecDeque::new(),
            reads: Vec::new(),
        };
        for (from, to) in voters.iter().flat_map(|from| voters.iter().map(move |to| (*from, *to))) {
            if from != to {
                bus.queue.push_back((
                    from,
                    Input::PeerUp {
                        peer: to,
                        session: SessionId(1),
                    },
                ));
            }
        }
        bus
    }

    fn drain(&mut self) {
        while let Some((slot, input)) = self.queue.pop_front() {
            let mut out = Vec::new();
            self.nodes
                .get_mut(&slot)
                .unwrap()
                .step(self.now, &mut self.random, input, &mut out);
            for output in out {
                match output {
                    Output::Persist { seq, .. } => self.queue.push_back((slot, Input::Persisted { seq })),
                    Output::Send {
                        to, session, message, ..
                    } => {
                        self.queue.push_back((
                            to,
                            Input::Receive {
                                from: slot,
                                session,
                                message,
                            },
                        ));
                    }
                    Output::ReadReady { height, .. } => self.reads.push((slot, height)),
                    Output::Halt(halt) => panic!("{slot} halted: {halt}"),
                    _ => {}
                }
            }
            let node = &self.nodes[&slot];
            if let Some(place) = node.proposal().filter(|place| place.opening) {
                let block = SimulatedBlock::opening(place.parent, place.term);
                self.queue.push_front((slot, Input::Propose { block }));
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.now = self.now.plus(5);
            let slots: Vec<Slot> = self.nodes.keys().copied().collect();
            self.queue.extend(slots.into_iter().map(|slot| (slot, Input::Tick)));
            self.drain();
        }
    }

    fn leader(&self) -> Slot {
        let leads = |slot: &&Slot| self.nodes[slot].status().role == Role::Leader;
        *self.nodes.keys().find(leads).expect("a leader")
    }
}

#[test]
fn a_network_that_starts_at_once_has_a_leader_within_half_a_second_and_commits() {
    for count in [1, 3, 5] {
        let mut bus = Bus::new(count);
        bus.pass(450);
        let leader = bus.leader();
        for payload in 1..=100 {
            let place = bus.nodes[&leader].proposal().expect("room");
            let block = SimulatedBlock::child(place.parent, place.term, 100, payload);
            bus.queue.push_back((leader, Input::Propose { block }));
            bus.drain();
        }
        for node in bus.nodes.values() {
            let status = node.status();
            assert_eq!(
                status.commit.height,
                Height(101),
                "{count} nodes: followers hear of the commit at once"
            );
            assert_eq!(status.durable, status.tip);
            assert!(node.block(Height(1)).is_none(), "old blocks leave memory");
        }
        bus.queue.push_back((leader, Input::Read { ticket: ReadTicket(1) }));
        bus.drain();
        assert_eq!(bus.reads, [(leader, Height(101))]);
    }
}
