//! Keeps what will be sent, ready before it is needed: signed ahead of the clock as far as memory allows, the rest
//! while the run goes on, into a bounded buffer.
//!
//! Invariants: the order of the steps follows from the seed, whoever takes them; a sender that finds nothing ready is
//! counted (an underrun), so a bench that could not keep up says so. Values are random bytes: they do not compress.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::SignedTransaction;
use rand::{Rng, RngExt, SeedableRng};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::Workload;
use super::keys::{Chance, KeySpace};
use crate::failure::Failure;
use crate::tx::sign::Signer;

/// Steps that are drawn and signed together.
const CHUNK: u64 = 1024;
/// What signed transactions may take where nothing else is said, MiB.
pub(super) const MEMORY_MIB: u64 = 512;
/// What a signed transaction takes beside its value, which it holds twice: as it is, and as it is sent.
const BESIDE_VALUE: u64 = 600;

/// What a client does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Sends this.
    Put(Box<SignedTransaction>),
    /// Reads this key.
    Read(Vec<u8>),
    /// Moves something between the accounts of these ranks; signed when their versions are known.
    Transfer { from: u64, to: u64 },
}

/// What is drawn, before it is signed.
enum Wish {
    Put { key: Vec<u8>, value: Vec<u8> },
    Ready(Step),
}

/// What all steps follow from.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) space: KeySpace,
    /// Each transaction writes a key of its own.
    pub(super) fresh: bool,
    pub(super) namespace: Namespace,
    pub(super) value_bytes: usize,
    /// Of a hundred steps of a mixed workload.
    pub(super) reads: u32,
    pub(super) seed: u64,
    pub(super) signer: Signer,
    pub(super) count: u64,
    /// Bytes that may be signed and not sent.
    pub(super) memory: u64,
}

impl Plan {
    /// How many steps are made before the clock starts, and how many chunks may wait while it runs.
    fn ahead(&self) -> (u64, usize) {
        let value = u64::try_from(self.value_bytes).unwrap_or(u64::MAX);
        let each = value.saturating_mul(2).saturating_add(BESIDE_VALUE);
        let fit = self.memory.checked_div(each).unwrap_or(CHUNK);
        if self.count <= fit {
            return (self.count, 1);
        }
        // Half for what is signed ahead, half for what follows: the first half is used up while the second is filled.
        let chunks = (fit / 2).div_ceil(CHUNK).max(1);
        let waiting = usize::try_from(chunks).unwrap_or(1);
        (chunks.saturating_mul(CHUNK).min(self.count), waiting)
    }

    /// The steps of a chunk, drawn in order.
    fn draw(&self, chunk: u64) -> Vec<Wish> {
        let mut chance = Chance::seed_from_u64(self.seed.wrapping_add(chunk));
        let first = chunk.saturating_mul(CHUNK);
        let last = first.saturating_add(CHUNK).min(self.count);
        (first..last).map(|number| self.wish(number, &mut chance)).collect()
    }

    fn wish(&self, number: u64, chance: &mut Chance) -> Wish {
        if self.workload == Workload::Transfer {
            let from = self.space.draw(chance);
            let drawn = self.space.draw(chance);
            let next = from.saturating_add(1).checked_rem(self.space.count).unwrap_or_default();
            let to = if drawn == from { next } else { drawn };
            return Wish::Ready(Step::Transfer { from, to });
        }
        let key = if self.fresh {
            self.space.fresh(number)
        } else {
            self.space.key(self.space.draw(chance))
        };
        if self.workload == Workload::Mixed && chance.random_range(0..100) < self.reads {
            return Wish::Ready(Step::Read(key));
        }
        let value = self.value(chance);
        Wish::Put { key, value }
    }

    /// A value that does not compress.
    pub(super) fn value(&self, chance: &mut Chance) -> Vec<u8> {
        let mut value = vec![0; self.value_bytes];
        chance.fill_bytes(&mut value);
        value
    }

    fn sign(&self, wish: Wish) -> Result<Step, Failure> {
        match wish {
            Wish::Ready(step) => Ok(step),
            Wish::Put { key, value } => {
                let namespace = self.namespace.clone();
                let put = Operation::Put { namespace, key, value };
                let signed = self.signer.sign(vec![put], Vec::new())?;
                Ok(Step::Put(Box::new(signed)))
            }
        }
    }

