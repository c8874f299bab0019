//! What a directory holds after a power cut, rebuilt from what was done to it.
//!
//! What is assumed of a file system is what POSIX promises and no more: the data of a file is safe up to the writes
//! that were done when its last `fsync` or `fdatasync` began, a name (made, changed, removed) when an `fsync` of the
//! directory began after it. ext4 and XFS promise more (their journals keep the order of all changes of names, and
//! syncing a file saves its name); these stricter worlds are among the images too. `sync_file_range` saves nothing.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What the names of RocksDB's lists of files begin with.
const MANIFEST: &str = "MANIFEST";

/// A file, whatever its names.
pub type FileId = usize;

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub enum Change {
    /// Bytes written at an offset.
    Write { offset: usize, bytes: Vec<u8> },
    /// Cut, or grown with zeros.
    Resize(usize),
}

/// A change of the directory.
#[derive(Clone, Debug)]
pub enum Naming {
    /// A new file.
    Make { name: String, file: FileId },
    /// Another name for what `from` names; what had that name loses it.
    Rename { from: String, to: String },
    /// No name any more.
    Remove { name: String },
}

/// What was done to a directory, and what of it is safe.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<Vec<Change>>,
    names: Vec<Naming>,
    now: Moment,
}

/// How far everything had come at one boundary: numbers of changes, done and safe.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    files: Vec<Extent>,
    names: Extent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    done: usize,
    safe: usize,
}

/// Which world the power cut leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    /// Only the process ended: all that was written is there.
    Killed,
    /// Exactly what was synced, names and bytes.
    Synced,
    /// All names, for their journal was written, but only the bytes that were synced.
    Journal,
    /// All names; of what was not synced of each file, a part: up to some byte.
    Torn(u64),
    /// As torn, or a sector is missing in between: later ones reached the disk before it did.
    Holed(u64),
    /// Of each file all, some or nothing of what was not synced; of the names up to some change, or any of them.
    Scattered(u64),
}

impl Cut {
    /// In words, without the seed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Synced => "synced",
            Self::Journal => "journal",
            Self::Torn(_) => "torn",
            Self::Holed(_) => "holed",
            Self::Scattered(_) => "scattered",
        }
    }
}

/// Files by name, as a cut leaves them.
pub type Image = BTreeMap<String, Vec<u8>>;

impl Disk {
    /// A directory that holds this, all of it safe.
    pub fn holding(image: Image) -> Self {
        let mut disk = Self::default();
        for (name, bytes) in image {
            let file = disk.make(name);
            disk.change(file, Change::Write { offset: 0, bytes });
        }
        for file in &mut disk.now.files {
            file.safe = file.done;
        }
        disk.now.names.safe = disk.now.names.done;
        disk
    }

    /// Makes a file; one with that name before loses it.
    pub fn make(&mut self, name: String) -> FileId {
        let file = self.files.len();
        self.files.push(Vec::new());
        self.now.files.push(Extent::default());
        self.name(Naming::Make { name, file });
        file
    }

    /// Changes names.
    pub fn name(&mut self, naming: Naming) {
        self.names.push(naming);
        self.now.names.done += 1;
    }

    /// Changes bytes.
    pub fn change(&mut self, file: FileId, change: Change) {
        self.files[file].push(change);
        self.now.files[file].done += 1;
    }

    /// How many changes of the file (or of the names) a sync that begins now will save.
    pub fn extent(&self, file: Option<FileId>) -> usize {
        file.map_or(self.now.names, |file| self.now.files[file]).done
    }

    /// A sync has returned that saves so many changes.
    pub fn save(&mut self, file: Option<FileId>, extent: usize) {
        let saved = match file {
            Some(file) => &mut self.now.files[file],
            None => &mut self.now.names,
        };
        saved.safe = saved.safe.max(extent);
    }

    /// The present.
    pub fn moment(&self) -> Moment {
        self.now.clone()
    }

    /// The file that has this name now.
    pub fn lookup(&self, name: &str) -> Option<FileId> {
        names(&self.names).get(name).copied()
    }

    /// Length of a file now.
    pub fn length(&self, file: FileId) -> usize {
        content(&self.files[file]).len()
    }

