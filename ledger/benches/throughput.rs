//! Measures the store on this machine: appends, executions, and what they write to the disk, for a 200-byte put.
//!
//! Not a test: prints numbers. `cargo bench -p quipu-ledger --bench throughput -- BLOCKS KEYS MIB THREADS`: how many
//! blocks, how many different keys, how much memory to write into (an eighth of it shows what eight times as many
//! blocks cost; 0: as usual), and how many threads execute.
#![cfg(feature = "store")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

mod core_time;
#[path = "../tests/network/mod.rs"]
mod network;

use std::time::{Duration, Instant};

use core_time::on_core;
use quipu_crypto::id::{Incarnation, Slot, Term};
use quipu_ledger::block::Block;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::store::{Executor, LogChange, Store, StoreOptions, Workers};
use quipu_ledger::transaction::SignedTransaction;

/// As many 200-byte puts as a leader puts into one block.
const BLOCK: u64 = 600;

fn transaction(tip: &ChainTip, number: u64, keys: u64) -> SignedTransaction {
    let mut value = vec![0; 200];
    for (chunk, at) in value.chunks_mut(32).zip(0_u64..) {
        let bytes = [number.to_le_bytes(), at.to_le_bytes()].concat();
        let random = quipu_crypto::hash::Hash::of(quipu_crypto::hash::Context::Network, &[&bytes]);
        chunk.copy_from_slice(&random.as_bytes()[..chunk.len()]);
    }
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
    let operation = Operation::Put {
        namespace: Namespace::new("default").unwrap(),
        key: format!("account/{spread:016x}").into_bytes(),
        value,
    };
    let expires_at = tip.header().time.plus(60_000);
    network::transaction(tip.network(), 0, number, expires_at, vec![operation])
}

fn next(tip: &ChainTip, number: u64, keys: u64) -> Block {
    let transactions = (0..BLOCK).map(|index| transaction(tip, number * BLOCK + index, keys));
    let body = network::transactions_of(transactions.collect());
    let parent = tip.header();
    let header = tip.next(parent.term, parent.time.plus(30), Slot(0), parent.executed, &body);
    rules::seal(header, body, &network::node_key(0)).unwrap()
}

/// Bytes that this process has sent to the disk.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap();
    line.parse().unwrap()
}

fn main() {
    let mut numbers = std::env::args().filter_map(|word| word.parse::<u64>().ok());
    let blocks = numbers.next().unwrap_or(100);
    let keys = numbers.next().unwrap_or(u64::MAX);
    let root = std::env::var_os("QUIPU_BENCH_DIR").unwrap_or_else(|| ".".into());
    let dir = tempfile::tempdir_in(root).unwrap();
    let membership = network::membership(1);
    let genesis = network::genesis(1, membership.clone());
    let network = genesis.header().network;
    let mut settings = StoreOptions::default();
    if let Some(mebibytes) = numbers.next().filter(|mebibytes| *mebibytes > 0) {
        settings.write_buffers = usize::try_from(mebibytes).unwrap() * 1024 * 1024;
    }
    let threads = numbers.next().map_or(1, |threads| usize::try_from(threads).unwrap());
    let store = Store::create_with(dir.path(), network, &genesis, Incarnation::default(), &settings).unwrap();
    let workers = Workers::new(threads).unwrap();
    let mut executor = Executor::open_with(&store, workers).unwrap();
    let tip = ChainTip::genesis(&genesis).unwrap();
    let opening = network::opening(&tip, Term(1), 0, &[0]);
    let mut tip = tip.check(&opening).unwrap();
    store.write_log(&[LogChange::Append(opening.clone())], true).unwrap();
    executor.execute(&opening, &membership).unwrap();

    let before = written();
    let (mut appending, mut executing, mut computing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut size, mut slowest) = (0, Duration::ZERO);
    for number in 0..blocks {
        let block = next(&tip, number, keys);
        tip = tip.check(&block).unwrap();
        size += block.size();
        let start = Instant::now();
        store.write_log(&[LogChange::Append(block.clone())], true).unwrap();
        appending += start.elapsed();
        let (start, core) = (Instant::now(), on_core());
        executor.execute(&block, &membership).unwrap();
        executing += start.elapsed();
        computing += on_core() - core;
        slowest = slowest.max(start.elapsed());
    }
    let logged = written() - before;
    store.flush().unwrap();
    let flushed = written() - before;
    drop(executor);
    drop(store);
    let closed = written() - before;

    let count = blocks * BLOCK;
    let each = |bytes: u64| bytes as f64 / count as f64;
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    println!(
        "{count} puts in {blocks} blocks, {} bytes of block each",
        size as u64 / count
    );
    println!(
        "append, synced:  {:>9.0} /s, {:?} a block",
        rate(appending),
        appending / u32::try_from(blocks).unwrap()
    );
    println!("execute, core:   {:>9.0} /s", rate(computing));
    println!(
        "execute:         {:>9.0} /s, slowest block {slowest:?}",
        rate(executing)
    );
    println!(
        "written a put:   {:.0} bytes; flushed {:.0}; closed {:.0}",
        each(logged),
        each(flushed),
        each(closed)
    );
    let mut total = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        total += entry.unwrap().metadata().unwrap().len();
    }
    println!("on the disk:     {:.0} bytes a put", each(total));
}
