//! Keeps the transactions of this node's clients whose fate is not known, oldest first, and who waits for each.
//!
//! Invariants: each transaction is here once, with whoever waits for it; both their number and the bytes are bounded
//! and shared: who signed it holds the transaction and its first place, whoever asks for the same one holds a place of
//! its own. What is sent again goes in the order in which it came. Leaves sending and answering to `answer`.

use std::collections::{BTreeMap, HashMap};

use quipu_consensus::input::Tick;
use quipu_crypto::id::TransactionId;
use quipu_crypto::key::PublicKey;
use quipu_ledger::transaction::VerifiedTransaction;

use super::Ticket;
use crate::fair::Shares;
use crate::limits::{FORWARD_AGAIN_MS, WAITING_ROOM};

/// Somebody who waits, and who holds the place for that.
#[derive(Debug)]
struct Place {
    ticket: Ticket,
    holder: PublicKey,
}

/// A transaction and who waits for it.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) transaction: VerifiedTransaction,
    places: Vec<Place>,
    /// When it last went to the pool or to the leader; none where it goes next.
    sent: Option<Tick>,
    /// How often it went.
    sendings: u32,
}

impl Unsettled {
    /// It goes to the pool or to the leader.
    pub(super) fn goes(&mut self, now: Tick) {
        self.sent = Some(now);
        self.sendings = self.sendings.saturating_add(1);
    }

    /// Whether it goes again now: what was sent should have been heard of.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        self.sent
            .is_none_or(|sent| now.0.saturating_sub(sent.0) >= FORWARD_AGAIN_MS)
    }

    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.places.iter().map(|place| place.ticket)
    }
}

/// The number under which a transaction waits: those that came later have larger ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival(u64);

