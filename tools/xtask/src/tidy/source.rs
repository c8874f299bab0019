//! Keeps a file of the checkout as the rules see it: its path, its lines, which part of the house it belongs to, and
//! which excuses (`// tidy(rule): reason`) stand in it.

use std::path::Path;

use anyhow::{Context, bail};

use super::Finding;
use super::rule::Rule;
use crate::command;

/// Words that a reason has at least.
const REASON_WORDS: usize = 3;

/// A text file of the checkout.
pub(super) struct Source {
    /// From the root of the checkout, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    pub(super) fn extension(&self) -> &str {
        Path::new(&self.path)
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("")
    }

    pub(super) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    /// Whether the place of the file says that it is test code.
    pub(super) fn is_test(&self) -> bool {
        let stem = Path::new(&self.path).file_stem().and_then(|stem| stem.to_str());
        let folders = self.path.rsplit_once('/').map_or("", |(folders, _)| folders);
        let apart = ["tests", "benches", "examples"];
        folders.split('/').any(|folder| apart.contains(&folder)) || stem == Some("tests")
    }

    /// Whether it is the first file of a crate, whose documentation may be longer.
    pub(super) fn is_crate_root(&self) -> bool {
        self.path.ends_with("src/lib.rs") || self.path.ends_with("src/main.rs") || self.path.contains("/src/bin/")
    }

    /// Whether what stands here must decide alike on every replica.
    pub(super) fn must_be_deterministic(&self) -> bool {
        let store = ["ledger/src/store.rs", "ledger/src/store/"];
        self.must_count_exactly() && !store.iter().any(|store| self.path.starts_with(store))
    }

    /// Whether a number that changes silently here could split the replicas.
    pub(super) fn must_count_exactly(&self) -> bool {
        self.path.starts_with("consensus/src/") || self.path.starts_with("ledger/src/")
    }

    /// A finding in this file, unless a reason excuses it.
    pub(super) fn finding(&self, line: usize, rule: Rule, what: impl Into<String>) -> Option<Finding> {
        let excused = match rule {
            Rule::FileLength | Rule::Opening | Rule::Unsafe => self.text.lines().any(|line| excuses(line, rule)),
            _ => self.excused_at(line, rule),
        };
        let found = || Finding {
            file: self.path.clone(),
            line,
            rule,
            what: what.into(),
        };
        (!excused).then(found)
    }

    /// Whether the line itself, or a comment or an attribute just above it, excuses the rule.
    fn excused_at(&self, line: usize, rule: Rule) -> bool {
        let mut upwards = self.text.lines().take(line).collect::<Vec<_>>().into_iter().rev();
        let itself = upwards.next().is_some_and(|text| excuses(text, rule));
        let is_note = |text: &&str| text.trim_start().starts_with("//") || text.trim_start().starts_with("#[");
        itself || upwards.take_while(is_note).any(|text| excuses(text, rule))
    }
}

/// Whether a line holds an excuse for a rule, with a reason.
fn excuses(line: &str, rule: Rule) -> bool {
    let marker = format!("// tidy({}):", rule.name());
    line.split_once(&marker)
        .is_some_and(|(_, reason)| reason.split_whitespace().count() >= REASON_WORDS)
}

/// Every text file that git knows or would take.
pub(super) fn tracked(root: &Path) -> anyhow::Result<Vec<Source>> {
    let folder = root.to_str().context("the path of the checkout is text")?;
    let arguments = [
        "-C",
        folder,
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--deduplicate",
    ];
    let Some(list) = command::answer("git", arguments) else {
        bail!("the house rules need the list of files from `git ls-files`, which fails here");
    };
    let mut sources = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let file = root.join(path);
        if !file.is_file() {
            continue; // deleted, and not yet committed
        }
        // What is not text, no rule reads.
        if let Ok(text) = String::from_utf8(std::fs::read(file)?) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}
