//! Opens what a power cut has left behind, and compares it with what must be there.
//!
//! Invariant: knows nothing of how the image came about; which states are lawful at which boundary is asked of the
//! caller afterwards, so that equal images are opened once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quipu_crypto::id::{Height, Incarnation};
use quipu_ledger::block::Block;
use quipu_ledger::store::record::{Family, meta};
use quipu_ledger::store::{Executor, LogChange, OpenError, Store, StoreError};

use crate::disk::Image;
use crate::script::{self, LogState, Script};

/// The families that follow from the log.
const DERIVED: [Family; 5] = [
    Family::State,
    Family::Results,
    Family::History,
    Family::Transactions,
    Family::Recent,
];

/// Every derived record, as stored.
pub type Derived = Vec<(&'static str, Box<[u8]>, Box<[u8]>)>;

/// What an image was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The numbers of operations after which the log's side looked like this.
    pub after: Vec<usize>,
    /// Executed to here, where anything is.
    pub executed: Option<Height>,
}

/// What is compared with.
pub struct Reference<'s> {
    /// The script.
    pub script: &'s Script,
    /// Every derived record after each height of the final chain.
    pub derived: Vec<Derived>,
}

/// Makes the script's store, at its very beginning.
pub fn create(dir: &Path, script: &Script) -> Result<Store, OpenError> {
    let genesis = &script.genesis;
    let network = genesis.header().network;
    Store::create_with(dir, network, genesis, Incarnation([5; 16]), &script::options())
}

