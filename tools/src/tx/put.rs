//! Keeps `tx put`: one key, one value, one signed transaction, and the wait for its execution.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use quipu_ledger::operation::{Condition, Namespace, Operation, Version};

use super::saved::Writer;
use super::settle::{Fate, settle};
use super::sign::Signer;
use super::{receipt_done, receipt_json, receipt_text, without_effect};
use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::session::{SUBMIT_TIMEOUT, Session};
use crate::value::{read_bytes, read_duration, read_namespace, read_version};

/// Set a key to a value, in one signed transaction, and wait until it is executed.
#[derive(Args, Debug)]
pub(crate) struct Put {
    /// Which key.
    key: String,
    /// Its new value.
    #[arg(required_unless_present = "value_file", conflicts_with = "value_file")]
    value: Option<String>,
    /// Take the value from a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// Where.
    #[arg(long, default_value = "default", value_parser = read_namespace)]
    namespace: Namespace,
    /// Key and value are given in hex.
    #[arg(long)]
    hex: bool,
    /// A note for the sender's own use, in the chain for good; at most 1024 bytes.
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
    /// Only if the key has no value.
    #[arg(long, group = "condition")]
    if_absent: bool,
    /// Only if the key has a value.
    #[arg(long, group = "condition")]
    if_present: bool,
    /// Only if the key's value was written by this version.
    #[arg(long, group = "condition", value_name = "HEIGHT.POSITION", value_parser = read_version)]
    if_version: Option<Version>,
    /// Only if the key has this value.
    #[arg(long, group = "condition", value_name = "VALUE")]
    if_value: Option<String>,
    /// Never execute it later than this from now (default: half of what the network allows).
    #[arg(long, value_name = "TIME", value_parser = read_duration)]
    expires_in: Option<Duration>,
    /// Keep the signed transaction in this new file before it is sent: `tx show FILE` and `tx submit FILE` take it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    identity: Identity,
}

impl Put {
    pub(super) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let operations = self.operations()?;
        let session = Session::open(global, &self.identity)?;
        let signer = Signer::new(&session, self.expires_in);
        let transaction = signer.sign(operations, self.memo.as_bytes().to_vec())?;
        if let Some(path) = &self.save {
            Writer::create(path, session.genesis.network_id())?.append(std::slice::from_ref(&transaction))?;
        }
        let wait = global.timeout.unwrap_or(SUBMIT_TIMEOUT);
        match session.run(settle(&session.client, &transaction, wait))? {
            Fate::Executed(receipt) => {
                output.done(&receipt_json(&receipt), receipt_text(&receipt), receipt_done(&receipt))?;
                without_effect(&receipt)
            }
            Fate::Rejected(rejection) => Err(rejection.into()),
            Fate::Never => Err(Failure::new(
                Exit::Rejected,
                "expired",
                format!(
                    "transaction {} expired before it was executed, and never will be",
                    transaction.id()
                ),
            )),
        }
    }

    fn operations(&self) -> Result<Vec<Operation>, Failure> {
        let key = read_bytes(&self.key, self.hex)?;
        let value = self.value()?;
        let mut operations = Vec::new();
        if let Some(condition) = self.condition()? {
            operations.push(Operation::Require {
                namespace: self.namespace.clone(),
                key: key.clone(),
                condition,
            });
        }
        operations.push(Operation::Put {
            namespace: self.namespace.clone(),
            key,
            value,
        });
        Ok(operations)
    }

    fn condition(&self) -> Result<Option<Condition>, Failure> {
        Ok(match (&self.if_version, &self.if_value) {
            _ if self.if_absent => Some(Condition::Absent),
            _ if self.if_present => Some(Condition::Present),
            (Some(version), _) => Some(Condition::Version(*version)),
            (_, Some(value)) => Some(Condition::Value(read_bytes(value, self.hex)?)),
            (None, None) => None,
        })
    }

    fn value(&self) -> Result<Vec<u8>, Failure> {
        let Some(path) = &self.value_file else {
            return read_bytes(self.value.as_deref().unwrap_or_default(), self.hex);
        };
        let failed = |error: std::io::Error| Failure::file(path, "read", &error);
        let source: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(path).map_err(failed)?)
        };
        let mut value = Vec::new();
        let cap = u64::try_from(MAX_TRANSACTION_BYTES).unwrap_or(u64::MAX);
        source
            .take(cap.saturating_add(1))
            .read_to_end(&mut value)
            .map_err(failed)?;
        if value.len() > MAX_TRANSACTION_BYTES {
            let text = format!("{}: is longer than a transaction may be ({cap} bytes)", path.display());
            return Err(Failure::usage(text).hint("keep large values elsewhere and their hash here"));
        }
        if self.hex {
            read_bytes(String::from_utf8_lossy(&value).trim(), true)
        } else {
            Ok(value)
        }
    }
}
