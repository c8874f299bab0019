//! Keeps how a development network is made: directories and keys by `quipu-node init`, genesis by the ceremony.
//!
//! Invariant: it is made beside its place and put there when it is whole, so a directory has a network or none.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use quipu_crypto::id::TimeMs;
use quipu_crypto::key::SecretKey;
use quipu_crypto::key_file;
use quipu_genesis::{NodeFile, development};

use super::ports::Port;
use super::process;
use crate::failure::Failure;
use crate::session::{CLIENT_KEY_FILE, GENESIS_FILE};

/// The key of the one organisation.
const ADMINISTRATOR_KEY_FILE: &str = "administrator.key";
/// The public file of a node.
const PUBLIC_FILE: &str = "node.pub.toml";

/// Makes a network of `nodes` in `dir`. The ports are held until the answer is dropped.
pub(super) fn create(dir: &Path, nodes: u32, program: &Path) -> Result<Vec<Port>, Failure> {
    let failed = |error: std::io::Error| Failure::file(dir, "write into", &error);
    let names = (1..=nodes)
        .map(name)
        .chain([ADMINISTRATOR_KEY_FILE.to_owned(), CLIENT_KEY_FILE.to_owned()]);
    if let Some(taken) = names.map(|name| dir.join(name)).find(|path| path.exists()) {
        let text = format!("{}: is there already, but no {GENESIS_FILE} beside it", taken.display());
        return Err(Failure::general("exists", text).hint("choose another directory; nothing is written over"));
    }
    let draft = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(dir)
        .map_err(failed)?;
    let mut ports = Vec::new();
    let mut files = Vec::new();
    for number in 1..=nodes {
        let port = Port::take()?;
        files.push(init(draft.path(), number, &port, program)?);
        ports.push(port);
    }
    let (administrator, client) = (SecretKey::generate()?, SecretKey::generate()?);
    key_file::write(&draft.path().join(ADMINISTRATOR_KEY_FILE), &administrator, None)?;
    key_file::write(&draft.path().join(CLIENT_KEY_FILE), &client, None)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = TimeMs(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let document = development::genesis("development", now, &files, &administrator, client.public())?;
    for file in &files {
        document.write(&draft.path().join(&file.name).join(GENESIS_FILE))?;
    }
    document.write(&draft.path().join(GENESIS_FILE))?;
    // The genesis comes last: whoever sees it sees a whole network.
    let names =
        files
            .iter()
            .map(|file| file.name.as_str())
            .chain([ADMINISTRATOR_KEY_FILE, CLIENT_KEY_FILE, GENESIS_FILE]);
    for name in names {
        fs::rename(draft.path().join(name), dir.join(name)).map_err(failed)?;
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(ports)
}

/// Takes back a network that never started, so that it can be made again with other ports.
pub(super) fn take_back(dir: &Path, nodes: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file(dir, "clear", &error);
    for name in [GENESIS_FILE, CLIENT_KEY_FILE, ADMINISTRATOR_KEY_FILE] {
        fs::remove_file(dir.join(name)).map_err(failed)?;
    }
    (1..=nodes).try_for_each(|number| fs::remove_dir_all(dir.join(name(number))).map_err(failed))
}

fn name(number: u32) -> String {
    format!("node{number}")
}

fn init(dir: &Path, number: u32, port: &Port, program: &Path) -> Result<NodeFile, Failure> {
    let name = name(number);
    let (node_dir, address) = (dir.join(&name), port.address().to_string());
    let arguments: [&OsStr; 9] = [
        "init".as_ref(),
        "--dir".as_ref(),
        node_dir.as_ref(),
        "--name".as_ref(),
        name.as_ref(),
        "--address".as_ref(),
        address.as_ref(),
        "--listen".as_ref(),
        address.as_ref(),
    ];
    process::ask(program, &arguments)?;
    Ok(NodeFile::read(&node_dir.join(PUBLIC_FILE))?)
}
