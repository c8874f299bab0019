//! Keeps the timetable of an open loop: which transaction is due when, and from when its latency counts.
//!
//! Invariant: what is due follows from the rate alone, never from what was answered; so a server that stalls is met by
//! everything that became due meanwhile, each with the whole of its wait (no coordinated omission).

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// So many a second, evenly, from the beginning of the run on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    per_second: u32,
    /// How many in all.
    total: u64,
}

impl Schedule {
    /// `per_second` is at least 1.
    pub(super) fn new(per_second: u32, total: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            total,
        }
    }

    /// When the one with this number is due, counted from the beginning.
    pub(super) fn due(&self, number: u64) -> Duration {
        let nanos = u128::from(number)
            .saturating_mul(NANOS)
            .checked_div(u128::from(self.per_second))
            .unwrap_or_default();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due by `elapsed`; the first is due at once.
    pub(super) fn due_by(&self, elapsed: Duration) -> u64 {
        let whole = elapsed
            .as_nanos()
            .saturating_mul(u128::from(self.per_second))
            .checked_div(NANOS)
            .unwrap_or_default();
        u64::try_from(whole)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
            .min(self.total)
    }

    /// What counts as the latency of the one with this number, answered at `elapsed`.
    pub(super) fn latency(&self, number: u64, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.due(number))
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)] // an overflow is a failed test
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_is_due_in_its_time_and_no_sooner() {
        for rate in [1, 3, 7, 1_000, 20_000, 999_983] {
            let schedule = Schedule::new(rate, 1_000_000);
            assert_eq!(schedule.due(0), Duration::ZERO);
            for number in [1, 2, 10, 12_345, 999_999] {
                let due = schedule.due(number);
                assert!(
                    schedule.due_by(due + Duration::from_nanos(1)) > number,
                    "{number} at {rate}"
                );
                let before = due.saturating_sub(Duration::from_nanos(2));
                assert!(schedule.due_by(before) <= number, "{number} at {rate}");
            }
            assert_eq!(schedule.due_by(Duration::from_secs(10_000_000)), 1_000_000);
        }
    }

    /// A server that answers one after the other, 1 ms each, and does nothing from `stall.0` to `stall.1` (ms); on a
    /// clock that is a number. Answers with the latencies, in ms.
    fn served(schedule: Schedule, most: usize, stall: (u64, u64)) -> Vec<u64> {
        let (mut sent, mut now) = (0, 0_u64);
        let mut due = VecDeque::new();
        let mut server: VecDeque<u64> = VecDeque::new();
        let mut latencies = Vec::new();
        while (latencies.len() as u64) < schedule.total() {
            let elapsed = Duration::from_nanos(now * MS);
            let upto = schedule.due_by(elapsed);
            due.extend(sent..upto);
            sent = upto;
            while server.len() < most
                && let Some(number) = due.pop_front()
            {
                server.push_back(number);
            }
            now += 1;
            let stalled = (stall.0..stall.1).contains(&now);
            if !stalled && let Some(number) = server.pop_front() {
                let latency = schedule.latency(number, Duration::from_nanos(now * MS));
                latencies.push(u64::try_from(latency.as_millis()).unwrap());
            }
        }
        latencies
    }

    #[test]
    fn a_stall_of_a_second_is_in_the_latency_of_everything_that_became_due_in_it() {
        // 100 a second for 5 s; from 2 s to 3 s nothing is answered. Whether 1 or 1,000 may be on their way.
        for most in [1, 16, 1_000] {
            let latencies = served(Schedule::new(100, 500), most, (2_000, 3_000));
            let slow = |least: u64| latencies.iter().filter(|latency| **latency >= least).count();
            assert!((85..=110).contains(&slow(100)), "{most}: {} waited 0.1 s", slow(100));
            assert!(
                (45..=60).contains(&slow(500)),
                "{most}: {} waited half a second",
                slow(500)
            );
            assert!(
                *latencies.iter().max().unwrap() >= 990,
                "the first one waited all of it"
            );
            assert!(
                latencies.iter().filter(|latency| **latency <= 1).count() >= 350,
                "the others did not"
            );
        }
    }
}
