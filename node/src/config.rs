//! Keeps the node's configuration: a TOML file beside the node's key, every field checked before anything starts.
//!
//! Order: flag, environment, file, default. Unknown fields are errors: a mistyped name must not be ignored.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quipu_ledger::limits::MIN_FREE_BYTES;
use quipu_ledger::store::StoreOptions;
use serde::{Deserialize, Serialize};

use crate::scrub::Pace;

/// Name of the configuration in a node's directory.
pub const CONFIG_FILE: &str = "node.toml";
/// Name of the node's key.
pub const KEY_FILE: &str = "node.key";
/// Name of the network's genesis.
pub const GENESIS_FILE: &str = "genesis.toml";
/// Name of the directory with the chain.
pub const DATA_DIR: &str = "data";
/// Name of the node's public half, for the genesis.
pub const PUBLIC_FILE: &str = "node.pub.toml";
/// Longest configuration file, bytes.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;
const MIB: usize = 1024 * 1024;

/// `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// UDP address to listen on for peers and clients.
    pub listen: SocketAddr,
    /// Log filter, as in `RUST_LOG`.
    #[serde(default = "default_log")]
    pub log: String,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Most connections of clients at a time.
    #[serde(default = "default_max_clients")]
    pub max_clients: usize,
    /// Memory.
    #[serde(default)]
    pub memory: Memory,
    /// The disk under the store.
    #[serde(default)]
    pub disk: Disk,
    /// How blocks are executed.
    #[serde(default)]
    pub execution: Execution,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// How much memory the store may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// For blocks of tables, MiB.
    pub cache_mib: usize,
    /// For what is not yet in a table, MiB.
    pub write_buffers_mib: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            cache_mib: 128,
            write_buffers_mib: 128,
        }
    }
}

/// How the disk is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// With less free space than this the node takes no blocks and does not lead, MiB. What is in memory must still fit
    /// when it is written, so it should not be less than `memory.write_buffers_mib`; 0 switches the floor off.
    pub min_free_mib: u64,
    /// How fast all stored blocks are read again in search of damage, MiB a second; 0 switches it off.
    pub scrub_mib_per_second: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            min_free_mib: MIN_FREE_BYTES >> 20,
            scrub_mib_per_second: 4,
        }
    }
}

/// How blocks are executed. Nodes need not agree on it: the outcome is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// Threads that execute a block together; 1: in order, without any; 0: one for every two cores.
    pub threads: usize,
}

fn default_log() -> String {
    "info".to_owned()
}

fn default_max_clients() -> usize {
    1024
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The directory is not a node's.
    #[error("{dir} is not a node's directory: it has no {CONFIG_FILE}; make one with `quipu-node init`")]
    NoConfig {
        /// The directory.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is far too long.
    #[error("{path} has {length} bytes, a configuration has at most {MAX_CONFIG_BYTES}")]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// A field is wrong.
    #[error("{path}: {message}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
}

impl ConfigFile {
    /// The usual configuration for an address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            log: default_log(),
            log_format: LogFormat::default(),
            max_clients: default_max_clients(),
            memory: Memory::default(),
            disk: Disk::default(),
            execution: Execution::default(),
        }
    }

    /// Bytes that must be free.
    #[must_use]
    pub const fn min_free(&self) -> u64 {
        self.disk.min_free_mib << 20
    }

    /// How fast the scrubber may go.
    #[must_use]
    pub const fn scrub(&self) -> Pace {
        Pace::of(self.disk.scrub_mib_per_second << 20)
    }

    /// Reads and checks the configuration in a node's directory.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and the field.
    pub fn read(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(CONFIG_FILE);
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => ConfigError::NoConfig { dir: dir.to_owned() },
            _ => ConfigError::Read {
                path: path.clone(),
                source,
            },
        };
        let length = std::fs::metadata(&path).map_err(failed)?.len();
        if length > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { path, length });
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        let invalid = |message: String| ConfigError::Invalid {
            path: path.clone(),
            message,
        };
        let config: Self = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The file's text.
    ///
    /// # Panics
    /// Never: every field has a TOML form.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let body = toml::to_string(self).unwrap_or_default();
        format!(
            "# Configuration of a Quipu node. `quipu-node config check` reads it without starting anything.\n{body}"
        )
    }

    /// How the store is tuned.
    #[must_use]
    pub fn store(&self) -> StoreOptions {
        StoreOptions {
            block_cache: self.memory.cache_mib.saturating_mul(MIB),
            write_buffers: self.memory.write_buffers_mib.saturating_mul(MIB),
            ..StoreOptions::default()
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.max_clients == 0 {
            return Err("max_clients: 0 clients could connect; give at least 1".to_owned());
        }
        if !(8..=1024 * 1024).contains(&self.memory.cache_mib) {
            return Err("memory.cache_mib: give 8 to 1048576".to_owned());
        }
        if !(8..=1024 * 1024).contains(&self.memory.write_buffers_mib) {
            return Err("memory.write_buffers_mib: give 8 to 1048576".to_owned());
        }
        if self.disk.min_free_mib > 1024 * 1024 {
            return Err("disk.min_free_mib: give 0 to 1048576".to_owned());
        }
        if self.disk.scrub_mib_per_second > 1024 * 1024 {
            return Err("disk.scrub_mib_per_second: give 0 to 1048576".to_owned());
        }
        if self.execution.threads > 256 {
            return Err("execution.threads: give 1 to 256, or 0 for one for every two cores".to_owned());
        }
        tracing_subscriber::EnvFilter::try_new(&self.log).map_err(|error| format!("log: {error}"))?;
        Ok(())
    }
}
