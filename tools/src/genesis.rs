//! Keeps the verbs of the ceremony, in the order in which people take them: `organisation`, `new`, `sign`, `check`,
//! `show`.
//!
//! Invariant: no verb takes a secret key that is not its caller's own. What the ceremony is, is in `quipu_genesis`.

mod assemble;
mod organisation;
mod show;

pub(crate) use show::table;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quipu_genesis::{Finding, GenesisDocument, ceremony};
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::passphrase;

/// The ceremony: from the files of the organisations to a signed genesis.
#[derive(Debug, Subcommand)]
pub(crate) enum Genesis {
    /// Write the public file that an organisation hands over: its administrator, members and nodes.
    Organisation(organisation::Organisation),
    /// Assemble the files of all organisations into a genesis, which each then signs.
    New(assemble::New),
    /// Sign a genesis for an organisation, with its administrator's key.
    Sign(Sign),
    /// Say exactly what is missing or wrong in a genesis; exit 3 unless it is complete.
    Check(Check),
    /// Show who takes part under which rules.
    Show(show::Show),
}

#[derive(Args, Debug)]
pub(crate) struct Sign {
    /// The genesis file; the signature is put into it.
    file: PathBuf,
    /// The administrator's key file.
    #[arg(long, value_name = "FILE", env = "QUIPU_KEY", hide_env_values = true)]
    key: PathBuf,
    /// The organisation; the one that has this key where it is left away.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The genesis file.
    file: PathBuf,
}

impl Genesis {
    pub(crate) fn run(&self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Organisation(organisation) => organisation.run(output),
            Self::New(new) => new.run(output),
            Self::Sign(sign) => sign.run(output),
            Self::Check(check) => check.run(output),
            Self::Show(show) => show.run(output),
        }
    }
}

impl Sign {
    fn run(&self, output: Output) -> Result<(), Failure> {
        let mut document = GenesisDocument::read(&self.file)?;
        let key = passphrase::open(&self.key)?;
        let organisations = &document.membership.organisations;
        let of_key = || organisations.iter().find(|listed| listed.key == key.public());
        let Some(organisation) = self
            .organisation
            .clone()
            .or_else(|| of_key().map(|listed| listed.name.clone()))
        else {
            let text = format!(
                "not signed: no organisation in {} has the key {}",
                self.file.display(),
                key.public()
            );
            return Err(Failure::general("not_signed", text).hint("give the key of an organisation's administrator"));
        };
        ceremony::sign(&mut document, &organisation, &key)?;
        document.replace(&self.file)?;
        let missing = unsigned(&document);
        let network = network_id(&document);
        let text = if missing.is_empty() {
            format!(
                "{organisation} has signed network {}; the genesis is complete",
                network.as_deref().unwrap_or("?")
            )
        } else {
            let missing = missing.join(", ");
            format!(
                "{organisation} has signed network {}; missing: {missing}",
                network.as_deref().unwrap_or("?")
            )
        };
        let json = json!({"organisation": organisation, "network": network, "missing": missing});
        output.data(&json, text)
    }
}

impl Check {
    fn run(&self, output: Output) -> Result<(), Failure> {
        let document = GenesisDocument::read(&self.file)?;
        let findings = ceremony::check(&document);
        let network = network_id(&document);
        let list: Vec<Value> = findings.iter().map(finding_json).collect();
        let json = json!({"ok": findings.is_empty(), "network": network, "findings": list});
        if findings.is_empty() {
            let text = format!(
                "complete: network {} \"{}\"",
                network.unwrap_or_default(),
                document.name
            );
            return output.data(&json, text);
        }
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        output.data(&json, lines.join("\n"))?;
        let count = findings.len();
        let text = format!(
            "{}: {count} missing or wrong, the first: {}",
            self.file.display(),
            findings_first(&lines)
        );
        Err(Failure::new(Exit::Verification, "incomplete", text))
    }
}

fn findings_first(lines: &[String]) -> &str {
    lines.first().map_or("", String::as_str)
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "place": finding.place.to_string(),
        "kind": finding.problem.code(),
        "detail": finding.problem.to_string(),
    })
}

/// The network's id, where the definition is sound.
fn network_id(document: &GenesisDocument) -> Option<String> {
    document.validate().ok().map(|genesis| genesis.network_id().to_string())
}

/// The organisations that have not signed.
fn unsigned(document: &GenesisDocument) -> Vec<String> {
    let signed = |name: &str| document.approvals.iter().any(|approval| approval.organisation == name);
    let organisations = document.membership.organisations.iter();
    organisations
        .map(|listed| listed.name.clone())
        .filter(|name| !signed(name))
        .collect()
}
