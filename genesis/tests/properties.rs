//! Properties of the genesis file: nothing in it makes a reader panic, everything in it enters the network id, and its
//! order does not.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code"
)]

mod house;

use std::collections::BTreeSet;

use house::{namespace, node, public, signed, unsigned};
use proptest::prelude::*;
use quipu_crypto::id::{NetworkId, TimeMs};
use quipu_genesis::ceremony::{assemble, check};
use quipu_genesis::{GenesisDocument, NodeFile, OrganisationFile};
use quipu_ledger::block::Block;
use quipu_ledger::membership::{NamespaceRights, NodeRole, Parameters};
use quipu_ledger::rules::ChainTip;

fn id(document: &GenesisDocument) -> NetworkId {
    document.validate().unwrap().network_id()
}

/// Whatever can be read can be checked, written and read again.
fn exercise(text: &str) {
    if let Ok(document) = GenesisDocument::parse(text) {
        let _ = check(&document);
        assert_eq!(GenesisDocument::parse(&document.to_toml()).as_ref(), Ok(&document));
        if let Ok(genesis) = document.validate() {
            assert!(ChainTip::genesis(&genesis.block()).is_ok());
        }
    }
    let _ = OrganisationFile::parse(text);
    let _ = NodeFile::parse(text);
}

/// Sound documents of every shape: organisations, members with roles, nodes, namespaces that name them.
fn sound() -> impl Strategy<Value = GenesisDocument> {
    let organisation = (0_usize..3, 0_usize..4, any::<bool>());
    let parameters = (10_000_u64..=86_400_000, any::<bool>());
    let grants = prop::collection::vec(prop::collection::vec(0_usize..4, 0..4), 0..4);
    let organisations = prop::collection::vec(organisation, 1..4);
    (
        organisations,
        grants,
        parameters,
        1_u64..=253_370_764_799_999,
        "[a-z0-9._-]{1,64}",
    )
        .prop_map(|(organisations, grants, (max_lifetime_ms, certificates), time, name)| {
            let mut number = 0_u8;
            let mut next = || {
                number += 1;
                number
            };
            let mut files = Vec::new();
            for (index, (nodes, members, votes)) in organisations.into_iter().enumerate() {
                let mut file = OrganisationFile::new(format!("o{index}"), public(next()));
                for place in 0..nodes + usize::from(index == 0) {
                    let votes = votes || (index, place) == (0, 0);
                    let role = if votes { NodeRole::Voter } else { NodeRole::Learner };
                    let number = next();
                    file = file.with_node(node(&format!("n{number}"), number), role);
                }
                for place in 0..members {
                    let number = next();
                    let roles: &[&str] = [["w", "a"].as_slice(), &["a"], &[]][place % 3];
                    file = file.with_member(format!("m{number}"), public(number), roles);
                }
                files.push(file);
            }
            let role = files
                .iter()
                .flat_map(|file| &file.members)
                .find(|member| member.roles.contains(&"w".to_owned()));
            let writers = |choices: Vec<usize>| {
                let choices: BTreeSet<usize> = choices.into_iter().collect();
                let member = role.map(|member| format!("member:{}", member.name));
                let texts = [
                    Some("everyone".to_owned()),
                    role.map(|_| "role:w".to_owned()),
                    Some("organisation:o0".to_owned()),
                    member,
                ];
                choices
                    .into_iter()
                    .rev()
                    .filter_map(|choice| texts[choice].clone())
                    .collect::<Vec<String>>()
            };
            let namespaces: Vec<NamespaceRights> = grants
                .into_iter()
                .enumerate()
                .map(|(index, choices)| {
                    let texts = writers(choices);
                    namespace(
                        &format!("s{index}"),
                        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
                    )
                })
                .collect();
            let parameters = Parameters {
                max_lifetime_ms,
                certificates,
                approvals: 1,
            };
            assemble(name, TimeMs(time), &files, namespaces, parameters)
        })
}

