//! Keeps how long transactions wait for each stage of their way through this node, and how long each stage takes.
//!
//! Invariants: recording is a few atomic additions, never a lock; a time counts once for each transaction that spent
//! it, so what is read is what a transaction meets; counts only ever grow, so two readings can be subtracted.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Buckets of a histogram: the last one holds everything from two minutes on.
pub const BUCKETS: usize = 200;
/// Most stages that an answer names.
pub const MAX_STAGES: usize = 32;
/// Each power of two of microseconds is divided into so many buckets, as a power of two: none is wider than an eighth.
const SUB_BITS: u32 = 3;

/// A histogram of times.
#[derive(Debug)]
pub struct Times {
    count: AtomicU64,
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Times {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Times {
    /// So many spent this time.
    pub fn record(&self, time: Duration, count: u64) {
        if count == 0 {
            return;
        }
        let nanos = nanos(time);
        self.count.fetch_add(count, Ordering::Relaxed);
        self.nanos.fetch_add(nanos.saturating_mul(count), Ordering::Relaxed);
        if let Some(bucket) = self.buckets.get(bucket(nanos / 1_000)) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn read(&self) -> TimesRead {
        let mut buckets: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        while buckets.last() == Some(&0) {
            buckets.pop();
        }
        TimesRead {
            count: self.count.load(Ordering::Relaxed),
            nanos: self.nanos.load(Ordering::Relaxed),
            buckets: Capped(buckets),
        }
    }
}

/// One stage.
#[derive(Debug, Default)]
pub struct StageTimes {
    /// Waited before it.
    pub queue: Times,
    /// Spent in it.
    pub service: Times,
    batches: AtomicU64,
    busy: AtomicU64,
}

impl StageTimes {
    /// The stage has worked since `begun`, on so many transactions at once.
    pub fn served(&self, begun: Instant, count: u64) {
        let took = begun.elapsed();
        self.service.record(took, count);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(nanos(took), Ordering::Relaxed);
    }
}

/// The stages, in the order in which a transaction meets them.
#[derive(Debug, Default)]
pub struct Stages {
    /// Queue: before the door. Service: the checks of a batch, its signatures among them.
    pub admission: StageTimes,
    /// Queue: from admission to the loop. Service: one turn of the loop, for each event in it.
    pub replica: StageTimes,
    /// Queue: in a leader's pool, until it is in a block. One in [`crate::passage::SAMPLE`] is looked at.
    pub pool: StageTimes,
    /// At a follower. Queue: a frame with blocks waits for the inspector. Service: rules and signatures of its blocks.
    pub inspection: StageTimes,
    /// At a follower. Queue: from the inspector until the engine takes the block: the gate of execution.
    pub gate: StageTimes,
    /// Queue: a block waits for the log writer. Service: one synced batch.
    pub log: StageTimes,
    /// Queue: from the appending of a block until this node knows it to be durable here. Service: from then until it is
    /// committed and goes to execution.
    pub order: StageTimes,
    /// Queue: a committed block waits for the executor. Service: its execution.
    pub execution: StageTimes,
    /// Queue: from the end of the execution until the loop answers.
    pub answer: StageTimes,
    /// Service: from the reading of a client's transaction until its answer is ready, all of the above in it.
    pub node: StageTimes,
    /// Queue: a read is being confirmed. Service: it is served from the store.
    pub read: StageTimes,
}

impl Stages {
    /// Everything so far.
    #[must_use]
    pub fn read(&self) -> Capped<StageRead, MAX_STAGES> {
        let all = [
            ("admission", &self.admission),
            ("replica", &self.replica),
            ("pool", &self.pool),
            ("inspection", &self.inspection),
            ("gate", &self.gate),
            ("log", &self.log),
            ("order", &self.order),
            ("execution", &self.execution),
            ("answer", &self.answer),
            ("node", &self.node),
            ("read", &self.read),
        ];
        let read = all.map(|(name, stage)| StageRead {
            name: name.to_owned(),
            queue: stage.queue.read(),
            service: stage.service.read(),
            batches: stage.batches.load(Ordering::Relaxed),
            busy_nanos: stage.busy.load(Ordering::Relaxed),
        });
        Capped(read.into())
    }
}

/// A stage as it is told: counts since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRead {
    /// Which.
    pub name: String,
    /// Waited before it.
    pub queue: TimesRead,
    /// Spent in it.
    pub service: TimesRead,
    /// How often it worked.
    pub batches: u64,
    /// For how long in all.
    pub busy_nanos: u64,
}

/// A histogram as it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimesRead {
    /// How many.
    pub count: u64,
    /// The sum of their times.
    pub nanos: u64,
    /// How many in each bucket of [`bucket`]; empty ones at the end are left out.
    pub buckets: Capped<u64, BUCKETS>,
}

impl TimesRead {
    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let earlier = before.buckets.0.iter().copied().chain(std::iter::repeat(0));
        let added = self.buckets.0.iter().zip(earlier);
        Self {
            count: self.count.saturating_sub(before.count),
            nanos: self.nanos.saturating_sub(before.nanos),
            buckets: Capped(added.map(|(now, before)| now.saturating_sub(before)).collect()),
        }
    }

