//! Keeps how a violation is told: who did what, when, at which node, and what it contradicts.

use std::fmt;

use super::checker::{Found, Violation, height_of};
use super::{Act, Recorded, Wanted};

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ns: u64| format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000);
        write!(f, "client {} ", self.client)?;
        match &self.act {
            Act::Write { id, fate } => write!(f, "wrote {id}: {fate:?}")?,
            Act::Read {
                wanted,
                found,
                height,
                fresh,
            } => {
                let (key, all) = match wanted {
                    Wanted::Key(key) => (key, ""),
                    Wanted::Prefix(prefix) => (prefix, "*"),
                };
                let kind = if *fresh { "read" } else { "read locally" };
                let found = told(found);
                write!(f, "{kind} {}{all} at height {height}: {found}", text(key))?;
            }
        }
        let node = self
            .node
            .map_or_else(|| "any node".to_owned(), |node| format!("node {node}"));
        write!(f, " ({node}, {} to {} ms)", ms(self.begin), ms(self.end))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doubled(id) => write!(f, "{id} took effect a second time"),
            Self::Unjustified { at, recorded, follows } => write!(
                f,
                "the transaction at {at:?} has the result {recorded:?}, and {follows:?} follows from the chain"
            ),
            Self::Invented(id) => write!(f, "{id} is in the chain, and no client sent it"),
            Self::Lost(write) => write!(f, "lost, not in the chain: {write}"),
            Self::Misplaced { write, placed } => write!(f, "the chain has {placed:?}: {write}"),
            Self::CameAfterAll { write, placed } => {
                write!(f, "said to be nowhere, and the chain has {placed:?}: {write}")
            }
            Self::OutOfOrder { write, placed, known } => write!(
                f,
                "out of order: {write} stands at height {placed}, but height {} was known before: {known}",
                height_of(&known.act)
            ),
            Self::Stale { read, known } => write!(
                f,
                "stale: {read}, but height {} was known before: {known}",
                height_of(&known.act)
            ),
            Self::WrongRead { read, truth: None } => write!(f, "beyond the chain: {read}"),
            Self::WrongRead {
                read,
                truth: Some(truth),
            } => write!(f, "wrong: {read}, and the chain makes it {}", told(truth)),
        }
    }
}

fn told(found: &Found) -> String {
    let entry =
        |(key, value, version): &(Vec<u8>, Vec<u8>, _)| format!("{} = {} of {version:?}", text(key), text(value));
    let entries: Vec<String> = found.iter().map(entry).collect();
    if entries.is_empty() {
        return "nothing".to_owned();
    }
    entries.join(", ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
