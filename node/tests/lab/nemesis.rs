//! Keeps which fault is done when: drawn from a seed, so that the same seed does the same again.
//!
//! A round does one to three faults, holds them, and heals all or a part. Some rounds harm a minority only and demand
//! that the others go on; after every few rounds everything is healed and progress is demanded.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quipu_consensus::input::Entropy;
use quipu_consensus::simulator::random::Random;
use quipu_node::client::Client;
use quipu_node::limits::ENGINE_SETTINGS;

use super::load::Load;
use super::switch::Link;
use super::{CLIENT_SITES, Lab};

/// Progress is demanded within this; loose, machines are noisy.
const PROGRESS_WITHIN: Duration = Duration::from_secs(45);
/// So many acknowledgements are progress.
const PROGRESS: u64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillAll,
    Restart,
    Pause,
    Nap,
    Deposed,
    Partition,
    OneWay,
    Partial,
    Bridge,
    ClientCut,
    Loss,
    Delay,
    Duplication,
    Clock,
}

const FAULTS: [Fault; 15] = [
    Fault::Kill,
    Fault::KillAll,
    Fault::Restart,
    Fault::Pause,
    Fault::Nap,
    Fault::Deposed,
    Fault::Partition,
    Fault::OneWay,
    Fault::Partial,
    Fault::Bridge,
    Fault::ClientCut,
    Fault::Loss,
    Fault::Delay,
    Fault::Duplication,
    Fault::Clock,
];

const CUT: Link = Link {
    cut: true,
    loss_permille: 0,
    double_permille: 0,
    delay_ms: 0,
    jitter_ms: 0,
};

