//! Keeps Merkle trees in the shape of RFC 6962 over BLAKE3: roots, inclusion and consistency proofs, and a frontier.
//!
//! Invariants: a leaf never passes for an inner node (contexts of their own); a root stands in a header only bound to
//! its count ([`bind`]), for a proof by itself does not bind the size (leaf 2 of 3 verifies as leaf 1 of 2).
//! Sources: RFC 6962, section 2.1; RFC 9162, sections 2.1.3.2 and 2.1.4.2. Leaves what a leaf means to the caller.

mod frontier;
mod proof;

pub use frontier::{Frontier, InvalidFrontier};
pub use proof::{ConsistencyProof, InclusionProof, prove_consistency, prove_inclusion};

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, SeqAccess, Visitor};

use crate::hash::{Context, Hash};

/// Most hashes in a proof or a frontier: a tree of 2^64 leaves needs no more.
pub const MAX_PATH: usize = 64;

/// The hash of a leaf that holds `bytes`, under the context of what it holds.
#[must_use]
pub fn leaf(context: Context, bytes: &[u8]) -> Hash {
    Hash::of(context, &[bytes])
}

/// The root over `leaves`, which are hashes already (of [`leaf`]).
///
/// One leaf is its own root. No leaf at all: the hash of nothing under [`Context::MerkleEmpty`].
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// A root together with its count, as headers carry it: the hash of the count (8 bytes, little-endian), then the root.
#[must_use]
pub fn bind(context: Context, count: u64, root: Hash) -> Hash {
    Hash::of(context, &[&count.to_le_bytes(), root.as_bytes()])
}

/// The root of the empty tree.
fn empty() -> Hash {
    Hash::of(Context::MerkleEmpty, &[])
}

/// An inner node: the hash of its left child, then its right one.
fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::of(Context::MerkleNode, &[left.as_bytes(), right.as_bytes()])
}

/// Reads a list of at most [`MAX_PATH`] hashes. Whatever length it claims, a longer one is refused at the cap.
fn capped_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hash>, D::Error> {
    struct Path;

    impl<'de> Visitor<'de> for Path {
        type Value = Vec<Hash>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_PATH} hashes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut hashes: A) -> Result<Vec<Hash>, A::Error> {
            let mut path = Vec::new();
            while let Some(hash) = hashes.next_element()? {
                if path.len() == MAX_PATH {
                    return Err(A::Error::custom(format_args!("more than {MAX_PATH} hashes")));
                }
                path.push(hash);
            }
            Ok(path)
        }
    }

    deserializer.deserialize_seq(Path)
}
