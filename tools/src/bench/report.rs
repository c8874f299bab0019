//! Keeps how a run is told: as one JSON object, and as text for people.
//!
//! Invariant: the fields that the design names stay; others may follow. Counts are strings, measurements numbers.

use serde_json::{Value, json};

use super::Bench;
use super::limits::Limits;
use super::load::Measured;
use super::per_second;
use super::tally::{curve, percentiles};
use crate::failure::Failure;
use crate::value::with;

impl Bench {
    /// Everything that was found.
    pub(super) fn report(&self, measured: &Measured, limits: &Limits, nodes: usize) -> Result<Value, Failure> {
        let tally = &measured.tally;
        let rate = per_second(tally.committed, measured.elapsed);
        let signing = measured.supply.signing()?;
        let reasons = tally.reasons();
        let reason = |name: &str| reasons.get(name).cloned().unwrap_or_default();
        let report = json!({
            "workload": self.workload.name(),
            "loop": if self.rate.is_some() { "open" } else { "closed" },
            "nodes": nodes.to_string(),
            "clients": self.clients.to_string(),
            "connections": self.connections.to_string(),
            "through": self.through,
            "began_ms": measured.began.to_string(),
            "offered_rate": self.rate,
            "value_bytes": self.value_bytes.to_string(),
            "keys": self.keys_report(),
            "seconds": rounded(measured.elapsed.as_secs_f64(), 1000.0),
            "committed": tally.committed.to_string(),
            "failed": tally.executed().saturating_sub(tally.committed).to_string(),
            "failed_by_reason": reason("failed"),
            "rejected": tally.refused().to_string(),
            "rejected_by_reason": reason("rejected"),
            "unresolved": tally.unresolved.to_string(),
            "busy_answers": tally.busy.to_string(),
            "busy_hint_ms": tally.hints.map(|(least, most)| json!({"least": least, "most": most})),
            "resent": tally.resent.to_string(),
            "rate": rounded(rate, 10.0),
            "rate_executed": rounded(per_second(tally.executed(), measured.elapsed), 10.0),
            "rate_by_quarter": tally.quarters().map(|rates| rates.map(|rate| rounded(rate, 10.0))),
            "latency_us": percentiles(&tally.latency),
            "latency_curve_us": curve(&tally.latency),
        });
        Ok(with(
            report,
            [
                ("reads", self.reads_report(measured, &reason("unread"))),
                ("late_us", json!(self.rate.map(|_| percentiles(&tally.lag)))),
                ("course", json!(tally.seconds())),
                (
                    "signing",
                    json!({
                        "ahead": signing.ahead.to_string(),
                        "per_s": (signing.ahead > 0).then(|| rounded(per_second(signing.ahead, signing.took), 1.0)),
                        "underruns": signing.underruns.to_string(),
                    }),
                ),
                (
                    "limits",
                    json!({
                        "verify_per_s": rounded(limits.verify_per_s, 1.0),
                        "verify_cores": limits.cores,
                        "synced_writes_per_s": rounded(limits.synced_writes_per_s, 1.0),
                    }),
                ),
                (
                    "ratio_to_verify_limit",
                    json!(rounded(rate / limits.verify_per_s.max(1.0), 10_000.0)),
                ),
                (
                    "ratio_to_synced_writes",
                    json!(rounded(rate / limits.synced_writes_per_s.max(1.0), 10_000.0)),
                ),
            ],
        ))
    }

    fn keys_report(&self) -> Value {
        json!({
            "choice": self.keys().name(),
            "count": self.key_count.to_string(),
            "zipf_exponent": self.zipf_exponent,
            "seed": self.seed.to_string(),
        })
    }

    fn reads_report(&self, measured: &Measured, unread: &Value) -> Value {
        let tally = &measured.tally;
        if tally.reads == 0 && unread.as_object().is_none_or(serde_json::Map::is_empty) {
            return Value::Null;
        }
        json!({
            "consistency": if self.local_reads { "local" } else { "linearizable" },
            "read": tally.reads.to_string(),
            "unread_by_reason": unread,
            "rate": rounded(per_second(tally.reads, measured.elapsed), 10.0),
            "latency_us": percentiles(&tally.read_latency),
            "latency_curve_us": curve(&tally.read_latency),
        })
    }
}

pub(super) fn rounded(value: f64, scale: f64) -> f64 {
    (value * scale).round() / scale
}

