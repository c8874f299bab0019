//! Keeps the processes of nodes: started so that they outlive us, found again by what only they can be.
//!
//! Invariant: no signal reaches a process but the one that was started: its id is believed only together with its time
//! of start and the boot of the machine, and the signal goes through a handle that was opened before they were checked.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::failure::Failure;

/// The name of the daemon.
const PROGRAM: &str = "quipu-node";
/// Where its path may stand.
const VARIABLE: &str = "QUIPU_NODE_BIN";

/// A node that was started by this program.
pub(super) struct Child {
    pub(super) name: String,
    process: std::process::Child,
    log: PathBuf,
    /// Where in the log it began.
    from: u64,
}

/// A running node.
pub(super) struct Process {
    pid: u32,
    handle: OwnedFd,
}

/// The daemon's program: as the variable says, beside this program, or on the path.
pub(super) fn program() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        return Err(Failure::general(
            "no_program",
            format!("{VARIABLE} names {}, but there is no such file", path.display()),
        ));
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(PROGRAM)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(PROGRAM));
    beside
        .into_iter()
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            Failure::general(
                "no_program",
                format!("{PROGRAM} is neither beside quipu nor on the PATH"),
            )
            .hint(format!(
                "build it with `cargo build --release`, or name it in {VARIABLE}"
            ))
        })
}

/// Runs the daemon for a short task; its messages become the failure's.
pub(super) fn ask(program: &Path, arguments: &[&std::ffi::OsStr]) -> Result<(), Failure> {
    let output = Command::new(program)
        .args(arguments)
        .env_remove("QUIPU_NODE_PASSPHRASE")
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| Failure::file(program, "run", &error))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let verb = arguments
        .first()
        .map_or_else(String::new, |verb| verb.to_string_lossy().into_owned());
    Err(Failure::general(
        "node",
        format!("`{PROGRAM} {verb}` failed: {}", text.trim()),
    ))
}

impl Child {
    pub(super) fn start(program: &Path, name: &str, dir: &Path, log: &Path, pid_file: &Path) -> Result<Self, Failure> {
        Self::spawn(
            Command::new(program).arg("run").arg("--dir").arg(dir),
            name,
            log,
            pid_file,
        )
    }

    fn spawn(command: &mut Command, name: &str, log: &Path, pid_file: &Path) -> Result<Self, Failure> {
        let open = || {
            let out = OpenOptions::new().create(true).append(true).open(log)?;
            Ok((out.try_clone()?, out))
        };
        let (out, err) = open().map_err(|error: std::io::Error| Failure::file(log, "open", &error))?;
        let from = out.metadata().map_or(0, |metadata| metadata.len());
        // A group of its own: a Ctrl-C in our terminal is ours to handle, and our end is not the node's.
        let process = command
            .env_remove("QUIPU_NODE_PASSPHRASE")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::file(Path::new(command.get_program()), "run", &error))?;
        let pid = process.id();
        let child = Self {
            name: name.to_owned(),
            process,
            log: log.to_owned(),
            from,
        };
        // A child that is not waited for keeps its entry, so the mark is there even if it has ended already.
        let mark = mark(pid).unwrap_or_default();
        let draft = pid_file.with_extension("pid.new");
        fs::write(&draft, format!("{pid} {mark}\n"))
            .and_then(|()| fs::rename(&draft, pid_file))
            .map_err(|error| Failure::file(pid_file, "write", &error))?;
        Ok(child)
    }

    /// Its end, where it has ended: what it said last.
    pub(super) fn ended(&mut self) -> Option<Failure> {
        let status = self.process.try_wait().ok().flatten()?;
        let text = format!(
            "{} has ended ({status}); the end of its log:\n{}",
            self.name,
            tail(&self.said())
        );
        Some(Failure::general("node_ended", text).hint(format!("all of it is in {}", self.log.display())))
    }

    /// Whether it said that another process, perhaps one that is just ending, still holds its directory.
    pub(super) fn found_directory_in_use(&self) -> bool {
        String::from_utf8_lossy(&self.said()).contains("is in use by another process")
    }

    /// The end of what it, and none before it, has written into the log.
    fn said(&self) -> Vec<u8> {
        let read = || {
            let mut log = fs::File::open(&self.log)?;
            let end = log.metadata()?.len();
            log.seek(SeekFrom::Start(self.from.max(end.saturating_sub(4096))))?;
            let mut bytes = Vec::new();
            log.take(4096).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().unwrap_or_else(|_: std::io::Error| Vec::new())
    }
}

