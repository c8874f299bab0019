//! One real process: every refusal at the door has its type, a replay is answered with its first result, a transaction
//! that can never come any more is known as such on an idle network, a second start is refused, a stop is graceful.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod processes;

use std::process::Command;
use std::time::{Duration, Instant};

use processes::{Processes, body, put};
use quipu_crypto::hash::Hash;
use quipu_crypto::id::{NetworkId, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_crypto::signature::Signature;
use quipu_ledger::limits::MAX_TRANSACTION_BYTES;
use quipu_ledger::operation::{Namespace, Operation};
use quipu_ledger::transaction::SignedTransaction;
use quipu_node::client::Client;
use quipu_node::client_protocol::{Answer, Call, Rejection};
use quipu_node::clock;

const DEADLINE: Duration = Duration::from_secs(10);

fn with_network(test: impl AsyncFnOnce(&Processes, &Client)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let network = Processes::start(1);
    runtime.block_on(async {
        let client = network.client();
        test(&network, &client).await;
        client.close().await;
    });
}

async fn submit_bytes(client: &Client, transaction: Vec<u8>) -> Answer {
    client.call(Call::Submit { transaction }, DEADLINE).await.unwrap()
}

async fn rejection(client: &Client, transaction: &SignedTransaction) -> Rejection {
    match submit_bytes(client, transaction.bytes().to_vec()).await {
        Answer::Rejected(rejection) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn every_refusal_at_the_door_has_its_type() {
    with_network(async |network, client| {
        let (key, id) = (&network.client_key, network.genesis.network_id());
        let now = clock::wall().get();

        let stranger = SecretKey::from_seed([99; 32]);
        let unknown = put(&stranger, id, "key", "value");
        assert_eq!(rejection(client, &unknown).await, Rejection::UnknownMember);

        let elsewhere = NetworkId(Hash::from_bytes([7; 32]));
        let given = rejection(client, &put(key, elsewhere, "key", "value")).await;
        assert_eq!(
            given,
            Rejection::WrongNetwork {
                given: elsewhere,
                here: id
            }
        );

        let mut late = body(key, id, "key", "value");
        late.expires_at = TimeMs(now - 1);
        let given = rejection(client, &SignedTransaction::sign(late, key).unwrap()).await;
        assert!(matches!(given, Rejection::Expired { .. }), "{given:?}");

        let mut far = body(key, id, "key", "value");
        far.expires_at = TimeMs(now + 400 * 24 * 3_600_000);
        let given = rejection(client, &SignedTransaction::sign(far, key).unwrap()).await;
        assert!(matches!(given, Rejection::ExpiryTooFar { .. }), "{given:?}");

        let mut forbidden = body(key, id, "key", "value");
        let namespace = Namespace::new("elsewhere").unwrap();
        forbidden.operations = vec![Operation::Put {
            namespace: namespace.clone(),
            key: b"key".to_vec(),
            value: Vec::new(),
        }];
        let given = rejection(client, &SignedTransaction::sign(forbidden, key).unwrap()).await;
        assert_eq!(
            given,
            Rejection::NotPermitted {
                operation: 0,
                namespace
            }
        );

        let mut forged = put(key, id, "key", "value").bytes().to_vec();
        let length = forged.len();
        forged[length - 64..].copy_from_slice(Signature::from_bytes([1; 64]).as_bytes());
        assert_eq!(
            submit_bytes(client, forged).await,
            Answer::Rejected(Rejection::BadSignature)
        );

        let answer = submit_bytes(client, vec![0; MAX_TRANSACTION_BYTES + 1]).await;
        assert!(
            matches!(answer, Answer::Rejected(Rejection::TooLarge { .. })),
            "{answer:?}"
        );

        let answer = submit_bytes(client, vec![0; 100]).await;
        assert!(
            matches!(answer, Answer::Rejected(Rejection::Malformed(_))),
            "{answer:?}"
        );
    });
}

#[test]
fn a_replay_is_answered_with_the_first_result_and_changes_nothing() {
    with_network(async |network, client| {
        let transaction = put(&network.client_key, network.genesis.network_id(), "key", "value");
        let first = client.submit(&transaction, DEADLINE).await.unwrap();
        assert!(matches!(first, Answer::Executed(_)), "{first:?}");
        let height = |answer| match answer {
            Answer::Status(status) => status.tip.height,
            other => panic!("{other:?}"),
        };
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = height(client.call(Call::Status, DEADLINE).await.unwrap());
        let again = client.submit(&transaction, DEADLINE).await.unwrap();
        assert_eq!(first, again);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(
            height(client.call(Call::Status, DEADLINE).await.unwrap()),
            before,
            "no block for a replay"
        );
    });
}

#[test]
fn a_transaction_that_was_never_sent_is_known_to_be_impossible_after_its_expiry_on_an_idle_network() {
    with_network(async |network, client| {
        client
            .submit(
                &put(&network.client_key, network.genesis.network_id(), "a", "b"),
                DEADLINE,
            )
            .await
            .unwrap();
        let mut soon = body(&network.client_key, network.genesis.network_id(), "key", "value");
        soon.expires_at = TimeMs(clock::wall().get() + 1_500);
        let transaction = SignedTransaction::sign(soon, &network.client_key).unwrap();
        let lookup = || Call::Lookup {
            id: transaction.id(),
            expires_at: Some(transaction.body().expires_at),
        };
        let answer = client.call(lookup(), DEADLINE).await.unwrap();
        assert!(matches!(answer, Answer::Possible { .. }), "{answer:?}");
        let begin = Instant::now();
        loop {
            match client.call(lookup(), DEADLINE).await.unwrap() {
                Answer::Never { .. } => break,
                Answer::Possible { .. } => assert!(begin.elapsed() < Duration::from_secs(20), "never answered"),
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let answer = submit_bytes(client, transaction.bytes().to_vec()).await;
        assert!(
            matches!(answer, Answer::Rejected(Rejection::Expired { .. })),
            "{answer:?}"
        );
    });
}

#[test]
fn what_was_executed_is_never_called_possible_by_a_node_that_has_yet_to_execute_it_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut network = Processes::start(1);
    let (key, id) = (network.client_key.clone(), network.genesis.network_id());
    let transaction = put(&key, id, "key", "value");
    let first = runtime.block_on(async {
        let client = network.client();
        // A chain that takes a while to execute again, the transaction at its end.
        let mut load = tokio::task::JoinSet::new();
        for number in 0..10_000 {
            let (client, filler) = (client.clone(), put(&key, id, &number.to_string(), "filler"));
            load.spawn(async move { client.submit(&filler, DEADLINE).await.unwrap() });
        }
        load.join_all().await;
        let answer = client.submit(&transaction, DEADLINE).await.unwrap();
        client.close().await;
        answer
    });
    // What is derived was not flushed: the next start executes the chain again.
    network.kill(0);
    network.launch(0);
    let again = runtime.block_on(async {
        let client = network.client();
        let expires_at = Some(transaction.body().expires_at);
        let lookup = Call::Lookup {
            id: transaction.id(),
            expires_at,
        };
        let answer = client.call(lookup, DEADLINE).await.unwrap();
        client.close().await;
        answer
    });
    assert_eq!(first, again);
}

#[test]
fn a_second_start_on_a_directory_is_refused_and_a_stop_is_graceful() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut network = Processes::start(1);
    runtime.block_on(async {
        let client = network.client();
        let transaction = put(&network.client_key, network.genesis.network_id(), "key", "value");
        client.submit(&transaction, DEADLINE).await.unwrap();
        client.close().await;
    });
    let second = Command::new(env!("CARGO_BIN_EXE_quipu-node"))
        .args(["run", "--dir"])
        .arg(network.dir(0))
        .output();
    let second = second.unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(text.contains("is in use by another process"), "{text}");
    network.stop_all();
}

#[test]
fn an_emptied_data_directory_is_not_taken_for_the_old_one() {
    let mut network = Processes::start(1);
    let data = network.dir(0).join("data");
    let begin = Instant::now();
    while !data.join("CURRENT").exists() {
        assert!(begin.elapsed() < DEADLINE, "the store is made at the first start");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(500));
    network.kill(0);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "incarnation.toml" {
            std::fs::remove_file(path).unwrap();
        }
    }
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_quipu-node"))
            .args(["run", "--dir"])
            .arg(network.dir(0))
            .output()
    };
    let text = String::from_utf8_lossy(&run().unwrap().stderr).into_owned();
    assert!(text.contains("has lost its chain"), "{text}");
    std::fs::remove_file(data.join("incarnation.toml")).unwrap();
    let text = String::from_utf8_lossy(&run().unwrap().stderr).into_owned();
    assert!(text.contains("was emptied"), "{text}");
}
