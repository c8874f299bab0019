//! Keeps a network of real nodes in network namespaces of their own, and everything that can be done to it.
//!
//! The nodes' datagrams pass through a [`switch::Switch`] in this process. Where namespaces are not permitted the nodes
//! share the loopback, and faults of the network are left out; likewise clocks where libfaketime is not installed.
//! Both are said loudly. Leaves which fault when to `nemesis`, and what clients do to `load`.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod load;
pub(crate) mod nemesis;
pub(crate) mod spaces;
pub(crate) mod switch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_node::client::{Client, ClientSettings};
use quipu_node::client_protocol::{Answer, Call, NodeStatus};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::processes::{PROGRAM, Processes};
use spaces::Spaces;
use switch::Switch;

/// Places of clients that can be cut off.
pub(crate) const CLIENT_SITES: usize = 2;

/// See the module. Dropped in this order: clients, nodes, switch, namespaces.
pub(crate) struct Lab {
    /// A runtime in the namespace of each client site; the last one is never cut off.
    runtimes: Vec<Runtime>,
    pub(crate) processes: Processes,
    pub(crate) switch: Option<Switch>,
    pub(crate) clocks: Option<Clocks>,
    pub(crate) paused: Vec<bool>,
    spaces: Option<Arc<Spaces>>,
}

/// Files that tell libfaketime in each node what to add to the wall clock.
pub(crate) struct Clocks {
    files: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Clocks {
    /// None where libfaketime is not installed.
    fn find(nodes: usize) -> Option<(Self, PathBuf)> {
        let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|machine| Path::new("/usr/lib").join(machine).join("faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| path.exists())?;
        let folder = tempfile::tempdir().unwrap();
        let clocks = Self {
            files: (1..=nodes)
                .map(|node| folder.path().join(format!("clock{node}")))
                .collect(),
            _folder: folder,
        };
        (0..nodes).for_each(|node| clocks.set(node, 0));
        Some((clocks, library))
    }

    /// From within a second on, the node's wall clock is so far ahead of ours.
    pub(crate) fn set(&self, node: usize, ahead_ms: i64) {
        let sign = if ahead_ms < 0 { '-' } else { '+' };
        let text = format!("{sign}{}.{:03}\n", ahead_ms.abs() / 1000, ahead_ms.abs() % 1000);
        let draft = self.files[node].with_extension("new");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &self.files[node]).unwrap();
    }
}

impl Lab {
    pub(crate) fn start(nodes: usize, seed: u64) -> Self {
        let sites = nodes + CLIENT_SITES + 1;
        let spaces = Spaces::make(sites).map(Arc::new);
        let (clocks, library) = Clocks::find(nodes).unzip();
        if spaces.is_none() {
            println!("!! NOT TESTED: network namespaces are not permitted here, so no partition, loss or delay");
        }
        if clocks.is_none() {
            println!("!! NOT TESTED: libfaketime is not installed (Debian: libfaketime), so no wrong clocks");
        }
        let switch = spaces.clone().map(|spaces| Switch::start(spaces, nodes, seed));
        let processes = match &spaces {
            None => Processes::start(nodes),
            Some(made) => {
                let addresses = (0..nodes).map(|node| switch::address(node).to_string()).collect();
                let names: Vec<String> = (0..nodes).map(|node| made.name(node).to_owned()).collect();
                let files = clocks.as_ref().map(|clocks: &Clocks| clocks.files.clone());
                let command = move |node: usize| {
                    let mut command = Command::new("ip");
                    command.args(["netns", "exec", &names[node]]);
                    match (&library, &files) {
                        (Some(library), Some(files)) => wrong_clock(&mut command, library, &files[node]),
                        _ => command.arg(PROGRAM),
                    };
                    command
                };
                Processes::start_at(addresses, Box::new(command))
            }
        };
        let runtimes = (nodes..sites).map(|site| runtime(spaces.clone(), site)).collect();
        Self {
            runtimes,
            paused: vec![false; processes.count()],
            processes,
            switch,
            clocks,
            spaces,
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.processes.count()
    }

    /// The runtime on which everything of a client site must run.
    pub(crate) fn site(&self, site: usize) -> &Runtime {
        &self.runtimes[site]
    }

    /// Runs to the end at the place that is never cut off.
    pub(crate) fn aside<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = &self.runtimes[CLIENT_SITES];
        runtime.block_on(runtime.spawn(task)).unwrap()
    }

