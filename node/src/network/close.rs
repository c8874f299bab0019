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

    /// What it tells a reader, also of a packet dump.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Stopping => "the node stops",
            Self::Stranger => "the key is in no membership that this node knows",
            Self::Protocol => "that was not the protocol",
            Self::Replaced => "a newer connection took the place",
            Self::Full => "too many connections",
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
    connection.close(code.number(), code.meaning().as_bytes());
}
