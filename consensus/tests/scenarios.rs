//! The scenarios of section 9 of the specification, one text file each: its name says what must hold.
//!
//! `QUIPU_UPDATE=1` rewrites what followed each command; `expect` lines hold whatever is rewritten.

#![allow(clippy::unwrap_used, clippy::panic)] // a test stops where it fails

mod network;
mod script;

use std::fs;

use quipu_consensus::raft::RaftRules;

#[test]
fn every_scenario_goes_as_its_transcript_says() {
    let update = std::env::var("QUIPU_UPDATE").is_ok();
    let mut wrong = Vec::new();
    for (name, file) in script::files() {
        let text = fs::read_to_string(&file).unwrap();
        match script::play(RaftRules, &text) {
            Err(why) => wrong.push(format!("{name}: {why}")),
            Ok(played) if update => fs::write(&file, played).unwrap(),
            Ok(played) if played != text => {
                let differs = played.lines().zip(text.lines()).find(|(now, then)| now != then);
                wrong.push(format!("{name}: the transcript differs, first at {differs:?}"));
            }
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
