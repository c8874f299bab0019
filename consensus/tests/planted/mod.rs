//! Keeps the planted bugs: each is the product's rules with one decision changed, the seed that kills it first, the
//! invariant that breaks there, and a scenario that shows it.
//!
//! Invariant: of the seeds from 1 on none before the recorded one kills it, save where that is far beyond 2,000: then a
//! long run has found it, and nobody has looked at all before. `cargo xtask mutants` searches anew.
//! Leaves running them to the test beside it and to `examples/mutants.rs`.

#![allow(dead_code, unreachable_pub)] // each target uses its part

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use quipu_consensus::block::Configuration;
use quipu_consensus::input::{PersistSeq, SessionId};
use quipu_consensus::output::VoteRecord;
use quipu_consensus::raft::{RaftRules, Rules};
use quipu_consensus::simulator::run::{Options, Report};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

use crate::network::{RUN_MS, lasting, simulate_for};
use crate::script;

/// Makes a type for each planted bug, and the table of them.
macro_rules! mutants {
    (
        frail_disks: $frail:literal;
        $($(#[$doc:meta])* $name:ident, $seed:literal, $invariant:literal, $scenario:literal: { $($rule:tt)* })*
    ) => {
        $(
            $(#[$doc])*
            struct $name;
            impl Rules for $name { $($rule)* }
        )*

        pub const MUTANTS: &[Mutant] = &[$(
            Mutant {
                name: stringify!($name),
                frail_disks: $frail,
                seed: $seed,
                invariant: $invariant,
                scenario: $scenario,
                rules: Planted(&$name),
            },
        )*];
    };
}

mod reads;
mod replication;
mod starts;
mod storage;
mod unseeded;
mod votes;

/// A planted bug.
pub struct Mutant {
    pub name: &'static str,
    /// Whether its seeds are run on disks that forget often.
    pub frail_disks: bool,
    /// The first seed that kills it.
    pub seed: u64,
    /// What breaks there.
    pub invariant: &'static str,
    /// Begins the name of a scenario that shows it.
    pub scenario: &'static str,
    rules: Planted,
}

impl Mutant {
    /// Runs the network of `seed` with this bug in every node.
    pub fn run(&self, seed: u64) -> Report {
        self.run_with(self.rules, seed)
    }

    /// Runs the same network with the product's rules.
    pub fn run_product(&self, seed: u64) -> Report {
        self.run_with(RaftRules, seed)
    }

    fn run_with<R: Rules + Clone>(&self, rules: R, seed: u64) -> Report {
        let options = Options {
            frail_disks: self.frail_disks,
            ..lasting(RUN_MS)
        };
        simulate_for(rules, seed, options)
    }

    /// Plays a scenario with this bug in every node.
    pub fn play(&self, text: &str) -> Result<String, String> {
        script::play(self.rules, text)
    }

    /// The scenarios that do not go as they should with this bug, by their numbers.
    pub fn breaks<'a>(&self, scenarios: &'a BTreeMap<String, String>) -> Vec<&'a str> {
        let goes = |text: &String| self.play(text).as_ref() == Ok(text);
        let broken = scenarios.iter().filter(|(_, text)| !goes(text));
        broken.filter_map(|(name, _)| name.split('_').next()).collect()
    }
}

/// Those that a scenario kills, and no seed that is known.
pub fn unseeded() -> impl Iterator<Item = &'static Mutant> {
    unseeded::MUTANTS.iter()
}

/// Those that a seed kills, and a scenario.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    let tables = [
        votes::MUTANTS,
        replication::MUTANTS,
        storage::MUTANTS,
        reads::MUTANTS,
        starts::MUTANTS,
    ];
    tables.into_iter().flatten()
}

/// The rules of a mutant behind one type, so that the engine and the simulator are compiled once for all of them.
#[derive(Clone, Copy)]
pub struct Planted(&'static (dyn Rules + Sync));

/// The product's rules, which note of each mutant whether it would ever have decided otherwise.
#[derive(Clone, Copy)]
struct Compared<'a>(&'a [(&'a Mutant, AtomicBool)]);

/// Those that decide otherwise than the product in the network of `seed`: for the others that run is the product's. All
/// are run on disks of one kind.
pub fn differing<'a>(seed: u64, mutants: &[&'a Mutant]) -> Vec<&'a Mutant> {
    let Some(first) = mutants.first() else {
        return Vec::new();
    };
    let fresh = |mutant: &&'a Mutant| (*mutant, AtomicBool::new(false));
    let compared: Vec<(&Mutant, AtomicBool)> = mutants.iter().map(fresh).collect();
    let product = first.run_with(Compared(&compared), seed).violation;
    assert_eq!(product, None, "the product at seed {seed}");
    let differ = compared
        .into_iter()
        .filter(|(_, differs)| differs.load(Ordering::Relaxed));
    differ.map(|(mutant, _)| mutant).collect()
}

/// Hands every decision on. A rule that is missing here stays the product's, and its mutants survive.
macro_rules! handed_on {
    ($(fn $name:ident(&self $(, $argument:ident: $kind:ty)*) -> $answer:ty;)*) => {
        impl Rules for Planted {
            $(fn $name(&self $(, $argument: $kind)*) -> $answer { self.0.$name($($argument),*) })*
        }

        impl Rules for Compared<'_> {
            $(fn $name(&self $(, $argument: $kind)*) -> $answer {
                let answer = RaftRules.$name($($argument),*);
                for (mutant, differs) in self.0.iter().filter(|(_, differs)| !differs.load(Ordering::Relaxed)) {
                    differs.store(mutant.rules.$name($($argument),*) != answer, Ordering::Relaxed);
                }
                answer
            })*
        }
    };
}

