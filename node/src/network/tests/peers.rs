//! Sessions between peers: order, restart, replacement, refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_consensus::input::SessionId;
use quipu_consensus::output::Class;
use quipu_crypto::id::Slot;

use super::{Echo, Node, clock, pair, read_height};
use crate::client_protocol::CloseCode;
use crate::network::{Directory, PeerEvent, encode_frame};
use crate::peer_protocol::{PeerFrame, TransactionBytes};

/// Bytes that begin with a number.
fn numbered(number: u64, length: usize) -> TransactionBytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length, 3);
    TransactionBytes::from(bytes)
}

/// Sends `count` numbered frames of each class and checks that each class arrives in order.
async fn exchange(from: &Node, session: SessionId, to: &mut Node, at: SessionId, count: u64) {
    let peers = from.network.peers();
    let (slot, own) = (to.slot, from.slot);
    let sender = std::thread::spawn(move || {
        for number in 0..count {
            assert!(peers.send(slot, session, Class::Control, encode_frame(&clock(number))));
            assert!(peers.send(slot, session, Class::Log, encode_frame(&read_height(number))));
            let big = PeerFrame::Forward(vec![numbered(number, 20_000)]);
            assert!(peers.send(slot, session, Class::Bulk, encode_frame(&big)));
        }
    });
    let mut next = [0_u64; 3];
    while next != [count; 3] {
        let (class, number) = match to.frame(at).await {
            PeerFrame::Clock { time } => (0, time.0),
            PeerFrame::ReadHeight { number, .. } => (1, number),
            PeerFrame::Forward(items) => (2, u64::from_be_bytes(*items[0].as_slice().first_chunk().unwrap())),
            other => panic!("{other:?} from {own}"),
        };
        assert_eq!(number, next[class], "class {class} in order");
        next[class] += 1;
    }
    sender.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_in_order_for_each_class() {
    let (mut one, first, mut two, second) = pair().await;
    exchange(&one, first, &mut two, second, 300).await;
    exchange(&two, second, &mut one, first, 300).await;
    assert!(
        !one.network
            .peers()
            .send(Slot(2), second, Class::Log, encode_frame(&clock(1))),
        "another session"
    );
    assert!(
        !one.network
            .peers()
            .send(Slot(3), first, Class::Log, encode_frame(&clock(1))),
        "another slot"
    );
}

/// Drops a node as kill -9 would, as far as its peer can tell, and starts it again at the same address.
async fn restart(mut stays: Node, session: SessionId, goes: Node) {
    let (slot, peer) = (goes.slot.0, stays.address());
    let address = goes.kill().await;
    let begun = Instant::now();
    let directory = Directory {
        peers: vec![peer],
        ..Directory::default()
    };
    let mut back = Node::start_at(address, slot, directory, Arc::new(Echo));
    stays.down(session).await;
    let again = stays.up().await;
    assert!(again > session);
    let at = back.up().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
    println!("slot {slot} was back after {:?}", begun.elapsed());
    exchange(&stays, again, &mut back, at, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_acceptor_is_found_again() {
    let (one, first, two, _) = pair().await;
    restart(one, first, two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_dialler_replaces_its_session() {
    let (one, _, two, second) = pair().await;
    restart(two, second, one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_node_reports_down_on_both_sides() {
    let (one, first, mut two, second) = pair().await;
    let mut events = one.stop(CloseCode::Stopping).await;
    two.down(second).await;
    assert!(matches!(events.recv().await, Some(PeerEvent::Down { session, .. }) if session == first));
    drop(two.stop(CloseCode::Stopping).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_fills_bounded_queues_and_loses_no_order() {
    let (one, first, mut two, second) = pair().await;
    let big = |number: u64| encode_frame(&PeerFrame::Forward(vec![numbered(number, 1_000_000)]));
    // Nobody takes the events of node 2: its event queue, its windows and node 1's queue fill, in that order.
    let mut accepted = 0;
    let mut refused_since = None;
    while refused_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(500)) {
        if one.network.peers().send(Slot(2), first, Class::Log, big(accepted)) {
            accepted += 1;
            refused_since = None;
        } else {
            refused_since.get_or_insert_with(Instant::now);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(accepted < 300, "nothing bounds it");
    }
    println!("{accepted} MB on their way when the queue was full");
    for number in 0..accepted {
        let PeerFrame::Forward(items) = two.frame(second).await else {
            panic!("another frame");
        };
        assert_eq!(items[0].as_slice().first_chunk(), Some(&number.to_be_bytes()));
    }
    assert!(
        one.network.peers().send(Slot(2), first, Class::Log, big(accepted)),
        "and on it goes"
    );
    two.frame(second).await;
}

/// A segmented datagram that is longer than UDP carries would be lost whole, again and again, until the session dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_large_frames_on_a_fresh_connection_arrives_both_ways() {
    const BURST: u64 = 12;
    for _ in 0..8 {
        let (mut one, first, mut two, second) = pair().await;
        for number in 0..BURST {
            let big = encode_frame(&PeerFrame::Forward(vec![numbered(number, 600_000)]));
            assert!(one.network.peers().send(Slot(2), first, Class::Log, big.clone()));
            assert!(two.network.peers().send(Slot(1), second, Class::Log, big));
        }
        for (node, session) in [(&mut one, first), (&mut two, second)] {
            for number in 0..BURST {
                let PeerFrame::Forward(items) = node.frame(session).await else {
                    panic!("another frame");
                };
                assert_eq!(items[0].as_slice().first_chunk(), Some(&number.to_be_bytes()));
            }
        }
    }
}
