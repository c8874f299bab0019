//! Keeps the story that `cargo xtask demo` tells, step by step, with the programs that users run: a network of three,
//! a real data set, a leader killed in the midst of an import, three copies verified, one byte flipped and found. Each
//! step prints its command and its output; a step whose expectation does not hold ends the demo with an error.

mod copy;
mod stage;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::keeper::Keeper;
use crate::{command, setup};
use stage::Stage;

/// A package that stands in both files: once in the index, twice among the updates.
const KEY: &str = "libactivemq-java";
const PACKAGES: &str = "tools/data/debian-packages.ndjson";
const UPDATES: &str = "tools/data/debian-security-updates.ndjson";
const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// `quipu verify` exits so when it finds something.
const VERIFICATION_FAILED: i32 = 3;

/// `cargo xtask demo`.
pub(crate) fn run(root: &Path, built: Option<&Path>) -> anyhow::Result<()> {
    play(root, &programs(root, built)?)
}

/// The whole story, with built programs.
pub(crate) fn play(root: &Path, programs: &Path) -> anyhow::Result<()> {
    let keeper = Keeper::new("demo", &programs.join("quipu"))?;
    let stage = Stage::new(root, programs, keeper.folder());
    let started = Instant::now();
    let told = tell(&stage);
    let folder = keeper.folder().to_owned();
    let down = keeper.end(told.is_err());
    if told.is_err() {
        println!(
            "\nWhat was built up stands in {} for you to look at; its nodes are stopped.",
            folder.display()
        );
    }
    told?;
    down?;
    println!(
        "\nThat is all, after {} s: every node stopped, the folder removed.",
        started.elapsed().as_secs()
    );
    Ok(())
}

/// The folder that holds both programs, which are built, with all that this needs, unless they are there.
pub(crate) fn programs(root: &Path, built: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = built {
        return folder
            .canonicalize()
            .with_context(|| format!("no folder {}", folder.display()));
    }
    println!("== What the build needs");
    let environment = setup::prepare(root, false)?;
    println!("\n== The programs (the first build compiles RocksDB: about ten minutes on two cores)");
    let mut cargo = command::cargo(root, &environment);
    cargo.args(["build", "--release", "--bin", "quipu", "--bin", "quipu-node"]);
    println!("$ {}", command::shown(&cargo));
    ensure!(
        command::succeeds(&mut cargo)?,
        "the build failed; mend what the compiler names"
    );
    Ok(setup::target_directory(root)?.join("release"))
}

fn tell(stage: &Stage) -> anyhow::Result<()> {
    start(stage)?;
    import(stage)?;
    read(stage)?;
    let killed = kill_the_leader(stage)?;
    come_back(stage, &killed)?;
    stop(stage)?;
    verify(stage)?;
    flip(stage)
}

fn start(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("A network of three nodes, each a process of its own");
    stage.show_environment();
    stage.show(&["network", "up", "--nodes", "3", "--dir", stage.network(), "--detach"])?;
    stage.show(&["network", "status"])?;
    let pids = pids(stage)?;
    ensure!(
        pids.len() == NODES.len(),
        "three nodes run, but the status has {} processes",
        pids.len()
    );
    Ok(())
}

/// The processes of the running nodes.
fn pids(stage: &Stage) -> anyhow::Result<Vec<u64>> {
    let status = stage.json(&["network", "status"])?;
    Ok(nodes(&status).filter_map(|node| node.get("pid")?.as_u64()).collect())
}

/// A real data set: each record a signed transaction.
fn import(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("300 packages of Debian, then 120 security updates, each record a signed transaction");
    stage.show(&["tx", "import", PACKAGES, "--key", "package"])?;
    stage.show(&["tx", "import", UPDATES, "--key", "package"])?;
    Ok(())
}

/// Blocks, values, history; what is read is compared with the files.
fn read(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("Blocks, reads, history");
    let entry = stage.json(&["get", KEY])?;
    let height = text(&entry, "/version/height")?;
    stage.show(&["block", "show", &height])?;
    stage.show(&["get", KEY])?;
    stage.show(&["scan", "liba", "--limit", "5"])?;
    stage.show(&["history", KEY])?;
    let latest = stage.last_record(UPDATES, "package", KEY)?;
    let value = text(&entry, "/value")?;
    ensure!(
        same(&value, &latest),
        "the value of {KEY} is not the last record of the file, but {value}"
    );
    expect_history(stage, 3)
}

/// Whether the value that the ledger holds is the record of the file, whatever the order of its fields.
fn same(value: &str, record: &Value) -> bool {
    serde_json::from_str::<Value>(value).is_ok_and(|value| value == *record)
}

fn expect_history(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let history = stage.json(&["history", KEY, "--limit", "100000"])?;
    let entries = history
        .pointer("/entries")
        .and_then(Value::as_array)
        .context("`history` answers entries")?;
    ensure!(
        entries.len() == count,
        "{KEY} was written {count} times, but its history has {} entries",
        entries.len()
    );
    Ok(())
}

