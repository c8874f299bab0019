//! Keeps what each party hands over in the ceremony: the public file of a node, and that of an organisation.
//!
//! Invariants: no secret is ever in them; each party writes its own file alone, and what is wrong in it is found at its
//! own desk ([`OrganisationFile::check`]), before others build on it.

use std::path::Path;

use quipu_crypto::id::{Incarnation, Slot};
use quipu_crypto::key::PublicKey;
use quipu_ledger::membership::{Member, Node, NodeRole};

use crate::document::ReadError;
use crate::fields::{self, Fields};
use crate::file::{self, FileError};
use crate::finding::{Collector, Finding, Findings, Place};
use crate::rules::Rules;
use crate::{entries, writer};

/// The public half of a node, as `quipu-node init` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// What it is called, unique in the network.
    pub name: String,
    /// Its signing and transport key.
    pub key: PublicKey,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// `host:port` of its QUIC endpoint, as others reach it.
    pub address: String,
}

/// What one organisation brings to the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganisationFile {
    /// Its name, unique in the network.
    pub name: String,
    /// The key of its administrator, who will sign the genesis.
    pub key: PublicKey,
    /// Who may send transactions on its behalf; their `organisation` is this one's name.
    pub members: Vec<Member>,
    /// Its nodes, and whether each votes.
    pub nodes: Vec<(NodeFile, NodeRole)>,
}

impl NodeFile {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`ReadError`] where it is not a sound node file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        ReadError::reading(path, Self::parse)
    }

    /// Reads a node file from its text and checks it.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Findings> {
        let mut findings = Collector::default();
        let mut top = Fields::new(Place::top(), fields::parse(text)?, &mut findings);
        top.format()?;
        let file = Self::identity(&mut top);
        top.finish();
        findings.add_elsewhere(file.check());
        Findings::none_or(findings.into_vec(), file)
    }

    fn identity(fields: &mut Fields<'_>) -> Self {
        Self {
            name: entries::name(fields),
            key: entries::key(fields),
            incarnation: entries::incarnation(fields),
            address: entries::address(fields),
        }
    }

    /// What is wrong with the entries themselves.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut rules = Rules::of("");
        let node = self.node(Slot::ZERO, "", NodeRole::Voter);
        rules.node(&Place::top(), &node);
        rules.findings.into_vec()
    }

    /// The node as a membership lists it.
    pub(crate) fn node(&self, slot: Slot, organisation: &str, role: NodeRole) -> Node {
        Node {
            slot,
            name: self.name.clone(),
            organisation: organisation.to_owned(),
            key: self.key,
            incarnation: self.incarnation,
            address: self.address.clone(),
            role,
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        writer::node(self)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// Where there is a file already, or the system fails.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::create(path, &self.to_toml())
    }
}

impl OrganisationFile {
    /// An organisation that brings only its administrator so far.
    #[must_use]
    pub fn new(name: impl Into<String>, key: PublicKey) -> Self {
        Self {
            name: name.into(),
            key,
            members: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Adds a member with its roles.
    #[must_use]
    pub fn with_member(mut self, name: impl Into<String>, key: PublicKey, roles: &[&str]) -> Self {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        self.members.push(Member {
            key,
            name: name.into(),
            organisation: self.name.clone(),
            roles,
        });
        self
    }

    /// Adds a node.
    #[must_use]
    pub fn with_node(mut self, node: NodeFile, role: NodeRole) -> Self {
        self.nodes.push((node, role));
        self
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`ReadError`] where it is not a sound organisation file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        ReadError::reading(path, Self::parse)
    }

    /// Reads an organisation file from its text and checks it.
    ///
    /// # Errors
    /// All that is wrong in it.
    pub fn parse(text: &str) -> Result<Self, Findings> {
        let mut findings = Collector::default();
        let mut top = Fields::new(Place::top(), fields::parse(text)?, &mut findings);
        top.format()?;
        let name = entries::name(&mut top);
        let file = Self {
            key: entries::key(&mut top),
            members: top.tables("member", |_, fields| entries::member_of(&name, fields)),
            nodes: top.tables("node", |_, fields| {
                (NodeFile::identity(fields), entries::node_role(fields))
            }),
            name,
        };
        top.finish();
        findings.add_elsewhere(file.check());
        Findings::none_or(findings.into_vec(), file)
    }

    /// What is wrong with the entries themselves. Whether they fit those of others shows when the genesis is assembled.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut rules = Rules::of(&self.name);
        rules.name(&Place::top(), &self.name);
        rules.key(&Place::top(), self.key);
        rules.members(&self.members);
        rules.nodes(&self.nodes_from(Slot::ZERO));
        rules.findings.into_vec()
    }

    /// Its nodes in slots from `first` on.
    pub(crate) fn nodes_from(&self, first: Slot) -> Vec<Node> {
        let slots = std::iter::successors(Some(first), |slot| Some(slot.next()));
        self.nodes
            .iter()
            .zip(slots)
            .map(|((node, role), slot)| node.node(slot, &self.name, *role))
            .collect()
    }

    /// The text of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        writer::organisation(self)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// Where there is a file already, or the system fails.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::create(path, &self.to_toml())
    }
}
