//! Keeps the limits of genesis files and of the names in them. Those of the data are in `quipu_ledger::limits`.
//!
//! Invariant: a file is measured before it is read, so nobody's file decides what is allocated.

use quipu_ledger::limits::MAX_LIFETIME_RANGE_MS;

/// Longest file of the ceremony, bytes: genesis, organisation and node files alike.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Longest name of a network, organisation, member, node or role, bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Most roles of one member.
pub const MAX_ROLES: usize = 64;
/// Most grants of one namespace.
pub const MAX_GRANTS: usize = 256;
/// Longest `host:port`, bytes: a domain name has at most 253 letters.
pub const MAX_ADDRESS_BYTES: usize = 260;
/// Latest time that a genesis may name: the end of the year 9998, which still has a text form.
pub const MAX_TIME_MS: u64 = 253_370_764_799_999;

/// The `max_lifetime` that a new genesis gets: ten minutes. Every node remembers the ids of that long.
pub const DEFAULT_MAX_LIFETIME_MS: u64 = 600_000;

/// Whether a new genesis asks for commit certificates. On: a network without them can never change its membership, and
/// so never switch them on. Nodes of this version do not sign them yet; the first that does serves existing networks.
pub const DEFAULT_CERTIFICATES: bool = true;

const _: () = assert!(DEFAULT_MAX_LIFETIME_MS >= *MAX_LIFETIME_RANGE_MS.start());
const _: () = assert!(DEFAULT_MAX_LIFETIME_MS <= *MAX_LIFETIME_RANGE_MS.end());
