//! # quipu-node: the daemon
//!
//! Thin: reads the command line, sets up logs and signals, and calls `init`, `start` or the check of a configuration.
#![forbid(unsafe_code)]

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let command = command::Cli::parse();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => command::report(&error),
    }
}
