//! The ceremony from keys to a genesis that serves, and what its check says at every wrong turn.

mod house;

use house::{TIME, node, organisations, public, secret, signed, unsigned};
use quipu_genesis::ceremony::{self, MergeError, SignError, require_complete, sign};
use quipu_genesis::{GenesisDocument, NodeFile, OrganisationFile, ReadError, development};
use quipu_ledger::rules::ChainTip;

fn messages(document: &GenesisDocument) -> Vec<String> {
    ceremony::check(document).iter().map(ToString::to_string).collect()
}

#[test]
fn files_of_three_organisations_become_a_genesis_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for file in organisations() {
        let path = folder.path().join(&file.name);
        file.write(&path).unwrap();
        let read = OrganisationFile::read(&path).unwrap();
        assert_eq!(read, file);
        files.push(read);
    }
    let path = folder.path().join("genesis.toml");
    let whole = unsigned();
    ceremony::assemble(
        "andes",
        TIME,
        &files,
        whole.membership.namespaces,
        ceremony::default_parameters(3),
    )
    .write(&path)
    .unwrap();
    for (number, name) in [(3, "cusco"), (1, "acme"), (2, "borealis")] {
        assert!(ceremony::read_complete(&path).is_err(), "complete without {name}");
        let mut document = GenesisDocument::read(&path).unwrap();
        sign(&mut document, name, &secret(number)).unwrap();
        document.replace(&path).unwrap();
    }
    let genesis = ceremony::read_complete(&path).unwrap();
    assert_eq!(genesis, require_complete(&signed()).unwrap());
    let tip = ChainTip::genesis(&genesis.block()).unwrap();
    assert_eq!(tip.network(), genesis.network_id());
    assert_eq!(tip.membership().voters().count(), 3);
}

#[test]
fn whoever_assembles_the_same_files_gets_the_same_genesis() {
    let mut files = organisations();
    let first = ceremony::assemble("andes", TIME, &files, Vec::new(), ceremony::default_parameters(3));
    files.rotate_left(1);
    let second = ceremony::assemble("andes", TIME, &files, Vec::new(), ceremony::default_parameters(3));
    assert_eq!(first, second);
}

#[test]
fn a_missing_signature_names_the_organisation() {
    let mut document = signed();
    document.approvals.remove(1);
    assert_eq!(
        messages(&document),
        ["[[organisation]] 2 \"borealis\": has not signed yet; \
          its administrator checks the file and runs `quipu genesis sign`"]
    );
}

#[test]
fn an_edit_makes_every_signature_stale() {
    let mut document = signed();
    let before = document.validate().unwrap().network_id();
    document.membership.parameters.approvals = 3;
    let now = document.validate().unwrap().network_id();
    let expected = |number, name| {
        format!(
            "[[approval]] {number} \"{name}\", signature: signed network {before}, but the file now says {now}: \
             it was edited afterwards; have it signed again"
        )
    };
    assert_eq!(
        messages(&document),
        [expected(1, "acme"), expected(2, "borealis"), expected(3, "cusco")]
    );
    for (number, name) in [(1, "acme"), (2, "borealis"), (3, "cusco")] {
        sign(&mut document, name, &secret(number)).unwrap();
    }
    assert!(messages(&document).is_empty());
}

#[test]
fn a_signature_of_another_key_is_wrong() {
    let mut document = signed();
    document.approvals[2].signature = document.approvals[0].signature;
    assert_eq!(
        messages(&document),
        [
            "[[approval]] 3 \"cusco\", signature: was not made by the key of this organisation, or is damaged; \
          have it signed again with the right key"
        ]
    );
}

#[test]
fn an_old_signature_under_the_new_id_is_wrong() {
    let mut document = signed();
    document.name = "alps".to_owned();
    let now = document.validate().unwrap().network_id();
    document.approvals[0].network = now;
    let codes: Vec<_> = ceremony::check(&document)
        .iter()
        .map(|finding| finding.problem.code())
        .collect();
    assert_eq!(codes, ["wrong_signature", "stale_signature", "stale_signature"]);
}

