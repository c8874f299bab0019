//! The format is fixed: a file that was written once must read for ever as the network that it was.
//!
//! `tests/golden/genesis.golden` is such a file, complete; `genesis.hex` beside it holds its canonical bytes, from
//! which an independent implementation computes the network id. If this test fails, a format has changed, not a test.

mod house;

use quipu_genesis::GenesisDocument;
use quipu_genesis::ceremony::require_complete;

const FILE: &str = include_str!("golden/genesis.golden");
const BYTES: &str = include_str!("golden/genesis.hex");
const NETWORK: &str = "c3405457031a84eaecdc418a2bfec15367fbb35063d67ea37793ff643547abf3";
const BLOCK_0: &str = "1a2fb15ca9fda2c3af192570af8803d54c841c69c3a55194824d4a1a2d66728a";

#[test]
fn the_golden_file_is_still_the_same_network() {
    let document = GenesisDocument::parse(FILE).unwrap();
    let genesis = require_complete(&document).unwrap();
    assert_eq!(hex::encode(genesis.encode()), BYTES.trim_end());
    assert_eq!(genesis.network_id().to_string(), NETWORK);
    assert_eq!(genesis.block().hash().to_string(), BLOCK_0);
}

#[test]
fn the_golden_file_is_still_written_the_same() {
    assert_eq!(house::signed(), GenesisDocument::parse(FILE).unwrap());
    assert_eq!(house::signed().to_toml(), FILE);
}

/// Writes the golden files anew, for a new format: `cargo test -p quipu-genesis --test golden -- --ignored`.
#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let genesis = house::signed().validate().unwrap();
    std::fs::write(folder.join("genesis.golden"), house::signed().to_toml()).unwrap();
    std::fs::write(
        folder.join("genesis.hex"),
        format!("{}\n", hex::encode(genesis.encode())),
    )
    .unwrap();
    println!("network {}\nblock 0 {}", genesis.network_id(), genesis.block().hash());
}
