//! Who is let in, who is not, and what those are told who are not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quipu_consensus::output::Class;
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{NetworkId, Slot};
use rustls::client::Resumption;
use tokio::time::{sleep, timeout};

use super::{Echo, Node, Raw, clock, key, loopback, network_id, pair};
use crate::client_protocol::{
    Answer, CLIENT_ALPN, Call, CloseCode, MAX_REQUEST_BYTES, Rejection, Request, Response, Unavailable,
};
use crate::network::frame::{FrameReader, framed};
use crate::network::identity::{Identity, SERVER_NAME};
use crate::network::tests::{Held, directory_of};
use crate::network::{Directory, NetworkSettings, PeerAddress, encode_frame};
use crate::peer_protocol::{BULK_ALPN, MAX_PEER_FRAME_BYTES, PEER_ALPN, PEER_VERSION, PeerFrame, Preamble};

const MEMBER: u32 = 100;
const STRANGER: u32 = 200;

/// Node 5, which knows peers 1 and 9 (that nobody answers for) and one member.
fn node() -> Node {
    Node::start_at(loopback(), 5, directory(), Arc::new(Echo))
}

fn directory() -> Directory {
    let peer = |slot| PeerAddress {
        slot: Slot(slot),
        key: key(slot).public(),
        address: "127.0.0.1:9".to_owned(),
    };
    Directory {
        peers: vec![peer(1), peer(9)],
        members: BTreeSet::from([key(MEMBER).public()]),
    }
}

