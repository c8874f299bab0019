//! Keeps what can go wrong in a run, and how much of it: drawn anew by each seed (swarm testing).
//!
//! Invariant: each kind is absent in a good part of the seeds, so that one fault cannot hide what another would show.
//! Source: Groce et al., "Swarm Testing" (ISSTA 2012). Leaves striking to `strike`, counting to `coverage`.

use std::collections::BTreeSet;

use quipu_crypto::id::Slot;

use super::random::Random;
use crate::input::Entropy;

/// How a fault is dosed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dose {
    /// It strikes this many of a thousand messages.
    Messages,
    /// It strikes a node or the network once in about this many ms.
    Period,
    /// It comes with crashes, where there is something to lose.
    Crashes,
}

/// Makes the list of faults and what a seed draws for each.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident, $name:literal, $dose:ident, $present:literal, $low:literal, $high:literal;)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $fault,)* }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// In reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)* }
            }

            /// How it is dosed.
            #[must_use]
            pub const fn dose(self) -> Dose {
                match self { $(Self::$fault => Dose::$dose,)* }
            }

            /// In how many of a thousand seeds it occurs, and then from which amount to which.
            const fn range(self) -> (u64, u64, u64) {
                match self { $(Self::$fault => ($present, $low, $high),)* }
            }
        }
    };
}

faults! {
    /// A message does not arrive.
    Loss, "loss", Messages, 500, 5, 300;
    /// A message arrives twice.
    Duplicate, "duplicate", Messages, 400, 5, 500;
    /// With a message an old one of its link arrives again, be it of a session that has ended.
    Replay, "replay", Messages, 350, 5, 500;
    /// A message arrives before one that left earlier.
    Overtake, "overtake", Messages, 600, 100, 1000;
    /// A message takes up to 5 s.
    LongDelay, "long delay", Messages, 400, 1, 50;
    /// A link keeps what is sent for up to 5 s.
    Clog, "clog", Period, 350, 400, 6000;
    /// The nodes fall into two parts.
    Partition, "partition", Period, 450, 600, 8000;
    /// One part does not hear the other.
    OneWay, "one-way", Period, 350, 600, 8000;
    /// Links are cut by chance, each in its direction.
    Links, "cut links", Period, 350, 600, 8000;
    /// A node's links are stopped one by one, and restored in another order.
    Swizzle, "swizzle", Period, 250, 2000, 12000;
    /// A session ends; each side hears of it soon or never.
    SessionEnd, "session end", Period, 400, 200, 4000;
    /// A process dies.
    Crash, "crash", Period, 600, 400, 8000;
    /// A process dies when a write was asked for and is not done.
    CrashInWrite, "crash in write", Period, 400, 700, 8000;
    /// A process dies when a write is durable and it does not know yet.
    CrashAfterWrite, "crash after write", Period, 400, 700, 8000;
    /// A process dies when it knows that a write is durable and has sent nothing that waited for it.
    CrashBeforeSend, "crash before send", Period, 400, 700, 8000;
    /// All processes die at once.
    Blackout, "blackout", Period, 250, 3000, 20000;
    /// A process stands still for up to 10 s.
    Pause, "pause", Period, 300, 800, 8000;
    /// A crash loses every write that was not synced.
    LostWrites, "lost writes", Crashes, 1000, 500, 500;
    /// A crash leaves a part of the writes that were not synced.
    TornWrites, "torn writes", Crashes, 1000, 1000, 1000;
    /// The directory of a node is emptied.
    Wipe, "wipe", Period, 200, 4000, 20000;
    /// An old copy of a node's directory takes the place of the directory.
    OldCopy, "old copy", Period, 250, 3000, 16000;
    /// A stored block is not what was written.
    Rot, "rot", Period, 250, 1000, 9000;
    /// A block stands in the place of another.
    Misdirected, "misdirected write", Period, 250, 1000, 9000;
    /// Blocks at the end are gone though they were synced.
    LostTail, "lost tail", Period, 250, 2000, 12000;
    /// A write fails.
    WriteError, "write error", Period, 250, 1500, 12000;
    /// There is no room for a time.
    FullDisk, "full disk", Period, 250, 1500, 12000;
    /// A disk takes a hundred times as long for a time.
    SlowDisk, "slow disk", Period, 250, 1500, 12000;
    /// A clock runs faster or slower from now on.
    Skew, "skewed clock", Period, 300, 500, 5000;
    /// A clock jumps ahead.
    Jump, "clock jump", Period, 250, 800, 8000;
    /// The operator wants another leader.
    Transfer, "transfer", Period, 300, 300, 5000;
}

