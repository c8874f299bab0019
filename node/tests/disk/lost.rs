//! A node whose disk holds less than it promised takes no part in deciding until it has caught up; where nobody can
//! bring it back, it does not start; a directory that is not the membership's gets no answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use quipu_consensus::message::{Hello, Message};
use quipu_crypto::id::{BlockId, Incarnation, Term};
use quipu_ledger::rules::ChainTip;
use quipu_ledger::store::record::Family;
use quipu_node::client_protocol::Answer;
use quipu_node::init::{self, Wish};
use quipu_node::inspect::{Finding, Inspector};
use quipu_node::{config, watermark};

use crate::damage::change;
use crate::processes::{Processes, put};
use crate::{copy_directory, runtime, write};

/// Starts a node that is to refuse; one that does not is ended, so that the test fails and does not wait.
fn run(dir: &Path) -> Output {
    Command::new("timeout")
        .args(["30", env!("CARGO_BIN_EXE_quipu-node"), "run", "--dir"])
        .arg(dir)
        .output()
        .unwrap()
}

/// Runs three nodes, puts the third back to what it was at some time, and sees that the others cannot decide anything
/// with it before it has caught up; `old` keeps a copy of it and says when.
fn takes_no_part_until_it_has_caught_up(at_first: bool, put_back: impl Fn(&Path, &Path)) {
    let runtime = runtime();
    let kept = tempfile::tempdir().unwrap();
    let mut network = Processes::make(3, |_| {}, |_| {});
    if at_first {
        copy_directory(&network.dir(2), kept.path());
    }
    (0..3).for_each(|node| network.launch(node));
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(async {
        write(&network, &client, "before", 5).await;
        network.converged(&client).await;
    });
    network.kill(2);
    if !at_first {
        copy_directory(&network.dir(2), kept.path());
    }
    network.launch(2);
    runtime.block_on(async {
        write(&network, &client, "after", 5).await;
        network.converged(&client).await;
    });
    network.kill(2);
    network.kill(1);
    put_back(kept.path(), &network.dir(2));
    network.launch(2);
    let committed = runtime.block_on(async {
        network
            .status_of(&client, 2, "recovering", |status| status.role == "recovering")
            .await;
        // Two of three are a majority, but one of them does not know what it has promised.
        let alone = network
            .status_of(&client, 0, "without followers", |status| status.role != "leader")
            .await;
        let late = put(&network.client_key, network.genesis.network_id(), "late", "value");
        let answer = client.submit(&late, Duration::from_secs(4)).await;
        assert!(!matches!(answer, Ok(Answer::Executed(_))), "{answer:?}");
        let first = network.status_of(&client, 0, "there", |_| true).await;
        let third = network.status_of(&client, 2, "there", |_| true).await;
        assert_eq!((first.commit, third.role.as_str()), (alone.commit, "recovering"));
        assert_ne!(first.role, "leader", "elected by one that must not vote");
        assert!(third.tip.height < first.tip.height, "it is behind: {third:?}");
        first.commit
    });
    network.launch(1);
    runtime.block_on(async {
        write(&network, &client, "together", 3).await;
        network
            .status_of(&client, 2, "following", |status| status.role == "follower")
            .await;
        network.converged(&client).await;
    });
    // Now it counts again: without it, nothing could be committed.
    let leader = runtime.block_on(async { network.converged(&client).await });
    let other = (0..2)
        .find(|node| leader[*node].leader != Some(leader[*node].slot))
        .unwrap();
    network.kill(other);
    runtime.block_on(async {
        write(&network, &client, "with it", 2).await;
        let third = network.status_of(&client, 2, "there", |_| true).await;
        assert!(third.commit > committed);
        client.close().await;
    });
}

fn put_all_back(kept: &Path, dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    copy_directory(kept, dir);
}

#[test]
fn a_node_restored_from_an_old_copy_of_its_directory_does_not_vote_until_it_has_caught_up() {
    takes_no_part_until_it_has_caught_up(false, put_all_back);
}

/// The directory as `init` made it: the same incarnation, never used as it says. Its peers know better.
#[test]
fn a_directory_that_was_wiped_and_made_anew_from_its_first_copy_does_not_vote_until_it_has_caught_up() {
    takes_no_part_until_it_has_caught_up(true, put_all_back);
}

#[test]
fn a_fresh_directory_with_the_old_key_is_refused_with_advice() {
    let mut network = Processes::start(1);
    network.kill(0);
    let fresh = tempfile::tempdir().unwrap();
    let dir = fresh.path().join("node");
    let wish = Wish {
        dir: dir.clone(),
        name: "node1".to_owned(),
        address: "127.0.0.1:1".to_owned(),
        listen: "127.0.0.1:1".parse().unwrap(),
        passphrase: None,
    };
    init::init(&wish).unwrap();
    for file in [config::KEY_FILE, config::GENESIS_FILE] {
        std::fs::copy(network.dir(0).join(file), dir.join(file)).unwrap();
    }
    let refused = run(&dir);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text.contains("it is another directory than the one"), "{text}");
}

