//! Keeps `bench`: a load generator beside the limits of the same machine, measured in the same run.
//!
//! Invariants: what can be signed before the clock starts is, and only executed transactions count as committed; in an
//! open loop a latency begins when the step was due, not when it could be sent (no coordinated omission).

mod accounts;
mod html;
mod keys;
mod limits;
mod load;
mod plot;
mod processes;
mod report;
mod schedule;
mod supply;
mod tally;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quipu_crypto::id::Slot;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client_protocol::{Call, Consistency};
use serde_json::Value;

use crate::cli::{Global, Identity};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{READ_TIMEOUT, SUBMIT_TIMEOUT, Session};
use crate::tx::sign::Signer;
use crate::value::{read_namespace, with};
use keys::{KeySpace, Keys};
use load::Load;
use supply::{MEMORY_MIB, Plan, Supply};

/// Steps that one client takes in a second at most: what is made ready for a run by time.
const PER_CLIENT: u64 = 4_000;
/// Steps that all clients together take in a second at most.
const ALL_CLIENTS: u64 = 40_000;
/// Most steps of one run.
const MOST: u64 = 1_000_000_000;

/// What the transactions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Each sets one key to --value-bytes of random bytes.
    #[default]
    Put,
    /// Each reads two of --key-count accounts, and moves 1 from one to the other if neither has changed since:
    /// contended where keys are few or drawn as Zipf says. A transfer that came too late fails, is counted under
    /// `requirement_failed`, and is not tried again. Signed when the accounts are read, within the measured time.
    /// In the end the balances are summed up: none may be lost.
    Transfer,
    /// Reads and puts of --key-count keys that are there before; --reads of a hundred steps are reads.
    Mixed,
}

impl Workload {
    const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Transfer => "transfer",
            Self::Mixed => "mixed",
        }
    }
}

const MEASURED: &str = "\
What is measured: the latency of a transaction is the time from its sending (with --rate: from the moment when it was \
due) until the node that was asked has executed it and the answer is here; that of a transfer has the reads of both \
accounts in it. Committed are those that were executed with effect; `failed` ones stand in the chain without effect; \
`rejected` ones are in no block.

What is sent again: in a closed loop what a node was too busy for, after the pause that it asks for (counted as \
busy_answers); with --rate nothing is, it counts as rejected. What nobody answered for is sent again until its fate is \
known (counted as resent), its time goes on.

Beside it, just before: how many signatures this machine checks and how many synced writes it makes in a second. All \
transactions are of one sender, which makes checking them in a batch a little cheaper than those of many.

Of each process, between the first step and the last answer: processor time, bytes that it caused to be written to a \
disk, memory; and of each node the time that transactions waited for each stage and that each stage took, within an \
eighth. Per transaction means per executed one. What a store still holds in memory is not written yet, and what an \
earlier run left there may be written in this one: bytes written are of use after a long run only.

Signed before the clock starts: everything, or as much as half of --memory takes; the rest is signed by one thread \
during the run, and whenever a sender finds nothing ready that is an underrun.";

/// Measure throughput and latency of signed transactions.
#[derive(Args, Debug)]
#[command(after_long_help = MEASURED)]
pub(crate) struct Bench {
    /// Clients that each wait for an answer before they send the next (closed loop). With --rate: most that are sent
    /// and not answered.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    clients: u32,
    /// Send everything to this node, instead of to the one that leads.
    #[arg(long, value_name = "NODE")]
    through: Option<String>,
    /// Connections that the clients share. One has a few thousand calls under way at most; what is beyond that waits in
    /// the client, so a node is overloaded by several only.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// How long to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// Take so many steps, however long it takes, instead of for some seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST))]
    transactions: Option<u64>,
    /// Open loop: so many a second become due, whether or not earlier ones were answered.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Length of a value. Values are random bytes, which do not compress.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=200_000))]
    value_bytes: u32,
    /// Memory for what is signed before the clock starts. What does not fit is signed while it runs, which takes
    /// processor time from nodes on the same machine.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    memory: u64,
    /// What the transactions do.
    #[arg(long, value_enum, default_value_t)]
    workload: Workload,
    /// Which keys are written and read (default: fresh for put, uniform for the others).
    #[arg(long, value_enum)]
    keys: Option<Keys>,
    /// How many keys, or accounts, there are to draw from.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    key_count: u32,
    /// How uneven Zipf is: 0 is even, 0.99 is usual.
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99, value_parser = read_exponent)]
    zipf_exponent: f64,
    /// What the drawing of keys, values and reads begins with: the same seed draws the same.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// How many of a hundred steps of a mixed workload are reads.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    reads: u32,
    /// Read what the asked node has executed, which may be old, instead of what is committed.
    #[arg(long)]
    local_reads: bool,
    /// Write the report as a page, too: one file with all its plots, nothing from elsewhere.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure nothing: make the page of a report that was saved (--output json), or of several as `cargo xtask bench`
    /// saves them.
    #[arg(long, value_name = "FILE", requires = "html")]
    render: Option<PathBuf>,
    /// Where to write.
    #[arg(long, default_value = "default", value_parser = read_namespace)]
    namespace: Namespace,
    #[command(flatten)]
    identity: Identity,
}

fn read_exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(exponent) if (0.0..=10.0).contains(&exponent) => Ok(exponent),
        _ => Err("a number from 0 to 10 is expected".to_owned()),
    }
}

