//! Keeps what a run comes to: how many ended how, how long they took, and when.
//!
//! Invariant: everything that was begun is counted once: committed, failed, refused, unresolved, or a read.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Longest latency that is told apart from longer ones, microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// Slots in a second of the course of a run.
const SLOTS: u32 = 10;
const SLOT_MS: u128 = 100;
/// Quantiles of a latency curve: each half of what is left is drawn as wide as the half before.
const CURVE: [f64; 20] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999,
    1.0,
];

/// How something ended.
#[derive(Debug)]
pub(super) enum End {
    /// Executed, with effect.
    Applied,
    /// Executed without effect: stands in the chain with this reason.
    Failed(Failure),
    /// Not taken: in no block.
    Refused(Failure),
    /// Nobody knows.
    Unresolved(Failure),
    /// Read.
    Read,
    /// Could not be read.
    Unread(Failure),
}

/// Times in microseconds.
pub(super) type Times = Histogram<u64>;

/// One tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    applied: u64,
    failed: u64,
    refused: u64,
    read: u64,
}

/// The counts of a run.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) committed: u64,
    failed: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    pub(super) unresolved: u64,
    /// Answers *busy* after which a client of a closed loop waited and sent the same again.
    pub(super) busy: u64,
    /// Shortest and longest pause that busy nodes asked for, ms.
    pub(super) hints: Option<(u64, u64)>,
    /// Transactions that were sent again because nobody said what had become of them.
    pub(super) resent: u64,
    pub(super) latency: Times,
    pub(super) reads: u64,
    unread: BTreeMap<String, u64>,
    pub(super) read_latency: Times,
    /// In an open loop: how much later than due it was begun.
    pub(super) lag: Times,
    slots: Vec<Slot>,
    /// The first that went wrong.
    first: Option<Failure>,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        let times = || Histogram::new_with_bounds(1, LONGEST, DIGITS);
        let failed = |error| Failure::general("internal", error);
        Ok(Self {
            committed: 0,
            failed: BTreeMap::new(),
            refused: BTreeMap::new(),
            unresolved: 0,
            busy: 0,
            hints: None,
            resent: 0,
            latency: times().map_err(failed)?,
            reads: 0,
            unread: BTreeMap::new(),
            read_latency: times().map_err(failed)?,
            lag: times().map_err(failed)?,
            slots: Vec::new(),
            first: None,
        })
    }

    /// A busy node asked for this pause.
    pub(super) fn hint(&mut self, ms: u64) {
        let (least, most) = self.hints.unwrap_or((ms, ms));
        self.hints = Some((least.min(ms), most.max(ms)));
    }

    /// Counts what ended at `elapsed` after `latency`. Only what was executed, or read, has a latency.
    pub(super) fn count(&mut self, end: End, elapsed: Duration, latency: Duration) {
        let mut slot = Slot::default();
        let failure = match end {
            End::Applied => {
                add(&mut self.committed);
                add(&mut slot.applied);
                self.latency.saturating_record(micros(latency));
                None
            }
            End::Failed(failure) => {
                add(self.failed.entry(failure.code.to_string()).or_default());
                add(&mut slot.failed);
                self.latency.saturating_record(micros(latency));
                Some(failure)
            }
            End::Refused(failure) => {
                add(self.refused.entry(failure.code.to_string()).or_default());
                add(&mut slot.refused);
                Some(failure)
            }
            End::Unresolved(failure) => {
                add(&mut self.unresolved);
                Some(failure)
            }
            End::Read => {
                add(&mut self.reads);
                add(&mut slot.read);
                self.read_latency.saturating_record(micros(latency));
                None
            }
            End::Unread(failure) => {
                add(self.unread.entry(failure.code.to_string()).or_default());
                Some(failure)
            }
        };
        if let Some(failure) = failure {
            self.first.get_or_insert(failure);
        }
        self.fill(slot, elapsed);
    }

    fn fill(&mut self, with: Slot, elapsed: Duration) {
        let index = usize::try_from(elapsed.as_millis() / SLOT_MS).unwrap_or(usize::MAX);
        // Ten minutes at most, and then the last answers.
        let index = index.min(60 * 60 * 10);
        if self.slots.len() <= index {
            self.slots.resize(index.saturating_add(1), Slot::default());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.applied = slot.applied.saturating_add(with.applied);
            slot.failed = slot.failed.saturating_add(with.failed);
            slot.refused = slot.refused.saturating_add(with.refused);
            slot.read = slot.read.saturating_add(with.read);
        }
    }

    /// Executed, with effect or without.
    pub(super) fn executed(&self) -> u64 {
        self.committed.saturating_add(sum(&self.failed))
    }

    pub(super) fn refused(&self) -> u64 {
        sum(&self.refused)
    }

    /// Counts by reason.
    pub(super) fn reasons(&self) -> Value {
        let texts = |counts: &BTreeMap<String, u64>| -> BTreeMap<String, String> {
            let text = |(reason, count): (&String, &u64)| (reason.clone(), count.to_string());
            counts.iter().map(text).collect()
        };
        json!({"failed": texts(&self.failed), "rejected": texts(&self.refused), "unread": texts(&self.unread)})
    }

    /// What happened in each whole or begun second.
    pub(super) fn seconds(&self) -> Vec<Value> {
        let second = |slots: &[Slot]| {
            let total = |of: fn(&Slot) -> u64| slots.iter().map(of).fold(0_u64, u64::saturating_add);
            json!({
                "committed": total(|slot| slot.applied),
                "failed": total(|slot| slot.failed),
                "rejected": total(|slot| slot.refused),
                "reads": total(|slot| slot.read),
            })
        };
        self.slots
            .chunks(usize::try_from(SLOTS).unwrap_or(1))
            .map(second)
            .collect()
    }

    /// Committed a second in each quarter of the run; none where it was too short to tell.
    pub(super) fn quarters(&self) -> Option<[f64; 4]> {
        // The last slot has only begun.
        let slots = self.slots.split_last().map_or(&[][..], |(_, whole)| whole);
        let length = slots.len().checked_div(4).filter(|length| *length >= 2)?;
        let mut rates = [0.0; 4];
        for (rate, quarter) in rates.iter_mut().zip(slots.chunks_exact(length)) {
            let applied = quarter.iter().fold(0_u64, |sum, slot| sum.saturating_add(slot.applied));
            let slots = u32::try_from(length).map_or(f64::MAX, f64::from);
            *rate = super::float(applied) * f64::from(SLOTS) / slots;
        }
        Some(rates)
    }

    /// A run in which nothing was done, or something is in doubt, is no measurement.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match &self.first {
            Some(first) if self.unresolved > 0 || (self.committed == 0 && self.reads == 0) => Err(first.clone()),
            _ => Ok(()),
        }
    }
}

