//! Keeps how files of the ceremony are read and written: measured first, whole or not at all, never written over
//! unasked.
//!
//! Invariants: nothing longer than the cap is read; a new file is on the disk under its name when [`create`] returns;
//! after a failure the name holds what it held before. Leaves secret keys to `quipu_crypto::key_file`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use quipu_crypto::random::{self, RandomError};

use crate::limits::MAX_FILE_BYTES;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Nothing is there.
    #[error("{}: there is no such file; check the path", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{}: exists already and is not written over; choose another name, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a device, a pipe.
    #[error("{}: is not a regular file", path.display())]
    NotAFile {
        /// What is not a file.
        path: PathBuf,
    },
    /// Longer than any file of the ceremony is.
    #[error("{}: has more than {cap} bytes, so it is no file of the ceremony; check the path", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        cap: usize,
    },
    /// Not UTF-8.
    #[error("{}: is not a text file (UTF-8); check the path", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The system refused or failed.
    #[error("{}: cannot {action} it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// "read" or "write".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No randomness for the name of the temporary file.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The text in `path`, at most [`MAX_FILE_BYTES`] of it.
///
/// # Errors
/// Any of [`FileError`] but `Exists` and `Random`.
pub fn read(path: &Path) -> Result<String, FileError> {
    let owned = || path.to_owned();
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path: owned() },
        _ => FileError::Io {
            path: owned(),
            action: "read",
            source,
        },
    };
    // Asked before opening, for opening a pipe waits for its writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(FileError::NotAFile { path: owned() });
    }
    let cap = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let file = File::open(path).map_err(io)?;
    let too_long = || FileError::TooLong {
        path: owned(),
        cap: MAX_FILE_BYTES,
    };
    if file.metadata().map_err(io)?.len() > cap {
        return Err(too_long());
    }
    // The file may grow while it is read: one byte more than allowed tells.
    let mut bytes = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(too_long());
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText { path: owned() })
}

/// Writes `text` into a new file `path` and returns when it is on the disk.
///
/// # Errors
/// `Exists`, `Io` or `Random` of [`FileError`].
pub fn create(path: &Path, text: &str) -> Result<(), FileError> {
    // A hard link is made only where the name is free, in one step: no window between asking and taking it.
    place(path, text, |temporary| fs::hard_link(temporary, path))
}

/// Puts `text` in the place of the file `path` in one step, whether or not it is there. For callers whose user asked
/// for just that.
///
/// # Errors
/// `Io` or `Random` of [`FileError`].
pub fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    place(path, text, |temporary| fs::rename(temporary, path))
}

fn place(path: &Path, text: &str, publish: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), FileError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => FileError::Io {
            path: path.to_owned(),
            action: "write",
            source,
        },
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".quipu-{}.tmp", hex::encode(random::bytes::<8>()?)));
    let written = write_synced(&temporary, text).and_then(|()| publish(&temporary));
    // Gone already after a rename; after a failure it is ours and of no use. The first error is the one told.
    let _ = fs::remove_file(&temporary);
    written.map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
