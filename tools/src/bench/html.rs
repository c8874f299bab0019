//! Keeps the report of one run or of several as a page: one file, nothing from elsewhere, no scripts.
//!
//! Invariants: what is in the report is text here, never markup; a report that lacks something is drawn without it.

use std::fmt::Write;

use serde_json::Value;

use super::plot::{Axis, Bar, Mark, Series, bars, escaped, lines, short, time};
use super::processes::leader;

const STYLE: &str = include_str!("page.css");

/// The page of a report, or of `{"machine": {...}, "comparison": [...], "runs": [{"name", "report"}]}`.
pub(super) fn page(document: &Value) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>quipu bench</title><style>{STYLE}</style></head><body>\n<h1>quipu bench</h1>\n"
    );
    match document.get("runs").and_then(Value::as_array) {
        None => out.push_str(&run("", document)),
        Some(runs) => {
            out.push_str(&facts(document.get("machine")));
            out.push_str(&overview(runs));
            out.push_str(&comparison(document.get("comparison")));
            for found in runs {
                let name = found.get("name").and_then(Value::as_str).unwrap_or_default();
                out.push_str(&run(name, found.get("report").unwrap_or(&Value::Null)));
            }
        }
    }
    out.push_str("</body></html>\n");
    out
}

/// A number, also where it is written as text.
fn number(value: &Value, pointer: &str) -> Option<f64> {
    match value.pointer(pointer)? {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
}

fn shown(value: &Value, pointer: &str, show: impl Fn(f64) -> String) -> String {
    number(value, pointer).map_or_else(|| "-".to_owned(), show)
}

/// A text, or a number as it is; escaped.
fn word(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => escaped(text),
        Some(other) => escaped(&other.to_string()),
    }
}

fn table(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escaped(head))).collect();
    let mut out = format!("<div class=\"scroll\"><table><tr>{heads}</tr>");
    for row in rows {
        let cells: String = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        let _ = write!(out, "<tr>{cells}</tr>");
    }
    out.push_str("</table></div>\n");
    out
}

/// Where and when it was measured.
fn facts(machine: Option<&Value>) -> String {
    let facts = machine.and_then(Value::as_object).into_iter().flatten();
    let facts: Vec<String> = facts
        .map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{} {}", escaped(name), escaped(&value))
        })
        .collect();
    format!("<p>{}</p>\n", facts.join(" · "))
}

/// All runs in one table.
fn overview(runs: &[Value]) -> String {
    let row = |run: &Value| {
        let report = run.get("report").unwrap_or(&Value::Null);
        let processes = report.get("processes").and_then(Value::as_array);
        let led = processes.and_then(|all| leader(all)).cloned().unwrap_or_default();
        vec![
            word(run, "/name"),
            shown(report, "/rate", short),
            shown(report, "/latency_us/p50", time),
            shown(report, "/latency_us/p99", time),
            shown(report, "/failed", short),
            shown(report, "/rejected", short),
            shown(&led, "/written_per_transaction", short),
            shown(&led, "/cpu_us_per_transaction", short),
        ]
    };
    let heads = [
        "run",
        "committed/s",
        "p50",
        "p99",
        "failed",
        "rejected",
        "bytes/tx, leader",
        "cpu µs/tx, leader",
    ];
    table(&heads, runs.iter().map(row))
}

/// Figures beside those of an earlier run.
fn comparison(rows: Option<&Value>) -> String {
    let Some(rows) = rows.and_then(Value::as_array).filter(|rows| !rows.is_empty()) else {
        return String::new();
    };
    let row = |row: &Value| {
        vec![
            word(row, "/run"),
            word(row, "/figure"),
            shown(row, "/before", short),
            shown(row, "/now", short),
            shown(row, "/ratio", |ratio| format!("{ratio:.2}")),
        ]
    };
    let heads = ["run", "figure", "before", "now", "ratio"];
    format!(
        "<h2>Beside an earlier run</h2><p>One run each: differences of some percent are noise.</p>{}",
        table(&heads, rows.iter().map(row))
    )
}

