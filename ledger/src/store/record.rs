//! Keeps the bytes of every record in the store: the keys and values of each column family, and strict ways back.
//!
//! Invariants: numbers in keys are big-endian, so the order of keys is the order of heights; a decoder accepts only
//! what its encoder writes, never panics, and allocates no more than it was given. `FORMAT.md` cites this file.
//! Leaves which of them are written together to `log` and `executor`.

use quipu_crypto::hash::{HASH_LENGTH, Hash};
use quipu_crypto::id::{BlockId, Height, Incarnation, Slot, Term, TimeMs, TransactionId};
use quipu_crypto::merkle::{Frontier, MAX_PATH};
use quipu_crypto::signature::Signature;
use serde::{Deserialize, Serialize};

use crate::block::Executed;
use crate::codec::{self, DecodeError};
use crate::execute::Remembered;
use crate::limits::{MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES};
use crate::operation::Version;
use crate::result::Outcome;
use crate::state::{StateKey, StoredRef, StoredValue, split_namespace};

/// The version of all that this file describes, as `meta` holds it under `format`: 4 bytes, big-endian.
pub const FORMAT_VERSION: u32 = 1;

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// What the store is, what its node has promised, and up to where it has executed.
    Meta,
    /// Headers and proposers' signatures, by height.
    Headers,
    /// Bodies, by height.
    Bodies,
    /// Commit certificates, by the height that they certify.
    Certificates,
    /// The world state, by namespace and key.
    State,
    /// What came of each height.
    Results,
    /// Who wrote each key, and when.
    History,
    /// The first position of each transaction id.
    Transactions,
    /// The replay memory.
    Recent,
}

impl Family {
    /// Every family, in the order of `FORMAT.md`.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Headers,
        Self::Bodies,
        Self::Certificates,
        Self::State,
        Self::Results,
        Self::History,
        Self::Transactions,
        Self::Recent,
    ];

    /// Its name in RocksDB.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Headers => "headers",
            Self::Bodies => "bodies",
            Self::Certificates => "certificates",
            Self::State => "state",
            Self::Results => "results",
            Self::History => "history",
            Self::Transactions => "transactions",
            Self::Recent => "recent",
        }
    }
}

/// The keys of `meta`, as text. The last three are derived: written by execution, the others by the log's writer.
pub mod meta {
    /// [`super::FORMAT_VERSION`], 4 bytes, big-endian.
    pub const FORMAT: &[u8] = b"format";
    /// The network id, 32 bytes.
    pub const NETWORK: &[u8] = b"network";
    /// The incarnation, 16 bytes.
    pub const INCARNATION: &[u8] = b"incarnation";
    /// Encoding of [`super::VoteRecord`].
    pub const VOTE: &[u8] = b"vote";
    /// A height known to be committed: 8 bytes, big-endian.
    pub const COMMIT: &[u8] = b"commit";
    /// The number of the last start that is claimed: 8 bytes, big-endian.
    pub const START: &[u8] = b"start";
    /// Encoding of the block that a recovery has still to get; absent where nothing was forgotten.
    pub const RECOVER: &[u8] = b"recover";
    /// Before a slot (4 bytes, big-endian): encoding of [`super::PromiseRecord`].
    pub const PROMISE: &[u8] = b"promise/";
    /// Encoding of [`crate::block::Executed`].
    pub const EXECUTED: &[u8] = b"executed";
    /// The lattice accumulator behind the state digest, 2048 bytes.
    pub const LATTICE: &[u8] = b"lattice";
    /// Encoding of the Merkle frontier over the hashes of blocks 0 up to the executed one.
    pub const FRONTIER: &[u8] = b"frontier";
}

/// The newest term that the node has taken part in, and whom it voted for there. Its own durable promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The term.
    pub term: Term,
    /// Its vote in that term.
    pub voted_for: Option<Slot>,
}

/// The most that this node has seen another promise: its memory for a peer whose disk may forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseRecord {
    /// Highest start counter.
    pub start: u64,
    /// Highest term in which it voted.
    pub vote: Term,
    /// Highest block that it acknowledged.
    pub accepted: BlockId,
}

/// Value in `headers`. The hash stands beside what it is made of, so that a damaged header is known as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderRecord {
    /// The block's hash.
    pub hash: Hash,
    /// The proposer's signature over it; none at height 0.
    pub signature: Option<Signature>,
    /// Encoding of the header.
    #[serde(with = "serde_bytes")]
    pub header: Vec<u8>,
}

