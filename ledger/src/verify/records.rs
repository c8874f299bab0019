//! Keeps the comparison of stored records with those that replaying the chain gives, and the check of the others.
//!
//! Invariants: both sides are read in the order of their keys, so memory does not grow with the data; a record that
//! follows from the chain is equal byte for byte or it is a finding. What a node promised follows from nothing: only
//! its form is checked.

use std::cmp::Ordering;

use quipu_crypto::id::{BlockId, Height, NetworkId};

use super::copy::{Copy, Cursor, Flaw};
use super::report::{Finding, Kind, Place, VerifyError};
use crate::codec;
use crate::state::StateKey;
use crate::store::record::{self, Family, VoteRecord, meta};
use crate::store::{RawRecords, Store};

/// Families that follow from the chain alone, in the order in which they are compared.
pub(super) const DERIVED: [Family; 5] = [
    Family::Results,
    Family::State,
    Family::History,
    Family::Transactions,
    Family::Recent,
];

/// Records of `meta` that follow from the chain alone.
const DERIVED_META: [&[u8]; 3] = [meta::EXECUTED, meta::LATTICE, meta::FRONTIER];

/// Findings, up to a number.
pub(super) struct Findings {
    list: Vec<Finding>,
    max: usize,
}

impl Findings {
    pub(super) const fn new(max: usize) -> Self {
        Self { list: Vec::new(), max }
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if !self.is_full() {
            self.list.push(finding);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= self.max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn append(&mut self, other: Self) {
        other.list.into_iter().for_each(|finding| self.push(finding));
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}

/// A key and its value.
type Record = (Box<[u8]>, Box<[u8]>);

/// Compares a derived family.
pub(super) fn compare(copy: &Copy, replay: &Store, family: Family, findings: &mut Findings) -> Result<(), VerifyError> {
    let mut expected = replay.records(family).map_err(|error| scratch(&error))?;
    let mut next = advance(&mut expected)?;
    let mut found = match copy.cursor(family) {
        Ok(cursor) => cursor,
        Err(flaw) => {
            findings.push(damaged(family, next.as_ref(), &flaw));
            return Ok(());
        }
    };
    while !findings.is_full() {
        match step(&found, next.as_ref(), family) {
            Ok(Step::Equal) => {
                found.advance();
                next = advance(&mut expected)?;
            }
            Ok(Step::End) => return Ok(()),
            Ok(Step::Missing(finding)) => {
                findings.push(finding);
                next = advance(&mut expected)?;
            }
            Ok(Step::Extra(finding)) => {
                findings.push(finding);
                found.advance();
            }
            Ok(Step::Changed(finding)) => {
                findings.push(finding);
                found.advance();
                next = advance(&mut expected)?;
            }
            Err(flaw) => {
                findings.push(first_unreadable(copy, family, next, &mut expected, &flaw)?);
                return Ok(());
            }
        }
    }
    Ok(())
}

enum Step {
    Equal,
    End,
    Missing(Finding),
    Extra(Finding),
    Changed(Finding),
}

fn step(found: &Cursor<'_>, expected: Option<&Record>, family: Family) -> Result<Step, Flaw> {
    let missing = |key: &[u8]| Step::Missing(finding(Kind::MissingRecord, family, key, MISSING));
    let extra = |key: &[u8]| Step::Extra(finding(Kind::ExtraRecord, family, key, EXTRA));
    Ok(match (found.item()?, expected) {
        (None, None) => Step::End,
        (None, Some((key, _))) => missing(key),
        (Some((key, _)), None) => extra(key),
        (Some((found_key, found_value)), Some((key, value))) => match found_key.cmp(key) {
            Ordering::Less => extra(found_key),
            Ordering::Greater => missing(key),
            Ordering::Equal if found_value == value.as_ref() => Step::Equal,
            Ordering::Equal => Step::Changed(finding(Kind::ChangedRecord, family, key, CHANGED)),
        },
    })
}

const MISSING: &str = "is missing";
const EXTRA: &str = "does not follow from the chain";
const CHANGED: &str = "is not what replaying the chain gives";

/// Where an iterator fails, the first key that cannot be read, or is not as it should be.
fn first_unreadable(
    copy: &Copy,
    family: Family,
    mut next: Option<Record>,
    expected: &mut RawRecords<'_>,
    flaw: &Flaw,
) -> Result<Finding, VerifyError> {
    while let Some((key, value)) = &next {
        match copy.get(family, key) {
            Ok(Some(found)) if found == value.as_ref() => next = advance(expected)?,
            Ok(Some(_)) => return Ok(finding(Kind::ChangedRecord, family, key, CHANGED)),
            Ok(None) => return Ok(finding(Kind::MissingRecord, family, key, MISSING)),
            Err(flaw) => return Ok(damaged(family, next.as_ref(), &flaw)),
        }
    }
    Ok(damaged(family, None, flaw))
}

fn damaged(family: Family, at: Option<&Record>, flaw: &Flaw) -> Finding {
    match at {
        Some((key, _)) => finding(Kind::DamagedDatabase, family, key, &format!("cannot be read: {flaw}")),
        None => {
            let detail = format!("the column family {} cannot be read to its end: {flaw}", family.name());
            Kind::DamagedDatabase.at(Place::Copy, detail)
        }
    }
}

/// Names a record as people know it: results by height, state and history by key, ids by themselves.
fn finding(kind: Kind, family: Family, key: &[u8], what: &str) -> Finding {
    let unknown = || Place::Key(format!("{}/{}", family.name(), key.escape_ascii()));
    let (place, record) = match family {
        Family::Results => {
            let place = record::decode_height_key(key).map_or_else(|_| unknown(), Place::Height);
            (place, "its results record".to_owned())
        }
        Family::State => {
            let place = StateKey::from_bytes(key).map_or_else(|_| unknown(), |key| Place::Key(key.to_string()));
            (place, "its value in the state".to_owned())
        }
        Family::History => match record::decode_history_key(key) {
            Ok((key, version)) => (Place::Key(key.to_string()), format!("its history entry of {version}")),
            Err(_) => (unknown(), "the history entry".to_owned()),
        },
        Family::Transactions => {
            let place = record::decode_id(key).map_or_else(|_| unknown(), |id| Place::Key(id.to_string()));
            (place, "its position in the index of transactions".to_owned())
        }
        Family::Recent => match record::decode_recent_key(key) {
            Ok(entry) => {
                let what = format!("its entry in the replay memory (until {})", entry.expires_at);
                (Place::Key(entry.id.to_string()), what)
            }
            Err(_) => (unknown(), "the entry in the replay memory".to_owned()),
        },
        Family::Meta | Family::Headers | Family::Bodies | Family::Certificates => (unknown(), "the record".to_owned()),
    };
    kind.at(place, format!("{record} {what}"))
}

/// Whether the copy has no record at all that execution writes.
pub(super) fn nothing_derived(copy: &Copy) -> bool {
    let empty = |family| matches!(copy.cursor(family).as_ref().map(Cursor::item), Ok(Ok(None)));
    let absent = |key| matches!(copy.get(Family::Meta, key), Ok(None));
    DERIVED.into_iter().all(empty) && DERIVED_META.into_iter().all(absent)
}

/// Compares the records of `meta` that follow from the chain.
pub(super) fn compare_meta(copy: &Copy, replay: &Store, findings: &mut Findings) -> Result<(), VerifyError> {
    let mut expected = replay.records(Family::Meta).map_err(|error| scratch(&error))?;
    while let Some((key, value)) = advance(&mut expected)? {
        if !DERIVED_META.contains(&key.as_ref()) {
            continue;
        }
        match copy.get(Family::Meta, &key) {
            Ok(Some(found)) if found == value.as_ref() => {}
            Ok(Some(_)) => findings.push(finding(Kind::ChangedRecord, Family::Meta, &key, CHANGED)),
            Ok(None) => findings.push(finding(Kind::MissingRecord, Family::Meta, &key, MISSING)),
            Err(flaw) => findings.push(damaged(Family::Meta, Some(&(key, value)), &flaw)),
        }
    }
    Ok(())
}

/// Checks the form of the records of `meta` that a node writes for itself.
pub(super) fn check_meta(copy: &Copy, network: NetworkId, findings: &mut Findings) {
    for key in [meta::NETWORK, meta::INCARNATION] {
        if let Ok(None) = copy.get(Family::Meta, key) {
            findings.push(finding(Kind::MissingRecord, Family::Meta, key, MISSING));
        }
    }
    let mut records = match copy.cursor(Family::Meta) {
        Ok(records) => records,
        Err(flaw) => return findings.push(damaged(Family::Meta, None, &flaw)),
    };
    loop {
        match records.item() {
            Ok(Some((key, value))) => {
                if let Some((kind, what)) = judge_meta(key, value, network) {
                    findings.push(finding(kind, Family::Meta, key, what));
                }
            }
            Ok(None) => return,
            Err(flaw) => return findings.push(damaged(Family::Meta, None, &flaw)),
        }
        records.advance();
    }
}

fn judge_meta(key: &[u8], value: &[u8], network: NetworkId) -> Option<(Kind, &'static str)> {
    const FORM: &str = "is not of its form";
    let sound = match key {
        meta::NETWORK if value != network.0.as_bytes() => {
            return Some((Kind::ChangedRecord, "is another network than that of the chain"));
        }
        meta::FORMAT | meta::NETWORK | meta::EXECUTED | meta::LATTICE | meta::FRONTIER => true,
        meta::INCARNATION => value.len() == 16,
        meta::VOTE => codec::decode::<VoteRecord>(value, 32).is_ok(),
        meta::COMMIT | meta::START => value.len() == 8,
        meta::RECOVER => codec::decode::<BlockId>(value, 64).is_ok(),
        _ if key.starts_with(meta::PROMISE) => {
            record::decode_promise_key(key).is_ok() && record::decode_promise(value).is_ok()
        }
        _ => return Some((Kind::ExtraRecord, "is not one that a node writes")),
    };
    (!sound).then_some((Kind::ChangedRecord, FORM))
}

/// A height in `meta`, where it is there and can be read.
pub(super) fn height_in_meta(copy: &Copy, key: &[u8]) -> Option<Height> {
    let bytes = copy.get(Family::Meta, key).ok().flatten()?;
    record::decode_height_key(&bytes).ok()
}

fn advance(records: &mut RawRecords<'_>) -> Result<Option<Record>, VerifyError> {
    records.next().transpose().map_err(|error| scratch(&error))
}

fn scratch(error: &crate::store::StoreError) -> VerifyError {
    VerifyError::Scratch(error.to_string())
}
