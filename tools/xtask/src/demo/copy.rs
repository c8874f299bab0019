//! Keeps how a copy of a data directory is spoilt: one bit inside of a record that the chain holds, where its bytes
//! stand in the clear; if compression hides them all, one in the middle of the largest file that holds bodies. Knows of
//! RocksDB's files only their endings and that a table names its column family.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// The column family of the bodies of blocks, as the tables of RocksDB name it.
const BODIES: &[u8] = b"bodies";

/// Changes one bit of one byte; says of which file, and where. `needles`: texts that stored records contain.
pub(super) fn flip_one_byte(data: &Path, needles: &[String]) -> anyhow::Result<String> {
    let mut files = files(data)?;
    // Tables of bodies before other files, and the larger first.
    files.sort_by_key(|(path, bytes)| (!is_table_of_bodies(path, bytes), usize::MAX.saturating_sub(bytes.len())));
    let clear = files.iter().find_map(|(path, bytes)| {
        // From the middle on: a block in the midst of the chain, not the genesis block.
        let middle = middle(bytes);
        let late = bytes
            .get(middle..)
            .and_then(|late| find_any(late, needles))
            .map(|at| at.saturating_add(middle));
        Some((path, bytes, late.or_else(|| find_any(bytes, needles))?))
    });
    let largest = || files.first().map(|(path, bytes)| (path, bytes, middle(bytes)));
    let (path, bytes, at) = clear.or_else(largest).context("the copy holds no file of a store")?;
    let mut bytes = bytes.clone();
    *bytes.get_mut(at).context("a file of a store is not empty")? ^= 1;
    std::fs::write(path, bytes)?;
    let name = path.strip_prefix(data).unwrap_or(path);
    Ok(format!("byte {at} of {}", name.display()))
}

/// The files that hold records: tables, blobs and the write-ahead log.
fn files(data: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(data)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path
            .extension()
            .is_some_and(|ending| ["sst", "blob", "log"].iter().any(|known| ending == *known))
        {
            found.push((path.clone(), std::fs::read(path)?));
        }
    }
    found.retain(|(_, bytes)| !bytes.is_empty());
    Ok(found)
}

fn is_table_of_bodies(path: &Path, bytes: &[u8]) -> bool {
    path.extension().is_some_and(|ending| ending == "sst") && find(bytes, BODIES).is_some()
}

fn middle(bytes: &[u8]) -> usize {
    bytes.len().checked_div(2).unwrap_or(0)
}

fn find_any(bytes: &[u8], needles: &[String]) -> Option<usize> {
    needles.iter().find_map(|needle| find(bytes, needle.as_bytes()))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len().max(1)).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flipped(files: &[(&str, &[u8])]) -> String {
        let data = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(data.path().join(name), bytes).unwrap();
        }
        let place = flip_one_byte(data.path(), &["needle".to_owned()]).unwrap();
        let differ = |(name, bytes): &(&str, &[u8])| {
            let now = std::fs::read(data.path().join(name)).unwrap();
            now.iter().zip(*bytes).filter(|(now, was)| now != was).count()
        };
        assert_eq!(files.iter().map(differ).sum::<usize>(), 1, "one byte of one file");
        place
    }

    #[test]
    fn a_record_in_a_table_of_bodies_comes_first() {
        let place = flipped(&[
            ("1.sst", b"a needle"),
            ("2.sst", b"bodies needle"),
            ("3.log", b"needle, and more text"),
        ]);
        assert_eq!(place, "byte 7 of 2.sst");
    }

    #[test]
    fn a_late_record_comes_before_an_early_one() {
        assert_eq!(flipped(&[("1.sst", b"bodies needle, needle, ...")]), "byte 15 of 1.sst");
    }

    #[test]
    fn any_clear_record_comes_before_a_guess() {
        assert_eq!(
            flipped(&[("1.sst", b"bodies"), ("3.log", b"a needle")]),
            "byte 2 of 3.log"
        );
    }

    #[test]
    fn without_a_clear_record_the_middle_of_the_bodies() {
        assert_eq!(
            flipped(&[("1.sst", b"bodies99"), ("3.log", b"0123456789")]),
            "byte 4 of 1.sst"
        );
    }

    #[test]
    fn an_empty_copy_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        assert!(flip_one_byte(data.path(), &[]).is_err());
    }
}