/// The tables of a file in another order, and the fields in each of them too.
fn shuffled(text: &str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut tables: Vec<Vec<String>> = Vec::new();
    for table in lines.chunk_by(|_, next| !next.starts_with('[')) {
        tables.push(table.iter().map(ToString::to_string).collect());
    }
    let top = tables.remove(0);
    let inner = |table: Vec<String>| {
        let (head, fields): (Vec<String>, Vec<String>) = table.into_iter().partition(|line| line.starts_with('['));
        Just(fields)
            .prop_shuffle()
            .prop_map(move |fields| [head.clone(), fields].concat().join("\n"))
    };
    let tables: Vec<_> = tables.into_iter().map(inner).collect();
    let tables = tables.prop_flat_map(|tables| Just(tables).prop_shuffle());
    (inner(top), tables).prop_map(|(top, tables)| format!("{top}\n{}\n", tables.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_text_never_panics(text in ".{0,400}") {
        exercise(&text);
    }

    #[test]
    fn random_toml_never_panics(lines in prop::collection::vec(
        "(\\[\\[|\\[)?(name|time|key|node|member|approval|parameters|format|roles|slot)(\\]\\]|\\])?( = .{0,30})?",
        0..30,
    )) {
        exercise(&lines.join("\n"));
    }

    #[test]
    fn mutated_files_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, any::<char>()), 1..6),
    ) {
        let mut letters: Vec<char> = signed().to_toml().chars().collect();
        for (index, kind, letter) in edits {
            let at = index.index(letters.len());
            match kind {
                0 => letters[at] = letter,
                1 => letters.insert(at, letter),
                2 => drop(letters.remove(at)),
                _ => letters.truncate(at.max(1)),
            }
        }
        exercise(&letters.into_iter().collect::<String>());
    }

    #[test]
    fn a_mutated_line_never_panics_and_never_passes_as_the_same(
        line in any::<prop::sample::Index>(),
        value in "[a-z0-9\"=\\[\\]: -]{0,20}",
    ) {
        let text = signed().to_toml();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        let at = line.index(lines.len());
        let (field, old) = lines[at].split_once(" = ").map_or(("", ""), |(field, old)| (field, old));
        prop_assume!(!field.is_empty() && !lines[at].starts_with('#') && value.trim() != old);
        lines[at] = format!("{field} = {value}");
        let text = lines.join("\n");
        exercise(&text);
        // No edit of one line leaves a signed file complete: it is unreadable, unsound or its signatures are void.
        if let Ok(document) = GenesisDocument::parse(&text) {
            prop_assert!(document == signed() || !check(&document).is_empty());
        }
    }

    #[test]
    fn a_document_survives_its_text_and_its_genesis(document in sound()) {
        let genesis = document.validate().unwrap();
        let read = GenesisDocument::parse(&document.to_toml()).unwrap();
        prop_assert_eq!(&read, &document);
        let again = GenesisDocument::of(&genesis);
        prop_assert_eq!(id(&again), genesis.network_id());
        let third = GenesisDocument::parse(&again.to_toml()).unwrap().validate().unwrap();
        prop_assert_eq!(&third, &genesis);
        let block = genesis.block();
        prop_assert_eq!(Block::decode(&block.encode()).unwrap(), block.clone());
        prop_assert!(ChainTip::genesis(&block).is_ok());
    }

    #[test]
    fn the_order_of_tables_and_fields_does_not_count(text in shuffled(&signed().to_toml())) {
        let document = GenesisDocument::parse(&text).unwrap();
        prop_assert_eq!(id(&document), id(&unsigned()));
        prop_assert!(check(&document).is_empty());
    }

    #[test]
    fn the_order_of_lists_does_not_count(
        roles in Just(vec!["writer", "auditor"]).prop_shuffle(),
        writers in Just(vec!["role:writer", "member:reader"]).prop_shuffle(),
    ) {
        let mut document = unsigned();
        document.membership.members[0].roles = roles.into_iter().map(ToOwned::to_owned).collect();
        document.membership.namespaces[0] = namespace("prices", &writers);
        prop_assert_eq!(id(&document), id(&unsigned()));
    }
}

#[test]
fn deep_nesting_is_an_error() {
    for open in ["[", "{a=", "[[", "{", "\"\"\"", "a."] {
        exercise(&format!("a = {}", open.repeat(200_000 / open.len())));
        exercise(&open.repeat(200_000 / open.len()));
    }
}

