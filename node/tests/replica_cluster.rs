//! Whole replicas in one thread: engine, pool, rules and real stores, joined by queues instead of sockets.
//!
//! What must hold: transactions commit on every node with equal results, a lost leader is replaced and nothing that was
//! acknowledged is lost or doubled, a restarted node catches up.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod cluster;
mod founding;

use std::sync::Arc;

use cluster::{Cluster, Doors};
use founding::{BEGIN_MS, Founding, slot_of};
use quipu_consensus::message::{Append, Message, VoteAnswer, VoteSignature};
use quipu_crypto::id::{BlockId, Height, Slot, Term, TimeMs};
use quipu_ledger::block::{Body, Executed, Items};
use quipu_ledger::result::Outcome;
use quipu_ledger::rules::{self, ChainTip};
use quipu_node::chain_block::{ChainBlock, to_wire};
use quipu_node::client_protocol::Rejection;
use quipu_node::inspect::{Inspector, Known};
use quipu_node::verified::VerifiedMemory;

#[test]
fn a_single_node_orders_executes_and_answers() {
    let mut cluster = Cluster::start(1);
    cluster.run_until_leader();
    let ticket = cluster.put(0, "key", "value");
    cluster.run(200);
    assert_eq!(cluster.receipt(0, ticket).outcome, Outcome::Applied);
    assert_eq!(cluster.value(0, "key").unwrap(), b"value");
}

#[test]
fn three_nodes_execute_the_same_chain_whoever_takes_the_transaction() {
    let mut cluster = Cluster::start(3);
    cluster.run_until_leader();
    let tickets: Vec<_> = (0..30)
        .map(|n| (n % 3, cluster.put(n % 3, &format!("key {n}"), "value")))
        .collect();
    cluster.run(2_000);
    for (node, ticket) in tickets {
        assert_eq!(cluster.receipt(node, ticket).outcome, Outcome::Applied);
    }
    cluster.assert_converged();
}

#[test]
fn a_client_of_a_follower_is_told_at_once_that_the_leader_has_no_room() {
    let mut cluster = Cluster::start(3);
    let follower = (cluster.run_until_leader() + 1) % 3;
    cluster.doors = Doors::Full;
    let refused = cluster.put(follower, "key", "1");
    assert!(
        matches!(cluster.rejection(follower, refused), Some(Rejection::Busy { retry_after_ms }) if *retry_after_ms > 0)
    );
    cluster.doors = Doors::Open;
    let taken = cluster.put(follower, "key", "2");
    cluster.run(500);
    assert_eq!(cluster.receipt(follower, taken).outcome, Outcome::Applied);
    assert_eq!(cluster.value(follower, "key").unwrap(), b"2");
}

#[test]
fn what_was_sent_before_is_not_given_back_when_the_leader_has_no_room_for_it_later() {
    let mut cluster = Cluster::start(3);
    let follower = (cluster.run_until_leader() + 1) % 3;
    cluster.doors = Doors::Deaf;
    let ticket = cluster.put(follower, "key", "value");
    cluster.doors = Doors::Full;
    cluster.run(3_000);
    assert_eq!(
        cluster.rejection(follower, ticket),
        None,
        "the first sending may be in a block"
    );
    cluster.doors = Doors::Open;
    cluster.run(2_000);
    assert_eq!(cluster.receipt(follower, ticket).outcome, Outcome::Applied);
}

#[test]
fn an_idle_leader_names_what_was_executed_and_then_is_quiet() {
    let mut cluster = Cluster::start(3);
    cluster.run_until_leader();
    cluster.put(0, "key", "value");
    cluster.run(2_000);
    let tip = cluster.tip(0);
    let named = cluster.header(0, tip).executed.height;
    assert!(
        named.get() >= 2,
        "the block with the transaction is named as executed: {named}"
    );
    cluster.run(5_000);
    assert_eq!(cluster.tip(0), tip, "an idle leader cuts no more blocks");
}

#[test]
fn what_a_killed_leader_acknowledged_is_on_the_others_and_waiting_clients_are_served_by_the_next() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    let other = (leader + 1) % 3;
    let acknowledged = cluster.put(leader, "acknowledged", "1");
    cluster.run(500);
    cluster.receipt(leader, acknowledged);
    cluster.kill(leader);
    let waiting = cluster.put(other, "waiting", "2");
    cluster.run(4_000);
    assert_eq!(cluster.receipt(other, waiting).outcome, Outcome::Applied);
    assert_eq!(cluster.value(other, "acknowledged").unwrap(), b"1");
    cluster.restart(leader);
    cluster.run(4_000);
    cluster.assert_converged();
    assert_eq!(cluster.value(leader, "waiting").unwrap(), b"2");
}

#[test]
fn a_stopping_leader_whose_order_is_lost_hands_over_to_another() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    let mut others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    others.sort_by_key(|node| cluster.slot(*node));
    // Of two that hold the same the first one gets the order.
    cluster.cut(leader, others[0]);
    cluster.stop(leader);
    cluster.run(1_500);
    assert!(!cluster.leads(leader) && (cluster.leads(others[0]) || cluster.leads(others[1])));
}

#[test]
fn a_node_that_was_away_for_long_catches_up_from_its_peers_blocks() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    let away = (leader + 1) % 3;
    cluster.kill(away);
    for n in 0..200 {
        cluster.put(leader, &format!("key {n}"), "value");
        cluster.run(20);
    }
    cluster.restart(away);
    cluster.run(5_000);
    cluster.assert_converged();
}

