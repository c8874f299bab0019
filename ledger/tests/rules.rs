//! The rules seen to accept a small chain, and to refuse each way of breaking it with the code that names it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod network;

use network::*;
use proptest::collection::vec;
use proptest::prelude::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::id::{Height, NetworkId, Slot, Term, TimeMs};
use quipu_crypto::key::SecretKey;
use quipu_ledger::block::{Block, Body, Executed, Header};
use quipu_ledger::certificate::{self, CertificateFault};
use quipu_ledger::membership::{ChangeRequest, Membership, MembershipRecord, NodeRole, SignedRequest};
use quipu_ledger::rules::quorum::QuorumFault;
use quipu_ledger::rules::signatures::{self, TransactionFault};
use quipu_ledger::rules::{self, ChainTip, Fault};
use quipu_ledger::transaction::SignedTransaction;
use quipu_ledger::vote::SignatureEntry;

/// A chain of three nodes with block 0 and node 0's opening block.
fn opened() -> ChainTip {
    let tip = ChainTip::genesis(&genesis(1, membership(3))).unwrap();
    tip.check(&opening(&tip, Term(1), 0, &[0, 2])).unwrap()
}

fn put_one(tip: &ChainTip, number: u64) -> SignedTransaction {
    let expires_at = tip.header().time.plus(30_000);
    transaction(tip.network(), 0, number, expires_at, vec![put("default", "k", "v")])
}

/// Signs the next block after `change` was made to its header, and gives the code with which it is refused.
fn refused(tip: &ChainTip, body: Body, change: impl FnOnce(&mut Header)) -> &'static str {
    let parent = tip.header();
    let mut header = tip.next(parent.term, parent.time, parent.proposer, parent.executed, &body);
    change(&mut header);
    let signer = node_key(header.proposer.get());
    let block = rules::seal(header, body, &signer).unwrap();
    tip.check(&block).unwrap_err().code()
}

#[test]
fn a_chain_of_two_terms_is_accepted() {
    let tip = opened();
    let tip = tip
        .check(&next(&tip, transactions_of(vec![put_one(&tip, 1), put_one(&tip, 2)])))
        .unwrap();
    let tip = tip.check(&next(&tip, transactions_of(Vec::new()))).unwrap();
    let tip = tip.check(&opening(&tip, Term(4), 1, &[0, 1])).unwrap();
    let tip = tip.check(&next(&tip, transactions_of(vec![put_one(&tip, 3)]))).unwrap();
    assert_eq!(tip.id().height, Height(5));
    assert_eq!(tip.id().term, Term(4));
    assert_eq!(tip.frontier().count(), 6);
}

#[test]
fn a_restored_tip_judges_as_the_one_that_grew() {
    let block_0 = genesis(1, membership(3));
    let tip = opened();
    let restored = ChainTip::restore(tip.header().clone(), tip.id().hash, tip.frontier().clone(), &block_0).unwrap();
    let block = next(&tip, transactions_of(vec![put_one(&tip, 1)]));
    assert_eq!(restored.check(&block).unwrap().id(), tip.check(&block).unwrap().id());

    let short = ChainTip::genesis(&block_0).unwrap();
    let other = ChainTip::restore(tip.header().clone(), tip.id().hash, short.frontier().clone(), &block_0);
    assert_eq!(other.unwrap_err(), Fault::WrongChainRoot);
    let no_membership = ChainTip::restore(tip.header().clone(), tip.id().hash, tip.frontier().clone(), &block);
    assert_eq!(no_membership.unwrap_err().code(), "no_membership");
}

