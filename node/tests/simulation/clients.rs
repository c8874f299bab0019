//! Keeps the clients: what they sign, whom they send it to, when they lose patience, and what they were told.
//!
//! Invariant: clients live outside of every process. One whose node dies asks another; one that waits for long asks
//! another as well, so the same transaction comes in at several nodes; every call is answered in the end.

use std::collections::BTreeMap;
use std::rc::Rc;

use quipu_consensus::input::Entropy;
use quipu_consensus::simulator::checkers::Verdict;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{BlockId, Height, Slot, Term, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_ledger::operation::{Condition, Namespace, Operation};
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_node::client_protocol::{Answer, Rejection};

use crate::founding::{BEGIN_MS, Founding, slot_of};
use crate::record::{Record, violation};

/// How long a call may wait in a network in which nothing goes wrong.
const PATIENCE_MS: u64 = 4_000;
/// How many blocks later at most a height is named as executed where nothing goes wrong.
const NAMED_WITHIN: u64 = 20;
/// How often impatient clients are looked for.
const LOOK_MS: u64 = 40;

/// What a client expects of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// To be executed, or to be told that it came too late.
    Sound,
    /// To be refused at the door.
    Unsound,
}

/// A transaction and where it stands with its client.
struct Request {
    bytes: Vec<u8>,
    transaction: SignedTransaction,
    wish: Wish,
    /// Calls under way.
    calls: u64,
    /// When the client tries once more.
    again_at: u64,
    settled: bool,
}

/// A call under way.
struct Call {
    slot: Slot,
    since: u64,
    /// None for a read.
    request: Option<u64>,
}

/// Something that a client sends to a node.
pub(crate) struct Delivery {
    pub(crate) call: u64,
    pub(crate) bytes: Vec<u8>,
}

/// All clients, the true time, and the record of what they were told.
pub(crate) struct Clients {
    founding: Rc<Founding>,
    pub(crate) now: u64,
    pub(crate) healed: bool,
    random: Random,
    pub(crate) slots: Vec<Slot>,
    requests: BTreeMap<u64, Request>,
    calls: BTreeMap<u64, Call>,
    given: u64,
    looked: u64,
    inboxes: BTreeMap<Slot, Vec<Delivery>>,
    /// When each node last did anything.
    seen: BTreeMap<Slot, u64>,
    pub(crate) record: Record,
    pub(crate) answers: u64,
    pub(crate) refusals: u64,
}

impl Clients {
    pub(crate) fn new(founding: Rc<Founding>, random: Random) -> Self {
        let slots = founding
            .keys
            .iter()
            .map(|key| slot_of(&founding.genesis, key))
            .collect();
        Self {
            founding,
            now: 0,
            healed: false,
            random,
            slots,
            requests: BTreeMap::new(),
            calls: BTreeMap::new(),
            given: 0,
            looked: 0,
            inboxes: BTreeMap::new(),
            seen: BTreeMap::new(),
            record: Record::default(),
            answers: 0,
            refusals: 0,
        }
    }

    /// A process of this node begins: whoever waited for the one before hears that it is gone.
    pub(crate) fn started(&mut self, slot: Slot) {
        self.inboxes.remove(&slot);
        let lost: Vec<u64> = self.of(slot).collect();
        lost.iter().for_each(|call| self.end(*call));
    }

    /// A process of this node does something.
    pub(crate) fn seen(&mut self, slot: Slot) {
        self.seen.insert(slot, self.now);
    }

    /// What came in for this node.
    pub(crate) fn deliveries(&mut self, slot: Slot) -> Vec<Delivery> {
        self.inboxes.remove(&slot).unwrap_or_default()
    }

    /// A client signs a transaction and sends it: mostly to `slot`, sometimes to others, or to several.
    pub(crate) fn wish(&mut self, request: u64, slot: Slot) {
        let (transaction, bytes, wish) = self.sign(request);
        let again_at = self.now + self.random.between(300, 3_000);
        self.requests.insert(
            request,
            Request {
                bytes,
                transaction,
                wish,
                calls: 0,
                again_at,
                settled: false,
            },
        );
        let first = if self.random.chance(500) { slot } else { self.any_slot() };
        self.send(request, first);
        while self.random.chance(120) {
            let other = self.any_slot();
            self.send(request, other);
        }
    }

