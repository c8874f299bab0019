//! Runs the script in a process of its own, under `strace`, and records every boundary that it passes.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use quipu_crypto::id::Height;
use quipu_ledger::store::Store;

use crate::check::{self, Found, Reference};
use crate::disk::{Cut, Disk};
use crate::images::{self, Boundary};
use crate::script::{self, Running, Script, Step};
use crate::trace::{self, Event, Follower};

const DIR: &str = "QUIPU_TEST_STORE";
const MARKS: &str = "QUIPU_TEST_MARKS";
/// The first and the last operation of a life, and how it ends.
const LIFE: &str = "QUIPU_TEST_LIFE";

/// How a life of the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By SIGKILL, after the last operation.
    Killed,
    /// As killed; and each change of a batch was written on its own, which is wrong.
    Split,
    /// As a node that is told to stop.
    Stopped,
}

/// Whether a trace can be taken here. In CI it must be: a test that is left out there would be left out for ever.
pub fn can_trace() -> bool {
    let answer = Command::new("strace")
        .args(["-qq", "-e", "trace=none", "true"])
        .output();
    let why = match answer {
        Ok(output) if output.status.success() => return true,
        Ok(output) => format!(
            "strace may not trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => format!("strace is not installed ({error})"),
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "{why}; `cargo xtask setup` installs it as root, and a container needs the right to ptrace"
    );
    eprintln!("skipped: {why}");
    false
}

/// What happened to the directory, and the boundaries on the way.
pub struct Recording<'s> {
    script: &'s Script,
    dir: tempfile::TempDir,
    /// One after the other: a power cut begins a new one.
    pub disks: Vec<Disk>,
    /// In order.
    pub boundaries: Vec<Boundary>,
    /// What holds at the next boundary.
    now: Boundary,
    next: usize,
}

impl<'s> Recording<'s> {
    /// Of an empty directory.
    pub fn new(script: &'s Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        Self {
            script,
            dir,
            disks: vec![Disk::default()],
            boundaries: Vec::new(),
            now: Boundary::default(),
            next: 1,
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("store")
    }

    /// Lets the process perform everything up to the operation `last`.
    pub fn live(&mut self, last: usize, end: End) {
        let scratch = tempfile::tempdir().unwrap();
        let (trace, marks) = (scratch.path().join("trace"), scratch.path().join("marks"));
        File::create(&marks).unwrap();
        let marks = marks.canonicalize().unwrap();
        let output = trace::traced(&std::env::current_exe().unwrap(), &trace)
            .args([
                "--exact",
                "lives::the_process_that_is_traced",
                "--ignored",
                "--nocapture",
            ])
            .env(DIR, self.store())
            .env(MARKS, &marks)
            .env(LIFE, format!("{} {last} {end:?}", self.next))
            .output()
            .unwrap();
        let stopped = output.status.success();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stopped, end == End::Stopped, "{:?}: {errors}", output.status);

