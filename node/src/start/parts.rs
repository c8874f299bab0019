//! Keeps the running parts of a node: network, admission, inspection, loop, log writer, executor; how they are begun
//! and how they end together.
//!
//! Invariant: every queue between them is bounded, by its capacity or by what the engine lets be under way.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use quipu_consensus::engine::Role;
use quipu_ledger::membership::{Membership, Node};
use quipu_ledger::store::{Executor, Store};
use tokio::sync::{mpsc, oneshot, watch};

use super::kept::Kept;
use super::restore::Restart;
use super::{Prepared, StartError};
use crate::admit::Admitter;
use crate::client_protocol::{ClockStatus, CloseCode, DiskStatus, NodeStatus};
use crate::client_service::ClientService;
use crate::clock::Ticks;
use crate::damage::Damages;
use crate::door::Door;
use crate::inspect::{Inspector, Known};
use crate::limits::{EVENT_QUEUE, PEER_QUEUE, REMEMBERED_BLOCKS};
use crate::log_writer::LogWriter;
use crate::network::{Directory, Network, NetworkError, NetworkSettings, PeerAddress, PeerEvent, Peers};
use crate::replica::Replica;
use crate::run::{Hands, RunEvent, Runner};
use crate::stages::Stages;
use crate::status::SharedStatus;
use crate::verified::VerifiedMemory;
use crate::watermark::WatermarkFile;
use crate::youngest::Youngest;
use crate::{executor, inspect_peers, scrub, space};

/// The running parts of a node.
pub(super) struct Parts {
    network: Network,
    events: Sender<RunEvent>,
    runner: oneshot::Receiver<Result<(), String>>,
    _directory: watch::Sender<Arc<Directory>>,
}

impl Parts {
    /// Begins everything; from now on the node takes part.
    pub(super) fn begin(
        prepared: &Prepared,
        store: Store,
        executor: Executor,
        restart: Restart,
        kept: Kept,
        ticks: Ticks,
    ) -> Result<Self, StartError> {
        let node = &prepared.node;
        let (events, run_queue) = crossbeam_channel::bounded(EVENT_QUEUE);
        let shared = Shared {
            membership: Arc::clone(restart.beginning.tip.membership()),
            status: Arc::new(SharedStatus::new(
                first_status(prepared, &restart, &kept),
                restart.beginning.executed_time,
            )),
            verified: Arc::new(VerifiedMemory::default()),
            damages: Damages::new(store.clone(), events.clone()),
            stages: Arc::new(Stages::default()),
            store,
        };
        let door = shared.begin_admission(&events);
        let (peer_events, peer_queue) = mpsc::channel(PEER_QUEUE);
        let (directory, watched) = watch::channel(Arc::new(directory(&shared.membership, node)));
        let network = shared.listen(prepared, watched, peer_events, &door, &events)?;
        tracing::info!(node = node.name, slot = %node.slot, listen = %network.local_addr(),
            network = %prepared.genesis.network_id(), tip = %restart.beginning.tip.id(), "the node starts");

        let appended = Youngest::new(REMEMBERED_BLOCKS);
        let to_inspector = appended.clone();
        let stored = restart.blocks.into_iter();
        let inspector = Inspector::new(node.slot, Arc::clone(&shared.verified), restart.base, stored);
        let (inspected, stages) = (events.clone(), Arc::clone(&shared.stages));
        spawn_part("inspect", &events, move || {
            inspect_peers::run(inspector, peer_queue, &appended, &inspected, &door, &stages);
        });
        shared.begin_watches(prepared, &events);
        let hands = shared.begin_workers(executor, kept.file, &events, to_inspector, network.peers());
        let runner = Runner::new(Replica::new(restart.beginning), ticks, hands);
        let (ended, runner_ended) = oneshot::channel();
        spawn("replica", move || run_loop(runner, &run_queue, ended));
        Ok(Self {
            network,
            events,
            runner: runner_ended,
            _directory: directory,
        })
    }

    /// Serves until told to stop, or until the loop ends by itself.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
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

fn run_loop(runner: Runner, events: &Receiver<RunEvent>, ended: oneshot::Sender<Result<(), String>>) {
    let _nobody_waits = ended.send(runner.run(events));
}

/// What several parts work with.
struct Shared {
    store: Store,
    membership: Arc<Membership>,
    status: Arc<SharedStatus>,
    verified: Arc<VerifiedMemory>,
    damages: Damages,
    stages: Arc<Stages>,
}

impl Shared {
    fn begin_admission(&self, events: &Sender<RunEvent>) -> Door {
        let (door, queue) = Door::new(Arc::clone(&self.membership));
        let admitter = Admitter {
            store: self.store.clone(),
            membership: Arc::clone(&self.membership),
            status: Arc::clone(&self.status),
            verified: Arc::clone(&self.verified),
            events: events.clone(),
            stages: Arc::clone(&self.stages),
        };
        spawn_part("admit", events, move || admitter.run(&queue));
        door
    }

