//! Keeps blocks: header, proposer's signature, body; how they are hashed and how they travel.
//!
//! Invariants: a block's hash is its header's; `body_root`, `item_count` and `certificate` bind the body to the header;
//! bytes are encoded once. A [`Block`] is well-formed and bound, nothing more: whether it may follow on its parent is
//! judged in `rules`.

use std::sync::Arc;

use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{BlockId, Height, NetworkId, Slot, Term, TimeMs};
use quipu_crypto::lattice::LatticeHash;
use quipu_crypto::merkle;
use quipu_crypto::signature::Signature;
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::codec::{self, DecodeError};
use crate::limits::{
    MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_HEADER_BYTES, MAX_MEMBERS, MAX_NODES, MAX_SIGNATURE_ENTRIES,
};
use crate::membership::MembershipRecord;
use crate::result;
use crate::transaction::SignedTransaction;
use crate::vote::SignatureEntry;

/// The only version of headers so far.
pub const HEADER_VERSION: u8 = 1;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Begins a term; its items are the votes that elected the proposer.
    Opening,
    /// Its items are transactions; may be empty.
    Transactions,
    /// Its one item is a membership record.
    Membership,
}

/// The result of executing the chain up to a height: the *quadruple*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// Executed up to this block.
    pub height: Height,
    /// Digest of the world state.
    pub state_digest: Hash,
    /// Link of the results chain at `height`.
    pub results_chain: Hash,
    /// Zero until the state journal exists.
    pub state_root: Hash,
}

impl Executed {
    /// What block 0 says, and block 1 repeats: no state yet, and no results.
    #[must_use]
    pub fn genesis() -> Self {
        Self {
            height: Height::ZERO,
            state_digest: LatticeHash::new().digest(),
            results_chain: result::results_chain(&Hash::ZERO, &[]),
            state_root: Hash::ZERO,
        }
    }

    /// As acknowledgements carry it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Context::Executed, &[&codec::encode(self)])
    }
}

/// Everything that a block's hash commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`HEADER_VERSION`].
    pub version: u8,
    /// The network.
    pub network: NetworkId,
    /// Number of the block, from 0.
    pub height: Height,
    /// Term in which it was proposed. Never falls along the chain.
    pub term: Term,
    /// Hash of the block before it; zero at height 0.
    pub previous: Hash,
    /// What it is for.
    pub kind: Kind,
    /// Merkle root of the items, bound to their count.
    pub body_root: Hash,
    /// How many items.
    pub item_count: u32,
    /// Height of the membership block in force; its own for a membership block.
    pub membership: Height,
    /// The leader's clock. Never falls along the chain.
    pub time: TimeMs,
    /// The leader's slot.
    pub proposer: Slot,
    /// What a majority has executed. Its height never falls along the chain.
    pub executed: Executed,
    /// Digest of the certificate in the body, or zero.
    pub certificate: Hash,
    /// Merkle root over the hashes of blocks 0 to `height - 1`, bound to their count.
    pub chain_root: Hash,
}

impl Header {
    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Context::Header, &[&codec::encode(self)])
    }
}

/// What a block contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// By kind.
    pub items: Items,
    /// The newest certificate, where this block is the first to name it.
    pub certificate: Option<Certificate>,
}

/// The items of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items {
    /// Of an opening block.
    Votes(Vec<SignatureEntry>),
    /// Of a transactions block.
    Transactions(Vec<SignedTransaction>),
    /// Of a membership block.
    Membership(Box<MembershipRecord>),
}

/// A body in its encoding. Transactions are byte strings: whoever hashes them need not open them.
#[derive(Serialize, Deserialize)]
enum EncodedItems {
    Votes(#[serde(deserialize_with = "votes")] Vec<SignatureEntry>),
    Transactions(#[serde(deserialize_with = "transactions")] Vec<serde_bytes::ByteBuf>),
    Membership(Box<MembershipRecord>),
}

fn votes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<SignatureEntry>, D::Error> {
    codec::at_most::<D, _, MAX_SIGNATURE_ENTRIES>(deserializer)
}

fn transactions<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<serde_bytes::ByteBuf>, D::Error> {
    codec::at_most::<D, _, MAX_BLOCK_TRANSACTIONS>(deserializer)
}

#[derive(Serialize, Deserialize)]
struct EncodedBody {
    items: EncodedItems,
    certificate: Option<Certificate>,
}

/// A block in its encoding: parts that are hashed and stored apart stay byte strings.
#[derive(Serialize, Deserialize)]
struct EncodedBlock {
    header: serde_bytes::ByteBuf,
    signature: Option<Signature>,
    body: serde_bytes::ByteBuf,
}

impl Items {
    /// The kind of block that these belong in.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Votes(_) => Kind::Opening,
            Self::Transactions(_) => Kind::Transactions,
            Self::Membership(_) => Kind::Membership,
        }
    }

