//! The genesis of a network of replicas in one thread, with keys that are the same in every run.

use quipu_crypto::id::{Incarnation, Slot, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_genesis::{Genesis, NodeFile, development};

/// The time of the genesis.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

/// A network on paper.
pub(crate) struct Founding {
    pub(crate) genesis: Genesis,
    /// Of the nodes, in order of their names.
    pub(crate) keys: Vec<SecretKey>,
    /// Of the member who may write.
    pub(crate) client: SecretKey,
}

impl Founding {
    /// Of `count` voters.
    pub(crate) fn new(count: u8) -> Self {
        let client = SecretKey::from_seed([200; 32]);
        let keys: Vec<SecretKey> = (1..=count).map(|n| SecretKey::from_seed([n; 32])).collect();
        let nodes: Vec<NodeFile> = (1..=count)
            .zip(&keys)
            .map(|(n, key)| NodeFile {
                name: format!("node{n}"),
                key: key.public(),
                incarnation: Incarnation([n; 16]),
                address: format!("127.0.0.1:{}", 7000 + u16::from(n)),
            })
            .collect();
        let administrator = SecretKey::from_seed([201; 32]);
        let document = development::genesis("test", TimeMs(BEGIN_MS), &nodes, &administrator, client.public());
        let genesis = quipu_genesis::ceremony::require_complete(&document.unwrap()).unwrap();
        Self { genesis, keys, client }
    }
}

/// The slot of a key.
pub(crate) fn slot_of(genesis: &Genesis, key: &SecretKey) -> Slot {
    genesis.membership().node_by_key(&key.public()).unwrap().slot
}
