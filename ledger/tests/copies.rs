//! Copies as a whole: cut short, of another network, in parts that disagree, with damaged files. Each gets its own
//! clear word, and no damage panics.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod network;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use network::filled::{EXECUTED, TIP};
use network::raw::{Raw, copy_of, key, original, place, verify_at};
use network::*;
use proptest::prelude::*;
use proptest::sample::Index;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Incarnation};
use quipu_ledger::block::Block;
use quipu_ledger::store::record::{Family, height_key, meta};
use quipu_ledger::store::{Executor, LogChange, Store};
use quipu_ledger::verify::{self, Finding, Place, VerifyError, VerifyOptions};

fn cut_from(raw: &Raw, first: Height) {
    for height in first.get()..=TIP.get() {
        raw.delete(Family::Headers, &height_key(Height(height)));
        raw.delete(Family::Bodies, &height_key(Height(height)));
    }
}

fn expecting(height: Height, hash: Hash) -> VerifyOptions {
    VerifyOptions {
        expect: Some((height, hash)),
        ..VerifyOptions::default()
    }
}

fn hash_at(height: Height) -> Hash {
    original().1.blocks[usize::try_from(height.get()).unwrap()].hash()
}

#[test]
fn a_whole_but_shorter_copy_is_sound_unless_more_is_expected() {
    let raw = Raw::new();
    cut_from(&raw, EXECUTED.next());
    let dir = raw.into_dir();
    let report = verify_at(dir.path(), VerifyOptions::default()).unwrap();
    assert_eq!((report.findings.clone(), report.height), (vec![], EXECUTED));
    let report = verify_at(dir.path(), expecting(EXECUTED, hash_at(EXECUTED))).unwrap();
    assert!(report.ok());

    let report = verify_at(dir.path(), expecting(TIP, hash_at(TIP))).unwrap();
    let expected = Finding {
        place: Place::Height(EXECUTED.next()),
        kind: "cut",
        detail: "the copy ends at block 40, but block 42 was expected".to_owned(),
    };
    assert_eq!(report.findings, vec![expected]);
}

#[test]
fn another_block_than_the_expected_one_is_named() {
    for height in [Height(0), Height(17), TIP] {
        let dir = original().0.path();
        assert!(verify_at(dir, expecting(height, hash_at(height))).unwrap().ok());
        let other = Hash::of(Context::Header, &[b"other"]);
        let report = verify_at(dir, expecting(height, other)).unwrap();
        assert_eq!(report.findings.len(), 1);
        assert_eq!(
            (report.findings[0].kind, &report.findings[0].place),
            ("unexpected_block", &Place::Height(height))
        );
    }
}

#[test]
fn a_copy_whose_parts_disagree_about_its_end_is_truncated() {
    // Cut below what is executed: the state knows more than the chain.
    let raw = Raw::new();
    cut_from(&raw, Height(35));
    let report = raw.verify();
    assert_eq!(
        (report.findings[0].kind, &report.findings[0].place),
        ("truncated", &Place::Height(Height(35)))
    );
    let text = "block 35: it is missing: the copy ends at block 34, but says that it has executed block 40";
    assert_eq!(report.findings[0].to_string(), text);
    assert_eq!(
        report.findings.len(),
        2,
        "what is known to be committed speaks against it, too"
    );

    let raw = Raw::new();
    raw.put(Family::Meta, meta::COMMIT, &height_key(Height(50)));
    raw.finds("truncated", &Place::Height(TIP.next()));

    for family in [Family::Headers, Family::Bodies] {
        let raw = Raw::new();
        raw.delete(family, &height_key(TIP));
        raw.finds("truncated", &Place::Height(TIP));
    }
}

fn one_finding(result: Result<verify::Report, VerifyError>) -> (&'static str, String) {
    let report = result.unwrap();
    assert_eq!(report.findings.len(), 1);
    (report.findings[0].kind, report.findings[0].detail.clone())
}