/// SIGKILL to the leader while an import runs; answers the name of the killed node.
fn kill_the_leader(stage: &Stage) -> anyhow::Result<String> {
    stage.chapter("The leader is killed in the midst of an import, and nothing is lost");
    // A fast machine may finish before the kill: then the file grows.
    let mut written = 3_usize;
    for times in [40_usize, 160, 640] {
        let file = stage.repeated(&[PACKAGES, UPDATES], times)?;
        println!("(both files, {times} times over, to keep the network busy for a while)");
        let before = stage.height()?;
        let import = stage.begin(&["tx", "import", &file, "--key", "package"])?;
        stage.wait_until("the import is under way", || Ok(stage.height()? > before))?;
        let status = stage.json(&["network", "status"])?;
        let leader = nodes(&status).find(|node| text(node, "/role").is_ok_and(|role| role == "leader"));
        let leader = leader.context("a network under load has a leader")?;
        let (name, pid) = (text(leader, "/name")?, leader.get("pid").and_then(Value::as_u64));
        let midst = import.runs()?;
        if midst {
            stage.kill(pid.context("the leader is a process")?)?;
        }
        let output = import.end()?;
        print!("{output}");
        written = written.saturating_add(times.saturating_mul(3));
        if midst {
            expect_history(stage, written)?;
            println!("(every record is there exactly once: {written} entries in the history of {KEY})");
            stage.show(&["network", "status"])?;
            return Ok(name);
        }
        println!("(that was too fast to be hit; once more with a larger file)");
    }
    bail!("the import ends before the leader can be killed, even with the largest file")
}

/// The killed node starts again and catches up with the others.
fn come_back(stage: &Stage, killed: &str) -> anyhow::Result<()> {
    stage.chapter("The killed node comes back and catches up");
    stage.show(&["network", "start", killed])?;
    stage.wait_until("all three nodes have executed the same tip", || {
        let status = stage.json(&["network", "status"])?;
        let stand = |node: &Value| Some((text(node, "/tip").ok()?, text(node, "/executed").ok()?));
        let stands: Option<Vec<_>> = nodes(&status).map(stand).collect();
        Ok(stands.is_some_and(|stands| stands.len() == NODES.len() && all_equal(&stands)))
    })?;
    stage.show(&["network", "status"])?;
    stage.show(&["get", KEY, "--consistency", "linearizable"])?;
    Ok(())
}

fn stop(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("Everything stops");
    let pids = pids(stage)?;
    ensure!(
        pids.len() == NODES.len(),
        "three nodes run again, but the status has {} processes",
        pids.len()
    );
    stage.show(&["network", "down"])?;
    stage.wait_until("every process of a node has ended", || {
        let alive = |pid: &u64| command::answer("sh", ["-c", &format!("kill -0 {pid} && echo yes")]).is_some();
        Ok(!pids.iter().any(alive))
    })
}

/// What an auditor does, once for each node.
fn verify(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("An auditor verifies all three copies, offline");
    let mut tips = Vec::new();
    for node in NODES {
        let (data, genesis) = (
            stage.in_network(&format!("{node}/data")),
            stage.in_network("genesis.toml"),
        );
        stage.show(&["verify", &data, "--genesis", &genesis])?;
        tips.push(text(&stage.json(&["verify", &data, "--genesis", &genesis])?, "/tip")?);
    }
    ensure!(
        tips.windows(2).all(|two| two.first() == two.last()),
        "three copies verify, but end differently: {tips:?}"
    );
    Ok(())
}

/// One byte of a copy is changed, and verification says where.
fn flip(stage: &Stage) -> anyhow::Result<()> {
    stage.chapter("One byte of a copy is changed, and verification names the place");
    let (data, genesis) = (stage.in_network("node1/data"), stage.in_network("genesis.toml"));
    let changed = stage.in_network("changed");
    stage.shell(&["cp", "-r", &data, &changed])?;
    let flipped = copy::flip_one_byte(Path::new(&changed), &stage.needles(&[PACKAGES, UPDATES])?)?;
    println!("(one byte changed: {flipped})");
    stage.show_failing(&["verify", &changed, "--genesis", &genesis], VERIFICATION_FAILED)?;
    let report = stage.json_failing(&["verify", &changed, "--genesis", &genesis], VERIFICATION_FAILED)?;
    let findings = report
        .pointer("/findings")
        .and_then(Value::as_array)
        .context("`verify` answers findings")?;
    let first = findings.first().context("a changed copy has at least one finding")?;
    let height = text(first, "/height").context("the first finding names a height")?;
    println!("(found at height {height})");
    Ok(())
}

fn nodes(status: &Value) -> impl Iterator<Item = &Value> {
    status.pointer("/nodes").and_then(Value::as_array).into_iter().flatten()
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values.windows(2).all(|two| two.first() == two.last())
}

/// A field that is a string.
fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no `{pointer}` in {value}"))?.to_owned())
}

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(300);