fn run(name: &str, report: &Value) -> String {
    let title = if name.is_empty() {
        word(report, "/workload")
    } else {
        escaped(name)
    };
    let mut out = format!(
        "<h2>{title}</h2><p>{} ({} loop), {} nodes, {} clients, values of {} bytes, {} keys</p>",
        word(report, "/workload"),
        word(report, "/loop"),
        word(report, "/nodes"),
        word(report, "/clients"),
        word(report, "/value_bytes"),
        word(report, "/keys/choice"),
    );
    out.push_str("<div class=\"tiles\">");
    let mut tile = |name: &str, value: String| {
        let _ = write!(out, "<div>{}<b>{value}</b></div>", escaped(name));
    };
    tile("committed a second", shown(report, "/rate", short));
    tile("p50", shown(report, "/latency_us/p50", time));
    tile("p99", shown(report, "/latency_us/p99", time));
    tile("failed", shown(report, "/failed", short));
    tile("rejected", shown(report, "/rejected", short));
    if report.get("reads").is_some_and(Value::is_object) {
        tile("reads a second", shown(report, "/reads/rate", short));
        tile("read p50", shown(report, "/reads/latency_us/p50", time));
    }
    tile(
        "of the signature limit",
        shown(report, "/ratio_to_verify_limit", |ratio| {
            format!("{:.1} %", ratio * 100.0)
        }),
    );
    tile("per synced write", shown(report, "/ratio_to_synced_writes", short));
    out.push_str("</div>\n");
    out.push_str(&course(report));
    out.push_str(&latencies(report));
    out.push_str(&limits(report));
    out.push_str(&processes(report));
    out
}

/// What happened in each second.
fn course(report: &Value) -> String {
    let Some(seconds) = report.get("course").and_then(Value::as_array) else {
        return String::new();
    };
    let points = |name: &str| -> Vec<(f64, f64)> {
        let values = seconds
            .iter()
            .map(|second| second.get(name).and_then(Value::as_f64).unwrap_or(0.0));
        (0..3_600_u32).map(f64::from).zip(values).collect()
    };
    let all = ["committed", "failed", "rejected", "reads"].map(|name| Series {
        name,
        points: points(name),
    });
    let used: Vec<Series<'_>> = all
        .into_iter()
        .filter(|series| series.name == "committed" || series.points.iter().any(|(_, count)| *count > 0.0))
        .collect();
    let most = used
        .iter()
        .flat_map(|series| &series.points)
        .map(|(_, count)| *count)
        .fold(0.0, f64::max);
    let last = u32::try_from(seconds.len()).map_or(1.0, f64::from) - 1.0;
    let x = Axis::linear(last.max(1.0), " s");
    format!(
        "<h3>In each second</h3>{}\n",
        lines("In each second", &x, &Axis::linear(most, "/s"), &used)
    )
}

