//! Keeps block 0: how it follows from the genesis and from nothing else.
//!
//! Invariant: every node and every auditor computes the same bytes; no clock, no key, no randomness enters. Source:
//! `design.md`, section 4, "Block 0": its exceptions hold at height 0 only.

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, Slot, Term};
use quipu_crypto::merkle::Frontier;
use quipu_ledger::block::{Block, Body, Executed, HEADER_VERSION, Header, Items, Kind};
use quipu_ledger::membership::MembershipRecord;
use quipu_ledger::rules;

use crate::genesis::Genesis;

/// Block 0 of the network that `genesis` defines.
pub(crate) fn zero(genesis: &Genesis) -> Block {
    let record = MembershipRecord::Genesis(genesis.membership().clone());
    let body = Body {
        items: Items::Membership(Box::new(record)),
        certificate: None,
    };
    let header = Header {
        version: HEADER_VERSION,
        network: genesis.network_id(),
        height: Height::ZERO,
        term: Term::ZERO,
        previous: Hash::ZERO,
        kind: Kind::Membership,
        body_root: body.root(),
        item_count: body.items.count(),
        membership: Height::ZERO,
        time: genesis.time(),
        proposer: Slot::ZERO,
        executed: Executed::genesis(),
        certificate: Hash::ZERO,
        chain_root: rules::chain_root(&Frontier::new()),
    };
    Block::new(header, None, body).expect("kind, count and root in the header were taken from this very body")
}
