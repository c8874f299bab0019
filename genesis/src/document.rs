//! Keeps the genesis as people read and sign it: a TOML file. It is a presentation; what counts is the [`Genesis`] that
//! it yields, so order, comments and spacing of the file mean nothing.
//!
//! Invariants: [`GenesisDocument::parse`] reads what [`GenesisDocument::to_toml`] writes as the same document; a field
//! that nothing reads is refused, never ignored. Leaves to `rules` whether the entries fit together, to `ceremony`
//! whether they are signed.

use std::path::{Path, PathBuf};

use quipu_crypto::id::{NetworkId, TimeMs};
use quipu_crypto::signature::Signature;
use quipu_ledger::membership::Membership;

use crate::fields::{self, Fields};
use crate::file::{self, FileError};
use crate::finding::{Collector, Finding, Findings, Place};
use crate::genesis::Genesis;
use crate::{entries, rules, text, writer};

/// The only format of the files so far.
pub const FORMAT: u32 = 1;

/// A genesis file: the definition of a network and the signatures under it. May be incomplete or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisDocument {
    /// What the network is called.
    pub name: String,
    /// The time of block 0: no block has an earlier one.
    pub time: TimeMs,
    /// Who takes part under which rules, in the order of the file. `outgoing` stays empty.
    pub membership: Membership,
    /// What the organisations have signed so far.
    pub approvals: Vec<Approval>,
}

/// An organisation's signature under a genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who signed.
    pub organisation: String,
    /// What: tells a signature over an earlier text of the file from a wrong one.
    pub network: NetworkId,
    /// The signature of the organisation's key, see [`crate::ceremony::approval_hash`].
    pub signature: Signature,
}

/// Why a file of the ceremony was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not even its text.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its text does not say what it should.
    #[error("{}:\n{findings}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        findings: Findings,
    },
}

impl ReadError {
    /// Reads `path` with `parse`.
    pub(crate) fn reading<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Findings>) -> Result<T, Self> {
        parse(&file::read(path)?).map_err(|findings| Self::Content {
            path: path.to_owned(),
            findings,
        })
    }
}

impl GenesisDocument {
    /// Reads the file `path`. What it says may still be wrong or unsigned: see [`crate::ceremony`].
    ///
    /// # Errors
    /// [`ReadError`] where the file cannot be read as a genesis.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        ReadError::reading(path, Self::parse)
    }

    /// Reads a document from its text.
    ///
    /// # Errors
    /// Where a field is missing, unknown or unreadable: all such findings, and with them those that
    /// [`Self::validate`] would have on the rest.
    pub fn parse(text: &str) -> Result<Self, Findings> {
        let mut findings = Collector::default();
        let mut top = Fields::new(Place::top(), fields::parse(text)?, &mut findings);
        top.format()?;
        let document = Self {
            name: top
                .text("name", "name = \"...\", what the network is called", |name| {
                    Ok(name.to_owned())
                })
                .unwrap_or_default(),
            time: top
                .text_or_plain("time", "time = \"2026-11-23T12:00:00Z\"", text::read_time)
                .unwrap_or_default(),
            membership: Membership {
                parameters: entries::parameters(&mut top),
                organisations: top.tables("organisation", entries::organisation),
                members: top.tables("member", entries::member),
                namespaces: top
                    .tables("namespace", entries::namespace)
                    .into_iter()
                    .flatten()
                    .collect(),
                nodes: top.tables("node", entries::node),
                outgoing: Vec::new(),
            },
            approvals: top.tables("approval", entries::approval),
        };
        top.finish();
        if !findings.is_empty() {
            findings.add_elsewhere(document.findings());
        }
        Findings::none_or(findings.into_vec(), document)
    }

    /// The text of the file, comments included.
    #[must_use]
    pub fn to_toml(&self) -> String {
        writer::genesis(self)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// Where there is a file already, or the system fails.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        file::create(path, &self.to_toml())
    }

    /// Writes the file in the place of the one that is there: after signing it, and after nothing else.
    ///
    /// # Errors
    /// Where the system fails; the file is then as it was.
    pub fn replace(&self, path: &Path) -> Result<(), FileError> {
        file::replace(path, &self.to_toml())
    }

    /// What is wrong with the definition itself; says nothing on signatures.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        rules::check(self)
    }

    /// A document that presents `genesis`, not yet signed.
    #[must_use]
    pub fn of(genesis: &Genesis) -> Self {
        Self {
            name: genesis.name().to_owned(),
            time: genesis.time(),
            membership: genesis.membership().clone(),
            approvals: Vec::new(),
        }
    }

    /// The genesis that this document presents, signed or not.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn validate(&self) -> Result<Genesis, Findings> {
        Genesis::new(self)
    }
}