/// Latency by percentile, both by powers of ten.
fn latencies(report: &Value) -> String {
    let curve = |pointer: &str| -> Vec<(f64, f64)> {
        let points = report.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        points
            .filter_map(|point| {
                let (share, micros) = (number(point, "/0")?, number(point, "/1")?);
                Some((-(1.0 - share).max(1e-5).log10(), micros.max(1.0).log10()))
            })
            .collect()
    };
    let all = [
        ("transactions", "/latency_curve_us"),
        ("reads", "/reads/latency_curve_us"),
    ];
    let all: Vec<Series<'_>> = all
        .into_iter()
        .map(|(name, pointer)| Series {
            name,
            points: curve(pointer),
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let values = || {
        all.iter()
            .flat_map(|series| &series.points)
            .map(|(_, y)| 10_f64.powf(*y))
    };
    if all.is_empty() {
        return String::new();
    }
    let marks = [
        (0.0, "0 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "100 %"),
    ];
    let x = Axis {
        low: 0.0,
        high: 5.0,
        marks: marks
            .map(|(at, text)| Mark {
                at,
                text: text.to_owned(),
            })
            .into(),
    };
    let y = Axis::logarithmic(values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max), time);
    format!(
        "<h3>Latency by percentile</h3>{}\n",
        lines("Latency by percentile", &x, &y, &all)
    )
}

/// The run beside what the machine can do.
fn limits(report: &Value) -> String {
    let of = |pointer| number(report, pointer).unwrap_or(0.0);
    let bar = |name: &str, value: f64| Bar {
        name: name.to_owned(),
        parts: [0.0, value],
        text: format!("{}/s", short(value)),
    };
    let all = [
        bar("signature checks", of("/limits/verify_per_s")),
        bar("synced writes", of("/limits/synced_writes_per_s")),
        bar("signing", of("/signing/per_s")),
        bar("committed", of("/rate")),
    ];
    format!("<h3>Beside the limits of the machine</h3>{}\n", bars("Limits", &all))
}

/// What each process took, and where time went in the node that led.
fn processes(report: &Value) -> String {
    let Some(all) = report.get("processes").and_then(Value::as_array) else {
        return String::new();
    };
    let mut out = String::new();
    if let Some(led) = leader(all) {
        let stages = led.get("stages").and_then(Value::as_array).into_iter().flatten();
        let bars_of = stages.filter_map(|stage| {
            let (queue, service) = (number(stage, "/queue_us/mean"), number(stage, "/service_us/mean"));
            queue.or(service)?;
            Some(Bar {
                name: stage.get("name")?.as_str()?.to_owned(),
                parts: [queue.unwrap_or(0.0), service.unwrap_or(0.0)],
                text: format!("{} + {}", time(queue.unwrap_or(0.0)), time(service.unwrap_or(0.0))),
            })
        });
        let found: Vec<Bar> = bars_of.collect();
        let _ = writeln!(
            out,
            "<h3>Stages of {}: mean waiting + mean service of a transaction</h3>{}",
            word(led, "/name"),
            bars("Stages", &found)
        );
    }
    let row = |process: &Value| {
        vec![
            word(process, "/name"),
            shown(process, "/cpu_us_per_transaction", short),
            shown(process, "/cpu_user_s", short),
            shown(process, "/cpu_system_s", short),
            shown(process, "/written_per_transaction", short),
            shown(process, "/resident_mib", short),
            shown(process, "/resident_peak_mib", short),
        ]
    };
    let heads = [
        "process",
        "cpu µs/tx",
        "user s",
        "system s",
        "written bytes/tx",
        "MiB",
        "MiB at most",
    ];
    out.push_str("<h3>Processes</h3>");
    out.push_str(&table(&heads, all.iter().map(row)));
    for process in all {
        let _ = write!(out, "<details><summary>{} in detail</summary>", word(process, "/name"));
        out.push_str(&stages(process));
        out.push_str(&threads(process));
        out.push_str("</details>\n");
    }
    out
}

fn stages(process: &Value) -> String {
    let Some(stages) = process.get("stages").and_then(Value::as_array) else {
        return String::new();
    };
    let row = |stage: &Value| {
        let at = |pointer: &str| shown(stage, pointer, time);
        let mut cells = vec![word(stage, "/name")];
        for kind in ["queue_us", "service_us"] {
            cells.extend(["mean", "p50", "p99", "max"].map(|name| at(&format!("/{kind}/{name}"))));
        }
        cells.extend([
            word(stage, "/mean_batch"),
            shown(stage, "/busy_share", |share| format!("{:.1} %", share * 100.0)),
        ]);
        cells
    };
    let heads = [
        "stage",
        "waited: mean",
        "p50",
        "p99",
        "max",
        "took: mean",
        "p50",
        "p99",
        "max",
        "at once",
        "busy",
    ];
    table(&heads, stages.iter().map(row))
}

fn threads(process: &Value) -> String {
    let threads = process.get("threads").and_then(Value::as_array).into_iter().flatten();
    let row = |thread: &Value| {
        vec![
            word(thread, "/name"),
            word(thread, "/count"),
            word(thread, "/cpu_s"),
            word(thread, "/ready_s"),
        ]
    };
    table(
        &["threads", "count", "cpu s", "ready, no processor s"],
        threads.map(row),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_has_nothing_from_elsewhere_and_no_markup_of_the_report() {
        let nasty = "<img src=x onerror=\"alert('1')\">&";
        let stage = json!({"name": nasty, "queue_us": {"count": "1", "mean": 5.0, "p50": 4}, "service_us": null});
        let process = json!({"name": nasty, "stages": [stage, {"name": "pool", "queue_us": {"count": "2"}}],
            "threads": [{"name": nasty, "count": 1, "cpu_s": nasty}]});
        let report = json!({
            "workload": nasty, "loop": nasty, "nodes": nasty, "rate": 10.0, "keys": {"choice": nasty},
            "course": [{"committed": 3}, {"committed": 5, "failed": 1}],
            "latency_curve_us": [[0.0, 10], [0.5, 100], [1.0, 1000]],
            "reads": {"latency_curve_us": [[0.5, 1]]},
            "processes": [process],
        });
        let document = json!({
            "machine": {nasty: nasty, "cores": 2},
            "comparison": [{"run": nasty, "figure": nasty, "before": 1.0, "now": 2.0, "ratio": 2.0}],
            "runs": [{"name": nasty, "report": report}],
        });
        for page in [
            page(&document),
            page(&report),
            page(&json!(null)),
            page(&json!({"runs": [1, {}]})),
        ] {
            assert!(!page.contains("<img") && !page.contains("onerror=\""), "{page}");
            for elsewhere in ["http:", "https:", "//", "<script", "<link", "@import", "url("] {
                assert!(!page.contains(elsewhere), "{elsewhere}");
            }
            assert!(page.contains("width=device-width") && page.contains("prefers-color-scheme: dark"));
            assert!(page.ends_with("</html>\n"));
        }
        let page = page(&document);
        assert!(page.matches("&lt;img").count() > 8);
        assert_eq!(page.matches("<svg").count(), 2, "the course and the latencies");
        assert_eq!(
            page.matches("<polyline").count(),
            4,
            "committed, failed; transactions, reads"
        );
    }
}
