//! # quipu: the command line of Quipu
//!
//! One file for each verb; `cli` is the tree of them. Data go to standard output, everything else to standard error,
//! both through `output`; whatever fails ends as a `failure::Failure`, which has the exit code and the advice.
#![forbid(unsafe_code)]

mod bench;
mod block;
mod cli;
mod documents;
mod failure;
mod genesis;
mod get;
mod history;
mod key;
mod network;
mod output;
mod passphrase;
mod progress;
mod scan;
mod session;
mod tx;
mod value;
mod verify;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (cli, output) = match cli::parse() {
        Ok(parsed) => parsed,
        Err(exit) => return exit,
    };
    match cli.command.run(&cli.global, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failed(&failure),
    }
}