/// Everything that a seed draws before the run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Of each fault, in the order of [`Fault::ALL`]; zero for never.
    amounts: Vec<u64>,
    /// Least delay of a message, ms.
    pub delay_ms: u64,
    /// Further delay, drawn for each message.
    pub jitter_ms: u64,
    /// The longest of the long delays, ms.
    pub tail_ms: u64,
    /// The slowest sync of a sound disk, ms.
    pub sync_ms: u64,
    /// How far a clock may run from the true one, of a thousand.
    pub skew: u64,
    /// Mean time between client requests.
    pub client_ms: u64,
    /// Nodes whose disk may forget what was synced: always a minority, for no Raft outlives the loss of a majority's
    /// disks. Wipes, old copies, lost tails and damaged blocks strike only these.
    pub frail: BTreeSet<Slot>,
}

impl Faults {
    /// What the generator of a seed draws for a network of `voters`.
    pub fn draw(random: &mut Random, voters: &BTreeSet<Slot>) -> Self {
        // Some seeds have nearly every fault, some only two or three.
        let crowd = random.between(300, 1000);
        let amounts = Fault::ALL
            .iter()
            .map(|fault| {
                let (present, low, high) = fault.range();
                let amount = random.between(low, high);
                let present = present.saturating_mul(crowd).checked_div(700).unwrap_or(present);
                if random.chance(present) { amount } else { 0 }
            })
            .collect();
        let minority = voters.len().saturating_sub(1) / 2;
        let mut frail = BTreeSet::new();
        while frail.len() < minority && random.chance(800) {
            let place = random.below(u64::try_from(voters.len()).unwrap_or(0));
            frail.extend(voters.iter().nth(usize::try_from(place).unwrap_or(0)).copied());
        }
        let mut sometimes = |permille: u64, low: u64, high: u64| {
            let value = random.between(low, high);
            if random.chance(permille) { value } else { 0 }
        };
        Self {
            amounts,
            delay_ms: sometimes(700, 1, 15),
            jitter_ms: sometimes(600, 1, 40),
            tail_ms: sometimes(1000, 50, 5000),
            sync_ms: sometimes(800, 1, 60),
            skew: sometimes(1000, 10, 150),
            client_ms: sometimes(1000, 4, 120),
            frail,
        }
    }

    /// The same, where processes die often and the disks of a whole minority forget, again and again: what recovery is
    /// for, and what few seeds meet often enough by chance.
    #[must_use]
    pub fn on_frail_disks(mut self, random: &mut Random, voters: &BTreeSet<Slot>) -> Self {
        let minority = voters.len().saturating_sub(1) / 2;
        self.frail = voters.iter().take(minority).copied().collect();
        for (fault, present, low, high) in [
            (Fault::Crash, 900, 500, 3_000),
            (Fault::CrashInWrite, 700, 700, 4_000),
            (Fault::OldCopy, 900, 1_000, 5_000),
            (Fault::LostTail, 500, 1_500, 8_000),
            (Fault::Wipe, 300, 3_000, 12_000),
        ] {
            let amount = random.between(low, high);
            if random.chance(present) {
                self.set(fault, amount);
            }
        }
        self
    }

    fn set(&mut self, fault: Fault, amount: u64) {
        let place = Fault::ALL.iter().position(|other| *other == fault);
        if let Some(held) = place.and_then(|place| self.amounts.get_mut(place)) {
            *held = amount;
        }
    }

    /// How much of it there is: of a thousand, or a mean time in ms; zero for none.
    #[must_use]
    pub fn amount(&self, fault: Fault) -> u64 {
        let place = Fault::ALL.iter().position(|other| *other == fault);
        place
            .and_then(|place| self.amounts.get(place))
            .copied()
            .unwrap_or_default()
    }

    /// A network in which only time passes: for the phase that demands progress.
    #[must_use]
    pub fn healed(&self) -> Self {
        Self {
            amounts: Vec::new(),
            delay_ms: 2,
            jitter_ms: 3,
            tail_ms: 0,
            sync_ms: 3,
            client_ms: 200,
            ..self.clone()
        }
    }
}
