//! Keeps files of signed transactions: a header line, then one line for each. `ledger/FORMAT.md` has the format.
//!
//! Invariants: what [`Writer::append`] returned for is on the disk; nothing longer than the longest transaction is ever
//! held; a last line without its end was cut off while it was written, so it was never sent.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use quipu_crypto::id::NetworkId;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use quipu_ledger::transaction::SignedTransaction;

use crate::failure::Failure;

/// First word of the header line.
const MAGIC: &str = "quipu-transactions";
/// Second word.
const VERSION: &str = "1";
/// Longest line: the length in digits, a space, two digits for each byte, the line's end.
const MAX_LINE: usize = 2 * MAX_TRANSACTION_BYTES + 16;

/// Appends transactions to a new file.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    path: PathBuf,
}

impl Writer {
    /// A new file for transactions of `network`.
    pub(super) fn create(path: &Path, network: NetworkId) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::general(
                "exists",
                format!("{}: exists already and is not written over", path.display()),
            )
            .hint(format!(
                "send what is in it with `quipu tx submit {}`, or choose another name",
                path.display()
            )),
            _ => Failure::file(path, "write", &error),
        })?;
        let mut writer = Self {
            file,
            path: path.to_owned(),
        };
        writer.write(format!("{MAGIC} {VERSION} {network}\n").as_bytes())?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Failure::file(folder, "sync", &error))?;
        Ok(writer)
    }

    /// The file `path` of `network` to append to, without a last line that was cut off, and how many transactions it
    /// has.
    pub(super) fn resume(path: &Path, network: NetworkId) -> Result<(Self, u64), Failure> {
        let failed = |error: io::Error| Failure::file(path, "write", &error);
        let mut reader = Reader::open(path, network)?;
        let mut count = 0_u64;
        let mut whole = reader.bytes;
        while let Some(transaction) = reader.next() {
            transaction?;
            count = count.saturating_add(1);
            whole = reader.bytes;
        }
        let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        file.set_len(whole).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut writer = Self {
            file,
            path: path.to_owned(),
        };
        // A whole last line may lack its end only.
        writer.write(if reader.unended && !reader.torn { b"\n" } else { b"" })?;
        Ok((writer, count))
    }

    /// Appends `transactions` and returns when they are on the disk.
    pub(super) fn append(&mut self, transactions: &[SignedTransaction]) -> Result<(), Failure> {
        let mut lines = String::new();
        for transaction in transactions {
            let bytes = transaction.bytes();
            lines.push_str(&format!("{} {}\n", bytes.len(), hex::encode(bytes)));
        }
        self.write(lines.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        written.map_err(|error| Failure::file(&self.path, "write", &error))
    }
}

/// Reads transactions one by one.
pub(super) struct Reader {
    lines: BufReader<File>,
    path: PathBuf,
    line: u64,
    /// Bytes of the lines that were read.
    bytes: u64,
    /// The last line that was read has no end.
    unended: bool,
    /// It has not even a whole transaction.
    torn: bool,
}

impl Reader {
    /// The file `path`, which must be one of `network`.
    pub(super) fn open(path: &Path, network: NetworkId) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::file(path, "read", &error))?;
        let mut reader = Self {
            lines: BufReader::new(file),
            path: path.to_owned(),
            line: 0,
            bytes: 0,
            unended: false,
            torn: false,
        };
        let header = reader.next_line()?.unwrap_or_default();
        let words: Vec<&str> = header.split(' ').collect();
        match words.as_slice() {
            [MAGIC, VERSION, of] if *of == network.to_string() => Ok(reader),
            [MAGIC, VERSION, of] => {
                let text = format!(
                    "{}: its transactions are for network {of}, this is {network}",
                    path.display()
                );
                Err(Failure::general("wrong_network", text).hint("choose the network with --network"))
            }
            [MAGIC, version, ..] => {
                let text = format!(
                    "{}: is of version {version}, this program reads {VERSION}",
                    path.display()
                );
                Err(Failure::general("format", text).hint("use the quipu that wrote it"))
            }
            _ => {
                let text = format!(
                    "{}: is no file of signed transactions (its first line is no header)",
                    path.display()
                );
                Err(Failure::general("format", text).hint("`tx import --save FILE` and `tx put --save FILE` write one"))
            }
        }
    }

    /// Whether the last line was cut off, once the end was reached.
    pub(super) fn torn(&self) -> bool {
        self.torn
    }

    fn next_line(&mut self) -> Result<Option<String>, Failure> {
        self.line = self.line.saturating_add(1);
        let mut bytes = Vec::new();
        let cap = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = (&mut self.lines).take(cap).read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| Failure::file(&self.path, "read", &error))?;
        if read == 0 {
            return Ok(None);
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        self.unended = bytes.pop_if(|last| *last == b'\n').is_none();
        if self.unended && read >= MAX_LINE {
            return Err(self.wrong("is longer than any signed transaction"));
        }
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| self.wrong("is not text"))
    }

    /// The next transaction.
    fn read(&mut self) -> Result<Option<SignedTransaction>, Failure> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        match decode(&line) {
            Ok(transaction) => Ok(Some(transaction)),
            Err(_) if self.unended => {
                self.torn = true;
                Ok(None)
            }
            Err(problem) => Err(self.wrong(&problem)),
        }
    }

    fn wrong(&self, problem: &str) -> Failure {
        Failure::general(
            "format",
            format!("{}: line {} {problem}", self.path.display(), self.line),
        )
        .hint("the file was changed or damaged; nothing from this line on was sent")
    }
}

