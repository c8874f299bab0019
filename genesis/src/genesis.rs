//! Keeps the genesis in its canonical form: what the network id is the hash of, and what block 0 follows from.
//!
//! Invariants: a [`Genesis`] has passed every rule, its lists are sorted and unique, so equal definitions have equal
//! bytes whatever the order of their files; signatures are no part of it. Leaves them to `ceremony`.

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{NetworkId, TimeMs};
use quipu_ledger::block::Block;
use quipu_ledger::codec;
use quipu_ledger::limits::{MAX_BLOCK_BYTES, MAX_HEADER_BYTES};
use quipu_ledger::membership::{Membership, MembershipRecord};
use serde::Serialize;

use crate::block;
use crate::document::GenesisDocument;
use crate::finding::{Finding, Findings, Place, Problem};

/// The only version of canonical genesis bytes so far.
const VERSION: u8 = 1;

/// What block 0 has beyond its membership and header, bytes, generously: lengths and variant numbers.
const BLOCK_MARGIN: usize = 64;

/// The definition of a network: sound, sorted, without signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis(Canonical);

/// The canonical bytes are the postcard encoding of this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Canonical {
    version: u8,
    name: String,
    time: TimeMs,
    membership: Membership,
}

impl Genesis {
    /// The genesis that `document` presents.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(document: &GenesisDocument) -> Result<Self, Findings> {
        Findings::none_or(document.findings(), ())?;
        let mut membership = document.membership.clone();
        membership.nodes.sort_by_key(|node| node.slot);
        membership.organisations.sort_by(|a, b| a.name.cmp(&b.name));
        membership.members.sort_by_key(|member| member.key);
        membership.namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        membership.members.iter_mut().for_each(|member| member.roles.sort());
        membership
            .namespaces
            .iter_mut()
            .for_each(|namespace| namespace.writers.sort());
        membership.outgoing.clear();
        let length = codec::encode(&MembershipRecord::Genesis(membership.clone())).len();
        let cap = MAX_BLOCK_BYTES
            .saturating_sub(MAX_HEADER_BYTES)
            .saturating_sub(BLOCK_MARGIN);
        if length > cap {
            return Err(Finding {
                place: Place::top(),
                problem: Problem::TooLong { length, cap },
            }
            .into());
        }
        Ok(Self(Canonical {
            version: VERSION,
            name: document.name.clone(),
            time: document.time,
            membership,
        }))
    }

    /// What the network is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The time of block 0.
    #[must_use]
    pub fn time(&self) -> TimeMs {
        self.0.time
    }

    /// Who takes part under which rules.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.0.membership
    }

    /// The canonical bytes: version, name, time, membership, in postcard.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.0)
    }

    /// Names the network for ever.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        NetworkId(Hash::of(Context::Network, &[&self.encode()]))
    }

    /// Block 0, a pure function of the genesis.
    #[must_use]
    pub fn block(&self) -> Block {
        block::zero(self)
    }
}
