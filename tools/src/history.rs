//! Keeps `history`: all versions of a key, oldest first, deletions included.

use clap::Args;
use quipu_ledger::operation::Version;
use quipu_node::client_protocol::{Answer, Call, MAX_PAGE_ENTRIES, VersionEntry};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::failure::{Exit, Failure};
use crate::get::Reading;
use crate::output::Output;
use crate::session::{READ_TIMEOUT, Session, unexpected};
use crate::value::{bytes_json, bytes_text, read_bytes, read_version, version_json};

/// Read all versions of a key, oldest first.
#[derive(Args, Debug)]
pub(crate) struct History {
    /// Which.
    key: String,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only versions after this one: `next` of the page before.
    #[arg(long, value_name = "HEIGHT.POSITION", value_parser = read_version)]
    after: Option<Version>,
    #[command(flatten)]
    reading: Reading,
}

impl History {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let Reading {
            namespace,
            hex,
            consistency,
            identity,
        } = &self.reading;
        let key = read_bytes(&self.key, *hex)?;
        let session = Session::open(global, identity)?;
        let wait = global.timeout.unwrap_or(READ_TIMEOUT);
        let mut versions: Vec<VersionEntry> = Vec::new();
        let mut after = self.after;
        session.run(async {
            loop {
                let left = self
                    .limit
                    .saturating_sub(u32::try_from(versions.len()).unwrap_or(u32::MAX));
                let call = Call::History {
                    namespace: namespace.clone(),
                    key: key.clone(),
                    after,
                    limit: left.min(MAX_PAGE_ENTRIES),
                    consistency: (*consistency).into(),
                };
                match session.call(call, wait).await? {
                    Answer::Versions {
                        versions: page, next, ..
                    } => {
                        versions.extend(page);
                        after = next;
                        if after.is_none() || versions.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX) {
                            return Ok(());
                        }
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        })?;
        if versions.is_empty() && self.after.is_none() {
            let text = format!("key '{}' was never written in namespace '{namespace}'", self.key);
            return Err(Failure::new(Exit::NotFound, "not_found", text).hint("`quipu scan` lists the keys"));
        }
        if output.is_json() {
            let entry = |version| self.entry_json(&key, version);
            let list: Vec<Value> = versions.iter().map(entry).collect();
            return output.line(json!({"entries": list, "next": after.map(|next| next.to_string())}));
        }
        for version in &versions {
            let value = version
                .value
                .as_ref()
                .map_or_else(|| "(deleted)".to_owned(), |value| bytes_text(value));
            output.line(format_args!("{}\t{}\t{value}", version.version, version.id))?;
        }
        if let Some(next) = after {
            output.note(format_args!("there is more: --after {next}"));
        }
        Ok(())
    }

    fn entry_json(&self, key: &[u8], version: &VersionEntry) -> Value {
        json!({
            "namespace": self.reading.namespace.as_str(),
            "key": bytes_json(key),
            "value": version.value.as_ref().map(|value| bytes_json(value)),
            "version": version_json(version.version),
            "id": version.id.to_string(),
            "deleted": version.value.is_none(),
        })
    }
}