#[test]
fn a_hello_of_another_incarnation_than_the_memberships_is_not_passed_on() {
    let network = Processes::make(2, |_| {}, |_| {});
    let nodes = &network.genesis.membership().nodes;
    let tip = Arc::new(ChainTip::genesis(&network.genesis.block()).unwrap());
    let mut inspector = Inspector::new(nodes[0].slot, Arc::default(), tip, std::iter::empty());
    let hello = |incarnation| {
        Message::Hello(Hello {
            incarnation,
            nonce: 0,
            start: 1,
            claimed: false,
            term: Term(0),
            tip: BlockId::default(),
        })
    };
    assert!(inspector.inspect(nodes[1].slot, hello(nodes[1].incarnation)).is_ok());
    for wrong in [Incarnation([1; 16]), nodes[0].incarnation] {
        let finding = inspector.inspect(nodes[1].slot, hello(wrong)).unwrap_err();
        assert!(matches!(finding, Finding::Incarnation { .. }), "{finding}");
    }
}

fn newest_log(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("data")).unwrap();
    let logs = files.map(|file| file.unwrap().path());
    logs.filter(|path| path.extension().is_some_and(|found| found == "log"))
        .max()
        .unwrap()
}

/// The newest part of RocksDB's log, as a bad disk would leave it: shorter than what was synced.
fn cut_the_log(dir: &Path, bytes: u64) {
    let file = std::fs::File::options().write(true).open(newest_log(dir)).unwrap();
    let length = file.metadata().unwrap().len();
    assert!(length > bytes, "the log has {length} bytes");
    file.set_len(length - bytes).unwrap();
}

#[test]
fn a_node_that_lost_the_end_of_its_log_knows_it_from_the_watermark_and_recovers() {
    let runtime = runtime();
    let mut network = Processes::start(3);
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(async {
        write(&network, &client, "before", 10).await;
        network.converged(&client).await;
    });
    network.kill(2);
    cut_the_log(&network.dir(2), 2_000);
    network.launch(2);
    runtime.block_on(async {
        network
            .status_of(&client, 2, "following", |status| {
                status.role == "follower" && status.disk.lost.is_none()
            })
            .await;
        write(&network, &client, "after", 2).await;
        network.converged(&client).await;
        client.close().await;
    });
    let log = network.tail(2);
    assert!(log.contains("the store has lost what this node had promised"), "{log}");
}

#[test]
fn the_only_voter_does_not_start_without_what_it_acknowledged() {
    let runtime = runtime();
    let mut network = Processes::start(1);
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(write(&network, &client, "before", 10));
    network.kill(0);
    let dir = network.dir(0);
    let whole = tempfile::tempdir().unwrap();
    copy_directory(&dir, whole.path());
    cut_the_log(&dir, 2_000);
    let refused = run(&dir);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("Put back a copy of the directory that has them"),
        "{text}"
    );
    // With the copy it goes on; and without it too, but only when told so.
    put_all_back(whole.path(), &dir);
    network.launch(0);
    runtime.block_on(write(&network, &client, "again", 1));
    network.kill(0);
    cut_the_log(&dir, 500);
    assert_eq!(run(&dir).status.code(), Some(1));
    std::fs::remove_file(dir.join(watermark::WATERMARK_FILE)).unwrap();
    network.launch(0);
    runtime.block_on(async {
        write(&network, &client, "after", 1).await;
        client.close().await;
    });
    let log = network.tail(0);
    assert!(log.contains("there was no watermark file"), "{log}");
}

/// Flips a bit in the middle of RocksDB's newest log, and flips it back when called again.
fn flip_in_the_log(dir: &Path) {
    let path = newest_log(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_the_only_voter_has_behind_a_damaged_record_is_still_there_when_it_has_refused_to_start() {
    let runtime = runtime();
    let mut network = Processes::start(1);
    let client = runtime.block_on(async { network.client() });
    let receipts = runtime.block_on(write(&network, &client, "before", 10));
    network.kill(0);
    let dir = network.dir(0);
    flip_in_the_log(&dir);
    for _ in 0..2 {
        let refused = run(&dir);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            text.contains("are missing or damaged") && text.contains("Nothing was changed"),
            "{text}"
        );
    }
    flip_in_the_log(&dir);
    network.launch(0);
    runtime.block_on(async {
        let last = receipts.last().unwrap().version.height;
        network
            .status_of(&client, 0, "whole", |status| status.executed.height >= last)
            .await;
        client.close().await;
    });
}

#[test]
fn the_only_voter_goes_on_without_a_damaged_block_when_told_so() {
    let runtime = runtime();
    let mut network = Processes::start(1);
    let client = runtime.block_on(async { network.client() });
    let receipts = runtime.block_on(write(&network, &client, "before", 5));
    network.kill(0);
    let dir = network.dir(0);
    change(&dir, Family::Bodies, receipts[4].version.height);
    assert_eq!(run(&dir).status.code(), Some(1));
    std::fs::remove_file(dir.join(watermark::WATERMARK_FILE)).unwrap();
    network.launch(0);
    runtime.block_on(async {
        write(&network, &client, "after", 1).await;
        client.close().await;
    });
}

#[test]
fn a_damaged_watermark_is_an_error_that_says_what_to_do() {
    let runtime = runtime();
    let mut network = Processes::start(1);
    let client = runtime.block_on(async { network.client() });
    runtime.block_on(write(&network, &client, "before", 1));
    network.kill(0);
    let path = network.dir(0).join(watermark::WATERMARK_FILE);
    std::fs::write(&path, [0; 8192]).unwrap();
    let refused = run(&network.dir(0));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("damaged, in both of its slots"), "{text}");
}
