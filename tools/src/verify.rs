//! Keeps `verify`: the whole check of a stopped node's data or a copy of them, offline, read only.
//!
//! Invariant: exit 0 only where nothing was found; what was verified, and up to where, is always told.

use std::path::PathBuf;

use clap::Args;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::Height;
use quipu_ledger::verify::{self, Finding, Report, Step, VerifyError, VerifyOptions};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::read_genesis;
use crate::value::{read_block_name, with};

/// Check the whole chain and state of a stopped node or a copy, offline.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A node's directory, its data directory, or a copy of it.
    dir: PathBuf,
    /// The genesis file, from someone you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// A block that the copy must contain: finds a copy that ends early but whole.
    #[arg(long, value_name = "HEIGHT:HASH", value_parser = read_block_name)]
    expect: Option<(Height, Hash)>,
    /// End when so many things were found.
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_findings: usize,
}

impl Verify {
    pub(crate) fn run(&self, output: Output) -> Result<(), Failure> {
        let genesis = read_genesis(&self.genesis)?;
        let options = VerifyOptions {
            expect: self.expect,
            max_findings: self.max_findings.max(1),
        };
        let shown = Progress::new(output, "blocks", 0);
        let report = verify::run(&self.dir, &genesis.block(), options, &mut |progress| {
            shown.message(match progress.step {
                Step::Blocks => "blocks",
                Step::Records => "records",
            });
            shown.set(progress.done, progress.total);
        });
        drop(shown);
        let report = report.map_err(not_verified)?;
        output.data(&report_json(&report), report_text(&report))?;
        verdict(&report)
    }
}

fn not_verified(error: VerifyError) -> Failure {
    let (code, hint) = match &error {
        VerifyError::NoStore { .. } => ("no_store", "give the directory of a stopped node, or a copy of it"),
        VerifyError::Forbidden { .. } => (
            "forbidden",
            "verify as a user who may read all files of the copy, as the node's own",
        ),
        VerifyError::InUse { .. } => (
            "in_use",
            "stop the node, or verify a copy that was made while it was stopped",
        ),
        VerifyError::Format { .. } => ("format", "use the quipu that came with the node"),
        VerifyError::Genesis(_) => ("genesis", "give the genesis file of this network"),
        VerifyError::Scratch(_) => (
            "scratch",
            "verification needs room for a second state; set TMPDIR to another disk",
        ),
    };
    Failure::general(code, error).hint(hint)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let Some(first) = report.findings.first() else {
        return Ok(());
    };
    let count = report.findings.len();
    let text = format!("verification failed: {count} found, the first: {first}");
    Err(Failure::new(Exit::Verification, "verification_failed", text)
        .hint("do not rely on this copy; take one from another organisation's node and compare"))
}

fn report_json(report: &Report) -> Value {
    json!({
        "ok": report.ok(),
        "height": report.height.to_string(),
        "transactions": report.transactions.to_string(),
        "tip": report.tip.to_string(),
        "executed": report.executed.to_string(),
        "not_executed": report.not_executed().to_string(),
        "committed": report.committed.to_string(),
        "certified": report.certified.map(|height| height.to_string()),
        "not_certified": report.not_certified().to_string(),
        "not_committed": report.not_committed().to_string(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn finding_json(finding: &Finding) -> Value {
    let json = json!({"kind": finding.kind, "detail": finding.detail});
    match (finding.height(), finding.key()) {
        (Some(height), _) => with(json, [("height", json!(height.to_string()))]),
        (None, Some(key)) => with(json, [("key", json!(key))]),
        (None, None) => json,
    }
}

fn report_text(report: &Report) -> String {
    let certified = report
        .certified
        .map_or_else(|| "none".to_owned(), |height| height.to_string());
    let mut text = format!(
        "verified      {}\ntip           {} {}\ntransactions  {}\nexecuted      {}\ncertified     {certified} \
         ({} blocks not certified)",
        if report.ok() { "ok" } else { "NOT OK" },
        report.height,
        report.tip,
        report.transactions,
        report.executed,
        report.not_certified(),
    );
    if report.not_executed() > 0 {
        text.push_str(&format!(
            "\nstate         checked up to block {}; the {} blocks above it are checked as chain only",
            report.executed,
            report.not_executed(),
        ));
    }
    if report.not_committed() > 0 {
        let open = report.not_committed();
        text.push_str(&format!(
            "\nnot final     the last {open} blocks are not known here to be committed"
        ));
    }
    for finding in &report.findings {
        text.push_str(&format!("\nfinding       [{}] {finding}", finding.kind));
    }
    text
}
