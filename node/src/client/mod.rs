//! Keeps the way of a client to the network: one connection to each node, any number of calls on it.
//!
//! Invariants: a call is sent again elsewhere until it is answered or its deadline has passed; that is safe because
//! every call may be repeated. Leaves signing and the meaning of answers to its caller.

use std::time::Duration;

use quipu_crypto::id::{Slot, TransactionId};
use quipu_crypto::key::{PublicKey, SecretKey};
use quipu_ledger::transaction::SignedTransaction;

use crate::client_protocol::{Answer, Call, CloseCode, Rejection};

/// A node as clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number in the membership.
    pub slot: Slot,
    /// Its name, for messages.
    pub name: String,
    /// `host:port`, resolved at each connection.
    pub address: String,
    /// The key that it must show.
    pub key: PublicKey,
}

/// How long a client waits for what.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Longest wait for a connection to one node.
    pub connect_timeout: Duration,
    /// A node that has answered nothing for so long, while calls wait, is left for another.
    pub request_timeout: Duration,
    /// A connection that is silent for so long is gone.
    pub idle_timeout: Duration,
    /// How often a quiet connection is kept alive.
    pub keep_alive: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_millis(1500),
            keep_alive: Duration::from_millis(300),
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Every node that could be reached closed the connection for a reason that will not pass by itself.
    #[error("refused by {node}: {code:?}")]
    Refused {
        /// Who.
        node: String,
        /// Why.
        code: CloseCode,
        /// The key that was shown.
        key: PublicKey,
    },
    /// No node could be reached, or none could answer; nothing came of the call.
    #[error("no node answered in time; tried {}", tried.join("; "))]
    Unreachable {
        /// Each node and what happened last.
        tried: Vec<String>,
    },
    /// The deadline passed after the transaction was sent: it may still be executed.
    #[error("no answer for transaction {id} in time: it may or may not be executed; look with `quipu tx show {id}`")]
    Unresolved {
        /// Which.
        id: TransactionId,
        /// The last refusal by a node that may not have known of an earlier sending.
        rejection: Option<Box<Rejection>>,
        /// Each node and what happened last.
        tried: Vec<String>,
    },
    /// What came was not the protocol.
    #[error("{node} does not speak this protocol: {detail}")]
    Protocol {
        /// Who.
        node: String,
        /// What came.
        detail: String,
    },
    /// The client cannot be made or used like this.
    #[error("{0}")]
    Setup(String),
}

/// Calls to the nodes of one network. Cheap to clone.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// A client that will speak as `identity`. Connects at the first call.
    ///
    /// # Errors
    /// [`ClientError::Setup`] where there is no endpoint or the key does not serve.
    pub fn new(endpoints: Vec<Endpoint>, identity: &SecretKey, settings: ClientSettings) -> Result<Self, ClientError> {
        let _ = (endpoints, identity, settings);
        Err(ClientError::Setup("not built yet".to_owned()))
    }

    /// Calls nodes in turn, the last good one first, until one answers or `deadline` has passed.
    ///
    /// An answer that another node might better ([`Answer::Unavailable`], a busy rejection) is returned only when the
    /// deadline has passed.
    ///
    /// # Errors
    /// [`ClientError`], never `Unresolved`.
    pub async fn call(&self, call: Call, deadline: Duration) -> Result<Answer, ClientError> {
        let _ = (call, deadline);
        Err(ClientError::Setup("not built yet".to_owned()))
    }

    /// Calls one node, again if its connection breaks, and returns whatever it answers.
    ///
    /// # Errors
    /// [`ClientError`], never `Unresolved`.
    pub async fn call_node(&self, slot: Slot, call: Call, deadline: Duration) -> Result<Answer, ClientError> {
        let _ = (slot, call, deadline);
        Err(ClientError::Setup("not built yet".to_owned()))
    }

    /// Submits a transaction until it is answered: `Executed`, `Rejected`, or at the deadline `Pending`.
    ///
    /// However often it is sent, it is executed at most once, because of its id.
    ///
    /// # Errors
    /// [`ClientError::Unresolved`] where a node may have taken it and the deadline has passed; others where none has.
    pub async fn submit(&self, transaction: &SignedTransaction, deadline: Duration) -> Result<Answer, ClientError> {
        let _ = (transaction, deadline);
        Err(ClientError::Setup("not built yet".to_owned()))
    }

    /// Tells the nodes that this client is gone and waits shortly until that has been sent.
    pub async fn close(&self) {}
}
