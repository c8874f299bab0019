//! End to end: real nodes, real files, a leader killed in the midst, and every copy verified afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a panic is a finding"
)]

mod run;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use run::{Said, command, node_program, quipu_json, said, text};
use serde_json::Value;

/// A network of three in a folder that vanishes; its nodes are stopped whatever happens.
struct Network {
    dir: tempfile::TempDir,
}

impl Network {
    fn up() -> Self {
        let network = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let up = network
            .quipu(&["network", "up", "--nodes", "3", "--detach"])
            .expect(0)
            .json();
        let roles: Vec<String> = nodes(&up).iter().map(|node| text(&node["role"])).collect();
        assert_eq!(roles.iter().filter(|role| *role == "leader").count(), 1, "{roles:?}");
        network
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `quipu` in JSON, for this network.
    fn quipu(&self, words: &[&str]) -> Said {
        said(&mut self.command(words))
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = command(self.dir.path(), &[&["--output", "json"], words].concat());
        command
            .env("QUIPU_NETWORK", self.dir.path())
            .env("QUIPU_NODE_BIN", node_program());
        command
    }

    fn status(&self) -> Value {
        self.quipu(&["network", "status"]).expect(0).json()
    }

    fn leader(&self) -> String {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if let Some(leader) = nodes(&status).iter().find(|node| node["role"] == "leader") {
                return text(&leader["name"]);
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no leader: {status}");
        }
    }

    /// Stops everything and verifies every copy; answers with the report of the first.
    fn down_and_verify(&self) -> Value {
        let down = self.quipu(&["network", "down"]).expect(0).json();
        assert!(
            nodes(&down)
                .iter()
                .all(|node| node["role"] == "stopped" && node["pid"].is_null()),
            "{down}"
        );
        let reports: Vec<Value> = ["node1", "node2", "node3"]
            .iter()
            .map(|node| {
                let data = format!("{node}/data");
                self.quipu(&["verify", &data, "--genesis", "genesis.toml"])
                    .expect(0)
                    .json()
            })
            .collect();
        assert!(
            reports
                .iter()
                .all(|report| report["ok"] == true && report["findings"].as_array().unwrap().is_empty())
        );
        reports.into_iter().next().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.command(&["network", "down"]).output();
    }
}

fn nodes(status: &Value) -> &Vec<Value> {
    status["nodes"].as_array().unwrap()
}

/// Records of which every key comes `repeats` times, in a file of the network.
fn records(network: &Network, name: &str, keys: usize, repeats: usize) -> String {
    let mut lines = String::new();
    for round in 0..repeats {
        for key in 0..keys {
            lines.push_str(&format!("{{\"id\": \"key-{key:04}\", \"round\": {round}}}\n"));
        }
    }
    let path = network.path(name);
    std::fs::write(&path, lines).unwrap();
    path.display().to_string()
}

#[test]
fn one_transaction_from_put_to_history() {
    let network = Network::up();
    let put = network
        .quipu(&["tx", "put", "colour", "red", "--memo", "first"])
        .expect(0)
        .json();
    assert_eq!(
        (text(&put["status"]), put["reason"].is_null()),
        ("applied".to_owned(), true)
    );
    let got = network.quipu(&["get", "colour"]).expect(0).json();
    assert_eq!(
        (text(&got["key"]), text(&got["value"]), text(&got["namespace"])),
        ("colour".into(), "red".into(), "default".into())
    );
    assert_eq!(got["version"]["height"], put["height"]);
    assert_eq!(got["version"]["position"], put["position"]);
    let shown = network.quipu(&["tx", "show", &text(&put["id"])]).expect(0).json();
    assert_eq!((&shown["status"], &shown["height"]), (&put["status"], &put["height"]));

    let refused = network.quipu(&["tx", "put", "colour", "blue", "--if-absent"]).expect(6);
    assert_eq!(refused.error().0, "requirement_failed");
    assert_eq!(
        (text(&refused.json()["status"]), text(&refused.json()["reason"])),
        ("failed".into(), "requirement_failed".into())
    );
    let version = format!("{}.{}", text(&put["height"]), text(&put["position"]));
    network
        .quipu(&["tx", "put", "colour", "blue", "--if-version", &version])
        .expect(0);
    assert_eq!(
        text(
            &network
                .quipu(&["get", "colour", "--at", &text(&put["height"])])
                .expect(0)
                .json()["value"]
        ),
        "red"
    );
    let history = network.quipu(&["history", "colour"]).expect(0).json();
    let values: Vec<String> = history["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| text(&entry["value"]))
        .collect();
    assert_eq!(values, ["red", "blue"]);
    assert_eq!(history["entries"][0]["deleted"], false);
    assert_eq!(history["entries"][0]["id"], put["id"]);

    network.quipu(&["tx", "put", "ff00", "00fe", "--hex"]).expect(0);
    let scan = network.quipu(&["scan"]).expect(0).json();
    assert_eq!(scan["entries"][1]["key"]["hex"], "ff00");
    assert_eq!(scan["entries"][1]["value"]["hex"], "00fe");
    assert!(scan["next"].is_null());
    let page = network.quipu(&["scan", "--limit", "1"]).expect(0).json();
    assert_eq!(page["next"], "colour");
    let raw = network
        .command(&["get", "ff00", "--hex", "--raw", "--consistency", "local"])
        .output()
        .unwrap();
    assert_eq!(raw.stdout, [0x00, 0xfe]);

    let block = network
        .quipu(&["block", "show", &text(&put["height"])])
        .expect(0)
        .json();
    for field in ["height", "hash", "previous", "term", "time", "kind"] {
        assert!(block[field].is_string(), "{field}: {block}");
    }
    assert_eq!(
        (&block["transactions"][0], &block["kind"], &block["certificate"]),
        (&put["id"], &Value::from("transactions"), &Value::Null)
    );
    let watched = network
        .quipu(&["watch", "--from", &text(&put["height"]), "--limit", "2"])
        .expect(0);
    assert_eq!(watched.out.lines().count(), 2);
    let status = network.status();
    for field in ["name", "role", "term", "height", "executed", "tip", "quic", "data"] {
        assert!(
            nodes(&status).iter().all(|node| node[field].is_string()),
            "{field}: {status}"
        );
    }
    assert!(
        nodes(&status)
            .iter()
            .all(|node| node["pid"].is_u64() && node["http"].is_null())
    );

    exit_codes(&network);
    assert_eq!(text(&network.down_and_verify()["transactions"]), "5");
    unavailable(&network);
}

/// What is not there, not allowed, or not this network's.
fn exit_codes(network: &Network) {
    for words in [
        &["get", "nope"][..],
        &["history", "nope"],
        &["block", "show", "99999"],
        &["get", "colour", "--at", "99999"],
    ] {
        assert_eq!(network.quipu(words).expect(4).error().0, "not_found", "{words:?}");
    }
    let nobody = network.quipu(&["tx", "show", &"0".repeat(64)]).expect(4);
    assert_eq!(text(&nobody.json()["status"]), "not_found");
    let denied = network
        .quipu(&["tx", "put", "k", "v", "--namespace", "elsewhere"])
        .expect(6);
    assert_eq!(denied.error().0, "not_permitted");
    let late = network.quipu(&["tx", "put", "k", "v", "--expires-in", "24h"]).expect(6);
    assert_eq!(late.error().0, "expiry_too_far");
    network.quipu(&["key", "generate", "stranger.key"]).expect(0);
    let stranger = network
        .quipu(&["get", "colour", "--key", "stranger.key", "--timeout", "5s"])
        .expect(6);
    assert_eq!(stranger.error().0, "stranger");
    // Expired before it could be executed: the network says that it never will be, even when it is idle.
    let expired = network
        .quipu(&["tx", "put", "k", "v", "--expires-in", "0s", "--save", "late.txs"])
        .expect(6);
    assert_eq!(expired.error().0, "expired");
    let never = network.quipu(&["tx", "show", "late.txs"]).expect(4);
    assert_eq!(
        (text(&never.json()["status"]), never.error().0),
        ("never".into(), "never".into())
    );
    let running = network
        .quipu(&["verify", "node1/data", "--genesis", "genesis.toml"])
        .expect(1);
    assert_eq!(running.error().0, "in_use");
    let unknown = network.quipu(&["network", "stop", "node9"]).expect(2);
    assert!(unknown.error().1.contains("node9"));
    // What was done is told, even where the answer cannot be.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut put = network.command(&["tx", "put", "told", "yes"]);
    let put = put.stdout(full).output().unwrap();
    let err = String::from_utf8(put.stderr).unwrap();
    assert_eq!(put.status.code(), Some(1), "{err}");
    assert!(
        err.contains("was applied at height") && err.contains("standard output cannot be written"),
        "{err}"
    );
}

/// Nobody is there: a transaction may come later, and its sender can find out.
fn unavailable(network: &Network) {
    assert_eq!(
        network.quipu(&["get", "colour", "--timeout", "2s"]).expect(5).error().0,
        "unreachable"
    );
    network
        .quipu(&["tx", "put", "later", "yes", "--timeout", "2s", "--save", "later.txs"])
        .expect(5);
    let begun = Instant::now();
    let cut_off = network
        .quipu(&["tx", "submit", "later.txs", "--timeout", "2s"])
        .expect(5)
        .error();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!cut_off.1.contains("not tried"), "{cut_off:?}");
    let file = records(network, "later.ndjson", 2, 1);
    let import = network.quipu(&["tx", "import", &file, "--key", "id", "--timeout", "500ms"]);
    let import = import.expect(5).error();
    assert!(
        import.1.contains("no connection before the time was over"),
        "{import:?}"
    );
    assert_eq!(
        network.quipu(&["network", "stop", "node1"]).expect(1).error().0,
        "not_running"
    );
    network.quipu(&["network", "up", "--detach"]).expect(0);
    assert_eq!(
        network.quipu(&["network", "start", "node1"]).expect(1).error().0,
        "running"
    );
    let possible = network.quipu(&["tx", "show", "later.txs"]).expect(4);
    assert_eq!(text(&possible.json()["status"]), "possible");
    let first = network.quipu(&["tx", "submit", "later.txs"]).expect(0).json();
    let second = network.quipu(&["tx", "submit", "later.txs"]).expect(0).json();
    assert_eq!(
        (first["already"].as_bool(), second["already"].as_bool()),
        (Some(false), Some(true))
    );
    assert_eq!((&first["id"], &first["height"]), (&second["id"], &second["height"]));
}

#[test]
fn without_detach_the_nodes_stop_with_the_program() {
    let network = Network {
        dir: tempfile::tempdir().unwrap(),
    };
    let mut up = network
        .command(&["network", "up", "--nodes", "1"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(up.stdout.take().unwrap()), &mut shown).unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (
            text(&nodes(&shown)[0]["role"]),
            nodes(&network.status())[0]["pid"].clone()
        ),
        ("leader".into(), nodes(&shown)[0]["pid"].clone())
    );
    let stop = std::process::Command::new("kill")
        .args(["-INT", &up.id().to_string()])
        .status()
        .unwrap();
    assert!(stop.success());
    assert_eq!(up.wait().unwrap().code(), Some(0));
    assert_eq!(text(&nodes(&network.status())[0]["role"]), "stopped");
}

#[test]
fn an_import_survives_the_death_of_the_leader() {
    let network = Network::up();
    let (keys, repeats) = (400, 20);
    let file = records(&network, "many.ndjson", keys, repeats);
    let import = network.command(&["tx", "import", &file, "--key", "id", "--save", "many.txs"]);
    let import = std::thread::spawn(move || {
        let mut import = import;
        said(&mut import)
    });
    // Its first transactions are under way once they are in the file.
    let saved = network.path("many.txs");
    while std::fs::metadata(&saved).map_or(0, |file| file.len()) < 400_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let leader = network.leader();
    network.quipu(&["network", "stop", &leader, "--kill"]).expect(0);
    let summary = import.join().unwrap().expect(0).json();
    let total = (keys * repeats).to_string();
    assert_eq!(
        (text(&summary["submitted"]), text(&summary["applied"])),
        (total.clone(), total.clone())
    );
    assert_eq!(
        (text(&summary["failed"]), text(&summary["already"])),
        ("0".to_owned(), "0".to_owned())
    );
    assert!(summary["seconds"].is_f64());

    // The same signed file once more, with the dead node back: nothing changes.
    network.quipu(&["network", "start", &leader]).expect(0);
    let again = network.quipu(&["tx", "submit", "many.txs"]).expect(0).json();
    assert_eq!(
        (text(&again["already"]), text(&again["applied"])),
        (total.clone(), "0".to_owned())
    );
    in_order(&network, &file);
    assert_eq!(text(&network.down_and_verify()["transactions"]), total);
}

/// Every key was written as often as the file says, in the order of the file.
fn in_order(network: &Network, file: &str) {
    let mut expected: HashMap<String, Vec<String>> = HashMap::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        expected.entry(text(&record["id"])).or_default().push(line.to_owned());
    }
    for key in ["key-0000", "key-0007", "key-0399"] {
        let history = network.quipu(&["history", key]).expect(0).json();
        let values: Vec<String> = history["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| text(&entry["value"]))
            .collect();
        assert_eq!(values, expected[key], "{key}");
    }
}

#[test]
fn an_import_that_broke_off_goes_on() {
    let network = Network::up();
    let file = records(&network, "some.ndjson", 100, 10);
    let words = ["tx", "import", &file, "--key", "id", "--save", "some.txs"];
    network.quipu(&words).expect(0);
    // As if the import had been killed: half of it kept, the last line cut off, none of the rest sent.
    let saved = network.path("some.txs");
    let bytes = std::fs::read(&saved).unwrap();
    std::fs::write(&saved, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(network.quipu(&words).expect(1).error().0, "exists");
    let summary = network.quipu(&[&words[..], &["--resume"]].concat()).expect(0).json();
    assert_eq!(text(&summary["submitted"]), "1000");
    let already: u64 = text(&summary["already"]).parse().unwrap();
    assert!((400..600).contains(&already), "{summary}");
    assert_eq!(std::fs::read_to_string(&saved).unwrap().lines().count(), 1001);

    let wrong = |text: &str| {
        std::fs::write(network.path("wrong.ndjson"), text).unwrap();
        network
            .quipu(&["tx", "import", "wrong.ndjson", "--key", "id"])
            .expect(2)
            .error()
            .1
    };
    assert!(wrong("{\"id\":\"a\"}\nnonsense\n").contains("line 2 is not JSON"));
    assert!(wrong("{\"id\":\"a\"}\n{\"ix\":\"b\"}\n").contains("line 2 has no field 'id'"));
    assert!(wrong("\n\n").contains("holds no records"));
    network.quipu(&["get", "a"]).expect(4);
    let csv = network.path("some.csv");
    std::fs::write(&csv, "id,price\npear,3\nplum,4\n").unwrap();
    network.quipu(&["tx", "import", "some.csv", "--key", "id"]).expect(0);
    assert_eq!(
        text(&network.quipu(&["get", "plum"]).expect(0).json()["value"]),
        "{\"id\":\"plum\",\"price\":\"4\"}"
    );

    let bench = network
        .quipu(&["bench", "--clients", "8", "--seconds", "1"])
        .expect(0)
        .json();
    assert!(text(&bench["committed"]).parse::<u64>().unwrap() > 0, "{bench}");
    for pointer in [
        "/rate",
        "/seconds",
        "/latency_us/p50",
        "/latency_us/max",
        "/limits/verify_per_s",
        "/ratio_to_verify_limit",
    ] {
        assert!(
            bench.pointer(pointer).is_some_and(Value::is_number),
            "{pointer}: {bench}"
        );
    }
    // No answer is there sooner than a disk can write.
    assert!(
        bench.pointer("/latency_us/p50").unwrap().as_u64().unwrap() > 50,
        "{bench}"
    );
    let open = network
        .quipu(&["bench", "--rate", "200", "--seconds", "1"])
        .expect(0)
        .json();
    assert_eq!(text(&open["committed"]), "200");
    network.down_and_verify();
    tampered(network.dir.path(), &network);
}

/// A copy with one byte changed, and a copy of another network.
fn tampered(dir: &Path, network: &Network) {
    let report = network
        .quipu(&["verify", "node1", "--genesis", "genesis.toml"])
        .expect(0)
        .json();
    let (height, tip) = (text(&report["height"]), text(&report["tip"]));
    let expect = |block: &str| network.quipu(&["verify", "node1", "--genesis", "genesis.toml", "--expect", block]);
    expect(&format!("{height}:{tip}")).expect(0);
    let cut = expect(&format!("99999:{tip}")).expect(3);
    assert_eq!(text(&cut.json()["findings"][0]["kind"]), "cut");
    assert_eq!(cut.error().0, "verification_failed");
    let other = expect(&format!("{height}:{}", "0".repeat(64))).expect(3);
    assert_eq!(text(&other.json()["findings"][0]["kind"]), "unexpected_block");
    let foreign = Network {
        dir: tempfile::tempdir_in(dir).unwrap(),
    };
    foreign.quipu(&["network", "up", "--nodes", "1", "--detach"]).expect(0);
    foreign.quipu(&["network", "down"]).expect(0);
    let genesis = foreign.path("genesis.toml").display().to_string();
    let said = quipu_json(dir, &["verify", "node1", "--genesis", &genesis]).expect(3);
    assert_eq!(text(&said.json()["findings"][0]["kind"]), "other_network");
}