    /// The Merkle leaves, in order.
    #[must_use]
    pub fn leaves(&self) -> Vec<Hash> {
        match self {
            Self::Votes(votes) => votes
                .iter()
                .map(|vote| merkle::leaf(Context::VoteLeaf, &codec::encode(vote)))
                .collect(),
            Self::Transactions(transactions) => transactions
                .iter()
                .map(|tx| merkle::leaf(Context::TransactionLeaf, tx.bytes()))
                .collect(),
            Self::Membership(record) => vec![merkle::leaf(Context::MembershipLeaf, &codec::encode(record.as_ref()))],
        }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u32 {
        let count = match self {
            Self::Votes(votes) => votes.len(),
            Self::Transactions(transactions) => transactions.len(),
            Self::Membership(_) => 1,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl Body {
    /// The root that a header names: Merkle root of the items, bound to their count.
    #[must_use]
    pub fn root(&self) -> Hash {
        merkle::bind(
            Context::BodyRoot,
            u64::from(self.items.count()),
            merkle::root(&self.items.leaves()),
        )
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let items = match &self.items {
            Items::Votes(votes) => EncodedItems::Votes(votes.clone()),
            Items::Transactions(transactions) => EncodedItems::Transactions(
                transactions
                    .iter()
                    .map(|tx| serde_bytes::ByteBuf::from(tx.bytes().to_vec()))
                    .collect(),
            ),
            Items::Membership(record) => EncodedItems::Membership(record.clone()),
        };
        codec::encode(&EncodedBody {
            items,
            certificate: self.certificate.clone(),
        })
    }

    /// Reads a body from its canonical bytes.
    ///
    /// # Errors
    /// Where the bytes, a transaction among them or a count are not valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let encoded: EncodedBody = codec::decode(bytes, MAX_BLOCK_BYTES)?;
        let items = match encoded.items {
            EncodedItems::Votes(votes) => {
                within(votes.len(), MAX_SIGNATURE_ENTRIES, "too many votes in a block")?;
                Items::Votes(votes)
            }
            EncodedItems::Transactions(transactions) => {
                within(
                    transactions.len(),
                    MAX_BLOCK_TRANSACTIONS,
                    "too many transactions in a block",
                )?;
                let decode = |bytes: serde_bytes::ByteBuf| SignedTransaction::decode(bytes.into_vec());
                Items::Transactions(transactions.into_iter().map(decode).collect::<Result<_, _>>()?)
            }
            EncodedItems::Membership(record) => {
                let membership = record.membership();
                within(membership.nodes.len(), MAX_NODES, "too many nodes")?;
                within(membership.outgoing.len(), MAX_NODES, "too many outgoing nodes")?;
                within(membership.members.len(), MAX_MEMBERS, "too many members")?;
                within(membership.namespaces.len(), MAX_MEMBERS, "too many namespaces")?;
                within(membership.organisations.len(), MAX_MEMBERS, "too many organisations")?;
                Items::Membership(record)
            }
        };
        if let Some(certificate) = &encoded.certificate {
            within(
                certificate.signatures.len(),
                MAX_SIGNATURE_ENTRIES,
                "too many signatures in a certificate",
            )?;
        }
        Ok(Self {
            items,
            certificate: encoded.certificate,
        })
    }
}

fn within(count: usize, cap: usize, what: &'static str) -> Result<(), DecodeError> {
    if count > cap {
        Err(DecodeError::OutOfBounds(what))
    } else {
        Ok(())
    }
}

/// A well-formed block whose body is the one that its header names. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    hash: Hash,
    header: Header,
    header_bytes: Vec<u8>,
    signature: Option<Signature>,
    body: Body,
    body_bytes: Vec<u8>,
}

/// Why parts are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Header, body or the whole could not be read.
    #[error("{part}: {error}")]
    Decode {
        /// Which part.
        part: &'static str,
        /// Why.
        error: DecodeError,
    },
    /// A header of a version that this program does not know.
    #[error("header version {0} is not known here")]
    UnknownVersion(u8),
    /// The items are not of the header's kind.
    #[error("the body is not of the kind that the header names")]
    WrongKind,
    /// The items are not as many as the header says.
    #[error("the body has another number of items than the header names")]
    WrongCount,
    /// The items are not those that the header commits to.
    #[error("the body is not the one that the header's body_root names")]
    WrongBodyRoot,
    /// The certificate is not the one that the header commits to.
    #[error("the certificate is not the one that the header names")]
    WrongCertificate,
}

impl Block {
    /// Joins the parts of a block that was made here. `header` must name `body`.
    ///
    /// # Errors
    /// [`BlockError`] where it does not.
    pub fn new(header: Header, signature: Option<Signature>, body: Body) -> Result<Self, BlockError> {
        let header_bytes = codec::encode(&header);
        let body_bytes = body.encode();
        Self::join(header, header_bytes, signature, body, body_bytes)
    }

