//! Keeps the limits of this machine: how many signatures it checks and how many synced writes it makes in a second.
//!
//! Invariant: measured on what the run itself uses, transactions like its own and the disk of the network, just before
//! it, when nothing is sent.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use quipu_crypto::signature::{SignedHash, verify_batch};
use quipu_ledger::transaction::SignedTransaction;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;

use crate::failure::Failure;

/// Signatures checked at once: about what a full block brings.
const BATCH: usize = 512;
/// Different transactions that are checked, over and over.
pub(super) const SAMPLE: u64 = 512;
/// Signatures checked in a round.
const ROUND: usize = 8 * BATCH;
/// Bytes of a synced write.
const WRITE: [u8; 256] = [0x51; 256];
/// How long each limit is measured.
const LENGTH: Duration = Duration::from_millis(700);

/// What this machine can do at most.
pub(super) struct Limits {
    /// Batch signature checks a second, on all cores together.
    pub(super) verify_per_s: f64,
    /// How many cores those are.
    pub(super) cores: usize,
    /// Writes of 256 bytes a second, each synced before the next.
    pub(super) synced_writes_per_s: f64,
}

/// Measures both.
pub(super) fn measure(dir: &Path, transactions: &[SignedTransaction]) -> Result<Limits, Failure> {
    Ok(Limits {
        verify_per_s: verify(transactions)?,
        cores: rayon::current_num_threads(),
        synced_writes_per_s: write(dir)?,
    })
}

fn verify(transactions: &[SignedTransaction]) -> Result<f64, Failure> {
    let claims: Vec<SignedHash> = transactions
        .iter()
        .cycle()
        .take(ROUND)
        .map(SignedTransaction::signed_hash)
        .collect();
    let begun = Instant::now();
    let mut checked = 0_u64;
    while begun.elapsed() < LENGTH {
        if !claims.par_chunks(BATCH).all(verify_batch) {
            return Err(Failure::general(
                "internal",
                "a signature that was just made does not verify",
            ));
        }
        checked = checked.saturating_add(u64::try_from(claims.len()).unwrap_or(u64::MAX));
    }
    Ok(super::per_second(checked, begun.elapsed()))
}

fn write(dir: &Path) -> Result<f64, Failure> {
    let failed = |error: std::io::Error| Failure::file(dir, "write into", &error);
    let mut file: File = tempfile::tempfile_in(dir).map_err(failed)?;
    let begun = Instant::now();
    let mut written = 0_u64;
    while begun.elapsed() < LENGTH {
        file.write_all(&WRITE).and_then(|()| file.sync_data()).map_err(failed)?;
        written = written.saturating_add(1);
    }
    Ok(super::per_second(written, begun.elapsed()))
}
