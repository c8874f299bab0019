//! Keeps the one way from values to bytes and back: postcard, strict.
//!
//! Invariant: `decode(b) == Ok(v)` only if `encode(v) == b`: postcard's own decoder takes non-minimal varints, so what
//! does not re-encode to the same bytes is refused. The length cap comes first, trailing bytes are refused.

use serde::Serialize;
use serde::de::DeserializeOwned;

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
    if !rest.is_empty() || encode(&value) != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(value)
}
