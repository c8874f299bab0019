//! Keeps every bound of the node in one place: queues, memory, times. Relations are checked at compile time.

use quipu_consensus::engine::Settings;
use quipu_ledger::limits::{BLOCK_CUT_BYTES, MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS, MAX_TRANSACTION_BYTES};

use crate::fair::Room;
use crate::peer_protocol::MAX_PEER_FRAME_BYTES;

/// How often the replica is told the time, ms.
pub const TICK_MS: u64 = 10;
/// How often peers tell each other their clocks, ms.
pub const CLOCK_INTERVAL_MS: u64 = 1_000;

/// The watermark file is brought to the disk after this long, ms; between, a power cut may take writings back.
pub const WATERMARK_SYNC_MS: u64 = 10_000;

/// What waits at a leader for a block. Of each room one sender alone gets half, see `fair`.
pub const POOL_ROOM: Room = Room {
    items: 65_536,
    bytes: 64 * 1024 * 1024,
};
/// Submissions of own clients that wait for their result.
pub const WAITING_ROOM: Room = Room {
    items: 65_536,
    bytes: 64 * 1024 * 1024,
};
/// A transaction that waits for so long is sent to the leader again, ms.
pub const FORWARD_AGAIN_MS: u64 = 1_000;
/// Most bytes of transactions in one forwarded frame.
pub const FORWARD_FRAME_BYTES: usize = 512 * 1024;
/// When a busy node should be tried again, ms.
pub const RETRY_AFTER_MS: u64 = 50;

/// Longest that a linearizable read waits for a leader, ms.
pub const READ_WAIT_MS: u64 = 2_000;
/// Most reads that wait.
pub const WAITING_READS: usize = 65_536;

/// Most blocks handed to the executor and not yet executed.
pub const EXECUTION_QUEUE_BLOCKS: u64 = 64;
/// Most bytes of appends that wait until this node has executed what they name.
pub const HELD_BYTES: u64 = 32 * 1024 * 1024;
/// An idle leader names what was executed after this long without a block, ms.
pub const IDLE_NAMING_MS: u64 = 100;
/// A leader with this many uncommitted blocks waits for a fuller one.
pub const UNCOMMITTED_BLOCKS: u64 = 4;

/// Transactions that wait for the verifier.
pub const ADMISSION_ROOM: Room = Room {
    items: 16_384,
    bytes: 64 * 1024 * 1024,
};
/// Most transactions verified in one batch.
pub const ADMISSION_BATCH: usize = 512;
/// Frames of peers that wait for the inspector.
///
/// Each may hold a whole frame, so few may wait: a full queue holds the peers' streams back.
pub const PEER_QUEUE: usize = 64;
/// Events that wait for the replica, from each source.
pub const EVENT_QUEUE: usize = 16_384;
/// Most events that the loop takes before it lets things flow.
pub const EVENTS_AT_ONCE: usize = 1_024;
/// Checked blocks that the inspector remembers.
pub const REMEMBERED_BLOCKS: usize = 2_048;
/// Verified transactions that a node remembers, in each of two generations.
pub const REMEMBERED_TRANSACTIONS: usize = 65_536;

/// Times and sizes of the ordering engine.
pub const ENGINE_SETTINGS: Settings = Settings {
    election_min_ms: 300,
    election_max_ms: 600,
    heartbeat_ms: 50,
    stall_ms: 3_000,
    hello_wait_ms: 1_000,
    append_bytes: 1024 * 1024,
    window_bytes: 8 * 1024 * 1024,
    uncommitted_bytes: 16 * 1024 * 1024,
    // Decoded and encoded, a block takes some five times its bytes.
    cache_bytes: 16 * 1024 * 1024,
};

// A message of the engine may be one block over its size; its frame must hold it.
const _: () = assert!(ENGINE_SETTINGS.append_bytes < (MAX_PEER_FRAME_BYTES - MAX_BLOCK_BYTES - 4096) as u64);
const _: () = assert!(FORWARD_FRAME_BYTES + MAX_TRANSACTION_BYTES + 4096 < MAX_PEER_FRAME_BYTES);
const _: () = assert!(ENGINE_SETTINGS.election_min_ms >= 4 * ENGINE_SETTINGS.heartbeat_ms);
const _: () = assert!(BLOCK_CUT_BYTES < MAX_BLOCK_BYTES);

// Each room holds the largest transaction of many senders at a time: of what is free, a sender gets half.
const _: () = assert!(is_shared(POOL_ROOM) && is_shared(WAITING_ROOM) && is_shared(ADMISSION_ROOM));
// One sender alone has room for more than a full block, so a leader need not wait for others to fill it.
const _: () = assert!(POOL_ROOM.bytes / 2 > BLOCK_CUT_BYTES && POOL_ROOM.items / 2 > MAX_BLOCK_TRANSACTIONS);
// The admitter never finds less than a batch where one sender has filled its share.
const _: () = assert!(ADMISSION_ROOM.items / 2 >= ADMISSION_BATCH);
// What a batch lets in finds room on its way to the replica.
const _: () = assert!(EVENT_QUEUE > ADMISSION_BATCH && EVENT_QUEUE > EVENTS_AT_ONCE);
// Whatever waits at a leader is still known as verified when it comes in a block.
const _: () = assert!(REMEMBERED_TRANSACTIONS >= POOL_ROOM.items);
// A client that is told to come again does so before a transaction is sent again to a silent leader.
const _: () = assert!(RETRY_AFTER_MS < FORWARD_AGAIN_MS && FORWARD_AGAIN_MS < READ_WAIT_MS);
// All rooms together, and the frames before them, stay well below what a node may take of its machine: 600 MiB.
const _: () = assert!(
    POOL_ROOM.bytes + WAITING_ROOM.bytes + ADMISSION_ROOM.bytes + PEER_QUEUE * MAX_PEER_FRAME_BYTES < 512 * 1024 * 1024
);

const fn is_shared(room: Room) -> bool {
    room.bytes >= 64 * MAX_TRANSACTION_BYTES && room.items >= 1024
}
