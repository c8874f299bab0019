//! Keeps the rules that need no syntax: long lines, names of files, marks of unfinished work, paths of one machine.

use super::Finding;
use super::rule::Rule;
use super::source::Source;

const LINE: usize = 120;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 10] = [
    "utils", "util", "common", "helpers", "helper", "types", "misc", "manager", "managers", "stuff",
];

/// What this file breaks, before anyone parses it.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings: Vec<Finding> = name(source).into_iter().collect();
    let code = matches!(source.extension(), "rs" | "toml" | "sh" | "yml") || source.path == ".ci/run";
    for (index, line) in source.text.lines().enumerate() {
        let number = index.saturating_add(1);
        let width = line.chars().count();
        if code && width > LINE {
            findings.extend(source.finding(number, Rule::LineLength, format!("{width} characters, {LINE} at most")));
        }
        if code && is_unfinished(line) {
            findings.extend(source.finding(number, Rule::Unfinished, "a mark of unfinished work"));
        }
        if has_machine_path(line) {
            findings.extend(source.finding(number, Rule::MachinePath, "a path of one machine"));
        }
    }
    findings
}

fn name(source: &Source) -> Option<Finding> {
    let empty = source
        .path
        .split('/')
        .find(|part| says_nothing(part.split('.').next().unwrap_or(part)))?;
    source.finding(1, Rule::Name, format!("`{empty}` says nothing about what is inside"))
}

/// Whether one of a name's words is one of the empty ones.
pub(super) fn says_nothing(name: &str) -> bool {
    name.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word))
}

/// The marks stand here in two halves, so that this file passes its own rule.
fn is_unfinished(line: &str) -> bool {
    let words = line.split(|character: char| !character.is_alphanumeric());
    words
        .into_iter()
        .any(|word| [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")].contains(&word))
}

/// An absolute path into a folder that only this or that machine has.
fn has_machine_path(line: &str) -> bool {
    ["work", "root", "home", "Users"].iter().any(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            !before.is_some_and(|character| character.is_alphanumeric() || "._-/}>)$".contains(character))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::broken;

    const FINE: &str = "//! Keeps one thing.\n";

    #[test]
    fn line_length() {
        let line = |width: usize| format!("{FINE}// {}\n", "ä".repeat(width - 3));
        assert_eq!(broken("a/src/b.rs", &line(120)), [""; 0]);
        assert_eq!(broken("a/src/b.rs", &line(121)), ["line-length"]);
        assert_eq!(broken("a/Cargo.toml", &line(121)), ["line-length"]);
        assert_eq!(broken("README.md", &line(121)), [""; 0]);
        assert_eq!(broken("tools/data/x.ndjson", &line(300)), [""; 0]);
    }

    #[test]
    fn names() {
        for path in [
            "a/src/utils.rs",
            "a/src/key_helpers.rs",
            "a/src/common/mod.rs",
            "log-manager/src/x.rs",
        ] {
            assert_eq!(broken(path, FINE), ["name"], "{path}");
        }
        assert_eq!(broken("a/src/typesetting.rs", FINE), [""; 0]);
    }

    #[test]
    fn unfinished_work() {
        let mark = concat!("TO", "DO");
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}// {mark}: later\n")),
            ["unfinished"]
        );
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}// {}: later\n", concat!("FIX", "ME"))),
            ["unfinished"]
        );
        assert_eq!(
            broken("a/src/b.rs", &format!("{FINE}// {}\n", mark.to_lowercase())),
            [""; 0]
        );
    }

    #[test]
    fn machine_paths() {
        for folder in ["work", "root", "home"] {
            let path = format!("read it from /{folder}/somebody/x\n");
            assert_eq!(broken("README.md", &path), ["machine-path"], "{folder}");
            let inside = format!("see docs/{folder}/x and https://example.org/{folder}/x and $DIR/{folder}/\n");
            assert_eq!(broken("README.md", &inside), [""; 0], "{folder}");
        }
    }
}
