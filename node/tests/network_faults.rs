//! Real processes in network namespaces under every fault that can be done to them: what clients see is linearizable,
//! each transaction is in the chain at most once, nothing acknowledged is lost, and all copies are equal.
//!
//! `QUIPU_CHAOS_SECONDS` says for how long, `QUIPU_CHAOS_SEED` which faults, `QUIPU_CHAOS_NODES` how many nodes.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod history;
mod lab;
mod processes;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use history::forks::fork;
use history::{Act, Copy, Fate, Recorded, checker};
use lab::Lab;
use lab::load::{Habits, Load};
use lab::nemesis::Nemesis;
use processes::copies;
use quipu_consensus::simulator::random::Random;
use quipu_ledger::result::{Outcome, Reason};
use quipu_node::client::Client;
use quipu_node::limits::ENGINE_SETTINGS;

/// What the clients do where nothing else is wanted.
const LOAD: Habits = Habits {
    pause_ms: 20,
    picky_permille: 700,
};

/// What a thread ended with.
type Panic = Box<dyn std::any::Any + Send>;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    let drawn = u64::from_le_bytes(quipu_crypto::random::bytes().unwrap());
    let seed = from_environment("QUIPU_CHAOS_SEED", drawn);
    println!("QUIPU_CHAOS_SEED={seed}");
    seed
}

#[test]
fn what_clients_see_is_linearizable_whatever_happens_to_nodes_and_network() {
    let seconds = from_environment("QUIPU_CHAOS_SECONDS", 180);
    let nodes = from_environment("QUIPU_CHAOS_NODES", 5) as usize;
    println!("QUIPU_CHAOS_SECONDS={seconds} QUIPU_CHAOS_NODES={nodes}");
    let seed = seed();
    let mut random = Random::new(seed);
    let mut lab = Lab::start(nodes, seed);
    let looker = lab.looker();
    lab.wait_for_leader(&looker);
    let load = Load::start(&lab, &mut random, &LOAD);
    let mut nemesis = Nemesis::new(&mut lab, &load, looker.clone(), random);
    let raged = catch_unwind(AssertUnwindSafe(|| nemesis.rage(Duration::from_secs(seconds))));
    nemesis.report();
    end(&mut lab, load, &looker, raged);
    copies::verify(&lab.processes);
}

/// Ends the load and the nodes, and judges; also where the nodes did not go on, for a reason that the history may name.
fn end(lab: &mut Lab, load: Load, looker: &Client, before: Result<(), Panic>) {
    let (history, stopped) = match before {
        Ok(()) => {
            let history = load.finish(lab);
            (history, catch_unwind(AssertUnwindSafe(|| lab.finish(looker))))
        }
        Err(panic) => (load.abandon(lab), Err(panic)),
    };
    let Err(panic) = stopped else {
        judge(lab, &history);
        return copies::compare(&lab.processes);
    };
    println!("the nodes did not go on as they should; what can be said of it:");
    lab.processes.end_all();
    let copies = (0..lab.nodes()).map(|node| history::copy(node, &lab.processes.dir(node).join("data")));
    let copies: Vec<Copy> = copies.collect();
    for (index, one) in copies.iter().enumerate() {
        let forks = copies
            .iter()
            .skip(index + 1)
            .filter_map(|other| fork(one, other, &history));
        forks.for_each(|fork| println!("{fork}"));
    }
    let longest = copies.iter().max_by_key(|copy| copy.tip).unwrap();
    println!("judged by the copy of node {}, the longest:", longest.node);
    for violation in checker::check(&longest.placed, longest.tip, &history).iter().take(20) {
        println!("{violation}");
    }
    resume_unwind(panic);
}

/// Kills the leader again and again: how long until a write is acknowledged that was submitted after the kill, and for
/// how long does each client hear of no write at all?
///
/// `QUIPU_FAILOVER_ROUNDS` says how often.
#[test]
fn writes_resume_soon_after_the_leader_was_killed() {
    let rounds = from_environment("QUIPU_FAILOVER_ROUNDS", 6);
    let seed = seed();
    let mut random = Random::new(seed);
    let mut lab = Lab::start(3, seed);
    let looker = lab.looker();
    lab.wait_for_leader(&looker);
    // A client that insists on an answer of the dead node would be silent for another reason.
    let habits = Habits {
        picky_permille: 0,
        ..LOAD
    };
    let load = Load::start(&lab, &mut random, &habits);
    let mut kills = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.between(1_500, 2_500)));
        let leader = lab.wait_for_leader(&looker);
        kills.push(load.shared.now());
        lab.kill(leader);
        std::thread::sleep(Duration::from_millis(random.between(2_000, 3_000)));
        lab.launch(leader);
    }
    std::thread::sleep(Duration::from_secs(2));
    let history = load.finish(&lab);
    lab.finish(&looker);
    judge(&lab, &history);
    let writes: Vec<&Recorded> = history
        .iter()
        .filter(|recorded| {
            let Act::Write { fate, .. } = recorded.act else {
                return false;
            };
            matches!(fate, Fate::Acknowledged(..))
        })
        .collect();
    let failovers = kills.iter().map(|kill| failover(&writes, *kill)).collect();
    let worst = quantiles(
        "from the kill to the first acknowledgement of a write submitted after it",
        failovers,
    );
    let clients = writes.iter().map(|write| write.client).max().unwrap() + 1;
    let silences = kills
        .iter()
        .flat_map(|kill| (0..clients).map(|client| silence(&writes, client, *kill)))
        .collect();
    quantiles("without any acknowledgement at one client", silences);
    let gate = Duration::from_millis(10 * 2 * ENGINE_SETTINGS.election_max_ms);
    assert!(worst < gate, "writes resume only after {worst:?}");
}

