//! Keeps `get`: the value of a key, now or as it was after a block.

use clap::{Args, ValueEnum};
use quipu_crypto::id::Height;
use quipu_ledger::operation::Namespace;
use quipu_node::client_protocol::{self, Answer, Call, Entry};
use serde_json::{Value, json};

use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::session::{READ_TIMEOUT, Session, unexpected};
use crate::value::{bytes_json, bytes_text, read_bytes, read_namespace, version_json};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Consistency {
    /// Sees every write that was acknowledged before; a leader confirms it.
    #[default]
    Linearizable,
    /// What the node that answers has executed; may be old, needs no leader.
    Local,
}

impl From<Consistency> for client_protocol::Consistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::Linearizable => Self::Linearizable,
            Consistency::Local => Self::Local,
        }
    }
}

/// What `get`, `scan` and `history` share.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reading {
    /// Where to look.
    #[arg(long, default_value = "default", value_parser = read_namespace)]
    pub(crate) namespace: Namespace,
    /// The key or prefix is given in hex.
    #[arg(long)]
    pub(crate) hex: bool,
    /// How fresh.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) consistency: Consistency,
    #[command(flatten)]
    pub(crate) identity: Identity,
}

/// Read the value of a key.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// Which.
    key: String,
    /// As it was after the block of this height.
    #[arg(long, value_name = "HEIGHT")]
    at: Option<Height>,
    /// Write the value's bytes and nothing else, not even a line end.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Get {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let Reading {
            namespace,
            hex,
            consistency,
            identity,
        } = &self.reading;
        let key = read_bytes(&self.key, *hex)?;
        let session = Session::open(global, identity)?;
        let call = Call::Get {
            namespace: namespace.clone(),
            key,
            at: self.at,
            consistency: (*consistency).into(),
        };
        let answer = session.run(session.call(call, global.timeout.unwrap_or(READ_TIMEOUT)));
        let (entry, height) = match answer {
            Ok(Answer::Value { entry, height }) => (entry, height),
            Ok(other) => return Err(unexpected(&other)),
            Err(failure) if failure.code == "invalid" && self.at.is_some() => return Err(not_yet(&failure)),
            Err(failure) => return Err(failure),
        };
        let Some(entry) = entry else {
            let text = format!(
                "there is no key '{}' in namespace '{namespace}' at height {height}",
                self.key
            );
            return Err(Failure::new(Exit::NotFound, "not_found", text)
                .hint("`quipu scan` lists the keys; `quipu history` tells whether it was deleted"));
        };
        if self.raw {
            return output.bytes(&entry.value);
        }
        output.data(&entry_json(namespace, &entry), bytes_text(&entry.value))
    }
}

/// A height that is not there yet.
fn not_yet(failure: &Failure) -> Failure {
    let message = failure.message.replace("the call is not valid: ", "");
    Failure::new(Exit::NotFound, "not_found", message).hint("`quipu block show` tells the last executed height")
}

/// An entry of the state as JSON.
pub(crate) fn entry_json(namespace: &Namespace, entry: &Entry) -> Value {
    json!({
        "namespace": namespace.as_str(),
        "key": bytes_json(&entry.key),
        "value": bytes_json(&entry.value),
        "version": version_json(entry.version),
    })
}