/// Value in `results`: there is one for every height up to the executed one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsRecord {
    /// The quadruple after this height.
    pub executed: Executed,
    /// One for each transaction of the block, in order.
    pub outcomes: Vec<Outcome>,
}

/// Value in `history`: which operation of the transaction wrote the key last. The value itself is in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Whether it is a delete.
    pub deleted: bool,
    /// Its index in the transaction.
    pub operation: u32,
}

/// Key in `headers`, `bodies`, `certificates` and `results`: the height, 8 bytes.
#[must_use]
pub const fn height_key(height: Height) -> [u8; 8] {
    height.0.to_be_bytes()
}

/// Reads [`height_key`], also the value of `commit` and `start` in `meta`.
///
/// # Errors
/// Where it is not 8 bytes long.
pub fn decode_height_key(bytes: &[u8]) -> Result<Height, DecodeError> {
    let bytes: [u8; 8] = bytes.try_into().map_err(|_| DecodeError::Malformed)?;
    Ok(Height(u64::from_be_bytes(bytes)))
}

/// Key in `meta` of what is remembered of a peer.
#[must_use]
pub fn promise_key(slot: Slot) -> Vec<u8> {
    let mut key = meta::PROMISE.to_vec();
    key.extend_from_slice(&slot.0.to_be_bytes());
    key
}

/// Reads [`promise_key`].
///
/// # Errors
/// Where it is none.
pub fn decode_promise_key(bytes: &[u8]) -> Result<Slot, DecodeError> {
    let slot = bytes.strip_prefix(meta::PROMISE).ok_or(DecodeError::Malformed)?;
    let slot: [u8; 4] = slot.try_into().map_err(|_| DecodeError::Malformed)?;
    Ok(Slot(u32::from_be_bytes(slot)))
}

/// Reads a value in `meta` of what is remembered of a peer.
///
/// # Errors
/// Where it is not valid.
pub fn decode_promise(bytes: &[u8]) -> Result<PromiseRecord, DecodeError> {
    // Four varints of 64 bits and a hash.
    codec::decode(bytes, 4 * 10 + HASH_LENGTH)
}

/// Reads a value in `headers`.
///
/// # Errors
/// Where it is not valid. The header in it is not looked at.
pub fn decode_header_record(bytes: &[u8]) -> Result<HeaderRecord, DecodeError> {
    codec::decode(bytes, MAX_BLOCK_BYTES)
}

/// Value in `state`: version, then the value. Its key is a [`StateKey`].
#[must_use]
pub fn encode_state_value(stored: StoredRef<'_>) -> Vec<u8> {
    codec::encode_sized(&stored, stored.value.len().saturating_add(20))
}

/// Reads [`encode_state_value`].
///
/// # Errors
/// Where it is not valid.
pub fn decode_state_value(bytes: &[u8]) -> Result<StoredValue, DecodeError> {
    codec::decode(bytes, MAX_TRANSACTION_BYTES)
}

/// Reads a value in `results`.
///
/// # Errors
/// Where it is not valid.
pub fn decode_results_record(bytes: &[u8]) -> Result<ResultsRecord, DecodeError> {
    // An outcome takes at most seven bytes (two enums, a varint of 32 bits), what stands before them 120.
    const CAP: usize = MAX_BLOCK_TRANSACTIONS * 7 + 120;
    codec::decode(bytes, CAP)
}

