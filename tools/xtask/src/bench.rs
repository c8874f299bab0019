//! Keeps `cargo xtask bench`: the standard set of measurements, on networks of its own, in under five minutes; written
//! down with where and when, and laid beside an earlier set. Asserts nothing about times: machines differ, and are
//! busy. Leaves measuring, and drawing, to `quipu bench`.

mod compare;
mod machine;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::keeper::Keeper;
use crate::{command, demo, setup};

/// How long each run sends, seconds.
const SECONDS: &str = "6";

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Use the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Write the figures here, too, to compare with later.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Lay the figures beside those that were saved here.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Only the runs whose name holds this.
    #[arg(long, value_name = "PART", default_value = "")]
    name: String,
}

/// One run of the set.
struct Run {
    name: &'static str,
    /// How many nodes its network has.
    nodes: &'static str,
    words: &'static [&'static str],
}

/// The standard set. What changes here makes earlier figures of that name worthless: give it another name then.
const SET: [Run; 9] = [
    Run {
        name: "3 nodes, put, 1 client",
        nodes: "3",
        words: &["--clients", "1"],
    },
    Run {
        name: "3 nodes, put, 64 clients",
        nodes: "3",
        words: &["--clients", "64"],
    },
    Run {
        name: "3 nodes, put, 1024 clients",
        nodes: "3",
        words: &["--clients", "1024"],
    },
    Run {
        name: "3 nodes, put, 2000 a second",
        nodes: "3",
        words: &["--rate", "2000", "--clients", "4096"],
    },
    Run {
        name: "3 nodes, put zipf, 256 clients",
        nodes: "3",
        words: &["--clients", "256", "--keys", "zipf", "--key-count", "100000"],
    },
    Run {
        name: "3 nodes, transfer zipf, 64 clients",
        nodes: "3",
        words: &[
            "--workload",
            "transfer",
            "--clients",
            "64",
            "--keys",
            "zipf",
            "--key-count",
            "1000",
        ],
    },
    Run {
        name: "3 nodes, mixed, 256 clients",
        nodes: "3",
        words: &["--workload", "mixed", "--clients", "256"],
    },
    Run {
        name: "1 node, put, 1 client",
        nodes: "1",
        words: &["--clients", "1"],
    },
    Run {
        name: "1 node, put, 1024 clients",
        nodes: "1",
        words: &["--clients", "1024"],
    },
];

/// `cargo xtask bench`.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let earlier = options.compare.as_deref().map(compare::read).transpose()?;
    let programs = demo::programs(root, options.programs.as_deref())?;
    let quipu = programs.join("quipu");
    let keeper = Keeper::new("bench", &quipu)?;
    let begun = Instant::now();
    let measured = measure(&quipu, keeper.folder(), &options.name);
    let ended = keeper.end(false);
    let runs = measured?;
    ended?;
    let rows = earlier
        .map(|earlier| compare::rows(&earlier, &runs))
        .unwrap_or_default();
    let document = json!({
        "machine": machine::facts(root),
        "comparison": rows,
        "runs": runs,
    });
    let folder = setup::target_directory(root)?.join("bench");
    std::fs::create_dir_all(&folder)?;
    let (saved, page) = (folder.join("bench.json"), folder.join("bench.html"));
    let text = serde_json::to_string_pretty(&document)?;
    for file in std::iter::once(&saved).chain(&options.save) {
        std::fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    draw(&quipu, &saved, &page)?;
    compare::print(&rows);
    println!("\n{} runs in {} s", runs.len(), begun.elapsed().as_secs());
    println!("figures {}\npage    {}", saved.display(), page.display());
    Ok(())
}

