//! A client and real nodes on loopback: many calls at a time, failover, refusal, exactly one fate of a submission.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, Slot, TimeMs, TransactionId};
use quipu_crypto::key::PublicKey;
use quipu_ledger::operation::{Namespace, Operation, Version};
use quipu_ledger::result::Outcome;
use quipu_ledger::transaction::{SignedTransaction, TRANSACTION_VERSION, TransactionBody};

use super::{Client, ClientError, ClientSettings, Endpoint};
use crate::client_protocol::{Answer, Call, CloseCode, Receipt, Rejection, Unavailable};
use crate::network::tests::{Echo, Held, Node, key, loopback, network_id};
use crate::network::{CallHandler, Directory};

/// The seed of the member that calls.
const MEMBER: u32 = 100;
const LONG: Duration = Duration::from_secs(10);

fn members() -> Directory {
    Directory {
        peers: vec![],
        members: BTreeSet::from([key(MEMBER).public()]),
    }
}

fn node(slot: u32, calls: Arc<dyn CallHandler>) -> Node {
    Node::start_at(loopback(), slot, members(), calls)
}

fn endpoint(node: &Node) -> Endpoint {
    let peer = node.address();
    Endpoint {
        slot: peer.slot,
        name: format!("node{}", peer.slot),
        address: peer.address,
        key: peer.key,
    }
}

fn client(nodes: &[&Node]) -> Client {
    let endpoints = nodes.iter().map(|node| endpoint(node)).collect();
    Client::new(endpoints, &key(MEMBER), ClientSettings::default()).unwrap()
}