/// Who waits for which transaction.
#[derive(Debug)]
pub(super) struct Waiting {
    all: BTreeMap<Arrival, Unsettled>,
    /// Invariant: names exactly what is in `all`. Never walked through.
    by_id: HashMap<TransactionId, Arrival>,
    last: Arrival,
    shares: Shares<PublicKey>,
    /// Those to be sent now.
    pub(super) outbox: Vec<Arrival>,
    pub(super) swept: Tick,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            by_id: HashMap::new(),
            last: Arrival::default(),
            shares: Shares::new(WAITING_ROOM),
            outbox: Vec::new(),
            swept: Tick::default(),
        }
    }
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those that wait, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Arrival, &Unsettled)> {
        self.all.iter().map(|(arrival, unsettled)| (*arrival, unsettled))
    }

    pub(super) fn get_mut(&mut self, arrival: Arrival) -> Option<&mut Unsettled> {
        self.all.get_mut(&arrival)
    }

    /// Whether one more may wait for this transaction on behalf of `caller`.
    pub(super) fn has_room(&self, transaction: &VerifiedTransaction, caller: &PublicKey) -> bool {
        if self.by_id.contains_key(&transaction.id()) {
            self.shares.has_room(caller, 0)
        } else {
            let sender = &transaction.body().sender;
            self.shares.has_room(sender, transaction.bytes().len())
        }
    }

    /// One more waits for a transaction that waits already; `false` where there is none.
    pub(super) fn join(&mut self, id: &TransactionId, ticket: Ticket, caller: PublicKey) -> bool {
        let unsettled = self.by_id.get(id).and_then(|arrival| self.all.get_mut(arrival));
        let Some(unsettled) = unsettled else {
            return false;
        };
        unsettled.places.push(Place { ticket, holder: caller });
        self.shares.take(caller, 0);
        true
    }

    /// Somebody waits for a transaction that nobody has waited for.
    pub(super) fn begin(&mut self, transaction: VerifiedTransaction, ticket: Ticket) -> (Arrival, &mut Unsettled) {
        let holder = transaction.body().sender;
        self.shares.take(holder, transaction.bytes().len());
        self.last = Arrival(self.last.0.saturating_add(1));
        self.by_id.insert(transaction.id(), self.last);
        let unsettled = Unsettled {
            transaction,
            places: vec![Place { ticket, holder }],
            sent: None,
            sendings: 0,
        };
        (self.last, self.all.entry(self.last).or_insert(unsettled))
    }

    /// Its fate is known.
    pub(super) fn settle(&mut self, id: &TransactionId) -> Option<Unsettled> {
        let arrival = self.by_id.remove(id)?;
        let unsettled = self.all.remove(&arrival).expect("an id names what waits");
        let mut bytes = unsettled.transaction.bytes().len();
        for place in &unsettled.places {
            self.shares.give_back(&place.holder, bytes);
            bytes = 0;
        }
        Some(unsettled)
    }

    /// There was no room where it went. Settled with that, unless it went elsewhere before, or more than once: then
    /// somebody may have taken it.
    pub(super) fn refuse(&mut self, id: &TransactionId) -> Option<Unsettled> {
        let unsettled = self.by_id.get(id).and_then(|arrival| self.all.get(arrival))?;
        if unsettled.sendings > 1 {
            return None;
        }
        self.settle(id)
    }

    /// Lets everything be sent once more: the leader changed.
    pub(super) fn send_again(&mut self) {
        self.all.values_mut().for_each(|unsettled| unsettled.sent = None);
        self.outbox = self.all.keys().copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use quipu_crypto::id::TimeMs;
    use quipu_crypto::key::SecretKey;
    use quipu_ledger::operation::{Namespace, Operation};
    use quipu_ledger::transaction::{SignedTransaction, TransactionBody};

    use super::*;
    use crate::fair::Room;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn transaction(nonce: u8, bytes: usize) -> VerifiedTransaction {
        let key = key(1);
        let body = TransactionBody {
            version: 1,
            network: Default::default(),
            sender: key.public(),
            nonce: [nonce; 16],
            expires_at: TimeMs(1),
            operations: vec![Operation::Put {
                namespace: Namespace::new("default").unwrap(),
                key: vec![1],
                value: vec![0; bytes],
            }],
            memo: Vec::new(),
        };
        SignedTransaction::sign(body, &key).unwrap().verify().unwrap()
    }

    #[test]
    fn those_who_wait_are_bounded_in_bytes_and_in_number_also_for_one_transaction() {
        let mut waiting = Waiting::default();
        let sender = key(1).public();
        let large = |nonce| transaction(nonce, 200_000);
        let length = large(0).bytes().len();
        let mut begun = Vec::new();
        for next in (0..u8::MAX).map(large) {
            if !waiting.has_room(&next, &sender) {
                break;
            }
            begun.push(next.clone());
            waiting.begin(next, Ticket(0));
        }
        let share = WAITING_ROOM.bytes / 2 / length;
        assert!(
            begun.len().abs_diff(share) <= 1,
            "{} of {share} of one sender",
            begun.len()
        );
        let mut tickets = begun.len();
        while waiting.has_room(&begun[0], &sender) {
            assert!(waiting.join(&begun[0].id(), Ticket(tickets as u64), sender));
            tickets += 1;
        }
        assert_eq!(tickets, WAITING_ROOM.items / 2);
        begun.iter().for_each(|settled| drop(waiting.settle(&settled.id())));
        assert_eq!(waiting.shares.held(), Room::default());
    }

    #[test]
    fn whoever_asks_for_the_transaction_of_another_takes_nothing_of_its_room() {
        let mut waiting = Waiting::default();
        let (sender, other) = (key(1).public(), key(2).public());
        let first = transaction(1, 100);
        waiting.begin(first.clone(), Ticket(0));
        for ticket in 1..=WAITING_ROOM.items as u64 {
            if !waiting.has_room(&first, &other) {
                break;
            }
            assert!(waiting.join(&first.id(), Ticket(ticket), other));
        }
        assert!(!waiting.has_room(&first, &other), "it has its share and no more");
        assert!(waiting.has_room(&transaction(2, 100), &sender));
        let settled = waiting.settle(&first.id()).unwrap();
        assert_eq!(
            settled.tickets().count(),
            WAITING_ROOM.items / 2 + 1,
            "and the first one"
        );
        assert_eq!(waiting.shares.held(), Room::default());
    }

    #[test]
    fn only_what_went_once_is_given_back_where_there_was_no_room() {
        let mut waiting = Waiting::default();
        let (once, twice) = (transaction(1, 10), transaction(2, 10));
        waiting.begin(once.clone(), Ticket(1)).1.goes(Tick(1));
        let unsettled = waiting.begin(twice.clone(), Ticket(2)).1;
        unsettled.goes(Tick(1));
        assert!(!unsettled.is_due(Tick(FORWARD_AGAIN_MS)));
        assert!(unsettled.is_due(Tick(1 + FORWARD_AGAIN_MS)));
        unsettled.goes(Tick(1 + FORWARD_AGAIN_MS));
        assert!(
            waiting.refuse(&twice.id()).is_none(),
            "the first sending may be in a block"
        );
        let refused = waiting.refuse(&once.id()).unwrap();
        assert_eq!(refused.tickets().collect::<Vec<_>>(), [Ticket(1)]);
        assert!(waiting.refuse(&once.id()).is_none(), "it is told once");
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn what_came_first_is_sent_again_first_whatever_its_id() {
        let mut waiting = Waiting::default();
        let came: Vec<_> = (0..40).map(|nonce| transaction(nonce, 10)).collect();
        for (ticket, transaction) in (0..).zip(&came) {
            waiting.begin(transaction.clone(), Ticket(ticket)).1.goes(Tick(1));
        }
        waiting.settle(&came[7].id());
        waiting.send_again();
        let outbox = std::mem::take(&mut waiting.outbox);
        let sent: Vec<_> = outbox
            .into_iter()
            .map(|arrival| waiting.get_mut(arrival).unwrap().transaction.id())
            .collect();
        let left = came.iter().enumerate().filter(|(nonce, _)| *nonce != 7);
        assert_eq!(sent, left.map(|(_, transaction)| transaction.id()).collect::<Vec<_>>());
    }
}