handed_on! {
    fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool;
    fn vote_is_free(&self, record: VoteRecord, term: Term, candidate: Slot) -> bool;
    fn step_down(&self, record: VoteRecord, term: Term) -> VoteRecord;
    fn candidacy(&self, term: Term, own: Slot) -> VoteRecord;
    fn keeps_to_leader(&self, silence_ms: u64, election_min_ms: u64, transfer: bool) -> bool;
    fn asks_before_standing(&self) -> bool;
    fn election_wait(&self, least_ms: u64, drawn_ms: u64) -> u64;
    fn heeds_later_term(&self, seen: Term, own: Term) -> bool;
    fn refusal_names(&self, own: Term, asked: Term) -> Term;
    fn weighed(&self, tip: BlockId, durable: BlockId) -> BlockId;
    fn shuns(&self, suspect: bool) -> bool;
    fn hears_term(&self, asked: Term, near: Term, named_by_most: bool) -> bool;
    fn keeps_leading(&self, answered_by_quorum: bool) -> bool;
    fn obeys_order(&self, ordered: Term, own: Term, by_leader: bool) -> bool;
    fn begins_transfer(&self, one_runs: bool) -> bool;
    fn gives_up_transfer(&self, expired: bool) -> bool;
    fn remembers_targets(&self) -> bool;
    fn answers_candidacy(&self, answered: (Term, u64, BlockId), asked: (Term, u64, BlockId)) -> bool;
    fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool;
    fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height;
    fn gate(&self, vote: Option<PersistSeq>, blocks: Option<PersistSeq>) -> Option<PersistSeq>;
    fn own_vote_counts(&self, durable: bool) -> bool;
    fn proven_after_cut(&self, durable: BlockId, below: BlockId) -> BlockId;
    fn stops_at_failed_write(&self) -> bool;
    fn restored_commit(&self, hint: Height, tip: Height) -> Height;
    fn own_height(&self, durable: Height, tip: Height) -> Height;
    fn commits_by_counting(&self, block: Term, own: Term) -> bool;
    fn raises_commit(&self, learned: Height, commit: Height) -> bool;
    fn is_current(&self, sent: Term, own: Term) -> bool;
    fn contradicts(&self, held: BlockId, shown: BlockId, commit: Height) -> bool;
    fn same_block(&self, held: BlockId, shown: BlockId) -> bool;
    fn acknowledged(&self, last_of_message: BlockId, tip: BlockId) -> BlockId;
    fn cut(&self, first_difference: Option<Height>, previous: Height) -> Option<Height>;
    fn follower_commit(&self, leader_commit: Height, last_of_message: Height, tip: Height) -> Height;
    fn answers_leadership(&self, answered: Term, own: Term) -> bool;
    fn matched_after_rejection(&self, matched: Height, tip: Height) -> Height;
    fn next_after_refusal(&self, hinted: Height, matched: Height) -> Height;
    fn seems_lost(&self, stuck: bool) -> bool;
    fn window(&self, bytes: u64) -> u64;
    fn is_full(&self, uncommitted_bytes: u64, limit: u64) -> bool;
    fn must_open(&self, opened: bool) -> bool;
    fn contacts(&self, due: bool) -> bool;
    fn is_live(&self, live: Option<SessionId>, came: SessionId) -> bool;
    fn reads_at(&self, committed: Term, own: Term) -> bool;
    fn read_needs_round(&self) -> bool;
    fn confirms(&self, echoed: u64, round: u64) -> bool;
    fn echoes(&self, asked: Term, own: Term, takes_part: bool) -> bool;
    fn shows(&self, fits: BlockId, tip: BlockId) -> BlockId;
    fn tells_lost_reads(&self) -> bool;
    fn answers_start(&self, answered: u64, own: u64) -> bool;
    fn has_forgotten(&self, started: bool, voted: bool, accepted: bool) -> bool;
    fn settles(&self, committed: Height, promised: Height) -> bool;
    fn notes_recovery(&self, noted: bool) -> bool;
    fn remembers_all(&self) -> bool;
    fn vouches(&self, takes_part: bool) -> bool;
    fn is_old_start(&self, own: u64, remembered: u64) -> bool;
    fn ends_wait(&self, all: bool, waited: bool, quorum: bool) -> bool;
    fn spent(&self, record: VoteRecord, term: Term, own: Slot) -> VoteRecord;
    fn ends_recovery(&self, later: bool, all: bool, held: bool) -> bool;
    fn asks_again_after_restart(&self) -> bool;
    fn is_wanted(&self, found: BlockId, height: Height, hash: Hash) -> bool;
    fn gives_way(&self, waiting_ms: u64, stall_ms: u64, quorum_gets_on: bool) -> bool;
    fn disk_is_too_slow(&self, behind_ms: u64, window_ms: u64) -> bool;
    fn takes_blocks(&self, may_append: bool) -> bool;
    fn claims_while_it_asks(&self) -> bool;
    fn sends_again_after(&self, patience_ms: u64) -> u64;
    fn has_lost_its_end(&self, noted_is_held: bool) -> bool;
    fn takes_part(&self, waiting: bool, recovering: bool) -> bool;
}
