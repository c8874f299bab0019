//! End to end: what `quipu bench` finds on a real network of one node, also while that node stands still.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is a finding"
)]

mod run;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use run::{Said, command, node_program, said, text};
use serde_json::Value;

/// A network of one in a folder that vanishes; its node is stopped whatever happens.
struct Network(tempfile::TempDir);

impl Network {
    fn up() -> Self {
        let network = Self(tempfile::tempdir().unwrap());
        network.json(&["network", "up", "--nodes", "1", "--detach"]).expect(0);
        network
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(self.0.path(), words);
        command
            .env("QUIPU_NETWORK", self.0.path())
            .env("QUIPU_NODE_BIN", node_program());
        command
    }

    fn json(&self, words: &[&str]) -> Said {
        said(&mut self.command(&[&["--output", "json"], words].concat()))
    }

    fn bench(&self, words: &[&str]) -> Value {
        self.json(&[&["bench"], words].concat()).expect(0).json()
    }

    /// To the one node, whether it answers or not.
    fn signal(&self, signal: &str) {
        let file = std::fs::read_to_string(self.0.path().join("node1/node.pid")).unwrap();
        let pid = file.split_whitespace().next().unwrap();
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = said(&mut self.command(&["network", "down"]));
    }
}

fn count(report: &Value, name: &str) -> u64 {
    text(&report[name]).parse().unwrap()
}

#[test]
fn each_workload_counts_what_the_ledger_has() {
    let network = Network::up();
    let page = network.0.path().join("report.html");
    let html = page.to_str().unwrap();
    let put = network.bench(&[
        "--transactions",
        "500",
        "--clients",
        "16",
        "--keys",
        "zipf",
        "--html",
        html,
    ]);
    let drawn = std::fs::read_to_string(&page).unwrap();
    let saved = network.0.path().join("saved.json");
    std::fs::write(&saved, put.to_string()).unwrap();
    std::fs::remove_file(&page).unwrap();
    network
        .json(&["bench", "--render", saved.to_str().unwrap(), "--html", html])
        .expect(0);
    assert_eq!(
        std::fs::read_to_string(&page).unwrap(),
        drawn,
        "a saved report has the same page"
    );
    assert_eq!((count(&put, "committed"), count(&put, "failed")), (500, 0), "{put}");
    assert_eq!(put["reads"], Value::Null);
    let [node, client] = put["processes"].as_array().unwrap().as_slice() else {
        panic!("one node and the client: {put}")
    };
    assert_eq!(
        (text(&node["name"]), text(&client["name"])),
        ("node1".to_owned(), "client".to_owned())
    );
    assert!(
        node["written_per_transaction"].as_f64().unwrap() > 200.0,
        "at least the values: {node}"
    );
    assert!(node["resident_mib"].as_f64().unwrap() > 1.0, "{node}");
    for (stage, queue, service) in [
        ("admission", 500, 500),
        ("log", 500, 500),
        ("order", 500, 500),
        ("execution", 500, 500),
        ("answer", 500, 0),
        ("node", 0, 500),
    ] {
        let stage = node["stages"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["name"] == stage)
            .unwrap();
        for (what, expected) in [("queue_us", queue), ("service_us", service)] {
            let found = stage[what]["count"].as_str().map_or(0, |count| count.parse().unwrap());
            assert_eq!(found, expected, "{what} of {stage}");
        }
    }

    // Four accounts and 16 clients: some come too late, and each of them is counted as failed.
    let transfer = network.bench(&[
        "--workload",
        "transfer",
        "--transactions",
        "400",
        "--clients",
        "16",
        "--key-count",
        "4",
        "--value-bytes",
        "30",
    ]);
    let (committed, failed) = (count(&transfer, "committed"), count(&transfer, "failed"));
    assert_eq!(committed + failed, 400, "{transfer}");
    assert!(committed > 0 && failed > 0, "{transfer}");
    assert_eq!(
        transfer["failed_by_reason"]["requirement_failed"],
        failed.to_string().as_str()
    );
    assert_eq!(count(&transfer["reads"], "read"), 800, "two accounts each");

    let mixed = network.bench(&[
        "--workload",
        "mixed",
        "--transactions",
        "400",
        "--clients",
        "8",
        "--key-count",
        "100",
        "--reads",
        "25",
    ]);
    let read = count(&mixed["reads"], "read");
    assert_eq!(count(&mixed, "committed") + read, 400, "{mixed}");
    assert!((60..=140).contains(&read), "a quarter of 400 are reads: {mixed}");
    assert!(mixed["reads"]["latency_us"]["p50"].as_u64().unwrap() > 0, "{mixed}");
}

#[test]
fn an_open_loop_shows_that_the_node_stood_still() {
    let network = Network::up();
    // Four may be on their way: all others that become due meanwhile cannot even be sent.
    let mut bench = network
        .command(&["bench", "--rate", "100", "--seconds", "3", "--clients", "4"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(bench.stderr.take().unwrap()).lines();
    assert!(notes.any(|note| note.unwrap().starts_with("sending for")));
    sleep(Duration::from_millis(500));
    network.signal("-STOP");
    sleep(Duration::from_millis(800));
    network.signal("-CONT");
    let mut report = String::new();
    bench.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(bench.wait().unwrap().success(), "{report}");
    let latency = report.lines().find(|line| line.starts_with("latency")).unwrap();
    let value = |name: &str| -> u64 {
        let rest = latency.split_once(name).unwrap().1;
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(report.contains("committed  300 in"), "{report}");
    // A quarter became due while nothing was answered; each waited for what was left of it.
    assert!(value("p90 ") > 200_000, "{report}");
    assert!(value("max ") > 700_000, "{report}");
}