/// All runs whose name holds `part`, each network's one after the other.
fn measure(quipu: &Path, folder: &Path, part: &str) -> anyhow::Result<Vec<Value>> {
    let mut done = Vec::new();
    for nodes in ["3", "1"] {
        let wanted: Vec<&Run> = SET
            .iter()
            .filter(|run| run.nodes == nodes && run.name.contains(part))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let network = folder.join(format!("net{nodes}"));
        println!("\n== a network of {nodes}");
        ask(
            quipu,
            &network,
            &["network", "up", "--nodes", nodes, "--detach", "--dir"],
            Some(&network),
        )?;
        for run in wanted {
            let words = [&["bench", "--seconds", SECONDS], run.words].concat();
            let report = ask(quipu, &network, &words, None).with_context(|| format!("`{}`", run.name))?;
            println!("{:36} {}", run.name, line(&report));
            done.push(json!({"name": run.name, "report": report}));
        }
        ask(quipu, &network, &["network", "down"], None)?;
    }
    ensure!(!done.is_empty(), "no run of the set has '{part}' in its name");
    Ok(done)
}

/// What a run came to, in one line.
fn line(report: &Value) -> String {
    let text = |pointer: &str| match report.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    format!(
        "{:>9}/s  p50 {:>7} us  p99 {:>8} us  failed {:>5}  rejected {:>5}  {:>5} bytes and {:>5} us cpu a transaction",
        text("/rate"),
        text("/latency_us/p50"),
        text("/latency_us/p99"),
        text("/failed"),
        text("/rejected"),
        text("/processes/0/written_per_transaction"),
        text("/processes/0/cpu_us_per_transaction"),
    )
}

/// Runs `quipu` and answers with what it says in JSON.
fn ask(quipu: &Path, network: &Path, words: &[&str], last: Option<&Path>) -> anyhow::Result<Value> {
    let mut command = Command::new(quipu);
    command
        .args(["--output", "json"])
        .args(words)
        .args(last)
        .env("QUIPU_NETWORK", network)
        .env_remove("QUIPU_KEY")
        .stdin(Stdio::null());
    // Not through a pipe: a node that was started keeps standard error open.
    let (out, err) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    command.stdout(out.reopen()?).stderr(err.reopen()?);
    let ok = command::succeeds(&mut command)?;
    if !ok {
        let said = std::fs::read_to_string(err.path()).unwrap_or_default();
        bail!("`{}` failed: {}", command::shown(&command), said.trim());
    }
    let said = std::fs::read_to_string(out.path())?;
    serde_json::from_str(&said).with_context(|| format!("`{}` said no JSON: {said}", command::shown(&command)))
}

/// Lets `quipu` draw the page.
fn draw(quipu: &Path, saved: &Path, page: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(quipu);
    command.args(["bench", "--render"]).arg(saved).arg("--html").arg(page);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    ensure!(
        command::succeeds(&mut command)?,
        "`{}` failed",
        command::shown(&command)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_a_name_of_its_own_that_tells_its_nodes() {
        let mut names: Vec<&str> = SET.iter().map(|run| run.name).collect();
        assert!(SET.iter().all(|run| run.name.starts_with(run.nodes)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SET.len());
    }

    #[test]
    fn networks_are_taken_down_where_a_run_fails() {
        // A stand-in for `quipu` that writes down what it is asked, and fails at the second run.
        let folder = tempfile::tempdir().unwrap();
        let quipu = folder.path().join("quipu");
        let script = r#"#!/bin/sh
echo "$*" >>"$(dirname "$0")/asked"
case "$*" in
*"network up"*) mkdir -p "$QUIPU_NETWORK"; : >"$QUIPU_NETWORK/genesis.toml";;
*"clients 64"*) exit 5;;
esac
echo '{}'
"#;
        std::fs::write(&quipu, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&quipu, mode).unwrap();
        let options = Options {
            programs: Some(folder.path().to_owned()),
            save: None,
            compare: None,
            name: "3 nodes, put".to_owned(),
        };
        let error = run(folder.path(), &options).unwrap_err();
        assert!(format!("{error:#}").contains("64 clients"), "{error:#}");
        let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
        assert!(asked.ends_with("network down\n"), "{asked}");
        assert_eq!(asked.lines().count(), 4, "up, two runs, down: {asked}");
    }
}
