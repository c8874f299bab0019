//! A small network whose keys are known: makes real chains, with real votes and signatures, for this crate's tests.
//!
//! Invariant: everything is drawn from numbers, so that two runs make the same bytes.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test target uses its own part
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

#[cfg(feature = "store")]
pub mod filled;
#[cfg(feature = "store")]
pub mod raw;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, Incarnation, NetworkId, Slot, Term, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_crypto::merkle::Frontier;
use quipu_ledger::block::{Block, Body, Executed, HEADER_VERSION, Header, Items, Kind};
use quipu_ledger::certificate::{Certificate, CommitStatement};
use quipu_ledger::membership::{
    Grant, Member, Membership, MembershipRecord, NamespaceRights, Node, NodeRole, Organisation, Parameters,
};
use quipu_ledger::operation::{Condition, Namespace, Operation};
use quipu_ledger::rules::{self, ChainTip};
use quipu_ledger::transaction::{SignedTransaction, TRANSACTION_VERSION, TransactionBody};
use quipu_ledger::vote::{EngineId, SignatureEntry, VoteStatement};

/// Time of block 0.
pub const START: TimeMs = TimeMs(1_700_000_000_000);

/// The key with this number.
pub fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Keys by what they are for: nodes 1.., administrators 101.., members 201...
pub fn node_key(slot: u32) -> SecretKey {
    key(1 + u8::try_from(slot).unwrap())
}

pub fn administrator_key(number: u8) -> SecretKey {
    key(101 + number)
}

pub fn member_key(number: u8) -> SecretKey {
    key(201 + number)
}

pub fn node(slot: u32, key: &SecretKey) -> Node {
    let letter = char::from(b'a' + u8::try_from(slot % 26).unwrap());
    Node {
        slot: Slot(slot),
        name: format!("node-{slot}"),
        organisation: format!("org-{}", slot % 3),
        key: key.public(),
        incarnation: Incarnation([u8::try_from(slot).unwrap(); 16]),
        address: format!("{letter}.example:7000"),
        role: NodeRole::Voter,
    }
}

/// `nodes` voters of three organisations; members 0 (writer), 1 (auditor, writes in `audit` only) and 2 (no role).
pub fn membership(nodes: u32) -> Membership {
    let mut members: Vec<Member> = [("alice", "writer"), ("bob", "auditor"), ("carol", "")]
        .iter()
        .zip(0..)
        .map(|((name, role), number)| Member {
            key: member_key(number).public(),
            name: (*name).to_owned(),
            organisation: format!("org-{number}"),
            roles: [*role]
                .iter()
                .filter(|role| !role.is_empty())
                .map(|role| (*role).to_owned())
                .collect(),
        })
        .collect();
    members.sort_by_key(|member| member.key);
    Membership {
        nodes: (0..nodes).map(|slot| node(slot, &node_key(slot))).collect(),
        outgoing: Vec::new(),
        organisations: (0..3)
            .map(|number| Organisation {
                name: format!("org-{number}"),
                key: administrator_key(number).public(),
            })
            .collect(),
        members,
        namespaces: vec![
            NamespaceRights {
                name: Namespace::new("audit").unwrap(),
                writers: vec![Grant::Role("auditor".to_owned())],
            },
            NamespaceRights {
                name: Namespace::new("default").unwrap(),
                writers: vec![
                    Grant::Role("writer".to_owned()),
                    Grant::Organisation("org-1".to_owned()),
                ],
            },
        ],
        parameters: Parameters {
            max_lifetime_ms: 60_000,
            certificates: true,
            approvals: 2,
        },
    }
}

/// Block 0 of `membership` in a network that is named by `number`.
pub fn genesis(number: u8, membership: Membership) -> Block {
    let body = Body {
        items: Items::Membership(Box::new(MembershipRecord::Genesis(membership))),
        certificate: None,
    };
    let header = Header {
        version: HEADER_VERSION,
        network: NetworkId(Hash::of(Context::Network, &[&[number]])),
        height: Height::ZERO,
        term: Term::ZERO,
        previous: Hash::ZERO,
        kind: Kind::Membership,
        body_root: body.root(),
        item_count: 1,
        membership: Height::ZERO,
        time: START,
        proposer: Slot::ZERO,
        executed: Executed::genesis(),
        certificate: Hash::ZERO,
        chain_root: rules::chain_root(&Frontier::new()),
    };
    Block::new(header, None, body).unwrap()
}

