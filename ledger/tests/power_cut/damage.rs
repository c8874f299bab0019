//! Every kind of damage to every file of a store: what is read afterwards is right, or named as damaged.
//!
//! Only the write-ahead log can lose something in silence: where it is damaged it ends, and where the one in use is
//! missing it is empty. The store then opens as it was after the last operation before the damage, as if the power had
//! been cut then: nothing behind it is read, for it would stand on what is missing. That the store holds less than was
//! acknowledged is noticed one level up, by whoever remembers how far it had come.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use quipu_crypto::id::Height;
use quipu_ledger::store::{OpenError, Store};

use crate::check::{self, Reference};
use crate::disk::Image;
use crate::images;
use crate::script::{self, Running, Script};

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Flipped { at: usize },
    Cut { at: usize },
    Missing,
}

impl Damage {
    const fn name(self) -> &'static str {
        match self {
            Self::Flipped { .. } => "flipped",
            Self::Cut { .. } => "cut",
            Self::Missing => "missing",
        }
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is right.
    Harmless,
    /// The store does not open, or some of its records cannot be read, and it says so.
    Named,
    /// Everything can be read, and is as it was after the last operation before the damage of the log.
    Earlier,
    /// Everything can be read, but between what came before and after it the last flush is missing. A known limit:
    /// MANIFEST is a log too; without its end RocksDB forgets the flush, but takes up the write-ahead log that began
    /// after it. An older vote may be there, or none of a certificate, which only the memory beside the store can tell.
    /// (RocksDB's `track_and_verify_wals` would refuse such a store, and one whose making a power cut ended.)
    Patchy,
}

/// What follows the damage could be read again from the next block of RocksDB's log on, so there must be one.
const LONG: u64 = 40_000;

/// Performs the script until the log is long, in the later half, and tells how long it is after each operation.
fn perform(script: &Script, dir: &Path) -> (Running, Vec<(u64, usize)>) {
    let mut running = Running::of(check::create(dir, script).unwrap());
    let mut lengths = Vec::new();
    for number in 1..=script::LENGTH {
        running = script::perform(script, number, running, false).unwrap();
        // The youngest one: the others are about to go.
        let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let youngest = logs
            .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
            .max();
        let length = fs::metadata(youngest.unwrap()).unwrap().len();
        lengths.push((length, number));
        if length > LONG && number > script::LENGTH / 2 {
            break;
        }
    }
    (running, lengths)
}

/// A store to damage.
struct Whole {
    image: Image,
    /// The last operation.
    last: usize,
    /// Where each operation that the write-ahead log holds ends in it, and the last one before them, at 0.
    ends: Vec<(u64, usize)>,
}

impl Whole {
    /// The operation after which the store looks as it did, where a file is damaged like this.
    fn left(&self, name: &str, damage: Damage) -> usize {
        if kind(name) != ".log" {
            return self.last;
        }
        let whole = match damage {
            Damage::Flipped { at } | Damage::Cut { at } => u64::try_from(at).unwrap(),
            Damage::Missing => 0,
        };
        self.ends.iter().rfind(|(end, _)| *end <= whole).unwrap().1
    }
}

/// The directory of a store in the later half of the script with one long write-ahead log, as a kill would leave it;
/// none where RocksDB, which flushes when it has time to, began another one too early.
fn whole(script: &Script) -> Option<Whole> {
    let dir = images::scratch();
    let (running, lengths) = perform(script, dir.path());
    // Until RocksDB has nothing to merge and remove any more.
    let mut image = copy(dir.path());
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let again = copy(dir.path());
        if again == image && image.is_some() {
            break;
        }
        image = again;
    }
    let mut image = image.unwrap();
    drop(running);
    image.retain(|name, _| !name.starts_with("LOG"));
    let logs = image.iter().filter(|(name, _)| kind(name) == ".log");
    let ends = ends(&lengths);
    let (length, last) = *ends.last()?;
    let one = logs
        .map(|(_, bytes)| bytes.len())
        .eq([usize::try_from(length).unwrap()]);
    (one && length > LONG).then_some(Whole { image, last, ends })
}

/// Of the lengths of the log after each operation, those of the last log.
fn ends(lengths: &[(u64, usize)]) -> Vec<(u64, usize)> {
    let shrinks = |pair: &[(u64, usize)]| pair[1].0 < pair[0].0;
    let first = lengths.windows(2).rposition(shrinks).unwrap() + 1;
    let before = (0, lengths[first].1 - 1);
    std::iter::once(before)
        .chain(lengths[first..].iter().copied())
        .collect()
}

/// The files of a directory, where none vanishes while it is read.
fn copy(dir: &Path) -> Option<Image> {
    let names = fs::read_dir(dir)
        .ok()?
        .map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .map(|name| name.and_then(|name| Some((name.clone(), fs::read(dir.join(&name)).ok()?))))
        .collect()
}

fn kind(name: &str) -> &str {
    let kinds = [
        ".log", ".sst", ".blob", "MANIFEST", "CURRENT", "OPTIONS", "IDENTITY", "LOCK",
    ];
    kinds.into_iter().find(|kind| name.contains(kind)).unwrap()
}