    fn chunks(&self) -> u64 {
        self.count.div_ceil(CHUNK)
    }
}

/// How the signing went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signing {
    /// Signed before the clock started.
    pub(super) ahead: u64,
    /// In so long, on all cores.
    pub(super) took: Duration,
    /// How often a sender found nothing ready while the rest was signed.
    pub(super) underruns: u64,
}

/// What is taken from a supply.
pub(super) enum Taken {
    Step(Step),
    /// None is ready yet.
    NotYet,
    /// That was all.
    End,
}

struct Stock {
    current: std::vec::IntoIter<Step>,
    ahead: VecDeque<Vec<Step>>,
    rest: Option<Receiver<Result<Vec<Step>, Failure>>>,
    /// Whether the last sender found nothing.
    dry: bool,
    underruns: u64,
    failed: Option<Failure>,
}

/// The steps of a run; shared by all its senders.
pub(super) struct Supply {
    plan: Arc<Plan>,
    stock: Mutex<Stock>,
    ahead: u64,
    took: Duration,
}

impl Supply {
    /// Signs as much ahead as memory allows, on all cores.
    pub(super) fn prepare(plan: &Arc<Plan>) -> Result<Self, Failure> {
        let begun = Instant::now();
        let (ahead, _) = plan.ahead();
        let chunks = (0..ahead.div_ceil(CHUNK)).into_par_iter();
        let signed = chunks.map(|chunk| plan.draw(chunk).into_iter().map(|wish| plan.sign(wish)).collect());
        let signed = signed.collect::<Result<VecDeque<Vec<Step>>, Failure>>()?;
        let took = begun.elapsed();
        let puts = signed.iter().flatten().filter(|step| matches!(step, Step::Put(_)));
        let ahead = u64::try_from(puts.count()).unwrap_or(u64::MAX);
        Ok(Self {
            plan: Arc::clone(plan),
            stock: Mutex::new(Stock {
                current: Vec::new().into_iter(),
                ahead: signed,
                rest: None,
                dry: false,
                underruns: 0,
                failed: None,
            }),
            ahead,
            took,
        })
    }

    /// Lets a thread sign the rest, if there is one, from now on.
    pub(super) fn go_on(&self) {
        let (ahead, waiting) = self.plan.ahead();
        let first = ahead.div_ceil(CHUNK);
        if first >= self.plan.chunks() {
            return;
        }
        let (sender, receiver) = sync_channel(waiting);
        let plan = Arc::clone(&self.plan);
        thread::spawn(move || sign_rest(&plan, first, &sender));
        self.stock().rest = Some(receiver);
    }

    /// The next step.
    pub(super) fn take(&self) -> Taken {
        let mut stock = self.stock();
        let stock = &mut *stock;
        loop {
            if let Some(step) = stock.current.next() {
                stock.dry = false;
                return Taken::Step(step);
            }
            if let Some(chunk) = stock.ahead.pop_front() {
                stock.current = chunk.into_iter();
                continue;
            }
            match stock.rest.as_ref().map(Receiver::try_recv) {
                Some(Ok(Ok(chunk))) => stock.current = chunk.into_iter(),
                Some(Ok(Err(failure))) => {
                    stock.failed = Some(failure);
                    stock.rest = None;
                }
                Some(Err(TryRecvError::Empty)) => {
                    if !std::mem::replace(&mut stock.dry, true) {
                        stock.underruns = stock.underruns.saturating_add(1);
                    }
                    return Taken::NotYet;
                }
                Some(Err(TryRecvError::Disconnected)) | None => return Taken::End,
            }
        }
    }

