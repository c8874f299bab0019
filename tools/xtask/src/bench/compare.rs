//! Keeps how two sets of figures are laid beside each other: the ratio of each, and the middle one of each kind.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// What is compared: its name, where it stands, and whether more is better.
const FIGURES: [(&str, &str, bool); 5] = [
    ("committed a second", "/rate", true),
    ("p50, us", "/latency_us/p50", false),
    ("p99, us", "/latency_us/p99", false),
    (
        "cpu us a transaction, first node",
        "/processes/0/cpu_us_per_transaction",
        false,
    ),
    (
        "bytes a transaction, first node",
        "/processes/0/written_per_transaction",
        false,
    ),
];

/// A set that was saved.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: no saved figures", path.display()))
}

/// Each figure that both sets have, and the median of each kind at the end.
pub(super) fn rows(earlier: &Value, runs: &[Value]) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut medians = Vec::new();
    for (figure, pointer, more_is_better) in FIGURES {
        let mut ratios = Vec::new();
        for run in runs {
            let name = run.get("name").and_then(Value::as_str).unwrap_or_default();
            let before = named(earlier, name).and_then(|before| before.pointer(pointer)?.as_f64());
            let now = run.get("report").and_then(|report| report.pointer(pointer)?.as_f64());
            let (Some(before), Some(now)) = (before, now) else {
                continue;
            };
            if before > 0.0 {
                let ratio = now / before;
                ratios.push(ratio);
                rows.push(json!({
                    "run": name, "figure": figure, "before": before, "now": now, "ratio": ratio,
                    "more_is_better": more_is_better,
                }));
            }
        }
        if let Some(ratio) = median(ratios) {
            medians.push(json!({
                "run": "median of all", "figure": figure, "ratio": ratio, "more_is_better": more_is_better,
            }));
        }
    }
    rows.extend(medians);
    rows
}

/// The report of that name.
fn named<'a>(set: &'a Value, name: &str) -> Option<&'a Value> {
    let runs = set.get("runs")?.as_array()?;
    runs.iter()
        .find(|run| run.get("name").is_some_and(|found| found == name))?
        .get("report")
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// For people.
pub(super) fn print(rows: &[Value]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\n== beside the earlier set: one run each, so differences of some percent, more on a busy machine, are noise"
    );
    for row in rows {
        let number = |name: &str| {
            let value = row.get(name).and_then(Value::as_f64);
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
        };
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let ratio = row.get("ratio").and_then(Value::as_f64).unwrap_or(1.0);
        let more_is_better = row.get("more_is_better") == Some(&Value::Bool(true));
        let word = match ratio {
            _ if (ratio - 1.0).abs() < 0.05 => "",
            _ if (ratio > 1.0) == more_is_better => "better",
            _ => "worse",
        };
        println!(
            "{:36} {:34} {:>10} {:>10}  x {ratio:.2} {word}",
            text("run"),
            text("figure"),
            number("before"),
            number("now"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rates: &[(&str, f64)]) -> Vec<Value> {
        let run = |(name, rate): &(&str, f64)| json!({"name": name, "report": {"rate": rate}});
        rates.iter().map(run).collect()
    }

    #[test]
    fn what_both_have_is_compared_and_the_middle_ratio_stands_at_the_end() {
        let earlier = json!({"runs": set(&[("a", 100.0), ("b", 100.0), ("c", 100.0), ("gone", 1.0)])});
        let rows = rows(&earlier, &set(&[("a", 50.0), ("b", 300.0), ("c", 110.0), ("new", 7.0)]));
        let ratios: Vec<f64> = rows.iter().map(|row| row["ratio"].as_f64().unwrap()).collect();
        assert_eq!(ratios, [0.5, 3.0, 1.1, 1.1]);
        assert_eq!(rows[3]["run"], "median of all");
        assert!(super::rows(&json!({}), &set(&[("a", 1.0)])).is_empty());
    }
}
