//! Keeps how the copies of a stopped network are compared: equal record for record, and each verified from genesis.

use quipu_ledger::store::Store;
use quipu_ledger::store::record::Family;
use quipu_ledger::verify;

use super::Processes;

/// Blocks, results, state, history, index and replay memory are equal record for record.
pub(crate) fn compare(network: &Processes) {
    let scratch = tempfile::tempdir().unwrap();
    let open = |node: usize| {
        let logs = scratch.path().join(node.to_string());
        std::fs::create_dir(&logs).unwrap();
        Store::open_read_only(&network.dir(node).join("data"), &logs).unwrap()
    };
    let first = open(0);
    for node in 1..network.count() {
        let other = open(node);
        assert_eq!(first.tip(), other.tip());
        for family in Family::ALL.into_iter().filter(|family| *family != Family::Meta) {
            let mut theirs = other.records(family).unwrap();
            let mut count = 0;
            for record in first.records(family).unwrap() {
                assert_eq!(Some(record.unwrap()), theirs.next().map(Result::unwrap), "{family:?}");
                count += 1;
            }
            assert!(theirs.next().is_none(), "node {node} has more records in {family:?}");
            println!("node 1 = node {}: {count} records in {family:?}", node + 1);
        }
    }
}

/// Every copy is the chain of the genesis, checked by itself.
pub(crate) fn verify(network: &Processes) {
    for node in 0..network.count() {
        let block = network.genesis.block();
        let report = verify::run(
            &network.dir(node),
            &block,
            verify::VerifyOptions::default(),
            &mut |_| (),
        )
        .unwrap();
        assert!(report.ok(), "copy of node {node}: {:?}", report.findings);
    }
}