#[test]
fn every_field_of_a_header_is_judged() {
    let tip = opened();
    let empty = || transactions_of(Vec::new());
    let elsewhere = Hash::of(Context::Header, &[b"elsewhere"]);
    let check = |expected: &str, change: &dyn Fn(&mut Header)| {
        assert_eq!(refused(&tip, empty(), |header| change(header)), expected);
    };
    check("wrong_network", &|h| h.network = NetworkId(elsewhere));
    check("wrong_height", &|h| h.height = Height(3));
    check("wrong_height", &|h| h.height = Height(1));
    check("wrong_previous", &|h| h.previous = elsewhere);
    check("time_falls", &|h| h.time = TimeMs(h.time.get() - 1));
    check("wrong_chain_root", &|h| h.chain_root = elsewhere);
    check("term_falls", &|h| h.term = Term(0));
    check("term_not_opened", &|h| h.term = Term(2));
    check("not_the_leader", &|h| h.proposer = Slot(1));
    check("executed_changed", &|h| h.executed.state_digest = elsewhere);
    check("executed_ahead", &|h| h.executed.height = h.height);
    check("wrong_membership_height", &|h| h.membership = Height(1));
}

#[test]
fn the_executed_height_never_falls_and_never_changes() {
    let tip = opened();
    let named = Executed {
        height: Height(1),
        results_chain: Hash::of(Context::ResultsChain, &[]),
        ..tip.header().executed
    };
    let tip = tip
        .check(&next_executed(&tip, named, transactions_of(Vec::new())))
        .unwrap();
    let tip = tip.check(&next(&tip, transactions_of(Vec::new()))).unwrap();
    let fall = next_executed(&tip, Executed::genesis(), transactions_of(Vec::new()));
    assert_eq!(tip.check(&fall).unwrap_err().code(), "executed_falls");
    let change = Executed {
        state_root: Hash::of(Context::Executed, &[]),
        ..named
    };
    let change = next_executed(&tip, change, transactions_of(Vec::new()));
    assert_eq!(tip.check(&change).unwrap_err(), Fault::ExecutedChanged(Height(1)));
}

#[test]
fn a_term_begins_with_an_opening_block_only() {
    let block_0 = ChainTip::genesis(&genesis(1, membership(3))).unwrap();
    let code = refused(&block_0, transactions_of(Vec::new()), |_| {});
    assert_eq!(code, "term_not_opened");
    let tip = opened();
    let again = opening(&tip, Term(1), 0, &[0, 1]);
    assert_eq!(tip.check(&again).unwrap_err(), Fault::TermOpenedTwice(Term(1)));
    let earlier = opening(&tip, Term(0), 0, &[0, 1]);
    assert_eq!(tip.check(&earlier).unwrap_err().code(), "term_falls");
}

#[test]
fn votes_elect_only_as_a_sorted_majority_over_the_parent() {
    let tip = opened();
    let check = |votes: Vec<SignatureEntry>| {
        let body = votes_of(votes);
        let header = tip.next(Term(2), tip.header().time, Slot(1), tip.header().executed, &body);
        tip.check(&rules::seal(header, body, &node_key(1)).unwrap()).map(|_| ())
    };
    let by = |voter: u32| vote(&tip, Term(2), Slot(1), Slot(voter), &node_key(voter));
    check(vec![by(0), by(1)]).unwrap();
    check(vec![by(0), by(1), by(2)]).unwrap();
    assert_eq!(check(vec![by(0), by(2)]), Err(Fault::NoOwnVote(Slot(1))));
    assert_eq!(
        check(vec![by(1)]),
        Err(Fault::Votes(QuorumFault::NoMajority { have: 1, of: 3 }))
    );
    assert_eq!(
        check(vec![by(1), by(0)]),
        Err(Fault::Votes(QuorumFault::Unsorted(Slot(0))))
    );
    assert_eq!(
        check(vec![by(1), by(1)]),
        Err(Fault::Votes(QuorumFault::Unsorted(Slot(1))))
    );
    assert_eq!(
        check(vec![by(1), by(7)]),
        Err(Fault::Votes(QuorumFault::NotAVoter(Slot(7))))
    );
    let marked = SignatureEntry {
        outgoing: true,
        ..by(2)
    };
    assert_eq!(
        check(vec![by(1), marked]),
        Err(Fault::Votes(QuorumFault::NotAVoter(Slot(2))))
    );
    // A vote for another candidate, another term or another block elects nobody here, even beside a majority.
    let before = ChainTip::genesis(&genesis(1, membership(3))).unwrap();
    for stray in [
        vote(&tip, Term(2), Slot(0), Slot(2), &node_key(2)),
        vote(&tip, Term(3), Slot(1), Slot(2), &node_key(2)),
        vote(&before, Term(2), Slot(1), Slot(2), &node_key(2)),
        vote(&tip, Term(2), Slot(1), Slot(2), &node_key(0)),
    ] {
        assert_eq!(
            check(vec![by(0), by(1), stray]),
            Err(Fault::Votes(QuorumFault::WrongSignature(Slot(2))))
        );
    }
}