    /// A client begins to read at a node.
    pub(crate) fn read(&mut self, slot: Slot) -> u64 {
        self.call(slot, None)
    }

    /// Time passes: the impatient and those whose node died ask again, elsewhere.
    pub(crate) fn clock(&mut self, now: u64, healed: bool) {
        self.now = now;
        self.healed = healed;
        if now < self.looked + LOOK_MS {
            return;
        }
        self.looked = now;
        let due = |request: &Request| now >= request.again_at;
        let again: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| due(request))
            .map(|(number, _)| *number)
            .collect();
        for number in again {
            let wait = self.random.between(500, 4_000);
            let Some(request) = self.requests.get_mut(&number) else {
                continue;
            };
            if request.settled && request.calls == 0 {
                // One that has its answer and asks again now and then gets the same answer.
                self.requests.remove(&number);
                continue;
            }
            request.again_at = now + wait;
            if request.calls < 4 {
                let slot = self.any_slot();
                self.send(number, slot);
            }
        }
    }

    /// A call is answered.
    pub(crate) fn answer(&mut self, slot: Slot, call: u64, answer: &Answer) -> Verdict {
        let Some(request) = self.calls.get(&call).and_then(|call| call.request) else {
            return violation(
                "answer",
                format!("{slot} answers call {call}, which nobody waits for: {answer:?}"),
            );
        };
        self.end(call);
        let again_at = self.now + self.random.between(30, 400);
        let found = self.requests.get_mut(&request).unwrap();
        match answer {
            Answer::Executed(receipt) if found.wish == Wish::Sound => {
                self.answers += 1;
                self.settle(request);
                self.record.answered(slot, receipt)
            }
            Answer::Rejected(Rejection::Expired { .. }) => {
                self.refusals += 1;
                self.settle(request);
                Ok(())
            }
            Answer::Rejected(Rejection::Busy { .. }) | Answer::Pending => {
                found.again_at = found.again_at.min(again_at);
                Ok(())
            }
            Answer::Rejected(Rejection::UnknownMember | Rejection::BadSignature | Rejection::Malformed(_))
                if found.wish == Wish::Unsound =>
            {
                self.refusals += 1;
                self.settle(request);
                Ok(())
            }
            other => violation("answer", format!("{slot} answers {other:?} to {:?}", found.wish)),
        }
    }

    /// A replica tells a client that its transaction can never run any more.
    pub(crate) fn refused_for_ever(&mut self, slot: Slot, call: u64) -> Verdict {
        let request = self.calls.get(&call).and_then(|call| call.request);
        let id = request
            .and_then(|request| self.requests.get(&request))
            .map(|request| request.transaction.id());
        id.map_or(Ok(()), |id| self.record.refused_for_ever(slot, id))
    }

    /// Which request a call is for.
    pub(crate) fn request_of_call(&self, call: u64) -> Option<u64> {
        self.calls.get(&call).and_then(|call| call.request)
    }

    /// A read is over, confirmed or not.
    pub(crate) fn read_over(&mut self, slot: Slot, call: u64) -> Verdict {
        if self.calls.get(&call).is_none_or(|call| call.request.is_some()) {
            return violation("answer", format!("{slot} answers read {call}, which nobody waits for"));
        }
        self.end(call);
        Ok(())
    }

    /// When the run is over: nobody waits for long at a node that lives, and nobody has been left behind.
    pub(crate) fn at_the_end(&self) -> Verdict {
        let lives = |slot: &Slot| self.seen.get(slot).is_some_and(|seen| seen + 500 > self.now);
        for (number, call) in &self.calls {
            if lives(&call.slot) && call.since + PATIENCE_MS < self.now {
                let (slot, since, what) = (call.slot, call.since, call.request);
                return violation(
                    "answer",
                    format!("call {number} ({what:?}) waits at {slot} since {since}"),
                );
            }
        }
        let (named, transactions) = (self.record.named, self.record.transactions);
        if named.plus(NAMED_WITHIN) < transactions {
            return violation(
                "named",
                format!("{transactions} has transactions, only {named} is named as executed"),
            );
        }
        let executed = |slot: &Slot| self.record.executed.get(slot).copied().unwrap_or_default();
        let most = self.slots.iter().map(executed).max().unwrap_or_default();
        match self
            .slots
            .iter()
            .find(|slot| lives(slot) && executed(slot).plus(5) < most)
        {
            Some(slot) => violation("L2", format!("{slot} has executed {}, another {most}", executed(slot))),
            None => Ok(()),
        }
    }

    fn of(&self, slot: Slot) -> impl Iterator<Item = u64> {
        let of_slot = self.calls.iter().filter(move |(_, call)| call.slot == slot);
        of_slot.map(|(number, _)| *number)
    }

    fn any_slot(&mut self) -> Slot {
        let place = self.random.below(self.slots.len() as u64);
        self.slots[place as usize]
    }

    fn call(&mut self, slot: Slot, request: Option<u64>) -> u64 {
        self.given += 1;
        let since = self.now;
        self.calls.insert(self.given, Call { slot, since, request });
        self.given
    }

    fn send(&mut self, request: u64, slot: Slot) {
        let call = self.call(slot, Some(request));
        let found = self.requests.get_mut(&request).unwrap();
        found.calls += 1;
        let bytes = found.bytes.clone();
        self.inboxes.entry(slot).or_default().push(Delivery { call, bytes });
    }

    fn end(&mut self, call: u64) {
        let ended = self.calls.remove(&call).unwrap();
        if let Some(found) = ended.request.and_then(|request| self.requests.get_mut(&request)) {
            found.calls -= 1;
        }
    }

    fn settle(&mut self, request: u64) {
        let (late, wait) = (self.random.chance(150), self.random.between(100, 4_000));
        let found = self.requests.get_mut(&request).unwrap();
        if found.settled {
            return;
        }
        found.settled = true;
        // A few ask once more although they know.
        found.again_at = if late { self.now + wait } else { self.now };
        if late {
            let slot = self.any_slot();
            self.send(request, slot);
        }
    }

    fn sign(&mut self, request: u64) -> (SignedTransaction, Vec<u8>, Wish) {
        let kind = self.random.below(100);
        let key = self.key();
        let value = self.value(kind);
        let put = |key: &[u8], value: Vec<u8>| Operation::Put {
            namespace: namespace(),
            key: key.to_vec(),
            value,
        };
        let operations = match kind {
            0..45 => vec![put(&key, value)],
            45..72 => vec![
                Operation::Require {
                    namespace: namespace(),
                    key: key.clone(),
                    condition: self.condition(),
                },
                put(&key, value.clone()),
                put(&self.key(), value),
            ],
            72..80 => vec![Operation::Delete {
                namespace: namespace(),
                key,
            }],
            _ => vec![put(&key, value), put(&self.key(), vec![1])],
        };
        let now = BEGIN_MS + self.now;
        let expires_at = match kind {
            80..88 => now + self.random.between(30, 2_500),
            88..90 => now - self.random.between(0, 5_000),
            _ => now + 60_000,
        };
        let stranger = SecretKey::from_seed([99; 32]);
        let sender = if kind == 90 { &stranger } else { &self.founding.client };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&request.to_le_bytes());
        let body = TransactionBody {
            version: 1,
            network: self.founding.genesis.network_id(),
            sender: sender.public(),
            nonce,
            expires_at: TimeMs(expires_at),
            operations,
            memo: Vec::new(),
        };
        let transaction = SignedTransaction::sign(body, sender).unwrap();
        let mut bytes = transaction.bytes().to_vec();
        if kind == 91 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        let wish = if kind == 90 || kind == 91 {
            Wish::Unsound
        } else {
            Wish::Sound
        };
        (transaction, bytes, wish)
    }

    /// Few keys, so that transactions meet.
    fn key(&mut self) -> Vec<u8> {
        format!("key {}", self.random.below(12)).into_bytes()
    }

    /// Few values, so that a required one is often there.
    fn value(&mut self, kind: u64) -> Vec<u8> {
        let length = if kind < 5 { self.random.between(500, 4_000) } else { 1 };
        vec![self.random.below(3) as u8; length as usize]
    }

    fn condition(&mut self) -> Condition {
        match self.random.below(4) {
            0 => Condition::Absent,
            1 => Condition::Present,
            _ => Condition::Value(vec![self.random.below(3) as u8]),
        }
    }
}

fn namespace() -> Namespace {
    Namespace::new("default").unwrap()
}

/// The block of a receipt, for the oracle.
pub(crate) fn block_of(height: Height, hash: quipu_crypto::hash::Hash, term: Term) -> BlockId {
    BlockId { height, term, hash }
}