/// What all history of a key begins with: length of the namespace (1 byte), namespace, length of the key (2 bytes,
/// big-endian), key. The length keeps the histories of `a` and `ab` apart.
#[must_use]
pub fn history_prefix(key: &StateKey) -> Vec<u8> {
    let name = key.namespace().as_bytes();
    let length = u16::try_from(key.key().len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(key.as_bytes().len().saturating_add(14));
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(key.key());
    bytes
}

/// Key in `history`: [`history_prefix`], then the version: height (8 bytes) and position (4 bytes).
#[must_use]
pub fn history_key(key: &StateKey, version: Version) -> Vec<u8> {
    let mut bytes = history_prefix(key);
    push_version(&mut bytes, version);
    bytes
}

/// Reads [`history_key`].
///
/// # Errors
/// Where it is none.
pub fn decode_history_key(bytes: &[u8]) -> Result<(StateKey, Version), DecodeError> {
    let (namespace, rest) = split_namespace(bytes)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_KEY_BYTES {
        return Err(DecodeError::OutOfBounds("a key has 1 to 1024 bytes"));
    }
    let (key, version) = rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
    let namespace = crate::operation::Namespace::new(namespace)?;
    if key.is_empty() {
        return Err(DecodeError::OutOfBounds("a key has 1 to 1024 bytes"));
    }
    Ok((StateKey::new(&namespace, key), decode_version(version)?))
}

fn push_version(bytes: &mut Vec<u8>, version: Version) {
    bytes.extend_from_slice(&version.height.0.to_be_bytes());
    bytes.extend_from_slice(&version.position.to_be_bytes());
}

fn decode_version(bytes: &[u8]) -> Result<Version, DecodeError> {
    let bytes: &[u8; 12] = bytes.try_into().map_err(|_| DecodeError::Malformed)?;
    let (height, position) = bytes.split_first_chunk::<8>().ok_or(DecodeError::Malformed)?;
    let position: [u8; 4] = position.try_into().map_err(|_| DecodeError::Malformed)?;
    Ok(Version {
        height: Height(u64::from_be_bytes(*height)),
        position: u32::from_be_bytes(position),
    })
}

/// Reads a value in `history`.
///
/// # Errors
/// Where it is not valid.
pub fn decode_history_record(bytes: &[u8]) -> Result<HistoryRecord, DecodeError> {
    codec::decode(bytes, 6)
}

/// Value in `transactions`: the version, encoded. Its key is the id, 32 bytes.
#[must_use]
pub fn encode_position(version: Version) -> Vec<u8> {
    codec::encode(&version)
}

/// Reads [`encode_position`].
///
/// # Errors
/// Where it is not valid.
pub fn decode_position(bytes: &[u8]) -> Result<Version, DecodeError> {
    codec::decode(bytes, 15)
}

/// Reads a key in `transactions`.
///
/// # Errors
/// Where it is not 32 bytes long.
pub fn decode_id(bytes: &[u8]) -> Result<TransactionId, DecodeError> {
    decode_hash(bytes).map(TransactionId)
}

/// Reads 32 bytes.
///
/// # Errors
/// Where it is another number of bytes.
pub fn decode_hash(bytes: &[u8]) -> Result<Hash, DecodeError> {
    let bytes: [u8; HASH_LENGTH] = bytes.try_into().map_err(|_| DecodeError::Malformed)?;
    Ok(Hash::from_bytes(bytes))
}

/// Reads 16 bytes.
///
/// # Errors
/// Where it is another number of bytes.
pub fn decode_incarnation(bytes: &[u8]) -> Result<Incarnation, DecodeError> {
    bytes.try_into().map(Incarnation).map_err(|_| DecodeError::Malformed)
}

/// Reads the frontier in `meta`.
///
/// # Errors
/// Where it is not valid.
pub fn decode_frontier(bytes: &[u8]) -> Result<Frontier, DecodeError> {
    codec::decode(bytes, 11 + MAX_PATH * HASH_LENGTH)
}

/// Key in `recent`: `expires_at` (8 bytes), then the id. The value is empty. Sorted by expiry, so that forgetting is
/// one range; and a transaction names the whole key, so that asking is one lookup.
#[must_use]
pub fn recent_key(entry: &Remembered) -> [u8; 40] {
    let mut key = [0; 40];
    let (expires_at, id) = key.split_at_mut(8);
    expires_at.copy_from_slice(&entry.expires_at.0.to_be_bytes());
    id.copy_from_slice(entry.id.0.as_bytes());
    key
}

/// Reads [`recent_key`].
///
/// # Errors
/// Where it is not 40 bytes long.
pub fn decode_recent_key(bytes: &[u8]) -> Result<Remembered, DecodeError> {
    let (expires_at, id) = bytes.split_first_chunk::<8>().ok_or(DecodeError::Malformed)?;
    Ok(Remembered {
        expires_at: TimeMs(u64::from_be_bytes(*expires_at)),
        id: decode_id(id)?,
    })
}

/// The range of `recent` that is forgotten when the boundary reaches `boundary`: all that expires at it or before.
#[must_use]
pub const fn forgotten_range(boundary: TimeMs) -> ([u8; 8], [u8; 8]) {
    ([0; 8], boundary.next().0.to_be_bytes())
}
