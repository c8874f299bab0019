//! A network of real `quipu-node` processes on loopback, made by the real ceremony, ended with the test.
#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod copies;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quipu_crypto::id::{NetworkId, Slot, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_genesis::{Genesis, ceremony, development};
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_node::client::{Client, ClientSettings, Endpoint};
use quipu_node::client_protocol::{Answer, Call, NodeStatus};
use quipu_node::init::{self, Wish};
use quipu_node::{clock, config};
use rustix::process::{Pid, Signal, kill_process};

/// The program under test: `QUIPU_NODE_PROGRAM` names another build of it than the one beside the tests.
pub(crate) fn program() -> String {
    std::env::var("QUIPU_NODE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_quipu-node").to_owned())
}

/// The processes and what is needed to speak with them.
pub(crate) struct Processes {
    pub(crate) genesis: Genesis,
    pub(crate) client_key: SecretKey,
    root: tempfile::TempDir,
    children: Vec<Option<Child>>,
    /// Begins the command line of a node.
    command: Program,
}

/// The program of a node, perhaps wrapped in others that become it.
type Program = Box<dyn Fn(usize) -> Command>;

impl Processes {
    /// Makes and starts a network of `count` nodes.
    pub(crate) fn start(count: usize) -> Self {
        let mut network = Self::make(count, |_| {}, |_| {});
        (0..count).for_each(|node| network.launch(node));
        network
    }

    /// Makes a network of `count` nodes; `place` prepares each node's directory, `tune` its configuration.
    pub(crate) fn make(count: usize, place: impl Fn(&Path), tune: impl Fn(&mut config::ConfigFile)) -> Self {
        let homes = (0..count).map(|_| free_address()).map(|address| (address, address));
        Self::make_tuned(homes.collect(), Box::new(|_| Command::new(program())), place, tune)
    }

    /// Makes a network of nodes: where each listens, and the address by which the others know it.
    pub(crate) fn make_at(homes: Vec<(SocketAddr, SocketAddr)>, command: Program) -> Self {
        Self::make_tuned(homes, command, |_| {}, |_| {})
    }