    fn listen(
        &self,
        prepared: &Prepared,
        directory: watch::Receiver<Arc<Directory>>,
        peer_events: mpsc::Sender<PeerEvent>,
        door: &Door,
        events: &Sender<RunEvent>,
    ) -> Result<Network, NetworkError> {
        let service = ClientService {
            store: self.store.clone(),
            door: door.clone(),
            events: events.clone(),
            status: Arc::clone(&self.status),
            damages: self.damages.clone(),
            stages: Arc::clone(&self.stages),
        };
        let network = prepared.genesis.network_id();
        let settings = NetworkSettings {
            max_clients: prepared.config.max_clients,
            ..NetworkSettings::new(prepared.config.listen, prepared.node.slot, network)
        };
        Network::start(settings, &prepared.key, directory, peer_events, Arc::new(service))
    }

    /// Begins what looks after the disk.
    fn begin_watches(&self, prepared: &Prepared, events: &Sender<RunEvent>) {
        let (store, status, told) = (self.store.clone(), Arc::clone(&self.status), events.clone());
        let floor = prepared.config.min_free();
        spawn_part("free-space", events, move || space::run(&store, floor, &told, &status));
        let (store, damages, pace) = (self.store.clone(), self.damages.clone(), prepared.config.scrub());
        spawn("scrubber", move || scrub::run(&store, pace, &damages));
    }

    /// Begins the log writer, the executor and the fetcher. Their queues are bounded by what the engine lets be
    /// uncommitted, by `EXECUTION_QUEUE_BLOCKS` and by one question a peer.
    fn begin_workers(
        self,
        executor: Executor,
        watermark: WatermarkFile,
        events: &Sender<RunEvent>,
        appended: Youngest<Known>,
        peers: Peers,
    ) -> Hands {
        let Self {
            store,
            membership,
            status,
            verified: _,
            damages,
            stages,
        } = self;
        let (log, log_queue) = crossbeam_channel::unbounded();
        let (executions, execution_queue) = crossbeam_channel::unbounded();
        let (fetcher, fetch_queue) = crossbeam_channel::unbounded();
        let writer = LogWriter {
            store: store.clone(),
            watermark,
            damages: damages.clone(),
            stages: Arc::clone(&stages),
        };
        let wrote = events.clone();
        spawn_part("log-writer", events, move || writer.run(&log_queue, &wrote));
        let (read, executed, shown) = (damages.clone(), events.clone(), Arc::clone(&status));
        let times = Arc::clone(&stages);
        spawn_part("executor", events, move || {
            executor::run(
                executor,
                &read,
                &membership,
                &execution_queue,
                &executed,
                &shown,
                &times,
            );
        });
        let (fetched, told, found) = (store.clone(), damages.clone(), events.clone());
        spawn_part("fetcher", events, move || {
            executor::fetch(&fetched, &told, &fetch_queue, &found);
        });
        Hands {
            log,
            executor: executions,
            fetcher,
            appended,
            peers,
            store,
            damages,
            status,
            stages,
        }
    }
}

/// Tells the loop that a thread is gone: one that ends, or panics, while the loop runs breaks the node.
struct EndOf {
    name: &'static str,
    events: Sender<RunEvent>,
}

impl Drop for EndOf {
    fn drop(&mut self) {
        let broken = RunEvent::Broken(format!("the thread '{}' has ended; see the log", self.name));
        let _loop_is_gone = self.events.send_timeout(broken, Duration::from_secs(1));
    }
}

/// Begins a thread that the loop cannot do without.
fn spawn_part(name: &'static str, events: &Sender<RunEvent>, work: impl FnOnce() + Send + 'static) {
    let end = EndOf {
        name,
        events: events.clone(),
    };
    spawn(name, move || {
        let _told_at_the_end = end;
        work();
    });
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

fn first_status(prepared: &Prepared, restart: &Restart, kept: &Kept) -> NodeStatus {
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
        disk: DiskStatus {
            floor: prepared.config.min_free(),
            lost: kept.lost,
            ..DiskStatus::default()
        },
        clock: ClockStatus::default(),
    }
}
