//! Keeps reading what is derived: values, scans, histories, transactions, and the raw records for verification.
//!
//! Invariant: a [`ReadView`] shows one executed height, whatever is executed meanwhile. Values of the past are read
//! from the blocks that wrote them. Leaves freshness (has this node executed enough?) to the caller.

use quipu_crypto::id::{Height, TransactionId};
use rocksdb::{DBRawIterator, ReadOptions, Snapshot};

use super::database::{bulk_read, failed};
use super::error::{BlockDamage, RecordDamage, StoreError};
use super::record::{self, Family, HistoryRecord, ResultsRecord, height_key, meta};
use super::{Store, damaged, decoded};
use crate::block::{Block, Executed};
use crate::codec;
use crate::operation::{Namespace, Operation, Version};
use crate::result::TransactionResult;
use crate::state::{Entry, StateKey, namespace_prefix};

/// One page of a longer answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, N> {
    /// What it holds, in order.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; `None` at the end.
    pub next: Option<N>,
}

/// One writing of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// Where the transaction stands.
    pub version: Version,
    /// Its id.
    pub id: TransactionId,
    /// Whether it deleted the key.
    pub deleted: bool,
    /// What it wrote; none where it deleted.
    pub value: Option<Vec<u8>>,
}

/// Where a transaction stands and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTransaction {
    /// Its first position in the chain.
    pub version: Version,
    /// What came of it there.
    pub result: TransactionResult,
    /// Up to where the answer is complete.
    pub executed: Height,
}

/// The derived records as they were when the view was taken.
pub struct ReadView<'s> {
    store: &'s Store,
    snapshot: Snapshot<'s>,
    executed: Option<Executed>,
}

impl Store {
    /// What is executed, as it is now.
    ///
    /// # Errors
    /// Where the record of what is executed is damaged.
    pub fn view(&self) -> Result<ReadView<'_>, StoreError> {
        let mut view = ReadView {
            store: self,
            snapshot: self.0.database.snapshot(),
            executed: None,
        };
        let executed = view.get_raw(Family::Meta, meta::EXECUTED)?;
        view.executed = executed
            .map(|bytes| decoded(Family::Meta, meta::EXECUTED, codec::decode(&bytes, 256)))
            .transpose()?;
        Ok(view)
    }

    /// Every record of a family, as it is now, in order of keys.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn records(&self, family: Family) -> Result<RawRecords<'_>, StoreError> {
        Ok(RawRecords::new(self.0.database.iterate(family)?, &[]))
    }

    /// The quadruple after an executed height, for as far as this node has executed.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn executed_at(&self, height: Height) -> Result<Option<Executed>, StoreError> {
        Ok(self.view()?.results(height)?.map(|record| record.executed))
    }
}

/// Keys and values of a family as they are stored, in order of keys.
pub struct RawRecords<'s> {
    records: DBRawIterator<'s>,
    ended: bool,
}

impl<'s> RawRecords<'s> {
    fn new(mut records: DBRawIterator<'s>, from: &[u8]) -> Self {
        records.seek(from);
        Self { records, ended: false }
    }
}

impl Iterator for RawRecords<'_> {
    type Item = Result<(Box<[u8]>, Box<[u8]>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Some((key, value)) = self.records.item() {
            let record = (key.into(), value.into());
            self.records.next();
            return Some(Ok(record));
        }
        self.ended = true;
        self.records.status().err().map(|error| Err(error.into()))
    }
}

