//! Keeps who takes part: nodes, organisations, members, namespaces, parameters, as a membership block carries them.
//!
//! Invariants: lists are sorted by their first field and unique; slots are never given twice; the membership in force
//! at a height is that of the last membership block at or below it. Leaves building the first one to `genesis`.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Incarnation, NetworkId, Slot, TimeMs};
use quipu_crypto::key::PublicKey;
use quipu_crypto::signature::Signature;
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::codec;
use crate::operation::Namespace;

/// The whole membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Nodes that order and execute, by slot.
    pub nodes: Vec<Node>,
    /// While joint: the whole former voter set with its own keys and incarnations. Empty otherwise.
    pub outgoing: Vec<Node>,
    /// Organisations, by name.
    pub organisations: Vec<Organisation>,
    /// Who may send transactions, by key.
    pub members: Vec<Member>,
    /// Parts of the state and who may write in each, by name.
    pub namespaces: Vec<NamespaceRights>,
    /// Numbers that all nodes must agree on.
    pub parameters: Parameters,
}

/// A node of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number, for ever.
    pub slot: Slot,
    /// What it is called in texts.
    pub name: String,
    /// The organisation that runs it.
    pub organisation: String,
    /// Its signing and transport key.
    pub key: PublicKey,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// `host:port` of its QUIC endpoint.
    pub address: String,
    /// Whether it votes.
    pub role: NodeRole,
}

/// Whether a node votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRole {
    /// Counts in every majority.
    Voter,
    /// Receives everything and counts in none.
    Learner,
}

/// A party to the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organisation {
    /// Its name, unique.
    pub name: String,
    /// The key of its administrator: signs the genesis and requests for changes.
    pub key: PublicKey,
}

/// Someone who may send transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The key that signs.
    pub key: PublicKey,
    /// What it is called in texts, unique.
    pub name: String,
    /// The organisation that answers for it.
    pub organisation: String,
    /// Its roles, sorted, unique. Rights in namespaces are given to roles.
    pub roles: Vec<String>,
}

/// A namespace and who may write in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRights {
    /// Its name.
    pub name: Namespace,
    /// Grants; a sender may write where one of them fits. Everyone in the network may read.
    pub writers: Vec<Grant>,
}

/// Whom a right to write is given to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grant {
    /// Every member.
    Everyone,
    /// Members with this role.
    Role(String),
    /// Members of this organisation.
    Organisation(String),
    /// The member of this name.
    Member(String),
}

/// Numbers that all nodes must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Longest time between a block and the expiry of a transaction in it, ms.
    pub max_lifetime_ms: u64,
    /// Whether voters sign commit certificates.
    pub certificates: bool,
    /// How many organisations must sign a request for a change of membership.
    pub approvals: u32,
}

impl Membership {
    /// The member with this key.
    #[must_use]
    pub fn member(&self, key: &PublicKey) -> Option<&Member> {
        self.members
            .binary_search_by(|member| member.key.cmp(key))
            .ok()
            .and_then(|index| self.members.get(index))
    }

    /// The node in this slot (not an outgoing one).
    #[must_use]
    pub fn node(&self, slot: Slot) -> Option<&Node> {
        self.nodes
            .binary_search_by_key(&slot, |node| node.slot)
            .ok()
            .and_then(|index| self.nodes.get(index))
    }

    /// The node with this key.
    #[must_use]
    pub fn node_by_key(&self, key: &PublicKey) -> Option<&Node> {
        self.nodes.iter().find(|node| node.key == *key)
    }

    /// Voters, not the outgoing ones.
    pub fn voters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == NodeRole::Voter)
    }

    /// Whether `member` may write in `namespace`.
    #[must_use]
    pub fn may_write(&self, member: &Member, namespace: &Namespace) -> bool {
        let found = self.namespaces.binary_search_by(|rights| rights.name.cmp(namespace));
        let Some(rights) = found.ok().and_then(|index| self.namespaces.get(index)) else {
            return false;
        };
        rights.writers.iter().any(|grant| match grant {
            Grant::Everyone => true,
            Grant::Role(role) => member.roles.contains(role),
            Grant::Organisation(name) => member.organisation == *name,
            Grant::Member(name) => member.name == *name,
        })
    }
}

/// The one item of a membership block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipRecord {
    /// Block 0: the membership of the genesis.
    Genesis(Membership),
    /// The first half of a change: from here on both majorities decide.
    Joint {
        /// The incoming membership, with the former voters in `outgoing`.
        membership: Membership,
        /// Who asked for it.
        request: SignedRequest,
    },
    /// The second half: the incoming membership decides alone.
    Final {
        /// Joint's membership with `outgoing` empty.
        membership: Membership,
        /// Joint's height.
        joint: Height,
        /// Hash of the request that Joint carries.
        request: Hash,
        /// A certificate made under the joint membership that covers Joint.
        certificate: Certificate,
    },
}

impl MembershipRecord {
    /// The membership that is in force from this record on.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        match self {
            Self::Genesis(membership) | Self::Joint { membership, .. } | Self::Final { membership, .. } => membership,
        }
    }
}

/// What administrators sign to ask for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// The network.
    pub network: NetworkId,
    /// Random: a request serves once.
    pub nonce: [u8; 16],
    /// Checked against Joint's time.
    pub expires_at: TimeMs,
    /// Height of the membership block that it changes: the one in force at Joint's parent.
    pub expected_height: Height,
    /// Hash of that block.
    pub expected_hash: Hash,
    /// The membership asked for, `outgoing` empty.
    pub membership: Membership,
}

impl ChangeRequest {
    /// What is signed.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Context::MembershipRequest, &[&codec::encode(self)])
    }
}

/// A request with its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest {
    /// What is asked for.
    pub request: ChangeRequest,
    /// (organisation, its administrator's signature), sorted by name, unique.
    pub approvals: Vec<(String, Signature)>,
}
