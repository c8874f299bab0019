//! Keeps proofs about Merkle trees: that a leaf stands in a tree, and that a tree grew out of another.
//!
//! Invariants: making a proof and verifying it never panics, whatever the numbers say; a proof verifies only with
//! exactly the hashes that its numbers require. Sources: RFC 6962, section 2.1; RFC 9162, sections 2.1.3 and 2.1.4.

use serde::{Deserialize, Serialize};

use super::{capped_path, empty, node, root};
use crate::hash::Hash;

/// Proof that a leaf is the one at `index` in a tree of `count` leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// Position of the leaf, from 0.
    pub index: u64,
    /// Leaves in the tree. Believe it only where the root is bound to it ([`super::bind`]).
    pub count: u64,
    /// Roots of the sibling subtrees, the lowest first. At most [`super::MAX_PATH`].
    #[serde(deserialize_with = "capped_path")]
    pub path: Vec<Hash>,
}

impl InclusionProof {
    /// The root that the tree has if `leaf` stands at `index`; `None` if index, count and path do not fit together.
    ///
    /// For a header's root, bind the answer to the proof's own count and compare: `bind(context, count, root)`.
    #[must_use]
    pub fn root(&self, leaf: Hash) -> Option<Hash> {
        // RFC 9162, section 2.1.3.2: `position` and `last` are its fn and sn.
        let mut last = self.count.checked_sub(1)?;
        let mut position = self.index;
        if position > last {
            return None;
        }
        let mut subtree = leaf;
        for sibling in &self.path {
            if last == 0 {
                return None;
            }
            if is_right(position, last) {
                subtree = node(sibling, &subtree);
                (position, last) = skip_promoted(position, last);
            } else {
                subtree = node(&subtree, sibling);
            }
            (position, last) = shift(position, last, 1);
        }
        (last == 0).then_some(subtree)
    }

    /// Whether the proof shows that `leaf` stands at `index` under `root`.
    #[must_use]
    pub fn verify(&self, leaf: Hash, root: Hash) -> bool {
        self.root(leaf) == Some(root)
    }
}

/// Proof that the tree of `new_count` leaves begins with exactly the leaves of the tree of `old_count`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyProof {
    /// Leaves in the older tree.
    pub old_count: u64,
    /// Leaves in the newer tree.
    pub new_count: u64,
    /// Roots of subtrees of the newer tree, the lowest first. At most [`super::MAX_PATH`].
    #[serde(deserialize_with = "capped_path")]
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Whether the proof shows that the tree under `new_root` grew out of the one under `old_root`.
    ///
    /// Every tree grows out of the empty one and out of itself; both are shown by an empty path. Roots are bare ones:
    /// who holds bound roots ([`super::bind`]) gets the bare ones beside the proof and checks that they bind to these.
    #[must_use]
    pub fn verify(&self, old_root: Hash, new_root: Hash) -> bool {
        if self.old_count == self.new_count {
            return self.path.is_empty() && old_root == new_root && (self.new_count > 0 || new_root == empty());
        }
        if self.old_count == 0 {
            return self.path.is_empty() && old_root == empty();
        }
        self.roots(old_root) == Some((old_root, new_root))
    }

    /// The two roots that the path leads to, for `0 < old_count < new_count`.
    fn roots(&self, old_root: Hash) -> Option<(Hash, Hash)> {
        // RFC 9162, section 2.1.4.2: `position` and `last` are its fn and sn, `old` and `new` its fr and sr.
        let (mut position, mut last) = (self.old_count.checked_sub(1)?, self.new_count.checked_sub(1)?);
        if position >= last {
            return None;
        }
        (position, last) = shift(position, last, position.trailing_ones());
        let mut path = self.path.iter();
        // A complete older tree is itself a subtree of the newer one; its root is known and not sent.
        let start = if self.old_count.is_power_of_two() {
            old_root
        } else {
            *path.next()?
        };
        let (mut old, mut new) = (start, start);
        for subtree in path {
            if last == 0 {
                return None;
            }
            if is_right(position, last) {
                old = node(subtree, &old);
                new = node(subtree, &new);
                (position, last) = skip_promoted(position, last);
            } else {
                new = node(&new, subtree);
            }
            (position, last) = shift(position, last, 1);
        }
        (last == 0).then_some((old, new))
    }
}

/// Whether the subtree at `position` of a level, whose last one is `last`, has its sibling on the left, be it here or
/// after it was promoted without a sibling through one or more levels.
const fn is_right(position: u64, last: u64) -> bool {
    position & 1 == 1 || position == last
}

/// Climbs the levels through which a last subtree without sibling was promoted. A `position` of 0 is never given: it
/// would be alone on its level, which is the root's.
const fn skip_promoted(position: u64, last: u64) -> (u64, u64) {
    shift(position, last, position.trailing_zeros())
}

/// Climbs `levels` levels.
const fn shift(position: u64, last: u64, levels: u32) -> (u64, u64) {
    match (position.checked_shr(levels), last.checked_shr(levels)) {
        (Some(position), Some(last)) => (position, last),
        _ => (0, 0),
    }
}

/// The proof for the leaf at `index` among `leaves`; `None` if there is no such leaf. Hashes all leaves once.
#[must_use]
pub fn prove_inclusion(leaves: &[Hash], index: u64) -> Option<InclusionProof> {
    let position = usize::try_from(index)
        .ok()
        .filter(|position| *position < leaves.len())?;
    let mut path = Vec::new();
    climb(leaves, position, &mut path);
    Some(InclusionProof {
        index,
        count: u64::try_from(leaves.len()).ok()?,
        path,
    })
}

/// PATH(m, D[n]) of RFC 6962, section 2.1.1.
fn climb(leaves: &[Hash], index: usize, path: &mut Vec<Hash>) {
    if leaves.len() < 2 {
        return;
    }
    let (left, right) = split(leaves);
    if let Some(index) = index.checked_sub(left.len()) {
        climb(right, index, path);
        path.push(root(left));
    } else {
        climb(left, index, path);
        path.push(root(right));
    }
}

/// The proof that the tree over `leaves` grew out of the one over their first `old_count`; `None` if there are fewer.
#[must_use]
pub fn prove_consistency(leaves: &[Hash], old_count: u64) -> Option<ConsistencyProof> {
    let old = usize::try_from(old_count).ok().filter(|old| *old <= leaves.len())?;
    let mut path = Vec::new();
    if old > 0 {
        compare(leaves, old, true, &mut path);
    }
    Some(ConsistencyProof {
        old_count,
        new_count: u64::try_from(leaves.len()).ok()?,
        path,
    })
}

/// SUBPROOF(m, D[n], b) of RFC 6962, section 2.1.2; `known` is b: the older root is this very subtree.
fn compare(leaves: &[Hash], old: usize, known: bool, path: &mut Vec<Hash>) {
    if old >= leaves.len() {
        if !known {
            path.push(root(leaves));
        }
        return;
    }
    let (left, right) = split(leaves);
    match old.checked_sub(left.len()) {
        Some(old) if old > 0 => {
            compare(right, old, false, path);
            path.push(root(left));
        }
        _ => {
            compare(left, old, known, path);
            path.push(root(right));
        }
    }
}

/// Splits at the largest power of two below the number of leaves, which is two at least.
fn split(leaves: &[Hash]) -> (&[Hash], &[Hash]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}
