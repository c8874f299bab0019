//! Keeps one bash in which a whole tour is played. Each command writes its output into a file and then, atomically, its
//! exit code into another, so that a program that a command leaves running can hold nothing up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct Session {
    shell: std::cell::RefCell<(Child, ChildStdin)>,
    /// Outside of the folder of the tour, which shall look empty.
    notes: tempfile::TempDir,
}

impl Session {
    /// A shell in `folder`, with the programs on its path and the repository's `tools` beside it.
    pub(super) fn new(root: &Path, programs: &Path, folder: &Path) -> anyhow::Result<Self> {
        std::os::unix::fs::symlink(root.join("tools"), folder.join("tools"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["--noprofile", "--norc"]).current_dir(folder);
        bash.env("PATH", format!("{}:{path}", programs.display()))
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("QUIPU_")) {
            bash.env_remove(name);
        }
        bash.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = bash.spawn().context("cannot start `bash`")?;
        let input = shell.stdin.take().context("its input is piped")?;
        Ok(Session {
            shell: (shell, input).into(),
            notes: tempfile::tempdir()?,
        })
    }

    /// Runs a command; answers its exit code and all that it printed.
    pub(super) fn run(&self, command: &str) -> anyhow::Result<(i32, String)> {
        let note = |name: &str| -> PathBuf { self.notes.path().join(name) };
        let (output, exit, written) = (note("output"), note("exit"), note("written"));
        let mut shell = self.shell.borrow_mut();
        let line = format!(
            "{{ {command}\n}} </dev/null >'{}' 2>&1; echo $? >'{w}'; mv '{w}' '{}'\n",
            output.display(),
            exit.display(),
            w = written.display(),
        );
        shell
            .1
            .write_all(line.as_bytes())
            .context("README.md: the shell of the tour ended")?;
        let start = Instant::now();
        while !exit.exists() {
            if shell.0.try_wait()?.is_some() {
                bail!("README.md: the shell of the tour ended");
            }
            if start.elapsed() > PATIENCE {
                bail!("README.md: `{command}` did not end within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let code = std::fs::read_to_string(&exit)?
            .trim()
            .parse()
            .context("bash writes exit codes as numbers")?;
        std::fs::remove_file(exit)?;
        Ok((code, String::from_utf8_lossy(&std::fs::read(output)?).into_owned()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let shell = self.shell.get_mut();
        // The end of its input ends it; a command that hangs is ended with it.
        let _ = shell.0.kill();
        let _ = shell.0.wait();
    }
}