/// The last lines of what was written.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(6)..).unwrap_or_default();
    last.iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

impl Process {
    /// The process that a pid file names, if it still runs.
    pub(super) fn find(pid_file: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read_to_string(pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file(pid_file, "read", &error)),
        };
        let Some((pid, expected)) = text.trim_end().split_once(' ') else {
            return Ok(None);
        };
        let Some(pid) = pid.parse().ok().filter(|pid: &u32| *pid > 0) else {
            return Ok(None);
        };
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let Ok(handle) = pidfd_open(id, PidfdFlags::empty()) else {
            return Ok(None);
        };
        // Checked after the handle is open: it cannot pass to a later process of the same id.
        if mark(pid).as_deref() != Some(expected) {
            return Ok(None);
        }
        Ok(Some(Self { pid, handle }))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks it to stop, or kills it.
    pub(super) fn signal(&self, kill: bool) -> Result<(), Failure> {
        let signal = if kill { Signal::KILL } else { Signal::TERM };
        match pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Failure::general(
                "signal",
                format!("process {} cannot be signalled: {error}", self.pid),
            )),
        }
    }

    /// Waits for its end, with all its threads and files; whether it came.
    pub(super) fn ends_within(&self, wait: Duration) -> bool {
        let begun = Instant::now();
        loop {
            let left = Timespec::try_from(wait.saturating_sub(begun.elapsed())).ok();
            let mut handle = [PollFd::new(&self.handle, PollFlags::IN)];
            match poll(&mut handle, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
                Ok(count) => return count > 0,
            }
        }
    }
}

/// What tells a running process from every other: its start in clock ticks, and the boot. None for one that has ended.
fn mark(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let started = fields.nth(18)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{started} {}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_process_is_found_by_its_mark_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.pid");
        let mut child = sleeper();
        fs::write(&file, format!("{} {}\n", child.id(), mark(child.id()).unwrap())).unwrap();
        let process = Process::find(&file).unwrap().expect("it runs");
        assert!(!process.ends_within(Duration::from_millis(50)));
        process.signal(false).unwrap();
        child.wait().unwrap();
        assert!(process.ends_within(Duration::from_secs(5)));
        assert!(Process::find(&file).unwrap().is_none());
    }

    #[test]
    fn only_what_this_child_said_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (log, pid) = (dir.path().join("log"), dir.path().join("pid"));
        let script = dir.path().join("node");
        for (says, in_use) in [("/x is in use by another process", true), ("no", false)] {
            fs::write(&script, format!("echo {says}; exit 1\n")).unwrap();
            let program = Path::new("/bin/sh");
            let mut child = Child::spawn(Command::new(program).arg(&script), "n", &log, &pid).unwrap();
            while child.ended().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(child.found_directory_in_use(), in_use);
        }
    }

    #[test]
    fn a_stranger_with_the_same_id_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.pid");
        let mut stranger = sleeper();
        fs::write(&file, format!("{} 1 another-boot\n", stranger.id())).unwrap();
        assert!(Process::find(&file).unwrap().is_none());
        for nonsense in ["", "x y", "0 1 b", "4294967295 1 b"] {
            fs::write(&file, nonsense).unwrap();
            assert!(Process::find(&file).unwrap().is_none());
        }
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
