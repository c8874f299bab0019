//! Keeps the checks of `cargo xtask test` and their order: the cheap ones first, the first failure ends the run and
//! says what to do. Everything is built with `--release`, the one profile. The last line counts the tests.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::bail;

use crate::{command, demo, setup, tidy, tour};

/// Tests that passed and failed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Count {
    passed: u64,
    failed: u64,
}

/// What the checks run on: the checkout and the environment of cargo.
struct Suite<'a> {
    root: &'a Path,
    environment: setup::Environment,
}

/// `cargo xtask test`.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    announce("set-up");
    let mut suite = Suite {
        root,
        environment: setup::prepare(root, false)?,
    };
    suite.step("format", &["fmt", "--all", "--check"], "run `cargo fmt --all`")?;
    announce("house rules");
    house_rules(root)?;
    println!("== The next step compiles RocksDB once for this target folder: about ten minutes on two cores.");
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--release",
        "--keep-going",
        "--",
        "-D",
        "warnings",
    ];
    suite.step("lints", &clippy, "mend what clippy names")?;
    suite.documentation()?;
    suite.supply_chain()?;
    suite.step(
        "programs",
        &["build", "--release", "--workspace", "--bins"],
        "mend what the compiler names",
    )?;
    let mut count = suite.tests()?;
    suite.plays(&mut count)?;
    println!("\n== all checks done in {} s", started.elapsed().as_secs());
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 {
        bail!("{} tests failed; their output stands above", count.failed)
    } else {
        Ok(())
    }
}

fn announce(name: &str) {
    println!("\n== {name}");
}

fn house_rules(root: &Path) -> anyhow::Result<()> {
    let findings = tidy::check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        Ok(())
    } else {
        bail!("{} findings of the house rules", findings.len())
    }
}

impl Suite<'_> {
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = command::cargo(self.root, &self.environment);
        cargo.args(arguments);
        cargo
    }

    /// One check that is one cargo call.
    fn step(&self, name: &str, arguments: &[&str], advice: &str) -> anyhow::Result<()> {
        self.checked(name, &mut self.cargo(arguments), advice)
    }

    fn checked(&self, name: &str, cargo: &mut Command, advice: &str) -> anyhow::Result<()> {
        announce(&format!("{name}: {}", command::shown(cargo)));
        let started = Instant::now();
        let ok = command::succeeds(cargo)?;
        println!(
            "   {name}: {} after {} s",
            if ok { "fine" } else { "FAILED" },
            started.elapsed().as_secs()
        );
        if ok {
            Ok(())
        } else {
            bail!("{name} failed; {advice}, then run `cargo xtask test` again")
        }
    }

    fn documentation(&self) -> anyhow::Result<()> {
        let mut cargo = self.cargo(&["doc", "--no-deps", "--workspace", "--release"]);
        cargo.env("RUSTDOCFLAGS", "-D warnings");
        self.checked("documentation", &mut cargo, "mend what rustdoc names")
    }

    /// Licences and sources of the dependencies, where cargo-deny is installed.
    fn supply_chain(&self) -> anyhow::Result<()> {
        if command::answer("cargo", ["deny", "--version"]).is_none() {
            println!("\n== supply chain: skipped, cargo-deny is not installed");
            return Ok(());
        }
        let arguments = ["deny", "--offline", "check", "licenses", "bans", "sources"];
        self.step("supply chain", &arguments, "see deny.toml")
    }

    /// The two that play with real programs and real networks, each counted as one test.
    fn plays(&self, count: &mut Count) -> anyhow::Result<()> {
        let programs = setup::target_directory(self.root)?.join("release");
        if tour::is_there(self.root) {
            self.play("README: its commands, and what they print", count, || {
                tour::play(self.root, &programs)
            });
        } else {
            println!("\n== README: skipped, it has no tour yet");
        }
        self.play("demo", count, || demo::play(self.root, &programs));
        Ok(())
    }

    fn play(&self, name: &str, count: &mut Count, play: impl FnOnce() -> anyhow::Result<()>) {
        announce(name);
        match play() {
            Ok(()) => count.passed = count.passed.saturating_add(1),
            Err(error) => {
                println!("   {name}: FAILED: {error:#}");
                count.failed = count.failed.saturating_add(1);
            }
        }
    }

    /// Every test, side by side where nextest is installed; then the examples in the documentation.
    fn tests(&mut self) -> anyhow::Result<Count> {
        self.environment.push(("INSTA_UPDATE".to_owned(), "no".to_owned()));
        let nextest = command::answer("cargo", ["nextest", "--version"]).is_some();
        let units = if nextest {
            self.cargo(&["nextest", "run", "--release", "--workspace", "--no-fail-fast"])
        } else {
            self.cargo(&[
                "test",
                "--release",
                "--workspace",
                "--lib",
                "--bins",
                "--tests",
                "--no-fail-fast",
            ])
        };
        let examples = self.cargo(&["test", "--doc", "--release", "--workspace", "--no-fail-fast"]);
        let mut total = Count::default();
        for (name, mut cargo) in [("tests", units), ("examples in the documentation", examples)] {
            announce(&format!("{name}: {}", command::shown(&cargo)));
            let started = Instant::now();
            let (ok, lines) = command::passed_on(&mut cargo)?;
            let count = counted(&lines);
            println!("   {name}: {count:?} after {} s", started.elapsed().as_secs());
            if !ok && count.failed == 0 {
                bail!("{name} failed before they were counted; see above");
            }
            total.passed = total.passed.saturating_add(count.passed);
            total.failed = total.failed.saturating_add(count.failed);
        }
        Ok(total)
    }
}

/// Reads the summaries of nextest (`Summary [..] 3 tests run: 2 passed, 1 failed, 0 skipped`) and of cargo's own
/// runner (`test result: ok. 2 passed; 0 failed; ...`).
fn counted(lines: &[String]) -> Count {
    let mut count = Count::default();
    for line in lines {
        // nextest repeats, indented, what the failed tests printed: their own `test result:` does not count.
        if !line.trim_start().starts_with("Summary [") && !line.starts_with("test result:") {
            continue;
        }
        let words: Vec<&str> = line
            .split([' ', ',', ';', '(', ')'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let number = number.parse().unwrap_or(0);
            match *what {
                "passed" => count.passed = count.passed.saturating_add(number),
                "failed" | "timed" => count.failed = count.failed.saturating_add(number),
                _ => {}
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        let lines = [
            "     Summary [   0.005s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.1s",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 45 filtered out; finished in 1.49s",
            "not a summary: 7 passed",
        ];
        assert_eq!(counted(&lines.map(str::to_owned)), Count { passed: 7, failed: 2 });
    }
}
