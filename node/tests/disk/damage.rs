//! A bit rots in a stored block of one node: it is found, by the scrubber or by a reader, and written back from a peer;
//! the executor waits for such a block; what is damaged at the end of the chain is cut and fetched again.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use quipu_crypto::id::Height;
use quipu_ledger::store::Store;
use quipu_ledger::store::record::{Family, height_key};
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call};
use rocksdb::DB;

use crate::processes::Processes;
use crate::{runtime, write};

fn raw(dir: &Path) -> DB {
    let families = Family::ALL.map(Family::name);
    DB::open_cf(&rocksdb::Options::default(), dir.join("data"), families).unwrap()
}

/// Flips a bit in the table of a family, where RocksDB's own checksum finds it.
fn rot_a_table(dir: &Path, family: Family) {
    let database = raw(dir);
    let tables = database.live_files().unwrap();
    let table = tables
        .iter()
        .find(|file| file.column_family_name == family.name())
        .unwrap();
    let path = dir.join("data").join(table.name.trim_start_matches('/'));
    drop(database);
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 100).unwrap();
}

/// Changes a stored value below the eyes of RocksDB's checksum.
pub(crate) fn change(dir: &Path, family: Family, height: Height) {
    let database = raw(dir);
    let handle = database.cf_handle(family.name()).unwrap();
    let mut value = database.get_cf(handle, height_key(height)).unwrap().unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    database.put_cf(handle, height_key(height), value).unwrap();
}

async fn block(network: &Processes, client: &Client, node: usize, height: Height) -> Answer {
    let slot = network.genesis.membership().nodes[node].slot;
    let call = Call::Block { height: Some(height) };
    client.call_node(slot, call, Duration::from_secs(5)).await.unwrap()
}

/// Every block of the third node, asked for until it answers, is that of the first.
async fn compare(network: &Processes, client: &Client, last: Height) -> u64 {
    let mut refused = 0;
    for height in 0..=last.get() {
        let Answer::Block { block: wanted, .. } = block(network, client, 0, Height(height)).await else {
            panic!("the first node is not damaged")
        };
        let begin = Instant::now();
        loop {
            match block(network, client, 2, Height(height)).await {
                Answer::Block { block, .. } => {
                    assert_eq!(block, wanted, "{height}");
                    break;
                }
                Answer::Unavailable(_) => refused += 1,
                other => panic!("{other:?}"),
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "{height} is not repaired:\n{}",
                network.tail(2)
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    refused
}

/// A network whose third node was stopped in good order.
fn with_third_stopped(scrub: u64) -> (tokio::runtime::Runtime, Processes, Client, Height) {
    let runtime = runtime();
    let mut network = Processes::make(3, |_| {}, |config| config.disk.scrub_mib_per_second = scrub);
    (0..3).for_each(|node| network.launch(node));
    let client = runtime.block_on(async { network.client() });
    let tip = runtime.block_on(async {
        write(&network, &client, "key", 20).await;
        network.converged(&client).await[0].executed.height
    });
    network.stop(2);
    (runtime, network, client, tip)
}

#[test]
fn a_rotten_table_is_found_by_the_scrubber_and_repaired_from_a_peer() {
    let (runtime, mut network, client, tip) = with_third_stopped(4);
    rot_a_table(&network.dir(2), Family::Bodies);
    network.launch(2);
    runtime.block_on(async {
        let status = network
            .status_of(&client, 2, "scrubbed", |status| status.disk.passed.is_some())
            .await;
        assert!(status.disk.damaged > 0, "{status:?}");
        // The pass may be over before the peers have answered.
        let all = |status: &quipu_node::client_protocol::NodeStatus| status.disk.repaired >= status.disk.damaged;
        network.status_of(&client, 2, "repaired", all).await;
        assert_eq!(compare(&network, &client, tip).await, 0, "no reader has met the damage");
        client.close().await;
    });
}

/// One block of a table holds many headers: that of block 0 and the one that names it rot together.
#[test]
fn rotten_headers_of_the_first_blocks_are_repaired_while_the_node_takes_part() {
    let (runtime, mut network, client, tip) = with_third_stopped(4);
    rot_a_table(&network.dir(2), Family::Headers);
    network.launch(2);
    runtime.block_on(async {
        compare(&network, &client, tip).await;
        client.close().await;
    });
}

#[test]
fn without_a_scrubber_a_reader_is_told_and_the_block_is_repaired() {
    let (runtime, mut network, client, tip) = with_third_stopped(0);
    change(&network.dir(2), Family::Bodies, Height(5));
    change(&network.dir(2), Family::Headers, Height(8));
    change(&network.dir(2), Family::Bodies, Height(0));
    network.launch(2);
    runtime.block_on(async {
        network
            .status_of(&client, 2, "following", |status| status.role == "follower")
            .await;
        assert!(
            compare(&network, &client, tip).await >= 2,
            "each damage was met once at least"
        );
        let status = network.status_of(&client, 2, "there", |_| true).await;
        assert_eq!(status.disk.scrubbed, 0);
        client.close().await;
    });
    network.stop(2);
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open_read_only(&network.dir(2).join("data"), scratch.path()).unwrap();
    let (_, blocks) = store.blocks(Height(0), tip, usize::MAX).unwrap();
    assert_eq!(blocks.len() as u64, tip.get() + 1, "all are sound on the disk");
}

#[test]
fn the_executor_waits_for_a_damaged_block_until_it_is_repaired() {
    let runtime = runtime();
    let mut network = Processes::make(3, |_| {}, |config| config.disk.scrub_mib_per_second = 0);
    (0..3).for_each(|node| network.launch(node));
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(async {
        write(&network, &client, "key", 20).await;
        network.converged(&client).await;
    });
    // What is derived was not flushed: the next start executes the chain again, from the store.
    network.kill(2);
    change(&network.dir(2), Family::Bodies, Height(5));
    network.launch(2);
    runtime.block_on(async {
        write(&network, &client, "more", 2).await;
        network.converged(&client).await;
        let status = network.status_of(&client, 2, "there", |_| true).await;
        assert!(status.disk.repaired >= 1, "{status:?}");
        client.close().await;
    });
}

#[test]
fn a_damaged_end_of_the_chain_is_cut_and_fetched_again() {
    for family in [Family::Headers, Family::Bodies] {
        let runtime = runtime();
        let mut network = Processes::start(3);
        let client = runtime.block_on(async { network.client() });
        let tip = runtime.block_on(async {
            write(&network, &client, "key", 5).await;
            network.converged(&client).await[0].tip.height
        });
        network.kill(2);
        change(&network.dir(2), family, tip);
        network.launch(2);
        runtime.block_on(async {
            network
                .status_of(&client, 2, "following", |status| status.role == "follower")
                .await;
            write(&network, &client, "more", 2).await;
            network.converged(&client).await;
            compare(&network, &client, tip).await;
            client.close().await;
        });
    }
}