#[test]
fn a_learner_neither_votes_nor_proposes() {
    let mut membership = membership(4);
    membership.nodes[3].role = NodeRole::Learner;
    let tip = ChainTip::genesis(&genesis(1, membership)).unwrap();
    let block = opening(&tip, Term(1), 3, &[0, 1, 3]);
    assert_eq!(
        tip.check(&block).unwrap_err(),
        Fault::Votes(QuorumFault::NotAVoter(Slot(3)))
    );
}

#[test]
fn a_block_is_signed_by_its_proposer() {
    let tip = opened();
    let body = transactions_of(Vec::new());
    let header = tip.next(Term(1), tip.header().time, Slot(0), tip.header().executed, &body);
    let unsigned = Block::new(header.clone(), None, body.clone()).unwrap();
    assert_eq!(tip.check(&unsigned).unwrap_err(), Fault::NotSigned);
    let forged = rules::seal(header, body, &node_key(1)).unwrap();
    assert_eq!(tip.check(&forged).unwrap_err(), Fault::WrongSignature(Slot(0)));
}

#[test]
fn block_0_has_its_own_rules() {
    let good = genesis(1, membership(3));
    let check = |expected: &str, change: &dyn Fn(&mut Header)| {
        let mut header = good.header().clone();
        change(&mut header);
        let block = Block::new(header, None, good.body().clone()).unwrap();
        assert_eq!(
            ChainTip::genesis(&block).unwrap_err(),
            Fault::WrongGenesis(Box::leak(expected.into()))
        );
    };
    check("height", &|h| h.height = Height(1));
    check("term", &|h| h.term = Term(1));
    check("previous", &|h| h.previous = h.body_root);
    check("proposer", &|h| h.proposer = Slot(1));
    check("executed", &|h| h.executed.state_digest = Hash::ZERO);
    check("membership", &|h| h.membership = Height(1));
    check("chain_root", &|h| h.chain_root = Hash::ZERO);
    let signed = rules::seal(good.header().clone(), good.body().clone(), &node_key(0)).unwrap();
    assert_eq!(
        ChainTip::genesis(&signed).unwrap_err(),
        Fault::WrongGenesis("signature")
    );
}

