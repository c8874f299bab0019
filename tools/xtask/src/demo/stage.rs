//! Keeps the place where the demo plays: the programs, the folder of its network, and how a command is shown, run and
//! waited for. Invariant: no command runs longer than its patience, and none writes into a pipe that a node could keep
//! open.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{PATIENCE, nodes, text};
use crate::command;

/// Lines of output that are shown; the rest is counted.
const SHOWN: usize = 24;

pub(super) struct Stage {
    root: PathBuf,
    quipu: PathBuf,
    network: String,
    chapter: Cell<u32>,
}

/// A command that runs while the story goes on.
pub(super) struct Running {
    child: std::cell::RefCell<Child>,
    output: File,
    shown: String,
}

impl Stage {
    pub(super) fn new(root: &Path, programs: &Path, folder: &Path) -> Self {
        Stage {
            root: root.to_owned(),
            quipu: programs.join("quipu"),
            network: folder.join("network").display().to_string(),
            chapter: Cell::new(0),
        }
    }

    pub(super) fn chapter(&self, title: &str) {
        self.chapter.set(self.chapter.get().saturating_add(1));
        println!("\n== {}. {title}", self.chapter.get());
    }

    /// The folder of the network.
    pub(super) fn network(&self) -> &str {
        &self.network
    }

