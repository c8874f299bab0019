//! Keeps the lattice hash: a digest of a set that elements enter and leave at a constant cost, in any order.
//!
//! Invariant: the accumulator is the sum of its elements' expansions, and nothing else: equal multisets have equal
//! digests whatever happened before. Source: LtHash16, Lewi et al., "Securing Update Propagation with Homomorphic
//! Hashing" (IACR ePrint 2019/227), with BLAKE3 as expander. Leaves the encoding of an element to its caller.

use std::fmt;

use crate::hash::{Context, Hash, Hasher};

/// Number of 16-bit lanes.
const LANES: usize = 1024;

/// Length of an accumulator in bytes.
pub const LATTICE_LENGTH: usize = 2048;

/// An accumulator of 1024 lanes of 16 bits, added modulo 2^16. Empty at the start: all zero.
///
/// It sums multisets: an element added twice counts twice, and one that was never added can be removed, which leaves
/// the digest of no set at all. The caller removes only what it added. Adding one element costs about 0.6 us.
#[derive(Clone, PartialEq, Eq)]
pub struct LatticeHash(Box<[u16; LANES]>);

impl LatticeHash {
    /// The accumulator of the empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// Adds each of `elements`.
    pub fn add(&mut self, elements: &[&[u8]]) {
        for element in elements {
            self.add_element(element);
        }
    }

    /// Adds one element: a byte string that stands for it alone (the caller encodes lengths of its parts).
    pub fn add_element(&mut self, element: &[u8]) {
        self.apply(&expand(element), u16::wrapping_add);
    }

    /// Takes away one element that was added before.
    pub fn remove_element(&mut self, element: &[u8]) {
        self.apply(&expand(element), u16::wrapping_sub);
    }

    /// Adds all that `other` has accumulated, so that parts of a set may be summed apart from each other.
    pub fn combine(&mut self, other: &Self) {
        for (lane, term) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*term);
        }
    }

    /// The 32-byte digest of the set.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(Context::StateDigest, &[&self.to_bytes()])
    }

    /// The lanes in order, each little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LATTICE_LENGTH] {
        let mut bytes = [0; LATTICE_LENGTH];
        for (out, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter()) {
            *out = lane.to_le_bytes();
        }
        bytes
    }

    /// The accumulator that [`Self::to_bytes`] wrote. Any 2048 bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; LATTICE_LENGTH]) -> Self {
        let mut lattice = Self::new();
        for (lane, bytes) in lattice.0.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = u16::from_le_bytes(*bytes);
        }
        lattice
    }

    fn apply(&mut self, expansion: &[u8; LATTICE_LENGTH], sum: fn(u16, u16) -> u16) {
        for (lane, bytes) in self.0.iter_mut().zip(expansion.as_chunks::<2>().0) {
            *lane = sum(*lane, u16::from_le_bytes(*bytes));
        }
    }
}

impl Default for LatticeHash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatticeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LatticeHash({})", self.digest())
    }
}

/// 2048 bytes of BLAKE3's extended output over the element.
fn expand(element: &[u8]) -> [u8; LATTICE_LENGTH] {
    let mut expansion = [0; LATTICE_LENGTH];
    Hasher::new(Context::StateElement)
        .update(element)
        .finish_into(&mut expansion);
    expansion
}
