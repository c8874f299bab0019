//! The ceremony by the program alone: each party works in a folder of its own, and only public files change hands.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a panic is a finding"
)]

mod run;

use std::path::Path;
use std::process::Command;

use run::{node_program, quipu, quipu_json, text};

/// The folder of an organisation: its administrator, one member, one node. Answers with its public file.
fn organisation(dir: &Path, name: &str, port: u16) -> std::path::PathBuf {
    let home = dir.join(name);
    std::fs::create_dir(&home).unwrap();
    quipu(&home, &["key", "generate", "admin.key"]).expect(0);
    quipu(&home, &["key", "generate", "clerk.key"]).expect(0);
    let node = Command::new(node_program())
        .args(["init", "--dir", "node", "--name", &format!("node-{name}")])
        .args(["--address", &format!("127.0.0.1:{port}")])
        .current_dir(&home)
        .output()
        .unwrap();
    assert!(node.status.success(), "{}", String::from_utf8_lossy(&node.stderr));
    let (member, out) = (format!("clerk-{name}=clerk.key:writer"), format!("{name}.toml"));
    let words = [
        "genesis",
        "organisation",
        name,
        "--administrator",
        "admin.key",
        "--member",
        &member,
    ];
    let more = ["--node", "node/node.pub.toml", "--out", &out];
    quipu(&home, &[&words[..], &more].concat()).expect(0);
    home.join(out)
}

#[test]
fn three_organisations_make_a_network() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<String> = [("acme", 7001), ("borealis", 7002), ("cusco", 7003)]
        .iter()
        .map(|(name, port)| organisation(dir.path(), name, *port).display().to_string())
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let words = [
        "genesis",
        "new",
        "--name",
        "andes",
        "--namespace",
        "default=role:writer",
        "--time",
        "2026-11-23T12:00:00Z",
    ];
    let new = quipu_json(dir.path(), &[&words[..], &files].concat()).expect(0).json();
    let network = text(&new["network"]);
    // Whoever assembles the same files gets the same network, in whatever order.
    let reversed: Vec<&str> = files.iter().rev().copied().collect();
    let again = [&words[..], &["--out", "again.toml"], &reversed].concat();
    assert_eq!(
        text(&quipu_json(dir.path(), &again).expect(0).json()["network"]),
        network
    );

    let check = || quipu_json(dir.path(), &["genesis", "check", "genesis.toml"]);
    for (left, name) in [(3, "cusco"), (2, "acme"), (1, "borealis")] {
        let said = check().expect(3);
        assert_eq!(said.json()["findings"].as_array().unwrap().len(), left);
        assert_eq!(said.error().0, "incomplete");
        let key = format!("{name}/clerk.key");
        let wrong = quipu_json(dir.path(), &["genesis", "sign", "genesis.toml", "--key", &key]).expect(1);
        assert_eq!(wrong.error().0, "not_signed");
        let key = format!("{name}/admin.key");
        let signed = quipu_json(dir.path(), &["genesis", "sign", "genesis.toml", "--key", &key])
            .expect(0)
            .json();
        assert_eq!(text(&signed["organisation"]), name);
        assert_eq!(text(&signed["network"]), network);
    }
    let done = check().expect(0).json();
    assert_eq!(
        (done["ok"].as_bool(), text(&done["network"])),
        (Some(true), network.clone())
    );

    let shown = quipu_json(dir.path(), &["genesis", "show", "genesis.toml"])
        .expect(0)
        .json();
    assert_eq!(text(&shown["network"]), network);
    assert_eq!(shown["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(shown["unsigned"].as_array().unwrap().len(), 0);
    let table = quipu(dir.path(), &["genesis", "show", "genesis.toml"]).expect(0).out;
    assert!(
        table.contains("clerk-acme") && table.contains("127.0.0.1:7002"),
        "{table}"
    );

    // Nothing secret stands in what went from hand to hand.
    let whole = std::fs::read_to_string(dir.path().join("genesis.toml")).unwrap();
    assert!(!whole.contains("PRIVATE"));
}

#[test]
fn an_edit_after_signing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = organisation(dir.path(), "acme", 7001).display().to_string();
    quipu(dir.path(), &["genesis", "new", "--name", "solo", &file]).expect(0);
    quipu(
        dir.path(),
        &["genesis", "sign", "genesis.toml", "--key", "acme/admin.key"],
    )
    .expect(0);
    quipu(dir.path(), &["genesis", "check", "genesis.toml"]).expect(0);
    let path = dir.path().join("genesis.toml");
    let edited = std::fs::read_to_string(&path)
        .unwrap()
        .replace("127.0.0.1:7001", "127.0.0.1:7009");
    std::fs::write(&path, edited).unwrap();
    let said = quipu_json(dir.path(), &["genesis", "check", "genesis.toml"]).expect(3);
    assert_eq!(text(&said.json()["findings"][0]["kind"]), "stale_signature");
    // A reader of the network refuses it as well.
    let words = ["get", "k", "--network", "genesis.toml", "--key", "acme/clerk.key"];
    assert!(
        quipu_json(dir.path(), &words)
            .expect(1)
            .error()
            .1
            .contains("edited afterwards")
    );
}

#[test]
fn what_does_not_fit_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = organisation(dir.path(), "acme", 7001).display().to_string();
    for (grant, told) in [
        ("role", "is not a grant"),
        ("role:nobody", "nobody"),
        ("Default=everyone", ""),
    ] {
        let namespace = if grant.contains('=') {
            grant.to_owned()
        } else {
            format!("prices={grant}")
        };
        let said = quipu(
            dir.path(),
            &["genesis", "new", "--name", "solo", "--namespace", &namespace, &file],
        );
        assert!(matches!(said.code, Some(1 | 2)), "{namespace}: {}", said.err);
        assert!(said.err.contains(told), "{namespace}: {}", said.err);
        assert!(!dir.path().join("genesis.toml").exists());
    }
    let unreachable = quipu_json(dir.path(), &["get", "k", "--network", &file, "--key", "acme/clerk.key"]).expect(1);
    assert_eq!(unreachable.error().0, "genesis");
}
