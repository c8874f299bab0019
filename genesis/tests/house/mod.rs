//! Builds small networks for the other tests: fixed keys, fixed times.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each file takes what it needs")]

use quipu_crypto::id::{Incarnation, TimeMs};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_genesis::ceremony::{assemble, default_parameters, sign};
use quipu_genesis::text::read_grant;
use quipu_genesis::{GenesisDocument, NodeFile, OrganisationFile};
use quipu_ledger::membership::{NamespaceRights, NodeRole};
use quipu_ledger::operation::Namespace;

/// 2026-11-23T12:00:00Z.
pub(crate) const TIME: TimeMs = TimeMs(1_795_435_200_000);

pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub(crate) fn public(number: u8) -> PublicKey {
    secret(number).public()
}

pub(crate) fn node(name: &str, number: u8) -> NodeFile {
    NodeFile {
        name: name.to_owned(),
        key: public(number),
        incarnation: Incarnation([number; 16]),
        address: format!("{name}.example.org:7400"),
    }
}

pub(crate) fn namespace(name: &str, writers: &[&str]) -> NamespaceRights {
    let writers = writers.iter().map(|text| read_grant(text).unwrap()).collect();
    NamespaceRights {
        name: Namespace::new(name).unwrap(),
        writers,
    }
}

/// Keys 1 to 3 are the administrators', 11 to 13 the members', 21 to 24 the nodes'.
pub(crate) fn organisations() -> Vec<OrganisationFile> {
    let acme = OrganisationFile::new("acme", public(1))
        .with_member("clerk", public(11), &["writer", "auditor"])
        .with_node(node("alpha", 21), NodeRole::Voter)
        .with_node(node("delta", 24), NodeRole::Learner);
    let borealis = OrganisationFile::new("borealis", public(2))
        .with_member("importer", public(12), &["writer"])
        .with_node(node("beta", 22), NodeRole::Voter);
    let cusco = OrganisationFile::new("cusco", public(3))
        .with_member("reader", public(13), &[])
        .with_node(node("gamma", 23), NodeRole::Voter);
    vec![acme, borealis, cusco]
}

/// Three organisations, four nodes, nobody has signed.
pub(crate) fn unsigned() -> GenesisDocument {
    let namespaces = vec![
        namespace("prices", &["role:writer", "member:reader"]),
        namespace("archive", &["organisation:borealis"]),
        namespace("board", &["everyone"]),
    ];
    assemble("andes", TIME, &organisations(), namespaces, default_parameters(3))
}

/// The same, signed by all.
pub(crate) fn signed() -> GenesisDocument {
    let mut document = unsigned();
    for (number, name) in [(1, "acme"), (2, "borealis"), (3, "cusco")] {
        sign(&mut document, name, &secret(number)).unwrap();
    }
    document
}