impl Bench {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        if let Some(saved) = &self.render {
            return self.write_page(&read_saved(saved)?, output);
        }
        let session = Session::open(global, &self.identity)?;
        let plan = Arc::new(self.plan(&session)?);
        output.note(format_args!("making {} steps ready", plan.count));
        let supply = Supply::prepare(&plan)?;
        output.note("measuring the limits of this machine: batch signature checks, then synced writes");
        let directory = global.network.as_ref().filter(|network| network.is_dir()).cloned();
        let limits = limits::measure(&directory.unwrap_or_else(std::env::temp_dir), &self.sample(&plan)?)?;
        let wait = global.timeout.unwrap_or(SUBMIT_TIMEOUT);
        let load = self.load(&session, &plan, supply, wait)?;
        let nodes = nodes(&session);
        let (measured, before, after) = session.run(async {
            // Connects, and lets the client learn who leads.
            session.call(Call::Status, READ_TIMEOUT).await?;
            if self.workload != Workload::Put {
                output.note(format_args!("writing {} keys first", plan.space.count));
                accounts::prepare(&session.client, &plan, wait).await?;
            }
            output.note(format_args!(
                "sending for {} with {} clients",
                self.length(&plan),
                self.clients
            ));
            let before = processes::read(&session.client, &nodes).await;
            let measured = load.run(output).await?;
            let after = processes::read(&session.client, &nodes).await;
            if self.workload == Workload::Transfer {
                accounts::audit(&session.client, &plan, wait).await?;
            }
            Ok((measured, before, after))
        })?;
        if measured.ran_dry {
            output.note("everything that was made ready was sent before the time was over");
        }
        let executed = measured.tally.executed();
        let processes = processes::report(&before, &after, executed, measured.elapsed);
        let report = self.report(&measured, &limits, nodes.len())?;
        let report = with(report, [("processes", processes)]);
        output.data(&report, report::text(&report))?;
        self.write_page(&report, output)?;
        measured.tally.verdict()
    }

    fn write_page(&self, report: &Value, output: Output) -> Result<(), Failure> {
        let Some(path) = &self.html else { return Ok(()) };
        std::fs::write(path, html::page(report)).map_err(|error| Failure::file(path, "write", &error))?;
        output.note(format_args!("the page is {}", path.display()));
        Ok(())
    }

    fn load(&self, session: &Session, plan: &Arc<Plan>, supply: Supply, wait: Duration) -> Result<Load, Failure> {
        let by_time = self.transactions.is_none();
        let own = |_| session.another(self.through.as_deref());
        let connections = match (self.connections, &self.through) {
            (1, None) => vec![session.client.clone()],
            (count, _) => (0..count).map(own).collect::<Result<_, _>>()?,
        };
        Ok(Load {
            connections,
            plan: Arc::clone(plan),
            supply,
            clients: usize::try_from(self.clients).unwrap_or(usize::MAX),
            rate: self.rate,
            until: by_time.then(|| Duration::from_secs(u64::from(self.seconds))),
            consistency: if self.local_reads {
                Consistency::Local
            } else {
                Consistency::Linearizable
            },
            wait,
        })
    }

    fn keys(&self) -> Keys {
        self.keys.unwrap_or(match self.workload {
            Workload::Put => Keys::Fresh,
            Workload::Transfer | Workload::Mixed => Keys::Uniform,
        })
    }

    fn plan(&self, session: &Session) -> Result<Plan, Failure> {
        let keys = self.keys();
        if keys == Keys::Fresh && self.workload != Workload::Put {
            let text = format!("--workload {} needs keys that are there before", self.workload.name());
            return Err(Failure::usage(text).hint("choose --keys uniform or --keys zipf"));
        }
        let most = session.genesis.membership().parameters.max_lifetime_ms;
        let lifetime = Duration::from_millis(most.saturating_sub(most / 10));
        let run = hex::encode(quipu_crypto::random::bytes::<4>()?);
        Ok(Plan {
            workload: self.workload,
            space: KeySpace::new(format!("bench/{run}/"), keys, self.key_count, self.zipf_exponent)?,
            fresh: keys == Keys::Fresh,
            namespace: self.namespace.clone(),
            value_bytes: usize::try_from(self.value_bytes).unwrap_or(usize::MAX),
            reads: self.reads,
            seed: self.seed,
            signer: Signer::new(session, Some(lifetime)),
            count: self.wanted(),
            memory: self.memory.saturating_mul(1024 * 1024),
        })
    }

    fn length(&self, plan: &Plan) -> String {
        match self.transactions {
            Some(_) => format!("{} transactions", plan.count),
            None => format!("{} s", self.seconds),
        }
    }

    /// As many steps as will be taken at most.
    fn wanted(&self) -> u64 {
        let seconds = u64::from(self.seconds);
        let by_rate = |rate: u32| seconds.saturating_mul(u64::from(rate));
        let by_clients = || seconds.saturating_mul(u64::from(self.clients).saturating_mul(PER_CLIENT).min(ALL_CLIENTS));
        self.transactions
            .unwrap_or_else(|| self.rate.map_or_else(by_clients, by_rate))
            .min(MOST)
    }

    /// Transactions like those of the run, to check signatures of; never sent.
    fn sample(&self, plan: &Plan) -> Result<Vec<SignedTransaction>, Failure> {
        let put = |number: u64| Operation::Put {
            namespace: self.namespace.clone(),
            key: plan.space.fresh(number),
            value: vec![0x51; plan.value_bytes],
        };
        let sign = |number| plan.signer.sign(vec![put(number)], Vec::new());
        (0..limits::SAMPLE).map(sign).collect()
    }
}

fn read_saved(path: &Path) -> Result<Value, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file(path, "read", &error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::usage(format!("{}: not a saved report: {error}", path.display())))
}

/// The nodes of the network, with their names.
fn nodes(session: &Session) -> Vec<(Slot, String)> {
    let nodes = session.genesis.membership().nodes.iter();
    nodes.map(|node| (node.slot, node.name.clone())).collect()
}

/// A count as a number to calculate with; counts are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    float(count) / elapsed.as_secs_f64().max(1e-9)
}
