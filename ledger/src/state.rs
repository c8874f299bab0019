//! Keeps the words for the world state: keys, stored values, and the element that stands for each under the digest.
//!
//! Invariant: the state digest is the lattice sum of [`element`] over all keys that have a value, and of nothing else.
//! Leaves changing it to `execute`, and storing it to `store`.

use std::fmt;

use quipu_crypto::lattice::LatticeHash;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::limits::{MAX_KEY_BYTES, MAX_NAMESPACE_BYTES};
use crate::operation::{Namespace, Version};

/// A namespace and a key in it, as the store sorts them: length of the namespace (1 byte), namespace, key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey(Vec<u8>);

impl StateKey {
    /// Joins the parts. `key` is 1 to 1024 bytes where it comes from an operation.
    #[must_use]
    pub fn new(namespace: &Namespace, key: &[u8]) -> Self {
        let mut bytes = namespace_prefix(namespace);
        bytes.extend_from_slice(key);
        Self(bytes)
    }

    /// Reads the bytes of [`Self::as_bytes`].
    ///
    /// # Errors
    /// Where they are no namespace and key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (namespace, key) = split_namespace(bytes)?;
        Namespace::new(namespace)?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(DecodeError::OutOfBounds("a key has 1 to 1024 bytes"));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The name of the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        split_namespace(&self.0).map_or("", |(namespace, _)| namespace)
    }

    /// The key in it.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        split_namespace(&self.0).map_or(&[], |(_, key)| key)
    }

    /// The joined bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for StateKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// As messages name it: `namespace/key`, the key escaped where it is not printable.
impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.key().escape_ascii())
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Length of the namespace (1 byte), then the namespace: what all its keys begin with.
#[must_use]
pub fn namespace_prefix(namespace: &Namespace) -> Vec<u8> {
    let name = namespace.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(name.len().saturating_add(33));
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(name);
    bytes
}

/// Takes a namespace, behind its length, off the front of `bytes`.
pub(crate) fn split_namespace(bytes: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let (length, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    let length = usize::from(*length);
    if length > MAX_NAMESPACE_BYTES {
        return Err(DecodeError::OutOfBounds("a namespace has at most 64 bytes"));
    }
    let (namespace, rest) = rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
    let namespace = std::str::from_utf8(namespace).map_err(|_| DecodeError::Malformed)?;
    Ok((namespace, rest))
}

/// A value and the transaction that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredValue {
    /// Who wrote it.
    pub version: Version,
    /// Any bytes, also none.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

/// A stored value that is not owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StoredRef<'v> {
    /// Who wrote it.
    pub version: Version,
    /// Any bytes, also none.
    #[serde(with = "serde_bytes")]
    pub value: &'v [u8],
}

impl StoredValue {
    /// Borrows it.
    #[must_use]
    pub fn as_ref(&self) -> StoredRef<'_> {
        StoredRef {
            version: self.version,
            value: &self.value,
        }
    }
}

/// A key with its value, as reads answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key in its namespace.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Who wrote it.
    pub version: Version,
}

/// What stands for a key and its value under the state digest: the encoding of (namespace, key, value, version).
#[must_use]
pub fn element(key: &StateKey, stored: StoredRef<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Element<'e> {
        namespace: &'e str,
        #[serde(with = "serde_bytes")]
        key: &'e [u8],
        #[serde(with = "serde_bytes")]
        value: &'e [u8],
        version: Version,
    }
    let element = Element {
        namespace: key.namespace(),
        key: key.key(),
        value: stored.value,
        version: stored.version,
    };
    // Three lengths and a version take at most 24 bytes.
    let length = key.0.len().saturating_add(stored.value.len()).saturating_add(24);
    codec::encode_sized(&element, length)
}

/// Takes what `key` held out of the accumulator and puts in what it holds now.
pub fn account(lattice: &mut LatticeHash, key: &StateKey, before: Option<StoredRef<'_>>, after: Option<StoredRef<'_>>) {
    if before == after {
        return;
    }
    if let Some(stored) = before {
        lattice.remove_element(&element(key, stored));
    }
    if let Some(stored) = after {
        lattice.add_element(&element(key, stored));
    }
}
