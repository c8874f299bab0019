//! Keeps `completions` and `man`: both follow from the tree of verbs in `cli`, so they are never behind it.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Output;

/// Print the completions for a shell.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, output: Output) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quipu", &mut script);
        output.bytes(&script)
    }
}

/// Print the man page of a verb, or write all into a directory.
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The verb, like `tx put`; the whole program where none is given.
    verb: Vec<String>,
    /// Write all pages into this directory instead.
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, output: Output) -> Result<(), Failure> {
        let mut root = Cli::command();
        root.build();
        if let Some(dir) = &self.dir {
            return write_all(&root, dir);
        }
        let mut command = &root;
        for word in &self.verb {
            command = command.find_subcommand(word).ok_or_else(|| {
                Failure::usage(format!("there is no verb '{}'", self.verb.join(" ")))
                    .hint("`quipu help` lists the verbs")
            })?;
        }
        output.bytes(&page(command)?)
    }
}

fn page(command: &clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

fn write_all(command: &clap::Command, dir: &Path) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let path = dir.join(format!("{name}.1"));
    std::fs::create_dir_all(dir).map_err(|error| Failure::file(dir, "make", &error))?;
    std::fs::write(&path, page(command)?).map_err(|error| Failure::file(&path, "write", &error))?;
    let mut verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help");
    verbs.try_for_each(|verb| write_all(verb, dir))
}
