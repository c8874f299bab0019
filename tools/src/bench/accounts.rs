//! Keeps the state that some workloads need before they begin: accounts for `transfer`, values to read for `mixed`; and
//! one transfer between accounts.
//!
//! Invariants: a transfer is one transaction that requires both accounts to be of the versions that were read, so it
//! moves something exactly once or fails; the sum of all balances never changes, and a run ends with looking.

use std::sync::Arc;
use std::time::Duration;

use quipu_ledger::operation::{Condition, Operation, Version};
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call, Consistency, Entry};
use rand::SeedableRng;
use tokio::task::JoinSet;

use super::Workload;
use super::keys::Chance;
use super::supply::Plan;
use crate::failure::{Exit, Failure};
use crate::session::unexpected;
use crate::tx::settle::{Fate, settle};

/// What each account begins with.
const BALANCE: u64 = 1_000_000;
/// What a transfer moves.
const AMOUNT: u64 = 1;
/// Digits of a balance, before the rest of the value.
const DIGITS: usize = 20;
/// Bytes of values in one transaction that prepares.
const PREPARED_BYTES: usize = 64 * 1024;
/// Transactions that prepare at the same time.
const PREPARING: usize = 16;
/// Seed of values that are there before the run, apart from those of the run.
const PREPARED_SEED: u64 = 0x5eed;

/// Writes every key of the plan once.
pub(super) async fn prepare(client: &Client, plan: &Arc<Plan>, wait: Duration) -> Result<(), Failure> {
    let each = plan.value_bytes.saturating_add(DIGITS).saturating_add(100);
    let together = PREPARED_BYTES.checked_div(each).unwrap_or(1).clamp(1, 256);
    let mut ranks = 0..plan.space.count;
    let mut waiting = JoinSet::new();
    loop {
        let some: Vec<u64> = ranks.by_ref().take(together).collect();
        if some.is_empty() {
            break;
        }
        if waiting.len() >= PREPARING {
            join(&mut waiting).await?;
        }
        let (client, plan) = (client.clone(), Arc::clone(plan));
        waiting.spawn(async move { write(&client, &plan, &some, wait).await });
    }
    while !waiting.is_empty() {
        join(&mut waiting).await?;
    }
    Ok(())
}

async fn join(waiting: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    match waiting.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(Failure::general("internal", error)),
        None => Ok(()),
    }
}

async fn write(client: &Client, plan: &Plan, ranks: &[u64], wait: Duration) -> Result<(), Failure> {
    let first = ranks.first().copied().unwrap_or_default();
    let mut chance = Chance::seed_from_u64(PREPARED_SEED.wrapping_add(first));
    let put = |rank: &u64| {
        let filler = plan.value(&mut chance);
        Operation::Put {
            namespace: plan.namespace.clone(),
            key: plan.space.key(*rank),
            value: match plan.workload {
                Workload::Transfer => value(BALANCE, &filler),
                Workload::Put | Workload::Mixed => filler,
            },
        }
    };
    let signed = plan.signer.sign(ranks.iter().map(put).collect(), Vec::new())?;
    match settle(client, &signed, wait).await? {
        Fate::Executed(receipt) if receipt.outcome == quipu_ledger::result::Outcome::Applied => Ok(()),
        Fate::Executed(receipt) => Err(Failure::general(
            "internal",
            format!("nothing was prepared: {receipt:?}"),
        )),
        Fate::Rejected(rejection) => Err(rejection.into()),
        Fate::Never => Err(Failure::new(Exit::Rejected, "expired", "what prepares the run expired")),
    }
}

/// An account as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    key: Vec<u8>,
    version: Version,
    balance: u64,
    filler: Vec<u8>,
}

impl Account {
    pub(super) fn of(entry: Entry) -> Result<Self, Failure> {
        let balance = balance(&entry.value)?;
        let filler = entry.value.get(DIGITS..).unwrap_or_default().to_vec();
        Ok(Self {
            key: entry.key,
            version: entry.version,
            balance,
            filler,
        })
    }
}

/// The operations that move something from one account to the other, or back where there is nothing left.
pub(super) fn transfer(plan: &Plan, from: Account, to: Account) -> Vec<Operation> {
    let (from, to) = if from.balance < AMOUNT { (to, from) } else { (from, to) };
    let require = |account: &Account| Operation::Require {
        namespace: plan.namespace.clone(),
        key: account.key.clone(),
        condition: Condition::Version(account.version),
    };
    let put = |account: &Account, balance: u64| Operation::Put {
        namespace: plan.namespace.clone(),
        key: account.key.clone(),
        value: value(balance, &account.filler),
    };
    vec![
        require(&from),
        require(&to),
        put(&from, from.balance.saturating_sub(AMOUNT)),
        put(&to, to.balance.saturating_add(AMOUNT)),
    ]
}

/// Signs a transfer between two accounts as they were read.
pub(super) fn sign(plan: &Plan, from: Account, to: Account) -> Result<SignedTransaction, Failure> {
    plan.signer.sign(transfer(plan, from, to), Vec::new())
}

/// Looks at all accounts: their sum is what it was.
pub(super) async fn audit(client: &Client, plan: &Plan, wait: Duration) -> Result<(), Failure> {
    let (mut sum, mut found) = (0_u64, 0_u64);
    let mut after = None;
    loop {
        let call = Call::Scan {
            namespace: plan.namespace.clone(),
            prefix: plan.space.prefix().as_bytes().to_vec(),
            after: after.take(),
            limit: quipu_node::client_protocol::MAX_PAGE_ENTRIES,
            consistency: Consistency::Linearizable,
        };
        let (entries, next) = match client.call(call, wait).await? {
            Answer::Entries { entries, next, .. } => (entries, next),
            Answer::Unavailable(unavailable) => return Err(unavailable.into()),
            other => return Err(unexpected(&other)),
        };
        for entry in &entries {
            sum = sum.saturating_add(balance(&entry.value)?);
            found = found.saturating_add(1);
        }
        if next.is_none() {
            break;
        }
        after = next;
    }
    let expected = plan.space.count.saturating_mul(BALANCE);
    if (found, sum) == (plan.space.count, expected) {
        return Ok(());
    }
    let text = format!(
        "{found} accounts hold {sum}, but {} began with {expected}: transfers were lost or doubled",
        plan.space.count
    );
    Err(Failure::new(Exit::Verification, "not_conserved", text))
}

fn value(balance: u64, filler: &[u8]) -> Vec<u8> {
    let mut value = format!("{balance:0DIGITS$}").into_bytes();
    value.extend_from_slice(filler);
    value
}

fn balance(value: &[u8]) -> Result<u64, Failure> {
    let digits = value.get(..DIGITS).and_then(|digits| str::from_utf8(digits).ok());
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Failure::general("internal", "an account of this run holds no balance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_reads_back_and_what_is_none_does_not() {
        assert_eq!(balance(&value(7, b"rest")).unwrap(), 7);
        assert_eq!(balance(&value(u64::MAX, b"")).unwrap(), u64::MAX);
        assert!(balance(b"7").is_err() && balance(b"no number at all here").is_err());
    }
}