#[test]
fn another_network_and_a_wrong_genesis_file_are_told_apart() {
    let verify_against = |genesis: &Block| {
        one_finding(verify::run(
            original().0.path(),
            genesis,
            VerifyOptions::default(),
            &mut |_| {},
        ))
    };
    // The same nodes, but another document: an older or edited genesis file.
    let mut edited = membership(3);
    edited.parameters.max_lifetime_ms += 1;
    let (kind, detail) = verify_against(&genesis(2, edited));
    assert_eq!(kind, "wrong_genesis");
    assert!(
        detail.starts_with("the genesis file is not the one that this network was made from"),
        "{detail}"
    );

    let mut others = membership(3);
    for (node, number) in others.nodes.iter_mut().zip(50..) {
        node.key = network::key(number).public();
    }
    let (kind, detail) = verify_against(&genesis(3, others));
    assert_eq!(kind, "other_network");
    assert!(detail.starts_with("the copy is of another network: "), "{detail}");

    // The id of the network, but another block 0: someone has put it there.
    let mut forged = membership(3);
    forged.parameters.approvals = 1;
    let finding = verify_against(&genesis(1, forged));
    assert_eq!(
        finding,
        (
            "damaged_block",
            "it is not the block that the genesis file makes".to_owned()
        )
    );

    let no_genesis = &original().1.blocks[1];
    let result = verify::run(original().0.path(), no_genesis, VerifyOptions::default(), &mut |_| {});
    assert!(matches!(result, Err(VerifyError::Genesis(_))));
}

#[test]
fn a_fresh_store_and_one_that_never_executed_are_sound() {
    let block_0 = genesis(1, membership(3));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::create(&data, block_0.header().network, &block_0, Incarnation([1; 16])).unwrap();
    drop(Executor::open(&store).unwrap());
    store.flush().unwrap();
    drop(store);
    // A node's directory is as good as its data directory.
    for place in [dir.path(), &data] {
        let report = verify::run(place, &block_0, VerifyOptions::default(), &mut |_| {}).unwrap();
        assert_eq!((report.findings, report.height), (vec![], Height(0)));
    }
}

#[test]
fn what_is_no_store_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        verify_at(empty.path(), VerifyOptions::default()),
        Err(VerifyError::NoStore { .. })
    ));
    let missing = empty.path().join("missing");
    assert!(matches!(
        verify_at(&missing, VerifyOptions::default()),
        Err(VerifyError::NoStore { .. })
    ));
    let raw = Raw::new();
    raw.put(Family::Meta, meta::FORMAT, &9_u32.to_be_bytes());
    let result = raw.verify_with(VerifyOptions::default());
    assert!(matches!(result, Err(VerifyError::Format { found: 9, known: 1, .. })));
    let raw = Raw::new();
    raw.delete(Family::Meta, meta::FORMAT);
    assert_eq!(raw.verify().findings[0].kind, "damaged_database");
}

/// Files of a copy, the largest first.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort_by_key(|path| std::cmp::Reverse((std::fs::metadata(path).unwrap().len(), path.clone())));
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_in_a_table_is_named_by_height_or_key() {
    let tables = files(original().0.path(), ".sst");
    assert!(tables.len() >= Family::ALL.len());
    for table in tables {
        let copy = copy_of(original().0.path());
        let path = copy.path().join(table.file_name().unwrap());
        // The first data block of the table.
        flip(&path, 20);
        let report = verify_at(copy.path(), VerifyOptions::default()).unwrap();
        assert!(!report.ok(), "{}", table.display());
        let first = &report.findings[0];
        assert!(!matches!(first.place, Place::Copy), "{first}");
    }
}

