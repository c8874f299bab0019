//! Keeps `cargo xtask mutants`: the search for the seeds and scenarios that kill each planted bug of the engine. The
//! bugs live in the tests of `quipu-consensus`; this builds and runs its example, and passes on what it prints.

use std::path::Path;

use anyhow::ensure;

use crate::command;

/// Searches the mutants whose name holds `name` among the first `seeds` seeds; `record` writes down what is found.
pub(crate) fn run(root: &Path, name: &str, seeds: u64, record: bool) -> anyhow::Result<()> {
    let mut cargo = command::cargo(root, &[]);
    cargo.args([
        "run",
        "--release",
        "--package",
        "quipu-consensus",
        "--example",
        "mutants",
        "--",
    ]);
    cargo.args(["--seeds", &seeds.to_string(), "--name", name]);
    cargo.args(record.then_some("--record"));
    println!("$ {}", command::shown(&cargo));
    ensure!(
        command::succeeds(&mut cargo)?,
        "a mutant survives or is killed by something else than what is recorded in consensus/tests/planted"
    );
    Ok(())
}