fn preamble() -> Preamble {
    Preamble {
        version: PEER_VERSION,
        network: network_id(),
        from: Slot(1),
        to: Slot(5),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_stream_and_no_answer_whatever_it_speaks() {
    let node = node();
    for alpn in [CLIENT_ALPN, PEER_ALPN, BULK_ALPN] {
        let raw = Raw::connect(&node, STRANGER, alpn).await;
        assert!(raw.connection.open_bi().await.is_err(), "no stream of its own");
        assert!(raw.connection.open_uni().await.is_err(), "no stream of its own");
        assert!(raw.connection.accept_uni().await.is_err(), "no stream from the node");
        assert_eq!(raw.code().await, Some(CloseCode::Stranger));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_no_peers_and_peers_no_members() {
    let node = node();
    for (who, alpn, code) in [
        (MEMBER, PEER_ALPN, CloseCode::Stranger),
        (MEMBER, BULK_ALPN, CloseCode::Stranger),
        (1, CLIENT_ALPN, CloseCode::Stranger),
        // This node dials peer 9, not the other way round.
        (9, PEER_ALPN, CloseCode::Protocol),
        // A bulk connection of no session.
        (1, BULK_ALPN, CloseCode::Replaced),
    ] {
        let raw = Raw::connect(&node, who, alpn).await;
        if code == CloseCode::Replaced {
            raw.say(&[framed(&preamble()), framed(&[0_u8; 32])].concat()).await;
        }
        assert_eq!(raw.code().await, Some(code), "{who} over {alpn:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_or_another_key_ends_in_the_handshake() {
    let node = node();
    let identity = Identity::new(&key(MEMBER)).unwrap();
    for (expected, alpn) in [(5, b"quipu-client/9".as_slice()), (6, CLIENT_ALPN)] {
        let tls = identity.client_tls(key(expected).public(), alpn).unwrap();
        let (endpoint, config) = Raw::parts(tls);
        let connecting = endpoint
            .connect_with(config, node.network.local_addr(), SERVER_NAME)
            .unwrap();
        assert!(connecting.await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preamble_of_another_network_version_or_node_is_refused() {
    let mut node = node();
    let other = NetworkId(Hash::from_bytes([8; 32]));
    let wrong = [
        Preamble {
            network: other,
            ..preamble()
        },
        Preamble {
            version: PEER_VERSION + 1,
            ..preamble()
        },
        Preamble {
            from: Slot(2),
            ..preamble()
        },
        Preamble {
            to: Slot(6),
            ..preamble()
        },
    ];
    for wrong in wrong {
        let raw = Raw::connect(&node, 1, PEER_ALPN).await;
        let _stream = raw.say(&framed(&wrong)).await;
        assert_eq!(raw.code().await, Some(CloseCode::Protocol), "{wrong:?}");
    }
    assert!(node.events.try_recv().is_err(), "it was never up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_closes_the_session() {
    let mut node = node();
    let announced = u32::try_from(MAX_PEER_FRAME_BYTES + 1).unwrap().to_be_bytes();
    let mut trailing = framed(&clock(1)).to_vec();
    trailing.push(0);
    trailing[3] += 1;
    for wrong in [announced.to_vec(), vec![0, 0, 0, 1, 99], vec![0, 0, 0, 0], trailing] {
        let raw = Raw::connect(&node, 1, PEER_ALPN).await;
        let mut stream = raw.say(&framed(&preamble())).await;
        let session = node.up().await;
        stream.write_all(&framed(&clock(7))).await.unwrap();
        assert_eq!(node.frame(session).await, clock(7));
        stream.write_all(&wrong).await.unwrap();
        assert_eq!(raw.code().await, Some(CloseCode::Protocol), "{wrong:?}");
        node.down(session).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_connection_of_a_peer_replaces_the_older() {
    let mut node = node();
    let old = Raw::connect(&node, 1, PEER_ALPN).await;
    let _stream = old.say(&framed(&preamble())).await;
    let first = node.up().await;
    let new = Raw::connect(&node, 1, PEER_ALPN).await;
    let _other = new.say(&framed(&preamble())).await;
    node.down(first).await;
    assert!(node.up().await > first);
    assert_eq!(old.code().await, Some(CloseCode::Replaced));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_directory_is_closed() {
    let (mut one, first, mut two, second) = pair().await;
    let mut changed = two.address();
    changed.key = key(77).public();
    let peers = vec![changed];
    one.directory.send_replace(Arc::new(Directory {
        peers,
        ..Directory::default()
    }));
    one.down(first).await;
    two.down(second).await;

    let node = node();
    let raw = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    let (mut stream, _answers) = raw.connection.open_bi().await.unwrap();
    stream
        .write_all(&framed(&Request {
            number: 1,
            call: Call::Status,
        }))
        .await
        .unwrap();
    node.directory.send_replace(Arc::default());
    assert_eq!(raw.code().await, Some(CloseCode::Stranger));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_early_data_for_a_client_that_tries() {
    let node = node();
    let mut tls = Identity::new(&key(MEMBER))
        .unwrap()
        .client_tls(key(5).public(), CLIENT_ALPN)
        .unwrap();
    tls.resumption = Resumption::in_memory_sessions(16);
    tls.enable_early_data = true;
    let (endpoint, config) = Raw::parts(tls);
    for _ in 0..2 {
        let connecting = endpoint
            .connect_with(config.clone(), node.network.local_addr(), SERVER_NAME)
            .unwrap();
        let Err(connecting) = connecting.into_0rtt() else {
            panic!("the node gave a ticket for early data");
        };
        let connection = connecting.await.unwrap();
        let (mut sending, receiving) = connection.open_bi().await.unwrap();
        sending
            .write_all(&framed(&Request {
                number: 1,
                call: Call::Status,
            }))
            .await
            .unwrap();
        let mut answers = FrameReader::new(receiving, 1000);
        assert!(answers.value::<Response>().await.unwrap().is_some());
        // Time for a ticket, if there were one.
        sleep(Duration::from_millis(50)).await;
        connection.close(0_u32.into(), b"");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_cap_are_answered_busy() {
    let held = Arc::new(Held::default());
    let calls: Arc<dyn crate::network::CallHandler> = Arc::<Held>::clone(&held);
    let node = Node::start_at(loopback(), 5, directory_of(&[MEMBER]), calls);
    let raw = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    let (mut sending, receiving) = raw.connection.open_bi().await.unwrap();
    let cap = u64::try_from(crate::client_protocol::MAX_WAITING_REQUESTS).unwrap();
    for number in 0..cap + 10 {
        let call = if number % 2 == 0 {
            Call::Status
        } else {
            Call::Submit { transaction: vec![1] }
        };
        sending.write_all(&framed(&Request { number, call })).await.unwrap();
    }
    let mut answers = FrameReader::new(receiving, 1000);
    for _ in 0..10 {
        let response = answers.value::<Response>().await.unwrap().unwrap();
        assert!(response.number >= cap);
        match response.answer {
            Answer::Unavailable(Unavailable::Busy) => assert_eq!(response.number % 2, 0),
            Answer::Rejected(Rejection::Busy { retry_after_ms }) => {
                assert!(response.number % 2 == 1 && retry_after_ms > 0, "when to come again");
            }
            other => panic!("{other:?}"),
        }
    }
    held.release();
    let mut answered = BTreeSet::new();
    for _ in 0..cap {
        let response = answers.value::<Response>().await.unwrap().unwrap();
        assert_eq!(response.answer, Answer::Pending);
        answered.insert(response.number);
    }
    assert_eq!(answered.len() as u64, cap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_none_or_too_long_closes_the_connection() {
    let node = node();
    let announced = u32::try_from(MAX_REQUEST_BYTES + 1).unwrap().to_be_bytes();
    for wrong in [announced.to_vec(), vec![0, 0, 0, 2, 1, 99]] {
        let raw = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
        let (mut sending, _receiving) = raw.connection.open_bi().await.unwrap();
        sending.write_all(&wrong).await.unwrap();
        assert_eq!(raw.code().await, Some(CloseCode::Protocol));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_counted() {
    let mut settings = NetworkSettings::new(loopback(), Slot(5), network_id());
    settings.max_clients = 2;
    let node = Node::start_with(settings, directory(), Arc::new(Echo));
    let first = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    let _one = first.connection.open_bi().await.unwrap();
    let second = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    let _two = second.connection.open_bi().await.unwrap();
    let third = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    assert_eq!(third.code().await, Some(CloseCode::Full));
    assert_eq!(node.network.clients(), 2);
    first.connection.close(0_u32.into(), b"");
    first.endpoint.wait_idle().await;
    let again = async {
        loop {
            let next = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
            if next.connection.open_bi().await.is_ok() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(2), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_calls_are_answered_while_the_node_stops() {
    let held = Arc::new(Held::default());
    let calls: Arc<dyn crate::network::CallHandler> = Arc::<Held>::clone(&held);
    let node = Node::start_at(loopback(), 5, directory_of(&[MEMBER]), calls);
    let raw = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    let (mut sending, receiving) = raw.connection.open_bi().await.unwrap();
    sending
        .write_all(&framed(&Request {
            number: 4,
            call: Call::Status,
        }))
        .await
        .unwrap();
    let mut answers = FrameReader::new(receiving, 1000);
    while held.waiting() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let stopping = tokio::spawn(node.stop(CloseCode::Stopping));
    sleep(Duration::from_millis(100)).await;
    held.release();
    assert_eq!(answers.value::<Response>().await.unwrap().unwrap().number, 4);
    assert_eq!(raw.code().await, Some(CloseCode::Stopping));
    drop(stopping.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_connection_joins_the_session_that_it_names_and_may_be_renewed() {
    let mut node = node();
    let main = Raw::connect(&node, 1, PEER_ALPN).await;
    let _stream = main.say(&framed(&preamble())).await;
    let session = node.up().await;
    let mut tag = [0; 32];
    main.connection
        .export_keying_material(&mut tag, b"quipu session", b"")
        .unwrap();
    let hello = [framed(&preamble()), framed(&tag)].concat();
    let mut last = None;
    for number in 0..3 {
        let bulk = Raw::connect(&node, 1, BULK_ALPN).await;
        let mut stream = bulk.say(&hello).await;
        stream.write_all(&framed(&clock(number))).await.unwrap();
        assert_eq!(node.frame(session).await, clock(number));
        let answers = bulk.connection.accept_uni().await.unwrap();
        let mut answers = FrameReader::new(answers, 100_000);
        assert!(answers.value::<Preamble>().await.unwrap().is_some());
        assert_eq!(answers.value::<[u8; 32]>().await.unwrap(), Some(tag));
        let sent = node
            .network
            .peers()
            .send(Slot(1), session, Class::Bulk, encode_frame(&clock(100 + number)));
        assert!(sent);
        assert_eq!(answers.value::<PeerFrame>().await.unwrap(), Some(clock(100 + number)));
        // Its streams stay open: a finished one would end it for another reason.
        let old: Option<(Raw, _, _)> = last.replace((bulk, stream, answers));
        if let Some((old, ..)) = old {
            assert_eq!(old.code().await, Some(CloseCode::Replaced));
        }
    }
    main.connection.close(0_u32.into(), b"");
    node.down(session).await;
    assert_eq!(
        last.unwrap().0.code().await,
        Some(CloseCode::Replaced),
        "it ends with its session"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_passes() {
    let mut settings = NetworkSettings::new(loopback(), Slot(5), network_id());
    settings.max_handshakes = 2;
    let node = Arc::new(Node::start_with(settings, directory(), Arc::new(Echo)));
    let address = node.network.local_addr();
    let flood: Vec<_> = (0..40)
        .map(|_| {
            let tls = Identity::new(&key(STRANGER))
                .unwrap()
                .client_tls(key(5).public(), CLIENT_ALPN)
                .unwrap();
            tokio::spawn(async move {
                let (endpoint, config) = Raw::parts(tls);
                endpoint
                    .connect_with(config, address, SERVER_NAME)
                    .unwrap()
                    .await
                    .is_ok()
            })
        })
        .collect();
    let mut through = 0;
    for one in flood {
        through += u32::from(one.await.unwrap());
    }
    println!("{through} of 40 strangers finished a handshake");
    let member = Raw::connect(&node, MEMBER, CLIENT_ALPN).await;
    assert!(member.connection.open_bi().await.is_ok(), "no place was lost");
}
