//! Keeps what the build and the tests need beyond Rust: looks for each need, installs what is missing where that is
//! possible (as root with apt; libclang also from PyPI), and otherwise says what to do. Answers the environment that
//! cargo needs to find what was found. Changes nothing outside the package manager and cargo's target folder.

mod libclang;

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::command;

/// Variables for the cargo calls that follow.
pub(crate) type Environment = Vec<(String, String)>;

/// One thing that is needed, and where it comes from.
struct Need {
    name: &'static str,
    why: &'static str,
    /// Debian's package for it.
    package: &'static str,
    /// What to do where we cannot install it.
    advice: &'static str,
    /// Whether the build goes on without it.
    optional: bool,
    find: fn(&Path) -> Option<String>,
}

const NEEDS: [Need; 9] = [
    Need {
        name: "libclang",
        why: "bindgen reads RocksDB's headers with it",
        package: "libclang-dev",
        advice: "install LLVM's libclang (Fedora: clang-devel, Arch: clang, macOS: xcode-select --install) or set \
                 LIBCLANG_PATH to the folder that holds libclang.so",
        optional: false,
        find: libclang::found,
    },
    Need {
        name: "C++ compiler",
        why: "RocksDB is compiled from its source",
        package: "g++",
        advice: "install g++ or clang++ so that `c++ --version` answers",
        optional: false,
        find: |_| command::answer("c++", ["--version"]).map(first_line),
    },
    Need {
        name: "openssl",
        why: "tests let it read our key files",
        package: "openssl",
        advice: "install the openssl command line program",
        optional: false,
        find: |_| command::answer("openssl", ["version"]),
    },
    Need {
        name: "strace",
        why: "the test of power cuts watches with it what the store does to files, and is skipped without it",
        package: "strace",
        advice: "install strace (Linux only)",
        optional: true,
        find: |_| command::answer("strace", ["--version"]).map(first_line),
    },
    Need {
        name: "ip",
        why: "tests put nodes in network namespaces; without it faults of the network are not tested",
        package: "iproute2",
        advice: "install iproute2",
        optional: true,
        find: |_| command::answer("ip", ["-V"]),
    },
    Need {
        name: "libfaketime",
        why: "tests set the clocks of nodes wrong; without it wrong clocks are not tested",
        package: "libfaketime",
        advice: "install libfaketime",
        optional: true,
        find: |_| faketime(),
    },
    Need {
        name: "rustfmt",
        why: "`cargo xtask test` checks the format",
        package: "",
        advice: "rustup component add rustfmt",
        optional: false,
        find: |_| command::answer("cargo", ["fmt", "--version"]),
    },
    Need {
        name: "clippy",
        why: "`cargo xtask test` runs the lints",
        package: "",
        advice: "rustup component add clippy",
        optional: false,
        find: |_| command::answer("cargo", ["clippy", "--version"]),
    },
    Need {
        name: "cargo-nextest",
        why: "runs tests side by side; without it `cargo test` does",
        package: "",
        advice: "cargo install --locked cargo-nextest",
        optional: true,
        find: |_| command::answer("cargo", ["nextest", "--version"]).map(first_line),
    },
];

/// `cargo xtask setup`: looks, installs unless `check`, reports.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let environment = prepare(root, check)?;
    if !environment.is_empty() {
        println!("\n`cargo xtask` sets these by itself; a plain `cargo build` needs:");
        for (name, value) in environment {
            println!("    export {name}='{value}'");
        }
    }
    Ok(())
}

/// Sees to everything that is needed, and answers the environment for cargo. With `check` it only looks.
pub(crate) fn prepare(root: &Path, check: bool) -> anyhow::Result<Environment> {
    let target = target_directory(root)?;
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| (need.find)(&target).is_none()).collect();
    if !check && missing.iter().any(|need| !need.optional || !need.package.is_empty()) {
        install(&missing, &target);
    }
    let mut unmet = 0_usize;
    for need in &NEEDS {
        match (need.find)(&target) {
            Some(found) => println!("    {:<14} {found}", need.name),
            None => {
                let weight = if need.optional { "missing, optional" } else { "MISSING" };
                println!("    {:<14} {weight}: {}. To do: {}", need.name, need.why, need.advice);
                unmet = unmet.saturating_add(usize::from(!need.optional));
            }
        }
    }
    if unmet > 0 {
        bail!("{unmet} of the things that the build needs are missing; see above what to do");
    }
    Ok(libclang::environment(&target))
}

/// Where cargo puts what it builds: the wheel of libclang is kept there too.
pub(crate) fn target_directory(root: &Path) -> anyhow::Result<std::path::PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Installs what it can. A failure is no error here: the second look tells what is still missing.
fn install(missing: &[&Need], target: &Path) {
    let packages: Vec<&str> = missing
        .iter()
        .map(|need| need.package)
        .filter(|package| !package.is_empty())
        .collect();
    if !packages.is_empty() && apt_is_ours() {
        apt(&["update", "-qq"]);
        let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
        arguments.extend(&packages);
        apt(&arguments);
    }
    if libclang::found(target).is_none() {
        libclang::install_wheel(target);
    }
    for component in missing
        .iter()
        .map(|need| need.name)
        .filter(|name| ["rustfmt", "clippy"].contains(name))
    {
        announced(Command::new("rustup").args(["component", "add", component]));
    }
}

/// Where Debian puts it; the tests look there too.
fn faketime() -> Option<String> {
    ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|machine| format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| Path::new(path).exists())
}

fn apt_is_ours() -> bool {
    command::answer("id", ["-u"]).as_deref() == Some("0") && command::answer("apt-get", ["--version"]).is_some()
}

fn apt(arguments: &[&str]) {
    announced(
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    );
}

fn announced(command: &mut Command) {
    println!("    $ {}", command::shown(command));
    command.stdin(Stdio::null());
    if !command::succeeds(command).unwrap_or(false) {
        println!("    ... which failed; looking on without it");
    }
}

fn first_line(text: String) -> String {
    text.lines().next().map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_says_why_and_what_to_do() {
        for need in &NEEDS {
            assert!(!need.why.is_empty() && !need.advice.is_empty(), "{}", need.name);
        }
    }

    #[test]
    fn only_the_first_line_of_a_version_counts() {
        assert_eq!(first_line("g++ 12\nmore".to_owned()), "g++ 12");
        assert_eq!(first_line(String::new()), "");
    }
}
