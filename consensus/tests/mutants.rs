//! Planted bugs: each is the product's rules with one decision changed. The simulator must kill every one.
//!
//! Each mutant stands with the seed of the first 2000 that kills it first and the invariant that breaks, and with the
//! scenario that shows it; the product's rules pass the same seed. `QUIPU_SEARCH=NAME` searches
//! the seeds of those mutants anew; an empty name means all.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)] // a test stops where it fails

mod network;
mod script;

use network::simulate;
use quipu_consensus::block::Configuration;
use quipu_consensus::input::PersistSeq;
use quipu_consensus::output::VoteRecord;
use quipu_consensus::quorum;
use quipu_consensus::raft::{RaftRules, Rules};
use quipu_consensus::simulator::run::Report;
use quipu_crypto::id::{BlockId, Height, Slot, Term};

/// Makes a type for each planted bug, and the table of them all.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident, $seed:literal, $invariant:literal, $scenario:literal: { $($rule:tt)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            struct $name;
            impl Rules for $name { $($rule)* }
        )*

        const MUTANTS: &[Mutant] = &[$(
            Mutant {
                name: stringify!($name),
                seed: $seed,
                invariant: $invariant,
                scenario: $scenario,
                run: |seed| simulate($name, seed, false),
                play: |text| script::play($name, text),
            },
        )*];
    };
}

struct Mutant {
    name: &'static str,
    seed: u64,
    invariant: &'static str,
    /// Begins the name of the scenario that shows it; empty where none does.
    scenario: &'static str,
    run: fn(u64) -> Report,
    play: fn(&str) -> Result<String, String>,
}

mutants! {
    /// P1, P2: nothing waits for its write.
    SendsBeforeSync, 1, "I20", "v02": {
        fn gate(&self, _write: Option<PersistSeq>) -> Option<PersistSeq> { None }
    }
    /// V-3: stepping down within a term frees its vote.
    ForgetsVoteOnStepDown, 1, "I8", "v03": {
        fn step_down(&self, _record: VoteRecord, term: Term) -> VoteRecord {
            VoteRecord { term, voted_for: None }
        }
    }
    /// V-1: the vote of a term may be given again.
    VotesTwice, 3, "I8", "v03": {
        fn vote_is_free(&self, record: VoteRecord, term: Term, _candidate: Slot) -> bool { term >= record.term }
    }
    /// V-4: a candidacy does not use up the own vote.
    ForgetsOwnVote, 1, "I20", "v04": {
        fn candidacy(&self, term: Term, _own: Slot) -> VoteRecord { VoteRecord { term, voted_for: None } }
    }
    /// V-5: answers to an earlier candidacy count.
    CountsOldAnswers, 371, "I3", "v05": {
        fn answers_candidacy(&self, _answered: (Term, u64, BlockId), _asked: (Term, u64, BlockId)) -> bool { true }
    }
    /// V-6: the longer chain wins, whatever its term.
    LongerChainWins, 476, "I3", "v06": {
        fn up_to_date(&self, candidate: BlockId, own: BlockId) -> bool { candidate.height >= own.height }
    }
    /// Anybody may lead.
    AnyChainWins, 1, "I3", "v06": {
        fn up_to_date(&self, _candidate: BlockId, _own: BlockId) -> bool { true }
    }
    /// Half of the voters suffices to win.
    HalfIsEnough, 1, "I3", "v05": {
        fn quorum(&self, configuration: &Configuration, agree: &dyn Fn(Slot) -> bool) -> bool {
            let agreeing = configuration.voters.iter().filter(|voter| agree(**voter)).count();
            agreeing >= configuration.voters.len() / 2
        }
    }
    /// the commit height is one place too high in the sorted list.
    CommitsOneTooFew, 1, "I6", "r01": {
        fn quorum_height(&self, configuration: &Configuration, held: &dyn Fn(Slot) -> Height) -> Height {
            let mut heights: Vec<Height> = configuration.voters.iter().map(|voter| held(*voter)).collect();
            heights.sort_unstable();
            let place = heights.len().div_ceil(2);
            heights.get(place).copied().unwrap_or_else(|| quorum::height(configuration, held))
        }
    }
    /// R-1, figure 8: older blocks are committed by counting.
    CommitsOlderTerms, 7, "I7", "r01": {
        fn commits_by_counting(&self, _block: Term, _own: Term) -> bool { true }
    }
    /// P3: the leader counts itself before its own sync.
    CountsItselfUnsynced, 2, "I6", "p3": {
        fn own_height(&self, _durable: Height, tip: Height) -> Height { tip }
    }
    /// P1: the candidate counts its own vote before its own sync.
    CountsOwnVoteUnsynced, 1176, "I2", "r09": {
        fn own_vote_counts(&self, _durable: bool) -> bool { true }
    }
    /// CCF#6001: acknowledges all it has, not what the message showed.
    AcknowledgesItsTip, 19, "I10", "r03": {
        fn acknowledged(&self, _last: BlockId, tip: BlockId) -> BlockId { tip }
    }
    /// CCF#5927: cuts after `previous` whether anything differs or not.
    CutsWhatMatches, 1, "I10", "r04": {
        fn cut(&self, _first_difference: Option<Height>, previous: Height) -> Option<Height> {
            Some(previous.next())
        }
    }
    /// Takes the leader's commit height for its own chain, shown to be equal or not.
    CommitsUnseen, 10, "I4", "": {
        fn follower_commit(&self, leader_commit: Height, _last: Height, tip: Height) -> Height {
            leader_commit.min(tip)
        }
    }
    /// CCF#5325: a refusal counts as an acknowledgement.
    BelievesRefusals, 1, "I10", "r02": {
        fn matched_after_rejection(&self, matched: Height, tip: Height) -> Height { matched.max(tip) }
    }
    /// answers of an earlier leadership count.
    CountsOldAcknowledgements, 13, "I10", "r07": {
        fn answers_leadership(&self, _answered: Term, _own: Term) -> bool { true }
    }
    /// The consistency check looks at heights only.
    IgnoresThePreviousHash, 1, "I4", "h01": {
        fn same_block(&self, held: BlockId, shown: BlockId) -> bool { held.height == shown.height }
    }
    /// C-1r: a new leader reads before it knows what is committed.
    ReadsTooEarly, 2, "I18", "c01r": {
        fn reads_at(&self, _committed: Term, _own: Term) -> bool { true }
    }
    /// C-2r: a deposed leader answers reads.
    ReadsWithoutRound, 22, "I18", "c02r": {
        fn read_needs_round(&self) -> bool { false }
    }
}

