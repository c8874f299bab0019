//! Keeps what a verb needs to speak to a network: its genesis, the key to speak with, and a client that knows the way.
//!
//! Invariants: the genesis is complete and signed before anything is sent; every answer that means "not now" has become
//! a [`Failure`] with its exit code. Leaves what the answers say to the verbs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quipu_crypto::key::SecretKey;
use quipu_genesis::{Genesis, ceremony};
use quipu_node::client::{Client, ClientSettings, Endpoint};
use quipu_node::client_protocol::{Answer, Call, Rejection};

use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::passphrase;

/// The genesis in a network's directory.
pub(crate) const GENESIS_FILE: &str = "genesis.toml";
/// The key in a development network's directory that may write.
pub(crate) const CLIENT_KEY_FILE: &str = "client.key";
/// How long reads wait, unless the user says otherwise.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one transaction waits.
pub(crate) const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long each of many transactions waits.
pub(crate) const BULK_TIMEOUT: Duration = Duration::from_secs(120);

/// A network, and who speaks to it.
pub(crate) struct Session {
    pub(crate) genesis: Genesis,
    pub(crate) key: SecretKey,
    pub(crate) client: Client,
}

impl Session {
    /// Takes the network and the identity that the command line names.
    pub(crate) fn open(global: &Global, identity: &Identity) -> Result<Self, Failure> {
        let (genesis_file, default_key) = locate(global)?;
        let genesis = read_genesis(&genesis_file)?;
        let given = identity.key.clone().filter(|path| !path.as_os_str().is_empty());
        let key_file = given.or(default_key).ok_or_else(|| {
            Failure::usage("no key was given to speak with").hint("give a member's key file with --key or QUIPU_KEY")
        })?;
        let key = passphrase::open(&key_file)?;
        let client = Client::new(endpoints(&genesis), &key, ClientSettings::default())?;
        Ok(Self { genesis, key, client })
    }

    /// Another client with the same identity, and connections of its own; to one node alone where that is named.
    pub(crate) fn another(&self, node: Option<&str>) -> Result<Client, Failure> {
        let mut endpoints = endpoints(&self.genesis);
        if let Some(name) = node {
            endpoints.retain(|endpoint| endpoint.name == name);
            if endpoints.is_empty() {
                return Err(Failure::usage(format!("there is no node '{name}' in this network")));
            }
        }
        Ok(Client::new(endpoints, &self.key, ClientSettings::default())?)
    }

    /// Runs work that speaks to the network, and takes leave of it. Once for each session: connections belong to it.
    pub(crate) fn run<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        block_on(async {
            let result = work.await;
            self.client.close().await;
            result
        })
    }

    /// Asks any node.
    pub(crate) async fn call(&self, call: Call, wait: Duration) -> Result<Answer, Failure> {
        match self.client.call(call, wait).await? {
            Answer::Unavailable(unavailable) => Err(unavailable.into()),
            Answer::Rejected(Rejection::Busy { retry_after_ms }) => {
                let busy: Failure = Rejection::Busy { retry_after_ms }.into();
                Err(Failure {
                    exit: Exit::Unavailable,
                    ..busy
                })
            }
            answer => Ok(answer),
        }
    }
}

/// The genesis file that the command line names, and the key that a development network has.
fn locate(global: &Global) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    let Some(network) = &global.network else {
        return Err(Failure::usage("no network was given")
            .hint("give --network or QUIPU_NETWORK: the directory of `quipu network up`, or a genesis file"));
    };
    if !network.is_dir() {
        return Ok((network.clone(), None));
    }
    let genesis = network.join(GENESIS_FILE);
    if !genesis.is_file() {
        return Err(Failure::general(
            "no_network",
            format!("{}: there is no {GENESIS_FILE} in it", network.display()),
        )
        .hint(format!(
            "make a network there with `quipu network up --dir {}`",
            network.display()
        )));
    }
    let key = network.join(CLIENT_KEY_FILE);
    Ok((genesis, key.is_file().then_some(key)))
}

/// Reads a genesis that may be used.
pub(crate) fn read_genesis(path: &Path) -> Result<Genesis, Failure> {
    Ok(ceremony::read_complete(path)?)
}

/// The nodes as clients reach them.
pub(crate) fn endpoints(genesis: &Genesis) -> Vec<Endpoint> {
    let nodes = genesis.membership().nodes.iter();
    nodes
        .map(|node| Endpoint {
            slot: node.slot,
            name: node.name.clone(),
            address: node.address.clone(),
            key: node.key,
        })
        .collect()
}

/// Runs what waits for the network.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::general("system", format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(work);
    // What still runs in the background is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// An answer of another kind than was asked for.
pub(crate) fn unexpected(answer: &Answer) -> Failure {
    let mut text = format!("{answer:?}");
    text.truncate(text.char_indices().nth(120).map_or(text.len(), |(index, _)| index));
    Failure::general(
        "protocol",
        format!("the node gave an answer that does not belong to the question: {text}"),
    )
    .hint("the node speaks another version; use the quipu that came with it")
}