/// A vote of `voter` with `key`, for the opening block that `candidate` puts on `tip`.
pub fn vote(tip: &ChainTip, term: Term, candidate: Slot, voter: Slot, key: &SecretKey) -> SignatureEntry {
    let statement = VoteStatement {
        network: tip.network(),
        engine: EngineId::Raft,
        term,
        candidate,
        voter,
        last: tip.id(),
    };
    SignatureEntry {
        slot: voter,
        outgoing: false,
        signature: key.sign(&statement.hash()),
    }
}

pub fn votes_of(votes: Vec<SignatureEntry>) -> Body {
    Body {
        items: Items::Votes(votes),
        certificate: None,
    }
}

pub fn transactions_of(transactions: Vec<SignedTransaction>) -> Body {
    Body {
        items: Items::Transactions(transactions),
        certificate: None,
    }
}

pub fn membership_of(record: MembershipRecord) -> Body {
    Body {
        items: Items::Membership(Box::new(record)),
        certificate: None,
    }
}

/// The opening block of `candidate`, with the votes of `voters`.
pub fn opening(tip: &ChainTip, term: Term, candidate: u32, voters: &[u32]) -> Block {
    let votes = voters
        .iter()
        .map(|voter| vote(tip, term, Slot(candidate), Slot(*voter), &node_key(*voter)))
        .collect();
    let body = votes_of(votes);
    let time = tip.header().time.plus(1000);
    let header = tip.next(term, time, Slot(candidate), tip.header().executed, &body);
    rules::seal(header, body, &node_key(candidate)).unwrap()
}

/// The next block of the tip's leader.
pub fn next(tip: &ChainTip, body: Body) -> Block {
    next_executed(tip, tip.header().executed, body)
}

/// The next block of the tip's leader, naming `executed`.
pub fn next_executed(tip: &ChainTip, executed: Executed, body: Body) -> Block {
    let parent = tip.header();
    let header = tip.next(parent.term, parent.time.plus(1000), parent.proposer, executed, &body);
    rules::seal(header, body, &node_key(parent.proposer.get())).unwrap()
}

/// A certificate of `header`'s block by these signers, (slot, outgoing, key).
pub fn certificate(header: &Header, view: Term, signers: &[(u32, bool, SecretKey)]) -> Certificate {
    let statement = CommitStatement {
        network: header.network,
        engine: EngineId::Raft,
        view,
        height: header.height,
        hash: header.hash(),
        membership: header.membership,
    };
    Certificate {
        engine: statement.engine,
        view: statement.view,
        height: statement.height,
        hash: statement.hash,
        membership: statement.membership,
        signatures: signers
            .iter()
            .map(|(slot, outgoing, key)| SignatureEntry {
                slot: Slot(*slot),
                outgoing: *outgoing,
                signature: key.sign(&statement.digest()),
            })
            .collect(),
    }
}

/// A transaction of member `sender` that is told apart by `number` and expires at `expires_at`.
pub fn transaction(
    network: NetworkId,
    sender: u8,
    number: u64,
    expires_at: TimeMs,
    operations: Vec<Operation>,
) -> SignedTransaction {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let body = TransactionBody {
        version: TRANSACTION_VERSION,
        network,
        sender: member_key(sender).public(),
        nonce,
        expires_at,
        operations,
        memo: Vec::new(),
    };
    SignedTransaction::sign(body, &member_key(sender)).unwrap()
}

pub fn put(namespace: &str, key: &str, value: &str) -> Operation {
    Operation::Put {
        namespace: Namespace::new(namespace).unwrap(),
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
    }
}

pub fn delete(namespace: &str, key: &str) -> Operation {
    Operation::Delete {
        namespace: Namespace::new(namespace).unwrap(),
        key: key.as_bytes().to_vec(),
    }
}

pub fn require(namespace: &str, key: &str, condition: Condition) -> Operation {
    Operation::Require {
        namespace: Namespace::new(namespace).unwrap(),
        key: key.as_bytes().to_vec(),
        condition,
    }
}
