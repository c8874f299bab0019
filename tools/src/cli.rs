//! Keeps the tree of verbs: what the command line accepts, from which help, completions and man pages follow.
//!
//! Invariant: a command line that is not understood ends with exit code 2, in JSON mode with an error object, before
//! anything was done. Leaves what each verb takes to the verb's own file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::value::read_duration;
use crate::{bench, block, documents, genesis, get, history, key, network, scan, tx, verify, watch};

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 verification failed, 4 not found, \
    5 unavailable or timed out, 6 rejected by the ledger.";

/// Quipu, a permissioned append-only ledger: networks, transactions, reads, offline verification.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every verb may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Write data as text or as JSON (one object; errors too, on standard error).
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "QUIPU_OUTPUT",
        hide_env_values = true
    )]
    pub(crate) output: Format,
    /// The network: the directory of `network up`, or a genesis file.
    #[arg(
        long,
        global = true,
        value_name = "DIR|FILE",
        value_parser = path_parser(),
        env = "QUIPU_NETWORK",
        hide_env_values = true
    )]
    pub(crate) network: Option<PathBuf>,
    /// How long to wait for the network (default: 10s for reads, 30s for a transaction, 120s for each of many).
    #[arg(long, global = true, value_name = "TIME", value_parser = read_duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Who speaks to the network.
#[derive(Args, Clone, Debug)]
pub(crate) struct Identity {
    /// The key file of a member (default for a development network: its client.key).
    #[arg(
        id = "identity",
        long = "key",
        value_name = "FILE",
        value_parser = path_parser(),
        env = "QUIPU_KEY",
        hide_env_values = true
    )]
    pub(crate) key: Option<PathBuf>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Development networks of real nodes on this machine.
    #[command(subcommand)]
    Network(network::Network),
    /// Keys: make one, look at one.
    #[command(subcommand)]
    Key(key::Key),
    /// The ceremony: from the files of the organisations to a signed genesis.
    #[command(subcommand)]
    Genesis(genesis::Genesis),
    /// Transactions: make, send, look up.
    #[command(subcommand)]
    Tx(tx::Tx),
    /// Read the value of a key.
    Get(get::Get),
    /// Read the keys with a prefix, in order.
    Scan(scan::Scan),
    /// Read all versions of a key, oldest first.
    History(history::History),
    /// Blocks.
    #[command(subcommand)]
    Block(block::Block),
    /// Follow the chain as it is executed.
    Watch(watch::Watch),
    /// Check the whole chain and state of a stopped node or a copy, offline.
    Verify(verify::Verify),
    /// Measure throughput and latency of signed transactions.
    Bench(bench::Bench),
    /// Print the completions for a shell.
    Completions(documents::Completions),
    /// Print the man page of a verb, or write all into a directory.
    Man(documents::Man),
}

impl Command {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Network(verb) => verb.run(global, *output),
            Self::Key(verb) => verb.run(*output),
            Self::Genesis(verb) => verb.run(*output),
            Self::Tx(verb) => verb.run(global, *output),
            Self::Get(verb) => verb.run(global, *output),
            Self::Scan(verb) => verb.run(global, *output),
            Self::History(verb) => verb.run(global, *output),
            Self::Block(verb) => verb.run(global, *output),
            Self::Watch(verb) => verb.run(global, *output),
            Self::Verify(verb) => verb.run(*output),
            Self::Bench(verb) => verb.run(global, *output),
            Self::Completions(verb) => verb.run(*output),
            Self::Man(verb) => verb.run(*output),
        }
    }
}

/// The command line as it was given.
///
/// # Errors
/// The exit code, once help or the error has been written.
pub(crate) fn parse() -> Result<(Cli, Output), ExitCode> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let error = match Cli::try_parse_from(&words) {
        Ok(mut cli) => {
            cli.global.network = cli.global.network.filter(|path| !path.as_os_str().is_empty());
            let output = Output::new(cli.global.output);
            return Ok((cli, output));
        }
        Err(error) => error,
    };
    let output = Output::new(if wants_json(&words) { Format::Json } else { Format::Text });
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has gone needs no help.
            let _ = error.print();
            Err(ExitCode::SUCCESS)
        }
        _ if output.is_json() => {
            let text = error.render().to_string();
            let message = text
                .split("\n\n")
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Err(output.failed(&Failure::usage(message.trim()).hint("quipu help, or the verb with --help")))
        }
        _ => {
            let _ = error.print();
            Err(output.usage_exit())
        }
    }
}

/// Takes an empty path as well: an empty variable of the environment means the same as none.
pub(crate) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Whether JSON was asked for, on a command line that could not be read.
fn wants_json(words: &[OsString]) -> bool {
    let by_option = words
        .iter()
        .zip(words.iter().skip(1))
        .any(|(option, value)| option == "--output" && value == "json");
    let by_variable = || std::env::var_os("QUIPU_OUTPUT").is_some_and(|value| value == "json");
    by_option || words.iter().any(|word| word == "--output=json") || by_variable()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// What clap asserts in debug builds only, and what a flattened group of options can break unseen.
    fn check(command: &clap::Command) {
        let mut ids: Vec<&str> = command
            .get_arguments()
            .map(|argument| argument.get_id().as_str())
            .collect();
        let mut longs: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        for names in [&mut ids, &mut longs] {
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}: {names:?}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn no_verb_has_two_options_of_one_name() {
        let mut root = Cli::command();
        root.build();
        check(&root);
    }
}
