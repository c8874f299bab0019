//! The images of every boundary: each different one is opened once, and judged for every boundary that it belongs to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quipu_crypto::id::Height;

use crate::check::{self, Found, Reference};
use crate::disk::{self, Cut, Moment};
use crate::lives::Recording;

/// A place in time, and what must hold for a cut there.
#[derive(Clone, Debug, Default)]
pub struct Boundary {
    /// Which disk, of those that followed on each other.
    pub disk: usize,
    /// When.
    pub moment: Moment,
    /// Whether the making of the store was acknowledged.
    pub made: bool,
    /// The last operation that was acknowledged as durable.
    pub acknowledged: usize,
    /// The last operation that had begun.
    pub started: usize,
    /// The executed height at the last acknowledged flush.
    pub flushed: Height,
}

impl Boundary {
    /// Whether this may be found.
    pub fn is_lawful(&self, found: &Found) -> bool {
        let lawful = self.acknowledged..=self.started;
        let executed = found.executed.unwrap_or_default();
        found.after.iter().any(|number| lawful.contains(number)) && executed >= self.flushed
    }
}

/// Where images are laid out: in memory, where there is room.
pub fn scratch() -> tempfile::TempDir {
    const ROOM: u64 = 256 * 1024 * 1024;
    let memory = std::path::Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |answer| answer.f_bavail * answer.f_frsize);
    let made = (free > ROOM).then(|| tempfile::tempdir_in(memory).ok()).flatten();
    made.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// What was not as it must be.
#[derive(Debug)]
pub struct Failure {
    /// Number of the boundary, or of one of them.
    pub boundary: usize,
    /// Which world.
    pub cut: Cut,
    /// What.
    pub what: String,
}

type Answer = Result<Found, String>;

/// Images to check.
pub struct Images<'r> {
    reference: &'r Reference<'r>,
    recording: &'r Recording<'r>,
    /// Every image that was asked for: boundary, world, and which of the different ones it is.
    asked: Vec<(usize, Cut, usize)>,
    /// The different ones: how to make each.
    different: Vec<(usize, Cut)>,
    known: BTreeMap<(u64, bool), usize>,
    spent: Mutex<Duration>,
}

impl<'r> Images<'r> {
    /// None yet.
    pub const fn new(reference: &'r Reference<'r>, recording: &'r Recording<'r>) -> Self {
        Self {
            reference,
            recording,
            asked: Vec::new(),
            different: Vec::new(),
            known: BTreeMap::new(),
            spent: Mutex::new(Duration::ZERO),
        }
    }
}

impl Images<'_> {
    /// Asks for the image of one boundary in one world.
    pub fn add(&mut self, boundary: usize, cut: Cut) {
        let at = &self.recording.boundaries[boundary];
        let image = self.recording.disks[at.disk].image(&at.moment, cut);
        let different = &mut self.different;
        let number = *self
            .known
            .entry((disk::fingerprint(&image), at.made))
            .or_insert_with(|| {
                different.push((boundary, cut));
                different.len() - 1
            });
        self.asked.push((boundary, cut, number));
    }

    /// Opens every different image, on all cores.
    pub fn check(&self) -> Vec<Answer> {
        let started = Instant::now();
        let next = AtomicUsize::new(0);
        let answers = Mutex::new(vec![None; self.different.len()]);
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..threads {
                scope.spawn(|| {
                    let scratch = scratch();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.different.len() {
                            return;
                        }
                        let dir = scratch.path().join("image");
                        self.lay_out(number, &dir);
                        let made = self.recording.boundaries[self.different[number].0].made;
                        let answer = self.reference.check(&dir, made);
                        fs::remove_dir_all(&dir).unwrap();
                        answers.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(answer);
                    }
                });
            }
        });
        *self.spent.lock().unwrap() = started.elapsed();
        let answers = answers.into_inner().unwrap();
        answers.into_iter().map(Option::unwrap).collect()
    }

    /// Whether a failure to open is the one that RocksDB is known for: of a record that was being written to MANIFEST,
    /// a later sector reached the disk before an earlier one. Unlike the end of a log, that is refused, and named.
    fn is_refusal(&self, boundary: &Boundary, cut: Cut, error: &str) -> bool {
        let torn = self.recording.disks[boundary.disk].manifest_is_unsafe(&boundary.moment);
        let named = error.contains("Corruption: checksum mismatch") && error.contains("/MANIFEST-");
        matches!(cut, Cut::Holed(_)) && torn && named
    }

    fn lay_out(&self, number: usize, dir: &std::path::Path) {
        let (boundary, cut) = self.different[number];
        let at = &self.recording.boundaries[boundary];
        check::lay_out(&self.recording.disks[at.disk].image(&at.moment, cut), dir);
    }

    /// All that is not as `lawful` says.
    pub fn failures(&self, answers: &[Answer], lawful: impl Fn(&Boundary, &Found) -> bool) -> Vec<Failure> {
        let judge = |(boundary, cut, number): &(usize, Cut, usize)| {
            let at = &self.recording.boundaries[*boundary];
            let what = match &answers[*number] {
                Ok(found) if lawful(at, found) => return None,
                Ok(found) => format!(
                    "operations to {} were acknowledged, {} had begun, flushed at {}: {found:?}",
                    at.acknowledged, at.started, at.flushed
                ),
                Err(error) if self.is_refusal(at, *cut, error) => return None,
                Err(error) => error.clone(),
            };
            let (boundary, cut) = (*boundary, *cut);
            Some(Failure { boundary, cut, what })
        };
        self.asked.iter().filter_map(judge).collect()
    }

    /// Fails where anything is not as it must be, and keeps the first such image.
    pub fn judge(&self, answers: &[Answer], lawful: impl Fn(&Boundary, &Found) -> bool) {
        let failures = self.failures(answers, lawful);
        for failure in failures.iter().take(20) {
            let at = &self.recording.boundaries[failure.boundary];
            eprintln!(
                "boundary {} in operation {}, {:?}: {}",
                failure.boundary, at.started, failure.cut, failure.what
            );
        }
        if let Some(first) = failures.first() {
            let kept: PathBuf = tempfile::tempdir().unwrap().keep();
            let at = &self.recording.boundaries[first.boundary];
            check::lay_out(&self.recording.disks[at.disk].image(&at.moment, first.cut), &kept);
            panic!(
                "{} images are wrong; the first one is kept in {}",
                failures.len(),
                kept.display()
            );
        }
    }

    /// In a line.
    pub fn figures(&self, answers: &[Answer]) -> String {
        let refused = |(boundary, cut, number): &&(usize, Cut, usize)| {
            let at = &self.recording.boundaries[*boundary];
            let error = answers[*number].as_ref().err();
            error.is_some_and(|error| self.is_refusal(at, *cut, error))
        };
        let refused = self.asked.iter().filter(refused).count();
        let mut by_cut: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, cut, _) in &self.asked {
            *by_cut.entry(cut.name()).or_default() += 1;
        }
        let spent = self.spent.lock().unwrap().as_secs_f64();
        format!(
            "{} images {by_cut:?}, {} of them different, opened in {spent:.1} s; MANIFEST holed: {refused}",
            self.asked.len(),
            self.different.len(),
        )
    }
}