/// Writes an image's files.
pub fn lay_out(image: &Image, dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in image {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Everything that is derived.
pub fn derived(store: &Store) -> Result<Derived, StoreError> {
    let mut all = Vec::new();
    for family in DERIVED {
        for found in store.records(family)? {
            let (key, value) = found?;
            all.push((family.name(), key, value));
        }
    }
    for found in store.records(Family::Meta)? {
        let (key, value) = found?;
        if [meta::EXECUTED, meta::LATTICE, meta::FRONTIER].contains(&&*key) {
            all.push((Family::Meta.name(), key, value));
        }
    }
    Ok(all)
}

/// The log's side, every block of it read and checked.
pub fn log_state(store: &Store, script: &Script) -> Result<LogState, String> {
    let tip = store.tip();
    let read = |error: StoreError| error.to_string();
    let (_, blocks) = store.blocks(Height::ZERO, tip.height, usize::MAX).map_err(read)?;
    let chain: Vec<_> = blocks.iter().map(Block::id).collect();
    if chain.last() != Some(&tip) {
        return Err(format!("the chain ends at {:?}, the tip is {tip}", chain.last()));
    }
    if let Some(block) = blocks
        .iter()
        .find(|block| script.blocks.get(&block.hash()) != Some(block))
    {
        return Err(format!("block {} was never appended", block.id()));
    }
    for family in [Family::Headers, Family::Bodies] {
        let records = store.records(family).map_err(read)?.count();
        if records != chain.len() {
            return Err(format!(
                "{records} records in {} for {} blocks",
                family.name(),
                chain.len()
            ));
        }
    }
    let mut certificates = BTreeMap::new();
    for found in store.records(Family::Certificates).map_err(read)? {
        let (key, _) = found.map_err(read)?;
        let height = quipu_ledger::store::record::decode_height_key(&key).map_err(|error| error.to_string())?;
        let certificate = store.certificate(height).map_err(read)?;
        certificates.insert(height, certificate.ok_or("a certificate vanished")?);
    }
    Ok(LogState {
        vote: store.vote().map_err(read)?,
        start: store.starts().map_err(read)?,
        hint: store.commit_hint().map_err(read)?,
        promises: store.promises().map_err(read)?,
        certificates,
        chain,
    })
}

impl Reference<'_> {
    /// Opens the image in `dir` and goes on with it. `made` says that the store's making was acknowledged; before that,
    /// it is made (again) as a node does at its first start.
    pub fn check(&self, dir: &Path, made: bool) -> Result<Found, String> {
        let store = open(dir, self.script, made)?;
        let log = log_state(&store, self.script)?;
        let points = &self.script.points;
        let after: Vec<usize> = (0..points.len()).filter(|number| points[*number].log == log).collect();
        let Some(&first) = after.first() else {
            return Err(format!("the log is as it never was: {}", self.nearest(&log)));
        };
        let executed = store.view().map_err(|error| error.to_string())?.executed();
        let executed = executed.map(|executed| executed.height);
        self.check_derived(&store, executed)?;

        let mut executor = Executor::open(&store).map_err(|error| format!("no executor: {error}"))?;
        let goal = points[first].committed.max(executor.executed().height);
        while executor.executed().height < goal {
            let next = executor.executed().height.next();
            let block = store.block(next).map_err(|error| error.to_string())?;
            let block = block.ok_or_else(|| format!("block {next} is committed, but not there"))?;
            let done = executor.execute(&block, &self.script.membership);
            done.map_err(|error| format!("block {next} cannot be executed: {error}"))?;
        }
        self.check_derived(&store, Some(goal))?;
        drop(executor);
        self.go_on(dir, store, log, goal)?;
        Ok(Found { after, executed })
    }

    /// A new leader's block is appended and found again (D-5), and what was executed stays.
    fn go_on(&self, dir: &Path, store: Store, mut log: LogState, executed: Height) -> Result<(), String> {
        let tip = store.tip();
        let block = self.script.next_block(&tip.hash);
        let appended = store.write_log(&[LogChange::Append(block.clone())], true);
        appended.map_err(|error| format!("no block can be appended: {error}"))?;
        drop(store);
        let store = open(dir, self.script, true).map_err(|error| format!("after an append, {error}"))?;
        if store.block(block.id().height) != Ok(Some(block.clone())) {
            return Err("a block that was appended is not there any more".to_owned());
        }
        let removed = store.write_log(
            &[LogChange::Truncate {
                from: block.id().height,
            }],
            true,
        );
        removed.map_err(|error| format!("no block can be cut off: {error}"))?;
        log.start += 1;
        let start = store.write_log(&[LogChange::Start(log.start)], false);
        start.map_err(|error| error.to_string())?;
        if log_state(&store, self.script)? != log {
            return Err("the log changed by opening the store again".to_owned());
        }
        // A clean stop writes out what is derived.
        self.check_derived(&store, Some(executed))
    }

    fn check_derived(&self, store: &Store, executed: Option<Height>) -> Result<(), String> {
        let found = derived(store).map_err(|error| error.to_string())?;
        let nothing = Vec::new();
        let expected = match executed {
            None => &nothing,
            Some(height) => {
                let index = usize::try_from(height.get()).unwrap_or(usize::MAX);
                self.derived
                    .get(index)
                    .ok_or_else(|| format!("executed to {height}, beyond what was ever committed"))?
            }
        };
        if executed.is_some_and(|height| height > store.tip().height) {
            return Err(format!("executed to {executed:?}, above the tip {}", store.tip()));
        }
        if found == *expected {
            return Ok(());
        }
        let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
        let (family, key) = match differs {
            Some(((family, key, _), _)) => (*family, key.escape_ascii().to_string()),
            None => ("all", format!("{} instead of {} records", found.len(), expected.len())),
        };
        Err(format!("executed to {executed:?}, but {family} differs at {key}"))
    }

    /// How a state that never was differs from one that was.
    fn nearest(&self, log: &LogState) -> String {
        let same = |point: &&script::Point| {
            usize::from(point.log.vote == log.vote)
                + usize::from(point.log.chain == log.chain)
                + usize::from(point.log.promises == log.promises)
                + usize::from(point.log.hint == log.hint)
                + usize::from(point.log.start == log.start)
                + usize::from(point.log.certificates == log.certificates)
        };
        let nearest = self.script.points.iter().max_by_key(same);
        let ends = |log: &LogState| {
            (
                log.vote,
                log.start,
                log.hint,
                log.promises.clone(),
                log.chain.last().copied(),
            )
        };
        format!(
            "{:?}, nearest is {:?}",
            ends(log),
            nearest.map(|point| ends(&point.log))
        )
    }
}

fn open(dir: &Path, script: &Script, made: bool) -> Result<Store, String> {
    let opened = if made {
        Store::open_with(dir, &script::options())
    } else {
        match create(dir, script) {
            Err(OpenError::Exists { .. }) => Store::open_with(dir, &script::options()),
            other => other,
        }
    };
    opened.map_err(|error| format!("the store does not open: {error}"))
}
