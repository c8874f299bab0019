//! Keeps where a development network stands: its directory and those of its nodes.
//!
//! Invariant: which nodes there are is read from the genesis, never from the directories that happen to be there.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use quipu_crypto::id::Slot;
use quipu_genesis::Genesis;

use super::process::{Child, Process};
use crate::cli::{Global, Identity};
use crate::failure::Failure;
use crate::session::{self, CLIENT_KEY_FILE, GENESIS_FILE, Session};

/// Held while processes are started or stopped.
const LOCK_FILE: &str = "network.lock";

/// A development network on disk.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) genesis: Genesis,
    pub(super) members: Vec<Member>,
}

/// A node of it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) slot: Slot,
    pub(super) name: String,
    /// Where it is reached.
    pub(super) address: String,
    /// Its own directory.
    pub(super) dir: PathBuf,
}

impl Place {
    /// The network in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let file = dir.join(GENESIS_FILE);
        if !file.is_file() {
            return Err(Failure::general(
                "no_network",
                format!("{}: there is no {GENESIS_FILE} in it", dir.display()),
            )
            .hint(format!(
                "make a network there with `quipu network up --dir {}`",
                dir.display()
            )));
        }
        let dir = dir.canonicalize().map_err(|error| Failure::file(dir, "open", &error))?;
        let genesis = session::read_genesis(&file)?;
        let nodes = genesis.membership().nodes.iter();
        let members = nodes
            .map(|node| Member {
                slot: node.slot,
                name: node.name.clone(),
                address: node.address.clone(),
                dir: dir.join(&node.name),
            })
            .collect();
        Ok(Self { dir, genesis, members })
    }

    pub(super) fn member(&self, name: &str) -> Result<&Member, Failure> {
        self.members.iter().find(|member| member.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
            Failure::usage(format!("there is no node '{name}' in {}", self.dir.display()))
                .hint(format!("its nodes are {}", names.join(", ")))
        })
    }

    /// Lets no other `quipu network` start or stop processes here until the answer is dropped.
    pub(super) fn lock(&self) -> Result<File, Failure> {
        lock(&self.dir)
    }

    /// A session as the network's own client.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let global = Global {
            output: crate::output::Format::Text,
            network: Some(self.dir.clone()),
            timeout: None,
        };
        Session::open(
            &global,
            &Identity {
                key: Some(self.dir.join(CLIENT_KEY_FILE)),
            },
        )
    }
}

/// Lets no other `quipu network` work in `dir` until the answer is dropped.
pub(super) fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| Failure::file(&path, "open", &error))?;
    file.lock().map_err(|error| Failure::file(&path, "lock", &error))?;
    Ok(file)
}

impl Member {
    /// What it prints.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("node.pid")
    }

    /// Its process, if it runs.
    pub(super) fn process(&self) -> Result<Option<Process>, Failure> {
        Process::find(&self.pid_file())
    }

    /// Starts it. It outlives this program.
    pub(super) fn start(&self, program: &Path) -> Result<Child, Failure> {
        Child::start(program, &self.name, &self.dir, &self.log(), &self.pid_file())
    }
}
