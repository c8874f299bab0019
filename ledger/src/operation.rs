//! Keeps what a transaction can do to the world state: put, delete, and `require` a condition.
//!
//! Invariant: the keys of an operation are known before it runs, so transactions can be locked in block order.
//! Leaves who may do it to `membership`, and doing it to `execute`.

use std::fmt;

use quipu_crypto::id::Height;
use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::limits::{MAX_KEY_BYTES, MAX_NAMESPACE_BYTES};

/// A named part of the world state with writers of its own. `a-z`, `0-9`, `-`, `_`, `.`; 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(String);

impl Namespace {
    /// Takes a name.
    ///
    /// # Errors
    /// Where it is empty, too long or has other letters than `a-z`, `0-9`, `-`, `_`, `.`.
    pub fn new(name: impl Into<String>) -> Result<Self, DecodeError> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || !name.bytes().all(allowed) {
            return Err(DecodeError::OutOfBounds(
                "a namespace has 1 to 64 letters of a-z, 0-9, '-', '_', '.'",
            ));
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Namespace {
    type Error = DecodeError;

    fn try_from(name: String) -> Result<Self, DecodeError> {
        Self::new(name)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where in the chain a transaction stands, and so which version of a value it wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Height of the block.
    pub height: Height,
    /// Index of the transaction in it, from 0.
    pub position: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.height, self.position)
    }
}

/// One step of a transaction. All of them succeed, or none takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Sets a key to a value.
    Put {
        /// Where.
        namespace: Namespace,
        /// 1 to 1024 bytes.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// Any bytes, also none.
        #[serde(with = "serde_bytes")]
        value: Vec<u8>,
    },
    /// Removes a key; not an error where there is none.
    Delete {
        /// Where.
        namespace: Namespace,
        /// 1 to 1024 bytes.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    },
    /// Lets the transaction fail unless the condition holds. Sees what earlier operations of the transaction did.
    Require {
        /// Where.
        namespace: Namespace,
        /// 1 to 1024 bytes.
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
        /// What must hold.
        condition: Condition,
    },
}

/// What `require` demands of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// There is no value.
    Absent,
    /// There is a value, whatever it is.
    Present,
    /// The value was written by exactly this version.
    Version(Version),
    /// The value equals these bytes.
    Value(#[serde(with = "serde_bytes")] Vec<u8>),
}

impl Operation {
    /// The namespace that it reads or writes.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        match self {
            Self::Put { namespace, .. } | Self::Delete { namespace, .. } | Self::Require { namespace, .. } => namespace,
        }
    }

    /// The key that it reads or writes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Require { key, .. } => key,
        }
    }

    /// Whether it changes the state (and so needs the right to write).
    #[must_use]
    pub const fn writes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// Where the key is empty or too long.
    pub fn check_bounds(&self) -> Result<(), DecodeError> {
        if self.key().is_empty() || self.key().len() > MAX_KEY_BYTES {
            return Err(DecodeError::OutOfBounds("a key has 1 to 1024 bytes"));
        }
        Ok(())
    }
}
