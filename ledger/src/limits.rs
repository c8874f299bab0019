//! Keeps every limit of the data in one place, with the relations between them checked at compile time.
//!
//! Invariant: what a limit here forbids is refused before it is decoded, so nothing outside decides what is allocated.

/// Longest encoded signed transaction, bytes.
pub const MAX_TRANSACTION_BYTES: usize = 256 * 1024;
/// Most operations in one transaction.
pub const MAX_OPERATIONS: usize = 1024;
/// Longest key, bytes. A key has at least one byte.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest name of a namespace, bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;
/// Longest memo, bytes.
pub const MAX_MEMO_BYTES: usize = 1024;

/// A leader cuts a block when its transactions reach this many bytes.
pub const BLOCK_CUT_BYTES: usize = 256 * 1024;
/// Longest encoded block, bytes.
pub const MAX_BLOCK_BYTES: usize = 1024 * 1024;
/// Most transactions in one block.
pub const MAX_BLOCK_TRANSACTIONS: usize = 8192;
/// Longest encoded header, bytes.
pub const MAX_HEADER_BYTES: usize = 512;

/// Most nodes in a membership, outgoing ones included.
pub const MAX_NODES: usize = 64;
/// Most members, organisations or namespaces in a membership.
pub const MAX_MEMBERS: usize = 4096;
/// Most signature entries in a certificate or an opening block: each node once in each majority.
pub const MAX_SIGNATURE_ENTRIES: usize = 2 * MAX_NODES;

/// Smallest and largest `max_lifetime` of transactions that a genesis may set, ms.
pub const MAX_LIFETIME_RANGE_MS: std::ops::RangeInclusive<u64> = 10_000..=86_400_000;
/// Replay memory drops what has expired when header time passes a multiple of this many ms.
pub const REPLAY_PURGE_STEP_MS: u64 = 10_000;

/// Most that a block's time may be ahead of a follower's clock, ms.
pub const MAX_TIME_AHEAD_MS: u64 = 5_000;

/// A node refuses to append where less than this many bytes are free: a write must not fail for want of space.
pub const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

const _: () = assert!(BLOCK_CUT_BYTES + MAX_TRANSACTION_BYTES + MAX_HEADER_BYTES + 1024 < MAX_BLOCK_BYTES);
const _: () = assert!(MAX_KEY_BYTES + MAX_NAMESPACE_BYTES < MAX_TRANSACTION_BYTES);
