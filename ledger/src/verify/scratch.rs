//! Keeps the directory that verification writes its replay into, and removes what interrupted verifications left.
//!
//! Invariant: while its process lives, a scratch directory has a file `lock` that is locked, so a directory whose lock
//! is free belongs to nobody. Locks end with their process, whatever ends it, and whichever container it runs in.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const PREFIX: &str = "quipu-verify-";
const LOCK: &str = "lock";

/// A directory of this process, removed when it is dropped.
pub(super) struct Scratch {
    dir: TempDir,
    /// Held for as long as the directory is used.
    _lock: File,
}

impl Scratch {
    /// A new directory below `parent`, after the left ones there are removed.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        remove_left(parent);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Gets its name once it is locked: else another process could find it free before.
        let unlocked = dir.path().join("unlocked");
        let lock = File::create(&unlocked)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::rename(&unlocked, dir.path().join(LOCK))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes what can be removed: that it is in the way is no reason to fail.
fn remove_left(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && is_left(&entry).unwrap_or(false) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_left(entry: &std::fs::DirEntry) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    // Of a link, its own. What other users have there is theirs to remove.
    let found = entry.metadata()?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let lock = File::open(entry.path().join(LOCK))?;
    Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_below(parent: &Path) -> usize {
        std::fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_is_used_stays() {
        let parent = tempfile::tempdir().unwrap();
        let used = Scratch::new(parent.path()).unwrap();
        let left = parent.path().join("quipu-verify-left");
        std::fs::create_dir_all(left.join("replay")).unwrap();
        std::fs::write(left.join("replay").join("CURRENT"), "x").unwrap();
        std::fs::write(left.join(LOCK), "").unwrap();
        let other = parent.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join(LOCK), "").unwrap();
        // A process that has made its directory and not yet its lock.
        std::fs::create_dir(parent.path().join("quipu-verify-new")).unwrap();

        let second = Scratch::new(parent.path()).unwrap();
        assert!(!left.exists() && other.exists() && used.path().exists());
        assert_eq!(left_below(parent.path()), 4);
        drop((used, second));
        assert_eq!(left_below(parent.path()), 2);
    }
}
