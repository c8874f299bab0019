//! Every rule of a sound definition, broken alone: one edit of a sound document, one finding.

mod house;

use house::{namespace, public, unsigned};
use quipu_crypto::id::{Slot, TimeMs};
use quipu_crypto::key::PublicKey;
use quipu_genesis::GenesisDocument;
use quipu_ledger::membership::{Member, NodeRole};

/// Edits a sound document and expects exactly these findings.
fn check(edit: impl FnOnce(&mut GenesisDocument), expected: &[&str]) {
    let mut document = unsigned();
    assert!(document.findings().is_empty());
    edit(&mut document);
    let found: Vec<String> = document.findings().iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    assert!(document.validate().is_err());
}

#[test]
fn names_have_few_letters_and_a_length() {
    let long = "a".repeat(65);
    let rule = "is not a name; a name has 1 to 64 of the letters a-z, 0-9, '-', '_', '.'";
    check(
        |document| document.name.clear(),
        &[&format!("top of the file, name: \"\" {rule}")],
    );
    check(
        |document| document.name = long,
        &[&format!("top of the file, name: \"{}…\" {rule}", "a".repeat(48))],
    );
    check(
        |document| document.membership.nodes[1].name = "ünter\n".to_owned(),
        &[&format!("[[node]] 2 \"ünter\\n\", name: \"ünter\\n\" {rule}")],
    );
}

#[test]
fn names_are_unique_in_their_table() {
    let rule = |table: &str, name: &str, first, second| {
        format!(
            "[[{table}]] {second} \"{name}\", name: is the same as that of [[{table}]] {first} \"{name}\", name; \
             give each its own"
        )
    };
    check(
        |document| document.membership.nodes[2].name = "alpha".to_owned(),
        &[&rule("node", "alpha", 1, 3)],
    );
    check(
        |document| document.membership.members[2].name = "clerk".to_owned(),
        &[
            &rule("member", "clerk", 1, 3),
            "[[namespace]] 1 \"prices\", writers: names the member \"reader\", \
             but there is no [[member]] of that name; \
         correct it or add one",
        ],
    );
    check(
        |document| document.membership.namespaces.push(namespace("board", &[])),
        &[&rule("namespace", "board", 3, 4)],
    );
    check(
        |document| {
            document
                .membership
                .organisations
                .push(document.membership.organisations[0].clone());
        },
        &[
            &rule("organisation", "acme", 1, 4),
            "[[organisation]] 4 \"acme\", key: is the same as that of [[organisation]] 1 \"acme\", key; \
             give each its own",
        ],
    );
}

#[test]
fn a_key_has_one_use() {
    check(
        |document| {
            document.membership.members[0].key = public(2);
            document.membership.nodes[0].key = public(12);
            document.membership.nodes[1].key = public(22);
        },
        &[
            "[[member]] 1 \"clerk\", key: is the same as that of [[organisation]] 2 \"borealis\", key; \
             give each its own",
            "[[node]] 1 \"alpha\", key: is the same as that of [[member]] 2 \"importer\", key; give each its own",
            "[[node]] 3 \"beta\", key: is the same as that of [[node]] 2 \"delta\", key; give each its own",
        ],
    );
}

#[test]
fn slots_incarnations_and_addresses_are_unique() {
    check(
        |document| {
            let first = document.membership.nodes[0].clone();
            let second = &mut document.membership.nodes[1];
            (second.slot, second.incarnation, second.address) = (first.slot, first.incarnation, first.address);
        },
        &["slot", "incarnation", "address"]
            .map(|field| {
                format!(
                    "[[node]] 2 \"delta\", {field}: is the same as that of [[node]] 1 \"alpha\", {field}; \
                 give each its own"
                )
            })
            .each_ref()
            .map(String::as_str),
    );
}

#[test]
fn keys_that_anyone_could_sign_for_are_refused() {
    let mut point = [0; 32];
    point[0] = 1;
    check(
        |document| document.membership.organisations[0].key = PublicKey::from_bytes(point),
        &[
            "[[organisation]] 1 \"acme\", key: this public key is of small order, so anyone could sign for it; \
           have its owner make a new key",
        ],
    );
    check(
        |document| document.membership.members[0].key = PublicKey::from_bytes([0xff; 32]),
        &[
            "[[member]] 1 \"clerk\", key: these 32 bytes are not an Ed25519 public key; \
             copy the key again from where it was made",
        ],
    );
}

#[test]
fn references_resolve() {
    check(
        |document| {
            document.membership.members[1].organisation = "dakar".to_owned();
            document.membership.nodes[3].organisation = "acme ".to_owned();
        },
        &[
            "[[member]] 2 \"importer\", organisation: names the organisation \"dakar\", \
             but there is no [[organisation]] of that name; correct it or add one",
            "[[node]] 4 \"gamma\", organisation: names the organisation \"acme \", \
             but there is no [[organisation]] of that name; correct it or add one",
        ],
    );
}

#[test]
fn lists_name_nothing_twice_and_are_not_too_long() {
    check(
        |document| document.membership.members[0].roles.push("writer".to_owned()),
        &["[[member]] 1 \"clerk\", roles: names \"writer\" twice; remove one"],
    );
    check(
        |document| document.membership.namespaces[2] = namespace("board", &["role:writer", "everyone", "role:writer"]),
        &["[[namespace]] 3 \"board\", writers: names \"role:writer\" twice; remove one"],
    );
    check(
        |document| document.membership.members[2].roles = (0..65).map(|number| format!("r{number}")).collect(),
        &["[[member]] 3 \"reader\", roles: there are 65, but at most 64 are allowed"],
    );
    check(
        |document| {
            let nodes = &mut document.membership.nodes;
            for number in 25_u8..=85 {
                let mut node = nodes[0].clone();
                node.slot = Slot(u32::from(number));
                node.name = format!("n{number}");
                node.key = public(number);
                node.incarnation.0 = [number; 16];
                node.address = format!("10.0.0.1:{}", 7000 + u16::from(number));
                nodes.push(node);
            }
        },
        &["top of the file, node: there are 65, but at most 64 are allowed"],
    );
}

#[test]
fn numbers_are_in_their_ranges() {
    check(
        |document| {
            document.time = TimeMs(0);
            document.membership.parameters.max_lifetime_ms = 9_999;
            document.membership.parameters.approvals = 4;
        },
        &[
            "top of the file, time: is 0, but must be from 1 to 253370764799999",
            "[parameters], max_lifetime: is 9999, but must be from 10000 to 86400000",
            "[parameters], approvals: is 4, but must be from 1 to 3",
        ],
    );
}

#[test]
fn someone_must_order() {
    check(
        |document| {
            document
                .membership
                .nodes
                .iter_mut()
                .for_each(|node| node.role = NodeRole::Learner);
        },
        &["top of the file, node: none has the role \"voter\"; a network needs at least one node that votes"],
    );
}

#[test]
fn what_does_not_fit_into_block_0_is_refused() {
    let mut document = unsigned();
    let roles: Vec<String> = (0..64).map(|number| format!("{number:0>64}")).collect();
    for number in 0_u16..250 {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number.to_le_bytes());
        document.membership.members.push(Member {
            key: quipu_crypto::key::SecretKey::from_seed(seed).public(),
            name: format!("m{number}"),
            organisation: "acme".to_owned(),
            roles: roles.clone(),
        });
    }
    assert!(document.findings().is_empty());
    let codes: Vec<_> = document
        .validate()
        .unwrap_err()
        .into_vec()
        .iter()
        .map(|found| found.problem.code())
        .collect();
    assert_eq!(codes, ["too_long"]);
}
