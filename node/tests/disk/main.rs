//! What a disk does to real processes: an old copy is put back, the end of the chain is lost, a bit rots, the disk
//! fills up, a write fails.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

#[path = "../processes/mod.rs"]
mod processes;

mod damage;
mod lost;
mod space;

use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Processes, put};
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Receipt};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Writes `count` values, each until it is acknowledged.
async fn write(network: &Processes, client: &Client, name: &str, count: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for number in 0..count {
        receipts.push(write_one(network, client, &format!("{name}/{number}")).await);
    }
    receipts
}

async fn write_one(network: &Processes, client: &Client, name: &str) -> Receipt {
    let transaction = put(
        &network.client_key,
        network.genesis.network_id(),
        name,
        &"x".repeat(300),
    );
    let begin = Instant::now();
    loop {
        match client.submit(&transaction, Duration::from_secs(5)).await {
            Ok(Answer::Executed(receipt)) => return receipt,
            other => assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{name} is not written: {other:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
