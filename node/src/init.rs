//! Keeps how a node's directory begins: its key, its incarnation, its configuration, and the public file for the
//! genesis.
//!
//! Invariant: nothing that exists is replaced. The incarnation is marked as used once a store was made under it, so an
//! emptied data directory is never taken for the one that promised something before.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quipu_crypto::id::Incarnation;
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_crypto::{key_file, random};
use quipu_genesis::NodeFile;
use serde::{Deserialize, Serialize};

use crate::config::{CONFIG_FILE, ConfigFile, DATA_DIR, KEY_FILE, PUBLIC_FILE};

/// Name of the file with the incarnation, in the data directory.
pub const INCARNATION_FILE: &str = "incarnation.toml";

/// What `init` is told.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The directory to make.
    pub dir: PathBuf,
    /// The node's name, unique in the network.
    pub name: String,
    /// `host:port` under which the others reach it.
    pub address: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Encrypts the key, if given.
    pub passphrase: Option<String>,
}

/// Why a directory could not be made, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a node already.
    #[error("{dir} holds a node already; nothing was changed. Choose another directory")]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No key could be drawn or written.
    #[error(transparent)]
    Key(#[from] key_file::KeyFileError),
    /// The system gave no randomness.
    #[error("the system gave no randomness: {0}")]
    Random(String),
    /// The public file could not be written.
    #[error("the public file could not be written: {0}")]
    Public(String),
    /// The incarnation cannot be read.
    #[error("{path} is not an incarnation file: {message}")]
    NotAnIncarnation {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The data directory was emptied, or never made by `init`.
    #[error(
        "{path} does not exist: this data directory was not made by `quipu-node init`, or was emptied. A node does not \
         begin again in an empty directory; make a new one with `quipu-node init` and have it added to the network"
    )]
    NoIncarnation {
        /// Which.
        path: PathBuf,
    },
}

/// The incarnation file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IncarnationFile {
    /// Version of this file.
    format: u32,
    /// Thirty-two hex digits.
    incarnation: String,
    /// Whether a store was made under it.
    used: bool,
}

/// Makes a node's directory and answers with its public half.
///
/// # Errors
/// [`InitError`]; an existing node is left as it is.
pub fn init(wish: &Wish) -> Result<NodeFile, InitError> {
    let Wish {
        dir,
        name,
        address,
        listen,
        passphrase,
    } = wish;
    if dir.join(CONFIG_FILE).exists() || dir.join(KEY_FILE).exists() || dir.join(DATA_DIR).exists() {
        return Err(InitError::Exists { dir: dir.clone() });
    }
    let data = dir.join(DATA_DIR);
    fs::create_dir_all(&data).map_err(|source| InitError::File {
        path: data.clone(),
        source,
    })?;
    let key = SecretKey::generate().map_err(|error| InitError::Random(error.to_string()))?;
    let incarnation = Incarnation(random::bytes().map_err(|error| InitError::Random(error.to_string()))?);
    key_file::write(&dir.join(KEY_FILE), &key, passphrase.as_deref())?;
    write_incarnation(&data, incarnation, false)?;
    let public = public_half(name, address, key.public(), incarnation);
    public
        .write(&dir.join(PUBLIC_FILE))
        .map_err(|error| InitError::Public(error.to_string()))?;
    let config = dir.join(CONFIG_FILE);
    write_new(&config, &ConfigFile::new(*listen).to_toml())?;
    sync_dir(dir)?;
    Ok(public)
}

fn public_half(name: &str, address: &str, key: PublicKey, incarnation: Incarnation) -> NodeFile {
    NodeFile {
        name: name.to_owned(),
        key,
        incarnation,
        address: address.to_owned(),
    }
}

/// The incarnation of a data directory, and whether a store was made under it.
///
/// # Errors
/// Where there is none: the directory is not that of a node, or was emptied.
pub fn read_incarnation(data: &Path) -> Result<(Incarnation, bool), InitError> {
    let path = data.join(INCARNATION_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(InitError::NoIncarnation { path }),
        Err(source) => return Err(InitError::File { path, source }),
    };
    let not = |message: String| InitError::NotAnIncarnation {
        path: path.clone(),
        message,
    };
    let file: IncarnationFile = toml::from_str(&text).map_err(|error| not(error.to_string()))?;
    if file.format != 1 {
        return Err(not(format!("format {} is not known here", file.format)));
    }
    let mut bytes = [0; 16];
    hex::decode_to_slice(&file.incarnation, &mut bytes).map_err(|error| not(error.to_string()))?;
    Ok((Incarnation(bytes), file.used))
}

/// Marks the incarnation as used: from now on a missing store is a lost one.
///
/// # Errors
/// Where the file cannot be written.
pub fn mark_used(data: &Path, incarnation: Incarnation) -> Result<(), InitError> {
    write_incarnation(data, incarnation, true)
}

fn write_incarnation(data: &Path, incarnation: Incarnation, used: bool) -> Result<(), InitError> {
    let file = IncarnationFile {
        format: 1,
        incarnation: incarnation.to_string(),
        used,
    };
    let text = toml::to_string(&file).unwrap_or_default();
    let path = data.join(INCARNATION_FILE);
    let draft = data.join("incarnation.toml.new");
    let failed = |source| InitError::File {
        path: path.clone(),
        source,
    };
    let mut written = File::create(&draft).map_err(failed)?;
    written
        .write_all(text.as_bytes())
        .and_then(|()| written.sync_all())
        .map_err(failed)?;
    fs::rename(&draft, &path).map_err(failed)?;
    sync_dir(data)
}

fn write_new(path: &Path, text: &str) -> Result<(), InitError> {
    let failed = |source| InitError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

fn sync_dir(dir: &Path) -> Result<(), InitError> {
    let failed = |source| InitError::File {
        path: dir.to_owned(),
        source,
    };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