/// The damages of a file: some of its bytes, spread evenly, and its end.
fn damages(length: usize, some: usize) -> Vec<Damage> {
    let step = (length / some).max(1);
    let spread = |offset: usize| (offset..length).step_by(step);
    let mut damages: Vec<Damage> = spread(step / 2).map(|at| Damage::Flipped { at }).collect();
    damages.extend(spread(step / 3).map(|at| Damage::Cut { at }));
    damages.push(Damage::Missing);
    damages
}

fn apply(image: &Image, name: &str, damage: Damage) -> Image {
    let mut image = image.clone();
    let bytes = image.get_mut(name).unwrap();
    match damage {
        Damage::Flipped { at } => bytes[at] ^= 0x10,
        Damage::Cut { at } => bytes.truncate(at),
        Damage::Missing => {
            image.remove(name);
        }
    }
    image
}

/// Reads everything, one record after the other, where no more is lost than what came after the operation `left`. An
/// error is something that is wrong and not named.
fn read(reference: &Reference<'_>, image: &Image, last: usize, left: usize) -> Result<Outcome, String> {
    let script = reference.script;
    let dir = images::scratch();
    check::lay_out(image, dir.path());
    let store = match Store::open_with(dir.path(), &script::options()) {
        Ok(store) => store,
        Err(OpenError::InUse { .. } | OpenError::Exists { .. }) => return Err("a strange answer".to_owned()),
        Err(_) => return Ok(Outcome::Named),
    };
    let log = match check::log_state(&store, script) {
        Ok(log) => Some(log),
        Err(error) if error.contains("was never appended") => return Err(error),
        Err(_) => None,
    };
    // Whatever block can be read is one that stood there once, and in a chain that can be read as a whole.
    for height in 0..=store.tip().height.get() {
        if let Ok(Some(block)) = store.block(Height(height))
            && script.blocks.get(&block.hash()) != Some(&block)
        {
            return Err(format!("block {height} is wrong"));
        }
    }
    let executed = store
        .view()
        .ok()
        .and_then(|view| view.executed())
        .map(|executed| executed.height);
    let derived = check::derived(&store).ok();
    let (Some(log), Some(derived)) = (log, derived) else {
        return Ok(Outcome::Named);
    };
    let known = executed.map(|height| &reference.derived[usize::try_from(height.get()).unwrap()]);
    if derived != known.cloned().unwrap_or_default() {
        return Err(format!("derived records differ at {executed:?}"));
    }
    if log == script.points[last].log {
        return Ok(Outcome::Harmless);
    }
    if log == script.points[left].log {
        return Ok(Outcome::Earlier);
    }
    Ok(Outcome::Patchy)
}

/// Reads each damaged store. On many threads: where RocksDB's merging meets damage it sleeps for a second.
fn read_all(reference: &Reference<'_>, whole: &Whole, work: &[(&str, Damage)]) -> Vec<Result<Outcome, String>> {
    let share = work.len().div_ceil(16);
    let read = |(name, damage): &(&str, Damage)| {
        let image = apply(&whole.image, name, *damage);
        read(reference, &image, whole.last, whole.left(name, *damage))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn damaged_bytes_are_never_served_and_only_logs_shorten() {
    let script = script::write();
    let reference = crate::reference(&script);
    let whole = (0..50).find_map(|_| whole(&script)).expect("a log grows");
    let (image, last) = (&whole.image, whole.last);
    assert_eq!(read(&reference, image, last, last), Ok(Outcome::Harmless));
    let some = usize::try_from(crate::number("QUIPU_DAMAGES", 3)).unwrap();
    let mut work = Vec::new();
    for (name, bytes) in image {
        let weight = if [".log", "MANIFEST"].contains(&kind(name)) {
            20
        } else {
            1
        };
        let damages = damages(bytes.len(), some * weight);
        work.extend(damages.into_iter().map(|damage| (name.as_str(), damage)));
    }
    let answers = read_all(&reference, &whole, &work);
    let mut outcomes: BTreeMap<(&str, &str, Outcome), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for ((name, damage), answer) in work.into_iter().zip(answers) {
        match answer {
            Ok(outcome) => *outcomes.entry((kind(name), damage.name(), outcome)).or_default() += 1,
            Err(error) => wrong.push(format!("{name} of {} bytes, {damage:?}: {error}", image[name].len())),
        }
    }
    for ((kind, what, outcome), count) in &outcomes {
        eprintln!("{kind} {what}: {count} {outcome:?}");
    }
    let came_to = |wanted: Outcome| {
        let found = outcomes.keys().filter(move |(_, _, outcome)| *outcome == wanted);
        found.map(|(kind, what, _)| (*kind, *what)).collect::<BTreeSet<_>>()
    };
    let logs = BTreeSet::from([(".log", "cut"), (".log", "flipped"), (".log", "missing")]);
    assert_eq!(came_to(Outcome::Earlier), logs);
    let named = came_to(Outcome::Named);
    assert!(named.is_disjoint(&logs), "where a log is damaged it ends: {named:?}");
    let patchy = came_to(Outcome::Patchy);
    assert!(patchy.is_subset(&BTreeSet::from([("MANIFEST", "cut")])), "{patchy:?}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