/// Another valid value for a field, as the file writes it.
fn other_value(field: &str, old: &str) -> String {
    match field {
        "max_lifetime" => "\"11min\"".to_owned(),
        "certificates" => "false".to_owned(),
        "approvals" => "3".to_owned(),
        "slot" => "77".to_owned(),
        "time" => "\"2026-11-23T12:00:00.001Z\"".to_owned(),
        "key" => format!("\"{}\"", public(99)),
        "incarnation" => format!("\"{}\"", "99".repeat(16)),
        "address" => "\"10.0.0.1:1\"".to_owned(),
        "role" if old == "\"voter\"" => "\"learner\"".to_owned(),
        "role" => "\"voter\"".to_owned(),
        "roles" if old == "[]" => "[\"auditor\"]".to_owned(),
        "roles" => "[\"writer\", \"other\"]".to_owned(),
        "writers" if old == "[\"everyone\"]" => "[]".to_owned(),
        "writers" => "[\"everyone\"]".to_owned(),
        "organisation" if old == "\"acme\"" => "\"cusco\"".to_owned(),
        "organisation" => "\"acme\"".to_owned(),
        _ => format!("\"x-{}\"", old.trim_matches('"')),
    }
}

#[test]
fn every_single_field_enters_the_network_id() {
    let mut document = unsigned();
    // Names are referred to, so that changing one alone is unsound: here nobody refers to any.
    document.membership.namespaces = vec![namespace("prices", &["role:writer"]), namespace("board", &["everyone"])];
    for name in ["quito", "dakar"] {
        document = with_idle_organisation(document, name);
    }
    let text = document.to_toml();
    let lines: Vec<&str> = text.lines().collect();
    let mut ids = BTreeSet::from([id(&document)]);
    let (mut edits, mut unsound) = (0, Vec::new());
    for (at, line) in lines.iter().enumerate() {
        let Some((field, old)) = line.split_once(" = ").filter(|(field, _)| !field.starts_with('#')) else {
            continue;
        };
        if field == "format" {
            continue;
        }
        let new = format!("{field} = {}", other_value(field, old));
        let mut edited = lines.clone();
        edited[at] = &new;
        let document = GenesisDocument::parse(&edited.join("\n")).unwrap();
        match document.validate() {
            Ok(genesis) => assert!(
                ids.insert(genesis.network_id()),
                "line {}: {new} changes nothing",
                at + 1
            ),
            Err(_) => unsound.push(old),
        }
        edits += 1;
    }
    // The three organisations that members and nodes refer to.
    assert_eq!(unsound, ["\"acme\"", "\"borealis\"", "\"cusco\""]);
    assert_eq!(edits, 2 + 3 + 5 * 2 + 3 * 4 + 2 * 2 + 4 * 7);
}

fn with_idle_organisation(mut document: GenesisDocument, name: &str) -> GenesisDocument {
    let number = u8::try_from(100 + document.membership.organisations.len()).unwrap();
    document
        .membership
        .organisations
        .push(quipu_ledger::membership::Organisation {
            name: name.to_owned(),
            key: public(number),
        });
    document
}

#[test]
fn every_table_enters_the_network_id() {
    let document = unsigned();
    let mut ids = BTreeSet::from([id(&document)]);
    let mut expect_other = |edit: &dyn Fn(&mut GenesisDocument)| {
        let mut edited = document.clone();
        edit(&mut edited);
        assert!(ids.insert(id(&edited)));
    };
    for index in 0..4 {
        expect_other(&|edited| drop(edited.membership.nodes.remove(index)));
    }
    for index in 0..3 {
        expect_other(&|edited| drop(edited.membership.namespaces.remove(index)));
    }
    expect_other(&|edited| drop(edited.membership.members.remove(0)));
}

#[test]
fn signatures_do_not_enter_the_network_id() {
    assert_eq!(id(&signed()), id(&unsigned()));
    assert_eq!(
        signed().validate().unwrap().block(),
        unsigned().validate().unwrap().block()
    );
}