        let dir = self.store();
        let disk = self.disks.last_mut().unwrap();
        let trace = fs::read_to_string(trace).unwrap();
        let events = Follower::new(disk, &dir, &marks).follow(&trace).unwrap();
        for event in events {
            match event {
                Event::Mark(mark) => self.mark(&mark),
                Event::Boundary(moment) => {
                    let (disk, moment) = (self.disks.len() - 1, moment);
                    let now = self.now.clone();
                    self.boundaries.push(Boundary { disk, moment, ..now });
                }
            }
        }
        assert_eq!(self.now.started, last, "{errors}");
        self.next = last + 1;
    }

    fn mark(&mut self, mark: &str) {
        let (word, number) = mark.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        let now = &mut self.now;
        match word {
            "opened" => {
                // A node tells others what it finds, so that must be safe.
                (now.made, now.started, now.acknowledged) = (true, number, number);
            }
            "begin" => now.started = number,
            "done" => {
                let step = &self.script.steps[number - 1];
                if step.makes_durable() {
                    now.acknowledged = number;
                }
            }
            "flushed" => now.flushed = Height(u64::try_from(number).unwrap()),
            other => panic!("a mark that is none: {other}"),
        }
    }

    /// Cuts the power while the end of the log is not synced, so that it is torn; the next life begins with what is
    /// left. Answers the last operation that is left.
    pub fn tear(&mut self, reference: &Reference<'_>, seed: u64) -> usize {
        let disk = self.disks.last().unwrap();
        for seed in seed.. {
            let image = disk.image(&self.boundaries.last().unwrap().moment, Cut::Torn(seed));
            let whole = disk.image(&self.boundaries.last().unwrap().moment, Cut::Killed);
            let safe = disk.image(&self.boundaries.last().unwrap().moment, Cut::Synced);
            assert!(
                whole != safe,
                "the second life must end with a part of its log not synced"
            );
            if image == whole || image == safe {
                continue;
            }
            let probe = images::scratch();
            check::lay_out(&image, probe.path());
            let found: Found = reference.check(probe.path(), true).unwrap();
            let last = *found.after.iter().rfind(|number| **number <= self.now.started).unwrap();
            assert!(last >= self.now.acknowledged, "{found:?}");
            fs::remove_dir_all(self.store()).unwrap();
            check::lay_out(&image, &self.store());
            self.disks.push(Disk::holding(image));
            (self.now.acknowledged, self.now.started) = (last, last);
            self.next = last + 1;
            return last;
        }
        unreachable!("a tear is found")
    }

    fn turnover(&self, ending: &str) -> (usize, usize) {
        let disks = self.disks.iter().map(|disk| disk.turnover(ending));
        disks.fold((0, 0), |(made, removed), disk| (made + disk.0, removed + disk.1))
    }

    /// The script makes RocksDB do all that it does to files.
    pub fn assert_eventful(&self) {
        for ending in [".log", ".sst", ".blob"] {
            let (made, removed) = self.turnover(ending);
            // How many are merged away by the end is a matter of when RocksDB's threads get their turn.
            assert!(made > 10 && removed > 0, "{made} {ending} made, {removed} removed");
        }
        assert!(self.now.flushed > Height::ZERO, "nothing was flushed on demand");
    }

    /// In a line.
    pub fn figures(&self) -> String {
        let bytes = fs::read_dir(self.store()).unwrap();
        let bytes: u64 = bytes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        let endings = [".log", ".sst", ".blob"].map(|ending| (ending, self.turnover(ending)));
        format!(
            "{} operations, {} boundaries; files made and removed: {endings:?}; {} KB in the store at the end",
            self.script.steps.len(),
            self.boundaries.len(),
            bytes / 1000
        )
    }
}

/// What is traced: performs a part of the script and marks what it has done.
#[test]
#[ignore = "started by the tests of the power cut"]
fn the_process_that_is_traced() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    let life = std::env::var(LIFE).unwrap();
    let mut life = life.split(' ');
    let first: usize = life.next().unwrap().parse().unwrap();
    let last: usize = life.next().unwrap().parse().unwrap();
    let end = life.next().unwrap();
    let script = script::write();
    let mut marks = File::options()
        .append(true)
        .open(std::env::var_os(MARKS).unwrap())
        .unwrap();
    let mut mark = |text: String| marks.write_all(text.as_bytes()).unwrap();
    let store = if first == 1 {
        check::create(&dir, &script).unwrap()
    } else {
        Store::open_with(&dir, &script::options()).unwrap()
    };
    mark(format!("opened {}\n", first - 1));
    let mut running = Running::of(store);
    for number in first..=last {
        mark(format!("begin {number}\n"));
        running = script::perform(&script, number, running, end == "Split").unwrap();
        mark(format!("done {number}\n"));
        if matches!(script.steps[number - 1], Step::Flush) {
            // After a kill, less may be executed by now than in the script.
            mark(format!("flushed {}\n", running.executor.executed().height));
        }
    }
    if end == "Stopped" {
        running.store.flush().unwrap();
        return;
    }
    let this = rustix::process::getpid();
    rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
    assert!(running.store.tip().height > Height::ZERO, "the process is gone by now");
}
