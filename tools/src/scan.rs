//! Keeps `scan`: the keys with a prefix, in order, a page at a time.

use clap::Args;
use quipu_node::client_protocol::{Answer, Call, MAX_PAGE_ENTRIES};
use serde_bytes::ByteBuf;
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::get::{Reading, entry_json};
use crate::output::Output;
use crate::session::{READ_TIMEOUT, Session, unexpected};
use crate::value::{bytes_json, bytes_text, read_bytes};

/// Read the keys with a prefix, in order.
#[derive(Args, Debug)]
pub(crate) struct Scan {
    /// What they begin with; all keys where it is left away.
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only keys after this one: `next` of the page before.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

impl Scan {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let Reading {
            namespace,
            hex,
            consistency,
            identity,
        } = &self.reading;
        let prefix = read_bytes(&self.prefix, *hex)?;
        let mut after = self
            .after
            .as_ref()
            .map(|key| read_bytes(key, *hex))
            .transpose()?
            .map(ByteBuf::from);
        let session = Session::open(global, identity)?;
        let wait = global.timeout.unwrap_or(READ_TIMEOUT);
        let mut entries = Vec::new();
        let height = session.run(async {
            loop {
                let left = self
                    .limit
                    .saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                let call = Call::Scan {
                    namespace: namespace.clone(),
                    prefix: prefix.clone(),
                    after: after.take(),
                    limit: left.min(MAX_PAGE_ENTRIES),
                    consistency: (*consistency).into(),
                };
                match session.call(call, wait).await? {
                    Answer::Entries {
                        entries: page,
                        next,
                        height,
                    } => {
                        entries.extend(page);
                        after = next;
                        if after.is_none() || entries.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX) {
                            return Ok(height);
                        }
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        })?;
        if output.is_json() {
            let list: Vec<_> = entries.iter().map(|entry| entry_json(namespace, entry)).collect();
            let next = after.as_ref().map(|key| bytes_json(key));
            return output.line(json!({"entries": list, "next": next, "height": height.to_string()}));
        }
        for entry in &entries {
            output.line(format_args!("{}\t{}", bytes_text(&entry.key), bytes_text(&entry.value)))?;
        }
        if let Some(next) = &after {
            output.note(format_args!("there is more: --after '{}'", bytes_text(next)));
        }
        Ok(())
    }
}
