//! Keeps `bench`: a load generator beside the limits of the same machine, measured in the same run.
//!
//! Invariants: transactions are signed before the clock starts, and only executed ones count as committed; in an open
//! loop a latency begins when the transaction was due, not when it could be sent (no coordinated omission).

mod limits;
mod load;

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client_protocol::Call;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde_json::{Value, json};

use crate::cli::{Global, Identity};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{READ_TIMEOUT, SUBMIT_TIMEOUT, Session};
use crate::tx::sign::Signer;
use crate::value::read_namespace;
use limits::Limits;
use load::{Load, Measured};

/// Transactions that one client sends in a second at most: what is signed ahead for a run by time.
const PER_CLIENT: u64 = 4_000;
/// Transactions that all clients together send in a second at most.
const ALL_CLIENTS: u64 = 40_000;
/// Most transactions of one run: they are held in memory.
const MOST: u64 = 4_000_000;

/// Bytes that the signed transactions of one run may take.
const MEMORY: u64 = 512 * 1024 * 1024;
/// What a signed transaction takes beside its value, which it holds twice: as it is, and as it is sent.
const BESIDE_VALUE: u64 = 600;

/// What the transactions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Each sets one key, all different, to a value of --value-bytes.
    #[default]
    Put,
}

/// Measure throughput and latency of signed transactions.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Clients that each wait for an answer before they send the next (closed loop). With --rate: most that are sent
    /// and not answered.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    clients: u32,
    /// How long to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Send so many, however long it takes, instead of for some seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST))]
    transactions: Option<u64>,
    /// Open loop: so many a second become due, whether or not earlier ones were answered.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Length of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=200_000))]
    value_bytes: u32,
    /// What the transactions do.
    #[arg(long, value_enum, default_value_t)]
    workload: Workload,
    /// Where to write.
    #[arg(long, default_value = "default", value_parser = read_namespace)]
    namespace: Namespace,
    #[command(flatten)]
    identity: Identity,
}

impl Bench {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(global, &self.identity)?;
        let transactions = self.sign(&session, output)?;
        output.note("measuring the limits of this machine: batch signature checks, then synced writes");
        let directory = global.network.as_ref().filter(|network| network.is_dir()).cloned();
        let limits = limits::measure(&directory.unwrap_or_else(std::env::temp_dir), &transactions)?;
        let load = Load {
            transactions,
            clients: usize::try_from(self.clients).unwrap_or(usize::MAX),
            rate: self.rate,
            until: self
                .transactions
                .is_none()
                .then(|| Duration::from_secs(u64::from(self.seconds))),
            wait: global.timeout.unwrap_or(SUBMIT_TIMEOUT),
        };
        output.note(format_args!(
            "sending for {} with {} clients",
            self.length(),
            self.clients
        ));
        let measured = session.run(async {
            // Connects, and lets the client learn who leads.
            session.call(Call::Status, READ_TIMEOUT).await?;
            load.run(&session.client, output).await
        })?;
        if measured.ran_dry {
            output.note("the signed transactions ran out before the time was over");
        }
        let nodes = session.genesis.membership().nodes.len();
        let report = self.report(&measured, &limits, nodes);
        output.data(&report, text(&report))?;
        measured.verdict()
    }

    fn length(&self) -> String {
        match self.transactions {
            Some(_) => format!("{} transactions", self.count()),
            None => format!("{} s", self.seconds),
        }
    }

    /// How many to sign: as many as will be sent at most, and as memory allows.
    fn count(&self) -> u64 {
        let each = u64::from(self.value_bytes)
            .saturating_mul(2)
            .saturating_add(BESIDE_VALUE);
        self.wanted().min(MEMORY.checked_div(each).unwrap_or(MOST))
    }

    fn wanted(&self) -> u64 {
        let seconds = u64::from(self.seconds);
        let by_rate = |rate: u32| seconds.saturating_mul(u64::from(rate));
        let by_clients = || seconds.saturating_mul(u64::from(self.clients).saturating_mul(PER_CLIENT).min(ALL_CLIENTS));
        self.transactions
            .unwrap_or_else(|| self.rate.map_or_else(by_clients, by_rate))
            .min(MOST)
    }

    /// Signs everything that will be sent, on all cores.
    fn sign(&self, session: &Session, output: Output) -> Result<Vec<SignedTransaction>, Failure> {
        let most = session.genesis.membership().parameters.max_lifetime_ms;
        let lifetime = Duration::from_millis(most.saturating_sub(most / 10));
        let signer = Signer::new(session, Some(lifetime));
        let count = self.count();
        if count < self.wanted() {
            output.note(format_args!(
                "of {} transactions only {count} are signed and sent: more of them would take over {} MiB",
                self.wanted(),
                MEMORY >> 20
            ));
        }
        output.note(format_args!("signing {count} transactions"));
        let begun = Instant::now();
        let run = hex::encode(quipu_crypto::random::bytes::<4>()?);
        let length = usize::try_from(self.value_bytes).unwrap_or(usize::MAX);
        let signed = (0..count).into_par_iter().map(|number| {
            let key = format!("bench/{run}/{number:08}").into_bytes();
            let mut value = format!("{number:08}-").into_bytes();
            value.resize(length, b'v');
            let put = Operation::Put {
                namespace: self.namespace.clone(),
                key,
                value,
            };
            signer.sign(vec![put], Vec::new())
        });
        let signed = signed.collect::<Result<Vec<_>, _>>()?;
        output.note(format_args!(
            "signed {:.0} a second",
            per_second(count, begun.elapsed())
        ));
        Ok(signed)
    }

    fn report(&self, measured: &Measured, limits: &Limits, nodes: usize) -> Value {
        let rate = per_second(measured.committed, measured.elapsed);
        let at = |quantile: f64| measured.latency.value_at_quantile(quantile);
        json!({
            "workload": match self.workload { Workload::Put => "put" },
            "loop": if self.rate.is_some() { "open" } else { "closed" },
            "nodes": nodes.to_string(),
            "clients": self.clients.to_string(),
            "value_bytes": self.value_bytes.to_string(),
            "seconds": rounded(measured.elapsed.as_secs_f64(), 1000.0),
            "committed": measured.committed.to_string(),
            "rejected": measured.rejected.to_string(),
            "unresolved": measured.unresolved.to_string(),
            "rate": rounded(rate, 10.0),
            "latency_us": {
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": measured.latency.max(),
            },
            "limits": {
                "verify_per_s": rounded(limits.verify_per_s, 1.0),
                "verify_cores": limits.cores,
                "synced_writes_per_s": rounded(limits.synced_writes_per_s, 1.0),
            },
            "ratio_to_verify_limit": rounded(rate / limits.verify_per_s.max(1.0), 10_000.0),
        })
    }
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    // Counts are far below 2^52.
    let count = u32::try_from(count).map_or(f64::MAX, f64::from);
    count / elapsed.as_secs_f64().max(1e-9)
}

fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

fn text(report: &Value) -> String {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .map_or_else(String::new, |value| value.to_string().replace('"', ""))
    };
    format!(
        "workload   {} ({} loop), {} nodes, {} clients, values of {} bytes\n\
         committed  {} in {} s: {} a second; {} rejected, {} unresolved\n\
         latency    p50 {} us, p90 {} us, p99 {} us, max {} us\n\
         limits     {} batch signature checks a second on {} cores, {} synced writes a second\n\
         ratio      {} of the signature limit (every node checks every signature)",
        number("/workload"),
        number("/loop"),
        number("/nodes"),
        number("/clients"),
        number("/value_bytes"),
        number("/committed"),
        number("/seconds"),
        number("/rate"),
        number("/rejected"),
        number("/unresolved"),
        number("/latency_us/p50"),
        number("/latency_us/p90"),
        number("/latency_us/p99"),
        number("/latency_us/max"),
        number("/limits/verify_per_s"),
        number("/limits/verify_cores"),
        number("/limits/synced_writes_per_s"),
        number("/ratio_to_verify_limit"),
    )
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn what_is_signed_ahead_fits_into_memory() {
        for (value_bytes, wanted, count) in [
            ("200", "300000", 300_000),
            ("200000", "300000", 1_340),
            ("0", "4000000", 894_784),
        ] {
            let words = ["quipu", "bench", "--transactions", wanted, "--value-bytes", value_bytes];
            let Command::Bench(bench) = Cli::try_parse_from(words).unwrap().command else {
                panic!("not bench")
            };
            assert_eq!(bench.count(), count, "{value_bytes}");
        }
    }

    #[test]
    fn the_report_has_the_fields_that_stay() {
        let cli = Cli::try_parse_from(["quipu", "bench", "--clients", "4"]).unwrap();
        let Command::Bench(bench) = cli.command else {
            panic!("not bench")
        };
        let mut latency = Histogram::new(3).unwrap();
        latency.record(1000).unwrap();
        let measured = Measured {
            committed: 2000,
            rejected: 1,
            unresolved: 0,
            elapsed: Duration::from_secs(2),
            latency,
            ran_dry: false,
            first: None,
        };
        let limits = Limits {
            verify_per_s: 200_000.0,
            cores: 2,
            synced_writes_per_s: 5_000.0,
        };
        let report = serde_json::to_string_pretty(&bench.report(&measured, &limits, 3)).unwrap();
        insta::assert_snapshot!(report, @r#"
        {
          "clients": "4",
          "committed": "2000",
          "latency_us": {
            "max": 1000,
            "p50": 1000,
            "p90": 1000,
            "p99": 1000,
            "p999": 1000
          },
          "limits": {
            "synced_writes_per_s": 5000.0,
            "verify_cores": 2,
            "verify_per_s": 200000.0
          },
          "loop": "closed",
          "nodes": "3",
          "rate": 1000.0,
          "ratio_to_verify_limit": 0.005,
          "rejected": "1",
          "seconds": 2.0,
          "unresolved": "0",
          "value_bytes": "200",
          "workload": "put"
        }
        "#);
    }
}