/// Percentiles in microseconds.
pub(super) fn percentiles(times: &Times) -> Value {
    let at = |quantile: f64| times.value_at_quantile(quantile);
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": times.max()})
}

/// Points of the curve: quantile and microseconds.
pub(super) fn curve(times: &Times) -> Vec<Value> {
    let point = |quantile: &f64| json!([quantile, times.value_at_quantile(*quantile)]);
    if times.is_empty() {
        return Vec::new();
    }
    CURVE.iter().map(point).collect()
}

fn sum(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().copied().fold(0, u64::saturating_add)
}

fn add(count: &mut u64) {
    *count = count.saturating_add(1);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn failure(code: &'static str) -> Failure {
        Failure::new(Exit::Rejected, code, "why")
    }

    #[test]
    fn each_end_is_counted_once_and_only_what_was_executed_has_a_latency() {
        let mut tally = Tally::new().unwrap();
        let at = Duration::from_millis;
        tally.count(End::Applied, at(50), at(10));
        tally.count(End::Failed(failure("requirement_failed")), at(150), at(20));
        tally.count(End::Refused(failure("busy")), at(1_050), at(30));
        tally.count(End::Refused(failure("busy")), at(1_050), at(30));
        tally.count(End::Read, at(1_950), at(1));
        assert_eq!(
            (tally.committed, tally.executed(), tally.refused(), tally.reads),
            (1, 2, 2, 1)
        );
        assert_eq!((tally.latency.len(), tally.read_latency.len()), (2, 1));
        assert!(tally.verdict().is_ok());
        let reasons = json!({
            "failed": {"requirement_failed": "1"}, "rejected": {"busy": "2"}, "unread": {},
        });
        assert_eq!(tally.reasons(), reasons);
        let seconds = json!([
            {"committed": 1, "failed": 1, "reads": 0, "rejected": 0},
            {"committed": 0, "failed": 0, "reads": 1, "rejected": 2},
        ]);
        assert_eq!(json!(tally.seconds()), seconds);
        tally.count(End::Unresolved(failure("unresolved")), at(2_000), at(1));
        assert_eq!(tally.verdict().unwrap_err().code, "requirement_failed");
    }

    #[test]
    fn quarters_show_a_run_that_slows_down() {
        let mut tally = Tally::new().unwrap();
        // 4 s: 40 slots of one each, but two each in the first second.
        for slot in 0..41 {
            for _ in 0..if slot < 10 { 2 } else { 1 } {
                tally.count(End::Applied, Duration::from_millis(slot * 100 + 1), Duration::ZERO);
            }
        }
        assert_eq!(tally.quarters(), Some([20.0, 10.0, 10.0, 10.0]));
    }
}
