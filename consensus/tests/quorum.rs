//! R-6 (openraft#1802): the quorum arithmetic equals the naive count, for a million vectors of heights, joint
//! configurations too.

use proptest::prelude::*;
use quipu_consensus::block::Configuration;
use quipu_consensus::quorum;
use quipu_consensus::simulator::random::Random;
use quipu_crypto::id::{Height, Slot};

/// Whether the voters named by the bits of `agree` are more than half of those named by `voters`.
fn naive_majority(voters: u8, agree: u8) -> bool {
    voters == 0 || (voters & agree).count_ones().saturating_mul(2) > voters.count_ones()
}

fn slots(bits: u8) -> std::collections::BTreeSet<Slot> {
    (0..8).filter(|place| bits >> place & 1 == 1).map(Slot).collect()
}

fn byte(random: &mut Random) -> u8 {
    random.bits().to_le_bytes()[0]
}

#[test]
fn the_committed_height_is_the_greatest_that_a_naive_count_finds() {
    let mut random = Random::new(6);
    let mut joint = 0_u32;
    for _ in 0..1_000_000 {
        let voters = byte(&mut random).max(1);
        let outgoing = if random.chance(500) { byte(&mut random) } else { 0 };
        joint = joint.saturating_add(u32::from(outgoing != 0));
        // A few heights for eight voters, so that they often meet.
        let heights = random.bits().to_le_bytes().map(|byte| u64::from(byte % 6));
        let configuration = Configuration {
            voters: slots(voters),
            outgoing: slots(outgoing),
            ..Configuration::default()
        };
        let height = |slot: Slot| usize::try_from(slot.0).ok().and_then(|slot| heights.get(slot)).copied();
        let holders = |least: u64| {
            let holds = |slot: &u32| height(Slot(*slot)).is_some_and(|height| height >= least);
            (0..8_u32).filter(holds).fold(0_u8, |all, slot| all | 1 << slot)
        };
        let decides = |agree: u8| naive_majority(voters, agree) && naive_majority(outgoing, agree);
        let naive = (0..6).rev().find(|least| decides(holders(*least))).unwrap_or(0);
        let held = |slot| Height(height(slot).unwrap_or(0));
        assert_eq!(
            quorum::height(&configuration, held),
            Height(naive),
            "{configuration:?} {heights:?}"
        );
    }
    assert!(joint > 400_000, "{joint} joint configurations");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_quorum_is_one_in_each_majority(voters in 1_u8.., outgoing: u8, agree: u8) {
        let configuration =
            Configuration { voters: slots(voters), outgoing: slots(outgoing), ..Configuration::default() };
        let agreeing = slots(agree);
        let naive = naive_majority(voters, agree) && naive_majority(outgoing, agree);
        prop_assert_eq!(quorum::reached(&configuration, |slot| agreeing.contains(&slot)), naive);
    }
}
