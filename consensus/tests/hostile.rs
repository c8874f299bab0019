//! Whatever a peer says, an engine neither panics, nor halts, nor cuts what is committed; and when one member of a
//! network stops lying, the others go on.

// A test stops where it fails.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects
)]

mod liar;
mod network;

use std::collections::{BTreeMap, VecDeque};

use liar::Liar;
use network::{SETTINGS, voters};
use quipu_consensus::engine::{Role, Settings};
use quipu_consensus::input::{Entropy, SessionId, Tick};
use quipu_consensus::message::Message;
use quipu_consensus::raft::RaftRules;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::engine_host::{EngineDisk, EngineHost, EngineSetup};
use quipu_consensus::simulator::participant::{Effect, Event, Participant};
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

type Host = EngineHost<RaftRules>;

#[test]
fn no_message_makes_an_engine_panic_halt_or_cut_what_is_committed() {
    for seed in 0..400 {
        let settings = Settings {
            cache_bytes: seed % 3 * 200,
            ..SETTINGS
        };
        let setup = EngineSetup {
            settings,
            rules: RaftRules,
            configuration: voters(3),
            large_one_of: 0,
        };
        let mut disk = Host::blank(&setup, Slot(1));
        let mut random = Random::new(seed);
        let mut host = Host::start(&setup, Slot(1), &mut disk, Tick(0), &mut random);
        let mut liar = Liar {
            random: random.split(),
            known: vec![SimulatedBlock::genesis()],
            nonce: 0,
        };
        let mut events: Vec<Event<Message<SimulatedBlock>>> = vec![
            Event::PeerUp(Slot(2), SessionId(1)),
            Event::PeerUp(Slot(3), SessionId(1)),
        ];
        let mut committed = BlockId {
            height: Height(0),
            ..BlockId::default()
        };
        for now in 0..600_u64 {
            if liar.random.chance(100) {
                events.push(Event::Tick);
            }
            if liar.random.chance(100) {
                events.push(Event::Submit(now.saturating_add(1)));
            }
            let from = Slot(u32::try_from(2_u64.saturating_add(liar.random.below(2))).unwrap_or(2));
            events.push(Event::Receive(from, SessionId(1), liar.message()));
            let mut effects = Vec::new();
            for event in std::mem::take(&mut events) {
                host.handle(Tick(now.saturating_mul(7)), &mut random, &disk, event, &mut effects);
            }
            for effect in effects {
                match effect {
                    Effect::Write { seq, write, .. } => {
                        Host::apply(&mut disk, &write);
                        events.push(Event::Written(seq));
                    }
                    Effect::Send {
                        message: Message::Hello(hello),
                        ..
                    } => liar.nonce = hello.nonce,
                    Effect::Halt(reason, _) => panic!("seed {seed}, step {now}: halted: {reason}"),
                    Effect::Commit(upto) => {
                        assert!(upto.height > committed.height, "seed {seed}: commit falls");
                        committed = upto;
                    }
                    _ => {}
                }
            }
            liar.known = Host::blocks(&disk).to_vec();
            let place = usize::try_from(committed.height.get()).unwrap_or(0);
            let held = liar.known.get(place).map(|block| block.id);
            assert!(
                committed.height == Height(0) || held == Some(committed),
                "seed {seed}: a committed block is gone"
            );
        }
    }
}

/// Honest nodes on a bus without faults, and one slot from which anything may come.
struct Network {
    setup: EngineSetup<RaftRules>,
    now: u64,
    random: Random,
    nodes: BTreeMap<Slot, (Host, EngineDisk)>,
    queue: VecDeque<(Slot, Event<Message<SimulatedBlock>>)>,
    liar: Slot,
    given: u64,
    acknowledged: u64,
}

impl Network {
    fn new(count: u32, seed: u64) -> Self {
        let setup = EngineSetup {
            settings: SETTINGS,
            rules: RaftRules,
            configuration: voters(count),
            large_one_of: 0,
        };
        let mut network = Self {
            setup,
            now: 0,
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
            liar: Slot(count),
            given: 0,
            acknowledged: 0,
        };
        (1..count).map(Slot).for_each(|slot| network.start(slot));
        network
    }

