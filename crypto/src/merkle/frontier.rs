//! Keeps the right edge of a growing tree: enough to append leaves and to know the root, in 64 hashes at most.
//!
//! Invariant: one peak for each bit that is set in the count, the largest subtree first; `root()` equals
//! [`super::root`] over all leaves that were pushed.

use serde::{Deserialize, Serialize};

use super::{capped_path, empty, node};
use crate::hash::Hash;

/// An append-only Merkle tree of which only the roots of its complete subtrees are remembered.
///
/// A push costs two hashes on average, a root one for each peak. Serialised: the count, then the peaks; decoding
/// refuses a list that does not fit its count.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Frontier {
    count: u64,
    peaks: Vec<Hash>,
}

#[derive(Deserialize)]
struct Parts {
    count: u64,
    #[serde(deserialize_with = "capped_path")]
    peaks: Vec<Hash>,
}

/// A frontier whose peaks do not fit its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frontier of {count} leaves has not {peaks} peaks")]
pub struct InvalidFrontier {
    /// Leaves that it claims.
    pub count: u64,
    /// Peaks that it carries.
    pub peaks: usize,
}

impl TryFrom<Parts> for Frontier {
    type Error = InvalidFrontier;

    fn try_from(Parts { count, peaks }: Parts) -> Result<Self, InvalidFrontier> {
        let fits = usize::try_from(count.count_ones()).is_ok_and(|ones| ones == peaks.len());
        if fits {
            Ok(Self { count, peaks })
        } else {
            Err(InvalidFrontier {
                count,
                peaks: peaks.len(),
            })
        }
    }
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf, a hash already (of [`super::leaf`]).
    ///
    /// A tree of 2^64 - 1 leaves is full and stays as it is; no chain lives long enough to see it.
    pub fn push(&mut self, leaf: Hash) {
        let Some(count) = self.count.checked_add(1) else { return };
        let mut subtree = leaf;
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                subtree = node(&left, &subtree);
            }
        }
        self.peaks.push(subtree);
        self.count = count;
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(empty)
    }

    /// Number of leaves so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }
}
