//! Keeps the house rules and runs them over the checkout: text rules over every file that git knows, syntax rules over
//! every Rust file, arrows and dependencies over cargo's metadata. A rule may be broken for a reason: one comment
//! `// tidy(rule): reason` on the line or just above it; for rules about a whole file, anywhere in it.

mod crates;
mod paths;
pub(crate) mod rule;
mod source;
mod syntax;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Context;

use rule::Rule;
use source::Source;

/// One place where a rule is broken.
#[derive(Debug)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    rule: Rule,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { file, line, rule, what } = self;
        write!(out, "{file}:{line}: {}: {what}; {}", rule.name(), rule.advice())
    }
}

/// All findings in the checkout at `root`, in order of file and line.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let sources = source::tracked(root)?;
    let mut findings = check_sources(&sources);
    findings.extend(crates::check(root)?);
    findings.sort_by(|a, b| (&a.file, a.line, a.rule.name()).cmp(&(&b.file, b.line, b.rule.name())));
    Ok(findings)
}

fn check_sources(sources: &[Source]) -> Vec<Finding> {
    let test_files: BTreeSet<String> = sources.iter().flat_map(syntax::test_modules).collect();
    let is_test = |source: &Source| {
        source.is_test()
            || test_files
                .iter()
                .any(|file| source.path == *file || within(&source.path, file))
    };
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(text::check(source));
        if source.is_rust() {
            findings.extend(syntax::check(source, is_test(source)));
        }
    }
    findings
}

/// Whether `path` belongs to the module tree below the module file `file`.
fn within(path: &str, file: &str) -> bool {
    let folder = file
        .strip_suffix("/mod.rs")
        .or_else(|| file.strip_suffix(".rs"))
        .unwrap_or(file);
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The text of a file of the checkout.
fn read(root: &Path, path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the rules that a file breaks.
    pub(super) fn broken(path: &str, text: &str) -> Vec<&'static str> {
        broken_in(&[(path, text)])
    }

    pub(super) fn broken_in(files: &[(&str, &str)]) -> Vec<&'static str> {
        let sources: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        check_sources(&sources)
            .iter()
            .map(|finding| finding.rule.name())
            .collect()
    }

    #[test]
    fn the_house_is_tidy() {
        let root = crate::workspace_root().unwrap();
        let findings = check(&root).unwrap();
        let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = Finding {
            file: "a/b.rs".to_owned(),
            line: 7,
            rule: Rule::Unwrap,
            what: "it may panic".to_owned(),
        };
        let text = finding.to_string();
        assert!(text.starts_with("a/b.rs:7: unwrap: it may panic; "), "{text}");
    }

    #[test]
    fn a_reason_excuses_a_line_and_only_with_words() {
        let broken_line = "//! Keeps one thing.\npub fn f(x: Option<u8>) {\n    x.unwrap();\n}\n";
        assert_eq!(broken("node/src/a.rs", broken_line), ["unwrap"]);
        let above = broken_line.replace("    x.", "    // tidy(unwrap): the caller has just filled it\n    x.");
        assert_eq!(broken("node/src/a.rs", &above), [""; 0]);
        let beside = broken_line.replace("();\n}", "(); // tidy(unwrap): the caller has just filled it\n}");
        assert_eq!(broken("node/src/a.rs", &beside), [""; 0]);
        let wordless = above.replace("the caller has just filled it", "because");
        assert_eq!(broken("node/src/a.rs", &wordless), ["unwrap"]);
        let other_rule = above.replace("tidy(unwrap)", "tidy(cast)");
        assert_eq!(broken("node/src/a.rs", &other_rule), ["unwrap"]);
    }

    #[test]
    fn a_module_that_is_only_for_tests_is_test_code() {
        let parent = ("node/src/a.rs", "//! Keeps one thing.\n#[cfg(test)]\nmod checks;\n");
        let child = "//! Checks one thing.\npub fn f(x: Option<u8>) {\n    x.unwrap();\n}\n";
        assert_eq!(broken_in(&[parent, ("node/src/a/checks.rs", child)]), [""; 0]);
        assert_eq!(broken_in(&[parent, ("node/src/a/checks/deep.rs", child)]), [""; 0]);
        assert_eq!(broken_in(&[parent, ("node/src/b/checks.rs", child)]), ["unwrap"]);
    }
}
