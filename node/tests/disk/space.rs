//! Disks that fill up: the leader hands over before a write can fail, clients are told, and all goes on once there is
//! room; a write that fails all the same ends the process.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, NodeStatus, Unavailable};
use quipu_node::config::ConfigFile;

use crate::processes::{Processes, put};
use crate::{runtime, write};

const MIB: u64 = 1024 * 1024;
const FLOOR_MIB: u64 = 24;

/// Small file systems in memory, unmounted with the test.
#[derive(Default)]
struct Disks(std::cell::RefCell<Vec<PathBuf>>);

impl Disks {
    /// Whether such can be mounted here: it takes rights that not everybody has.
    fn permitted() -> bool {
        let dir = tempfile::tempdir().unwrap();
        let disks = Self::default();
        disks.mount(dir.path(), 1)
    }

    fn mount(&self, dir: &Path, mib: u64) -> bool {
        std::fs::create_dir_all(dir).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir)
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        if mounted {
            self.0.borrow_mut().push(dir.to_owned());
        } else {
            println!("NOT TESTED: a file system cannot be mounted here; run this as root");
        }
        mounted
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for dir in self.0.borrow().iter() {
            let _unmounted = Command::new("umount").arg("-l").arg(dir).status();
        }
    }
}

fn free(dir: &Path) -> u64 {
    let output = Command::new("df")
        .args(["-B1", "--output=avail"])
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

/// Leaves only so much room.
fn fill(dir: &Path, left: u64) {
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("ballast"))
        .unwrap();
    while free(dir) > left {
        let bytes = (free(dir) - left).min(MIB) as usize;
        if file.write_all(&vec![1; bytes.max(4096)]).is_err() {
            return;
        }
    }
}

fn empty(dir: &Path) {
    std::fs::remove_file(dir.join("ballast")).unwrap();
}

fn tune(config: &mut ConfigFile) {
    config.memory.write_buffers_mib = 8;
    config.memory.cache_mib = 8;
    config.disk.min_free_mib = FLOOR_MIB;
}

fn place(status: &NodeStatus, network: &Processes) -> usize {
    let nodes = &network.genesis.membership().nodes;
    nodes.iter().position(|node| Some(node.slot) == status.leader).unwrap()
}

#[test]
fn a_leader_with_a_full_disk_hands_over_and_follows_again_once_there_is_room() {
    if !Disks::permitted() {
        return;
    }
    let runtime = runtime();
    let disks = Disks::default();
    let mount = |dir: &Path| assert!(disks.mount(dir, 160));
    let mut network = Processes::make(3, mount, tune);
    (0..3).for_each(|node| network.launch(node));
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(async {
        let before = write(&network, &client, "before", 10).await;
        let leader = place(&network.converged(&client).await[0], &network);
        fill(&network.dir(leader), FLOOR_MIB / 2 * MIB);
        network
            .status_of(&client, leader, "a full follower", |status| {
                status.disk.full && status.role != "leader"
            })
            .await;
        let during = write(&network, &client, "during", 20).await;
        let full = network
            .status_of(&client, leader, "full still", |status| status.disk.full)
            .await;
        assert!(full.tip.height < during[19].version.height, "it took a block: {full:?}");
        empty(&network.dir(leader));
        network
            .status_of(&client, leader, "roomy", |status| !status.disk.full)
            .await;
        network.converged(&client).await;
        for receipt in before.iter().chain(&during) {
            check(&network, &client, leader, receipt).await;
        }
        everybody_full(&network, &client).await;
        client.close().await;
    });
    network.stop_all();
}

/// With no room anywhere clients are told why; with room it goes on.
async fn everybody_full(network: &Processes, client: &Client) {
    (0..3).for_each(|node| fill(&network.dir(node), FLOOR_MIB / 2 * MIB));
    for node in 0..3 {
        network.status_of(client, node, "full", |status| status.disk.full).await;
    }
    let late = put(&network.client_key, network.genesis.network_id(), "late", "value");
    let answer = client.submit(&late, Duration::from_secs(4)).await;
    let Ok(Answer::Unavailable(Unavailable::DiskFull { node })) = &answer else {
        panic!("{answer:?}")
    };
    assert!(node.starts_with("node"), "{node}");
    (0..3).for_each(|node| empty(&network.dir(node)));
    write(network, client, "after", 3).await;
    network.converged(client).await;
}

async fn check(network: &Processes, client: &Client, node: usize, receipt: &quipu_node::client_protocol::Receipt) {
    let call = quipu_node::client_protocol::Call::Lookup {
        id: receipt.id,
        expires_at: None,
    };
    let slot = network.genesis.membership().nodes[node].slot;
    let answer = client.call_node(slot, call, Duration::from_secs(5)).await.unwrap();
    assert_eq!(answer, Answer::Executed(*receipt));
}

/// Without a floor the write itself fails: the process says so and ends, and does not try again (P9).
#[test]
fn a_write_that_fails_ends_the_process_and_nothing_acknowledged_is_lost() {
    if !Disks::permitted() {
        return;
    }
    let runtime = runtime();
    let disks = Disks::default();
    let mount = |dir: &Path| assert!(disks.mount(dir, 160));
    let mut network = Processes::make(1, mount, |config| {
        tune(config);
        config.disk.min_free_mib = 0;
    });
    network.launch(0);
    let client = runtime.block_on(async { network.client() });
    let mut acknowledged = runtime.block_on(write(&network, &client, "before", 5));
    fill(&network.dir(0), 0);
    runtime.block_on(async {
        for number in 0..2_000 {
            let value = put(
                &network.client_key,
                network.genesis.network_id(),
                &number.to_string(),
                &"x".repeat(4000),
            );
            match client.submit(&value, Duration::from_secs(2)).await {
                Ok(Answer::Executed(receipt)) => acknowledged.push(receipt),
                _ => break,
            }
        }
    });
    assert!(!network.ends(0), "it must not call that a success");
    let log = network.tail(0);
    assert!(log.contains("No space left on device"), "{log}");
    assert_eq!(log.matches("the node halts").count(), 1, "one cause: {log}");
    // Whichever met the end of the disk first; a store that has failed once takes no more from either.
    let failures = ["writing the log failed", "could not be executed"].map(|failure| log.matches(failure).count());
    assert!(matches!(failures, [1, 0] | [0, 1] | [1, 1]), "each tried once: {log}");
    empty(&network.dir(0));
    network.launch(0);
    runtime.block_on(async {
        write(&network, &client, "after", 1).await;
        for receipt in &acknowledged {
            check(&network, &client, 0, receipt).await;
        }
        client.close().await;
    });
}
