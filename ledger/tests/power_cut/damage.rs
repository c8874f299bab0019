//! Every kind of damage to every file of a store: what is read afterwards is right, or named as damaged.
//!
//! Only the write-ahead log can lose something in silence: where it is damaged it ends, and where the one in use is
//! missing it is empty. The store then opens as it was some operations ago, as if the power had been cut then. That it
//! holds less than was acknowledged is noticed one level up, by whoever remembers how far it had come.

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
    /// Everything can be read, and is as it was after an earlier operation.
    Earlier,
}

/// Performs the script up to an operation, and tells how long the write-ahead log is after each.
fn perform(script: &Script, dir: &Path, last: usize) -> (Running, Vec<(u64, usize)>) {
    let mut running = Running::of(check::create(dir, script).unwrap());
    let mut lengths = Vec::new();
    for number in 1..=last {
        running = script::perform(script, number, running, false).unwrap();
        // The youngest one: the others are about to go.
        let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let youngest = logs
            .filter(|path| path.extension().is_some_and(|ending| ending == "log"))
            .max();
        lengths.push((fs::metadata(youngest.unwrap()).unwrap().len(), number));
    }
    (running, lengths)
}

/// The directory of a store in the later half of the script with a long write-ahead log, as a kill would leave it, and
/// the last operation.
fn image(script: &Script) -> (Image, usize) {
    let dir = images::scratch();
    let (_, lengths) = perform(script, dir.path(), script::LENGTH);
    let last = lengths[script::LENGTH / 2..].iter().max().unwrap().1;
    let dir = images::scratch();
    let (running, _) = perform(script, dir.path(), last);
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
    let logs = image.iter().filter(|(name, _)| name.ends_with(".log"));
    let length: usize = logs.map(|(_, bytes)| bytes.len()).sum();
    assert!(length > 20_000, "damage of {length} bytes of log shows little");
    image.retain(|name, _| !name.starts_with("LOG"));
    (image, last)
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

/// Reads everything, one record after the other. An error is something that is wrong and not named.
fn read(reference: &Reference<'_>, image: &Image, last: usize) -> Result<Outcome, String> {
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
    let mut earlier = script.points[..last].iter();
    match earlier.any(|point| point.log == log) {
        true => Ok(Outcome::Earlier),
        false => Err(format!("the log is as it never was, with tip {}", store.tip())),
    }
}

/// Reads each damaged store. On many threads: where RocksDB's merging meets damage it sleeps for a second.
fn read_all(
    reference: &Reference<'_>,
    image: &Image,
    last: usize,
    work: &[(&str, Damage)],
) -> Vec<Result<Outcome, String>> {
    let share = work.len().div_ceil(16);
    let read = |(name, damage): &(&str, Damage)| read(reference, &apply(image, name, *damage), last);
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
    let reference = Reference {
        derived: crate::derived(&script),
        script: &script,
    };
    let (image, last) = image(&script);
    assert_eq!(read(&reference, &image, last), Ok(Outcome::Harmless));
    let some = usize::try_from(crate::number("QUIPU_DAMAGES", 3)).unwrap();
    let mut work = Vec::new();
    for (name, bytes) in &image {
        let weight = if [".log", "MANIFEST"].contains(&kind(name)) {
            20
        } else {
            1
        };
        let damages = damages(bytes.len(), some * weight);
        work.extend(damages.into_iter().map(|damage| (name.as_str(), damage)));
    }
    let answers = read_all(&reference, &image, last, &work);
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
    let earlier = outcomes.keys().filter(|(_, _, outcome)| *outcome == Outcome::Earlier);
    let earlier: BTreeSet<(&str, &str)> = earlier.map(|(kind, what, _)| (*kind, *what)).collect();
    assert_eq!(
        earlier,
        BTreeSet::from([(".log", "cut"), (".log", "flipped"), (".log", "missing")])
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
