//! Failover: the leader is killed under load, and writes resume within two election timeouts.
//!
//! Healthy networks of three and of five with ordinary delays; the time runs from the kill to the moment when a client
//! holds the acknowledgement of a write that it first sent after the kill. Nobody is told of the kill: as after a kill
//! -9 over QUIC, the others meet silence. The unit is the upper bound of the drawn election timeout.

// A test stops where it fails.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

mod network;

use std::collections::BTreeMap;

use network::{SETTINGS, voters};
use quipu_consensus::engine::{Role, Settings};
use quipu_consensus::input::{Entropy, PersistSeq, SessionId, Tick};
use quipu_consensus::message::Message;
use quipu_consensus::output::LogOperation;
use quipu_consensus::raft::RaftRules;
use quipu_consensus::simulator::block::SimulatedBlock;
use quipu_consensus::simulator::engine_host::{EngineDisk, EngineHost, EngineSetup};
use quipu_consensus::simulator::participant::{Effect, Event, Participant};
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::Slot;

type Host = EngineHost<RaftRules>;
type Told = Message<SimulatedBlock>;

const TICK_MS: u64 = 10;
/// Between two attempts of a client, each at another node.
const CLIENT_MS: u64 = 5;
/// A network that takes longer than this is broken.
const PATIENCE_MS: u64 = 20_000;

struct Node {
    host: Host,
    entropy: Random,
    /// Messages that wait for a write.
    held: Vec<(PersistSeq, Slot, SessionId, Told)>,
    done: PersistSeq,
    disk: EngineDisk,
    /// When its disk has done everything that it was asked for.
    disk_free: u64,
}

#[expect(clippy::large_enum_variant, reason = "one queue, one list")]
enum Happening {
    Event(Slot, Event<Told>),
    Tick(Slot),
    Client,
}

struct Network {
    now: u64,
    random: Random,
    nodes: BTreeMap<Slot, Node>,
    queue: BTreeMap<(u64, u64), Happening>,
    planned: u64,
    requests: u64,
    /// The first request that was sent after the kill.
    fresh: Option<u64>,
    resumed: bool,
}

impl Network {
    fn new(count: u32, settings: Settings, seed: u64) -> Self {
        let setup = EngineSetup {
            settings,
            rules: RaftRules,
            configuration: voters(count),
            large_one_of: 0,
        };
        let mut network = Self {
            now: 0,
            random: Random::new(seed),
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            planned: 0,
            requests: 0,
            fresh: None,
            resumed: false,
        };
        let slots = (1..=count).map(Slot);
        for slot in slots.clone() {
            let mut entropy = network.random.split();
            let mut disk = Host::blank(&setup, slot);
            let host = Host::start(&setup, slot, &mut disk, Tick(0), &mut entropy);
            let node = Node {
                host,
                entropy,
                held: Vec::new(),
                done: PersistSeq(0),
                disk,
                disk_free: 0,
            };
            network.nodes.insert(slot, node);
            let phase = network.random.below(TICK_MS);
            network.plan(phase, Happening::Tick(slot));
            for peer in slots.clone().filter(|peer| *peer != slot) {
                let wait = network.random.below(20);
                network.plan(wait, Happening::Event(slot, Event::PeerUp(peer, SessionId(1))));
            }
        }
        network.plan(0, Happening::Client);
        network
    }

    fn plan(&mut self, after_ms: u64, happening: Happening) {
        self.planned += 1;
        self.queue.insert((self.now + after_ms, self.planned), happening);
    }

    fn advance(&mut self) {
        let ((at, _), happening) = self.queue.pop_first().unwrap();
        self.now = at;
        match happening {
            Happening::Event(slot, event) => self.event(slot, event),
            Happening::Tick(slot) => {
                self.plan(TICK_MS, Happening::Tick(slot));
                self.event(slot, Event::Tick);
            }
            Happening::Client => {
                self.plan(CLIENT_MS, Happening::Client);
                self.client();
            }
        }
    }

    /// A write under way at a node that does not lead comes to nothing; the client tries the next node.
    fn client(&mut self) {
        self.requests += 1;
        let slots: Vec<Slot> = self.nodes.keys().copied().collect();
        let place = self.requests % u64::try_from(slots.len()).unwrap();
        let slot = slots[usize::try_from(place).unwrap()];
        let wait = self.random.between(1, 5);
        self.plan(wait, Happening::Event(slot, Event::Submit(self.requests)));
    }