impl ReadView<'_> {
    /// The quadruple that the view is at; `None` where not even block 0 is executed.
    #[must_use]
    pub const fn executed(&self) -> Option<Executed> {
        self.executed
    }

    /// The height that the view is at.
    #[must_use]
    pub fn height(&self) -> Height {
        self.executed.map_or(Height::ZERO, |executed| executed.height)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn get(&self, namespace: &Namespace, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let state_key = StateKey::new(namespace, key);
        let Some(bytes) = self.get_raw(Family::State, state_key.as_bytes())? else {
            return Ok(None);
        };
        let stored = decoded(Family::State, state_key.as_bytes(), record::decode_state_value(&bytes))?;
        Ok(Some(Entry {
            key: key.to_vec(),
            value: stored.value,
            version: stored.version,
        }))
    }

    /// The value that a key had after the block at `height`.
    ///
    /// # Errors
    /// Where a record or the block that wrote it is damaged.
    pub fn get_at(&self, namespace: &Namespace, key: &[u8], height: Height) -> Result<Option<Entry>, StoreError> {
        let state_key = StateKey::new(namespace, key);
        let prefix = record::history_prefix(&state_key);
        let last = record::history_key(
            &state_key,
            Version {
                height,
                position: u32::MAX,
            },
        );
        let mut records = self.iterate(Family::History, bulk_read())?;
        records.seek_for_prev(&last);
        let found = records.item().filter(|(key, _)| key.starts_with(&prefix));
        let Some((bytes, value)) = found else {
            records.status()?;
            return Ok(None);
        };
        let (_, version) = decoded(Family::History, bytes, record::decode_history_key(bytes))?;
        let record = decoded(Family::History, bytes, record::decode_history_record(value))?;
        let item = Past::new(self.store).item(bytes, version, record)?;
        Ok(item.value.map(|value| Entry {
            key: key.to_vec(),
            value,
            version,
        }))
    }

    /// Keys that begin with `prefix`, after the key `after`, in order: at most `limit`, and no more once they hold
    /// `max_bytes`.
    ///
    /// # Errors
    /// Where a record is damaged.
    pub fn scan(
        &self,
        namespace: &Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Page<Entry, Vec<u8>>, StoreError> {
        let begins = namespace_prefix(namespace);
        let from = [&begins, after.unwrap_or(prefix).max(prefix)].concat();
        let prefix = [begins.as_slice(), prefix].concat();
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let mut bytes = 0_usize;
        let mut records = self.iterate(Family::State, ReadOptions::default())?;
        records.seek(&from);
        while let Some((key, value)) = records.item().filter(|(key, _)| key.starts_with(&prefix)) {
            let name = key.get(begins.len()..).unwrap_or_default();
            if after.is_some_and(|after| name <= after) {
                records.next();
                continue;
            }
            if page.items.len() >= limit || bytes >= max_bytes {
                page.next = page.items.last().map(|entry: &Entry| entry.key.clone());
                return Ok(page);
            }
            let stored = decoded(Family::State, key, record::decode_state_value(value))?;
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            page.items.push(Entry {
                key: name.to_vec(),
                value: stored.value,
                version: stored.version,
            });
            records.next();
        }
        records.status()?;
        Ok(page)
    }

    /// Who wrote a key and what, after the version `after`, oldest first: at most `limit`, and no more once
    /// they hold `max_bytes`.
    ///
    /// # Errors
    /// Where a record or a block that wrote it is damaged.
    pub fn history(
        &self,
        namespace: &Namespace,
        key: &[u8],
        after: Option<Version>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Page<HistoryItem, Version>, StoreError> {
        let state_key = StateKey::new(namespace, key);
        let prefix = record::history_prefix(&state_key);
        let after = after.map(|version| record::history_key(&state_key, version));
        let mut page = Page {
            items: Vec::new(),
            next: None,
        };
        let mut bytes = 0_usize;
        let mut past = Past::new(self.store);
        let mut records = self.iterate(Family::History, bulk_read())?;
        records.seek(after.as_ref().unwrap_or(&prefix));
        while let Some((key, value)) = records.item().filter(|(key, _)| key.starts_with(&prefix)) {
            if after.as_ref().is_some_and(|after| key == after.as_slice()) {
                records.next();
                continue;
            }
            if page.items.len() >= limit || bytes >= max_bytes {
                page.next = page.items.last().map(|item: &HistoryItem| item.version);
                return Ok(page);
            }
            let (_, version) = decoded(Family::History, key, record::decode_history_key(key))?;
            let record = decoded(Family::History, key, record::decode_history_record(value))?;
            let item = past.item(key, version, record)?;
            bytes = bytes.saturating_add(item.value.as_ref().map_or(0, Vec::len));
            page.items.push(item);
            records.next();
        }
        records.status()?;
        Ok(page)
    }

    /// Where a transaction stands and what came of it.
    ///
    /// # Errors
    /// Where a record is damaged.
    pub fn transaction(&self, id: TransactionId) -> Result<Option<FoundTransaction>, StoreError> {
        let key = id.0.as_bytes();
        let Some(bytes) = self.get_raw(Family::Transactions, key)? else {
            return Ok(None);
        };
        let version = decoded(Family::Transactions, key, record::decode_position(&bytes))?;
        let outcome = self.results(version.height)?.and_then(|record| {
            let position = usize::try_from(version.position).ok()?;
            record.outcomes.get(position).copied()
        });
        let outcome = outcome.ok_or_else(|| damaged(Family::Transactions, key, RecordDamage::Dangling))?;
        Ok(Some(FoundTransaction {
            version,
            result: TransactionResult { id, outcome },
            executed: self.height(),
        }))
    }

    /// What came of a height; `None` above the view's.
    ///
    /// # Errors
    /// Where the record is damaged.
    pub fn results(&self, height: Height) -> Result<Option<ResultsRecord>, StoreError> {
        let key = height_key(height);
        let bytes = self.get_raw(Family::Results, &key)?;
        bytes
            .map(|bytes| decoded(Family::Results, &key, record::decode_results_record(&bytes)))
            .transpose()
    }

    /// Every record of a family, in order of keys.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn records(&self, family: Family) -> Result<RawRecords<'_>, StoreError> {
        Ok(RawRecords::new(self.iterate(family, bulk_read())?, &[]))
    }

    fn get_raw(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.snapshot.get_cf(self.store.0.database.family(family)?, key);
        found.map_err(|error| failed(family, error))
    }

    fn iterate(&self, family: Family, how: ReadOptions) -> Result<DBRawIterator<'_>, StoreError> {
        let family = self.store.0.database.family(family)?;
        Ok(self.snapshot.raw_iterator_cf_opt(family, how))
    }
}

