//! Keeps `block show`: one block of the chain, and how blocks look in output.

use clap::{Args, Subcommand};
use quipu_crypto::id::Height;
use quipu_ledger::block::{self, Kind};
use quipu_ledger::result::Outcome;
use quipu_node::client_protocol::{Answer, Call};
use serde_json::{Value, json};

use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::session::{READ_TIMEOUT, Session, unexpected};
use crate::value::time_text;

/// Blocks.
#[derive(Debug, Subcommand)]
pub(crate) enum Block {
    /// Show an executed block.
    Show(Show),
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// Which; the last executed one where it is left away.
    height: Option<Height>,
    #[command(flatten)]
    identity: Identity,
}

impl Block {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(global, output),
        }
    }
}

/// An executed block with the results of its transactions.
pub(crate) struct Executed {
    pub(crate) block: block::Block,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Show {
    fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(global, &self.identity)?;
        let call = Call::Block { height: self.height };
        let answer = session.run(session.call(call, global.timeout.unwrap_or(READ_TIMEOUT)))?;
        let (block, last) = read(answer)?;
        match block {
            Some(executed) => output.data(&executed.json(), executed.text()),
            None => {
                let height = self.height.unwrap_or(last);
                let text = format!("block {height} is not executed yet; the last executed one is {last}");
                Err(Failure::new(Exit::NotFound, "not_found", text).hint("`quipu watch` waits for new blocks"))
            }
        }
    }
}

/// The block in an answer, and the last executed height.
pub(crate) fn read(answer: Answer) -> Result<(Option<Executed>, Height), Failure> {
    let Answer::Block {
        block,
        outcomes,
        height,
    } = answer
    else {
        return Err(unexpected(&answer));
    };
    let Some(bytes) = block else { return Ok((None, height)) };
    let block = block::Block::decode(&bytes)
        .map_err(|error| Failure::general("protocol", format!("the node sent something that is no block: {error}")))?;
    Ok((Some(Executed { block, outcomes }), height))
}

impl Executed {
    /// As `block show` and `watch` write it.
    pub(crate) fn json(&self) -> Value {
        let header = self.block.header();
        let ids: Vec<String> = self.block.transactions().iter().map(|tx| tx.id().to_string()).collect();
        let failed = self
            .outcomes
            .iter()
            .filter(|outcome| **outcome != Outcome::Applied)
            .count();
        json!({
            "height": header.height.to_string(),
            "hash": self.block.hash().to_string(),
            "previous": header.previous.to_string(),
            "term": header.term.to_string(),
            "time": time_text(header.time),
            "kind": kind_text(header.kind),
            "proposer": header.proposer.to_string(),
            "transactions": ids,
            "failed": failed.to_string(),
            "executed": header.executed.height.to_string(),
            "state_digest": header.executed.state_digest.to_string(),
            "certificate": self.block.body().certificate.as_ref().map(|certificate| certificate.height.to_string()),
        })
    }

    fn text(&self) -> String {
        let header = self.block.header();
        let mut text = format!(
            "height       {}\nhash         {}\nprevious     {}\nterm         {}\ntime         {}\nkind         {}\n\
             proposer     {}\nexecuted     {}\ntransactions {}",
            header.height,
            self.block.hash(),
            header.previous,
            header.term,
            time_text(header.time),
            kind_text(header.kind),
            header.proposer,
            header.executed.height,
            self.block.transactions().len(),
        );
        for (position, transaction) in self.block.transactions().iter().enumerate() {
            let outcome = self.outcomes.get(position).map_or("", |outcome| outcome_text(*outcome));
            text.push_str(&format!("\n  {position}\t{}\t{outcome}", transaction.id()));
        }
        text
    }

    /// One line, for `watch`.
    pub(crate) fn line(&self) -> String {
        let header = self.block.header();
        let count = self.block.transactions().len();
        let failed = self
            .outcomes
            .iter()
            .filter(|outcome| **outcome != Outcome::Applied)
            .count();
        let what = match header.kind {
            Kind::Transactions if failed > 0 => format!("{count} transactions, {failed} failed"),
            Kind::Transactions => format!("{count} transactions"),
            Kind::Opening => format!("node {} leads term {}", header.proposer, header.term),
            Kind::Membership => "membership".to_owned(),
        };
        format!(
            "{}\t{}\t{}\t{what}",
            header.height,
            time_text(header.time),
            self.block.hash()
        )
    }
}

/// The stable word for a kind of block.
pub(crate) const fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Opening => "opening",
        Kind::Transactions => "transactions",
        Kind::Membership => "membership",
    }
}

/// The stable word for what came of a transaction: `applied`, or the code of the reason.
pub(crate) const fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Failed(reason) => reason.code(),
    }
}
