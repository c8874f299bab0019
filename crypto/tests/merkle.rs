//! Merkle trees against ct-merkle as oracle: same roots, same proofs, and the same refusals.
//!
//! ct-merkle hashes `0x00 leaf` and `0x01 left right` with any digest; [`Oracle`] is a digest that turns this framing
//! into our contexts. So the oracle builds our very trees, and every hash of every proof is compared byte for byte.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![allow(clippy::cast_possible_truncation, missing_docs)]

use ct_merkle::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update, array::typenum::U32};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::merkle::{self, ConsistencyProof, Frontier, InclusionProof};

const LEAF: Context = Context::TransactionLeaf;

/// Every tree up to this many leaves is compared in full.
const SIZES: u64 = 70;

#[derive(Clone, Default)]
struct Oracle(Vec<u8>);

impl Update for Oracle {
    fn update(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }
}

impl OutputSizeUser for Oracle {
    type OutputSize = U32;
}

impl HashMarker for Oracle {}

impl FixedOutput for Oracle {
    fn finalize_into(self, out: &mut Output<Self>) {
        let hash = match self.0.split_first() {
            None => Hash::of(Context::MerkleEmpty, &[]),
            Some((0, leaf)) => Hash::of(LEAF, &[leaf]),
            Some((1, children)) => Hash::of(Context::MerkleNode, &[children]),
            Some((framing, _)) => panic!("ct-merkle hashes with an unknown framing {framing}"),
        };
        out.copy_from_slice(hash.as_bytes());
    }
}