    /// How it went; an error where signing failed.
    pub(super) fn signing(&self) -> Result<Signing, Failure> {
        let stock = self.stock();
        match &stock.failed {
            Some(failure) => Err(failure.clone()),
            None => Ok(Signing {
                ahead: self.ahead,
                took: self.took,
                underruns: stock.underruns,
            }),
        }
    }

    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs what follows on one thread, as long as somebody takes it: the cores belong to what is measured.
fn sign_rest(plan: &Plan, first: u64, rest: &SyncSender<Result<Vec<Step>, Failure>>) {
    for chunk in first..plan.chunks() {
        let signed = plan.draw(chunk).into_iter().map(|wish| plan.sign(wish)).collect();
        if rest.send(signed).is_err() {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use quipu_crypto::key::SecretKey;

    use super::super::keys::Keys;
    use super::*;

    /// A plan with a network of its own.
    pub(crate) fn plan(workload: Workload, count: u64, value_bytes: usize) -> Plan {
        let keys = if workload == Workload::Put {
            Keys::Fresh
        } else {
            Keys::Zipf
        };
        Plan {
            workload,
            space: KeySpace::new("bench/".to_owned(), keys, 100, 0.99).unwrap(),
            fresh: workload == Workload::Put,
            namespace: Namespace::new("default").unwrap(),
            value_bytes,
            reads: 30,
            seed: 1,
            signer: Signer::with(
                Default::default(),
                SecretKey::from_seed([1; 32]),
                Duration::from_secs(60),
            ),
            count,
            memory: MEMORY_MIB * 1024 * 1024,
        }
    }

    fn drain(supply: &Supply) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            match supply.take() {
                Taken::Step(step) => steps.push(step),
                Taken::NotYet => thread::sleep(Duration::from_millis(1)),
                Taken::End => return steps,
            }
        }
    }

    #[test]
    fn what_is_signed_ahead_fits_into_memory() {
        for (value_bytes, wanted, ahead) in [
            (200, 300_000, 300_000),
            (200_000, 300_000, 1_024),
            (0, 4_000_000, 447_488),
        ] {
            assert_eq!(
                plan(Workload::Put, wanted, value_bytes).ahead().0,
                ahead,
                "{value_bytes}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_signed_while_the_rest_is_taken_and_all_of_it_comes_once() {
        let all = plan(Workload::Put, 3 * CHUNK + 5, 8);
        let plan = Arc::new(Plan {
            memory: 1,
            ..all.clone()
        });
        assert_eq!(plan.ahead(), (CHUNK, 1), "one chunk at least");
        let plan = Arc::new(Plan {
            memory: 2 * CHUNK * 616,
            ..all.clone()
        });
        assert_eq!(plan.ahead(), (CHUNK, 1));
        let supply = Supply::prepare(&plan).unwrap();
        assert_eq!(supply.signing().unwrap().ahead, CHUNK);
        supply.go_on();
        let mut ids: Vec<_> = drain(&supply)
            .into_iter()
            .map(|step| match step {
                Step::Put(signed) => signed.id(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids.len() as u64, plan.count);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len() as u64, plan.count);
    }

    #[test]
    fn a_sender_that_finds_nothing_is_counted_once_until_something_comes() {
        let supply = Supply::prepare(&Arc::new(plan(Workload::Transfer, 10, 8))).unwrap();
        let (sender, receiver) = sync_channel(4);
        supply.stock().rest = Some(receiver);
        let ahead = std::iter::from_fn(|| match supply.take() {
            Taken::Step(step) => Some(step),
            Taken::NotYet | Taken::End => None,
        });
        assert_eq!(ahead.count(), 10);
        assert!(matches!(supply.take(), Taken::NotYet));
        assert_eq!(
            supply.signing().unwrap().underruns,
            1,
            "the second asking is the same dry spell"
        );
        sender.send(Ok(vec![Step::Read(vec![1])])).unwrap();
        assert!(matches!(supply.take(), Taken::Step(Step::Read(_))));
        assert!(matches!(supply.take(), Taken::NotYet));
        assert_eq!(supply.signing().unwrap().underruns, 2);
        drop(sender);
        assert!(matches!(supply.take(), Taken::End));
    }

    #[test]
    fn a_mixed_workload_reads_as_often_as_it_should_and_a_transfer_has_two_accounts() {
        let steps = drain(&Supply::prepare(&Arc::new(plan(Workload::Mixed, 10_000, 8))).unwrap());
        let reads = steps.iter().filter(|step| matches!(step, Step::Read(_))).count();
        assert!((2_700..3_300).contains(&reads), "{reads} of 10000, 30 % wanted");
        for step in drain(&Supply::prepare(&Arc::new(plan(Workload::Transfer, 5_000, 8))).unwrap()) {
            let Step::Transfer { from, to } = step else {
                panic!("{step:?}")
            };
            assert!(from != to && from < 100 && to < 100, "{from} to {to}");
        }
    }
}
