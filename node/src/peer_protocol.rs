//! Keeps what nodes say to each other, over ALPN `quipu-peer/1`.
//!
//! Every stream begins with a [`Preamble`] that binds it to a version, a network and two nodes; then frames follow:
//! 4 bytes big-endian length, postcard of [`PeerFrame`], strict. Invariants: enums grow only at the end; a frame is
//! never longer than [`MAX_PEER_FRAME_BYTES`]; blocks travel as the bytes in which they were made.

use quipu_consensus::message::Message;
use quipu_crypto::id::{Height, NetworkId, Slot, TimeMs, TransactionId};
use serde::{Deserialize, Serialize};

/// ALPN of peer connections.
pub const PEER_ALPN: &[u8] = b"quipu-peer/1";
/// ALPN of a peer's second connection, for [`quipu_consensus::output::Class::Bulk`]. After the preamble its streams
/// carry, framed like everything else, 32 bytes of keying material that name the session to which it belongs.
pub const BULK_ALPN: &[u8] = b"quipu-bulk/1";
/// Version of the frames.
pub const PEER_VERSION: u16 = 1;
/// Longest frame between nodes, bytes: an append of one largest block, or of many small ones.
pub const MAX_PEER_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// First on every stream between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preamble {
    /// [`PEER_VERSION`].
    pub version: u16,
    /// The network.
    pub network: NetworkId,
    /// Who sends on this stream.
    pub from: Slot,
    /// To whom.
    pub to: Slot,
}

/// A block in the encoding in which it travels (`ledger::block::Block::encode`); its header alone is longer than this.
pub type BlockBytes = LongBytes<200>;
/// A signed transaction as it travels: two keys' worth of fields and a signature are longer than this.
pub type TransactionBytes = LongBytes<140>;

/// Bytes that are refused when they are shorter than anything of their kind: a list of them costs no more memory than a
/// small multiple of the bytes that claim it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LongBytes<const MIN: usize>(#[serde(with = "serde_bytes")] Vec<u8>);

impl<const MIN: usize> LongBytes<MIN> {
    /// The bytes.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MIN: usize> From<Vec<u8>> for LongBytes<MIN> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl<'de, const MIN: usize> Deserialize<'de> for LongBytes<MIN> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        if bytes.len() < MIN {
            return Err(serde::de::Error::invalid_length(bytes.len(), &"a whole one"));
        }
        Ok(Self(bytes))
    }
}

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerFrame {
    /// From engine to engine.
    Engine(Message<BlockBytes>),
    /// Transactions of clients, for the leader.
    Forward(Vec<TransactionBytes>),
    /// Which height must a read begun now see? For the leader.
    ReadIndex {
        /// Chosen by the asking node.
        number: u64,
    },
    /// Answer to [`PeerFrame::ReadIndex`]: none where this node cannot tell.
    ReadHeight {
        /// From the question.
        number: u64,
        /// Execute at least up to here before answering the read.
        height: Option<Height>,
    },
    /// The sender's clock now.
    Clock {
        /// Milliseconds.
        time: TimeMs,
    },
    /// A client waits for the expiry of a transaction: cut an empty block if none comes by itself. For the leader.
    Expire {
        /// The expiry waited for.
        time: TimeMs,
    },
    /// Answer to [`PeerFrame::Forward`]: there was no room for these, and nothing was done with them.
    Busy {
        /// Which.
        transactions: Vec<TransactionId>,
        /// When to try again, ms.
        retry_after_ms: u64,
    },
}
