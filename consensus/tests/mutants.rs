//! The planted bugs: each is killed by its recorded seed and by its scenario; the product's rules pass the same seed.
//!
//! `cargo xtask mutants` searches the seeds anew.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)] // a test stops where it fails

mod network;
mod planted;
mod script;

use planted::{mutants, unseeded};

#[test]
fn every_mutant_is_killed_by_its_seed_and_the_product_passes_it() {
    for mutant in mutants() {
        let Some(violation) = mutant.run(mutant.seed).violation else {
            panic!("{} survives seed {}", mutant.name, mutant.seed);
        };
        println!("{:<28} seed {:>4}  {}", mutant.name, mutant.seed, violation.invariant);
        assert_eq!(
            violation.invariant, mutant.invariant,
            "{}: {}",
            mutant.name, violation.detail
        );
        assert_eq!(
            mutant.run_product(mutant.seed).violation,
            None,
            "the product at seed {}",
            mutant.seed
        );
    }
}

#[test]
fn every_mutant_breaks_its_scenario() {
    let scenarios = script::scenarios();
    for mutant in mutants().chain(unseeded()) {
        let broken = mutant.breaks(&scenarios);
        println!("{:<28} breaks {}", mutant.name, broken.join(" "));
        assert!(
            broken.contains(&mutant.scenario),
            "{} survives {}",
            mutant.name,
            mutant.scenario
        );
    }
}
