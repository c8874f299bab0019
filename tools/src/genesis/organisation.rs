//! Keeps `genesis organisation`: the public file that an organisation hands over.
//!
//! Invariant: of key files only the public halves are taken; what is wrong is told before the file is written.

use std::path::{Path, PathBuf};

use clap::Args;
use quipu_crypto::key::PublicKey;
use quipu_genesis::{NodeFile, OrganisationFile};
use quipu_ledger::membership::NodeRole;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;
use crate::passphrase;

/// Write the public file that an organisation hands over: its administrator, members and nodes.
#[derive(Args, Debug)]
pub(crate) struct Organisation {
    /// Its name, unique in the network.
    name: String,
    /// The administrator's key: a key file, or its public half in hex.
    #[arg(long, value_name = "FILE|HEX")]
    administrator: String,
    /// Someone who may send transactions, with roles if any: NAME=KEY or NAME=KEY:ROLE,ROLE, where KEY is a key file
    /// or hex.
    #[arg(long = "member", value_name = "NAME=KEY[:ROLES]")]
    members: Vec<String>,
    /// The public file of a node that votes, as `quipu-node init` writes it.
    #[arg(long = "node", value_name = "FILE")]
    nodes: Vec<PathBuf>,
    /// The public file of a node that only follows.
    #[arg(long = "learner", value_name = "FILE")]
    learners: Vec<PathBuf>,
    /// The new file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Organisation {
    pub(super) fn run(&self, output: Output) -> Result<(), Failure> {
        let mut file = OrganisationFile::new(&self.name, public_key(&self.administrator)?);
        for member in &self.members {
            let (name, key, roles) = parts(member)?;
            file = file.with_member(name, public_key(key)?, &roles);
        }
        for (paths, role) in [(&self.nodes, NodeRole::Voter), (&self.learners, NodeRole::Learner)] {
            for path in paths {
                file = file.with_node(NodeFile::read(path)?, role);
            }
        }
        let findings: Vec<String> = file.check().iter().map(ToString::to_string).collect();
        if !findings.is_empty() {
            let text = format!("{} is not written:\n{}", self.out.display(), findings.join("\n"));
            return Err(Failure::general("unsound", text));
        }
        file.write(&self.out)?;
        let json = json!({
            "organisation": file.name,
            "file": self.out,
            "administrator": file.key.to_string(),
            "members": file.members.len().to_string(),
            "nodes": file.nodes.len().to_string(),
        });
        let text = format!(
            "{}: organisation {} with {} members and {} nodes; hand it over to whoever assembles the genesis",
            self.out.display(),
            file.name,
            file.members.len(),
            file.nodes.len()
        );
        output.data(&json, text)
    }
}

/// Name, key and roles of `NAME=KEY[:ROLE,ROLE]`.
fn parts(member: &str) -> Result<(&str, &str, Vec<&str>), Failure> {
    let (name, rest) = member.split_once('=').ok_or_else(|| {
        Failure::usage(format!("--member '{member}' is not NAME=KEY or NAME=KEY:ROLE,ROLE"))
            .hint("for example --member clerk=clerk.key:writer")
    })?;
    let (key, roles) = rest.rsplit_once(':').unwrap_or((rest, ""));
    Ok((name, key, roles.split(',').filter(|role| !role.is_empty()).collect()))
}

/// A public key: in hex, or of a key file.
fn public_key(text: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    Ok(passphrase::open(Path::new(text))?.public())
}