    fn start(&mut self, slot: Slot) {
        let old = self.nodes.remove(&slot).map(|(_, disk)| disk);
        let mut disk = old.unwrap_or_else(|| Host::blank(&self.setup, slot));
        let host = Host::start(&self.setup, slot, &mut disk, Tick(self.now), &mut self.random);
        self.queue.retain(|(to, _)| *to != slot);
        self.nodes.insert(slot, (host, disk));
        self.given += 1;
        let session = SessionId(self.given);
        let mut others: Vec<Slot> = self.nodes.keys().copied().filter(|other| *other != slot).collect();
        others.push(self.liar);
        for other in others {
            self.queue.push_back((slot, Event::PeerUp(other, session)));
            self.queue.push_back((other, Event::PeerUp(slot, session)));
        }
    }

    fn drain(&mut self) {
        while let Some((slot, event)) = self.queue.pop_front() {
            let Some((host, disk)) = self.nodes.get_mut(&slot) else {
                continue;
            };
            let mut effects = Vec::new();
            host.handle(Tick(self.now), &mut self.random, disk, event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Write { seq, write, .. } => {
                        Host::apply(disk, &write);
                        self.queue.push_back((slot, Event::Written(seq)));
                    }
                    Effect::Send {
                        to, session, message, ..
                    } => self.queue.push_back((to, Event::Receive(slot, session, message))),
                    Effect::Acknowledge(..) => self.acknowledged += 1,
                    Effect::Halt(reason, _) => panic!("{slot} halts: {reason}"),
                    Effect::Broken(found) => panic!("{slot} breaks {}: {}", found.invariant, found.detail),
                    Effect::Commit(_)
                    | Effect::ReadReady(..)
                    | Effect::Wake(_)
                    | Effect::Restart(_)
                    | Effect::See(_) => {}
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += 10;
            let slots: Vec<Slot> = self.nodes.keys().copied().collect();
            self.queue.extend(slots.into_iter().map(|slot| (slot, Event::Tick)));
            self.drain();
        }
    }

    fn leader(&self) -> Option<Slot> {
        let leads = |host: &Host| host.status().role == Role::Leader;
        let found = self.nodes.iter().find(|(_, (host, _))| leads(host));
        found.map(|(slot, _)| *slot)
    }

    /// The liar says something to one of the others, over a session that is live.
    fn lie(&mut self, liar: &mut Liar) {
        let count = u64::try_from(self.nodes.len()).unwrap();
        let to = Slot(u32::try_from(1 + liar.random.below(count)).unwrap());
        liar.known = Host::blocks(&self.nodes[&to].1).to_vec();
        let message = liar.message_of_a_member();
        for session in (1..=self.given).map(SessionId) {
            self.queue
                .push_back((to, Event::Receive(self.liar, session, message.clone())));
        }
    }
}

#[test]
fn when_a_member_stops_lying_the_others_elect_and_commit() {
    let mut highest = Term::ZERO;
    for (seed, count) in (0..150).flat_map(|seed| [(seed, 3), (seed, 5), (seed, 7)]) {
        let mut network = Network::new(count, seed);
        let mut liar = Liar {
            random: Random::new(seed + 1000),
            known: vec![SimulatedBlock::genesis()],
            nonce: 0,
        };
        if count == 3 {
            network.drain();
            network.pass(500);
        }
        for step in 0..400 {
            network.lie(&mut liar);
            network.drain();
            if step % 3 == 0 {
                network.pass(10);
            }
            // A node that the liar can hold in recovery counts as a second fault: five bear it, three do not, not even
            // at their first start.
            if count > 3 && step == 200 {
                network.start(Slot(1));
            }
            if let Some(leader) = network.leader().filter(|_| step % 10 == 0) {
                network.queue.push_back((leader, Event::Submit(step + 1)));
            }
        }
        network.pass(3000);
        let before = network.acknowledged;
        let leader = network
            .leader()
            .unwrap_or_else(|| panic!("seed {seed}, {count} nodes: nobody leads"));
        network.queue.push_back((leader, Event::Submit(1000)));
        network.pass(100);
        assert!(
            network.acknowledged > before,
            "seed {seed}, {count} nodes: nothing is committed"
        );
        for (host, _) in network.nodes.values() {
            highest = highest.max(host.status().term);
        }
    }
    assert!(
        highest < Term(u64::MAX / 2),
        "a liar brought a network to term {highest}"
    );
}
