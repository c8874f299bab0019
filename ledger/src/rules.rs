//! Keeps the rules by which a block may follow on another: what a follower checks before it accepts a block.
//!
//! Invariants: a [`ChainTip`] stands only on blocks that passed; the rules see the chain and nothing else (no clock,
//! no state), so every node and auditor gives the same verdict. The exceptions of block 0 are in
//! [`ChainTip::genesis`] and nowhere else. Leaves the senders' signatures to [`signatures`], what transactions do to
//! `execute`.

mod change;
mod fault;
pub mod quorum;
pub mod signatures;

use std::sync::Arc;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, Height, NetworkId, Slot, Term, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_crypto::merkle::{self, Frontier};
use quipu_crypto::signature;

pub use change::{MembershipFault, check_membership};
pub use fault::Fault;

use crate::block::{Block, BlockError, Body, Executed, HEADER_VERSION, Header, Items, Kind};
use crate::certificate::{self, Certificate};
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS};
use crate::membership::{Membership, MembershipRecord};
use crate::vote::{EngineId, SignatureEntry, VoteStatement};

/// The membership block in force, with what later blocks refer to.
#[derive(Debug)]
struct InForce {
    height: Height,
    hash: Hash,
    membership: Arc<Membership>,
    /// Hash of the request, where the block is a Joint one.
    joint_request: Option<Hash>,
}

impl InForce {
    fn of(block: &Block) -> Result<Self, Fault> {
        let Items::Membership(record) = &block.body().items else {
            return Err(Fault::NoMembership(block.header().height));
        };
        let joint_request = match record.as_ref() {
            MembershipRecord::Joint { request, .. } => Some(request.request.hash()),
            MembershipRecord::Genesis(_) | MembershipRecord::Final { .. } => None,
        };
        Ok(Self {
            height: block.header().height,
            hash: block.hash(),
            membership: Arc::new(record.membership().clone()),
            joint_request,
        })
    }
}

/// The end of a chain, as the next block is judged against it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainTip {
    header: Header,
    hash: Hash,
    /// Over the hashes of blocks 0 to the tip itself, as [`chain_leaf`] makes leaves of them.
    frontier: Frontier,
    in_force: Arc<InForce>,
}

/// The earlier blocks of a chain, for the one rule that reaches behind the tip: a certificate must be of an ancestor.
pub trait Ancestors {
    /// Hash and header of the block at `height` of this chain.
    fn header(&self, height: Height) -> Option<(Hash, Header)>;
    /// The membership that the membership block at `height` of this chain carries.
    fn membership(&self, height: Height) -> Option<Arc<Membership>>;
}

/// For chains whose headers name no certificates.
struct NoAncestors;

impl Ancestors for NoAncestors {
    fn header(&self, _: Height) -> Option<(Hash, Header)> {
        None
    }

    fn membership(&self, _: Height) -> Option<Arc<Membership>> {
        None
    }
}

/// The leaf of a block under `chain_root`.
#[must_use]
pub fn chain_leaf(hash: &Hash) -> Hash {
    merkle::leaf(Context::ChainLeaf, hash.as_bytes())
}

/// The `chain_root` of the block that follows on the blocks in `frontier`.
#[must_use]
pub fn chain_root(frontier: &Frontier) -> Hash {
    merkle::bind(Context::ChainRoot, frontier.count(), frontier.root())
}

/// Signs `header` and joins it with its body.
///
/// # Errors
/// [`BlockError`] where `header` does not name `body`.
pub fn seal(header: Header, body: Body, key: &SecretKey) -> Result<Block, BlockError> {
    let signature = key.sign(&header.hash());
    Block::new(header, Some(signature), body)
}

impl ChainTip {
    /// Begins a chain. Whether block 0 is that of the right network (its hash) is for the caller to say.
    ///
    /// # Errors
    /// The first rule of block 0 that it breaks.
    pub fn genesis(block: &Block) -> Result<Self, Fault> {
        let header = block.header();
        let Items::Membership(record) = &block.body().items else {
            return Err(Fault::WrongGenesis("kind"));
        };
        let MembershipRecord::Genesis(membership) = record.as_ref() else {
            return Err(Fault::WrongGenesis("membership record"));
        };
        let expected = Header {
            version: HEADER_VERSION,
            network: header.network,
            height: Height::ZERO,
            term: Term::ZERO,
            previous: Hash::ZERO,
            kind: Kind::Membership,
            body_root: header.body_root,
            item_count: 1,
            membership: Height::ZERO,
            time: header.time,
            proposer: Slot::ZERO,
            executed: Executed::genesis(),
            certificate: Hash::ZERO,
            chain_root: chain_root(&Frontier::new()),
        };
        if let Some(field) = first_difference(header, &expected) {
            return Err(Fault::WrongGenesis(field));
        }
        if block.signature().is_some() {
            return Err(Fault::WrongGenesis("signature"));
        }
        check_membership(membership)?;
        if !membership.outgoing.is_empty() {
            return Err(Fault::WrongGenesis("outgoing voters"));
        }
        let mut frontier = Frontier::new();
        frontier.push(chain_leaf(&block.hash()));
        Ok(Self {
            header: header.clone(),
            hash: block.hash(),
            frontier,
            in_force: Arc::new(InForce::of(block)?),
        })
    }