    fn make_tuned(
        homes: Vec<(SocketAddr, SocketAddr)>,
        command: Program,
        place: impl Fn(&Path),
        tune: impl Fn(&mut config::ConfigFile),
    ) -> Self {
        let count = homes.len();
        let root = tempfile::tempdir().unwrap();
        let client_key = SecretKey::from_seed([200; 32]);
        let nodes: Vec<_> = (1..=count)
            .zip(homes)
            .map(|(n, (listen, address))| {
                let wish = Wish {
                    dir: root.path().join(format!("node{n}")),
                    name: format!("node{n}"),
                    listen,
                    address: address.to_string(),
                    passphrase: None,
                };
                place(&wish.dir);
                let node = init::init(&wish).unwrap();
                let mut config = config::ConfigFile::new(wish.listen);
                tune(&mut config);
                std::fs::write(wish.dir.join(config::CONFIG_FILE), config.to_toml()).unwrap();
                node
            })
            .collect();
        let administrator = SecretKey::from_seed([201; 32]);
        let began = TimeMs(clock::wall().get() - 1_000);
        let document = development::genesis("chaos", began, &nodes, &administrator, client_key.public()).unwrap();
        for n in 1..=count {
            document
                .write(&root.path().join(format!("node{n}")).join(config::GENESIS_FILE))
                .unwrap();
        }
        let genesis = ceremony::require_complete(&document).unwrap();
        Self {
            genesis,
            client_key,
            root,
            children: (0..count).map(|_| None).collect(),
            command,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.children.len()
    }

    pub(crate) fn dir(&self, node: usize) -> PathBuf {
        self.root.path().join(format!("node{}", node + 1))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.root.path().join(format!("node{}.log", node + 1))
    }

    /// Starts the process of a node.
    pub(crate) fn launch(&mut self, node: usize) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log(node))
            .unwrap();
        let child = (self.command)(node)
            .args(["run", "--dir"])
            .arg(self.dir(node))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.children[node] = Some(child);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.children[node].take() {
            assert!(
                child.try_wait().unwrap().is_none(),
                "node {node} ended by itself:\n{}",
                self.tail(node)
            );
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal to a running node.
    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        let child = self.children[node].as_ref().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Whether its process was started and not ended since.
    pub(crate) fn runs(&self, node: usize) -> bool {
        self.children[node].is_some()
    }

    /// The process of a node.
    pub(crate) fn pid(&self, node: usize) -> Option<u32> {
        self.children[node].as_ref().map(Child::id)
    }

    /// SIGTERM to all, and waits.
    pub(crate) fn stop_all(&mut self) {
        (0..self.count()).for_each(|node| self.stop(node));
    }

    /// Stops all so that their copies end alike: while one of them stops the others stand still, so that nobody is
    /// elected meanwhile, whose first block some would have and others not.
    pub(crate) fn stop_all_alike(&mut self) {
        let running: Vec<usize> = (0..self.count()).filter(|node| self.runs(*node)).collect();
        running.iter().for_each(|node| self.signal(*node, Signal::STOP));
        running.into_iter().for_each(|node| self.stop(node));
    }

    /// Ends all in whatever state they are, those that can in good order.
    pub(crate) fn end_all(&mut self) {
        for child in &mut self.children {
            let Some(mut child) = child.take() else { continue };
            let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
            for signal in [Signal::TERM, Signal::CONT] {
                let _gone = kill_process(pid, signal);
            }
            let begin = Instant::now();
            while child.try_wait().unwrap().is_none() && begin.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _gone = child.kill();
            child.wait().unwrap();
        }
    }

    /// Waits until a node ends by itself, and answers with whether it called that a success.
    pub(crate) fn ends(&mut self, node: usize) -> bool {
        let mut child = self.children[node].take().unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "node {node} does not end:\n{}",
                self.tail(node)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where a node says that it stands, once that is as wanted.
    pub(crate) async fn status_of(
        &self,
        client: &Client,
        node: usize,
        what: &str,
        wanted: impl Fn(&NodeStatus) -> bool,
    ) -> NodeStatus {
        let slot = self.genesis.membership().nodes[node].slot;
        let begin = Instant::now();
        loop {
            let answer = client.call_node(slot, Call::Status, Duration::from_secs(2)).await;
            match answer {
                Ok(Answer::Status(status)) if wanted(&status) => return *status,
                other => assert!(
                    begin.elapsed() < Duration::from_secs(60),
                    "node {node} is not {what}: {other:?}\n{}",
                    self.tail(node)
                ),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGTERM to one, and waits for its end.
    pub(crate) fn stop(&mut self, node: usize) {
        let Some(mut child) = self.children[node].take() else {
            return;
        };
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        // One that stands still hears it when it goes on.
        for signal in [Signal::TERM, Signal::CONT] {
            kill_process(pid, signal).unwrap();
        }
        let status = child.wait().unwrap();
        // One that has only just begun does not listen for signals yet, and has nothing to hand over either.
        let unborn = status.signal() == Some(Signal::TERM.as_raw());
        assert!(
            status.success() || unborn,
            "node {node} ended with {status}:\n{}",
            self.tail(node)
        );
    }

    pub(crate) fn tail(&self, node: usize) -> String {
        tail(&self.log(node))
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(ClientSettings::default())
    }

    pub(crate) fn client_with(&self, settings: ClientSettings) -> Client {
        self.client_to(settings, |_, address| address.to_owned())
    }

    /// A client that reaches each node at `address(node, its address for the others)`.
    pub(crate) fn client_to(&self, settings: ClientSettings, address: impl Fn(usize, &str) -> String) -> Client {
        let nodes = self.genesis.membership().nodes.iter().enumerate();
        let endpoints = nodes.map(|(index, node)| Endpoint {
            slot: node.slot,
            name: node.name.clone(),
            address: address(index, &node.address),
            key: node.key,
        });
        let endpoints = endpoints.collect();
        Client::new(endpoints, &self.client_key, settings).unwrap()
    }

    /// Waits until all nodes know one leader and have executed the same tip.
    pub(crate) async fn converged(&self, client: &Client) -> Vec<NodeStatus> {
        let slots: Vec<Slot> = self.genesis.membership().nodes.iter().map(|node| node.slot).collect();
        converged(&slots, client).await
    }
}

/// Waits until these nodes know one leader and have executed the same tip.
pub(crate) async fn converged(slots: &[Slot], client: &Client) -> Vec<NodeStatus> {
    let begin = Instant::now();
    loop {
        let mut all = Vec::new();
        for slot in slots {
            if let Ok(Answer::Status(status)) = client.call_node(*slot, Call::Status, Duration::from_secs(2)).await {
                all.push(*status);
            }
        }
        let equal = all.len() == slots.len()
            && all.iter().all(|status| {
                status.leader.is_some()
                    && status.leader == all[0].leader
                    && status.tip == all[0].tip
                    && status.executed.height == status.tip.height
            });
        if equal {
            return all;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "not converged: {all:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// A put that expires in a minute, signed.
pub(crate) fn put(key: &SecretKey, network: NetworkId, name: &str, value: &str) -> SignedTransaction {
    SignedTransaction::sign(body(key, network, name, value), key).unwrap()
}

/// A put that expires in a minute.
pub(crate) fn body(key: &SecretKey, network: NetworkId, name: &str, value: &str) -> TransactionBody {
    TransactionBody {
        version: 1,
        network,
        sender: key.public(),
        nonce: quipu_crypto::random::bytes().unwrap(),
        expires_at: TimeMs(clock::wall().get() + 60_000),
        operations: vec![Operation::Put {
            namespace: Namespace::new("default").unwrap(),
            key: name.into(),
            value: value.into(),
        }],
        memo: Vec::new(),
    }
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
