//! Keeps `genesis new`: the files of all organisations become one genesis.
//!
//! Invariant: whoever assembles the same files with the same options and time gets the same network id; an unsound
//! genesis is not written.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use quipu_crypto::id::TimeMs;
use quipu_genesis::{OrganisationFile, ceremony, text};
use quipu_ledger::membership::NamespaceRights;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::value::{read_duration, read_namespace};

/// Assemble the files of all organisations into a genesis, which each then signs.
#[derive(Args, Debug)]
pub(crate) struct New {
    /// What the network is called.
    #[arg(long)]
    name: String,
    /// The file of each organisation.
    #[arg(required = true, value_name = "FILE")]
    organisations: Vec<PathBuf>,
    /// A namespace and who may write in it: NAME=GRANT,GRANT, where a grant is everyone, role:NAME, organisation:NAME
    /// or member:NAME.
    #[arg(long = "namespace", value_name = "NAME=GRANTS", default_value = "default=everyone")]
    namespaces: Vec<String>,
    /// Longest time between a block and the expiry of a transaction in it (default 10min).
    #[arg(long, value_name = "TIME", value_parser = read_duration)]
    max_lifetime: Option<Duration>,
    /// How many organisations must sign a later change (default: more than half).
    #[arg(long, value_name = "N")]
    approvals: Option<u32>,
    /// Voters sign no commit certificates; such a network can never change its membership.
    #[arg(long)]
    without_certificates: bool,
    /// The time of block 0 in RFC 3339; now where it is left away.
    #[arg(long, value_name = "TIME")]
    time: Option<Timestamp>,
    /// The new file.
    #[arg(long, value_name = "FILE", default_value = "genesis.toml")]
    out: PathBuf,
}

impl New {
    pub(super) fn run(&self, output: Output) -> Result<(), Failure> {
        let files = self.organisations.iter().map(|path| OrganisationFile::read(path));
        let files: Vec<OrganisationFile> = files.collect::<Result<_, _>>()?;
        let namespaces: Vec<_> = self
            .namespaces
            .iter()
            .map(|text| namespace(text))
            .collect::<Result<_, _>>()?;
        let mut parameters = ceremony::default_parameters(files.len());
        if let Some(lifetime) = self.max_lifetime {
            parameters.max_lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        }
        parameters.approvals = self.approvals.unwrap_or(parameters.approvals);
        parameters.certificates &= !self.without_certificates;
        let time = self.time.unwrap_or_else(Timestamp::now).as_millisecond();
        let time = u64::try_from(time).map_err(|_| Failure::usage("--time is before 1970"))?;
        let document = ceremony::assemble(&self.name, TimeMs(time), &files, namespaces, parameters);
        let genesis = document.validate().map_err(|findings| {
            Failure::general("unsound", format!("{} is not written:\n{findings}", self.out.display()))
        })?;
        document.write(&self.out)?;
        let network = genesis.network_id().to_string();
        let missing = super::unsigned(&document);
        let json = json!({"network": network, "file": self.out, "missing": missing});
        output.data(&json, format!("{}: network {network}", self.out.display()))?;
        output.note(format_args!(
            "each organisation now reads it and runs `quipu genesis sign`: {}",
            missing.join(", ")
        ));
        Ok(())
    }
}

fn namespace(option: &str) -> Result<NamespaceRights, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Failure::usage(format!("--namespace '{option}': {problem}")).hint("for example --namespace prices=role:writer")
    };
    let (name, grants) = option
        .split_once('=')
        .ok_or_else(|| wrong(&"is not NAME=GRANT,GRANT"))?;
    let grants = grants.split(',').filter(|grant| !grant.is_empty());
    Ok(NamespaceRights {
        name: read_namespace(name).map_err(|problem| wrong(&problem))?,
        writers: grants
            .map(text::read_grant)
            .collect::<Result<_, _>>()
            .map_err(|problem| wrong(&problem))?,
    })
}