    /// A client that waits only shortly: for looking on.
    pub(crate) fn looker(&self) -> Client {
        self.processes.client_with(ClientSettings {
            connect_timeout: Duration::from_millis(400),
            request_timeout: Duration::from_millis(400),
            ..ClientSettings::default()
        })
    }

    /// What each node says of itself, where it answers soon.
    pub(crate) fn statuses(&self, looker: &Client) -> Vec<Option<NodeStatus>> {
        let asked: Vec<_> = self
            .processes
            .genesis
            .membership()
            .nodes
            .iter()
            .map(|node| (looker.clone(), node.slot))
            .collect();
        self.aside(async move {
            let mut calls = tokio::task::JoinSet::new();
            for (index, (looker, slot)) in asked.iter().cloned().enumerate() {
                calls.spawn(async move {
                    let answer = looker.call_node(slot, Call::Status, Duration::from_millis(400)).await;
                    (index, answer)
                });
            }
            let mut statuses = vec![None; asked.len()];
            for (index, answer) in calls.join_all().await {
                if let Ok(Answer::Status(status)) = answer {
                    statuses[index] = Some(*status);
                }
            }
            statuses
        })
    }

    /// The node that leads in the highest term, if one says so.
    pub(crate) fn leader(&self, looker: &Client) -> Option<usize> {
        let statuses = self.statuses(looker);
        (0..self.nodes())
            .filter(|node| statuses[*node].as_ref().is_some_and(|status| status.role == "leader"))
            .max_by_key(|node| statuses[*node].as_ref().map(|status| status.term))
    }

    /// Waits for a node that leads.
    pub(crate) fn wait_for_leader(&self, looker: &Client) -> usize {
        let begin = Instant::now();
        loop {
            if let Some(leader) = self.leader(looker) {
                return leader;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "nobody leads for 30 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn pause(&mut self, node: usize) {
        if self.processes.runs(node) && !self.paused[node] {
            self.processes.signal(node, Signal::STOP);
            self.paused[node] = true;
        }
    }

    pub(crate) fn resume(&mut self, node: usize) {
        if self.paused[node] {
            self.processes.signal(node, Signal::CONT);
            self.paused[node] = false;
        }
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.paused[node] = false;
        self.processes.kill(node);
    }

    /// SIGTERM, if it runs and is not paused.
    pub(crate) fn stop(&mut self, node: usize) {
        if !self.paused[node] {
            self.processes.stop(node);
        }
    }

    pub(crate) fn launch(&mut self, node: usize) {
        if !self.processes.runs(node) {
            self.processes.launch(node);
        }
    }

    /// Everything runs, is connected, and tells the right time.
    pub(crate) fn heal(&mut self) {
        for node in 0..self.nodes() {
            self.resume(node);
            self.launch(node);
            if let Some(clocks) = &self.clocks {
                clocks.set(node, 0);
            }
        }
        if let Some(switch) = &self.switch {
            switch.heal();
        }
    }

    /// Ends the runtimes of the clients and the nodes, so that the copies can be read.
    pub(crate) fn finish(&mut self, looker: &Client) {
        let client = looker.clone();
        let membership: Vec<_> = self
            .processes
            .genesis
            .membership()
            .nodes
            .iter()
            .map(|node| node.slot)
            .collect();
        let statuses = self.aside(async move {
            crate::processes::converged(&membership, &client).await;
            // The leader has yet to name what was executed last; then it makes no more blocks.
            tokio::time::sleep(Duration::from_secs(1)).await;
            crate::processes::converged(&membership, &client).await
        });
        self.processes.stop_all_after(&statuses);
    }
}

/// Its own file of the offset, read again each second; only the wall clock is moved, no timer.
fn wrong_clock<'c>(command: &'c mut Command, library: &Path, file: &Path) -> &'c mut Command {
    let set = |name: &str, value: &str| format!("{name}={value}");
    // It leaves shared memory behind when its process is killed: that goes with the process's own mounts.
    command
        .args(["sh", "-c", "mount -t tmpfs tmpfs /dev/shm && exec env \"$@\"", "sh"])
        .arg(set("LD_PRELOAD", library.to_str().unwrap()))
        .arg(set("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()))
        .arg(set("FAKETIME_CACHE_DURATION", "1"))
        .arg(set("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
        .arg(set("NO_FAKE_STAT", "1"))
        .arg(PROGRAM)
}

/// A runtime whose sockets are all at `site`.
fn runtime(spaces: Option<Arc<Spaces>>, site: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || {
            if let Some(spaces) = &spaces {
                spaces.enter(site);
            }
        })
        .enable_all()
        .build()
        .unwrap()
}
