//! The lattice hash sums multisets: order, grouping and detours do not matter, and its expansion is BLAKE3's.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use proptest::prelude::*;
use quipu_crypto::hash::{Context, Hash};
use quipu_crypto::lattice::{LATTICE_LENGTH, LatticeHash};

fn of(elements: &[Vec<u8>]) -> LatticeHash {
    let mut lattice = LatticeHash::new();
    for element in elements {
        lattice.add_element(element);
    }
    lattice
}

/// The sum over the text of the definition: lane by lane, from BLAKE3 itself.
#[test]
fn the_sum_is_the_one_of_the_definition() {
    let elements: Vec<Vec<u8>> = (0..200_u32).map(|number| number.to_le_bytes().repeat(7)).collect();
    let mut lanes = [0_u16; 1024];
    for element in &elements {
        let mut expansion = [0; LATTICE_LENGTH];
        let mut hasher = blake3::Hasher::new_derive_key("quipu v1 state element");
        hasher.update(element).finalize_xof().fill(&mut expansion);
        for (place, lane) in lanes.iter_mut().enumerate() {
            let term = u32::from(expansion[2 * place]) + 256 * u32::from(expansion[2 * place + 1]);
            *lane = u16::try_from((u32::from(*lane) + term) % 65_536).unwrap();
        }
    }
    let bytes: Vec<u8> = lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect();
    let lattice = of(&elements);
    assert_eq!(lattice.to_bytes()[..], bytes);
    assert_eq!(
        lattice.digest().as_bytes(),
        &blake3::derive_key("quipu v1 state digest", &bytes)
    );
}

#[test]
fn the_empty_set_is_all_zero() {
    assert_eq!(LatticeHash::new().to_bytes(), [0; LATTICE_LENGTH]);
    assert_eq!(
        LatticeHash::new().digest(),
        Hash::of(Context::StateDigest, &[&[0; LATTICE_LENGTH]])
    );
    assert_ne!(of(&[vec![]]), LatticeHash::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_does_not_matter_and_multiplicity_does(
        (elements, shuffled) in prop::collection::vec(any::<Vec<u8>>(), 1..20)
            .prop_flat_map(|elements| (Just(elements.clone()), Just(elements).prop_shuffle())),
    ) {
        prop_assert_eq!(of(&elements).digest(), of(&shuffled).digest());
        let mut twice = of(&elements);
        twice.add_element(&elements[0]);
        prop_assert_ne!(twice.digest(), of(&elements).digest());
    }

    #[test]
    fn what_is_added_and_removed_leaves_no_trace(
        kept in prop::collection::vec(any::<Vec<u8>>(), 0..10),
        gone in prop::collection::vec(any::<Vec<u8>>(), 0..10),
    ) {
        let mut lattice = LatticeHash::new();
        for element in &gone {
            lattice.remove_element(element);
        }
        let slices: Vec<&[u8]> = kept.iter().chain(&gone).map(Vec::as_slice).collect();
        lattice.add(&slices);
        prop_assert_eq!(lattice, of(&kept));
    }

    #[test]
    fn parts_combine_to_the_whole(elements in prop::collection::vec(any::<Vec<u8>>(), 0..20), cut in 0..20_usize) {
        let (first, second) = elements.split_at(cut.min(elements.len()));
        let mut sum = of(first);
        sum.combine(&of(second));
        prop_assert_eq!(&sum, &of(&elements));
        prop_assert_eq!(LatticeHash::from_bytes(&sum.to_bytes()), sum);
    }

    #[test]
    fn another_element_gives_another_digest(one in any::<Vec<u8>>(), other in any::<Vec<u8>>()) {
        let digest = |element: &Vec<u8>| of(std::slice::from_ref(element)).digest();
        prop_assert_eq!(digest(&one) == digest(&other), one == other);
    }
}