#[test]
fn an_unsound_membership_is_refused() {
    let check = |expected: &str, change: &dyn Fn(&mut Membership)| {
        let mut membership = membership(3);
        change(&mut membership);
        let fault = rules::check_membership(&membership).unwrap_err().to_string();
        assert_eq!(fault, expected);
    };
    check("the nodes are not sorted and unique at `0`", &|m| m.nodes.swap(0, 1));
    check("two nodes have the same key: `node-1`", &|m| {
        m.nodes[1].key = m.nodes[0].key;
    });
    check("there is no voter", &|m| m.nodes.clear());
    check("`node-1` belongs to organisation `x`, which is not listed", &|m| {
        m.nodes[1].organisation = "x".into();
    });
    check("the members are not sorted and unique at `alice`", &|m| {
        m.members[0] = m.members[1].clone();
        m.members[0].name = "alice".into();
        m.members[1].name = "alice".into();
    });
    check("the namespaces are not sorted and unique at `audit`", &|m| {
        m.namespaces.swap(0, 1);
    });
    check("the writers are not sorted and unique at `default`", &|m| {
        m.namespaces[1].writers.reverse();
    });
    check("parameter max_lifetime_ms is out of its range", &|m| {
        m.parameters.max_lifetime_ms = 1;
    });
    check("parameter approvals is out of its range", &|m| {
        m.parameters.approvals = 4;
    });
    check("the key of `org-0` is not a sound Ed25519 key", &|m| {
        m.organisations[0].key = quipu_crypto::key::PublicKey::from_bytes([0; 32]);
    });
}

#[test]
fn a_bad_transaction_is_named_by_its_place() {
    let tip = opened();
    let good = |number| put_one(&tip, number);
    let first = next(&tip, transactions_of((0..5).map(good).collect()));
    let tip_2 = tip.check(&first).unwrap();
    let mut bytes = good(9).bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = SignedTransaction::decode(bytes).unwrap();
    let second = next(&tip_2, transactions_of(vec![good(7), forged.clone(), forged.clone()]));
    signatures::check(&[&first]).unwrap();
    let bad = signatures::check(&[&first, &second]).unwrap_err();
    assert_eq!(
        (bad.height, bad.position, bad.fault),
        (Height(3), 1, TransactionFault::WrongSignature)
    );
    // Only who knows the very bytes may skip them.
    signatures::check_unless(&[&first, &second], |tx| tx.bytes() == forged.bytes()).unwrap();

    let stranger = transaction(NetworkId(Hash::ZERO), 0, 1, TimeMs(0), vec![put("default", "k", "v")]);
    let third = next(&tip, transactions_of(vec![good(1), stranger]));
    let bad = signatures::check_unless(&[&third], |_| true).unwrap_err();
    assert_eq!(
        (bad.height, bad.position, bad.fault),
        (Height(2), 1, TransactionFault::WrongNetwork)
    );
}

/// A request to replace node 2 by node 3, node 1's key by another one, with two approvals.
fn request(tip: &ChainTip, in_force: &Block) -> SignedRequest {
    let mut membership = in_force_membership(in_force);
    membership.nodes[2] = node(3, &node_key(3));
    membership.nodes[1].key = key(77).public();
    let request = ChangeRequest {
        network: tip.network(),
        nonce: [5; 16],
        expires_at: tip.header().time.plus(60_000),
        expected_height: in_force.header().height,
        expected_hash: in_force.hash(),
        membership,
    };
    approve(request)
}

fn approve(request: ChangeRequest) -> SignedRequest {
    let hash = request.hash();
    let approvals = [0, 2].map(|number| (format!("org-{number}"), administrator_key(number).sign(&hash)));
    SignedRequest {
        request,
        approvals: approvals.to_vec(),
    }
}

fn in_force_membership(block: &Block) -> Membership {
    ChainTip::genesis(block).unwrap().membership().as_ref().clone()
}

fn joint_of(request: SignedRequest, before: &Membership) -> MembershipRecord {
    let membership = Membership {
        outgoing: before.nodes.clone(),
        ..request.request.membership.clone()
    };
    MembershipRecord::Joint { membership, request }
}

