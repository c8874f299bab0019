//! Keeps the full offline verification of a copy: every rule of the chain, then a replay, then record for record.
//!
//! Invariants: nothing is believed but the genesis block that is given, and nothing is written into the copy. The
//! verdict is a function of the copy and that block. One thread, and memory that does not grow with the chain; damage
//! becomes a finding, never a panic. Leaves making the genesis block from its file to the caller.

mod blocks;
mod copy;
mod records;
mod report;
mod scratch;

use std::path::Path;

use quipu_crypto::hash::Hash;
use quipu_crypto::id::Height;

use blocks::{Batch, Blocks, Earlier, Replay, certified_by};
use copy::{Copy, Refusal};
use records::{DERIVED, Findings};
pub use report::{Finding, Kind, Place, Progress, Report, Step, VerifyError, VerifyOptions};
use scratch::Scratch;

use crate::block::{Block, Executed, Items};
use crate::certificate::{self, Certificate};
use crate::codec;
use crate::limits::MAX_BLOCK_BYTES;
use crate::rules::{Ancestors, ChainTip};
use crate::store::record::{Family, decode_height_key, height_key, meta};

/// Verifies the copy in `dir`, which is a node's directory or its data directory, against the block that its genesis
/// file makes. The report says what is wrong; an error says that nothing was verified.
///
/// Must not be called for the directory of a store that this very process has open.
///
/// # Errors
/// Where there is no copy, it is in use or of another format, or the scratch directory fails.
pub fn run(
    dir: &Path,
    genesis: &Block,
    options: VerifyOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let tip = ChainTip::genesis(genesis).map_err(VerifyError::Genesis)?;
    let scratch = Scratch::new(&std::env::temp_dir());
    let scratch = scratch.map_err(|error| VerifyError::Scratch(error.to_string()))?;
    let copy = match Copy::open(dir, scratch.path()) {
        Ok(copy) => copy,
        Err(Refusal::Error(error)) => return Err(error),
        Err(Refusal::Damage(finding)) => return Ok(refused(finding)),
    };
    if let Some(finding) = not_of(&copy, genesis) {
        return Ok(refused(finding));
    }
    let mut audit = Audit {
        replay: Replay::new(scratch.path(), genesis)?,
        earlier: Earlier::new(&copy, &tip),
        batch: Batch::default(),
        chain: Findings::new(options.max_findings),
        records: Findings::new(options.max_findings),
        report: refused_by(Vec::new()),
        stored_at: None,
        total: last_height(&copy).next().get(),
        copy: &copy,
        tip,
        options,
        progress,
    };
    audit.stored_at = audit.executed_height();
    audit.report.executed = audit.stored_at.unwrap_or_default();
    audit.blocks()?;
    audit.rest();
    Ok(audit.finish())
}

/// The report on a copy of which nothing could be checked.
fn refused(finding: Finding) -> Report {
    refused_by(vec![finding])
}

const fn refused_by(findings: Vec<Finding>) -> Report {
    Report {
        height: Height::ZERO,
        tip: Hash::ZERO,
        transactions: 0,
        executed: Height::ZERO,
        committed: Height::ZERO,
        certified: None,
        findings,
    }
}

/// Where block 0 of the copy is a sound one, but not the given one: is it another network, or another genesis file?
///
/// The members of a network know it by its genesis file, so a file that names one of the same node keys is meant to be
/// this network's.
fn not_of(copy: &Copy, genesis: &Block) -> Option<Finding> {
    let found = Blocks::new(copy).ok()?.read(Height::ZERO).ok()??;
    let (found_id, given_id) = (found.header().network, genesis.header().network);
    if found.hash() == genesis.hash() || found_id == given_id {
        return None;
    }
    let keys = |block: &Block| match &block.body().items {
        Items::Membership(record) => record.membership().nodes.iter().map(|node| node.key).collect(),
        Items::Votes(_) | Items::Transactions(_) => Vec::new(),
    };
    let given = keys(genesis);
    let kin = keys(&found).iter().any(|key| given.contains(key));
    let (kind, detail) = if kin {
        let detail = format!(
            "the genesis file is not the one that this network was made from: it makes network {given_id}, the copy \
             is of network {found_id}"
        );
        (Kind::WrongGenesis, detail)
    } else {
        let detail = format!("the copy is of another network: {found_id}, the genesis file makes {given_id}");
        (Kind::WrongNetwork, detail)
    };
    Some(kind.at(Place::Copy, detail))
}

fn last_height(copy: &Copy) -> Height {
    let last = copy.last_key(Family::Headers);
    last.and_then(|key| decode_height_key(&key).ok()).unwrap_or_default()
}

/// One verification.
struct Audit<'a> {
    copy: &'a Copy,
    options: VerifyOptions,
    progress: &'a mut dyn FnMut(Progress),
    /// The last block that the rules accepted.
    tip: ChainTip,
    earlier: Earlier<'a>,
    batch: Batch,
    replay: Replay,
    chain: Findings,
    records: Findings,
    /// Invariant: its height is that of the last block that was executed; equal to the tip's between batches.
    report: Report,
    /// The height at which the stored records are to be compared; none where nothing was ever executed, or all of it
    /// was lost in a crash before the first flush.
    stored_at: Option<Height>,
    total: u64,
}

