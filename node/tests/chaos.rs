//! Real processes under load, killed at random: what was acknowledged is there once, and all copies are equal.
//!
//! `QUIPU_CHAOS_ROUNDS` says how many kills; a few in CI, 50 before a release.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod processes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use processes::{Processes, copies, put};
use quipu_crypto::id::{NetworkId, TransactionId};
use quipu_crypto::key::SecretKey;
use quipu_ledger::result::Outcome;
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call, Receipt};

const WORKERS: usize = 16;

/// What a worker saw.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<Receipt>,
    unresolved: Vec<SignedTransaction>,
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_nodes_are_killed_at_random() {
    let rounds: u32 = std::env::var("QUIPU_CHAOS_ROUNDS")
        .ok()
        .map_or(8, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut network = Processes::start(3);
    let client = runtime.block_on(async { network.client() });
    let seen = runtime.block_on(load_and_kill(&mut network, &client, rounds));
    let unresolved: usize = seen.iter().map(|seen| seen.unresolved.len()).sum();
    let acknowledged: BTreeMap<TransactionId, Receipt> = seen
        .iter()
        .flat_map(|seen| &seen.acknowledged)
        .map(|receipt| (receipt.id, *receipt))
        .collect();
    println!(
        "{rounds} kills, {} acknowledged, {unresolved} unresolved",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 100, "the load made progress");
    runtime.block_on(async {
        network.converged(&client).await;
        check_on_every_node(&network, &client, &acknowledged).await;
        // The leader has named by now what was executed last, and makes no more blocks.
        network.converged(&client).await;
        client.close().await;
    });
    network.stop_all_alike();
    copies::compare(&network);
    copies::verify(&network);
}

async fn load_and_kill(network: &mut Processes, client: &Client, rounds: u32) -> Vec<Seen> {
    let stop = Arc::new(AtomicBool::new(false));
    let progress = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (client, key) = (client.clone(), network.client_key.clone());
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(&progress));
            tokio::spawn(work(worker, client, key, network.genesis.network_id(), stop, progress))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for round in 0..rounds {
        let node = usize::from(random_byte()) % network.count();
        network.kill(node);
        if round % 4 == 3 {
            // Stays away: the others must go on without it, whoever it was.
            wait_for_more(&progress).await;
        }
        tokio::time::sleep(Duration::from_millis(100 + 4 * u64::from(random_byte()))).await;
        network.launch(node);
        tokio::time::sleep(Duration::from_millis(200 + 4 * u64::from(random_byte()))).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for worker in workers {
        seen.push(worker.await.unwrap());
    }
    seen
}

/// Waits until two nodes alone have committed a good number more.
async fn wait_for_more(progress: &AtomicU64) {
    let begin = Instant::now();
    let wanted = progress.load(Ordering::Relaxed) + 200;
    while progress.load(Ordering::Relaxed) < wanted {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "two of three nodes do not go on"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn work(
    worker: usize,
    client: Client,
    key: SecretKey,
    network: NetworkId,
    stop: Arc<AtomicBool>,
    progress: Arc<AtomicU64>,
) -> Seen {
    let mut seen = Seen::default();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let transaction = put(&key, network, &format!("{worker}/{}", number % 50), &number.to_string());
        match client.submit(&transaction, Duration::from_secs(20)).await {
            Ok(Answer::Executed(receipt)) => {
                assert_eq!(receipt.outcome, Outcome::Applied);
                assert_eq!(receipt.id, transaction.id());
                seen.acknowledged.push(receipt);
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Answer::Rejected(rejection)) => panic!("rejected: {rejection}"),
            _ => seen.unresolved.push(transaction),
        }
    }
    seen
}

/// Every node gives the same receipt as the one that was acknowledged.
async fn check_on_every_node(network: &Processes, client: &Client, all: &BTreeMap<TransactionId, Receipt>) {
    for node in &network.genesis.membership().nodes {
        for receipt in all.values() {
            let call = Call::Lookup {
                id: receipt.id,
                expires_at: None,
            };
            let answer = client.call_node(node.slot, call, Duration::from_secs(5)).await.unwrap();
            assert_eq!(answer, Answer::Executed(*receipt), "on {}", node.name);
        }
    }
}

fn random_byte() -> u8 {
    quipu_crypto::random::bytes::<1>().unwrap()[0]
}
