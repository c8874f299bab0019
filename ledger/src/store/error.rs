//! Keeps what can go wrong with a store: when it is opened or made ([`OpenError`]), when it is used ([`StoreError`]).
//!
//! Invariant: an error names the height or the record that it is about, and both values where two should be equal.

use std::path::PathBuf;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height};

use crate::block::BlockError;
use crate::codec::DecodeError;

/// Why a store was not opened, or not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// There is no store, or one whose making was cut short.
    #[error("there is no store in {}", dir.display())]
    NoStore {
        /// The directory.
        dir: PathBuf,
    },
    /// There is one already.
    #[error("there is a store in {} already", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// It was written by another generation of this program.
    #[error("the store in {} has format {found}, this program reads format {known}", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// The version that it has.
        found: u32,
        /// The version that this program reads and writes.
        known: u32,
    },
    /// It opened, but holds something that it cannot hold.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A write failed before: nobody knows what is on disk, so nothing is written any more.
    #[error("the store refuses writes since one failed: {0}")]
    Poisoned(String),
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// An executor of this store exists already.
    #[error("the store has an executor already")]
    ExecutorExists,
    /// A block was to be appended that does not follow on the tip. The store is poisoned by it.
    #[error("block {block} does not follow on the tip {tip}")]
    NotNext {
        /// The block.
        block: BlockId,
        /// The tip.
        tip: BlockId,
    },
    /// A block was to be written back that is not the one that stands there. The store is poisoned by it.
    #[error("block {block} is not the one to write back: the chain has {expected:?} there")]
    NotRestorable {
        /// The block.
        block: BlockId,
        /// What the chain names at its height, where it names any.
        expected: Option<Hash>,
    },
    /// Blocks were to be cut off that are executed, or do not exist. The store is poisoned by it.
    #[error("cannot truncate from {from}: executed to {executed}, tip {tip}")]
    Truncation {
        /// First height to be cut off.
        from: Height,
        /// Last executed height.
        executed: Height,
        /// The tip.
        tip: BlockId,
    },
    /// A block was to be executed that is not the next one, or not in the log.
    #[error("block {block} is not the next to execute, or not in the log: executed to {executed}")]
    NotExecutable {
        /// The block.
        block: BlockId,
        /// The last executed block.
        executed: BlockId,
    },
    /// A block is damaged or missing.
    #[error("block {height} is damaged: {damage}")]
    DamagedBlock {
        /// Its height.
        height: Height,
        /// How.
        damage: BlockDamage,
    },
    /// A record is damaged or missing.
    #[error("record {key} in {family} is damaged: {error}")]
    DamagedRecord {
        /// Name of the column family.
        family: &'static str,
        /// The key, escaped.
        key: String,
        /// How.
        error: RecordDamage,
    },
    /// The database answered with an error.
    #[error("the database failed: {0}")]
    Database(String),
    /// The operating system answered with an error.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The answer.
        error: String,
    },
}

/// How a block is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockDamage {
    /// The database cannot read one of its records.
    #[error("the database cannot read it: {0}")]
    Unreadable(String),
    /// Its header's record cannot be read.
    #[error("the header's record is {0}")]
    Record(DecodeError),
    /// The stored hash is not that of the stored header.
    #[error("the header does not have the hash that is stored with it")]
    Hash,
    /// The header is of another height.
    #[error("the header is that of block {0}")]
    Height(Height),
    /// There is a header but no body.
    #[error("its body is missing")]
    NoBody,
    /// There is a body but no header, or a gap below the tip.
    #[error("its header is missing")]
    NoHeader,
    /// Header and body are not a block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// It does not follow on the block below it.
    #[error("it does not name the block below it")]
    Chain,
}

/// How a record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordDamage {
    /// Its bytes are not valid.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// There is none.
    #[error("it is missing")]
    Missing,
    /// It points to a transaction or an operation that is not there.
    #[error("it points to what is not there")]
    Dangling,
}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> Self {
        Self::Database(error.into_string())
    }
}