fn decode(line: &str) -> Result<SignedTransaction, String> {
    let (length, digits) = line.split_once(' ').ok_or("has no length")?;
    let length: usize = length.parse().map_err(|_| "does not begin with a length".to_owned())?;
    if digits.len() != length.saturating_mul(2) {
        return Err(format!("says {length} bytes, but has {} digits", digits.len()));
    }
    if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return Err("is not lower-case hex".to_owned());
    }
    let bytes = hex::decode(digits).map_err(|error| format!("is not hex: {error}"))?;
    SignedTransaction::decode(bytes).map_err(|error| format!("is no signed transaction: {error}"))
}

impl Iterator for Reader {
    type Item = Result<SignedTransaction, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use quipu_crypto::hash::Hash;
    use quipu_crypto::id::TimeMs;
    use quipu_crypto::key::SecretKey;
    use quipu_ledger::operation::{Namespace, Operation};
    use quipu_ledger::transaction::TransactionBody;

    use super::*;

    const NETWORK: NetworkId = NetworkId(Hash::from_bytes([7; 32]));

    fn transaction(number: u8) -> SignedTransaction {
        let key = SecretKey::from_seed([1; 32]);
        let namespace = Namespace::new("default").unwrap();
        let body = TransactionBody {
            version: 1,
            network: NETWORK,
            sender: key.public(),
            nonce: [number; 16],
            expires_at: TimeMs(1),
            operations: vec![Operation::Put {
                namespace,
                key: vec![number],
                value: vec![number; 8],
            }],
            memo: Vec::new(),
        };
        SignedTransaction::sign(body, &key).unwrap()
    }

    fn written(path: &Path) -> Vec<SignedTransaction> {
        let all: Vec<SignedTransaction> = (1..=3).map(transaction).collect();
        let mut writer = Writer::create(path, NETWORK).unwrap();
        writer.append(&all[..2]).unwrap();
        writer.append(&all[2..]).unwrap();
        all
    }

    fn read(path: &Path) -> Result<(Vec<SignedTransaction>, bool), Failure> {
        let mut reader = Reader::open(path, NETWORK)?;
        let all: Vec<SignedTransaction> = reader.by_ref().collect::<Result<_, _>>()?;
        Ok((all, reader.torn()))
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("saved");
        let all = written(&path);
        assert_eq!(read(&path).unwrap(), (all, false));
        assert_eq!(Writer::create(&path, NETWORK).unwrap_err().code, "exists");
    }

    #[test]
    fn a_file_that_was_cut_anywhere_yields_the_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("saved");
        let all = written(&path);
        let bytes = std::fs::read(&path).unwrap();
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in header..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[header..cut].iter().filter(|byte| **byte == b'\n').count();
            let (got, torn) = read(&path).unwrap();
            // A line that lacks nothing but its end is whole.
            let ends = got.len() == whole + 1;
            assert_eq!(got, all[..whole + usize::from(ends)]);
            assert_eq!(torn, bytes[cut - 1] != b'\n' && !ends, "cut at {cut}");
            let (mut writer, count) = Writer::resume(&path, NETWORK).unwrap();
            writer.append(&all[usize::try_from(count).unwrap()..]).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "resumed at {cut}");
        }
    }

    #[test]
    fn changed_files_are_refused_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("saved");
        written(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (wrong, message) in [
            (text.replacen(lines[2], "", 1), "line 3 has no length"),
            (text.replacen(lines[2], "1 ab", 1), "line 3 is no signed transaction"),
            (text.replacen(lines[2], "2 ab", 1), "line 3 says 2 bytes"),
            (
                text.replacen(lines[2], &lines[2].replacen('a', "A", 1), 1),
                "line 3 is not lower-case hex",
            ),
            (
                text.replacen(lines[1], &"9".repeat(MAX_LINE + 1), 1),
                "line 2 is longer",
            ),
            (text.replacen("transactions 1", "transactions 2", 1), "is of version 2"),
            (text.replacen("07", "08", 1), "are for network 08"),
            ("hello\n".to_owned(), "is no file of signed transactions"),
            (String::new(), "is no file of signed transactions"),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(failure.message.contains(message), "{message}: {}", failure.message);
        }
    }
}
