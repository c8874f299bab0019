//! Keeps `tx submit`: signed transactions of a file, sent again or for the first time; the same thing either way.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quipu_crypto::id::Height;
use quipu_ledger::operation::Namespace;
use quipu_node::client_protocol::{Answer, Call, Consistency};

use super::deliver::{Content, Delivery, Parcel};
use super::saved::Reader;
use super::sign::Signer;
use super::{receipt_done, receipt_json, receipt_text, without_effect};
use crate::cli::{Global, Identity};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{BULK_TIMEOUT, READ_TIMEOUT, Session, unexpected};
use crate::value::with;

/// Send signed transactions of a file; those that were executed before change nothing.
#[derive(Args, Debug)]
pub(crate) struct Submit {
    /// A file that `tx import --save` or `tx put --save` wrote.
    file: PathBuf,
    #[command(flatten)]
    identity: Identity,
}

impl Submit {
    pub(super) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(global, &self.identity)?;
        let network = session.genesis.network_id();
        // The whole file is read before anything of it is sent: a damaged one is told at once.
        let mut count = 0_u64;
        let mut reader = Reader::open(&self.file, network)?;
        for transaction in &mut reader {
            transaction?;
            count = count.saturating_add(1);
        }
        if reader.torn() {
            output.note(
                "the last line of the file was cut off while it was written, so it was never sent; it is left out",
            );
        }
        if count == 0 {
            let text = format!("{}: holds no transaction", self.file.display());
            return Err(Failure::general("empty", text));
        }
        let source = Reader::open(&self.file, network)?.map(|transaction| transaction.map(signed));
        let (summary, result) = session.run(async {
            let before = executed_before(&session, global.timeout).await?;
            let mut delivery = Delivery {
                client: session.client.clone(),
                wait: global.timeout.unwrap_or(BULK_TIMEOUT),
                signer: Signer::new(&session, None),
                save: None,
                before: Some(before),
                progress: Progress::new(output, "submitting", count),
            };
            Ok(delivery.run(source).await)
        })?;
        if let (1, Some(receipt), Ok(())) = (count, summary.last, &result) {
            let json = with(receipt_json(&receipt), [("already", (summary.already == 1).into())]);
            output.done(&json, receipt_text(&receipt), receipt_done(&receipt))?;
            return without_effect(&receipt);
        }
        output.done(&summary.json(), summary.text(), summary.text())?;
        result.map_err(|failure| {
            let file = self.file.display();
            failure.hint(format!(
                "send the file again: quipu tx submit {file}; what was executed stays as it is"
            ))
        })?;
        summary.verdict()
    }
}

fn signed(transaction: quipu_ledger::transaction::SignedTransaction) -> Parcel {
    Parcel {
        label: transaction.id().to_string(),
        content: Content::Signed(transaction),
    }
}

/// A height that every transaction answered before now is not above, and every one sent from now on is.
pub(super) async fn executed_before(session: &Session, timeout: Option<Duration>) -> Result<Height, Failure> {
    // A linearizable read of any key: the answer's height is what matters.
    let namespace = Namespace::new("default")?;
    let call = Call::Get {
        namespace,
        key: vec![0],
        at: None,
        consistency: Consistency::Linearizable,
    };
    match session
        .call(call, timeout.unwrap_or(READ_TIMEOUT.saturating_mul(3)))
        .await?
    {
        Answer::Value { height, .. } => Ok(height),
        other => Err(unexpected(&other)),
    }
}