/// Reads what transactions of the past wrote; keeps the last block, for neighbours are often in one.
struct Past<'s> {
    store: &'s Store,
    block: Option<Block>,
}

impl<'s> Past<'s> {
    const fn new(store: &'s Store) -> Self {
        Self { store, block: None }
    }

    fn item(&mut self, key: &[u8], version: Version, record: HistoryRecord) -> Result<HistoryItem, StoreError> {
        let block = self.block(version.height)?;
        let transaction = at(block.transactions(), version.position);
        let operation = transaction.and_then(|transaction| at(&transaction.body().operations, record.operation));
        let dangling = || damaged(Family::History, key, RecordDamage::Dangling);
        let value = match operation {
            Some(Operation::Put { value, .. }) if !record.deleted => Some(value.clone()),
            Some(Operation::Delete { .. }) if record.deleted => None,
            _ => return Err(dangling()),
        };
        Ok(HistoryItem {
            version,
            id: transaction.ok_or_else(dangling)?.id(),
            deleted: record.deleted,
            value,
        })
    }

    fn block(&mut self, height: Height) -> Result<Block, StoreError> {
        if let Some(block) = self.block.as_ref().filter(|block| block.header().height == height) {
            return Ok(block.clone());
        }
        let damage = BlockDamage::NoHeader;
        let block = self.store.block(height)?;
        let block = block.ok_or(StoreError::DamagedBlock { height, damage })?;
        Ok(self.block.insert(block).clone())
    }
}

fn at<T>(items: &[T], index: u32) -> Option<&T> {
    usize::try_from(index).ok().and_then(|index| items.get(index))
}