#[test]
fn a_missing_table_is_found() {
    for table in files(original().0.path(), ".sst") {
        let copy = copy_of(original().0.path());
        std::fs::remove_file(copy.path().join(table.file_name().unwrap())).unwrap();
        let report = verify_at(copy.path(), VerifyOptions::default()).unwrap();
        assert_eq!(report.findings[0].kind, "damaged_database", "{}", report.findings[0]);
    }
}

/// A copy of a node that was killed: its blocks are in the write-ahead log only, and all that it executed is lost, but
/// for block 0 where that was `flushed`.
fn killed(flushed: bool) -> (tempfile::TempDir, Block) {
    let source = tempfile::tempdir().unwrap();
    let block_0 = genesis(1, membership(3));
    let store = Store::create(source.path(), block_0.header().network, &block_0, Incarnation([1; 16])).unwrap();
    let mut executor = Executor::open(&store).unwrap();
    if flushed {
        store.flush().unwrap();
    }
    for block in &original().1.blocks[1..] {
        store.write_log(&[LogChange::Append(block.clone())], true).unwrap();
        executor.execute(block, &membership(3)).unwrap();
    }
    let copy = copy_of(source.path());
    (copy, block_0)
}

#[test]
fn a_killed_node_that_lost_what_it_executed_is_sound() {
    for flushed in [false, true] {
        let (copy, block_0) = killed(flushed);
        let report = verify::run(copy.path(), &block_0, VerifyOptions::default(), &mut |_| {}).unwrap();
        assert_eq!(
            (report.not_executed(), report.height, report.executed),
            (TIP.get(), TIP, Height(0))
        );
        assert_eq!(report.findings, vec![]);
    }
}

#[test]
fn a_record_of_execution_where_nothing_was_executed_is_named() {
    let (copy, block_0) = killed(false);
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, copy.path()).unwrap();
    let db = rocksdb::DB::open_cf(&options, copy.path(), families).unwrap();
    db.put_cf(db.cf_handle("state").unwrap(), b"\x07defaultkey", b"\x01\x00\x00")
        .unwrap();
    drop(db);
    let report = verify::run(copy.path(), &block_0, VerifyOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.findings[0].place, key("meta/executed"));
}

/// Opens the store that the test below names, and holds it until its standard input ends.
#[test]
#[ignore = "started by the test below"]
fn child_that_holds_a_store() {
    let dir = std::env::var_os("QUIPU_HELD_STORE").unwrap();
    let store = Store::open(Path::new(&dir)).unwrap();
    println!("held");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(store);
}

#[test]
fn a_store_in_use_is_refused_and_left_alone() {
    let copy = copy_of(original().0.path());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_holds_a_store", "--nocapture"])
        .env("QUIPU_HELD_STORE", copy.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.by_ref().any(|line| line.unwrap().contains("held")));
    let refused = verify_at(copy.path(), VerifyOptions::default());
    assert!(matches!(refused, Err(VerifyError::InUse { .. })), "{refused:?}");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(verify_at(copy.path(), VerifyOptions::default()).unwrap().ok());
}

#[test]
fn a_flipped_byte_in_the_write_ahead_log_is_named_by_the_first_block_that_it_hides() {
    let (source, block_0) = killed(true);
    let verify = |dir: &Path| verify::run(dir, &block_0, VerifyOptions::default(), &mut |_| {}).unwrap();
    let report = verify(source.path());
    assert_eq!((report.findings, report.height), (vec![], TIP));

    let log = files(source.path(), ".log").remove(0);
    let length = usize::try_from(std::fs::metadata(&log).unwrap().len()).unwrap();
    let mut named = Vec::new();
    for part in 1..10 {
        let copy = copy_of(source.path());
        flip(&copy.path().join(log.file_name().unwrap()), length * part / 10);
        let report = verify(copy.path());
        let first = &report.findings[0];
        assert_eq!(first.kind, "damaged_database");
        named.push(first.height().unwrap());
        assert_eq!(report.height.next(), first.height().unwrap());
    }
    assert!(named.is_sorted() && named[8] > named[0], "{named:?}");

    // A log that ends in the midst of a record is what a loss of power leaves: nothing was acknowledged.
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..length - 7]).unwrap();
    let report = verify(source.path());
    assert_eq!((report.findings, report.height), (vec![], TIP.previous().unwrap()));
}

