//! Crashes of a real process: what was acknowledged is there, and what is derived fits together, after every kill -9.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use quipu_crypto::id::Height;
use quipu_ledger::block::Block;
use quipu_ledger::membership::Membership;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::store::{Executor, LogChange, OpenError, Store, StoreError, StoreOptions};

use crate::model::{self, BlockPlan, Model, TransactionPlan};
use crate::{append, assert_equal, create};

const DIR: &str = "QUIPU_TEST_STORE";
const BLOCKS: usize = 1_200;

/// So little memory that families are flushed all the time.
fn tiny() -> StoreOptions {
    StoreOptions {
        block_cache: 1024 * 1024,
        write_buffers: 128 * 1024,
        max_wal: 512 * 1024,
        max_open_files: 64,
    }
}

/// The same chain in every process: a few keys written over and over, deletes, repeats.
fn chain() -> (Membership, Vec<Block>) {
    let namespace = Namespace::new("default").unwrap();
    let mut seed = 1_u64;
    let mut draw = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut operation = || {
        let namespace = namespace.clone();
        let key = draw(40).to_be_bytes().to_vec();
        match draw(5) {
            0 => Operation::Delete { namespace, key },
            _ => Operation::Put {
                namespace,
                key,
                value: vec![u8::try_from(draw(256)).unwrap(); usize::try_from(draw(600)).unwrap()],
            },
        }
    };
    let plans: Vec<BlockPlan> = (0..BLOCKS)
        .map(|number| BlockPlan {
            pause_ms: 40,
            opening: number % 97 == 50,
            transactions: (0..number % 4)
                .map(|index| match index {
                    2 => TransactionPlan::Again(number),
                    _ => TransactionPlan::New {
                        sender: 0,
                        lifetime_ms: 5_000,
                        operations: vec![operation(), operation()],
                    },
                })
                .collect(),
        })
        .collect();
    model::chain(&plans)
}

fn number(height: Height) -> usize {
    usize::try_from(height.get()).unwrap()
}

fn spawn(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// What the process that is to be killed does: append and execute, and say what is durable.
#[test]
#[ignore = "started by the test below"]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let (membership, blocks) = chain();
    let store = Store::open_with(&dir, &tiny()).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    loop {
        let first = number(store.tip().height) + 1;
        let last = (first + first % 5).min(blocks.len() - 1);
        if first > last {
            break;
        }
        store.write_log(&append(&blocks[first..=last]), true).unwrap();
        println!("durable {last}");
        for block in &blocks[number(executor.executed().height) + 1..=last] {
            executor.execute(block, &membership).unwrap();
        }
    }
    println!("done");
    std::thread::sleep(std::time::Duration::from_mins(1));
}

#[test]
fn nothing_acknowledged_is_lost_and_what_is_derived_fits_together() {
    let dir = tempfile::tempdir().unwrap();
    let (membership, blocks) = chain();
    let mut model = Model::new(&blocks[0]);
    drop(create(dir.path(), &blocks[0]));
    let (mut acknowledged, mut replayed, mut rounds) = (0, 0, 0);
    while acknowledged < blocks.len() - 1 {
        rounds += 1;
        let mut child = spawn("crash::child_that_is_killed", dir.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..7 + rounds * 13 % 60 {
            let line = lines.next().unwrap().unwrap();
            if let Some(height) = line.strip_prefix("durable ") {
                acknowledged = height.parse().unwrap();
            }
            if line == "done" {
                break;
            }
        }
        let busy = Store::open(dir.path()).err();
        assert_eq!(
            busy,
            Some(OpenError::InUse {
                dir: dir.path().to_owned()
            })
        );
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open_with(dir.path(), &tiny()).unwrap();
        let tip = number(store.tip().height);
        assert!(tip >= acknowledged, "lost from {} to {acknowledged}", tip + 1);
        let (_, stored) = store.blocks(Height(0), store.tip().height, usize::MAX).unwrap();
        assert_eq!(stored, blocks[..=tip]);
        let executor = Executor::open(&store).unwrap();
        let executed = number(executor.executed().height);
        assert!(executed <= tip);
        replayed += tip - executed;
        for block in &blocks[number(model.last().height) + 1..=executed] {
            model.execute(block, &membership);
        }
        assert_eq!(executor.executed(), model.last());
        assert_equal(&store, &model);
    }
    assert!(
        rounds > 5 && replayed > 0,
        "{rounds} rounds, {replayed} blocks replayed"
    );
}

/// Runs where no file may grow beyond a megabyte: a write fails for real.
#[test]
#[ignore = "started by the test below"]
fn child_whose_disk_is_full() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let (membership, blocks) = chain();
    let store = Store::open(&dir).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    for block in &blocks[1..] {
        match store.write_log(&append(std::slice::from_ref(block)), true) {
            Ok(()) => println!("durable {}", block.id().height),
            Err(error) => {
                assert!(matches!(error, StoreError::Database(_)), "{error}");
                let poisoned = Err(StoreError::Poisoned(error.to_string()));
                assert_eq!(store.write_log(&[LogChange::Start(1)], true), poisoned);
                assert_eq!(store.flush(), poisoned);
                let next = &blocks[number(executor.executed().height) + 1];
                assert_eq!(executor.execute(next, &membership).map(|_| ()), poisoned);
                println!("poisoned");
                return;
            }
        }
        executor.execute(block, &membership).unwrap();
    }
    panic!("no write failed");
}

#[test]
fn a_failed_write_poisons_and_what_came_before_it_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let (_, blocks) = chain();
    drop(create(dir.path(), &blocks[0]));
    // SIGXFSZ is ignored, so that the write fails instead of the process.
    let script = r#"trap "" XFSZ; ulimit -f 512; exec "$@""#;
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_whose_disk_is_full", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("poisoned"), "{text}\n{errors}");
    let mut durable = text.lines().rev().filter_map(|line| line.strip_prefix("durable "));
    let durable: usize = durable.next().unwrap().parse().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let tip = number(store.tip().height);
    assert!(tip >= durable);
    let (_, stored) = store.blocks(Height(0), store.tip().height, usize::MAX).unwrap();
    assert_eq!(stored, blocks[..=tip]);
}