/// The report for people.
pub(super) fn text(report: &Value) -> String {
    let number = |pointer: &str| {
        let found = report.pointer(pointer).filter(|found| !found.is_null());
        found.map_or_else(|| "-".to_owned(), |value| value.to_string().replace('"', ""))
    };
    let times = |pointer: &str| {
        let [p50, p90, p99, max] = ["p50", "p90", "p99", "max"].map(|name| number(&format!("{pointer}/{name}")));
        format!("p50 {p50} us, p90 {p90} us, p99 {p99} us, max {max} us")
    };
    let mut lines = vec![
        format!(
            "workload   {} ({} loop), {} nodes, {} clients, values of {} bytes, {} keys",
            number("/workload"),
            number("/loop"),
            number("/nodes"),
            number("/clients"),
            number("/value_bytes"),
            number("/keys/choice"),
        ),
        format!(
            "committed  {} in {} s: {} a second; {} failed, {} rejected, {} unresolved",
            number("/committed"),
            number("/seconds"),
            number("/rate"),
            number("/failed"),
            number("/rejected"),
            number("/unresolved"),
        ),
        format!("latency    {}", times("/latency_us")),
    ];
    for (name, pointer) in [("failed", "/failed_by_reason"), ("rejected", "/rejected_by_reason")] {
        lines.extend(by_reason(report.pointer(pointer)).map(|reasons| format!("{name:10} {reasons}")));
    }
    if report.pointer("/reads").is_some_and(Value::is_object) {
        lines.push(format!(
            "reads      {} a second, {}: {}",
            number("/reads/rate"),
            number("/reads/consistency"),
            times("/reads/latency_us")
        ));
    }
    if report.pointer("/late_us").is_some_and(Value::is_object) {
        lines.push(format!("begun late {}", times("/late_us")));
    }
    lines.push(format!(
        "signing    {} ahead of the clock, {} a second; {} underruns",
        number("/signing/ahead"),
        number("/signing/per_s"),
        number("/signing/underruns")
    ));
    lines.push(format!(
        "limits     {} batch signature checks a second on {} cores, {} synced writes a second",
        number("/limits/verify_per_s"),
        number("/limits/verify_cores"),
        number("/limits/synced_writes_per_s"),
    ));
    lines.push(format!(
        "ratio      {} of the signature limit (every node checks every signature), {} transactions a synced write",
        number("/ratio_to_verify_limit"),
        number("/ratio_to_synced_writes"),
    ));
    lines.extend(
        report
            .pointer("/processes")
            .map(super::processes::text)
            .unwrap_or_default(),
    );
    lines.join("\n")
}

fn by_reason(reasons: Option<&Value>) -> Option<String> {
    let reasons = reasons?.as_object().filter(|reasons| !reasons.is_empty())?;
    let one = |(reason, count): (&String, &Value)| format!("{} {reason}", count.as_str().unwrap_or_default());
    Some(reasons.iter().map(one).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser;

    use super::super::supply::Supply;
    use super::super::tally::{End, Tally};
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::failure::Exit;

    #[test]
    fn the_report_has_the_fields_that_stay() {
        let cli = Cli::try_parse_from(["quipu", "bench", "--clients", "4", "--transactions", "1"]).unwrap();
        let Command::Bench(bench) = cli.command else {
            panic!("not bench")
        };
        let mut tally = Tally::new().unwrap();
        let ms = Duration::from_millis;
        for _ in 0..2_000 {
            tally.count(End::Applied, ms(500), ms(1));
        }
        let busy = Failure::new(Exit::Rejected, "busy", "the node is busy");
        tally.count(End::Refused(busy), ms(1_500), ms(1));
        let plan = Arc::new(super::super::supply::tests::plan(bench.workload, 1, 8));
        let measured = Measured {
            tally,
            supply: Supply::prepare(&plan).unwrap(),
            began: 1_800_000_000_000,
            elapsed: Duration::from_secs(2),
            ran_dry: false,
        };
        let limits = Limits {
            verify_per_s: 200_000.0,
            cores: 2,
            synced_writes_per_s: 5_000.0,
        };
        let mut report = bench.report(&measured, &limits, 3).unwrap();
        for (pointer, value) in [
            ("/workload", json!("put")),
            ("/nodes", json!("3")),
            ("/clients", json!("4")),
            ("/seconds", json!(2.0)),
            ("/committed", json!("2000")),
            ("/rejected", json!("1")),
            ("/rate", json!(1000.0)),
            ("/latency_us/p50", json!(1000)),
            ("/latency_us/p90", json!(1000)),
            ("/latency_us/p99", json!(1000)),
            ("/latency_us/max", json!(1000)),
            ("/limits/verify_per_s", json!(200_000.0)),
            ("/limits/synced_writes_per_s", json!(5_000.0)),
            ("/ratio_to_verify_limit", json!(0.005)),
            ("/rejected_by_reason", json!({"busy": "1"})),
        ] {
            assert_eq!(report.pointer(pointer), Some(&value), "{pointer}");
        }
        // As fast as this machine signs one.
        *report.pointer_mut("/signing/per_s").unwrap() = json!(0.0);
        insta::assert_snapshot!(text(&report), @r"
        workload   put (closed loop), 3 nodes, 4 clients, values of 200 bytes, fresh keys
        committed  2000 in 2.0 s: 1000.0 a second; 0 failed, 1 rejected, 0 unresolved
        latency    p50 1000 us, p90 1000 us, p99 1000 us, max 1000 us
        rejected   1 busy
        signing    1 ahead of the clock, 0.0 a second; 0 underruns
        limits     200000.0 batch signature checks a second on 2 cores, 5000.0 synced writes a second
        ratio      0.005 of the signature limit (every node checks every signature), 0.2 transactions a synced write
        ");
    }
}
