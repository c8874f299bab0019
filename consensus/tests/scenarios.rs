//! The scenarios of section 9 of the specification, one text file each: its name says what must hold.
//!
//! `QUIPU_UPDATE=1` rewrites what followed each command; `expect` lines hold whatever is rewritten.
//! `scenarios/INDEX.md` says where each scenario is shown, those that take clients, stores or connections in other
//! crates; `found.md` says the same of each bug that was found on the way.

#![allow(clippy::unwrap_used, clippy::panic)] // a test stops where it fails

mod network;
mod script;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

/// Every id of the specification's section 9.
fn ids() -> BTreeSet<String> {
    let kinds = [
        ("V", 12, ""),
        ("P", 6, ""),
        ("R", 18, ""),
        ("M", 13, ""),
        ("S", 7, ""),
        ("D", 10, ""),
        ("C", 8, "r"),
    ];
    let numbered = kinds.into_iter().flat_map(|(letter, last, end)| {
        let id = move |number| format!("{letter}-{number}{end}");
        (1..=last).map(id)
    });
    // The second of them is called by its place in the list.
    let last = (1..=10).map(|number| {
        if number == 2 {
            "76".to_owned()
        } else {
            format!("H-{number}")
        }
    });
    numbered.chain(last).collect()
}

/// The scenarios, tests and planted bugs that a table names in backquotes, each of which must be there.
fn named(line: &str, planted: &str, wrong: &mut Vec<String>) -> Vec<String> {
    let names: Vec<String> = line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    for name in &names {
        let there = match name.split_once(".rs: ") {
            Some((file, test)) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("..")
                    .join(format!("{file}.rs"));
                fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("fn {test}(")))
            }
            None => script::files().contains_key(name) || planted.contains(&format!("    {name}, ")),
        };
        if !there {
            wrong.push(format!("there is no {name}"));
        }
    }
    names
}

#[test]
fn the_tables_name_every_scenario_and_nothing_that_is_not_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let planted: String = fs::read_dir(folder.join("planted"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let mut wrong = Vec::new();
    let (mut missing, mut texts) = (ids(), script::files());
    for line in fs::read_to_string(folder.join("scenarios/INDEX.md")).unwrap().lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(id), Some(shown)) = (cells.next(), cells.next()) else {
            continue;
        };
        let names = named(shown, &planted, &mut wrong);
        if missing.remove(id) && names.is_empty() && !shown.starts_with("with ") {
            wrong.push(format!("{id} is shown by nothing"));
        }
        names.iter().for_each(|name| _ = texts.remove(name));
    }
    wrong.extend(missing.iter().map(|id| format!("{id} has no row")));
    wrong.extend(texts.keys().map(|name| format!("{name} is in no row")));
    let found = fs::read_to_string(folder.join("found.md")).unwrap();
    for line in found.lines().filter(|line| line.starts_with('|')) {
        named(line, &planted, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