#[test]
fn damage_to_the_files_that_hold_the_rest_together_is_found() {
    for suffix in ["CURRENT", "MANIFEST-"] {
        let copy = copy_of(original().0.path());
        let name = std::fs::read_dir(copy.path()).unwrap().map(|file| file.unwrap().path());
        let path = name
            .into_iter()
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(suffix))
            .unwrap();
        flip(&path, 9);
        let report = verify_at(copy.path(), VerifyOptions::default()).unwrap();
        assert_eq!(
            (report.findings[0].kind, &report.findings[0].place),
            ("damaged_database", &Place::Copy)
        );
    }
}

/// Verifies what is left of each file whose name has a part, cut at every so many bytes.
#[test]
#[ignore = "started by the test below, for a crash must not end the other tests"]
fn child_that_cuts_files() {
    let source = PathBuf::from(std::env::var_os("QUIPU_CUT_STORE").unwrap());
    let genesis = genesis(1, membership(3));
    let mut wrong = Vec::new();
    for (name, step) in [("MANIFEST-", 7), ("CURRENT", 3), (".sst", 997), (".log", 4999)] {
        let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains(name);
        for file in files(&source, "").into_iter().filter(named) {
            let whole = std::fs::read(&file).unwrap();
            let copy = copy_of(&source);
            let cut = copy.path().join(file.file_name().unwrap());
            for length in (0..whole.len()).step_by(step) {
                println!("{} cut to {length} of {} bytes", cut.display(), whole.len());
                std::fs::write(&cut, &whole[..length]).unwrap();
                let report = verify::run(copy.path(), &genesis, VerifyOptions::default(), &mut |_| {}).unwrap();
                // The log of a node that lost power may end anywhere. What a table hides has its own kinds.
                let silent = report.ok() && name != ".log";
                let other = report.findings.iter().any(|finding| finding.kind != "damaged_database");
                if silent || (other && name != ".sst") {
                    wrong.push(format!("{name} cut to {length}: {:?}", report.findings));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_that_is_cut_short_ends_the_process() {
    let (killed, _) = killed(true);
    for source in [original().0.path(), killed.path()] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child_that_cuts_files", "--nocapture"])
            .env("QUIPU_CUT_STORE", source)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        let last = said.lines().rev().take(3).collect::<Vec<_>>();
        let error = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{}: {last:?} {error}", child.status);
    }
}

#[test]
fn a_store_without_its_current_file_is_damaged() {
    let node = tempfile::tempdir().unwrap();
    let data = node.path().join("data");
    std::fs::rename(copy_of(original().0.path()).keep(), &data).unwrap();
    std::fs::remove_file(data.join("CURRENT")).unwrap();
    for place in [node.path(), &data] {
        let report = verify_at(place, VerifyOptions::default()).unwrap();
        let first = &report.findings[0];
        assert_eq!((first.kind, &first.place), ("damaged_database", &Place::Copy));
        assert!(first.detail.contains("there is no file CURRENT in "), "{first}");
    }
    // All that is left of a node's data.
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("incarnation.toml"), "").unwrap();
    let report = verify_at(data.path(), VerifyOptions::default()).unwrap();
    assert_eq!(report.findings[0].kind, "damaged_database");
}

#[test]
fn a_damaged_table_of_the_state_says_nothing_about_the_end_of_the_chain() {
    let chain = |report: &verify::Report| {
        report
            .findings
            .iter()
            .all(|finding| finding.height() != Some(TIP.next()))
    };
    for table in files(original().0.path(), ".sst") {
        for keep in [0, 40, 400] {
            let copy = copy_of(original().0.path());
            let cut = copy.path().join(table.file_name().unwrap());
            std::fs::write(&cut, &std::fs::read(&table).unwrap()[..keep]).unwrap();
            let report = verify_at(copy.path(), VerifyOptions::default()).unwrap();
            assert!(!report.ok());
            assert!(chain(&report), "{:?}", report.findings);
        }
    }
}

/// Verifies as the user that it was started as.
#[test]
#[ignore = "started by the test below"]
fn child_that_may_not_read() {
    let dir = PathBuf::from(std::env::var_os("QUIPU_SECRET_STORE").unwrap());
    let refused = verify::run(&dir, &genesis(1, membership(3)), VerifyOptions::default(), &mut |_| {});
    assert!(matches!(refused, Err(VerifyError::Forbidden { .. })), "{refused:?}");
}

#[test]
fn files_that_may_not_be_read_are_no_damage() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    // A program that another user can start, too.
    let place = tempfile::tempdir().unwrap();
    set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("copies");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let copy = copy_of(original().0.path());
    let manifest = files(copy.path(), "")
        .into_iter()
        .find(|path| path.to_str().unwrap().contains("MANIFEST-"))
        .unwrap();
    for (path, before) in [
        (files(copy.path(), ".sst").remove(0), 0o644),
        (manifest, 0o644),
        (copy.path().to_owned(), 0o755),
    ] {
        set_permissions(copy.path(), Permissions::from_mode(0o755)).unwrap();
        set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let mut child = Command::new(&program);
        child
            .args(["--ignored", "--exact", "child_that_may_not_read"])
            .env("QUIPU_SECRET_STORE", copy.path());
        if std::fs::metadata(place.path()).unwrap().uid() == 0 {
            child.uid(65534).gid(65534);
        }
        let child = child.output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        set_permissions(&path, Permissions::from_mode(before)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// A bit of any record that follows from the chain, or is the chain.
    #[test]
    fn any_bit_that_is_flipped_in_a_record_is_found(
        family in 0_usize..7,
        at in any::<Index>(),
        bit in any::<Index>(),
    ) {
        let family = [
            Family::Headers, Family::Bodies, Family::Certificates, Family::State, Family::Results, Family::History,
            Family::Transactions,
        ][family];
        let raw = Raw::new();
        let records = raw.records(family);
        let (key, mut value) = at.get(&records).clone();
        let bit = bit.index(value.len() * 8);
        value[bit / 8] ^= 1 << (bit % 8);
        raw.put(family, &key, &value);
        let report = raw.verify();
        prop_assert!(!report.ok());
        prop_assert_eq!(&report.findings[0].place, &place(family, &key));
    }

    /// A bit of any table: found, or in a part that no reader needs. Never a panic, and never another chain.
    #[test]
    fn any_bit_that_is_flipped_in_a_table_is_found_or_does_not_matter(
        table in any::<Index>(),
        at in any::<Index>(),
    ) {
        let copy = copy_of(original().0.path());
        let tables = files(copy.path(), ".sst");
        let path = at_index(&table, &tables);
        let length = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
        flip(path, at.index(length));
        if let Ok(report) = verify_at(copy.path(), VerifyOptions::default()) && report.ok() {
            prop_assert_eq!(report.tip, hash_at(TIP));
        }
    }
}

fn at_index<'a, T>(index: &Index, items: &'a [T]) -> &'a T {
    &items[index.index(items.len())]
}

#[test]
fn findings_stop_at_the_number_that_is_asked_for() {
    let raw = Raw::new();
    for (record, _) in raw.records(Family::State) {
        raw.delete(Family::State, &record);
    }
    let options = VerifyOptions {
        max_findings: 5,
        ..VerifyOptions::default()
    };
    let report = raw.verify_with(options).unwrap();
    assert_eq!(report.findings.len(), 5);
    assert_eq!(report.findings[0].place, key("audit/a0"));
}
