//! Keeps the framing of every stream: 4 bytes big-endian length, then the canonical postcard bytes of one value.
//!
//! Invariants: a length above the cap is refused before anything is read for it; memory grows with what has arrived,
//! not with what was announced; a value that does not re-encode to its bytes is refused. Knows no connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quipu_ledger::codec::{self, DecodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::peer_protocol::{MAX_PEER_FRAME_BYTES, PeerFrame};

/// Bytes of the length before each frame.
const LENGTH_BYTES: usize = 4;
/// Room that is made for reading at a time, at least.
const READ_BYTES: usize = 64 * 1024;
/// Frames up to here are copied together into one chunk; longer ones are handed over as they are.
const SMALL_FRAME: usize = 16 * 1024;

/// Why a stream of frames ended badly.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame is announced that is longer than allowed.
    #[error("a frame of {length} bytes, at most {cap} are allowed")]
    TooLong {
        /// Announced.
        length: usize,
        /// Longest allowed.
        cap: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The bytes are not a value.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream broke.
    #[error(transparent)]
    Stream(#[from] std::io::Error),
}

impl FrameError {
    /// Whether the other side broke the protocol, as opposed to having gone away.
    pub(crate) const fn is_protocol(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Decode(_))
    }
}

/// The bytes of a frame between nodes, without its length.
#[must_use]
pub fn encode_frame(frame: &PeerFrame) -> Bytes {
    codec::encode(frame).into()
}

/// Reads a frame between nodes from its bytes, strictly.
///
/// # Errors
/// [`DecodeError`] where it is too long, malformed or not canonical.
pub fn decode_frame(bytes: &[u8]) -> Result<PeerFrame, DecodeError> {
    codec::decode(bytes, MAX_PEER_FRAME_BYTES)
}

/// A value with its length before it.
pub(crate) fn framed<T: Serialize>(value: &T) -> Bytes {
    let mut batch = Batch::default();
    batch.push(&codec::encode(value).into());
    batch.small.freeze()
}

/// Reads frames from a stream. Dropping a waiting [`Self::next`] loses nothing.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    cap: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Frames of at most `cap` bytes.
    pub(crate) fn new(source: R, cap: usize) -> Self {
        Self {
            source,
            buffer: BytesMut::new(),
            cap,
        }
    }

    /// The next frame's bytes, or none where the stream ended after a whole frame.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity().saturating_sub(self.buffer.len()) < READ_BYTES / 4 {
                self.buffer.reserve(READ_BYTES);
            }
            if self.source.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Cut)
                };
            }
        }
    }

    /// The next frame as a value, strictly.
    pub(crate) async fn value<T: Serialize + DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        match self.next().await? {
            Some(frame) => Ok(Some(codec::decode(&frame, self.cap)?)),
            None => Ok(None),
        }
    }

    /// The next frames may have another cap.
    pub(crate) const fn set_cap(&mut self, cap: usize) {
        self.cap = cap;
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.cap {
            return Err(FrameError::TooLong { length, cap: self.cap });
        }
        if self.buffer.len().saturating_sub(LENGTH_BYTES) < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Frames on their way into a stream: small ones share a chunk, so that many cost one write.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    chunks: Vec<Bytes>,
    small: BytesMut,
}

impl Batch {
    /// Adds a frame with its length before it.
    pub(crate) fn push(&mut self, frame: &Bytes) {
        // Callers cap frames far below 4 GiB; a longer one would be refused by its reader.
        self.small.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        if frame.len() <= SMALL_FRAME {
            self.small.extend_from_slice(frame);
        } else {
            self.chunks.push(self.small.split().freeze());
            self.chunks.push(frame.clone());
        }
    }

    /// Writes all of it; the batch is empty then.
    pub(crate) async fn write(&mut self, stream: &mut quinn::SendStream) -> Result<(), quinn::WriteError> {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
        stream.write_all_chunks(&mut self.chunks).await?;
        self.chunks.clear();
        Ok(())
    }
}
