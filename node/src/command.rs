//! Keeps the command line of the daemon: `init`, `run`, `config check`.
//!
//! What was asked for goes to stdout, everything else to stderr; exit code 0 ok, 1 failure, 2 usage.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use quipu_node::config::{ConfigFile, LogFormat, PUBLIC_FILE};
use quipu_node::{init, start};
use tracing_subscriber::EnvFilter;

/// Open files that a node wants: tables of the store, and connections.
const OPEN_FILES: u64 = 65_536;

/// A node of a Quipu network.
#[derive(Debug, Parser)]
#[command(name = "quipu-node", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a node's directory: its key, its incarnation, its configuration and the public file for the genesis
    Init {
        /// The directory to make
        #[arg(long)]
        dir: PathBuf,
        /// The node's name, unique in the network
        #[arg(long)]
        name: String,
        /// host:port under which the others will reach it (UDP)
        #[arg(long)]
        address: String,
        /// Where it listens; the port of --address on every interface if not given
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Encrypt the key with this passphrase
        #[arg(long, env = "QUIPU_NODE_PASSPHRASE", hide_env_values = true)]
        passphrase: Option<String>,
    },
    /// Run the node of a directory until SIGTERM or SIGINT
    Run {
        /// The node's directory, with the network's genesis.toml in it
        #[arg(long)]
        dir: PathBuf,
        /// Opens an encrypted key
        #[arg(long, env = "QUIPU_NODE_PASSPHRASE", hide_env_values = true)]
        passphrase: Option<String>,
        /// Log filter, overrides the configuration (e.g. info, quipu_node=debug)
        #[arg(long, env = "QUIPU_LOG")]
        log: Option<String>,
    },
    /// Look at a configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check configuration, key, genesis and incarnation of a directory without starting anything
    Check {
        /// The node's directory
        #[arg(long)]
        dir: PathBuf,
        /// Opens an encrypted key
        #[arg(long, env = "QUIPU_NODE_PASSPHRASE", hide_env_values = true)]
        passphrase: Option<String>,
    },
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, to what, and what to do.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Init {
                dir,
                name,
                address,
                listen,
                passphrase,
            } => {
                let listen = listen.map_or_else(|| listen_on(&address), Ok)?;
                let wish = init::Wish {
                    dir: dir.clone(),
                    name,
                    address,
                    listen,
                    passphrase,
                };
                let public = init::init(&wish)?;
                say(&format!(
                    "node '{}' made in {}\nkey          {}\nincarnation  {}\npublic file  {}\n\
                     Hand the public file to whoever assembles the genesis, and put genesis.toml into the directory.",
                    public.name,
                    dir.display(),
                    public.key,
                    public.incarnation,
                    dir.join(PUBLIC_FILE).display(),
                ))
            }
            Command::Run { dir, passphrase, log } => run(&dir, passphrase.as_deref(), log.as_deref()),
            Command::Config {
                command: ConfigCommand::Check { dir, passphrase },
            } => {
                let prepared = start::prepare(&dir, passphrase.as_deref())?;
                say(&format!(
                    "ok: node '{}' (slot {}) of network '{}' {}, listens on {}",
                    prepared.node.name,
                    prepared.node.slot,
                    prepared.genesis.name(),
                    prepared.genesis.network_id(),
                    prepared.config.listen,
                ))
            }
        }
    }
}

fn listen_on(address: &str) -> anyhow::Result<SocketAddr> {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let port =
        port.with_context(|| format!("--address {address}: give host:port, for example node1.example.org:7400"))?;
    if address.starts_with("127.0.0.1:") || address.starts_with("localhost:") {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    Ok(SocketAddr::from(([0, 0, 0, 0], port)))
}

fn run(dir: &std::path::Path, passphrase: Option<&str>, log: Option<&str>) -> anyhow::Result<()> {
    let prepared = start::prepare(dir, passphrase)?;
    begin_logs(&prepared.config, log)?;
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let ended = runtime.block_on(async {
        let stop = stop_signal()?;
        start::run(prepared, stop).await.map_err(anyhow::Error::from)
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    tracing::info!("the node has stopped");
    ended
}

/// Resolves at the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn begin_logs(config: &ConfigFile, filter: Option<&str>) -> anyhow::Result<()> {
    let filter = filter.unwrap_or(&config.log);
    let filter = EnvFilter::try_new(filter).with_context(|| format!("the log filter '{filter}' is not valid"))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    let begun = match config.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("logs could not be set up: {error}"))
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("stdout cannot be written to")
}

/// Tells on stderr what went wrong.
#[must_use]
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let _nowhere_to_say = writeln!(io::stderr().lock(), "quipu-node: {}", told(error));
    ExitCode::FAILURE
}

/// An error with its causes; those that it tells itself are not told again.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_an_error_tells_itself_is_not_told_again() {
        let cause = || io::Error::from(io::ErrorKind::PermissionDenied);
        let whole = anyhow::Error::from(cause()).context(format!("k: cannot read it: {}", cause()));
        assert_eq!(told(&whole), format!("k: cannot read it: {}", cause()));
        let part = anyhow::Error::from(cause()).context("k");
        assert_eq!(told(&part), format!("k: {}", cause()));
    }
}
