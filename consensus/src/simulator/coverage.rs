//! Keeps what the runs have met: every fault by the role of the node that it struck, and rare situations.
//!
//! Invariant: a fault counts when it strikes, not when it is drawn.
//! Leaves the strikes to `strike`, the observation of nodes to the world.

use std::collections::BTreeMap;
use std::fmt;

use super::faults::Fault;
use crate::engine::Role;

/// The roles of a node in the columns of the table; the last one is a node without a process.
const ROLES: [(Option<Role>, &str); 7] = [
    (Some(Role::Waiting), "waiting"),
    (Some(Role::Recovering), "recovering"),
    (Some(Role::Follower), "follower"),
    (Some(Role::PreCandidate), "pre-cand."),
    (Some(Role::Candidate), "candidate"),
    (Some(Role::Leader), "leader"),
    (None, "down"),
];

/// The place of a role in the list of all.
pub(super) fn role_number(role: Role) -> u64 {
    let place = ROLES.iter().position(|(other, _)| *other == Some(role));
    place.and_then(|place| u64::try_from(place).ok()).unwrap_or_default()
}

/// A situation that only some runs meet, and that a test of the protocol must have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// A node cut blocks that it had.
    Truncation,
    /// Blocks of an older term became final through one of the leader's own (figure 8 of the Raft paper).
    OlderTermCommitted,
    /// A node found that it had forgotten something.
    RecoveryEntered,
    /// And it caught up with it.
    RecoveryLeft,
    /// Another node led after the operator had asked for that.
    Transferred,
    /// A leader read old blocks from its store for one who was behind.
    Fetched,
    /// A damaged block was found.
    DamageFound,
    /// A damaged block was replaced by what a peer had.
    Repaired,
    /// Two blocks of one height and term.
    Evidence,
    /// A read was confirmed.
    ReadConfirmed,
    /// A read could not be confirmed any more.
    ReadLost,
    /// A write was acknowledged.
    Acknowledged,
    /// A leader lost its leadership without dying.
    Deposed,
    /// An election ended without a leader.
    SplitVote,
    /// A block larger than a window was committed.
    LargeBlock,
    /// A sound node took what it had lawfully cut for forgotten, and waited with the healed majority in vain.
    HeldBack,
}

impl Sight {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Truncation,
        Self::OlderTermCommitted,
        Self::RecoveryEntered,
        Self::RecoveryLeft,
        Self::Transferred,
        Self::Fetched,
        Self::DamageFound,
        Self::Repaired,
        Self::Evidence,
        Self::ReadConfirmed,
        Self::ReadLost,
        Self::Acknowledged,
        Self::Deposed,
        Self::SplitVote,
        Self::LargeBlock,
        Self::HeldBack,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Truncation => "suffix cut",
            Self::OlderTermCommitted => "older term committed through an own block",
            Self::RecoveryEntered => "recovery entered",
            Self::RecoveryLeft => "recovery left",
            Self::Transferred => "leadership handed over",
            Self::Fetched => "old blocks read from the store",
            Self::DamageFound => "damaged block found",
            Self::Repaired => "damaged block repaired",
            Self::Evidence => "evidence of two blocks in one place",
            Self::ReadConfirmed => "read confirmed",
            Self::ReadLost => "read lost",
            Self::Acknowledged => "write acknowledged",
            Self::Deposed => "leader deposed",
            Self::SplitVote => "election without a winner",
            Self::LargeBlock => "block larger than a window committed",
            Self::HeldBack => "sound node held back by what it had cut",
        }
    }
}

/// What the runs have met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    struck: BTreeMap<Fault, [u64; 7]>,
    sights: BTreeMap<Sight, u64>,
}

impl Coverage {
    /// A fault strikes a node of that role, or one that is down.
    pub fn strike(&mut self, fault: Fault, role: Option<Role>) {
        let counts = self.struck.entry(fault).or_default();
        let place = ROLES.iter().position(|(other, _)| *other == role);
        if let Some(count) = place.and_then(|place| counts.get_mut(place)) {
            *count = count.saturating_add(1);
        }
    }

    /// Something rare was seen.
    pub fn see(&mut self, sight: Sight) {
        let count = self.sights.entry(sight).or_default();
        *count = count.saturating_add(1);
    }

    /// Adds what another run has met.
    pub fn add(&mut self, other: &Self) {
        for (fault, counts) in &other.struck {
            let own = self.struck.entry(*fault).or_default();
            for (own, count) in own.iter_mut().zip(counts) {
                *own = own.saturating_add(*count);
            }
        }
        for (sight, count) in &other.sights {
            let own = self.sights.entry(*sight).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// How often that was seen.
    #[must_use]
    pub fn seen(&self, sight: Sight) -> u64 {
        self.sights.get(&sight).copied().unwrap_or_default()
    }

    /// What can occur and did not: every fault in every role of its node, every sight.
    #[must_use]
    pub fn missing(&self, impossible_sights: &[Sight]) -> Vec<String> {
        let mut missing = Vec::new();
        for fault in Fault::ALL {
            let counts = self.struck.get(fault).copied().unwrap_or_default();
            for ((role, name), count) in ROLES.iter().zip(counts) {
                if count == 0 && can_strike(*fault, *role) {
                    missing.push(format!("{} of a node that is {name}", fault.name()));
                }
            }
        }
        for sight in Sight::ALL {
            if self.seen(*sight) == 0 && !impossible_sights.contains(sight) {
                missing.push(sight.name().to_owned());
            }
        }
        missing
    }
}

/// Whether a fault can strike a node of that role.
#[must_use]
pub const fn can_strike(fault: Fault, role: Option<Role>) -> bool {
    match (fault, role) {
        // These strike what a process does; without one there is nothing to strike.
        (
            Fault::Loss
            | Fault::Duplicate
            | Fault::Replay
            | Fault::Overtake
            | Fault::LongDelay
            | Fault::Clog
            | Fault::SessionEnd
            | Fault::Crash
            | Fault::CrashInWrite
            | Fault::CrashAfterWrite
            | Fault::CrashBeforeSend
            | Fault::Blackout
            | Fault::Pause
            | Fault::LostWrites
            | Fault::TornWrites
            | Fault::WriteError
            | Fault::Jump
            | Fault::Transfer,
            None,
        ) => false,
        _ => true,
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<18}", "struck while")?;
        for (_, name) in ROLES {
            write!(out, "{name:>11}")?;
        }
        writeln!(out)?;
        for fault in Fault::ALL {
            write!(out, "{:<18}", fault.name())?;
            let counts = self.struck.get(fault).copied().unwrap_or_default();
            for ((role, _), count) in ROLES.iter().zip(counts) {
                if count == 0 && !can_strike(*fault, *role) {
                    write!(out, "{:>11}", "-")?;
                } else {
                    write!(out, "{count:>11}")?;
                }
            }
            writeln!(out)?;
        }
        for sight in Sight::ALL {
            writeln!(out, "{:<44}{:>12}", sight.name(), self.seen(*sight))?;
        }
        Ok(())
    }
}