/// From the kill to the first acknowledgement of a write that was submitted after it.
fn failover(writes: &[&Recorded], kill: u64) -> Duration {
    let later = writes.iter().filter(|write| write.begin >= kill);
    Duration::from_nanos(later.map(|write| write.end).min().unwrap() - kill)
}

/// The longest time around the kill in which a client heard of no write.
fn silence(writes: &[&Recorded], client: usize, kill: u64) -> Duration {
    let mut ends: Vec<u64> = writes
        .iter()
        .filter(|write| write.client == client)
        .map(|write| write.end)
        .collect();
    ends.sort_unstable();
    let after = ends.partition_point(|end| *end < kill);
    let around = &ends[after.saturating_sub(1)..];
    let near = around.iter().take_while(|end| **end < kill + 5_000_000_000).count() + 1;
    let around = &around[..near.min(around.len())];
    let longest = around.windows(2).map(|pair| pair[1] - pair[0]).max();
    Duration::from_nanos(longest.unwrap_or_default())
}

/// Prints the distribution, and gives the longest.
fn quantiles(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_millis();
    let (p50, p90, p99, max) = (at(500), at(900), at(990), at(1000));
    println!(
        "{what}: n {}, p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, max {max} ms",
        times.len()
    );
    *times.last().unwrap()
}

#[test]
fn a_node_whose_clock_is_wrong_does_not_lead_and_the_others_go_on() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut lab = Lab::start(5, seed);
    if lab.clocks.is_none() {
        return;
    }
    let looker = lab.looker();
    lab.wait_for_leader(&looker);
    let load = Load::start(&lab, &mut random, &LOAD);
    for ahead_ms in [3_500, -3_500, 8_000, -8_000] {
        let leader = lab.wait_for_leader(&looker);
        let wrong = (leader + 1) % 5;
        lab.clocks.as_ref().unwrap().set(wrong, ahead_ms);
        lab.wait_for_status(&looker, wrong, "told that its clock is wrong", |status| {
            status.clock.wrong && (status.clock.ahead_ms - ahead_ms).abs() < 1_000
        });
        let mut leader = lab.wait_for_leader(&looker);
        if leader == wrong {
            // Elected in the moment before it was told; that one may lead, whom nobody elects any more.
            lab.kill(wrong);
            lab.launch(wrong);
            leader = lab.wait_for_leader(&looker);
        }
        let before = load.shared.acknowledged.load(Ordering::Relaxed);
        lab.kill(leader);
        let begin = Instant::now();
        while load.shared.acknowledged.load(Ordering::Relaxed) < before + 50 || begin.elapsed().as_secs() < 2 {
            assert_ne!(
                lab.leader(&looker),
                Some(wrong),
                "its clock is {ahead_ms} ms ahead:\n{}",
                lab.processes.tail(wrong)
            );
            assert!(begin.elapsed() < Duration::from_secs(30), "the others do not go on");
            std::thread::sleep(Duration::from_millis(20));
        }
        lab.heal();
        lab.wait_for_status(&looker, wrong, "told that its clock is right again", |status| {
            !status.clock.wrong
        });
    }
    // A leader whose clock jumps ahead: its blocks are refused, and another leads.
    let leader = lab.wait_for_leader(&looker);
    lab.clocks.as_ref().unwrap().set(leader, 9_000);
    let begin = Instant::now();
    while lab.leader(&looker).is_none_or(|now| now == leader) {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "the leader keeps leading with a wrong clock"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = load.shared.acknowledged.load(Ordering::Relaxed);
    while load.shared.acknowledged.load(Ordering::Relaxed) < before + 50 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the others do not go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "a leader 9 s ahead was left, and writes went on, within {:?}",
        begin.elapsed()
    );
    lab.heal();
    std::thread::sleep(Duration::from_secs(3));
    end(&mut lab, load, &looker, Ok(()));
}

/// Holds what was seen against the chain of the first node; that the others have the same is compared elsewhere.
fn judge(lab: &Lab, history: &[Recorded]) {
    let Copy { placed: chain, tip, .. } = history::copy(0, &lab.processes.dir(0).join("data"));
    let count = |wanted: fn(&Act) -> bool| history.iter().filter(|recorded| wanted(&recorded.act)).count();
    println!(
        "{} operations: {} transactions acknowledged, {} refused or expired, {} reads; {} in the chain, {} of them \
         again, {tip} blocks",
        history.len(),
        count(|act| matches!(
            act,
            Act::Write {
                fate: Fate::Acknowledged(..),
                ..
            }
        )),
        count(|act| matches!(act, Act::Write { fate: Fate::Never, .. })),
        count(|act| matches!(act, Act::Read { .. })),
        chain.len(),
        chain
            .iter()
            .filter(|placed| placed.outcome == Outcome::Failed(Reason::Duplicate))
            .count()
    );
    let begin = Instant::now();
    let violations = checker::check(&chain, tip, history);
    println!("{} violations, found in {:?}", violations.len(), begin.elapsed());
    let told: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{}", told.join("\n"));
    assert!(history.len() > 500, "the load made progress");
}
