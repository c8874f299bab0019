//! Keeps which keys a bench writes and reads: each its own, or drawn from a fixed number, evenly or as Zipf says.
//!
//! Invariants: the draws follow from the seed alone; keys that are drawn often do not stand beside each other.

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Zipf};

use crate::failure::Failure;

/// Odd, so that multiplying by it loses nothing: neighbours in rank are far apart as keys.
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keys {
    /// Each its own: the state grows with every transaction.
    Fresh,
    /// Each of --key-count equally often.
    Uniform,
    /// The one of rank n as often as 1 / n^EXPONENT says: a few keys take most of it.
    Zipf,
}

impl Keys {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// The source of chance: small, fast, and the same for the same seed.
pub(super) type Chance = Xoshiro256PlusPlus;

/// The keys of one run.
#[derive(Clone, Debug)]
pub(super) struct KeySpace {
    /// Begins every key: no two runs share one.
    prefix: String,
    pub(super) count: u64,
    zipf: Option<Zipf<f64>>,
}

impl KeySpace {
    /// `count` keys that begin with `prefix`; drawn as `keys` says, of which [`Keys::Fresh`] is no drawing.
    pub(super) fn new(prefix: String, keys: Keys, count: u32, exponent: f64) -> Result<Self, Failure> {
        let zipf = (keys == Keys::Zipf)
            .then(|| Zipf::new(f64::from(count), exponent))
            .transpose()
            .map_err(|error| Failure::usage(format!("--zipf-exponent {exponent}: {error}")))?;
        Ok(Self {
            prefix,
            count: u64::from(count),
            zipf,
        })
    }

    /// Draws a rank below the count; 0 is the most frequent one.
    pub(super) fn draw(&self, chance: &mut Chance) -> u64 {
        match &self.zipf {
            None => chance.random_range(0..self.count.max(1)),
            Some(zipf) => {
                let rank: f64 = zipf.sample(chance);
                // From 1 to the count, which is below 2^32.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a whole number from 1 to the count, as the distribution says"
                )]
                let rank = rank as u64;
                rank.clamp(1, self.count.max(1)).saturating_sub(1)
            }
        }
    }

    /// The key of a rank.
    pub(super) fn key(&self, rank: u64) -> Vec<u8> {
        format!("{}{:016x}", self.prefix, rank.wrapping_mul(SCATTER)).into_bytes()
    }

    /// The key of the transaction with this number, where each has its own: in order, as records come in.
    pub(super) fn fresh(&self, number: u64) -> Vec<u8> {
        format!("{}{number:08}", self.prefix).into_bytes()
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // an overflow is a failed test
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(keys: Keys, count: u32, exponent: f64, seed: u64) -> Vec<u64> {
        let space = KeySpace::new("bench/".to_owned(), keys, count, exponent).unwrap();
        let mut chance = Chance::seed_from_u64(seed);
        let mut times = vec![0_u64; usize::try_from(count).unwrap()];
        for _ in 0..200_000 {
            let rank = usize::try_from(space.draw(&mut chance)).unwrap();
            *times.get_mut(rank).expect("a rank is below the count") += 1;
        }
        times
    }

    #[test]
    #[allow(clippy::cast_precision_loss, clippy::indexing_slicing, reason = "small numbers")]
    fn zipf_draws_rank_one_so_much_more_often_than_rank_ten() {
        for exponent in [0.8, 0.99, 1.2] {
            let times = drawn(Keys::Zipf, 1_000, exponent, 7);
            let found = times[0] as f64 / times[9] as f64;
            let expected = 10_f64.powf(exponent);
            assert!(
                (found / expected - 1.0).abs() < 0.12,
                "exponent {exponent}: rank 1 came {found:.2} times as often as rank 10, not {expected:.2}"
            );
            // The share of the first rank, from the definition.
            let total: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-exponent)).sum();
            let share = times[0] as f64 / 200_000.0;
            assert!(
                (share * total - 1.0).abs() < 0.05,
                "exponent {exponent}: a share of {share}"
            );
        }
    }

    #[test]
    fn uniform_draws_every_rank_about_as_often() {
        let times = drawn(Keys::Uniform, 100, 0.99, 7);
        assert!(
            times.iter().all(|times| (1_700..2_300).contains(times)),
            "2000 each is what is even: {times:?}"
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_and_no_two_ranks_share_a_key() {
        assert_eq!(drawn(Keys::Zipf, 50, 0.99, 1), drawn(Keys::Zipf, 50, 0.99, 1));
        assert_ne!(drawn(Keys::Zipf, 50, 0.99, 1), drawn(Keys::Zipf, 50, 0.99, 2));
        let space = KeySpace::new("bench/".to_owned(), Keys::Uniform, 10_000, 1.0).unwrap();
        let keys: std::collections::HashSet<_> = (0..10_000).map(|rank| space.key(rank)).collect();
        assert_eq!(keys.len(), 10_000);
    }
}
