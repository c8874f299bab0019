//! Keeps a network of real nodes in network namespaces of their own, and everything that can be done to it.
//!
//! The nodes' datagrams pass through a [`switch::Switch`] in this process. Where namespaces are not permitted (or
//! `QUIPU_LAB_LOOPBACK` is set) the nodes share the loopback, with the same faults between them. Where libfaketime is
//! not installed clocks are left alone, which is said loudly.
//! Leaves which fault when to `nemesis`, and what clients do to `load`.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod load;
pub(crate) mod loopback;
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

use crate::processes::{Processes, program};
use loopback::Loopback;
use spaces::Spaces;
use switch::{Ground, Switch};

/// Places of clients that can be cut off.
pub(crate) const CLIENT_SITES: usize = 2;

/// See the module. Dropped in this order: clients, nodes, switch, namespaces.
pub(crate) struct Lab {
    /// A runtime in the namespace of each client site; the last one is never cut off.
    runtimes: Vec<Runtime>,
    pub(crate) processes: Processes,
    pub(crate) switch: Switch,
    pub(crate) clocks: Option<Clocks>,
    pub(crate) paused: Vec<bool>,
    ground: Ground,
    /// Every process that was ever started.
    launched: Vec<u32>,
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
        let ground = ground(nodes, sites);
        let (clocks, library) = Clocks::find(nodes).unzip();
        if clocks.is_none() {
            println!("!! NOT TESTED: libfaketime is not installed (Debian: libfaketime), so no wrong clocks");
        }
        let switch = Switch::start(ground.clone(), nodes, seed);
        let homes = (0..nodes).map(|node| match &ground {
            Ground::Spaces(_) => (switch::address(node).into(), switch::address(node).into()),
            Ground::Loopback(loopback) => (loopback.own(node), loopback.public(node)),
        });
        let homes = homes.collect();
        let files = clocks.as_ref().map(|clocks: &Clocks| clocks.files.clone());
        let below = ground.clone();
        let command = move |node: usize| {
            let mut words: Vec<String> = match &below {
                Ground::Spaces(spaces) => ["ip", "netns", "exec", spaces.name(node)].map(str::to_owned).into(),
                Ground::Loopback(_) => Vec::new(),
            };
            if let (Some(library), Some(files)) = (&library, &files) {
                let own_mounts = matches!(below, Ground::Spaces(_));
                words.extend(wrong_clock(library, &files[node], own_mounts));
            }
            words.push(program());
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        };
        let processes = Processes::make_at(homes, Box::new(command));
        let runtimes = (nodes..sites).map(|site| runtime(ground.clone(), site)).collect();
        let mut lab = Self {
            runtimes,
            paused: vec![false; processes.count()],
            processes,
            switch,
            clocks,
            ground,
            launched: Vec::new(),
        };
        (0..nodes).for_each(|node| lab.launch(node));
        lab
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

    /// A client at a site of clients.
    pub(crate) fn client(&self, site: usize, settings: ClientSettings) -> Client {
        self.processes.client_to(settings, |node, address| match &self.ground {
            Ground::Spaces(_) => address.to_owned(),
            Ground::Loopback(loopback) => loopback.door(site, node).to_string(),
        })
    }

    /// A client that waits only shortly, at the place that is never cut off: for looking on.
    pub(crate) fn looker(&self) -> Client {
        let settings = ClientSettings {
            connect_timeout: Duration::from_millis(400),
            request_timeout: Duration::from_millis(400),
            ..ClientSettings::default()
        };
        self.client(CLIENT_SITES, settings)
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

    /// Waits until a node says of itself what is wanted.
    pub(crate) fn wait_for_status(
        &self,
        looker: &Client,
        node: usize,
        what: &str,
        wanted: impl Fn(&NodeStatus) -> bool,
    ) {
        let begin = Instant::now();
        loop {
            let status = self.statuses(looker).swap_remove(node);
            if status.as_ref().is_some_and(&wanted) {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "node {node} is not {what}: {status:?}\n{}",
                self.processes.tail(node)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
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
            self.launched.extend(self.processes.pid(node));
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
        self.switch.heal();
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
        self.aside(async move {
            crate::processes::converged(&membership, &client).await;
            // The leader has yet to name what was executed last; then it makes no more blocks.
            tokio::time::sleep(Duration::from_secs(1)).await;
            crate::processes::converged(&membership, &client).await;
        });
        self.processes.stop_all_alike();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What libfaketime leaves behind where a process shares our mounts.
        for pid in &self.launched {
            for name in ["faketime_shm_", "sem.faketime_sem_"] {
                let _none = std::fs::remove_file(Path::new("/dev/shm").join(format!("{name}{pid}")));
            }
        }
    }
}

/// Network namespaces, or the loopback where they are not permitted.
fn ground(nodes: usize, sites: usize) -> Ground {
    let wished = std::env::var_os("QUIPU_LAB_LOOPBACK").is_some();
    match Spaces::make(sites).filter(|_| !wished) {
        Some(spaces) => Ground::Spaces(Arc::new(spaces)),
        None => {
            println!("no network namespaces: the nodes share the loopback, the switch is between them all the same");
            Ground::Loopback(Arc::new(Loopback::new(nodes)))
        }
    }
}

/// What to put before a program: its own file of the offset, read again each second; only the wall clock is moved, no
/// timer.
///
/// It leaves shared memory behind when its process is killed: where a process has its own mounts, that goes with them.
fn wrong_clock(library: &Path, file: &Path, own_mounts: bool) -> Vec<String> {
    let mounts = "mount -t tmpfs tmpfs /dev/shm && exec env \"$@\"";
    let begin: &[&str] = if own_mounts {
        &["sh", "-c", mounts, "sh"]
    } else {
        &["env"]
    };
    let set = |name: &str, value: &str| format!("{name}={value}");
    let mut words: Vec<String> = begin.iter().map(|word| (*word).to_owned()).collect();
    words.extend([
        set("LD_PRELOAD", library.to_str().unwrap()),
        set("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        set("FAKETIME_CACHE_DURATION", "1"),
        set("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        set("NO_FAKE_STAT", "1"),
    ]);
    words
}

/// A runtime whose sockets are all at `site`.
fn runtime(ground: Ground, site: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || {
            if let Ground::Spaces(spaces) = &ground {
                spaces.enter(site);
            }
        })
        .enable_all()
        .build()
        .unwrap()
}