fn numbered(number: u64) -> Call {
    Call::Await { after: Height(number) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_share_a_connection() {
    let node = node(1, Arc::new(Echo));
    let client = client(&[&node]);
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                // `Await` is bounded, so half of them look a transaction up instead.
                let id = TransactionId(Hash::from_bytes([1; 32]));
                let call = Call::Lookup { id, expires_at: None };
                let call = if number % 16 == 0 { numbered(number) } else { call };
                let expected = if number % 16 == 0 {
                    Answer::NotFound { height: Height(number) }
                } else {
                    Answer::Pending
                };
                assert_eq!(client.call(call, LONG).await.unwrap(), expected);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(node.network.clients(), 1);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_told_so_and_gets_no_stream() {
    let node = node(1, Arc::new(Echo));
    let stranger = Client::new(vec![endpoint(&node)], &key(9), ClientSettings::default()).unwrap();
    let begun = Instant::now();
    let error = stranger.call(Call::Status, LONG).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "at once");
    let ClientError::Refused { code, key: shown, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((code, shown), (CloseCode::Stranger, key(9).public()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_elsewhere_when_a_node_is_killed() {
    let (one, two) = (node(1, Arc::new(Echo)), node(2, Arc::new(Echo)));
    let client = client(&[&one, &two]);
    client.call(Call::Status, LONG).await.unwrap();
    assert_eq!((one.network.clients(), two.network.clients()), (1, 0));
    one.kill().await;
    let begun = Instant::now();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(Call::Status, LONG).await.unwrap() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), Answer::Pending);
    }
    println!("100 calls were answered elsewhere after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3));
    let begun = Instant::now();
    client.call(Call::Status, LONG).await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(200),
        "the next call goes to the good node at once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_even_acknowledge_is_left_though_answers_may_take_long() {
    let (one, two) = (node(1, Arc::new(Echo)), node(2, Arc::new(Echo)));
    let settings = ClientSettings {
        request_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        ..ClientSettings::default()
    };
    let client = Client::new(vec![endpoint(&one), endpoint(&two)], &key(MEMBER), settings).unwrap();
    client.call(Call::Status, LONG).await.unwrap();
    one.kill().await;
    let begun = Instant::now();
    client.call(Call::Status, LONG).await.unwrap();
    println!("answered elsewhere after {:?}", begun.elapsed());
    // The end of the connection, which the node's own settings bring, comes after three seconds.
    assert!(begun.elapsed() < Duration::from_millis(2_500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_with_a_call_that_it_acknowledged_is_left() {
    let held: Arc<dyn CallHandler> = Arc::new(Held::default());
    let (one, two) = (node(1, held), node(2, Arc::new(Echo)));
    // Nothing else than the link itself asks whether the node is still there.
    let settings = ClientSettings {
        request_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        keep_alive: Duration::from_secs(60),
        ..ClientSettings::default()
    };
    let client = Client::new(vec![endpoint(&one), endpoint(&two)], &key(MEMBER), settings).unwrap();
    let calling = client.clone();
    let call = tokio::spawn(async move { calling.call(numbered(7), LONG).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!call.is_finished());
    one.kill().await;
    let begun = Instant::now();
    call.await.unwrap();
    println!("answered elsewhere {:?} after the death", begun.elapsed());
    // Its own settings end the connection after three seconds without a word.
    assert!(begun.elapsed() < Duration::from_millis(2_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_swallows_packets_is_left() {
    let hole = std::net::UdpSocket::bind(loopback()).unwrap();
    let two = node(2, Arc::new(Echo));
    let dead = Endpoint {
        slot: Slot(1),
        name: "hole".to_owned(),
        address: hole.local_addr().unwrap().to_string(),
        key: key(1).public(),
    };
    let client = Client::new(vec![dead, endpoint(&two)], &key(MEMBER), ClientSettings::default()).unwrap();
    let begun = Instant::now();
    client.call(Call::Status, LONG).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
    let error = client
        .call_node(Slot(1), Call::Status, Duration::from_millis(1500))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { tried } if tried[0].contains("hole")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_nobody_is_left() {
    let held: Arc<dyn CallHandler> = Arc::new(Held::default());
    let (one, two) = (node(1, held), node(2, Arc::new(Echo)));
    let client = client(&[&one, &two]);
    let begun = Instant::now();
    assert_eq!(client.call(Call::Status, LONG).await.unwrap(), Answer::Pending);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_than_named_is_not_spoken_to() {
    let one = node(1, Arc::new(Echo));
    let wrong = Endpoint {
        key: key(3).public(),
        ..endpoint(&one)
    };
    let client = Client::new(vec![wrong], &key(MEMBER), ClientSettings::default()).unwrap();
    let error = client.call(Call::Status, Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert_eq!(one.network.clients(), 0);
}

/// Answers each submission with the next of a list; the last one stays.
struct Scripted(std::sync::Mutex<Vec<Answer>>);

impl CallHandler for Scripted {
    fn call(&self, _caller: PublicKey, _call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        };
        Box::pin(std::future::ready(answer))
    }
}

fn scripted(slot: u32, answers: Vec<Answer>) -> Node {
    node(slot, Arc::new(Scripted(std::sync::Mutex::new(answers))))
}

fn transaction() -> SignedTransaction {
    let body = TransactionBody {
        version: TRANSACTION_VERSION,
        network: network_id(),
        sender: key(MEMBER).public(),
        nonce: [1; 16],
        expires_at: TimeMs(1),
        operations: vec![Operation::Put {
            namespace: Namespace::new("test").unwrap(),
            key: b"key".to_vec(),
            value: b"value".to_vec(),
        }],
        memo: Vec::new(),
    };
    SignedTransaction::sign(body, &key(MEMBER)).unwrap()
}

fn executed() -> Answer {
    Answer::Executed(Receipt {
        id: transaction().id(),
        version: Version {
            height: Height(3),
            position: 1,
        },
        outcome: Outcome::Applied,
        block: Hash::from_bytes([3; 32]),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_is_repeated_until_its_fate_is_known() {
    let busy = Answer::Rejected(Rejection::Busy { retry_after_ms: 30 });
    let no_leader = Answer::Unavailable(Unavailable::NoLeader);
    let one = scripted(1, vec![busy.clone(), busy, Answer::Pending, no_leader.clone()]);
    let two = scripted(2, vec![no_leader, Answer::Pending, executed()]);
    let client = client(&[&one, &two]);
    assert_eq!(client.submit(&transaction(), LONG).await.unwrap(), executed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_takes_busy_for_an_answer_unless_a_node_may_have_taken_it() {
    for busy in [
        Answer::Rejected(Rejection::Busy { retry_after_ms: 30 }),
        Answer::Unavailable(Unavailable::Busy),
    ] {
        let one = scripted(1, vec![busy.clone(), Answer::Pending, busy.clone(), executed()]);
        let client = client(&[&one]);
        assert_eq!(client.offer(&transaction(), LONG).await.unwrap(), busy);
        assert_eq!(client.offer(&transaction(), LONG).await.unwrap(), executed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_final_only_where_no_other_node_may_have_taken_it() {
    let expired = Rejection::Expired {
        expires_at: TimeMs(1),
        now: TimeMs(2),
    };
    let one = scripted(1, vec![Answer::Rejected(expired.clone())]);
    let answer = client(&[&one]).submit(&transaction(), LONG).await.unwrap();
    assert_eq!(answer, Answer::Rejected(expired.clone()));

    // The first node takes it and is then gone; the second has not heard of it and calls it expired.
    let held = Arc::new(Held::default());
    let calls: Arc<dyn CallHandler> = Arc::<Held>::clone(&held);
    let one = node(1, calls);
    let two = scripted(2, vec![Answer::Rejected(expired.clone())]);
    let client = client(&[&one, &two]);
    let submission = tokio::spawn(async move { client.submit(&transaction(), LONG).await });
    while held.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    one.kill().await;
    match submission.await.unwrap().unwrap_err() {
        ClientError::Unresolved { id, rejection, tried } => {
            assert_eq!(id, transaction().id());
            assert_eq!(rejection.as_deref(), Some(&expired));
            assert_eq!(tried.len(), 2);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_left_is_not_unresolved() {
    let one = node(1, Arc::new(Echo));
    let client = client(&[&one]);
    one.kill().await;
    let error = client
        .submit(&transaction(), Duration::from_millis(300))
        .await
        .unwrap_err();
    let ClientError::Unreachable { tried } = error else {
        panic!("{error:?}");
    };
    assert!(
        tried[0].ends_with("no connection before the time was over"),
        "{tried:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_node_that_is_away_costs_a_fresh_client_a_moment() {
    let (one, two) = (node(1, Arc::new(Echo)), node(2, Arc::new(Echo)));
    let client = client(&[&one, &two]);
    one.kill().await;
    let begun = Instant::now();
    client.call(Call::Status, LONG).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    client.close().await;
}

/// Counts what it answers, so that a measurement is not only the client's word.
#[derive(Default)]
struct Counting(AtomicU64);

impl CallHandler for Counting {
    fn call(&self, _caller: PublicKey, _call: Call) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Answer::Pending))
    }
}

/// CPU time of this process so far, s: unlike a rate it does not depend on who else uses the machine.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let ticks = |index: usize| after_name.split(' ').nth(index).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Makes `each` small calls from each of `window` callers; gives how many a second.
async fn round_trips(client: &Client, window: u32, each: u32) -> f64 {
    let begun = Instant::now();
    let callers: Vec<_> = (0..window)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    assert_eq!(client.call(Call::Status, LONG).await.unwrap(), Answer::Pending);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    f64::from(window * each) / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_calls_are_cheap() {
    let counting = Arc::new(Counting::default());
    let calls: Arc<dyn CallHandler> = Arc::<Counting>::clone(&counting);
    let one = node(1, calls);
    let client = client(&[&one]);
    // QUIPU_MEASURE=20 makes a measurement of it; run it in a process of its own then.
    let times: u32 = std::env::var("QUIPU_MEASURE").map_or(1, |times| times.parse().unwrap());
    for (window, each) in [(1, 1000), (10, 300), (100, 100), (1000, 10), (10_000, 2)] {
        let (cpu, before) = (cpu_seconds(), counting.0.load(Ordering::Relaxed));
        let rate = round_trips(&client, window, each * times).await;
        let (total, served) = (window * each * times, counting.0.load(Ordering::Relaxed) - before);
        let cost = (cpu_seconds() - cpu) / f64::from(total) * 1e6;
        println!("{window} in flight: {rate:.0}/s, {cost:.1} us of CPU a call, {served} served of {total}");
        assert!(served >= u64::from(total), "every call was served");
    }
}
