//! Keeps how files of the ceremony are written: readable TOML, a comment for whoever opens it, one table after another.
//!
//! Invariant: the readers take every file that is written here as the same value. Why not a serialiser: comments, and
//! an order that follows the reader's questions.

use std::fmt::{Display, Write};

use quipu_ledger::membership::{Member, Node, NodeRole, Parameters};
use toml::Value;

use crate::document::{FORMAT, GenesisDocument};
use crate::parties::{NodeFile, OrganisationFile};
use crate::text;

const GENESIS: &str = "\
# The genesis of a Quipu ledger network: who takes part, under which rules. Public: it holds no secrets.
# The id of the network is a hash of what this file says; comments, spacing and the order of tables do not count.
# Each organisation reads it and signs it with `quipu genesis sign`; any other edit after that voids all signatures.
# `quipu genesis check` tells what is missing or wrong.
";

const ORGANISATION: &str = "\
# What one organisation brings to a Quipu ledger network: its administrator's key, its members, its nodes.
# Public: it holds no secrets. Hand it to whoever assembles the genesis (`quipu genesis new`).
";

const NODE: &str = "\
# The public half of a Quipu node, written by `quipu-node init`. It holds no secrets.
# Hand it to your organisation's administrator. The incarnation stands for the node's data directory.
";

/// Text of a file in the making. Writing into a `String` does not fail.
struct Writer(String);

impl Writer {
    fn new(comment: &str) -> Self {
        let mut writer = Self(comment.to_owned());
        writer.plain("format", FORMAT);
        writer
    }

    fn plain(&mut self, field: &str, value: impl Display) {
        let _ = writeln!(self.0, "{field} = {value}");
    }

    fn text(&mut self, field: &str, value: impl Display) {
        self.plain(field, Value::String(value.to_string()));
    }

    fn texts<T: Display>(&mut self, field: &str, values: impl IntoIterator<Item = T>) {
        let values = values
            .into_iter()
            .map(|value| Value::String(value.to_string()))
            .collect();
        self.plain(field, Value::Array(values));
    }

    fn table(&mut self, table: &str) {
        let _ = writeln!(self.0, "\n[{table}]");
    }

    fn entry(&mut self, table: &str) {
        let _ = writeln!(self.0, "\n[[{table}]]");
    }

    fn comment(&mut self, comment: &str) {
        let _ = write!(self.0, "\n# {comment}");
    }

    fn parameters(&mut self, parameters: &Parameters) {
        self.table("parameters");
        self.comment_line("longest time from a block to the expiry of a transaction in it");
        self.text("max_lifetime", text::write_lifetime(parameters.max_lifetime_ms));
        self.comment_line("whether voters sign commit certificates; without them the membership cannot change");
        self.plain("certificates", parameters.certificates);
        self.comment_line("how many organisations must sign a change of the membership");
        self.plain("approvals", parameters.approvals);
    }

    fn comment_line(&mut self, comment: &str) {
        let _ = writeln!(self.0, "# {comment}");
    }

    fn member(&mut self, member: &Member, organisation: Option<&str>) {
        self.entry("member");
        self.text("name", &member.name);
        if let Some(organisation) = organisation {
            self.text("organisation", organisation);
        }
        self.text("key", member.key);
        self.texts("roles", &member.roles);
    }

    fn node_identity(&mut self, node: &NodeFile) {
        self.text("name", &node.name);
        self.text("key", node.key);
        self.text("incarnation", node.incarnation);
        self.text("address", &node.address);
    }

    fn role(&mut self, role: NodeRole) {
        self.text("role", text::write_node_role(role));
    }

    fn node(&mut self, node: &Node) {
        self.entry("node");
        self.plain("slot", node.slot);
        self.text("name", &node.name);
        self.text("organisation", &node.organisation);
        self.text("key", node.key);
        self.text("incarnation", node.incarnation);
        self.text("address", &node.address);
        self.role(node.role);
    }
}

/// A genesis file.
pub(crate) fn genesis(document: &GenesisDocument) -> String {
    let mut writer = Writer::new(GENESIS);
    writer.text("name", &document.name);
    writer.text("time", text::write_time(document.time));
    writer.parameters(&document.membership.parameters);
    writer.comment("Organisations, each with the key of its administrator.");
    for organisation in &document.membership.organisations {
        writer.entry("organisation");
        writer.text("name", &organisation.name);
        writer.text("key", organisation.key);
    }
    writer.comment("Members may send transactions. Rights to write are given to roles, organisations or members.");
    for member in &document.membership.members {
        writer.member(member, Some(&member.organisation));
    }
    writer.comment("Namespaces, each with those who may write in it. Everyone in the network may read.");
    for namespace in &document.membership.namespaces {
        writer.entry("namespace");
        writer.text("name", &namespace.name);
        writer.texts("writers", namespace.writers.iter().map(text::write_grant));
    }
    writer.comment("Nodes. A slot is a node's number for ever; voters order and certify, learners follow.");
    for node in &document.membership.nodes {
        writer.node(node);
    }
    writer.comment("Signatures of the organisations; `network` is the id that was signed.");
    for approval in &document.approvals {
        writer.entry("approval");
        writer.text("organisation", &approval.organisation);
        writer.text("network", approval.network);
        writer.text("signature", approval.signature);
    }
    if document.approvals.is_empty() {
        writer.0.push('\n');
    }
    writer.0
}

/// An organisation file.
pub(crate) fn organisation(file: &OrganisationFile) -> String {
    let mut writer = Writer::new(ORGANISATION);
    writer.text("name", &file.name);
    writer.text("key", file.key);
    for member in &file.members {
        writer.member(member, None);
    }
    for (node, role) in &file.nodes {
        writer.entry("node");
        writer.node_identity(node);
        writer.role(*role);
    }
    writer.0
}

/// A node file.
pub(crate) fn node(file: &NodeFile) -> String {
    let mut writer = Writer::new(NODE);
    writer.node_identity(file);
    writer.0
}