    fn event(&mut self, slot: Slot, event: Event<Told>) {
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        if let Event::Written(seq) = event {
            node.done = seq;
        }
        let mut effects = Vec::new();
        node.host
            .handle(Tick(self.now), &mut node.entropy, &node.disk, event, &mut effects);
        let (free, held) = std::mem::take(&mut node.held)
            .into_iter()
            .partition(|(after, ..)| *after <= node.done);
        node.held = held;
        let free: Vec<(PersistSeq, Slot, SessionId, Told)> = free;
        for (_, to, session, message) in free {
            self.send(slot, to, session, message);
        }
        for effect in effects {
            self.perform(slot, effect);
        }
    }

    fn perform(&mut self, slot: Slot, effect: Effect<Told, Vec<LogOperation<SimulatedBlock>>>) {
        match effect {
            Effect::Write { seq, write, sync } => {
                let takes = if sync { self.random.between(1, 8) } else { 0 };
                let node = self.nodes.get_mut(&slot).unwrap();
                EngineHost::<RaftRules>::apply(&mut node.disk, &write);
                // One after the other: writes are reported in the order in which they were asked for.
                node.disk_free = node.disk_free.max(self.now) + takes;
                let wait = node.disk_free - self.now;
                self.plan(wait, Happening::Event(slot, Event::Written(seq)));
            }
            Effect::Send {
                to,
                session,
                message,
                after,
            } => {
                let node = self.nodes.get_mut(&slot).unwrap();
                match after.filter(|seq| *seq > node.done) {
                    Some(seq) => node.held.push((seq, to, session, message)),
                    None => self.send(slot, to, session, message),
                }
            }
            Effect::Acknowledge(request, _) => {
                self.resumed |= self.fresh.is_some_and(|fresh| request >= fresh);
            }
            Effect::Halt(reason, _) => unreachable!("{slot} halts: {reason}"),
            Effect::Broken(found) => unreachable!("{slot} breaks {}: {}", found.invariant, found.detail),
            Effect::Commit(_) | Effect::ReadReady(..) | Effect::Wake(_) | Effect::Restart(_) | Effect::See(_) => {}
        }
    }

    fn send(&mut self, from: Slot, to: Slot, session: SessionId, message: Told) {
        let wait = self.random.between(1, 8);
        self.plan(wait, Happening::Event(to, Event::Receive(from, session, message)));
    }

    fn leader(&self) -> Option<Slot> {
        let leads = |node: &Node| node.host.status().role == Role::Leader;
        self.nodes.iter().find(|(_, node)| leads(node)).map(|(slot, _)| *slot)
    }
}

/// How long no write came through after the leader was killed, ms.
fn interruption(count: u32, settings: Settings, seed: u64) -> u64 {
    let mut network = Network::new(count, settings, seed);
    while network.leader().is_none() {
        network.advance();
        assert!(network.now < PATIENCE_MS, "seed {seed}: no leader");
    }
    let kill = network.now + network.random.between(1000, 2000);
    while network.now < kill {
        network.advance();
    }
    let leader = network.leader().unwrap();
    network.nodes.remove(&leader);
    network.fresh = Some(network.requests + 1);
    let killed = network.now;
    while !network.resumed {
        network.advance();
        assert!(network.now < killed + PATIENCE_MS, "seed {seed}: writes never resume");
    }
    network.now - killed
}

#[test]
fn writes_resume_within_two_election_timeouts_of_a_kill() {
    let seeds: u64 = std::env::var("QUIPU_SEEDS").map_or(400, |text| text.parse().unwrap());
    for count in [3, 5] {
        let mut times: Vec<u64> = (0..seeds).map(|seed| interruption(count, SETTINGS, seed)).collect();
        times.sort_unstable();
        let at = |permille: usize| times[(times.len() * permille).div_ceil(1000) - 1];
        let timeout = SETTINGS.election_max_ms;
        let shown = |ms: u64| format!("{}.{:02}", ms / timeout, ms % timeout * 100 / timeout);
        println!(
            "{count} nodes, {seeds} kills, in election timeouts: p50 {}, p99 {}, max {}",
            shown(at(500)),
            shown(at(990)),
            shown(at(1000))
        );
        assert!(
            at(990) <= 2 * timeout,
            "{count} nodes: p99 is {} ms, two election timeouts are {}",
            at(990),
            2 * timeout
        );
    }
}
