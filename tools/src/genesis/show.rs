//! Keeps `genesis show`: who takes part under which rules, for people to read before they sign.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets};
use quipu_genesis::{GenesisDocument, text};
use quipu_ledger::membership::Membership;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::Output;
use crate::value::{time_text, with};

/// Show who takes part under which rules.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The genesis file.
    file: PathBuf,
}

impl Show {
    pub(super) fn run(&self, output: Output) -> Result<(), Failure> {
        let document = GenesisDocument::read(&self.file)?;
        let genesis = document.validate().map_err(|findings| {
            Failure::general("unsound", format!("{} is not sound:\n{findings}", self.file.display()))
        })?;
        let network = genesis.network_id().to_string();
        let unsigned = super::unsigned(&document);
        if output.is_json() {
            let fields = [
                ("network", json!(network)),
                ("name", json!(genesis.name())),
                ("time", json!(time_text(genesis.time()))),
                ("block", json!(genesis.block().hash().to_string())),
                ("unsigned", json!(unsigned)),
            ];
            return output.line(with(membership_json(genesis.membership()), fields));
        }
        let signed = if unsigned.is_empty() {
            "by all".to_owned()
        } else {
            format!("not by {}", unsigned.join(", "))
        };
        let membership = genesis.membership();
        output.line(format_args!(
            "name          {}\nnetwork       {network}\nblock 0       {}\ntime          {}\nsigned        {signed}\n\
             max lifetime  {}\ncertificates  {}\napprovals     {}",
            genesis.name(),
            genesis.block().hash(),
            time_text(genesis.time()),
            text::write_lifetime(membership.parameters.max_lifetime_ms),
            membership.parameters.certificates,
            membership.parameters.approvals,
        ))?;
        for table in tables(membership) {
            output.line(format_args!("\n{table}"))?;
        }
        Ok(())
    }
}

fn membership_json(membership: &Membership) -> Value {
    let organisations = membership.organisations.iter();
    let organisations: Vec<Value> = organisations
        .map(|one| json!({"name": one.name, "key": one.key.to_string()}))
        .collect();
    let member = |one: &quipu_ledger::membership::Member| {
        let key = one.key.to_string();
        json!({"name": one.name, "organisation": one.organisation, "key": key, "roles": one.roles})
    };
    let node = |one: &quipu_ledger::membership::Node| {
        json!({
            "slot": one.slot.to_string(),
            "name": one.name,
            "organisation": one.organisation,
            "address": one.address,
            "role": text::write_node_role(one.role),
            "key": one.key.to_string(),
            "incarnation": one.incarnation.to_string(),
        })
    };
    let namespace = |one: &quipu_ledger::membership::NamespaceRights| {
        let writers: Vec<String> = one.writers.iter().map(text::write_grant).collect();
        json!({"name": one.name.as_str(), "writers": writers})
    };
    json!({
        "organisations": organisations,
        "members": membership.members.iter().map(member).collect::<Vec<_>>(),
        "nodes": membership.nodes.iter().map(node).collect::<Vec<_>>(),
        "namespaces": membership.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "parameters": {
            "max_lifetime_ms": membership.parameters.max_lifetime_ms.to_string(),
            "certificates": membership.parameters.certificates,
            "approvals": membership.parameters.approvals.to_string(),
        },
    })
}

fn tables(membership: &Membership) -> [Table; 4] {
    let mut organisations = table(&["organisation", "administrator"]);
    for one in &membership.organisations {
        organisations.add_row([one.name.clone(), one.key.to_string()]);
    }
    let mut members = table(&["member", "organisation", "roles", "key"]);
    for one in &membership.members {
        members.add_row([
            one.name.clone(),
            one.organisation.clone(),
            one.roles.join(","),
            one.key.to_string(),
        ]);
    }
    let mut namespaces = table(&["namespace", "who may write"]);
    for one in &membership.namespaces {
        let writers: Vec<String> = one.writers.iter().map(text::write_grant).collect();
        namespaces.add_row([one.name.to_string(), writers.join(", ")]);
    }
    let mut nodes = table(&["slot", "node", "organisation", "address", "role", "key"]);
    for one in &membership.nodes {
        let role = text::write_node_role(one.role).to_owned();
        let (slot, key) = (one.slot.to_string(), one.key.to_string());
        nodes.add_row([
            slot,
            one.name.clone(),
            one.organisation.clone(),
            one.address.clone(),
            role,
            key,
        ]);
    }
    [organisations, members, namespaces, nodes]
}

/// A table without frames: it can be read, and cut by programs.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}
