//! Keeps `tx import`: one signed transaction for each record of a file, in the order of the file for each key.
//!
//! Invariants: the whole file is checked before anything is sent; a file of `--save` holds a transaction for each
//! record from the first on, so an import that broke off goes on with `--resume` and sends nothing that was not kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quipu_ledger::codec;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::SignedTransaction;

use super::deliver::{Content, Delivery, Parcel};
use super::records::{Format, Record, Records, wrong};
use super::saved::{Reader, Writer};
use super::sign::Signer;
use super::submit::executed_before;
use crate::cli::{Global, Identity, path_parser};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{BULK_TIMEOUT, Session};
use crate::value::{read_duration, read_namespace};

/// Bytes of a signed transaction beside its body.
const SIGNATURE: usize = 64;

/// Make and send one signed transaction for each record of an NDJSON or CSV file.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The file.
    file: PathBuf,
    /// The field whose value is the key; the value is the record itself.
    #[arg(long = "key", value_name = "FIELD")]
    field: String,
    /// How the file holds its records; by its name where it is left away (.csv, else NDJSON).
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where to write.
    #[arg(long, default_value = "default", value_parser = read_namespace)]
    namespace: Namespace,
    /// Keep the signed transactions in this file; each is on the disk before it is sent. `tx submit` sends them again.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Go on where an import with the same --save broke off.
    #[arg(long, requires = "save")]
    resume: bool,
    /// Never execute a transaction later than this after it was signed (default: half of what the network allows).
    #[arg(long, value_name = "TIME", value_parser = read_duration)]
    expires_in: Option<Duration>,
    /// The key file of a member (default for a development network: its client.key).
    #[arg(long, value_name = "FILE", value_parser = path_parser(), env = "QUIPU_KEY", hide_env_values = true)]
    identity: Option<PathBuf>,
}

impl Import {
    pub(super) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(
            global,
            &Identity {
                key: self.identity.clone(),
            },
        )?;
        let signer = Signer::new(&session, self.expires_in);
        let count = self.check(&signer, output)?;
        let (save, kept) = self.keep(&session)?;
        let source = self.source(&session, kept)?;
        let (summary, result) = session.run(async {
            let before = if kept > 0 {
                Some(executed_before(&session, global.timeout).await?)
            } else {
                None
            };
            let mut delivery = Delivery {
                client: session.client.clone(),
                wait: global.timeout.unwrap_or(BULK_TIMEOUT),
                signer,
                save,
                before,
                progress: Progress::new(output, "importing", count),
            };
            Ok(delivery.run(source).await)
        })?;
        output.done(&summary.json(), summary.text(), summary.text())?;
        result.map_err(|failure| self.broken_off(failure))?;
        summary.verdict()
    }

    fn records(&self) -> Result<Records, Failure> {
        let format = self.format.unwrap_or_else(|| Format::of(&self.file));
        Records::open(&self.file, format, &self.field)
    }

    fn operations(&self, record: Record) -> Vec<Operation> {
        operations(&self.namespace, record)
    }

    /// Reads the whole file and looks at every record; answers how many there are.
    fn check(&self, signer: &Signer, output: Output) -> Result<u64, Failure> {
        let shown = Progress::spinner(output, "checking");
        let mut count = 0_u64;
        for record in self.records()? {
            let record = record?;
            let line = record.line;
            let body = signer.body(self.operations(record), Vec::new())?;
            let length = codec::encode(&body).len().saturating_add(SIGNATURE);
            if length > MAX_TRANSACTION_BYTES {
                let text =
                    format!("makes a transaction of {length} bytes; at most {MAX_TRANSACTION_BYTES} are allowed");
                return Err(wrong(&self.file, line, &text));
            }
            count = count.saturating_add(1);
        }
        drop(shown);
        if count == 0 {
            return Err(Failure::usage(format!("{}: holds no records", self.file.display())));
        }
        Ok(count)
    }

    /// The file to save to, and how many transactions it has already.
    fn keep(&self, session: &Session) -> Result<(Option<Writer>, u64), Failure> {
        let network = session.genesis.network_id();
        match &self.save {
            Some(path) if self.resume && path.exists() => {
                let (writer, kept) = Writer::resume(path, network)?;
                Ok((Some(writer), kept))
            }
            Some(path) => Writer::create(path, network).map(|writer| (Some(writer), 0)),
            None => Ok((None, 0)),
        }
    }

    /// What was signed before, then the records that were not.
    fn source(
        &self,
        session: &Session,
        kept: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<Parcel, Failure>> + Send>, Failure> {
        let (file, namespace) = (self.file.clone(), self.namespace.clone());
        let mut saved = match &self.save {
            Some(path) if kept > 0 => Some(Reader::open(path, session.genesis.network_id())?),
            _ => None,
        };
        let mut left = kept;
        let parcels = self.records()?.map(move |record| {
            let record = record?;
            let line = record.line;
            let label = format!("line {line}");
            let wish = operations(&namespace, record);
            let Some(reader) = saved.as_mut().filter(|_| left > 0) else {
                return Ok(Parcel {
                    label,
                    content: Content::Wish(wish),
                });
            };
            left = left.saturating_sub(1);
            let missing = || {
                Err(Failure::general(
                    "resume",
                    "the saved file has become shorter while it was read",
                ))
            };
            let transaction: SignedTransaction = reader.next().unwrap_or_else(missing)?;
            if transaction.body().operations != wish {
                let text = format!("{}: line {line} is not what was signed for it before", file.display());
                return Err(Failure::general("resume", text)
                    .hint("resume with the file and options of the import that broke off"));
            }
            Ok(Parcel {
                label,
                content: Content::Signed(transaction),
            })
        });
        Ok(Box::new(parcels))
    }

    /// What to do after an import that broke off.
    fn broken_off(&self, failure: Failure) -> Failure {
        if failure.exit != Exit::Unavailable {
            return failure;
        }
        match &self.save {
            Some(save) => {
                let hint = format!(
                    "go on with the same command and --resume: what is in {} is sent again, executed once, and the \
                     rest follows",
                    save.display()
                );
                failure.hint(hint)
            }
            None => {
                let first = failure.hint.clone();
                failure.hint(format!(
                    "{first}; with --save FILE an import can go on where it broke off (--resume)"
                ))
            }
        }
    }
}

fn operations(namespace: &Namespace, record: Record) -> Vec<Operation> {
    vec![Operation::Put {
        namespace: namespace.clone(),
        key: record.key,
        value: record.value,
    }]
}
