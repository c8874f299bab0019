//! Keeps the one way from values to bytes and back: postcard, strict.
//!
//! Invariant: `decode(b) == Ok(v)` only if `encode(v) == b`: postcard's own decoder takes non-minimal varints, so what
//! does not re-encode to the same bytes is refused. The length cap comes first, trailing bytes are refused.

use std::fmt;
use std::marker::PhantomData;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::{DeserializeOwned, SeqAccess, Visitor};

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than anything of that kind may be.
    #[error("{length} bytes, at most {cap} are allowed")]
    TooLong {
        /// Length given.
        length: usize,
        /// Longest allowed.
        cap: usize,
    },
    /// Ends early, or holds something that the type cannot hold.
    #[error("not a valid encoding")]
    Malformed,
    /// Valid, but not the shortest form, or with bytes left over.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// Decoded, but a count, length or name in it is out of bounds.
    #[error("out of bounds: {0}")]
    OutOfBounds(&'static str),
}

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: postcard fails only on sequences of unknown length, which none of them has.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    match postcard::to_stdvec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("postcard encodes every type of the ledger: {error}"),
    }
}

/// [`encode`], where about `length` bytes are expected: no memory is asked for twice, nor moved.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn encode_sized<T: Serialize + ?Sized>(value: &T, length: usize) -> Vec<u8> {
    match postcard::to_extend(value, Vec::with_capacity(length)) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("postcard encodes every type of the ledger: {error}"),
    }
}

/// Reads a value from its canonical bytes, at most `cap` of them.
///
/// # Errors
/// [`DecodeError`] where the bytes are too long, malformed or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], cap: usize) -> Result<T, DecodeError> {
    if bytes.len() > cap {
        return Err(DecodeError::TooLong {
            length: bytes.len(),
            cap,
        });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| DecodeError::Malformed)?;
    if !rest.is_empty() || !encodes_to(&value, bytes) {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}

/// Whether `encode(value) == bytes`, without making them again.
fn encodes_to<T: Serialize + ?Sized>(value: &T, bytes: &[u8]) -> bool {
    postcard::serialize_with_flavor(value, Expected(bytes)).unwrap_or(false)
}

/// What is still to come of an encoding; an output that takes nothing else.
struct Expected<'b>(&'b [u8]);

impl Flavor for Expected<'_> {
    type Output = bool;

    #[inline]
    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(data).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.0.is_empty())
    }
}

/// Reads a list of at most `MAX` items, for `#[serde(deserialize_with)]`: items that take no bytes of their own could
/// otherwise cost many times the memory of the bytes that claim them.
///
/// # Errors
/// Where there are more.
pub fn at_most<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: serde::Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(serde::de::Error::invalid_length(MAX.saturating_add(1), &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}
