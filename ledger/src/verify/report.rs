//! Keeps what verification says: findings, the report, its progress, and why it could not begin.
//!
//! Invariant: codes never change once published; the sentences may. A finding names a height or a key wherever the
//! copy lets it.

use std::fmt;
use std::path::PathBuf;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::Height;

/// What is asked of a verification.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// A block that the copy must contain.
    pub expect: Option<(Height, Hash)>,
    /// Verification ends when it has found so much.
    pub max_findings: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            expect: None,
            max_findings: 100,
        }
    }
}

/// How far verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub step: Step,
    /// How many are done.
    pub done: u64,
    /// How many there are, as far as is known.
    pub total: u64,
}

/// What verification does at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checks and replays blocks.
    Blocks,
    /// Compares what follows from the chain with what is stored: counted in column families.
    Records,
}

/// What was found out about a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Height of the last block that was found good.
    pub height: Height,
    /// Its hash.
    pub tip: Hash,
    /// Transactions up to there.
    pub transactions: u64,
    /// Height that the copy has executed; zero where it has executed nothing.
    pub executed: Height,
    /// Height that the copy knows to be committed.
    pub committed: Height,
    /// Height of the newest certificate, if there is one.
    pub certified: Option<Height>,
    /// All that is wrong; chain before state, and by height or key within.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many blocks follow on the newest certified one.
    #[must_use]
    pub fn not_certified(&self) -> u64 {
        match self.certified {
            Some(certified) => self.height.since(certified),
            None => self.height.next().get(),
        }
    }

    /// How many blocks were checked as chain only: the copy has not executed them, so it has no state to compare.
    #[must_use]
    pub fn not_executed(&self) -> u64 {
        self.height.since(self.executed)
    }

    /// How many blocks the copy does not know to be committed; they may still be replaced.
    #[must_use]
    pub fn not_committed(&self) -> u64 {
        self.height.since(self.committed)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// Stable code: those of [`crate::rules::Fault::code`] and of [`Kind`].
    pub kind: &'static str,
    /// What is wrong, in a sentence.
    pub detail: String,
}

impl Finding {
    /// The height, where the finding is about a block.
    #[must_use]
    pub const fn height(&self) -> Option<Height> {
        match &self.place {
            Place::Height(height) => Some(*height),
            Place::Key(_) | Place::Copy => None,
        }
    }

    /// The key, where the finding is about a record.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match &self.place {
            Place::Key(key) => Some(key),
            Place::Height(_) | Place::Copy => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Height(height) => write!(f, "block {height}: {}", self.detail),
            Place::Key(key) => write!(f, "{key}: {}", self.detail),
            Place::Copy => f.write_str(&self.detail),
        }
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A block, or the results of one.
    Height(Height),
    /// A record: `namespace/key` of the state, the id of a transaction, or `meta/` and a name.
    Key(String),
    /// The copy as a whole.
    Copy,
}

/// Kinds of findings that are not a broken rule of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The copy is of another network than the genesis file.
    WrongNetwork,
    /// The genesis file is not the one that this network was made from.
    WrongGenesis,
    /// The copy's parts disagree about its end, or blocks are missing.
    Truncated,
    /// The copy ends before the expected block.
    Cut,
    /// The copy has another block in the place of the expected one.
    UnexpectedBlock,
    /// A header, a body or their bond is damaged.
    DamagedBlock,
    /// A header names another result than replaying gives.
    WrongExecuted,
    /// A record that follows from the chain is not there.
    MissingRecord,
    /// A record that does not follow from the chain.
    ExtraRecord,
    /// A record differs from what follows from the chain.
    ChangedRecord,
    /// A certificate beside the chain is not valid.
    WrongCertificate,
    /// The database cannot read its own files.
    DamagedDatabase,
}

impl Kind {
    /// Stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongNetwork => "other_network",
            Self::WrongGenesis => "wrong_genesis",
            Self::Truncated => "truncated",
            Self::Cut => "cut",
            Self::UnexpectedBlock => "unexpected_block",
            Self::DamagedBlock => "damaged_block",
            Self::WrongExecuted => "wrong_executed",
            Self::MissingRecord => "missing_record",
            Self::ExtraRecord => "extra_record",
            Self::ChangedRecord => "changed_record",
            Self::WrongCertificate => "wrong_stored_certificate",
            Self::DamagedDatabase => "damaged_database",
        }
    }

    pub(super) fn at_height(self, height: Height, detail: impl Into<String>) -> Finding {
        self.at(Place::Height(height), detail)
    }

    pub(super) fn at_key(self, key: impl Into<String>, detail: impl Into<String>) -> Finding {
        self.at(Place::Key(key.into()), detail)
    }

    pub(super) fn at(self, place: Place, detail: impl Into<String>) -> Finding {
        Finding {
            place,
            kind: self.code(),
            detail: detail.into(),
        }
    }
}

/// Why a copy was not verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no data in the directory.
    #[error("{} is neither a node's directory nor its data directory", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// Reading is not allowed: says nothing about the copy.
    #[error("{} may not be read: {reason}", path.display())]
    Forbidden {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A node is running on it.
    #[error("{} is in use: stop the node first, or verify a copy", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The data are of another generation of this program.
    #[error("{} has format {found}, this program verifies format {known}", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// The version that it has.
        found: u32,
        /// The version that this program knows.
        known: u32,
    },
    /// The block given as block 0 is none.
    #[error("the genesis file makes no valid block 0: {0}")]
    Genesis(crate::rules::Fault),
    /// The scratch state could not be written: says nothing about the copy.
    #[error("the scratch directory cannot be used: {0}")]
    Scratch(String),
}
