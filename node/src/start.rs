//! Keeps how a node starts: configuration, genesis, store and engine are read and checked against each other, then the
//! threads are begun, the replica's loop among them.
//!
//! Invariants: of what is stored only a damaged end of the chain is cut at start, above what is executed; the start
//! counter is durable before the first message; a second process on the same directory is refused.

mod kept;
mod parts;
pub mod restore;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use quipu_crypto::id::Height;
use quipu_crypto::key::SecretKey;
use quipu_crypto::key_file;
use quipu_genesis::{Genesis, ceremony};
use quipu_ledger::membership::Node;
use quipu_ledger::store::{Executor, LogChange, Store, StoreError, Workers};

use self::kept::Kept;
use self::parts::Parts;
use crate::clock::{SystemEntropy, Ticks};
use crate::config::{ConfigError, ConfigFile, DATA_DIR, GENESIS_FILE, KEY_FILE};
use crate::init::{self, InitError};
use crate::limits::ENGINE_SETTINGS;
use crate::network::NetworkError;
use crate::watermark::WatermarkError;

/// Name of the file that a running node holds a lock on.
const LOCK_FILE: &str = "LOCK";

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The key.
    #[error(transparent)]
    Key(#[from] key_file::KeyFileError),
    /// The genesis.
    #[error("{path}: {message}")]
    Genesis {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// This node's key is not in the genesis.
    #[error(
        "the key in {path} is not that of a node in the genesis; is this the directory of another network, or was the \
         key replaced?"
    )]
    NotInGenesis {
        /// The key file.
        path: PathBuf,
    },
    /// The directory is not the one that the genesis names.
    #[error(
        "the genesis names incarnation {expected} for node '{node}', this directory has {found}: it is another \
         directory than the one whose public file went into the genesis"
    )]
    WrongIncarnation {
        /// Name of the node.
        node: String,
        /// In the genesis.
        expected: String,
        /// Here.
        found: String,
    },
    /// Another process runs on the directory.
    #[error("{dir} is in use by another process; a directory serves one node at a time")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The chain was there once.
    #[error(
        "{data} has lost its chain, but its incarnation was used before. A node does not begin again under the same \
         incarnation; make a new directory with `quipu-node init` and have it added to the network"
    )]
    LostStore {
        /// The data directory.
        data: PathBuf,
    },
    /// The store has lost its end, and there is no other voter.
    #[error(
        "the store in {data} ends at block {tip}; {missing} blocks or more that this node had stored and acknowledged \
         are missing or damaged. It is the only voter, so no other node can bring them back. Nothing was changed. Put \
         back a copy of the directory that has them. To go on without them, knowing that acknowledged transactions \
         are lost, remove {watermark}"
    )]
    LostBlocks {
        /// The data directory.
        data: PathBuf,
        /// The last block that is left.
        tip: Height,
        /// How many are missing.
        missing: u64,
        /// The watermark file.
        watermark: PathBuf,
    },
    /// What is kept beside the store.
    #[error(transparent)]
    Watermark(#[from] WatermarkError),
    /// The store.
    #[error("the store in {data}: {message}")]
    Store {
        /// The data directory.
        data: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The node ran and halted.
    #[error("the node halted: {0}")]
    Halted(String),
}

/// Everything that a node's directory says, read and checked; nothing started.
pub struct Prepared {
    /// The directory.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: ConfigFile,
    /// The network.
    pub genesis: Genesis,
    /// This node in the genesis.
    pub node: Node,
    key: SecretKey,
}

/// Reads and checks a node's directory: what `config check` does.
///
/// # Errors
/// [`StartError`] says which file is wrong and what to do.
pub fn prepare(dir: &Path, passphrase: Option<&str>) -> Result<Prepared, StartError> {
    let config = ConfigFile::read(dir)?;
    let key_path = dir.join(KEY_FILE);
    let key = key_file::read(&key_path, passphrase)?;
    let genesis_path = dir.join(GENESIS_FILE);
    let genesis = ceremony::read_complete(&genesis_path).map_err(|error| StartError::Genesis {
        path: genesis_path,
        message: error.to_string(),
    })?;
    let node = genesis.membership().node_by_key(&key.public()).cloned();
    let node = node.ok_or(StartError::NotInGenesis { path: key_path })?;
    let (incarnation, _) = init::read_incarnation(&dir.join(DATA_DIR))?;
    if incarnation != node.incarnation {
        return Err(StartError::WrongIncarnation {
            node: node.name,
            expected: node.incarnation.to_string(),
            found: incarnation.to_string(),
        });
    }
    Ok(Prepared {
        dir: dir.to_owned(),
        config,
        genesis,
        node,
        key,
    })
}

/// Runs a node until `stop` resolves or it halts.
///
/// # Errors
/// [`StartError`]; after a halt the reason.
pub async fn run(prepared: Prepared, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let lock = lock(&prepared.dir)?;
    let data = prepared.dir.join(DATA_DIR);
    let store = open_store(&prepared, &data)?;
    let failed = |message: String| StartError::Store {
        data: data.clone(),
        message,
    };
    let wrong = |error: StoreError| failed(error.to_string());
    let starts = store.starts().map_err(wrong)?;
    let mut kept = Kept::read(&prepared, starts)?;
    restore_genesis(&prepared, &store).map_err(wrong)?;
    let workers = Workers::new(prepared.config.execution.threads).map_err(wrong)?;
    let executor = Executor::open_with(&store, workers).map_err(wrong)?;
    let ticks = Ticks::start();
    let begins = restore::Start {
        node: &prepared.node,
        key: &prepared.key,
        watermark: kept.watermark,
        settings: ENGINE_SETTINGS,
    };
    let restart =
        restore::read(&store, executor.executed(), &begins, ticks.now(), &mut SystemEntropy).map_err(failed)?;
    kept.compare(&prepared, &store, starts, &restart)?;
    if let Some(from) = restart.cut {
        tracing::error!(%from, "the chain is damaged there, above what is executed: it is cut, and fetched again");
        store.write_log(&[LogChange::Truncate { from }], true).map_err(wrong)?;
    }
    let parts = Parts::begin(&prepared, store.clone(), executor, restart, kept, ticks)?;
    let ended = parts.serve(stop).await;
    // Derived records are written without a log of their own: on disk now, they need not be derived again at the start.
    store.flush().map_err(|error| failed(error.to_string()))?;
    drop(lock);
    ended
}

/// Block 0 follows from the genesis file: where its copy is damaged no peer is needed.
fn restore_genesis(prepared: &Prepared, store: &Store) -> Result<(), StoreError> {
    if store.block(Height::ZERO).is_ok() {
        return Ok(());
    }
    tracing::error!("the stored copy of block 0 is damaged; it is made again from the genesis");
    store.write_log(&[LogChange::Restore(prepared.genesis.block())], true)
}

fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join(LOCK_FILE);
    let failed = |source| StartError::File {
        path: path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Opens the store, or makes it at the very first start.
fn open_store(prepared: &Prepared, data: &Path) -> Result<Store, StartError> {
    let failed = |message: String| StartError::Store {
        data: data.to_owned(),
        message,
    };
    let options = prepared.config.store();
    let network = prepared.genesis.network_id();
    let (incarnation, used) = init::read_incarnation(data)?;
    let exists = data.join("CURRENT").exists();
    if !exists && used {
        return Err(StartError::LostStore { data: data.to_owned() });
    }
    if used {
        kept::look_before_opening(prepared, data)?;
    }
    let store = if used {
        Store::open_with(data, &options).map_err(|error| failed(error.to_string()))?
    } else {
        match Store::create_with(data, network, &prepared.genesis.block(), incarnation, &options) {
            Err(quipu_ledger::store::OpenError::Exists { .. }) => Store::open_with(data, &options),
            other => other,
        }
        .map_err(|error| failed(error.to_string()))?
    };
    if store.network() != network {
        return Err(failed(format!(
            "it holds network {}, the genesis is that of {network}",
            store.network()
        )));
    }
    if store.incarnation() != incarnation {
        return Err(failed(format!(
            "it was made by incarnation {}, this is {incarnation}",
            store.incarnation()
        )));
    }
    if !used {
        init::mark_used(data, incarnation)?;
    }
    Ok(store)
}