    pub(super) fn in_network(&self, path: &str) -> String {
        format!("{}/{path}", self.network)
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("QUIPU_NETWORK", self.network.clone()),
            ("QUIPU_KEY", self.in_network("client.key")),
        ]
    }

    /// What a user types before the commands.
    pub(super) fn show_environment(&self) {
        let programs = self.quipu.parent().unwrap_or(Path::new("."));
        println!("$ export PATH={}:$PATH", programs.display());
        for (name, value) in self.variables() {
            println!("$ export {name}={value}");
        }
    }

    fn quipu(&self, arguments: &[&str]) -> Command {
        let mut quipu = Command::new(&self.quipu);
        quipu.args(arguments).envs(self.variables()).current_dir(&self.root);
        quipu
    }

    /// Runs `quipu`, shows command and output, and expects success.
    pub(super) fn show(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.show_failing(arguments, 0)
    }

    /// Runs `quipu`, shows command and output, and expects an exit code.
    pub(super) fn show_failing(&self, arguments: &[&str], code: i32) -> anyhow::Result<()> {
        let running = self.begin(arguments)?;
        let (exit, output) = running.finish()?;
        print!("{output}");
        expect_exit(&format!("quipu {}", arguments.join(" ")), exit, code)
    }

    /// Runs another program, shown as well.
    pub(super) fn shell(&self, words: &[&str]) -> anyhow::Result<()> {
        let (program, arguments) = words.split_first().context("a command has a program")?;
        let mut command = Command::new(program);
        println!("$ {}", command::shown(command.args(arguments)));
        ensure!(command::succeeds(&mut command)?, "`{}` failed", words.join(" "));
        Ok(())
    }

    /// SIGKILL: the process has no chance to say goodbye.
    pub(super) fn kill(&self, pid: u64) -> anyhow::Result<()> {
        // The shell's own `kill`: not every machine has another.
        let command = format!("kill -9 {pid}");
        println!("$ {command}");
        ensure!(
            command::succeeds(Command::new("sh").args(["-c", &command]))?,
            "`{command}` failed"
        );
        Ok(())
    }

    /// Starts `quipu`, shown, and lets it run.
    pub(super) fn begin(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let mut quipu = self.quipu(arguments);
        println!("$ {}", command::shown(&quipu));
        let output = tempfile::tempfile()?;
        quipu
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        let child = quipu
            .spawn()
            .with_context(|| format!("cannot start {}", self.quipu.display()))?;
        Ok(Running {
            child: child.into(),
            output,
            shown: format!("quipu {}", arguments.join(" ")),
        })
    }

    /// The JSON that `quipu` answers, unseen by the audience.
    pub(super) fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        self.json_failing(arguments, 0)
    }

    pub(super) fn json_failing(&self, arguments: &[&str], code: i32) -> anyhow::Result<Value> {
        let mut quipu = self.quipu(arguments);
        quipu.args(["--output", "json"]).stdin(Stdio::null());
        let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
        quipu.stdout(output.try_clone()?).stderr(errors.try_clone()?);
        let shown = command::shown(&quipu);
        let mut child = quipu
            .spawn()
            .with_context(|| format!("cannot start {}", self.quipu.display()))?;
        let exit = wait(&mut child, &shown)?;
        let (output, errors) = (whole(&mut output)?, whole(&mut errors)?);
        expect_exit(&shown, exit, code).with_context(|| errors.clone())?;
        serde_json::from_str(&output).with_context(|| format!("`{shown}` answers no JSON: {output}{errors}"))
    }

    /// The greatest height that a running node knows.
    pub(super) fn height(&self) -> anyhow::Result<u64> {
        let status = self.json(&["network", "status"])?;
        let heights = nodes(&status).filter_map(|node| text(node, "/height").ok()?.parse().ok());
        Ok(heights.max().unwrap_or(0))
    }

    pub(super) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let start = Instant::now();
        while !holds()? {
            ensure!(
                start.elapsed() < PATIENCE,
                "waited {} s, but not yet: {what}",
                PATIENCE.as_secs()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// The last record of a file whose field has a value.
    pub(super) fn last_record(&self, file: &str, field: &str, value: &str) -> anyhow::Result<Value> {
        let records = self.records(file)?;
        let last = records
            .into_iter()
            .rfind(|record| record.get(field).and_then(Value::as_str) == Some(value));
        last.with_context(|| format!("{file} has a record whose {field} is {value}"))
    }

    /// Texts that no two records share.
    pub(super) fn needles(&self, files: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut needles = Vec::new();
        for file in files {
            needles.extend(
                self.records(file)?
                    .iter()
                    .filter_map(|record| text(record, "/sha256").ok()),
            );
        }
        Ok(needles)
    }

    fn records(&self, file: &str) -> anyhow::Result<Vec<Value>> {
        let lines = std::io::BufReader::new(File::open(self.root.join(file))?).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }

    /// Writes some files of the repository one after another, several times, into one.
    pub(super) fn repeated(&self, files: &[&str], times: usize) -> anyhow::Result<String> {
        let mut once = Vec::new();
        for file in files {
            once.extend(std::fs::read(self.root.join(file))?);
        }
        let path = self.in_network("many.ndjson");
        let mut many = File::create(&path)?;
        for _ in 0..times {
            many.write_all(&once)?;
        }
        Ok(path)
    }
}

impl Running {
    /// Whether it still runs.
    pub(super) fn runs(&self) -> anyhow::Result<bool> {
        Ok(self.child.borrow_mut().try_wait()?.is_none())
    }

    /// Waits for its success; answers what it printed.
    pub(super) fn end(self) -> anyhow::Result<String> {
        let shown = self.shown.clone();
        let (exit, output) = self.finish()?;
        expect_exit(&shown, exit, 0).with_context(|| output.clone())?;
        Ok(output)
    }

    fn finish(mut self) -> anyhow::Result<(Option<i32>, String)> {
        let exit = wait(&mut self.child.borrow_mut(), &self.shown)?;
        Ok((exit, shortened(&whole(&mut self.output)?)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the story broke off.
        let _ = self.child.borrow_mut().kill();
    }
}

fn expect_exit(shown: &str, exit: Option<i32>, code: i32) -> anyhow::Result<()> {
    let exit = exit.with_context(|| format!("`{shown}` was ended by a signal"))?;
    ensure!(exit == code, "`{shown}` should exit with {code}, but exits with {exit}");
    Ok(())
}

/// Waits for a child; ends it when patience ends.
fn wait(child: &mut Child, shown: &str) -> anyhow::Result<Option<i32>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            bail!("`{shown}` did not end within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn whole(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The first lines of an output, and how many more there are.
fn shortened(output: &str) -> String {
    let mut lines: Vec<String> = output.lines().take(SHOWN).map(str::to_owned).collect();
    let rest = output.lines().count().saturating_sub(SHOWN);
    if rest > 0 {
        lines.push(format!("... ({rest} more lines)"));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_shortened() {
        assert_eq!(shortened("a\nb\n"), "a\nb\n");
        let long = shortened(&"line\n".repeat(SHOWN + 3));
        assert_eq!(long.lines().count(), SHOWN + 1);
        assert!(long.ends_with("... (3 more lines)\n"));
    }

    #[test]
    fn commands_are_awaited_and_their_exit_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let quipu = folder.path().join("quipu");
        std::fs::write(&quipu, "#!/bin/sh\necho '{\"a\": \"1\"}'\nexit ${1#exit}\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&quipu, mode).unwrap();
        let stage = Stage::new(folder.path(), folder.path(), folder.path());
        assert_eq!(text(&stage.json(&["exit0"]).unwrap(), "/a").unwrap(), "1");
        assert!(stage.json_failing(&["exit3"], 3).is_ok());
        let error = stage.show(&["exit3"]).unwrap_err();
        assert_eq!(error.to_string(), "`quipu exit3` should exit with 0, but exits with 3");
        let running = stage.begin(&["exit0"]).unwrap();
        assert!(running.end().unwrap().contains("\"a\""));
    }
}