#[test]
fn a_linearizable_read_on_any_node_sees_what_was_acknowledged_before() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    for node in 0..3 {
        let ticket = cluster.put(leader, "key", &node.to_string());
        cluster.run(300);
        cluster.receipt(leader, ticket);
        let read = cluster.read(node);
        cluster.run(300);
        assert!(cluster.confirmed(node, read));
        assert_eq!(cluster.value(node, "key").unwrap(), node.to_string().as_bytes());
    }
}

/// Three nodes, ten blocks, and a follower whose executor stands still: its gate holds blocks back.
fn with_a_follower_that_does_not_execute() -> (Cluster, usize, usize, usize) {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    let (slow, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stall_execution(slow);
    for n in 0..10 {
        cluster.put(leader, &format!("key {n}"), "value");
        cluster.run(20);
    }
    (cluster, leader, slow, other)
}

/// The leader dies, the follower executes again, and all come to one chain.
fn the_next_leader_brings_it_up(mut cluster: Cluster, leader: usize, slow: usize, other: usize) {
    cluster.kill(leader);
    cluster.resume_execution(slow);
    let waiting = cluster.put(other, "waiting", "2");
    cluster.run(5_000);
    assert_eq!(cluster.receipt(other, waiting).outcome, Outcome::Applied);
    cluster.assert_converged();
}

#[test]
fn a_follower_that_lost_what_it_held_for_execution_is_brought_up_by_the_next_leader() {
    let (cluster, leader, slow, other) = with_a_follower_that_does_not_execute();
    assert!(cluster.tip(slow) < cluster.tip(other), "the slow one holds blocks back");
    // Its gate forgets what it held of the old leader; what it has looked at, it still knows.
    the_next_leader_brings_it_up(cluster, leader, slow, other);
}

#[test]
fn a_follower_that_looked_at_more_blocks_than_it_remembers_still_knows_where_its_chain_ends() {
    let (mut cluster, leader, slow, other) = with_a_follower_that_does_not_execute();
    cluster.crowd_inspector(slow);
    the_next_leader_brings_it_up(cluster, leader, slow, other);
}

#[test]
fn a_late_vote_for_a_block_that_is_not_known_here_neither_counts_nor_speaks_against_its_voter() {
    let founding = Founding::new(3);
    let genesis = Arc::new(ChainTip::genesis(&founding.genesis.block()).unwrap());
    let verified = Arc::new(VerifiedMemory::default());
    let mut inspector = Inspector::new(Slot(1), verified, Arc::clone(&genesis), std::iter::empty());
    let mut vote = |last| {
        let answer = VoteAnswer {
            term: Term(1),
            round: 1,
            granted: true,
            last,
            signature: VoteSignature(vec![0]),
        };
        inspector.inspect(Slot(2), Message::VoteAnswer(answer))
    };
    let unknown = BlockId {
        height: Height(9),
        ..BlockId::default()
    };
    match vote(unknown) {
        Ok(Message::VoteAnswer(answer)) => assert!(!answer.granted),
        other => panic!("{other:?}"),
    }
    vote(genesis.id()).expect_err("it is signed by nobody");
}

#[test]
fn of_blocks_whose_beginning_is_forgotten_the_last_one_that_is_remembered_is_shown() {
    let founding = Founding::new(3);
    let genesis = Arc::new(ChainTip::genesis(&founding.genesis.block()).unwrap());
    let mut tips = vec![Arc::clone(&genesis)];
    let mut blocks = Vec::new();
    for term in 1..=3 {
        let body = Body {
            items: Items::Votes(Vec::new()),
            certificate: None,
        };
        let tip = tips.last().unwrap();
        let slot = slot_of(&founding.genesis, &founding.keys[0]);
        let time = TimeMs(BEGIN_MS + term);
        let header = tip.next(Term(term), time, slot, Executed::genesis(), &body);
        let block = rules::seal(header, body, &founding.keys[0]).unwrap();
        tips.push(Arc::new(tip.extend(&block).unwrap()));
        blocks.push(ChainBlock::new(block, Arc::clone(tips.last().unwrap())));
    }
    let verified = Arc::new(VerifiedMemory::default());
    let mut inspector = Inspector::new(Slot(1), verified, genesis, std::iter::empty()).remembering(1);
    inspector.appended(Known::of(&blocks[2]).unwrap());
    let append = Message::Append(Append {
        term: Term(3),
        previous: tips[1].id(),
        blocks: blocks[1..].to_vec(),
        commit: tips[1].id(),
        read_token: 0,
        sign_at: Height::ZERO,
    });
    match inspector.inspect(Slot(2), to_wire(append)) {
        Ok(Message::Append(append)) => {
            assert!(append.blocks.is_empty());
            assert_eq!(append.previous, tips[3].id());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_ended_session_that_is_heard_of_late_takes_no_place_from_the_one_that_lives() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.run_until_leader();
    let follower = (leader + 1) % 3;
    cluster.hear_of_an_ended_session(follower, leader);
    let ticket = cluster.put(follower, "key", "value");
    cluster.run(3_000);
    assert_eq!(cluster.receipt(follower, ticket).outcome, Outcome::Applied);
}
