//! Keeps signatures and the one rule by which they are verified: ZIP-215, single or in batch.
//!
//! Invariant: [`verify`], [`verify_batch`] and [`verify_each`] agree on every input, so no crafted signature can make
//! one replica accept what another refuses. It holds because ZIP-215 multiplies by the cofactor everywhere: no verdict
//! depends on a point of small order. Sources: ZIP-215 (<https://zips.z.cash/zip-0215>), RFC 8032, section 5.1.7.

use std::convert::Infallible;
use std::fmt;

use ed25519_zebra::{VerificationKeyBytes, batch};
use rand_core::{TryCryptoRng, TryRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{Context, Hash, Hasher};
use crate::key::PublicKey;

/// Length of a signature in bytes.
pub const SIGNATURE_LENGTH: usize = 64;

/// Below this number [`verify_each`] looks at signatures one by one: a batch of so few saves next to nothing.
const ONE_BY_ONE: usize = 8;

/// An Ed25519 signature: any 64 bytes. Serialised as 64 bare bytes; text form: 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; SIGNATURE_LENGTH]);

impl Signature {
    /// Sixty-four zero bytes: what stands where a format has a signature and nobody signs (block 0).
    pub const EMPTY: Self = Self([0; SIGNATURE_LENGTH]);

    /// Takes the bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SIGNATURE_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes: R, then s (RFC 8032, section 5.1.6).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_LENGTH] {
        &self.0
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// serde knows arrays up to 32 elements; a pair of halves is the same 64 bare bytes in postcard.
impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signature = ed25519_zebra::Signature::from_bytes(&self.0);
        (signature.r_bytes(), signature.s_bytes()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (r, s) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        Ok(Self(ed25519_zebra::Signature::from_components(r, s).to_bytes()))
    }
}

/// A claim to be verified: that the owner of `key` signed `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHash {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// What: a hash under the context of this use.
    pub hash: Hash,
    /// The proof.
    pub signature: Signature,
}

/// Whether `signature` is one of `key` over the 32 bytes of `message`. About 38 us.
#[must_use]
pub fn verify(key: &PublicKey, message: &Hash, signature: &Signature) -> bool {
    item(key, message.as_bytes(), signature).verify_single().is_ok()
}

/// What both ways of verifying start from.
fn item(key: &PublicKey, message: &[u8], signature: &Signature) -> batch::Item {
    let key = VerificationKeyBytes::from(*key.as_bytes());
    let signature = ed25519_zebra::Signature::from_bytes(&signature.0);
    batch::Item::from((key, signature, message))
}

/// Whether every one of `claims` verifies; true for none.
///
/// In a batch of 256 about 17 us each if every key is another one, 9 us each if they are by few keys: the work for a
/// key is done once for all its signatures. (`examples/costs.rs` measures.)
#[must_use]
pub fn verify_batch(claims: &[SignedHash]) -> bool {
    match claims {
        [] => true,
        [claim] => verify(&claim.key, &claim.hash, &claim.signature),
        claims => {
            let mut verifier = batch::Verifier::new();
            for claim in claims {
                verifier.queue(item(&claim.key, claim.hash.as_bytes(), &claim.signature));
            }
            verifier.verify(Coefficients::of(claims)).is_ok()
        }
    }
}

/// The verdict of [`verify`] for each of `claims`, in their order.
///
/// Costs one batch where all are good. A bad one is searched for by halves, at two or three batches; however many are
/// bad, it costs at most three batches more than [`verify`] for each would.
#[must_use]
pub fn verify_each(claims: &[SignedHash]) -> Vec<bool> {
    let verdicts = Vec::with_capacity(claims.len());
    let mut search = Search {
        verdicts,
        budget: claims.len().saturating_mul(3),
    };
    search.judge(claims, false);
    search.verdicts
}

/// A search for bad signatures by halves.
struct Search {
    verdicts: Vec<bool>,
    /// Signatures that may still stand in failing batches; a batch that passes earns what it saved. When it is spent,
    /// the bad ones are many, and looking at each is cheaper than searching.
    budget: usize,
}

impl Search {
    /// Appends a verdict for each of `claims`; answers whether all are good. `known_bad`: one of them is not.
    fn judge(&mut self, claims: &[SignedHash], known_bad: bool) -> bool {
        if claims.len() < ONE_BY_ONE || (!known_bad && self.budget < claims.len()) {
            let before = self.verdicts.len();
            self.verdicts.extend(
                claims
                    .iter()
                    .map(|claim| verify(&claim.key, &claim.hash, &claim.signature)),
            );
            return self.verdicts.iter().skip(before).all(|good| *good);
        }
        if !known_bad {
            if verify_batch(claims) {
                self.verdicts
                    .resize(self.verdicts.len().saturating_add(claims.len()), true);
                return true;
            }
            self.budget = self.budget.saturating_sub(claims.len());
        }
        let (first, second) = claims.split_at(claims.len() / 2);
        let first_good = self.judge(first, false);
        self.judge(second, first_good) && first_good
    }
}

/// The random factors of a batch, drawn from a hash over all that is verified.
///
/// Whoever chooses signatures to cancel each other out must choose them before the factors are known; a factor has 128
/// bits, so a try succeeds with probability 2^-128. Without the system's randomness a batch cannot fail for want of it.
struct Coefficients(blake3::OutputReader);

impl Coefficients {
    fn of(claims: &[SignedHash]) -> Self {
        let mut hasher = Hasher::new(Context::BatchCoefficients);
        for claim in claims {
            hasher
                .update(claim.key.as_bytes())
                .update(claim.hash.as_bytes())
                .update(&claim.signature.0);
        }
        Self(hasher.finish_xof())
    }
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}

#[cfg(test)]
mod tests;
