//! Keeps the watermark file: what this node has promised at least, remembered beside the store, so that a store which
//! lost some of it (an old copy put back, a log cut short by a bad disk) is known as such before anything is sent.
//!
//! Invariants: what it says was durable in the store before; of its two slots, written in turn, one is always whole; a
//! writing is one positioned write, synced only now and then, so a power cut may take the newest ones back: then the
//! memory of the peers counts. The bytes stand in `ledger/FORMAT.md`, section 10.
//! Leaves what a node does that has forgotten something to `start` and to the engine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quipu_consensus::message::Promise;
use quipu_crypto::hash::{Context, HASH_LENGTH, Hash};
use quipu_crypto::id::{BlockId, Height, Incarnation, Term};

/// Name of the file, in the node's directory.
pub const WATERMARK_FILE: &str = "watermark";
/// The version of its bytes.
const VERSION: u32 = 1;
/// Bytes of a slot before its checksum.
const CONTENT: usize = 92;
/// Bytes of a slot.
const SLOT: usize = CONTENT + HASH_LENGTH;
/// Where the second slot begins: in another sector and another page than the first.
const SECOND: usize = 4096;
/// Length of the file.
const LENGTH: usize = 2 * SECOND;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WatermarkError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither slot is whole.
    #[error(
        "{} is damaged, in both of its slots: the disk, or whoever wrote there, has damaged what this node knew of \
         its own promises. Look after the disk first. Then restore the file, or remove it: the node then starts on \
         what the other nodes remember of it",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// It was written for another data directory.
    #[error(
        "{} is the watermark of incarnation {found}, this is {here}: files of two nodes were mixed; put this node's \
         own file back",
        path.display()
    )]
    Foreign {
        /// Which.
        path: PathBuf,
        /// In the file.
        found: Incarnation,
        /// Of the node.
        here: Incarnation,
    },
}

/// The open file.
#[derive(Debug)]
pub struct WatermarkFile {
    file: File,
    incarnation: Incarnation,
    /// Number of the last writing.
    number: u64,
}

