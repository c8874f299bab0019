//! The scenarios of section 9 of the specification, one text file each: its name says what must hold.
//!
//! `QUIPU_UPDATE=1` rewrites what followed each command; `expect` lines hold whatever is rewritten.

#![allow(clippy::unwrap_used, clippy::panic)] // a test stops where it fails

mod network;
mod script;

use std::fs;
use std::path::PathBuf;

use quipu_consensus::raft::RaftRules;

fn files() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_goes_as_its_transcript_says() {
    let update = std::env::var("QUIPU_UPDATE").is_ok();
    let mut wrong = Vec::new();
    for file in files() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
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
