//! Keeps what a run cost each process, the client among them: processor, disk, memory, and the time in each stage.
//!
//! Invariant: a figure is the difference of two readings, just before the first step and just after the last answer;
//! per transaction means per executed one. What a store holds in memory by then is not written yet and not counted.

use std::time::Duration;

use quipu_crypto::id::Slot;
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call, Measures};
use quipu_node::stages::{StageRead, TimesRead};
use quipu_node::usage::{ThreadUsage, Usage};
use serde_json::{Value, json};

use super::float;
use super::report::rounded;

/// How long a node may take to tell.
const ASK: Duration = Duration::from_secs(5);
/// Threads that are named, those that took most.
const THREADS: usize = 12;

/// Readings of all processes at one moment.
pub(super) struct Reading {
    client: Usage,
    /// A node that could not tell is left out.
    nodes: Vec<(String, Measures)>,
}

/// Reads all at once.
pub(super) async fn read(client: &Client, nodes: &[(Slot, String)]) -> Reading {
    let mut readings = Vec::new();
    for (slot, name) in nodes {
        if let Ok(Answer::Measures(measures)) = client.call_node(*slot, Call::Measures, ASK).await {
            readings.push((name.clone(), *measures));
        }
    }
    Reading {
        client: Usage::now(),
        nodes: readings,
    }
}

/// What each process took between two readings for so many transactions.
pub(super) fn report(before: &Reading, after: &Reading, transactions: u64, elapsed: Duration) -> Value {
    let nodes = after.nodes.iter().filter_map(|(name, now)| {
        let (_, then) = before.nodes.iter().find(|(_, then)| then.slot == now.slot)?;
        let mut process = usage(name, &then.usage, &now.usage, transactions);
        if let Value::Object(fields) = &mut process {
            fields.insert("stages".to_owned(), stages(then, now, elapsed));
        }
        Some(process)
    });
    let mut all: Vec<Value> = nodes.collect();
    all.push(usage("client", &before.client, &after.client, transactions));
    Value::Array(all)
}

fn usage(name: &str, before: &Usage, after: &Usage, transactions: u64) -> Value {
    let user = after.user_ms.saturating_sub(before.user_ms);
    let system = after.system_ms.saturating_sub(before.system_ms);
    let written = after.written.saturating_sub(before.written);
    let each = float(transactions.max(1));
    let mib = |bytes: u64| rounded(float(bytes) / 1_048_576.0, 10.0);
    json!({
        "name": name,
        "cpu_user_s": rounded(float(user) / 1000.0, 100.0),
        "cpu_system_s": rounded(float(system) / 1000.0, 100.0),
        "cpu_us_per_transaction": rounded(float(user.saturating_add(system)) * 1000.0 / each, 100.0),
        "written_bytes": written.to_string(),
        "written_per_transaction": rounded(float(written) / each, 10.0),
        "resident_mib": mib(after.resident),
        "resident_peak_mib": mib(after.resident_peak),
        "threads": threads(before, after),
    })
}

/// What the threads of a name took: processor time, time without one, and which they are.
fn took<'a>(before: &Usage, now: &'a ThreadUsage) -> (u64, u64, &'a ThreadUsage) {
    let then = before.threads.as_slice().iter().find(|then| then.name == now.name);
    let (cpu, ready) = then.map_or((0, 0), |then| (then.cpu_nanos, then.ready_nanos));
    let cpu = now.cpu_nanos.saturating_sub(cpu);
    (cpu, now.ready_nanos.saturating_sub(ready), now)
}

/// The threads that took most.
fn threads(before: &Usage, after: &Usage) -> Value {
    let mut all: Vec<_> = after.threads.as_slice().iter().map(|now| took(before, now)).collect();
    all.sort_by_key(|(cpu, ..)| std::cmp::Reverse(*cpu));
    let seconds = |nanos: u64| rounded(float(nanos) / 1e9, 1000.0);
    let told = all.iter().take(THREADS).filter(|(cpu, ..)| *cpu > 0);
    let told = told.map(|(cpu, ready, thread)| {
        json!({
            "name": thread.name,
            "count": thread.count,
            "cpu_s": seconds(*cpu),
            "ready_s": seconds(*ready),
        })
    });
    told.collect()
}

fn stages(before: &Measures, after: &Measures, elapsed: Duration) -> Value {
    let told = after.stages.as_slice().iter().map(|now| {
        let then = before.stages.as_slice().iter().find(|then| then.name == now.name);
        stage(then.unwrap_or(&StageRead::default()), now, elapsed)
    });
    told.collect()
}

fn stage(before: &StageRead, after: &StageRead, elapsed: Duration) -> Value {
    let batches = after.batches.saturating_sub(before.batches);
    let busy = after.busy_nanos.saturating_sub(before.busy_nanos);
    let service = after.service.since(&before.service);
    let size = rounded(float(service.count) / float(batches.max(1)), 10.0);
    let share = rounded(float(busy) / 1e9 / elapsed.as_secs_f64().max(1e-9), 1000.0);
    json!({
        "name": after.name,
        "queue_us": times(&after.queue.since(&before.queue)),
        "service_us": times(&service),
        "batches": batches.to_string(),
        "mean_batch": (batches > 0).then_some(size),
        "busy_share": (batches > 0).then_some(share),
    })
}