#[test]
fn a_change_goes_through_joint_and_final() {
    let block_0 = genesis(1, membership(3));
    let before = in_force_membership(&block_0);
    let tip = opened();
    let request = request(&tip, &block_0);
    let joint_block = next(&tip, membership_of(joint_of(request.clone(), &before)));
    let joint = tip.check(&joint_block).unwrap();
    assert_eq!(joint.membership_height(), Height(2));

    // An election while joint needs both majorities; slot 1 has two keys, slot 0 one that counts twice.
    let new_key = key(77);
    let elect = |votes: Vec<SignatureEntry>| {
        let body = votes_of(votes);
        let header = joint.next(Term(2), joint.header().time, Slot(0), joint.header().executed, &body);
        joint
            .check(&rules::seal(header, body, &node_key(0)).unwrap())
            .map(|_| ())
    };
    let by = |slot: u32, key: &SecretKey, outgoing| SignatureEntry {
        outgoing,
        ..vote(&joint, Term(2), Slot(0), Slot(slot), key)
    };
    let own = by(0, &node_key(0), false);
    elect(vec![own, by(1, &new_key, false), by(1, &node_key(1), true)]).unwrap();
    elect(vec![own, by(2, &node_key(2), true), by(3, &node_key(3), false)]).unwrap();
    let too_few = Err(Fault::Votes(QuorumFault::NoMajority { have: 1, of: 3 }));
    assert_eq!(elect(vec![own, by(1, &new_key, false)]), too_few);
    assert_eq!(elect(vec![own, by(2, &node_key(2), true)]), too_few);
    let doubled = Err(Fault::Votes(QuorumFault::NotOutgoing(Slot(0))));
    assert_eq!(
        elect(vec![own, by(0, &node_key(0), true), by(1, &new_key, false)]),
        doubled
    );

    // Final needs a certificate of both majorities in Joint's own term.
    let mut after = before.clone();
    after.nodes = request.request.membership.nodes.clone();
    let finish = |view, signers: &[(u32, bool, SecretKey)], after: &Membership| {
        let record = MembershipRecord::Final {
            membership: after.clone(),
            joint: Height(2),
            request: request.request.hash(),
            certificate: certificate(joint.header(), view, signers),
        };
        joint.check(&next(&joint, membership_of(record)))
    };
    let both = [(0, false, node_key(0)), (2, true, node_key(2)), (3, false, node_key(3))];
    let done = finish(Term(1), &both, &after).unwrap();
    assert_eq!(done.membership().nodes, after.nodes);
    assert_eq!(finish(Term(2), &both, &after).unwrap_err().code(), "wrong_certificate");
    assert_eq!(
        finish(Term(1), &both[..2], &after).unwrap_err().code(),
        "wrong_certificate"
    );
    assert_eq!(finish(Term(1), &both, &before).unwrap_err().code(), "wrong_change");
    let rewritten = certificate(joint_block.header(), Term(1), &both);
    assert_eq!(
        certificate::judge(&rewritten, tip.header(), tip.membership()),
        Err(CertificateFault::WrongBlock)
    );

    // Slot 2 has left: its votes and blocks count no more.
    let stale = opening(&done, Term(2), 0, &[0, 2]);
    assert_eq!(
        done.check(&stale).unwrap_err(),
        Fault::Votes(QuorumFault::NotAVoter(Slot(2)))
    );
    done.check(&opening(&done, Term(2), 0, &[0, 3])).unwrap();
}