    /// Reads a block from the parts in which it is stored.
    ///
    /// # Errors
    /// [`BlockError`] where a part is not valid or they do not belong together.
    pub fn from_parts(
        header_bytes: Vec<u8>,
        signature: Option<Signature>,
        body_bytes: Vec<u8>,
    ) -> Result<Self, BlockError> {
        let header: Header = codec::decode(&header_bytes, MAX_HEADER_BYTES)
            .map_err(|error| BlockError::Decode { part: "header", error })?;
        let body = Body::decode(&body_bytes).map_err(|error| BlockError::Decode { part: "body", error })?;
        Self::join(header, header_bytes, signature, body, body_bytes)
    }

    fn join(
        header: Header,
        header_bytes: Vec<u8>,
        signature: Option<Signature>,
        body: Body,
        body_bytes: Vec<u8>,
    ) -> Result<Self, BlockError> {
        if header.version != HEADER_VERSION {
            return Err(BlockError::UnknownVersion(header.version));
        }
        if header.kind != body.items.kind() {
            return Err(BlockError::WrongKind);
        }
        if header.item_count != body.items.count() {
            return Err(BlockError::WrongCount);
        }
        if header.body_root != body.root() {
            return Err(BlockError::WrongBodyRoot);
        }
        if header.certificate != body.certificate.as_ref().map_or(Hash::ZERO, Certificate::digest) {
            return Err(BlockError::WrongCertificate);
        }
        let hash = Hash::of(Context::Header, &[&header_bytes]);
        Ok(Self(Arc::new(Parts {
            hash,
            header,
            header_bytes,
            signature,
            body,
            body_bytes,
        })))
    }

    /// Reads a block as it travels.
    ///
    /// # Errors
    /// [`BlockError`] where the bytes are not a well-formed block.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let encoded: EncodedBlock =
            codec::decode(bytes, MAX_BLOCK_BYTES).map_err(|error| BlockError::Decode { part: "block", error })?;
        Self::from_parts(encoded.header.into_vec(), encoded.signature, encoded.body.into_vec())
    }

    /// The block as it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&EncodedBlock {
            header: serde_bytes::ByteBuf::from(self.0.header_bytes.clone()),
            signature: self.0.signature,
            body: serde_bytes::ByteBuf::from(self.0.body_bytes.clone()),
        })
    }

    /// Height, term and hash.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId {
            height: self.0.header.height,
            term: self.0.header.term,
            hash: self.0.hash,
        }
    }

    /// Hash of the header.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.0.hash
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// The header's bytes.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        &self.0.header_bytes
    }

    /// The proposer's signature over the hash; none at height 0 only.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        self.0.signature.as_ref()
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// The body's bytes.
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.0.body_bytes
    }

    /// Its transactions; none in blocks of other kinds.
    #[must_use]
    pub fn transactions(&self) -> &[SignedTransaction] {
        match &self.0.body.items {
            Items::Transactions(transactions) => transactions,
            Items::Votes(_) | Items::Membership(_) => &[],
        }
    }

    /// Its length as it travels, within a few bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0
            .header_bytes
            .len()
            .saturating_add(self.0.body_bytes.len())
            .saturating_add(80)
    }
}
