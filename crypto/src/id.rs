//! Keeps the small words that every crate shares: numbers and names that stand in headers, votes and messages.
//!
//! Invariant: a number of one kind is never taken for another (newtypes), and counting up never wraps.
//! Leaves their meaning to `ledger` (what a block says) and `consensus` (who may say it).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The smallest: zero.
            pub const ZERO: Self = Self(0);
            /// The largest that the format can carry.
            pub const MAX: Self = Self(<$inner>::MAX);

            /// The number itself.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The next one; stays at [`Self::MAX`] rather than wrapping.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before; `None` at zero.
            #[must_use]
            pub const fn previous(self) -> Option<Self> {
                match self.0.checked_sub(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// `count` further on; stays at [`Self::MAX`] rather than wrapping.
            #[must_use]
            pub const fn plus(self, count: $inner) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// How far `self` is beyond `earlier`; zero where it is not.
            #[must_use]
            pub const fn since(self, earlier: Self) -> $inner {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number! {
    /// The number of a block in the chain, and so of an entry in the Raft log. Block 0 is the genesis block.
    Height(u64)
}
number! {
    /// A term of leadership: at most one node leads in it. Genesis has term 0; the first election is for term 1.
    Term(u64)
}
number! {
    /// The number of a node in the membership. It stays when the node's key is rotated, and is never given twice.
    Slot(u32)
}
number! {
    /// Milliseconds since 1970-01-01 00:00:00 UTC.
    TimeMs(u64)
}

/// Names one network for ever: the hash of its genesis. Every signature is bound to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub Hash);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of a transaction: the hash of its body's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionId(pub Hash);

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Sixteen random bytes that `quipu-node init` draws into a data directory: an empty directory is never taken for the
/// one that promised something before.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which block, beyond doubt: its height, the term in which it was proposed, and its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// Its number in the chain.
    pub height: Height,
    /// The term of its header.
    pub term: Term,
    /// The hash of its header.
    pub hash: Hash,
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.height, self.term, self.hash)
    }
}