impl WatermarkFile {
    /// Opens the file in the node's directory `dir`, or makes it; and what it says, where it was there.
    ///
    /// # Errors
    /// Where it is damaged or another node's.
    pub fn open(dir: &Path, incarnation: Incarnation) -> Result<(Self, Option<Promise>), WatermarkError> {
        let path = dir.join(WATERMARK_FILE);
        let failed = |source| WatermarkError::File {
            path: path.clone(),
            source,
        };
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = create(dir, &path, incarnation).map_err(failed)?;
                let number = 0;
                let made = Self {
                    file,
                    incarnation,
                    number,
                };
                return Ok((made, None));
            }
            Err(error) => return Err(failed(error)),
        };
        let slots = [
            read_slot(&file, 0).map_err(failed)?,
            read_slot(&file, 1).map_err(failed)?,
        ];
        let last = slots.into_iter().flatten().max_by_key(|slot| slot.number);
        let Some(last) = last else {
            return Err(WatermarkError::Damaged { path });
        };
        if last.incarnation != incarnation {
            return Err(WatermarkError::Foreign {
                path,
                found: last.incarnation,
                here: incarnation,
            });
        }
        let opened = Self {
            file,
            incarnation,
            number: last.number,
        };
        Ok((opened, Some(last.promise)))
    }

    /// Writes the watermark, over the older slot.
    ///
    /// # Errors
    /// Where the system refuses; nothing that was written before is lost by it.
    pub fn write(&mut self, promise: &Promise) -> io::Result<()> {
        let number = self.number.wrapping_add(1);
        let slot = Slot {
            number,
            incarnation: self.incarnation,
            promise: *promise,
        };
        self.file.write_all_at(&slot.encode(), offset(number))?;
        self.number = number;
        Ok(())
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Makes the file whole at its place, with room for both slots: no later writing needs more of the disk.
fn create(dir: &Path, path: &Path, incarnation: Incarnation) -> io::Result<File> {
    let first = Slot {
        number: 0,
        incarnation,
        promise: Promise::default(),
    };
    let mut bytes = first.encode().to_vec();
    bytes.resize(LENGTH, 0);
    let draft = path.with_extension("new");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&draft)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Where the writing with that number stands.
const fn offset(number: u64) -> u64 {
    if number.is_multiple_of(2) { 0 } else { SECOND as u64 }
}

/// The slot of the writings with the parity of `number`; none where it is not whole.
fn read_slot(file: &File, number: u64) -> io::Result<Option<Slot>> {
    let mut bytes = [0; SLOT];
    match file.read_exact_at(&mut bytes, offset(number)) {
        Ok(()) => Ok(Slot::decode(&bytes).filter(|slot| offset(slot.number) == offset(number))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u64,
    incarnation: Incarnation,
    promise: Promise,
}

impl Slot {
    fn encode(&self) -> [u8; SLOT] {
        let Promise { start, vote, accepted } = &self.promise;
        let content = [
            VERSION.to_be_bytes().as_slice(),
            &self.number.to_be_bytes(),
            &self.incarnation.0,
            &start.to_be_bytes(),
            &vote.0.to_be_bytes(),
            &accepted.height.0.to_be_bytes(),
            &accepted.term.0.to_be_bytes(),
            accepted.hash.as_bytes(),
        ]
        .concat();
        let checksum = Hash::of(Context::Watermark, &[&content]);
        let mut bytes = [0; SLOT];
        bytes
            .iter_mut()
            .zip(content.iter().chain(checksum.as_bytes()))
            .for_each(|(to, from)| *to = *from);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, checksum) = bytes.split_at_checked(CONTENT)?;
        if Hash::of(Context::Watermark, &[content]).as_bytes().as_slice() != checksum {
            return None;
        }
        let mut rest = content;
        if u32::from_be_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let sequence = number()?;
        let incarnation = Incarnation(take(&mut rest)?);
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (start, vote) = (number()?, Term(number()?));
        let (height, term) = (Height(number()?), Term(number()?));
        let hash = Hash::from_bytes(take(&mut rest)?);
        Some(Self {
            number: sequence,
            incarnation,
            promise: Promise {
                start,
                vote,
                accepted: BlockId { height, term, hash },
            },
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Incarnation = Incarnation([7; 16]);

    fn watermark(height: u64) -> Promise {
        Promise {
            start: 3,
            vote: Term(5),
            accepted: BlockId {
                height: Height(height),
                term: Term(4),
                hash: Hash::from_bytes([9; 32]),
            },
        }
    }

    fn slots() -> impl Strategy<Value = Slot> {
        let numbers = any::<(u64, u64, u64, u64, u64)>();
        (numbers, any::<[u8; 16]>(), any::<[u8; 32]>()).prop_map(|(numbers, incarnation, hash)| Slot {
            number: numbers.0,
            incarnation: Incarnation(incarnation),
            promise: Promise {
                start: numbers.1,
                vote: Term(numbers.2),
                accepted: BlockId {
                    height: Height(numbers.3),
                    term: Term(numbers.4),
                    hash: Hash::from_bytes(hash),
                },
            },
        })
    }

    proptest! {
        #[test]
        fn a_slot_is_read_as_it_was_written_and_no_changed_one_is_read(
            slot in slots(), at in 0..SLOT, change in 1..=255_u8, length in 0..SLOT
        ) {
            let mut bytes = slot.encode();
            prop_assert_eq!(Slot::decode(&bytes), Some(slot));
            prop_assert_eq!(Slot::decode(&bytes[..length]), None);
            bytes[at] ^= change;
            prop_assert_eq!(Slot::decode(&bytes), None);
        }

        #[test]
        fn what_nobody_wrote_is_not_read(bytes in proptest::collection::vec(any::<u8>(), 0..2 * SLOT)) {
            prop_assert_eq!(Slot::decode(&bytes), None);
        }

        #[test]
        fn the_last_whole_writing_counts_whatever_happened_to_the_other_slot(
            writings in 1..9_u64, torn in 0..SLOT, change in 1..=255_u8
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (mut file, before) = WatermarkFile::open(dir.path(), HERE).unwrap();
            prop_assert_eq!(before, None);
            for height in 1..=writings {
                file.write(&watermark(height)).unwrap();
            }
            let (mut file, last) = WatermarkFile::open(dir.path(), HERE).unwrap();
            prop_assert_eq!(last, Some(watermark(writings)));
            // A power cut in the midst of the next writing.
            let next = writings.saturating_add(1);
            file.write(&watermark(next)).unwrap();
            let at = offset(next).saturating_add(torn as u64);
            let mut byte = [0];
            file.file.read_exact_at(&mut byte, at).unwrap();
            file.file.write_all_at(&[byte[0] ^ change], at).unwrap();
            let (_, last) = WatermarkFile::open(dir.path(), HERE).unwrap();
            prop_assert_eq!(last, Some(watermark(writings)));
        }
    }

    #[test]
    fn a_file_that_says_nothing_any_more_or_is_anothers_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(WATERMARK_FILE);
        let (mut file, _) = WatermarkFile::open(dir.path(), HERE).unwrap();
        file.write(&watermark(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 8192);
        let there = Incarnation([8; 16]);
        let error = WatermarkFile::open(dir.path(), there).unwrap_err();
        assert!(matches!(error, WatermarkError::Foreign { found: HERE, .. }), "{error}");
        for bytes in [Vec::new(), vec![0; 100], vec![0; LENGTH], vec![255; LENGTH]] {
            fs::write(&path, bytes).unwrap();
            let error = WatermarkFile::open(dir.path(), HERE).unwrap_err();
            assert!(error.to_string().contains("or remove it"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(WatermarkFile::open(dir.path(), HERE).unwrap().1, None);
    }

    #[test]
    fn a_slot_in_the_place_of_the_other_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = WatermarkFile::open(dir.path(), HERE).unwrap();
        file.write(&watermark(1)).unwrap();
        let mut bytes = [0; SLOT];
        file.file.read_exact_at(&mut bytes, offset(1)).unwrap();
        file.file.write_all_at(&bytes, offset(0)).unwrap();
        file.file.write_all_at(&[0; SLOT], offset(1)).unwrap();
        let error = WatermarkFile::open(dir.path(), HERE).unwrap_err();
        assert!(matches!(error, WatermarkError::Damaged { .. }), "{error}");
    }
}