/// See the module.
pub(crate) struct Nemesis<'a> {
    pub(crate) lab: &'a mut Lab,
    pub(crate) load: &'a Load,
    pub(crate) looker: Client,
    pub(crate) random: Random,
    done: BTreeMap<Fault, u64>,
    healed: Vec<Duration>,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(lab: &'a mut Lab, load: &'a Load, looker: Client, random: Random) -> Self {
        Self {
            lab,
            load,
            looker,
            random,
            done: BTreeMap::new(),
            healed: Vec::new(),
        }
    }

    /// Faults for so long; in the end everything is healed and goes on.
    pub(crate) fn rage(&mut self, time: Duration) {
        let begin = Instant::now();
        let mut round = 0_u64;
        while begin.elapsed() < time {
            round += 1;
            if round.is_multiple_of(4) {
                self.harm_a_minority();
            } else {
                for _ in 0..=self.random.below(3) {
                    let fault = FAULTS[self.below(FAULTS.len())];
                    self.act(fault);
                }
                self.hold(300, 4_000);
            }
            if self.random.chance(700) {
                self.lab.heal();
            }
            self.hold(100, 1_500);
            if round.is_multiple_of(8) {
                self.lab.heal();
                self.demand_progress("after everything was healed");
            }
        }
        self.lab.heal();
        self.demand_progress("in the end");
    }

    fn act(&mut self, fault: Fault) {
        if fault == Fault::Clock && self.lab.clocks.is_none() {
            return;
        }
        *self.done.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => {
                let node = self.victim();
                self.lab.kill(node);
            }
            Fault::KillAll => (0..self.lab.nodes()).for_each(|node| self.lab.kill(node)),
            Fault::Restart => {
                let node = self.victim();
                self.lab.stop(node);
                self.lab.launch(node);
            }
            Fault::Pause => {
                let node = self.victim();
                self.lab.pause(node);
            }
            Fault::Nap => {
                // As long as it takes the others to elect: it wakes up and believes that it leads.
                let leader = self.lab.leader(&self.looker);
                let node = leader.unwrap_or_else(|| self.below(self.lab.nodes()));
                self.lab.pause(node);
                self.hold(ENGINE_SETTINGS.election_min_ms, 3 * ENGINE_SETTINGS.election_max_ms);
                self.lab.resume(node);
            }
            Fault::Clock => {
                let node = self.victim();
                let ahead = self.random.between(0, 16_000);
                let clocks = self.lab.clocks.as_ref().unwrap();
                clocks.set(node, i64::try_from(ahead).unwrap() - 8_000);
            }
            _ => self.disturb(fault),
        }
    }

    /// Faults of the network.
    fn disturb(&mut self, fault: Fault) {
        let nodes = self.lab.nodes();
        match fault {
            Fault::Partition => {
                let here: Vec<bool> = (0..nodes).map(|_| self.random.chance(500)).collect();
                self.cut_where(|one, other| here[one] != here[other]);
            }
            Fault::Deposed => {
                // The others elect while clients still reach the old leader.
                let leader = self.lab.leader(&self.looker);
                let leader = leader.unwrap_or_else(|| self.below(nodes));
                self.cut_where(|one, other| one == leader || other == leader);
                self.hold(ENGINE_SETTINGS.election_min_ms, 4 * ENGINE_SETTINGS.election_max_ms);
            }
            Fault::OneWay => {
                let (node, out) = (self.victim(), self.random.chance(500));
                let switch = &self.lab.switch;
                for other in (0..nodes + CLIENT_SITES).filter(|other| *other != node) {
                    let (from, to) = if out { (node, other) } else { (other, node) };
                    switch.set(from, to, CUT);
                }
            }
            Fault::Partial => {
                let cut: Vec<bool> = (0..nodes * nodes).map(|_| self.random.chance(300)).collect();
                self.cut_where(|one, other| cut[one * nodes + other]);
            }
            Fault::Bridge => {
                // One node sees all; the others see it and every second one.
                let bridge = self.below(nodes);
                self.cut_where(|one, other| one != bridge && other != bridge && (one + other) % 2 == 1);
            }
            Fault::ClientCut => {
                let site = nodes + self.below(CLIENT_SITES);
                for node in 0..nodes {
                    if self.random.chance(600) {
                        self.lab.switch.set_both(site, node, CUT);
                    }
                }
            }
            _ => {
                let link = self.bad(fault);
                let all = self.random.chance(500);
                let node = self.victim();
                let switch = &self.lab.switch;
                if all {
                    switch.set_all(link);
                } else {
                    (0..nodes)
                        .filter(|other| *other != node)
                        .for_each(|other| switch.set_both(node, other, link));
                }
            }
        }
    }

    fn bad(&mut self, fault: Fault) -> Link {
        let mut link = Link::default();
        match fault {
            Fault::Loss => link.loss_permille = self.random.between(10, 300),
            Fault::Duplication => {
                link.double_permille = self.random.between(50, 500);
                link.jitter_ms = self.random.between(1, 30);
            }
            _ => {
                link.delay_ms = self.random.between(1, 150);
                link.jitter_ms = self.random.between(0, 100);
                link.loss_permille = self.random.between(0, 20);
            }
        }
        link
    }

    fn cut_where(&self, cut: impl Fn(usize, usize) -> bool) {
        let nodes = self.lab.nodes();
        for one in 0..nodes {
            for other in (one + 1..nodes).filter(|other| cut(one, *other)) {
                self.lab.switch.set_both(one, other, CUT);
            }
        }
    }

    /// Everything is well but for a minority, whoever it is; the others must go on.
    fn harm_a_minority(&mut self) {
        self.lab.heal();
        let nodes = self.lab.nodes();
        for _ in 0..(nodes - 1) / 2 {
            let node = self.victim();
            match self.random.below(4) {
                0 => self.lab.kill(node),
                1 => self.lab.pause(node),
                way => {
                    for other in (0..nodes + CLIENT_SITES).filter(|other| *other != node) {
                        self.lab.switch.set(node, other, CUT);
                        if way == 2 {
                            self.lab.switch.set(other, node, CUT);
                        }
                    }
                }
            }
        }
        self.demand_progress("with a minority harmed");
    }

    /// A node drawn at random; the leader more often.
    fn victim(&mut self) -> usize {
        let drawn = self.below(self.lab.nodes());
        if self.random.chance(400) {
            self.lab.leader(&self.looker).unwrap_or(drawn)
        } else {
            drawn
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap()
    }

    fn hold(&mut self, least_ms: u64, most_ms: u64) {
        let time = self.random.between(least_ms, most_ms);
        std::thread::sleep(Duration::from_millis(time));
    }

    fn demand_progress(&mut self, when: &str) {
        let acknowledged = || self.load.shared.acknowledged.load(Ordering::Relaxed);
        let (begin, before) = (Instant::now(), acknowledged());
        while acknowledged() < before + PROGRESS {
            if begin.elapsed() > PROGRESS_WITHIN {
                let tails: Vec<String> = (0..self.lab.nodes())
                    .map(|node| self.lab.processes.tail(node))
                    .collect();
                panic!(
                    "{when}: no progress within {PROGRESS_WITHIN:?}: {:#?}\n{}",
                    self.lab.statuses(&self.looker),
                    tails.join("\n--\n")
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.healed.push(begin.elapsed());
    }

    pub(crate) fn report(&self) {
        println!("faults: {:?}", self.done);
        println!("datagrams: {:?}", self.lab.switch.counts());
        let longest = self.healed.iter().max().copied().unwrap_or_default();
        println!(
            "progress demanded {} times, {PROGRESS} acknowledgements came within {longest:?} at the longest",
            self.healed.len()
        );
    }
}
