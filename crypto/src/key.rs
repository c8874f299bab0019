//! Keeps Ed25519 keys: the secret one that signs, and the public one that names a member, a node or an administrator.
//!
//! Invariants: a secret key is wiped from memory when dropped and never shown; a [`PublicKey`] is 32 bytes of which
//! nothing is known (decoding it cannot fail, so it cannot split replicas), until [`PublicKey::check_enrolment`].
//! Sources: RFC 8032 (keys), RFC 8410 (their DER forms). Leaves files to `key_file`, verification to `signature`.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hash::Hash;
use crate::random::{self, RandomError};
use crate::signature::Signature;

/// Length of a public key, and of the seed of a secret key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// Length of a public key as SubjectPublicKeyInfo in bytes.
pub const SPKI_LENGTH: usize = 44;

/// What stands before the 32 bytes of a public key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands before the 32 bytes of the seed in a PKCS#8 version 1 document (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why a key was not made or not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not a key.
    #[error("a public key is 64 lower-case hex digits")]
    NotHex,
    /// The bytes are no point of the curve, or not the one encoding of their point.
    #[error("these 32 bytes are not an Ed25519 public key; copy the key again from where it was made")]
    NotAPoint,
    /// The point has small order: anyone can make signatures for it.
    #[error("this public key is of small order, so anyone could sign for it; have its owner make a new key")]
    SmallOrder,
    /// The point has a part of small order: no honest generator makes such a key.
    #[error(
        "this public key is not in the prime-order group, so no honest tool made it; have its owner make a new one"
    )]
    MixedOrder,
    /// No randomness for a new key.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// An Ed25519 secret key. Wiped from memory when dropped; `Debug` shows its public half only.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Random`] if there is none.
    pub fn generate() -> Result<Self, KeyError> {
        let seed = Zeroizing::new(random::bytes::<KEY_LENGTH>()?);
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key of a known seed (RFC 8032 calls it the private key). For tests, and for seeds kept elsewhere.
    #[must_use]
    pub fn from_seed(seed: [u8; KEY_LENGTH]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(SigningKey::from_bytes(&seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs the 32 bytes of `message` (RFC 8032, section 5.1.6: deterministic, no randomness).
    ///
    /// The context is in the hash: take one that [`Hash::of`] made under the context of this very use.
    #[must_use]
    pub fn sign(&self, message: &Hash) -> Signature {
        self.sign_bytes(message.as_bytes())
    }

    /// Signs any bytes: what RFC 8032 describes, and its vectors test.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Signature {
        Signature::from_bytes(self.0.sign(message).to_bytes())
    }

    /// The key as PKCS#8 version 1 in DER, 48 bytes, as rustls takes it. Wiped when dropped.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([PKCS8_PREFIX.as_slice(), self.0.as_bytes()].concat())
    }

    /// The seed, for the key file only.
    pub(crate) fn seed(&self) -> &[u8; KEY_LENGTH] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// An Ed25519 public key: any 32 bytes. Text form: 64 lower-case hex digits.
///
/// Bytes that are no point of the curve are carried like others, and every signature fails under them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey([u8; KEY_LENGTH]);

impl PublicKey {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    /// Whether the key may be written into a membership: one canonical encoding of a point of the prime-order group.
    ///
    /// Verification needs none of this (ZIP-215 has a verdict for every key). It keeps out keys that no honest tool
    /// makes and that would let one signature stand for many messages.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`], [`KeyError::SmallOrder`] or [`KeyError::MixedOrder`].
    pub fn check_enrolment(&self) -> Result<(), KeyError> {
        let point = VerifyingKey::from_bytes(&self.0)
            .map_err(|_| KeyError::NotAPoint)?
            .to_edwards();
        if point.is_small_order() {
            return Err(KeyError::SmallOrder);
        }
        if point.compress().as_bytes() != &self.0 {
            return Err(KeyError::NotAPoint);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::MixedOrder);
        }
        Ok(())
    }

    /// The key as SubjectPublicKeyInfo in DER (RFC 8410, section 4): what TLS carries as a raw public key.
    #[must_use]
    pub fn spki_der(&self) -> [u8; SPKI_LENGTH] {
        let mut der = [0; SPKI_LENGTH];
        let (prefix, key) = der.split_at_mut(SPKI_PREFIX.len());
        prefix.copy_from_slice(&SPKI_PREFIX);
        key.copy_from_slice(&self.0);
        der
    }

    /// The key in a SubjectPublicKeyInfo; `None` unless it is byte for byte one that [`Self::spki_der`] makes.
    #[must_use]
    pub fn from_spki_der(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(KeyError::NotHex);
        }
        let mut bytes = [0; KEY_LENGTH];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::NotHex)?;
        Ok(Self(bytes))
    }
}