    /// What a cut at a moment leaves behind.
    pub fn image(&self, moment: &Moment, cut: Cut) -> Image {
        let mut random = Random(match cut {
            Cut::Torn(seed) | Cut::Holed(seed) | Cut::Scattered(seed) => seed,
            Cut::Killed | Cut::Synced | Cut::Journal => 0,
        });
        let named = self.surviving_names(moment.names, cut, &mut random);
        let content = |(name, file): (String, FileId)| {
            let holes = match cut {
                Cut::Holed(_) => true,
                // One in MANIFEST makes a store that does not open, see `Images::refusal`.
                Cut::Scattered(_) => !name.starts_with(MANIFEST),
                _ => false,
            };
            let bytes = self.surviving_bytes(file, moment.files[file], cut, holes, &mut random);
            (name, bytes)
        };
        named.into_iter().map(content).collect()
    }

    /// Whether RocksDB's list of files had an end at a moment that was not synced.
    pub fn manifest_is_unsafe(&self, moment: &Moment) -> bool {
        let names = names(&self.names[..moment.names.done]);
        let mut manifests = names.iter().filter(|(name, _)| name.starts_with(MANIFEST));
        manifests.any(|(_, file)| moment.files[*file].safe < moment.files[*file].done)
    }

    /// How many files with this ending were made, and how many lost their name again.
    pub fn turnover(&self, ending: &str) -> (usize, usize) {
        let ends = |name: &str| usize::from(name.ends_with(ending));
        let count = |(made, removed), naming: &Naming| match naming {
            Naming::Make { name, .. } => (made + ends(name), removed),
            Naming::Remove { name } => (made, removed + ends(name)),
            Naming::Rename { .. } => (made, removed),
        };
        self.names.iter().fold((0, 0), count)
    }

    fn surviving_names(&self, names: Extent, cut: Cut, random: &mut Random) -> BTreeMap<String, FileId> {
        let (safe, unsafe_) = self.names[..names.done].split_at(names.safe);
        let survive: Vec<Naming> = match cut {
            Cut::Killed | Cut::Journal | Cut::Torn(_) | Cut::Holed(_) => unsafe_.to_vec(),
            Cut::Synced => Vec::new(),
            Cut::Scattered(_) if random.below(2) == 0 => unsafe_[..random.below(unsafe_.len() + 1)].to_vec(),
            Cut::Scattered(_) => unsafe_.iter().filter(|_| random.below(2) == 0).cloned().collect(),
        };
        self::names(&[safe, &survive].concat())
    }

    fn surviving_bytes(&self, file: FileId, extent: Extent, cut: Cut, holes: bool, random: &mut Random) -> Vec<u8> {
        let all = || content(&self.files[file][..extent.done]);
        let safe = || content(&self.files[file][..extent.safe]);
        match cut {
            Cut::Killed => all(),
            Cut::Synced | Cut::Journal => safe(),
            Cut::Torn(_) | Cut::Holed(_) => tear(&safe(), all(), holes, random),
            Cut::Scattered(_) => match random.below(3) {
                0 => all(),
                1 => safe(),
                _ => tear(&safe(), all(), holes, random),
            },
        }
    }
}

/// Who has which name after these changes. One whose origin is not there has no effect.
fn names(changes: &[Naming]) -> BTreeMap<String, FileId> {
    let mut names = BTreeMap::new();
    for change in changes {
        match change {
            Naming::Make { name, file } => {
                names.insert(name.clone(), *file);
            }
            Naming::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Naming::Remove { name } => {
                names.remove(name);
            }
        }
    }
    names
}

fn content(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for change in changes {
        match change {
            Change::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(new);
            }
            Change::Resize(length) => bytes.resize(*length, 0),
        }
    }
    bytes
}

/// A part of what was added to `safe` since it was synced.
fn tear(safe: &[u8], mut all: Vec<u8>, holes: bool, random: &mut Random) -> Vec<u8> {
    const SECTOR: usize = 512;
    if all.len() <= safe.len() {
        return if random.below(2) == 0 { all } else { safe.to_vec() };
    }
    let added = all.len() - safe.len();
    match random.below(4) {
        0 | 1 if holes => {
            let start = safe.len() + random.below(added);
            let start = (start / SECTOR * SECTOR).max(safe.len());
            let end = ((start / SECTOR + 1) * SECTOR).min(all.len());
            all[start..end].fill(0);
        }
        // Short of the last few bytes: within the last record.
        2 => all.truncate(all.len() - 1 - random.below(added.min(24))),
        _ => all.truncate(safe.len() + random.below(added)),
    }
    all
}

/// A small generator: the same seed, the same world.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % bound
    }
}

/// Two images with the same number are the same.
pub fn fingerprint(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}
