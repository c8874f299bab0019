//! Keeps how a node starts: configuration, genesis, store and engine are read and checked against each other, then the
//! threads are begun, the replica's loop among them.
//!
//! Invariants: nothing is deleted or repaired at start; the start counter is durable before the first message; a second
//! process on the same directory is refused.

pub mod restore;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::engine::Role;
use quipu_crypto::key::SecretKey;
use quipu_crypto::key_file;
use quipu_genesis::{Genesis, ceremony};
use quipu_ledger::membership::{Membership, Node};
use quipu_ledger::store::{Executor, LogChange, Store};
use tokio::sync::{mpsc, watch};

use self::restore::Restart;
use crate::admit::Admitter;
use crate::chain_block::ChainBlock;
use crate::client_protocol::{CloseCode, NodeStatus};
use crate::client_service::ClientService;
use crate::clock::Ticks;
use crate::config::{ConfigError, ConfigFile, DATA_DIR, GENESIS_FILE, KEY_FILE};
use crate::init::{self, InitError};
use crate::inspect::Inspector;
use crate::limits::{ADMISSION_QUEUE, EVENT_QUEUE, PEER_QUEUE};
use crate::network::{Directory, Network, NetworkError, NetworkSettings, PeerAddress};
use crate::replica::Replica;
use crate::run::{Hands, RunEvent, Runner};
use crate::status::SharedStatus;
use crate::verified::VerifiedMemory;
use crate::{executor, inspect_peers, log_writer};

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
    let start = store
        .start()
        .map_err(|error| failed(error.to_string()))?
        .saturating_add(1);
    store
        .write_log(&[LogChange::Start(start)], true)
        .map_err(|error| failed(error.to_string()))?;
    let executor = Executor::open(&store).map_err(|error| failed(error.to_string()))?;
    let ticks = Ticks::start();
    let restart = restore::read(
        &store,
        executor.executed(),
        &prepared.node,
        &prepared.key,
        start,
        ticks.now(),
    )
    .map_err(failed)?;
    let parts = Parts::begin(prepared, store.clone(), executor, restart, ticks)?;
    let ended = parts.serve(stop).await;
    // Derived records are written without a log of their own: on disk now, they need not be derived again at the start.
    store.flush().map_err(|error| failed(error.to_string()))?;
    drop(lock);
    ended
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

/// The running parts of a node.
struct Parts {
    network: Network,
    events: Sender<RunEvent>,
    runner: tokio::sync::oneshot::Receiver<Result<(), String>>,
    _directory: watch::Sender<Arc<Directory>>,
}

impl Parts {
    fn begin(
        prepared: Prepared,
        store: Store,
        executor: Executor,
        restart: Restart,
        ticks: Ticks,
    ) -> Result<Self, StartError> {
        let membership = Arc::clone(restart.beginning.tip.membership());
        let status = Arc::new(SharedStatus::new(
            first_status(&prepared, &restart),
            restart.beginning.executed_time,
        ));
        let verified = Arc::new(VerifiedMemory::default());
        let (events, run_queue) = crossbeam_channel::bounded(EVENT_QUEUE);
        let (admissions, admission_queue) = crossbeam_channel::bounded(ADMISSION_QUEUE);
        let (peer_events, peer_queue) = mpsc::channel(PEER_QUEUE);
        let (directory, directory_watch) = watch::channel(Arc::new(directory(&membership, &prepared.node)));
        let service = ClientService {
            store: store.clone(),
            admissions: admissions.clone(),
            events: events.clone(),
            status: Arc::clone(&status),
        };
        let settings = NetworkSettings {
            max_clients: prepared.config.max_clients,
            ..NetworkSettings::new(
                prepared.config.listen,
                prepared.node.slot,
                prepared.genesis.network_id(),
            )
        };
        let network = Network::start(settings, &prepared.key, directory_watch, peer_events, Arc::new(service))?;
        tracing::info!(node = prepared.node.name, slot = %prepared.node.slot, listen = %network.local_addr(),
            network = %prepared.genesis.network_id(), tip = %restart.beginning.tip.id(), "the node starts");

        let admitter = Admitter {
            store: store.clone(),
            membership: Arc::clone(&membership),
            status: Arc::clone(&status),
            verified: Arc::clone(&verified),
            events: events.clone(),
        };
        spawn("admit", move || admitter.run(&admission_queue));
        let (own_blocks, own_queue) = crossbeam_channel::unbounded::<ChainBlock>();
        let inspector = Inspector::new(
            prepared.node.slot,
            verified,
            Arc::clone(&restart.base),
            restart.blocks.into_iter(),
        );
        let inspected = events.clone();
        spawn("inspect", move || {
            inspect_peers::run(inspector, peer_queue, &own_queue, &inspected, &admissions)
        });

        let hands = Workers {
            store,
            executor,
            membership,
            status,
            events: events.clone(),
        }
        .begin(own_blocks, network.peers());
        let runner = Runner::new(prepared.node.slot, Replica::new(restart.beginning), ticks, hands);
        let (ended, runner_ended) = tokio::sync::oneshot::channel();
        spawn("replica", move || run_loop(runner, &run_queue, ended));
        Ok(Self {
            network,
            events,
            runner: runner_ended,
            _directory: directory,
        })
    }