    /// Microseconds that this share of them did not exceed, within an eighth; 0 where there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let all: u64 = self.buckets.0.iter().fold(0, |sum, count| sum.saturating_add(*count));
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count is about a count"
        )]
        let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0_u64;
        for (index, count) in self.buckets.0.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                return highest(index);
            }
        }
        0
    }

    /// Mean in microseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a measurement")]
        let mean = self.nanos as f64 / self.count.max(1) as f64;
        mean / 1_000.0
    }
}

/// In which bucket so many microseconds are counted.
#[must_use]
pub fn bucket(micros: u64) -> usize {
    let octave = micros.checked_ilog2().unwrap_or(0);
    let Some(shift) = octave.checked_sub(SUB_BITS) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let within = (micros >> shift) & ((1 << SUB_BITS) - 1);
    let first = u64::from(shift).saturating_add(1) << SUB_BITS;
    usize::try_from(first.saturating_add(within)).map_or(BUCKETS, |index| index.min(BUCKETS.saturating_sub(1)))
}

/// The most microseconds that are counted in a bucket.
#[must_use]
pub fn highest(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let per_octave = 1_u64 << SUB_BITS;
    let Some(shift) = (bucket >> SUB_BITS).checked_sub(1) else {
        return bucket;
    };
    let next = per_octave
        .saturating_add(bucket & (per_octave.saturating_sub(1)))
        .saturating_add(1);
    next.checked_shl(u32::try_from(shift).unwrap_or(u32::MAX))
        .map_or(u64::MAX, |next| next.saturating_sub(1))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A list that is refused, while it is read, when it has more than `MAX` entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Capped<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> Default for Capped<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Capped<T, MAX> {
    /// The first `MAX` of these.
    #[must_use]
    pub fn of(mut items: Vec<T>) -> Self {
        items.truncate(MAX);
        Self(items)
    }

    /// The entries.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Capped<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} entries")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = sequence.next_element()? {
                    if items.len() >= MAX {
                        return Err(serde::de::Error::invalid_length(MAX.saturating_add(1), &self));
                    }
                    items.push(item);
                }
                Ok(Capped(items))
            }
        }
        deserializer.deserialize_seq(Items(std::marker::PhantomData))
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers, and an overflow is a failed test"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_at_most_its_highest_and_above_that_of_the_one_before(micros in 0..100_000_000_u64) {
            let bucket = bucket(micros);
            prop_assert!(micros <= highest(bucket));
            prop_assert!(bucket == 0 || micros > highest(bucket - 1));
            prop_assert!(highest(bucket) <= micros + micros / 8 + 1);
        }

        #[test]
        fn quantiles_of_a_difference_are_those_of_what_was_added(
            before in prop::collection::vec(0..10_000_u64, 0..20),
            added in prop::collection::vec(0..10_000_000_u64, 1..200),
            share in 0.01..1.0_f64,
        ) {
            let times = Times::default();
            before.iter().for_each(|micros| times.record(Duration::from_micros(*micros), 3));
            let earlier = times.read();
            added.iter().for_each(|micros| times.record(Duration::from_micros(*micros), 1));
            let since = times.read().since(&earlier);
            prop_assert_eq!(since.count, added.len() as u64);
            let mut sorted = added;
            sorted.sort_unstable();
            let exact = sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1];
            prop_assert_eq!(since.quantile(share), highest(bucket(exact)));
            let mean = sorted.iter().sum::<u64>() as f64 / sorted.len() as f64;
            prop_assert!((since.mean() - mean).abs() < 1.0);
        }
    }

    #[test]
    fn a_list_with_more_than_its_cap_is_refused() {
        for (length, good) in [(0, true), (4, true), (5, false), (6, false), (1_000, false)] {
            let bytes = quipu_ledger::codec::encode(&vec![7_u64; length]);
            let read = quipu_ledger::codec::decode::<Capped<u64, 4>>(&bytes, 10_000);
            assert_eq!(read.is_ok(), good, "{length}");
        }
    }

    #[test]
    fn what_takes_for_ever_is_counted_in_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(
            highest(BUCKETS - 2) > 100_000_000,
            "the others reach to more than 100 s"
        );
    }
}
