//! Measures execution apart from the disk: a state in memory, blocks of 200-byte puts or transfers, one thread or more.
//!
//! Not a test: prints medians of interleaved runs. `cargo bench -p quipu-ledger --bench execution -- ROUNDS THREADS`.
#![cfg(feature = "store")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod core_time;
#[path = "../tests/network/mod.rs"]
mod network;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use core_time::on_core;
use quipu_crypto::id::Term;
use quipu_ledger::block::{Block, Body};
use quipu_ledger::execute::{self, Progress, Remembered, StateView};
use quipu_ledger::operation::{Condition, Namespace, Operation, Version};
use quipu_ledger::rules::ChainTip;
use quipu_ledger::state::{StateKey, StoredValue};
use quipu_ledger::store::Workers;

/// How keys are chosen.
#[derive(Clone, Copy, Debug)]
enum Workload {
    /// Puts of keys that nobody else in the block writes.
    Uncontended,
    /// Puts of keys by Zipf's law over 1,000.
    Zipf,
    /// Puts of one key.
    Hot,
    /// Two conditions and two writes each, over accounts by Zipf's law.
    Transfers,
}

const WORKLOADS: [Workload; 4] = [
    Workload::Uncontended,
    Workload::Zipf,
    Workload::Hot,
    Workload::Transfers,
];
const SIZES: [u64; 3] = [100, 500, 2000];

#[derive(Default)]
struct Maps {
    state: HashMap<StateKey, StoredValue>,
    recent: HashSet<Remembered>,
}

impl StateView for Maps {
    type Error = Infallible;

    fn values(&self, keys: &[StateKey]) -> Result<Vec<Option<StoredValue>>, Infallible> {
        Ok(keys.iter().map(|key| self.state.get(key).cloned()).collect())
    }

    fn seen(&self, ids: &[Remembered]) -> Result<Vec<bool>, Infallible> {
        Ok(ids.iter().map(|entry| self.recent.contains(entry)).collect())
    }
}

fn random(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A rank below `count`, the first ones more often: Zipf with exponent 1, by inverting its continuous form.
fn zipf(seed: u64, count: u64) -> u64 {
    let share = (random(seed) >> 11) as f64 / (1_u64 << 53) as f64;
    ((count as f64).powf(share) as u64).clamp(1, count) - 1
}

fn operations(workload: Workload, number: u64) -> Vec<Operation> {
    let value = |seed: u64| (0..25).flat_map(|at| random(seed * 31 + at).to_le_bytes()).collect();
    let key = |rank: u64| format!("account/{:016x}", random(rank)).into_bytes();
    let namespace = || Namespace::new("default").unwrap();
    let put = |rank: u64, value: Vec<u8>| Operation::Put {
        namespace: namespace(),
        key: key(rank),
        value,
    };
    let present = |rank: u64| Operation::Require {
        namespace: namespace(),
        key: key(rank),
        condition: Condition::Present,
    };
    match workload {
        Workload::Uncontended => vec![put(number + 1_000_000, value(number))],
        Workload::Zipf => vec![put(zipf(number, 1000), value(number))],
        Workload::Hot => vec![put(0, value(number))],
        Workload::Transfers => {
            let (from, to) = (zipf(2 * number, 1000), zipf(2 * number + 1, 1000));
            vec![
                present(from),
                present(to),
                put(from, b"999".to_vec()),
                put(to, b"1001".to_vec()),
            ]
        }
    }
}

/// A block of `size` transactions and the state before it, in which every key has a value.
fn block(workload: Workload, size: u64, tip: &ChainTip) -> (Block, Maps) {
    let expires_at = tip.header().time.plus(30_000);
    let make = |number: u64| {
        let operations = operations(workload, number);
        network::transaction(tip.network(), 0, number, expires_at, operations)
    };
    let block = network::next(tip, network::transactions_of((0..size).map(make).collect()));
    let mut maps = Maps::default();
    for operation in block.transactions().iter().flat_map(|tx| &tx.body().operations) {
        let stored = StoredValue {
            version: Version::default(),
            value: vec![7; 200],
        };
        maps.state
            .insert(StateKey::new(operation.namespace(), operation.key()), stored);
    }
    (block, maps)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What a stage took, each round.
#[derive(Default)]
struct Stage {
    wall: Vec<Duration>,
    core: Vec<Duration>,
}

impl Stage {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (core, start) = (on_core(), Instant::now());
        let made = std::hint::black_box(work());
        self.wall.push(start.elapsed());
        self.core.push(on_core() - core);
        made
    }
}

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse::<usize>().ok());
    let rounds = numbers.next().unwrap_or(51);
    let threads = numbers.next().unwrap_or(2);
    let membership = network::membership(1);
    let tip = ChainTip::genesis(&network::genesis(1, membership.clone())).unwrap();
    let tip = tip.check(&network::opening(&tip, Term(1), 0, &[0])).unwrap();
    let (one, many) = (Workers::none(), Workers::new(threads).unwrap());
    println!(
        "us a transaction: decode and after on core; execute with 1 and {threads} threads, on the clock and on core"
    );
    println!("workload      size  decode  after | clock 1  clock {threads}  times | core 1  core {threads}  times");
    for workload in WORKLOADS {
        for size in SIZES {
            let (block, view) = block(workload, size, &tip);
            let bytes = block.body().encode();
            let [mut decode, mut after, mut serial, mut shared] = [const {
                Stage {
                    wall: vec![],
                    core: vec![],
                }
            }; 4];
            for _ in 0..rounds {
                decode.time(|| Body::decode(&bytes).unwrap());
                let expected = serial.time(|| execute::execute_by(&one, &view, &block, &membership).unwrap());
                let effects = shared.time(|| execute::execute_by(&many, &view, &block, &membership).unwrap());
                assert_eq!(effects, expected);
                after.time(|| Progress::genesis().after(&effects));
            }
            let each = |times: Vec<Duration>| median(times).as_secs_f64() * 1e6 / size as f64;
            let (decode, after) = (each(decode.core), each(after.core));
            let (wall, core) = (
                (each(serial.wall), each(shared.wall)),
                (each(serial.core), each(shared.core)),
            );
            println!(
                "{:12} {size:5} {decode:7.2} {after:6.2} | {:7.2} {:8.2} {:6.2} | {:6.2} {:7.2} {:6.2}",
                format!("{workload:?}"),
                wall.0,
                wall.1,
                wall.0 / wall.1,
                core.0,
                core.1,
                core.1 / core.0,
            );
        }
    }
}
