//! The admitter at the door of a real store: a peer that forwards what its sender has not signed loses its lanes.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod founding;

use std::sync::Arc;

use founding::{BEGIN_MS, Founding, slot_of};
use quipu_consensus::input::SessionId;
use quipu_crypto::id::{Slot, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::store::Store;
use quipu_ledger::transaction::{SignedTransaction, TransactionBody};
use quipu_node::admit::Admitter;
use quipu_node::client_protocol::{ClockStatus, DiskStatus, NodeStatus};
use quipu_node::clock;
use quipu_node::door::Door;
use quipu_node::limits::{ADMISSION_BATCH, ADMISSION_ROOM};
use quipu_node::run::RunEvent;
use quipu_node::stages::Stages;
use quipu_node::status::SharedStatus;
use quipu_node::verified::VerifiedMemory;

fn signed(founding: &Founding, sender: &SecretKey, nonce: u8) -> SignedTransaction {
    let body = TransactionBody {
        version: 1,
        network: founding.genesis.network_id(),
        sender: sender.public(),
        nonce: [nonce; 16],
        expires_at: TimeMs(clock::wall().get().max(BEGIN_MS) + 60_000),
        operations: vec![Operation::Put {
            namespace: Namespace::new("default").unwrap(),
            key: b"key".to_vec(),
            value: b"value".to_vec(),
        }],
        memo: Vec::new(),
    };
    SignedTransaction::sign(body, sender).unwrap()
}

fn status(founding: &Founding) -> NodeStatus {
    NodeStatus {
        network: founding.genesis.network_id(),
        slot: slot_of(&founding.genesis, &founding.keys[0]),
        name: "node1".to_owned(),
        role: "leader".to_owned(),
        term: Default::default(),
        leader: None,
        tip: Default::default(),
        commit: Default::default(),
        executed: Default::default(),
        waiting: 0,
        version: String::new(),
        disk: DiskStatus::default(),
        clock: ClockStatus::default(),
    }
}

#[test]
fn a_peer_that_forwards_what_its_sender_has_not_signed_speaks_for_nobody_any_more() {
    let founding = Founding::new(1);
    let dir = tempfile::tempdir().unwrap();
    let membership = Arc::new(founding.genesis.membership().clone());
    let (id, block) = (founding.genesis.network_id(), founding.genesis.block());
    let store = Store::create(&dir.path().join("data"), id, &block, membership.nodes[0].incarnation).unwrap();
    let (events, admitted) = crossbeam_channel::bounded(2 * ADMISSION_BATCH);
    let admitter = Admitter {
        store,
        membership: Arc::clone(&membership),
        status: Arc::new(SharedStatus::new(status(&founding), TimeMs(BEGIN_MS))),
        verified: Arc::new(VerifiedMemory::default()),
        events,
        stages: Arc::new(Stages::default()),
    };
    let (door, inside) = Door::new(membership);
    let (liar, honest) = (Slot(2), Slot(3));
    let forward = |peer, transaction: &[u8], count| {
        let transactions = vec![transaction.to_vec().into(); count];
        door.forwarded(peer, SessionId(1), transactions).len()
    };
    let sound = signed(&founding, &founding.client, 1).bytes().to_vec();
    let mut forged = sound.clone();
    *forged.last_mut().unwrap() ^= 1;

    assert_eq!(forward(honest, &sound, 1), 0);
    assert_eq!(forward(liar, &forged, 1), 0);
    assert!(admitter.serve(&inside));
    assert!(
        matches!(admitted.try_recv(), Ok(RunEvent::Submit { .. })),
        "what is sound comes in"
    );
    assert!(admitted.is_empty(), "and nothing else");

    let stranger = signed(&founding, &SecretKey::from_seed([99; 32]), 2).bytes().to_vec();
    for (peer, lanes) in [(honest, 2), (liar, 1)] {
        let refused = forward(peer, &sound, ADMISSION_ROOM.items);
        assert!(refused > 0);
        let more = forward(peer, &stranger, 1);
        assert_eq!(more, 2 - lanes, "{peer} has {lanes} lanes");
    }
}