/// None where nothing was recorded. The maximum is that of its bucket.
fn times(times: &TimesRead) -> Value {
    if times.count == 0 {
        return Value::Null;
    }
    json!({
        "count": times.count.to_string(),
        "mean": rounded(times.mean(), 10.0),
        "p50": times.quantile(0.5),
        "p99": times.quantile(0.99),
        "max": times.quantile(1.0),
    })
}

/// The processes for people, and the stages of the node that led.
pub(super) fn text(processes: &Value) -> Vec<String> {
    let field = |value: &Value, pointer: &str| {
        let found = value.pointer(pointer).filter(|found| !found.is_null());
        found.map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    let all = processes.as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = all
        .iter()
        .map(|process| {
            format!(
                "{:10} {} us of processor and {} bytes written a transaction; {} MiB, {} at most",
                process.get("name").and_then(Value::as_str).unwrap_or_default(),
                field(process, "/cpu_us_per_transaction"),
                field(process, "/written_per_transaction"),
                field(process, "/resident_mib"),
                field(process, "/resident_peak_mib"),
            )
        })
        .collect();
    let Some(leader) = leader(all) else { return lines };
    let stages = leader.get("stages").and_then(Value::as_array);
    lines.push(format!(
        "stages of  {}   waited: mean, p99 us     took: mean, p99 us   each  busy",
        leader.get("name").and_then(Value::as_str).unwrap_or_default()
    ));
    for stage in stages.into_iter().flatten() {
        lines.push(format!(
            "  {:<12} {:>12} {:>9} {:>13} {:>9} {:>8} {:>6}",
            stage.get("name").and_then(Value::as_str).unwrap_or_default(),
            field(stage, "/queue_us/mean"),
            field(stage, "/queue_us/p99"),
            field(stage, "/service_us/mean"),
            field(stage, "/service_us/p99"),
            field(stage, "/mean_batch"),
            field(stage, "/busy_share"),
        ));
    }
    lines
}

/// The node through whose pool most went.
pub(super) fn leader(processes: &[Value]) -> Option<&Value> {
    let pooled = |process: &&Value| {
        let stages = process.get("stages")?.as_array()?;
        let pool = stages
            .iter()
            .find(|stage| stage.get("name").is_some_and(|name| name == "pool"))?;
        pool.pointer("/queue_us/count")?.as_str()?.parse::<u64>().ok()
    };
    processes
        .iter()
        .filter(|process| pooled(process).is_some())
        .max_by_key(pooled)
}

#[cfg(test)]
mod tests {
    use quipu_node::stages::Stages;

    use super::*;

    fn reading(stages: &Stages, usage: Usage, slot: u32) -> (String, Measures) {
        let measures = Measures {
            version: 1,
            slot: Slot(slot),
            usage,
            stages: stages.read(),
        };
        (format!("node{slot}"), measures)
    }

    #[test]
    fn what_was_there_before_the_run_does_not_count() {
        let stages = Stages::default();
        let used = |ms: u64, written: u64| Usage {
            user_ms: ms,
            system_ms: ms,
            written,
            resident: 1_048_576,
            resident_peak: 2_097_152,
            ..Usage::default()
        };
        stages.pool.queue.record(Duration::from_secs(9), 70);
        let before = Reading {
            client: used(0, 0),
            nodes: vec![
                reading(&stages, used(1_000, 5_000), 1),
                reading(&stages, Usage::default(), 2),
            ],
        };
        stages.pool.queue.record(Duration::from_millis(2), 10);
        let after = Reading {
            client: used(100, 0),
            nodes: vec![reading(&stages, used(1_500, 8_000), 1)],
        };
        let report = report(&before, &after, 10, Duration::from_secs(1));
        let node = &report.as_array().unwrap()[0];
        assert_eq!(node["cpu_us_per_transaction"], json!(100_000.0), "{node}");
        assert_eq!(node["written_per_transaction"], json!(300.0));
        let pool = node["stages"]
            .as_array()
            .unwrap()
            .iter()
            .find(|stage| stage["name"] == "pool")
            .unwrap();
        assert_eq!(pool["queue_us"]["count"], "10");
        assert_eq!(pool["queue_us"]["mean"], json!(2_000.0));
        assert_eq!(pool["service_us"], Value::Null);
        assert_eq!(
            report.as_array().unwrap().len(),
            2,
            "node2 has only one reading; the client is the last"
        );
        assert_eq!(leader(report.as_array().unwrap()).unwrap()["name"], "node1");
        assert!(text(&report).iter().any(|line| line.starts_with("  pool")));
    }
}