#[test]
fn a_change_that_nobody_asked_for_is_refused() {
    let block_0 = genesis(1, membership(3));
    let before = in_force_membership(&block_0);
    let tip = opened();
    let asked = request(&tip, &block_0);
    let check = |expected: &str, record: MembershipRecord| {
        let fault = tip.check(&next(&tip, membership_of(record))).unwrap_err();
        assert_eq!(fault.to_string(), format!("change of membership: {expected}"));
    };
    let changed = |change: &dyn Fn(&mut SignedRequest)| {
        let mut request = asked.clone();
        change(&mut request);
        joint_of(request, &before)
    };
    let resigned = |change: &dyn Fn(&mut ChangeRequest)| {
        let mut request = asked.request.clone();
        change(&mut request);
        joint_of(approve(request), &before)
    };
    check(
        "the record of a genesis stands above height 0",
        MembershipRecord::Genesis(before.clone()),
    );
    check(
        "the approval of `org-0` is not signed by its key",
        changed(&|r| r.request.nonce = [6; 16]),
    );
    check("1 approvals, 2 are needed", changed(&|r| drop(r.approvals.pop())));
    check(
        "the approval of `org-0` is out of order or there twice",
        changed(&|r| r.approvals.swap(0, 1)),
    );
    check(
        "`org-9` is no organisation of the network",
        changed(&|r| r.approvals[1].0 = "org-9".into()),
    );
    check(
        "the request is of another network",
        resigned(&|r| r.network = NetworkId(Hash::ZERO)),
    );
    check("the request expired at 5", resigned(&|r| r.expires_at = TimeMs(5)));
    let unexpected = "the request expects membership block 0, which is not the one in force";
    check(unexpected, resigned(&|r| r.expected_hash = Hash::ZERO));
    let MembershipRecord::Joint {
        mut membership,
        request,
    } = joint_of(asked.clone(), &before)
    else {
        panic!()
    };
    membership.outgoing.pop();
    let unlike = "the membership is not the one asked for with the former voters as outgoing";
    check(unlike, MembershipRecord::Joint { membership, request });
}

/// Scenario 76 of the consensus notes: signatures of different terms over a block of an older term prove nothing.
fn judged(view: u64, signed: &[u64], of: &ChainTip) -> bool {
    let header = of.header();
    let mut collected = certificate(header, Term(view), &[]);
    for (slot, made_in) in (0..).zip(signed) {
        if *made_in > 0 {
            let one = certificate(header, Term(*made_in), &[(slot, false, node_key(slot))]);
            collected.signatures.extend(one.signatures);
        }
    }
    certificate::judge(&collected, header, of.membership()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_certificate_counts_signatures_of_the_blocks_own_term_only(view in 1_u64..4, signed in vec(0_u64..4, 5)) {
        let tip = ChainTip::genesis(&genesis(1, membership(5))).unwrap();
        let tip = tip.check(&opening(&tip, Term(2), 0, &[0, 1, 2])).unwrap();
        let signers: Vec<u64> = signed.iter().copied().filter(|made_in| *made_in > 0).collect();
        let expected = view == 2 && signers.len() >= 3 && signers.iter().all(|made_in| *made_in == 2);
        prop_assert_eq!(judged(view, &signed, &tip), expected);
    }
}

#[test]
fn a_certificate_counts_all_majorities() {
    let tip = ChainTip::genesis(&genesis(1, membership(5))).unwrap();
    let tip = tip.check(&opening(&tip, Term(2), 0, &[0, 1, 2])).unwrap();
    for signers in 0..32_u64 {
        let signed: Vec<u64> = (0..5).map(|slot| (signers >> slot & 1) * 2).collect();
        assert_eq!(judged(2, &signed, &tip), signers.count_ones() >= 3);
    }
}

#[test]
fn a_certificate_in_a_body_is_of_an_ancestor_and_valid() {
    let tip = opened();
    let signers = [(0, false, node_key(0)), (2, false, node_key(2))];
    let carrying = |certificate| Body {
        certificate: Some(certificate),
        ..transactions_of(Vec::new())
    };
    let check = |certificate| tip.check(&next(&tip, carrying(certificate))).map(|_| ());
    let good = certificate(tip.header(), Term(1), &signers);
    check(good.clone()).unwrap();
    let few = certificate(tip.header(), Term(1), &signers[..1]);
    assert_eq!(check(few).unwrap_err().code(), "wrong_certificate");
    let mut of_stranger = good.clone();
    of_stranger.hash = Hash::ZERO;
    assert_eq!(check(of_stranger).unwrap_err(), Fault::CertificateOfStranger(Height(1)));
    let mut of_itself = good;
    of_itself.height = Height(2);
    assert_eq!(check(of_itself).unwrap_err(), Fault::CertificateOfStranger(Height(2)));
}
