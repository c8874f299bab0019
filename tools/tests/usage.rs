//! What users see without any network: exit codes, errors that advise, documents made from the tree of verbs.

mod run;

use std::io::Read;
use std::process::Stdio;

use run::{command, quipu, quipu_json, said, text};

#[test]
fn a_wrong_command_line_exits_with_2_and_says_so_in_either_form() {
    let dir = tempfile::tempdir().unwrap();
    for words in [
        &["fly"][..],
        &[],
        &["get"],
        &["tx", "put", "k"],
        &["bench", "--clients", "0"],
        &["network", "up", "--nodes", "0"],
    ] {
        let said = quipu(dir.path(), words).expect(2);
        assert!(said.out.is_empty(), "{words:?}: {}", said.out);
        assert!(!said.err.is_empty(), "{words:?}");
        let said = quipu_json(dir.path(), words).expect(2);
        assert_eq!(said.error().0, "usage", "{words:?}: {}", said.err);
    }
    let two = ["tx", "put", "k", "v", "--if-absent", "--if-present"];
    assert!(quipu(dir.path(), &two).expect(2).err.contains("cannot be used with"));
}

#[test]
fn help_and_version_are_data() {
    let dir = tempfile::tempdir().unwrap();
    let help = quipu(dir.path(), &["--help"]).expect(0);
    assert!(
        help.out.contains("Exit codes: 0 ok, 1 failure, 2 usage"),
        "{}",
        help.out
    );
    for verb in [
        "network", "key", "genesis", "tx", "get", "scan", "history", "block", "watch", "verify", "bench",
    ] {
        assert!(help.out.contains(&format!("\n  {verb} ")), "{verb} is not in the help");
    }
    assert!(quipu(dir.path(), &["--version"]).expect(0).out.starts_with("quipu "));
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let told = quipu(dir.path(), &["get", "k"]).expect(2);
    assert!(told.err.contains("--network or QUIPU_NETWORK"), "{}", told.err);
    let empty = said(
        command(dir.path(), &["get", "k"])
            .env("QUIPU_NETWORK", "")
            .env("QUIPU_KEY", ""),
    )
    .expect(2);
    assert!(empty.err.contains("no network was given"), "{}", empty.err);
    let said = quipu(dir.path(), &["get", "k", "--network", "."]).expect(1);
    assert!(said.err.contains("quipu network up --dir"), "{}", said.err);
    let said = quipu_json(dir.path(), &["get", "k", "--network", "nowhere.toml"]).expect(1);
    assert_eq!(said.error().0, "genesis");
    let said = quipu_json(dir.path(), &["key", "show", "none.key"]).expect(1);
    assert_eq!(said.error().0, "key_file");
    let said = quipu(dir.path(), &["verify", ".", "--genesis", "none.toml"]).expect(1);
    assert!(said.err.contains("none.toml"), "{}", said.err);
    let said = quipu(dir.path(), &["verify", ".", "--genesis", "x", "--expect", "12"]).expect(2);
    assert!(said.err.contains("HEIGHT:HASH"), "{}", said.err);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(dir.path(), &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before anything can have been written to its end: the script is longer than a pipe holds.
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{err}");
    assert_eq!(err, "");
}

#[test]
fn keys_are_made_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let made = quipu_json(dir.path(), &["key", "generate", "a.key"]).expect(0).json();
    let shown = quipu_json(dir.path(), &["key", "show", "a.key"]).expect(0).json();
    assert_eq!(made, shown);
    assert_eq!(text(&made["public"]).len(), 64);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.path().join("a.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let again = quipu_json(dir.path(), &["key", "generate", "a.key"]).expect(1);
    assert!(again.error().1.contains("exists already"));
    let plain = quipu(dir.path(), &["key", "show", "a.key"]).expect(0);
    assert_eq!(plain.out.trim(), text(&made["public"]));
}

#[test]
fn an_encrypted_key_needs_its_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let with = |passphrase: &str, words: &[&str]| said(command(dir.path(), words).env("QUIPU_PASSPHRASE", passphrase));
    let made = with("open sesame", &["key", "generate", "a.key", "--encrypt"]).expect(0);
    assert_eq!(with("open sesame", &["key", "show", "a.key"]).expect(0).out, made.out);
    assert!(
        with("sesame", &["key", "show", "a.key"])
            .expect(1)
            .err
            .contains("does not open it")
    );
    assert!(
        quipu(dir.path(), &["key", "show", "a.key"])
            .expect(1)
            .err
            .contains("QUIPU_PASSPHRASE")
    );
    assert!(
        quipu(dir.path(), &["key", "generate", "b.key", "--encrypt"])
            .expect(1)
            .err
            .contains("QUIPU_PASSPHRASE")
    );
    assert!(!dir.path().join("b.key").exists());
}

#[test]
fn documents_follow_from_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            quipu(dir.path(), &["completions", shell])
                .expect(0)
                .out
                .contains("network"),
            "{shell}"
        );
    }
    assert!(
        quipu(dir.path(), &["man", "tx", "import"])
            .expect(0)
            .out
            .contains(".TH")
    );
    assert!(quipu(dir.path(), &["man", "fly"]).expect(2).err.contains("quipu help"));
    quipu(dir.path(), &["man", "--dir", "pages"]).expect(0);
    for page in ["quipu.1", "quipu-tx-import.1", "quipu-network-up.1"] {
        assert!(dir.path().join("pages").join(page).is_file(), "{page}");
    }
}
