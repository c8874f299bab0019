//! Execution by many threads against execution in order: the same effects, byte for byte, whatever is contended.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod model;
mod network;
mod state;

use proptest::prelude::*;
use quipu_ledger::execute::{Crew, execute, execute_by};
use quipu_ledger::operation::{Condition, Operation};
use state::Maps;

use model::{BlockPlan, TransactionPlan};
use network::{delete, put, require};

/// Threads that are made for each job.
struct Threads(usize);

impl Crew for Threads {
    fn worth(&self, _: usize, _: usize) -> bool {
        true
    }

    fn enter<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R {
        lead()
    }

    fn share(&self, job: impl Fn() + Sync) {
        std::thread::scope(|scope| {
            for _ in 1..self.0 {
                scope.spawn(&job);
            }
            job();
        });
    }
}

/// Accounts, the first ones more often.
fn account() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("hot".to_owned()),
        3 => (0_u8..4).prop_map(|number| format!("warm{number}")),
        2 => (0_u8..60).prop_map(|number| format!("cold{number}")),
    ]
}

/// Steps whose outcome depends on all earlier ones of the block that touch the same keys.
fn dependent() -> impl Strategy<Value = Vec<Operation>> {
    let level = |number: u8| number.to_string();
    let count = (account(), 0_u8..3).prop_map(move |(account, number)| {
        // Goes round: one of three such steps fits what the one before left.
        let next = put("default", &account, &level((number + 1) % 3));
        let fits = Condition::Value(level(number).into_bytes());
        vec![require("default", &account, fits), next]
    });
    let begin = account().prop_map(|account| {
        vec![
            require("default", &account, Condition::Absent),
            put("default", &account, "0"),
        ]
    });
    let transfer = (account(), account()).prop_map(|(from, to)| {
        vec![
            require("default", &from, Condition::Present),
            require("default", &to, Condition::Present),
            delete("default", &from),
            put("default", &to, "1"),
            put("default", &from, "2"),
        ]
    });
    let end = account().prop_map(|account| vec![delete("default", &account)]);
    let look = (account(), account()).prop_map(|(read, written)| {
        vec![
            require("default", &read, Condition::Present),
            put("default", &written, "0"),
        ]
    });
    prop_oneof![3 => begin, 4 => count, 3 => transfer, 1 => end, 3 => look]
}

fn transaction() -> impl Strategy<Value = TransactionPlan> {
    let new = (
        dependent(),
        prop_oneof![8 => Just(30_000_i64), 1 => Just(0), 1 => Just(70_000)],
    );
    let new = new.prop_map(|(operations, lifetime_ms)| TransactionPlan::New {
        sender: 0,
        lifetime_ms,
        operations,
    });
    prop_oneof![8 => new, 2 => model::transaction(), 1 => any::<usize>().prop_map(TransactionPlan::Again)]
}

fn plans() -> impl Strategy<Value = Vec<BlockPlan>> {
    let block = (0_u64..3_000, proptest::collection::vec(transaction(), 0..60));
    let block = block.prop_map(|(pause_ms, transactions)| BlockPlan {
        pause_ms,
        opening: false,
        transactions,
    });
    proptest::collection::vec(block, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn many_threads_do_what_one_does(plans in plans(), threads in 1_usize..9) {
        let (membership, blocks) = model::chain(&plans);
        let mut maps = Maps::default();
        for block in &blocks[1..] {
            let expected = execute(&maps, block, &membership).unwrap();
            let found = execute_by(&Threads(threads), &maps, block, &membership).unwrap();
            prop_assert_eq!(&found, &expected);
            maps.take(block, &found);
        }
    }
}