fn search(mutant: &Mutant) {
    for seed in 1..=2000 {
        if let Some(violation) = (mutant.run)(seed).violation {
            println!(
                "{:<26} seed {seed:>4}  {:<4} {}",
                mutant.name, violation.invariant, violation.detail
            );
            return;
        }
    }
    println!("{:<26} survives 2000 seeds", mutant.name);
}

#[test]
fn every_mutant_is_killed_by_its_seed_and_the_product_passes_it() {
    if let Ok(name) = std::env::var("QUIPU_SEARCH") {
        return MUTANTS
            .iter()
            .filter(|mutant| mutant.name.contains(&name))
            .for_each(search);
    }
    for mutant in MUTANTS {
        let Some(violation) = (mutant.run)(mutant.seed).violation else {
            panic!("{} survives seed {}", mutant.name, mutant.seed);
        };
        println!("{:<26} seed {:>4}  {}", mutant.name, mutant.seed, violation.invariant);
        assert_eq!(
            violation.invariant, mutant.invariant,
            "{}: {}",
            mutant.name, violation.detail
        );
        assert_eq!(
            simulate(RaftRules, mutant.seed, false).violation,
            None,
            "the product at seed {}",
            mutant.seed
        );
    }
}

#[test]
fn every_mutant_breaks_its_scenario() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scenarios = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        scenarios.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    for mutant in MUTANTS {
        let broken: Vec<&str> = scenarios
            .iter()
            .filter(|(_, text)| (mutant.play)(text).as_ref() != Ok(text))
            .map(|(name, _)| name.split('_').next().unwrap())
            .collect();
        println!("{:<26} breaks {}", mutant.name, broken.join(" "));
        assert!(
            mutant.scenario.is_empty() || broken.contains(&mutant.scenario),
            "{} survives it",
            mutant.name
        );
    }
}