fn item(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

/// Our leaves and the oracle's tree of `count` leaves.
fn trees(count: u64) -> (Vec<Hash>, MemoryBackedTree<Oracle, Vec<u8>>) {
    let mut oracle = MemoryBackedTree::new();
    let mut leaves = Vec::new();
    for index in 0..count {
        oracle.push(item(index));
        leaves.push(merkle::leaf(LEAF, &item(index)));
    }
    (leaves, oracle)
}

fn concatenated(path: &[Hash]) -> Vec<u8> {
    path.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn roots_are_those_of_the_oracle() {
    let mut frontier = Frontier::new();
    for count in 0..=300 {
        let (leaves, oracle) = trees(count);
        let root = merkle::root(&leaves);
        assert_eq!(root.as_bytes()[..], oracle.root().as_bytes()[..], "{count} leaves");
        assert_eq!(frontier.root(), root, "frontier of {count} leaves");
        assert_eq!(frontier.count(), count);
        frontier.push(merkle::leaf(LEAF, &item(count)));
    }
}

#[test]
fn inclusion_proofs_are_those_of_the_oracle() {
    for count in 1..=SIZES {
        let (leaves, oracle) = trees(count);
        let root = merkle::root(&leaves);
        for index in 0..count {
            let proof = merkle::prove_inclusion(&leaves, index).unwrap();
            assert_eq!(
                concatenated(&proof.path),
                oracle.prove_inclusion(index as usize).as_bytes(),
                "{index}/{count}"
            );
            assert!(proof.verify(leaves[index as usize], root), "{index}/{count}");
            assert_eq!(proof.root(leaves[index as usize]), Some(root));
        }
        assert_eq!(merkle::prove_inclusion(&leaves, count), None);
    }
}

#[test]
fn consistency_proofs_are_those_of_the_oracle() {
    for new in 1..=SIZES {
        let (leaves, oracle) = trees(new);
        for old in 1..=new {
            let old_root = merkle::root(&leaves[..old as usize]);
            let proof = merkle::prove_consistency(&leaves, old).unwrap();
            let theirs = oracle.prove_consistency((new - old) as usize);
            assert_eq!(concatenated(&proof.path), theirs.as_bytes(), "{old} of {new}");
            assert!(proof.verify(old_root, merkle::root(&leaves)), "{old} of {new}");
        }
        assert_eq!(merkle::prove_consistency(&leaves, new + 1), None);
    }
}

/// The empty tree has one root; two equal others are not two empty trees.
#[test]
fn the_empty_tree_has_one_root() {
    let proof = ConsistencyProof {
        old_count: 0,
        new_count: 0,
        path: vec![],
    };
    assert!(proof.verify(merkle::root(&[]), merkle::root(&[])));
    assert!(!proof.verify(Hash::ZERO, Hash::ZERO));
}

/// Nothing but the right numbers with the right path verifies, and no number makes the verifier panic.
#[test]
fn wrong_inclusion_proofs_are_refused() {
    for count in 1..=33 {
        let (leaves, _) = trees(count);
        let root = merkle::root(&leaves);
        for index in 0..count {
            let good = merkle::prove_inclusion(&leaves, index).unwrap();
            let leaf = leaves[index as usize];
            assert!(!good.verify(Hash::ZERO, root) && !good.verify(leaf, Hash::ZERO));
            // Any other index fails; so does any other count but those that have the same path (the caller binds it).
            for wrong in (0..40).chain([u64::MAX - 1, u64::MAX]).filter(|wrong| *wrong != index) {
                assert!(
                    !InclusionProof {
                        index: wrong,
                        ..good.clone()
                    }
                    .verify(leaf, root),
                    "{index} as {wrong} of {count}"
                );
            }
            for place in 0..good.path.len() {
                let mut wrong = good.clone();
                wrong.path[place] = Hash::ZERO;
                assert!(!wrong.verify(leaf, root));
                wrong.path.remove(place);
                assert!(!wrong.verify(leaf, root));
                let mut longer = good.clone();
                longer.path.insert(place, good.path[place]);
                assert!(!longer.verify(leaf, root));
            }
            let mut longer = good.clone();
            longer.path.push(root);
            assert_eq!(longer.root(leaf), None);
        }
    }
}

/// Why every root stands with its count: the size is not bound by the path alone.
#[test]
fn only_the_bound_root_tells_the_size() {
    let (leaves, _) = trees(3);
    let root = merkle::root(&leaves);
    let confused = InclusionProof {
        index: 1,
        count: 2,
        path: vec![merkle::root(&leaves[..2])],
    };
    assert!(confused.verify(leaves[2], root), "leaf 2 of 3 verifies as leaf 1 of 2");
    let bound = |count| merkle::bind(Context::BodyRoot, count, root);
    assert_ne!(bound(2), bound(3));
    let by_hand = Hash::of(Context::BodyRoot, &[&[3, 0, 0, 0, 0, 0, 0, 0], root.as_bytes()]);
    assert_eq!(bound(3), by_hand);
    assert_ne!(merkle::bind(Context::ChainRoot, 3, root), bound(3));
}

#[test]
fn wrong_consistency_proofs_are_refused() {
    for new in 0..=33 {
        let (leaves, _) = trees(new);
        let new_root = merkle::root(&leaves);
        for old in 0..=new {
            let old_root = merkle::root(&leaves[..old as usize]);
            let good = merkle::prove_consistency(&leaves, old).unwrap();
            assert!(good.verify(old_root, new_root), "{old} of {new}");
            assert!(!good.verify(Hash::ZERO, new_root));
            // Everything grew out of the empty tree, whatever its root; from there on the new root counts.
            assert_eq!(good.verify(old_root, Hash::ZERO), old == 0 && new > 0);
            for place in 0..good.path.len() {
                let mut wrong = good.clone();
                wrong.path[place] = Hash::ZERO;
                assert!(!wrong.verify(old_root, new_root), "{old} of {new} at {place}");
                wrong.path.remove(place);
                assert!(!wrong.verify(old_root, new_root));
            }
            let mut longer = good.clone();
            longer.path.push(new_root);
            assert!(!longer.verify(old_root, new_root));
            for wrong in (0..40).chain([u64::MAX - 1, u64::MAX]).filter(|wrong| *wrong != old) {
                let verdict = ConsistencyProof {
                    old_count: wrong,
                    ..good.clone()
                }
                .verify(old_root, new_root);
                assert!(!verdict, "{old} as {wrong} of {new}");
            }
        }
    }
}

#[test]
fn a_history_that_was_rewritten_is_not_consistent() {
    let (leaves, _) = trees(40);
    for old in 1..40_u64 {
        for changed in 0..old as usize {
            let mut rewritten = leaves.clone();
            rewritten[changed] = Hash::ZERO;
            let proof = merkle::prove_consistency(&rewritten, old).unwrap();
            assert!(
                !proof.verify(merkle::root(&leaves[..old as usize]), merkle::root(&rewritten)),
                "{changed} of {old}"
            );
        }
    }
}

#[test]
fn leaves_and_nodes_do_not_pass_for_each_other() {
    let (leaves, _) = trees(2);
    let children = [leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
    for context in [
        LEAF,
        Context::VoteLeaf,
        Context::MembershipLeaf,
        Context::ChainLeaf,
        Context::ResultLeaf,
    ] {
        assert_ne!(merkle::leaf(context, &children), merkle::root(&leaves));
    }
    assert_ne!(merkle::root(&[]), merkle::leaf(LEAF, b""));
    assert_eq!(merkle::root(&leaves[..1]), leaves[0]);
}

proptest! {
    #[test]
    fn a_frontier_written_and_read_goes_on(count in 0..3000_u64, more in 0..40_u64) {
        let leaf = |index: u64| merkle::leaf(Context::ChainLeaf, &index.to_le_bytes());
        let mut whole = Frontier::new();
        (0..count).for_each(|index| whole.push(leaf(index)));
        let bytes = postcard::to_stdvec(&whole).unwrap();
        let mut read: Frontier = postcard::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &whole);
        (count..count + more).for_each(|index| read.push(leaf(index)));
        let leaves: Vec<Hash> = (0..count + more).map(leaf).collect();
        prop_assert_eq!(read.root(), merkle::root(&leaves));
    }

    #[test]
    fn verifiers_take_any_numbers_and_paths(
        numbers: [u64; 2], length in 0..80_usize, bits in 0..64_u32, leaf: [u8; 32], root: [u8; 32],
    ) {
        let [index, count] = numbers.map(|number| number >> bits);
        let path = vec![Hash::from_bytes(leaf); length];
        let (leaf, root) = (Hash::from_bytes(leaf), Hash::from_bytes(root));
        let proof = InclusionProof { index, count, path: path.clone() };
        prop_assert!(!proof.verify(leaf, root));
        let proof = ConsistencyProof { old_count: index, new_count: count, path };
        let trivial = index == 0 && count > 0 && length == 0;
        prop_assert!(!proof.verify(leaf, root) || trivial);
    }

    /// Indices and counts far beyond what fits in memory: a proof through 2^60 leaves folds as the recursion says.
    #[test]
    fn paths_of_huge_trees_have_the_length_of_the_recursion(index: u64, count in 1..=u64::MAX) {
        let index = index % count;
        let (mut expected, mut position, mut width) = (0_usize, index, count);
        while width > 1 {
            let left = 1_u64 << (63 - (width - 1).leading_zeros());
            (position, width) = if position < left { (position, left) } else { (position - left, width - left) };
            expected += 1;
        }
        prop_assert_eq!(position, 0);
        for length in 0..=66 {
            let proof = InclusionProof { index, count, path: vec![Hash::ZERO; length] };
            prop_assert_eq!(proof.root(Hash::ZERO).is_some(), length == expected);
        }
    }
}