    /// Serves until told to stop, or until the loop ends by itself.
    async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self {
            network,
            events,
            mut runner,
            _directory,
        } = self;
        let ended = tokio::select! {
            ended = &mut runner => ended,
            () = stop => {
                tracing::info!("the node stops: it hands over and ends");
                let told = events.send(RunEvent::Stop);
                if told.is_err() {
                    tracing::warn!("the loop has ended already");
                }
                (&mut runner).await
            }
        };
        network.close(CloseCode::Stopping).await;
        match ended {
            Ok(result) => result.map_err(StartError::Halted),
            Err(_) => Err(StartError::Halted(
                "the loop ended without a word; see the log".to_owned(),
            )),
        }
    }
}

fn run_loop(runner: Runner, events: &Receiver<RunEvent>, ended: tokio::sync::oneshot::Sender<Result<(), String>>) {
    let _nobody_waits = ended.send(runner.run(events));
}

/// What the threads behind the loop work with.
struct Workers {
    store: Store,
    executor: Executor,
    membership: Arc<Membership>,
    status: Arc<SharedStatus>,
    events: Sender<RunEvent>,
}

impl Workers {
    /// Begins the log writer, the executor and the fetcher. Their queues are bounded by what the engine lets be
    /// uncommitted, by `EXECUTION_QUEUE_BLOCKS` and by one question a peer.
    fn begin(self, own_blocks: Sender<ChainBlock>, peers: crate::network::Peers) -> Hands {
        let Self {
            store,
            executor,
            membership,
            status,
            events,
        } = self;
        let (log, log_queue) = crossbeam_channel::unbounded();
        let (executions, execution_queue) = crossbeam_channel::unbounded();
        let (fetcher, fetch_queue) = crossbeam_channel::unbounded();
        let (written, wrote) = (store.clone(), events.clone());
        spawn("log-writer", move || log_writer::run(&written, &log_queue, &wrote));
        let (stored, executed, shown) = (store.clone(), events.clone(), Arc::clone(&status));
        spawn("executor", move || {
            executor::run(executor, &stored, &membership, &execution_queue, &executed, &shown);
        });
        let fetched = store.clone();
        spawn("fetcher", move || executor::fetch(&fetched, &fetch_queue, &events));
        Hands {
            log,
            executor: executions,
            fetcher,
            own_blocks,
            peers,
            store,
            status,
        }
    }
}

/// Begins a thread of the node.
///
/// A system that cannot begin a thread at start-up cannot run the node: the process ends.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
        tracing::error!(name, %error, "a thread could not be started; the node stops");
        std::process::exit(1);
    }
}

fn directory(membership: &Membership, node: &Node) -> Directory {
    let peers = membership
        .nodes
        .iter()
        .chain(&membership.outgoing)
        .filter(|peer| peer.slot != node.slot);
    let admins = membership.organisations.iter().map(|organisation| organisation.key);
    Directory {
        peers: peers
            .map(|peer| PeerAddress {
                slot: peer.slot,
                key: peer.key,
                address: peer.address.clone(),
            })
            .collect(),
        members: membership
            .members
            .iter()
            .map(|member| member.key)
            .chain(admins)
            .collect(),
    }
}

fn first_status(prepared: &Prepared, restart: &Restart) -> NodeStatus {
    let engine = restart.beginning.engine.status();
    debug_assert_ne!(engine.role, Role::Leader, "nobody starts as a leader");
    NodeStatus {
        network: prepared.genesis.network_id(),
        slot: prepared.node.slot,
        name: prepared.node.name.clone(),
        role: "waiting".to_owned(),
        term: engine.term,
        leader: engine.leader,
        tip: engine.tip,
        commit: engine.commit.height,
        executed: restart
            .beginning
            .executed
            .values()
            .next_back()
            .copied()
            .unwrap_or_default(),
        waiting: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
