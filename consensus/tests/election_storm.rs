//! V-11: five nodes time out on the same tick, round after round: every round draws every deadline anew, and as soon as
//! time runs on by single ticks one of them leads.

// A test stops where it fails.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

mod network;

use std::collections::{BTreeMap, VecDeque};

use network::{SETTINGS, voters};
use quipu_consensus::block::Block;
use quipu_consensus::engine::{Engine, Restored, Role};
use quipu_consensus::input::{Entropy, Input, SessionId, Tick};
use quipu_consensus::output::{Output, VoteRecord};
use quipu_consensus::raft::{Raft, RaftRules};
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{Height, Incarnation, Slot, Term};

const NODES: u32 = 5;

/// Chance that counts how often it was asked.
struct Counted {
    random: Random,
    draws: u64,
}

impl Entropy for Counted {
    fn below(&mut self, bound: u64) -> u64 {
        self.draws += 1;
        self.random.below(bound)
    }
}

struct Storm {
    now: u64,
    nodes: BTreeMap<Slot, (Raft<SimulatedBlock, RaftRules>, Counted)>,
    queue: VecDeque<(Slot, Input<SimulatedBlock>)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut storm = Self {
            now: 0,
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
        };
        for slot in (1..=NODES).map(Slot) {
            let restored = Restored {
                slot,
                incarnation: Incarnation([u8::try_from(slot.0).unwrap(); 16]),
                starts: 0,
                vote: VoteRecord::default(),
                terms: Vec::new(),
                base: SimulatedBlock::genesis().id(),
                blocks: Vec::new(),
                commit_hint: Height::ZERO,
                configuration: (Height::ZERO, voters(NODES)),
                promises: BTreeMap::new(),
                watermark: None,
                recovering: None,
            };
            let random = random.split();
            let mut chance = Counted { random, draws: 0 };
            let raft = Raft::new(SETTINGS, restored, RaftRules, Tick(0), &mut chance);
            storm.nodes.insert(slot, (raft, chance));
            let session = SessionId(1);
            let others = (1..=NODES).map(Slot).filter(|peer| *peer != slot);
            storm
                .queue
                .extend(others.map(|peer| (slot, Input::PeerUp { peer, session })));
        }
        storm.drain();
        storm
    }

    /// What a round of messages brings, at once: all of them were under way together.
    fn drain(&mut self) {
        while let Some((slot, input)) = self.queue.pop_front() {
            let (raft, chance) = self.nodes.get_mut(&slot).unwrap();
            let mut out = Vec::new();
            raft.step(Tick(self.now), chance, input, &mut out);
            while let Some(place) = raft.proposal().filter(|place| place.opening) {
                let block = SimulatedBlock::opening(place.parent, place.term);
                raft.step(Tick(self.now), chance, Input::Propose { block }, &mut out);
            }
            for output in out {
                match output {
                    Output::Persist { seq, .. } => self.queue.push_back((slot, Input::Persisted { seq })),
                    Output::Send {
                        to, session, message, ..
                    } => {
                        let from = slot;
                        self.queue.push_back((to, Input::Receive { from, session, message }));
                    }
                    Output::Halt(halt) => unreachable!("{slot} halts: {halt}"),
                    _ => {}
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        let slots: Vec<Slot> = self.nodes.keys().copied().collect();
        self.queue.extend(slots.into_iter().map(|slot| (slot, Input::Tick)));
        self.drain();
    }

    fn leader(&self) -> Option<Slot> {
        let leads = |raft: &Raft<SimulatedBlock, RaftRules>| raft.status().role == Role::Leader;
        self.nodes
            .iter()
            .find(|(_, (raft, _))| leads(raft))
            .map(|(slot, _)| *slot)
    }

    fn term(&self) -> Term {
        self.nodes.values().map(|(raft, _)| raft.status().term).max().unwrap()
    }
}

#[test]
fn after_a_storm_of_elections_one_leads_within_two_timeouts() {
    for seed in 0..200 {
        let mut storm = Storm::new(seed);
        for round in 1..=20 {
            let before: Vec<u64> = storm.nodes.values().map(|(_, chance)| chance.draws).collect();
            // A pause longer than every timeout: all deadlines lie behind when the clocks go on.
            storm.pass(SETTINGS.election_max_ms + 1);
            assert_eq!(
                storm.leader(),
                None,
                "seed {seed}, round {round}: five equal candidates split the vote"
            );
            assert_eq!(storm.term(), Term(round), "seed {seed}: one term a round");
            let drawn = storm
                .nodes
                .values()
                .zip(before)
                .all(|((_, chance), before)| chance.draws > before);
            assert!(drawn, "seed {seed}, round {round}: a deadline was not drawn anew");
        }
        let calm = storm.now;
        while storm.leader().is_none() {
            storm.pass(1);
            assert!(
                storm.now - calm <= 2 * SETTINGS.election_max_ms,
                "seed {seed}: no leader within two election timeouts"
            );
        }
    }
}
