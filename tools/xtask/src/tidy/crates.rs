//! Keeps the rules about whole crates, from `cargo metadata`: which crate may use which, that every dependency from
//! outside stands in `allowed-dependencies.txt` with its reason, and that every crate forbids unsafe code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use super::rule::Rule;
use super::source::Source;
use super::{Finding, read, text};

const ALLOWED: &str = "tools/xtask/allowed-dependencies.txt";

/// Who may use whom: a crate, what it uses, what its tests use besides.
const ARROWS: [(&str, &[&str], &[&str]); 7] = [
    ("quipu-crypto", &[], &[]),
    ("quipu-ledger", &["quipu-crypto"], &[]),
    ("quipu-consensus", &["quipu-crypto"], &["quipu-ledger"]),
    ("quipu-genesis", &["quipu-crypto", "quipu-ledger"], &[]),
    (
        "quipu-node",
        &["quipu-crypto", "quipu-ledger", "quipu-consensus", "quipu-genesis"],
        &[],
    ),
    (
        "quipu-tools",
        &[
            "quipu-crypto",
            "quipu-ledger",
            "quipu-consensus",
            "quipu-genesis",
            "quipu-node",
        ],
        &[],
    ),
    ("xtask", &[], &[]),
];

/// A crate of the house, as far as the rules look at it.
struct Crate {
    name: String,
    manifest: Source,
    dependencies: Vec<Dependency>,
}

struct Dependency {
    name: String,
    is_ours: bool,
    is_for_tests: bool,
    features: Vec<String>,
}

/// What the crates of the checkout break.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .context("cargo metadata fails")?;
    let mut findings = Vec::new();
    let mut crates = Vec::new();
    for package in metadata.workspace_packages() {
        findings.extend(unsafe_code(root, &metadata, package)?);
        crates.push(Crate::of(root, &metadata, package)?);
    }
    for house in &crates {
        findings.extend(arrows(house));
    }
    let list = Source::new(ALLOWED, &read(root, ALLOWED)?);
    let manifest = Source::new("Cargo.toml", &read(root, "Cargo.toml")?);
    findings.extend(dependencies(&crates, &list, &manifest));
    Ok(findings)
}

impl Crate {
    fn of(root: &Path, metadata: &Metadata, package: &Package) -> anyhow::Result<Self> {
        let path = package.manifest_path.strip_prefix(&metadata.workspace_root)?.as_str();
        let dependencies = package.dependencies.iter().map(|dependency| Dependency {
            name: dependency.name.clone(),
            is_ours: dependency.path.is_some(),
            is_for_tests: dependency.kind == DependencyKind::Development,
            features: dependency.features.clone(),
        });
        let manifest = Source::new(path, &read(root, path)?);
        Ok(Crate {
            name: package.name.to_string(),
            manifest,
            dependencies: dependencies.collect(),
        })
    }
}

/// The line of a manifest or list that begins with a name; the first if none does.
fn line_of(source: &Source, name: &str) -> usize {
    let begins = |line: &str| {
        let rest = line.trim_start().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    source
        .text
        .lines()
        .position(begins)
        .map_or(1, |index| index.saturating_add(1))
}

fn arrows(house: &Crate) -> Vec<Finding> {
    let finding = |line, rule, what: String| house.manifest.finding(line, rule, what);
    let mut findings = Vec::new();
    if text::says_nothing(&house.name) {
        findings.extend(finding(
            1,
            Rule::Name,
            format!("crate `{}` says nothing about what is inside", house.name),
        ));
    }
    let Some((_, uses, tests_use)) = ARROWS.iter().find(|(name, ..)| *name == house.name) else {
        let what = format!(
            "crate `{}` has no place in the table of arrows (tidy/crates.rs)",
            house.name
        );
        findings.extend(finding(1, Rule::Arrow, what));
        return findings;
    };
    for dependency in house.dependencies.iter().filter(|dependency| dependency.is_ours) {
        let name = dependency.name.as_str();
        let may = uses.contains(&name) || dependency.is_for_tests && tests_use.contains(&name);
        if !may {
            let what = format!("`{}` must not use `{name}`", house.name);
            findings.extend(finding(line_of(&house.manifest, name), Rule::Arrow, what));
        }
    }
    findings
}

fn dependencies(crates: &[Crate], list: &Source, root_manifest: &Source) -> Vec<Finding> {
    let (allowed, mut findings) = allowed(list);
    let mut named: BTreeSet<String> = workspace_dependencies(&root_manifest.text);
    for house in crates {
        for dependency in house.dependencies.iter().filter(|dependency| !dependency.is_ours) {
            let name = dependency.name.as_str();
            let line = line_of(&house.manifest, name);
            if !allowed.contains_key(name) {
                let what = format!("`{name}` stands in no list of reasons");
                findings.extend(house.manifest.finding(line, Rule::Dependency, what));
            }
            if name == "ed25519-dalek" && dependency.features.iter().any(|feature| feature == "batch") {
                let what = "the feature `batch` of ed25519-dalek";
                findings.extend(house.manifest.finding(line, Rule::BatchVerification, what));
            }
            named.insert(name.to_owned());
        }
    }
    for (name, line) in &allowed {
        if !named.contains(name) {
            findings.extend(list.finding(*line, Rule::Dependency, format!("`{name}` is used by no crate")));
        }
    }
    findings
}

/// The names in the list with their lines, and what is wrong with the list itself.
fn allowed(list: &Source) -> (BTreeMap<String, usize>, Vec<Finding>) {
    let mut names = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, line) in list.text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index.saturating_add(1);
        let (name, reason) = line.split_once(" — ").unwrap_or((line.trim(), ""));
        if reason.split_whitespace().count() < 3 {
            findings.extend(list.finding(number, Rule::Dependency, format!("`{name}` has no reason after ` — `")));
        }
        if names.insert(name.to_owned(), number).is_some() {
            findings.extend(list.finding(number, Rule::Dependency, format!("`{name}` stands here twice")));
        }
    }
    (names, findings)
}