    /// The end of a chain that was checked before: the tip's header and hash, the frontier over the [`chain_leaf`]s of
    /// blocks 0 to the tip itself, and the block at the height that `header.membership` names.
    ///
    /// # Errors
    /// Where the parts do not belong together.
    pub fn restore(header: Header, hash: Hash, frontier: Frontier, in_force: &Block) -> Result<Self, Fault> {
        if in_force.header().height != header.membership {
            return Err(Fault::NoMembership(header.membership));
        }
        if frontier.count() != header.height.next().get() {
            return Err(Fault::WrongChainRoot);
        }
        Ok(Self {
            header,
            hash,
            frontier,
            in_force: Arc::new(InForce::of(in_force)?),
        })
    }

    /// Height, term and hash.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId {
            height: self.header.height,
            term: self.header.term,
            hash: self.hash,
        }
    }

    /// The last block's header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.header.network
    }

    /// Over the [`chain_leaf`]s of blocks 0 to the tip itself.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The membership in force for the next block.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        &self.in_force.membership
    }

    /// Height of the membership block in force.
    #[must_use]
    pub fn membership_height(&self) -> Height {
        self.in_force.height
    }

    /// The header of the next block, as its proposer makes it. `body` decides the kind.
    #[must_use]
    pub fn next(&self, term: Term, time: TimeMs, proposer: Slot, executed: Executed, body: &Body) -> Header {
        let height = self.header.height.next();
        let kind = body.items.kind();
        Header {
            version: HEADER_VERSION,
            network: self.header.network,
            height,
            term,
            previous: self.hash,
            kind,
            body_root: body.root(),
            item_count: body.items.count(),
            membership: self.membership_of(kind, height),
            time,
            proposer,
            executed,
            certificate: body.certificate.as_ref().map_or(Hash::ZERO, Certificate::digest),
            chain_root: chain_root(&self.frontier),
        }
    }

    /// Whether `block` may follow, but for the signatures of its transactions ([`signatures::check`]). A certificate
    /// in it can be judged only by [`Self::check_among`].
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, block: &Block) -> Result<Self, Fault> {
        self.check_among(block, &NoAncestors)
    }

    /// As [`Self::check`], with the earlier blocks at hand.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_among(&self, block: &Block, ancestors: &dyn Ancestors) -> Result<Self, Fault> {
        let header = block.header();
        self.check_place(header)?;
        self.check_term(header)?;
        self.check_executed(header)?;
        if header.membership != self.membership_of(header.kind, header.height) {
            return Err(Fault::WrongMembershipHeight(header.membership));
        }
        if block.size() > MAX_BLOCK_BYTES {
            return Err(Fault::TooLarge(block.size()));
        }
        if let Some(certificate) = &block.body().certificate {
            self.check_certificate(certificate, ancestors)?;
        }
        match &block.body().items {
            Items::Votes(votes) => self.check_votes(header, votes)?,
            Items::Transactions(transactions) => {
                if transactions.len() > MAX_BLOCK_TRANSACTIONS {
                    return Err(Fault::TooManyTransactions(transactions.len()));
                }
            }
            Items::Membership(record) => self.check_change(header, record, ancestors)?,
        }
        self.check_proposer(block)?;
        self.extend(block)
    }

    fn check_place(&self, header: &Header) -> Result<(), Fault> {
        if header.version != HEADER_VERSION {
            return Err(Fault::WrongVersion(header.version));
        }
        if header.network != self.header.network {
            return Err(Fault::WrongNetwork(header.network));
        }
        if header.height != self.header.height.next() {
            return Err(Fault::WrongHeight {
                found: header.height,
                expected: self.header.height.next(),
            });
        }
        if header.previous != self.hash {
            return Err(Fault::WrongPrevious {
                found: header.previous,
                expected: self.hash,
            });
        }
        if header.time < self.header.time {
            return Err(Fault::TimeFalls {
                found: header.time,
                parent: self.header.time,
            });
        }
        if header.chain_root != chain_root(&self.frontier) {
            return Err(Fault::WrongChainRoot);
        }
        Ok(())
    }

    /// A term begins with an opening block and stays with its proposer.
    fn check_term(&self, header: &Header) -> Result<(), Fault> {
        let parent = &self.header;
        if header.term < parent.term {
            return Err(Fault::TermFalls {
                found: header.term,
                parent: parent.term,
            });
        }
        if header.kind == Kind::Opening {
            if header.term == parent.term {
                return Err(Fault::TermOpenedTwice(header.term));
            }
            return Ok(());
        }
        if header.term != parent.term || parent.height == Height::ZERO {
            return Err(Fault::TermNotOpened(header.term));
        }
        if header.proposer != parent.proposer {
            return Err(Fault::NotTheLeader {
                found: header.proposer,
                leader: parent.proposer,
            });
        }
        Ok(())
    }

    fn check_executed(&self, header: &Header) -> Result<(), Fault> {
        let (found, parent) = (&header.executed, &self.header.executed);
        if found.height >= header.height {
            return Err(Fault::ExecutedAhead(found.height));
        }
        if found.height < parent.height {
            return Err(Fault::ExecutedFalls {
                found: found.height,
                parent: parent.height,
            });
        }
        if found.height == parent.height && found != parent {
            return Err(Fault::ExecutedChanged(found.height));
        }
        Ok(())
    }

    fn check_votes(&self, header: &Header, votes: &[SignatureEntry]) -> Result<(), Fault> {
        if !votes.iter().any(|vote| vote.slot == header.proposer) {
            return Err(Fault::NoOwnVote(header.proposer));
        }
        let statement = |voter| {
            let statement = VoteStatement {
                network: self.header.network,
                engine: EngineId::Raft,
                term: header.term,
                candidate: header.proposer,
                voter,
                last: self.id(),
            };
            statement.hash()
        };
        quorum::check(&self.in_force.membership, votes, &statement).map_err(Fault::Votes)
    }

    fn check_certificate(&self, certificate: &Certificate, ancestors: &dyn Ancestors) -> Result<(), Fault> {
        let unknown = Fault::CertificateOfStranger(certificate.height);
        let (hash, header) = if certificate.height == self.header.height {
            (self.hash, self.header.clone())
        } else {
            ancestors.header(certificate.height).ok_or(unknown.clone())?
        };
        if certificate.hash != hash {
            return Err(unknown);
        }
        let membership = if header.membership == self.in_force.height {
            Arc::clone(&self.in_force.membership)
        } else {
            ancestors.membership(header.membership).ok_or(unknown)?
        };
        certificate::judge(certificate, &header, &membership).map_err(Fault::Certificate)
    }

    /// Whether the proposer's signature is good under the membership in force at this tip: while joint, with the slot's
    /// key of either set. All that a block needs whose hash is known to be in the chain: the hash binds the rest.
    ///
    /// # Errors
    /// [`Fault::NotSigned`], [`Fault::UnknownProposer`], [`Fault::WrongSignature`].
    pub fn check_proposer(&self, block: &Block) -> Result<(), Fault> {
        let proposer = block.header().proposer;
        let signature = block.signature().ok_or(Fault::NotSigned)?;
        let membership = &self.in_force.membership;
        let mut keys = membership
            .voters()
            .chain(&membership.outgoing)
            .filter(|node| node.slot == proposer)
            .map(|node| node.key)
            .peekable();
        if keys.peek().is_none() {
            return Err(Fault::UnknownProposer(proposer));
        }
        if keys.any(|key| signature::verify(&key, &block.hash(), signature)) {
            Ok(())
        } else {
            Err(Fault::WrongSignature(proposer))
        }
    }

    /// The chain with `block` at its end, unchecked: for a block that was made here or checked before.
    ///
    /// # Errors
    /// Where a membership block carries no membership.
    pub fn extend(&self, block: &Block) -> Result<Self, Fault> {
        let mut frontier = self.frontier.clone();
        frontier.push(chain_leaf(&block.hash()));
        let in_force = if block.header().kind == Kind::Membership {
            Arc::new(InForce::of(block)?)
        } else {
            Arc::clone(&self.in_force)
        };
        Ok(Self {
            header: block.header().clone(),
            hash: block.hash(),
            frontier,
            in_force,
        })
    }

    fn membership_of(&self, kind: Kind, height: Height) -> Height {
        if kind == Kind::Membership {
            height
        } else {
            self.in_force.height
        }
    }
}

/// The name of the first field in which two headers differ.
fn first_difference(found: &Header, expected: &Header) -> Option<&'static str> {
    let fields = [
        ("version", found.version == expected.version),
        ("network", found.network == expected.network),
        ("height", found.height == expected.height),
        ("term", found.term == expected.term),
        ("previous", found.previous == expected.previous),
        ("kind", found.kind == expected.kind),
        ("body_root", found.body_root == expected.body_root),
        ("item_count", found.item_count == expected.item_count),
        ("membership", found.membership == expected.membership),
        ("time", found.time == expected.time),
        ("proposer", found.proposer == expected.proposer),
        ("executed", found.executed == expected.executed),
        ("certificate", found.certificate == expected.certificate),
        ("chain_root", found.chain_root == expected.chain_root),
    ];
    fields.iter().find(|(_, equal)| !equal).map(|(name, _)| *name)
}