impl Audit<'_> {
    /// The height whose records the copy has, as it says itself.
    fn executed_height(&self) -> Option<Height> {
        let stored = self.copy.get(Family::Meta, meta::EXECUTED).ok().flatten();
        if let Some(executed) = stored
            .as_ref()
            .and_then(|bytes| codec::decode::<Executed>(bytes, 256).ok())
        {
            return Some(executed.height);
        }
        if stored.is_none() && records::nothing_derived(self.copy) {
            return None;
        }
        // The record itself becomes a finding when it is compared; the results say what it must have been.
        let last = self.copy.last_key(Family::Results);
        Some(last.and_then(|key| decode_height_key(&key).ok()).unwrap_or_default())
    }

    /// All blocks, from block 0 to the last or to the first that is wrong.
    fn blocks(&mut self) -> Result<(), VerifyError> {
        let mut blocks = match Blocks::new(self.copy) {
            Ok(blocks) => blocks,
            Err(flaw) => {
                self.chain
                    .push(Kind::DamagedDatabase.at_height(Height::ZERO, flaw.to_string()));
                return Ok(());
            }
        };
        if !self.block_0(&mut blocks)? {
            return Ok(());
        }
        loop {
            let height = self.tip.id().height.next();
            let wrong = match blocks.read(height) {
                Ok(Some(block)) => self.accept(block).err(),
                Ok(None) => {
                    if self.flush()? {
                        self.end(&blocks, height);
                    }
                    return Ok(());
                }
                Err(finding) => Some(finding),
            };
            if let Some(finding) = wrong {
                if self.flush()? {
                    self.chain.push(finding);
                }
                return Ok(());
            }
            if (self.batch.is_full() || Some(height) == self.stored_at) && !self.flush()? {
                return Ok(());
            }
        }
    }

    /// Block 0 must be the given one. Gives whether to go on.
    fn block_0(&mut self, blocks: &mut Blocks<'_>) -> Result<bool, VerifyError> {
        let missing = || Kind::Truncated.at_height(Height::ZERO, "it is missing");
        let wrong = match blocks.read(Height::ZERO) {
            Ok(Some(block)) if block.hash() != self.tip.id().hash => {
                Some(Kind::DamagedBlock.at_height(Height::ZERO, "it is not the block that the genesis file makes"))
            }
            Ok(Some(block)) if block.signature().is_some() => {
                Some(Kind::DamagedBlock.at_height(Height::ZERO, "it is signed, which block 0 never is"))
            }
            Ok(Some(_)) => None,
            Ok(None) => Some(missing()),
            Err(finding) => Some(finding),
        };
        if let Some(finding) = wrong {
            self.chain.push(finding);
            return Ok(false);
        }
        self.report.tip = self.tip.id().hash;
        self.expect(Height::ZERO, self.tip.id().hash);
        if self.stored_at == Some(Height::ZERO) {
            self.compare()?;
        }
        Ok(true)
    }

    fn accept(&mut self, block: Block) -> Result<(), Finding> {
        let tip = self.tip.check_among(&block, &self.earlier).map_err(|fault| Finding {
            place: Place::Height(block.header().height),
            kind: fault.code(),
            detail: fault.to_string(),
        })?;
        self.tip = tip;
        self.earlier.extend(&self.tip);
        self.batch.push(block, self.tip.membership());
        Ok(())
    }

    /// Checks the signatures of the batch and executes it. Gives whether all was well.
    fn flush(&mut self) -> Result<bool, VerifyError> {
        let bad = self.batch.check_signatures();
        let blocks = self.batch.take();
        for finding in self.replay.execute(&blocks)? {
            self.chain.push(finding);
        }
        for (block, _) in &blocks {
            let count = u64::try_from(block.transactions().len()).unwrap_or(u64::MAX);
            self.report.transactions = self.report.transactions.saturating_add(count);
            self.report.height = block.header().height;
            self.report.tip = block.hash();
            self.report.certified = self.report.certified.max(certified_by(block));
            self.expect(block.header().height, block.hash());
        }
        if !blocks.is_empty() && Some(self.report.height) == self.stored_at {
            self.compare()?;
        }
        let done = self.report.height.next().get();
        (self.progress)(Progress {
            step: Step::Blocks,
            done,
            total: self.total.max(done),
        });
        let sound = bad.is_none();
        if let Some(finding) = bad {
            self.chain.push(finding);
        }
        Ok(sound)
    }

    fn expect(&mut self, height: Height, hash: Hash) {
        if let Some((_, expected)) = self
            .options
            .expect
            .filter(|expect| expect.0 == height && expect.1 != hash)
        {
            let detail = format!("block {expected} was expected, the copy has {hash}");
            self.chain.push(Kind::UnexpectedBlock.at_height(height, detail));
        }
    }

    /// The copy's last block is the tip, and `height` the one above it.
    fn end(&mut self, blocks: &Blocks<'_>, height: Height) {
        let tip = self.tip.id().height;
        if let Some(text) = self.copy.damage_of_log() {
            let detail = format!("the copy ends before it, and the database is damaged: {text}");
            self.chain.push(Kind::DamagedDatabase.at_height(height, detail));
        }
        if let Some(finding) = blocks.beyond(height) {
            self.chain.push(finding);
        }
        let hint = records::height_in_meta(self.copy, meta::COMMIT).unwrap_or_default();
        let claims = [
            (self.report.executed, "says that it has executed"),
            (hint, "knows to be committed"),
            (self.last_certificate(), "has a certificate of"),
        ];
        for (claimed, what) in claims {
            if claimed > tip {
                let detail = format!("it is missing: the copy ends at block {tip}, but {what} block {claimed}");
                self.chain.push(Kind::Truncated.at_height(height, detail));
            }
        }
        if let Some((expected, _)) = self.options.expect.filter(|expect| expect.0 > tip) {
            let detail = format!("the copy ends at block {tip}, but block {expected} was expected");
            self.chain.push(Kind::Cut.at_height(height, detail));
        }
    }

    fn last_certificate(&self) -> Height {
        let last = self.copy.last_key(Family::Certificates);
        last.and_then(|key| decode_height_key(&key).ok()).unwrap_or_default()
    }

    /// Compares what is stored with the replay, both being at the copy's executed height.
    fn compare(&mut self) -> Result<(), VerifyError> {
        records::compare_meta(self.copy, &self.replay.store, &mut self.records)?;
        for (family, done) in DERIVED.into_iter().zip(0_u64..) {
            (self.progress)(Progress {
                step: Step::Records,
                done,
                total: 5,
            });
            records::compare(self.copy, &self.replay.store, family, &mut self.records)?;
        }
        Ok(())
    }

    /// What does not hang on the replay.
    fn rest(&mut self) {
        records::check_meta(self.copy, self.tip.network(), &mut self.records);
        self.certificates();
        let hint = records::height_in_meta(self.copy, meta::COMMIT).unwrap_or_default();
        self.report.committed = hint.max(self.report.executed).min(self.report.height);
    }

    /// Certificates beside the chain, of blocks that were found good.
    fn certificates(&mut self) {
        let Ok(mut stored) = self.copy.cursor(Family::Certificates) else {
            return;
        };
        loop {
            let wrong = match stored.item() {
                Ok(Some((key, value))) => self.judge(key, value),
                Ok(None) => return,
                Err(_) => return self.unreadable_certificate(),
            };
            if let Some(finding) = wrong {
                self.records.push(finding);
            }
            stored.advance();
        }
    }

    /// Names the first height at which a certificate cannot be read.
    fn unreadable_certificate(&mut self) {
        let readable = |height: u64| self.copy.get(Family::Certificates, &height_key(Height(height)));
        let first = (0..=self.report.height.get()).find_map(|height| readable(height).err().map(|flaw| (height, flaw)));
        let finding = match first {
            Some((height, flaw)) => {
                Kind::DamagedDatabase.at_height(Height(height), format!("its certificate cannot be read: {flaw}"))
            }
            None => Kind::DamagedDatabase.at(Place::Copy, "certificates cannot be read"),
        };
        self.records.push(finding);
    }

    fn judge(&mut self, key: &[u8], value: &[u8]) -> Option<Finding> {
        let unknown = || Place::Key(format!("certificates/{}", key.escape_ascii()));
        let Ok(height) = decode_height_key(key) else {
            return Some(Kind::WrongCertificate.at(unknown(), "its key is not a height"));
        };
        if height > self.report.height {
            return None; // of a block that is missing or was not reached: `end` speaks of it
        }
        let wrong = |why: String| Some(Kind::WrongCertificate.at_height(height, format!("its certificate: {why}")));
        let certificate: Certificate = match codec::decode(value, MAX_BLOCK_BYTES) {
            Ok(certificate) => certificate,
            Err(error) => return wrong(error.to_string()),
        };
        let Some((_, header)) = self.earlier.header(height) else {
            return wrong("the header cannot be read".to_owned());
        };
        let Some(membership) = self.earlier.membership(header.membership) else {
            return wrong("the membership cannot be read".to_owned());
        };
        if let Err(fault) = certificate::judge(&certificate, &header, &membership) {
            return wrong(fault.to_string());
        }
        self.report.certified = self.report.certified.max(Some(height));
        None
    }

    fn finish(mut self) -> Report {
        // Damage in what nobody needs to read.
        let unsaid = self.chain.is_empty() && self.records.is_empty();
        if let Some(text) = self.copy.damage.as_ref().filter(|_| unsaid) {
            let detail = format!("the database is damaged: {text}");
            self.chain.push(Kind::DamagedDatabase.at(Place::Copy, detail));
        }
        self.chain.append(self.records);
        self.report.findings = self.chain.into_list();
        self.report
    }
}