/// The names under `[workspace.dependencies]`.
fn workspace_dependencies(manifest: &str) -> BTreeSet<String> {
    let table: toml::Table = manifest.parse().unwrap_or_default();
    let dependencies = table
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"));
    let names = dependencies
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(|table| table.keys());
    names.cloned().collect()
}

/// Whether each library and program of a crate forbids unsafe code at its head.
fn unsafe_code(root: &Path, metadata: &Metadata, package: &Package) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for target in package
        .targets
        .iter()
        .filter(|target| target.is_lib() || target.is_bin())
    {
        let path = target.src_path.strip_prefix(&metadata.workspace_root)?.as_str();
        let source = Source::new(path, &read(root, path)?);
        findings.extend(forbids_unsafe(&source));
    }
    Ok(findings)
}

fn forbids_unsafe(source: &Source) -> Option<Finding> {
    let forbidden = source.text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    (!forbidden)
        .then(|| source.finding(1, Rule::Unsafe, "unsafe code is not forbidden"))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(name: &str, dependencies: &[(&str, bool, bool)]) -> Crate {
        let lines: Vec<String> = dependencies
            .iter()
            .map(|(name, ..)| format!("{name}.workspace = true"))
            .collect();
        let dependencies = dependencies.iter().map(|&(name, is_ours, is_for_tests)| Dependency {
            name: name.to_owned(),
            is_ours,
            is_for_tests,
            features: Vec::new(),
        });
        let manifest = Source::new("x/Cargo.toml", &format!("[dependencies]\n{}\n", lines.join("\n")));
        Crate {
            name: name.to_owned(),
            manifest,
            dependencies: dependencies.collect(),
        }
    }

    fn texts(findings: &[Finding]) -> Vec<String> {
        findings
            .iter()
            .map(|finding| format!("{}: {}", finding.line, finding.what))
            .collect()
    }

    #[test]
    fn arrows_run_one_way() {
        let tests_only = house(
            "quipu-consensus",
            &[("quipu-crypto", true, false), ("quipu-ledger", true, true)],
        );
        assert_eq!(texts(&arrows(&tests_only)), [""; 0]);
        let product = house(
            "quipu-consensus",
            &[("quipu-crypto", true, false), ("quipu-ledger", true, false)],
        );
        assert_eq!(
            texts(&arrows(&product)),
            ["3: `quipu-consensus` must not use `quipu-ledger`"]
        );
        let upwards = house("quipu-crypto", &[("quipu-node", true, true)]);
        assert_eq!(
            texts(&arrows(&upwards)),
            ["2: `quipu-crypto` must not use `quipu-node`"]
        );
        assert_eq!(texts(&arrows(&house("quipu-newcomer", &[]))).len(), 1);
        assert_eq!(texts(&arrows(&house("quipu-utils", &[]))).len(), 2);
    }

    #[test]
    fn dependencies_have_reasons() {
        let check = |list: &str| {
            let crates = [house("quipu-crypto", &[("hex", false, false)])];
            let list = Source::new(ALLOWED, list);
            let root = Source::new("Cargo.toml", "[workspace.dependencies]\ntoml = \"1\"\n");
            texts(&dependencies(&crates, &list, &root))
        };
        assert_eq!(
            check("# reasons\nhex — bytes as text\ntoml — files of people\n"),
            [""; 0]
        );
        assert_eq!(
            check("toml — files of people\n"),
            ["2: `hex` stands in no list of reasons"]
        );
        assert_eq!(
            check("hex — bytes as text\nserde — for some reason\n"),
            ["2: `serde` is used by no crate"]
        );
        assert_eq!(check("hex\n"), ["1: `hex` has no reason after ` — `"]);
        assert_eq!(
            check("hex — bytes as text\nhex — bytes as text\n"),
            ["2: `hex` stands here twice"]
        );
    }

    #[test]
    fn the_batch_feature_of_dalek_stays_off() {
        let mut crates = [house("quipu-crypto", &[("ed25519-dalek", false, false)])];
        let list = Source::new(ALLOWED, "ed25519-dalek — keys and signing\n");
        let root = Source::new("Cargo.toml", "");
        assert_eq!(texts(&dependencies(&crates, &list, &root)), [""; 0]);
        crates[0].dependencies[0].features.push("batch".to_owned());
        assert_eq!(
            texts(&dependencies(&crates, &list, &root)),
            ["2: the feature `batch` of ed25519-dalek"]
        );
    }

    #[test]
    fn unsafe_code_is_forbidden_at_the_head() {
        let head = "//! Keeps one thing.\n#![forbid(unsafe_code)]\n";
        assert!(forbids_unsafe(&Source::new("a/src/lib.rs", head)).is_none());
        assert!(forbids_unsafe(&Source::new("a/src/lib.rs", "//! #![forbid(unsafe_code)]\n")).is_some());
    }
}
