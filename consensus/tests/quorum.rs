//! R-6 (openraft#1802): the quorum arithmetic equals the naive count, for any votes and any heights, joint ones too.

use proptest::prelude::*;
use quipu_consensus::block::Configuration;
use quipu_consensus::quorum;
use quipu_crypto::id::{Height, Slot};

/// Whether the voters named by the bits of `agree` are more than half of those named by `voters`.
fn naive_majority(voters: u8, agree: u8) -> bool {
    voters == 0 || (voters & agree).count_ones().saturating_mul(2) > voters.count_ones()
}

fn slots(bits: u8) -> std::collections::BTreeSet<Slot> {
    (0..8).filter(|place| bits >> place & 1 == 1).map(Slot).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_committed_height_is_the_greatest_that_a_naive_count_finds(
        voters in 1_u8..,
        outgoing: u8,
        heights in prop::collection::vec(0_u64..6, 8),
    ) {
        let configuration =
            Configuration { voters: slots(voters), outgoing: slots(outgoing), ..Configuration::default() };
        let held = |slot: Slot| {
            Height(usize::try_from(slot.0).ok().and_then(|slot| heights.get(slot)).copied().unwrap_or(0))
        };
        let naive = (0..6)
            .rev()
            .find(|height| {
                let holders = (0..8_u32).filter(|slot| held(Slot(*slot)) >= Height(*height));
                let agree = holders.fold(0, |all, slot| all | 1 << slot);
                naive_majority(voters, agree) && naive_majority(outgoing, agree)
            })
            .unwrap_or(0);
        prop_assert_eq!(quorum::height(&configuration, held), Height(naive));
    }

    #[test]
    fn a_quorum_is_one_in_each_majority(voters in 1_u8.., outgoing: u8, agree: u8) {
        let configuration =
            Configuration { voters: slots(voters), outgoing: slots(outgoing), ..Configuration::default() };
        let agreeing = slots(agree);
        let naive = naive_majority(voters, agree) && naive_majority(outgoing, agree);
        prop_assert_eq!(quorum::reached(&configuration, |slot| agreeing.contains(&slot)), naive);
    }
}
