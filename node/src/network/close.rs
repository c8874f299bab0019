//! Keeps how connections are closed: with a typed code that the other side can read.

use quinn::{ConnectionError, VarInt};

use crate::client_protocol::CloseCode;

impl CloseCode {
    /// Every code.
    const ALL: [Self; 5] = [
        Self::Stopping,
        Self::Stranger,
        Self::Protocol,
        Self::Replaced,
        Self::Full,
    ];

    /// As it travels in the application close of QUIC.
    pub(crate) const fn number(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// What it tells whoever reads a packet dump or a log.
    const fn reason(self) -> &'static [u8] {
        match self {
            Self::Stopping => b"the node stops",
            Self::Stranger => b"the key is in no membership that this node knows",
            Self::Protocol => b"that was not the protocol",
            Self::Replaced => b"a newer connection took the place",
            Self::Full => b"too many connections",
        }
    }

    /// The code with which the other side closed a connection, if it did.
    #[must_use]
    pub fn from_error(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                Self::ALL.into_iter().find(|code| code.number() == close.error_code)
            }
            _ => None,
        }
    }
}

/// Closes a connection; what was written and not yet acknowledged may be lost.
pub(crate) fn close(connection: &quinn::Connection, code: CloseCode) {
    connection.close(code.number(), code.reason());
}