#[test]
fn approvals_of_strangers_and_second_ones_are_found() {
    let mut document = signed();
    let mut stranger = document.approvals[0].clone();
    stranger.organisation = "dakar".to_owned();
    document.approvals.push(stranger);
    document.approvals.push(document.approvals[1].clone());
    assert_eq!(
        messages(&document),
        [
            "[[approval]] 4 \"dakar\", organisation: names the organisation \"dakar\", \
             but there is no [[organisation]] of that name; correct it or add one",
            "[[approval]] 5 \"borealis\", organisation: is the same as that of \
             [[approval]] 2 \"borealis\", organisation; give each its own",
        ]
    );
}

#[test]
fn a_wrong_definition_and_a_missing_signature_are_both_told() {
    let mut document = signed();
    document.membership.nodes[0].address = "nowhere".to_owned();
    document.approvals.remove(0);
    let codes: Vec<_> = ceremony::check(&document)
        .iter()
        .map(|finding| finding.problem.code())
        .collect();
    assert_eq!(codes, ["unreadable", "unsigned"]);
    assert!(require_complete(&document).is_err());
}

#[test]
fn only_the_right_key_signs_and_only_what_is_sound() {
    let mut document = unsigned();
    let before = document.clone();
    let wrong_key = sign(&mut document, "acme", &secret(2));
    assert!(matches!(&wrong_key, Err(SignError::WrongKey { expected, given, .. })
            if (*expected, *given) == (public(1), public(2))));
    let unknown = sign(&mut document, "dakar", &secret(1)).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "not signed: the genesis has no organisation \"dakar\"; it has: acme, borealis, cusco"
    );
    assert_eq!(document, before);
    document.membership.nodes.clear();
    assert!(matches!(
        sign(&mut document, "acme", &secret(1)),
        Err(SignError::Unsound(_))
    ));
    assert!(document.approvals.is_empty());
}

#[test]
fn signing_twice_changes_nothing() {
    let mut document = signed();
    sign(&mut document, "cusco", &secret(3)).unwrap();
    assert_eq!(document, signed());
}

#[test]
fn copies_that_were_signed_apart_are_put_together() {
    let copies = [(1, "acme"), (2, "borealis"), (3, "cusco")].map(|(number, name)| {
        let mut copy = unsigned();
        sign(&mut copy, name, &secret(number)).unwrap();
        copy
    });
    let mut whole = unsigned();
    // A damaged signature gives way to a good one, and does not take its place.
    whole.approvals = copies[1].approvals.clone();
    whole.approvals[0].signature = copies[0].approvals[0].signature;
    let damaged = whole.clone();
    for copy in &copies {
        assert_eq!(ceremony::merge(&mut whole, copy), Ok(1));
        assert_eq!(ceremony::merge(&mut whole, copy), Ok(0));
    }
    assert_eq!(ceremony::merge(&mut whole, &damaged), Ok(0));
    assert_eq!(whole, signed());
    let mut nobody = unsigned();
    assert_eq!(ceremony::merge(&mut nobody, &damaged), Ok(0));
    assert_eq!(nobody, unsigned());
}

#[test]
fn copies_that_differ_are_not_put_together() {
    let mut edited = signed();
    edited.name = "alps".to_owned();
    let mut whole = unsigned();
    let error = ceremony::merge(&mut whole, &edited).unwrap_err();
    let ours = unsigned().validate().unwrap().network_id();
    assert!(matches!(error, MergeError::OtherNetwork { ours: found, .. } if found == ours));
    assert_eq!(whole, unsigned());
}

#[test]
fn a_development_network_is_complete() {
    let nodes: Vec<NodeFile> = (1..=3)
        .map(|number| node(&format!("node{number}"), 20 + number))
        .collect();
    let document = development::genesis("demo", TIME, &nodes, &secret(1), public(11)).unwrap();
    let genesis = require_complete(&document).unwrap();
    let membership = genesis.membership();
    let client = membership.member(&public(11)).unwrap();
    assert!(membership.may_write(client, &membership.namespaces[0].name));
    let slots: Vec<u32> = membership.voters().map(|node| node.slot.get()).collect();
    assert_eq!(slots, [1, 2, 3]);
}

#[test]
fn files_are_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("genesis.toml");
    std::fs::write(&path, "mine").unwrap();
    let error = unsigned().write(&path).unwrap_err().to_string();
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("genesis.toml");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(ceremony::read_complete(&path), Err(ReadError::File(_))));
    assert!(matches!(GenesisDocument::read(folder.path()), Err(ReadError::File(_))));
    assert!(matches!(
        GenesisDocument::read(&folder.path().join("none")),
        Err(ReadError::File(_))
    ));
}
