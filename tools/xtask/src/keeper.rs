//! Keeps a promise: whatever a run started is stopped, and its folder goes away, however the run ends. A small shell
//! outside of our process group waits for the end of a pipe that only we hold; Ctrl-C, a panic and even a kill of ours
//! close it. Leaves to `quipu network down` how a network is stopped.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Waits, stops every network in the folder or one below it, and removes the folder unless told to keep it.
const SCRIPT: &str = r#"
word=$(cat)
for genesis in "$FOLDER"/genesis.toml "$FOLDER"/*/genesis.toml; do
    [ -f "$genesis" ] || continue
    QUIPU_NETWORK=$(dirname "$genesis") "$QUIPU" network down
done
[ "$word" = keep ] || rm -rf "$FOLDER"
"#;

/// A temporary folder with everything that runs in it.
pub(crate) struct Keeper {
    folder: PathBuf,
    shell: Child,
}

impl Keeper {
    /// A new temporary folder; `quipu` is the program that stops networks.
    pub(crate) fn new(name: &str, quipu: &Path) -> anyhow::Result<Self> {
        let prefix = format!("quipu-{name}-");
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?.keep();
        let shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("FOLDER", &folder)
            .env("QUIPU", quipu)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start `sh`")?;
        Ok(Keeper { folder, shell })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops everything; `keep` leaves the folder for who wants to look into it.
    pub(crate) fn end(mut self, keep: bool) -> anyhow::Result<()> {
        if let Some(mut pipe) = self.shell.stdin.take()
            && keep
        {
            pipe.write_all(b"keep")?;
        }
        self.shell.wait()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for `quipu` that writes down what it is asked.
    fn stand_in(keeper: &Keeper) -> PathBuf {
        keeper.folder().join("asked")
    }

    #[test]
    fn networks_are_stopped_and_the_folder_goes() {
        let script = tempfile::tempdir().unwrap();
        let quipu = script.path().join("quipu");
        std::fs::write(&quipu, "#!/bin/sh\necho \"$*\" >>\"$QUIPU_NETWORK/../asked\"\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&quipu, mode).unwrap();
        for keep in [true, false] {
            let keeper = Keeper::new("test", &quipu).unwrap();
            let (folder, asked) = (keeper.folder().to_owned(), stand_in(&keeper));
            std::fs::create_dir(folder.join("net")).unwrap();
            std::fs::write(folder.join("net/genesis.toml"), "").unwrap();
            keeper.end(keep).unwrap();
            assert_eq!(folder.exists(), keep);
            if keep {
                assert_eq!(std::fs::read_to_string(asked).unwrap(), "network down\n");
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
    }
}
