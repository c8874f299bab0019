//! A client and real nodes on loopback: many calls at a time, failover, refusal, exactly one fate of a submission.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quipu_crypto::hash::Hash;
use quipu_crypto::id::{Height, TransactionId};

use super::{Client, ClientError, ClientSettings, Endpoint};
use crate::client_protocol::{Answer, Call, CloseCode};
use crate::network::CallHandler;
use crate::network::Directory;
use crate::network::tests::{Echo, Node, key, loopback};

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
    assert!(
        matches!(&error, ClientError::Refused { code: CloseCode::Stranger, key: shown, .. } if *shown == key(9).public()),
        "{error:?}"
    );
}
