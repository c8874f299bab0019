//! Keeps where libclang is: named by `LIBCLANG_PATH`, where bindgen looks by itself, or in the wheel from PyPI that is
//! laid into cargo's target folder. Invariant: the environment says only what bindgen would not find by itself, so
//! that a plain `cargo build` and `cargo xtask` work in the same one wherever possible.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Environment;
use crate::command;

const WHEEL: &str = "libclang==18.1.1";

/// Folders where bindgen looks without being told, `*` for one name.
const USUAL: [&str; 10] = [
    "/usr/lib/llvm-*/lib",
    "/usr/lib/*-linux-gnu",
    "/usr/lib64",
    "/usr/lib64/llvm*/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/llvm*/lib",
    "/usr/local/opt/llvm*/lib",
    "/Library/Developer/CommandLineTools/usr/lib",
    "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib",
];

/// Where the compiler's own headers stand when they are installed.
const HEADERS: [&str; 5] = [
    "/usr/lib/llvm-*/lib/clang/*/include",
    "/usr/lib/clang/*/include",
    "/usr/lib64/clang/*/include",
    "/usr/local/llvm*/lib/clang/*/include",
    "/Library/Developer/CommandLineTools/usr/lib/clang/*/include",
];

/// Where libclang is and who led there.
enum Place {
    /// bindgen finds it by itself.
    Known(PathBuf),
    /// bindgen must be told.
    Told(PathBuf),
}

/// The folder of libclang, for people.
pub(super) fn found(target: &Path) -> Option<String> {
    place(target).map(|place| match place {
        Place::Known(path) | Place::Told(path) => path.display().to_string(),
    })
}

/// What cargo must be told so that bindgen finds libclang, and libclang the compiler's own headers.
pub(super) fn environment(target: &Path) -> Environment {
    let mut environment = Environment::new();
    let Some(place) = place(target) else {
        return environment;
    };
    if let Place::Told(path) = &place {
        environment.push(("LIBCLANG_PATH".to_owned(), path.display().to_string()));
    }
    let extra = "BINDGEN_EXTRA_CLANG_ARGS";
    let bare = HEADERS.iter().all(|pattern| expand(pattern).is_empty());
    if std::env::var_os(extra).is_none() && (bare || matches!(place, Place::Told(_))) {
        // The library alone, as in the wheel, comes without stddef.h; gcc's serves as well.
        let headers = command::answer("cc", ["-print-file-name=include"]).filter(|path| Path::new(path).is_dir());
        environment.extend(headers.map(|headers| (extra.to_owned(), format!("-I{headers}"))));
    }
    environment
}

/// Lays the wheel into the target folder.
pub(super) fn install_wheel(target: &Path) {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target"]);
    pip.arg(wheel(target))
        .arg(WHEEL)
        .stdin(Stdio::null())
        .env("PIP_ROOT_USER_ACTION", "ignore");
    super::announced(&mut pip);
}

fn place(target: &Path) -> Option<Place> {
    if let Some(named) = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from) {
        let here = holds_libclang(&named) || named.is_file();
        return here.then_some(Place::Known(named));
    }
    let of_llvm = command::answer("llvm-config", ["--libdir"]).map(PathBuf::from);
    let usual = USUAL.iter().flat_map(|pattern| expand(pattern));
    if let Some(path) = of_llvm.into_iter().chain(usual).find(|path| holds_libclang(path)) {
        return Some(Place::Known(path));
    }
    let native = wheel(target).join("clang/native");
    holds_libclang(&native).then_some(Place::Told(native))
}

fn wheel(target: &Path) -> PathBuf {
    target.join("libclang-wheel")
}

/// Whether a folder has a file that bindgen's loader accepts: libclang.so, libclang-14.so, libclang.so.1, ...
fn holds_libclang(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| is_libclang(&entry.file_name().to_string_lossy()))
}

fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let version = rest.strip_prefix('-').map_or(rest, |rest| {
        rest.trim_start_matches(|c: char| c.is_numeric() || c == '.')
    });
    rest == ".dylib" || version == "so" || version.starts_with(".so") || version.starts_with("so.")
}

/// The folders that a pattern stands for.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        paths = match part.split_once('*') {
            None => paths
                .iter()
                .map(|path| path.join(part))
                .filter(|path| path.exists())
                .collect(),
            Some((before, after)) => paths.iter().flat_map(|path| matching(path, before, after)).collect(),
        };
    }
    paths
}

fn matching(directory: &Path, before: &str, after: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
        });
    names.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library() {
        for name in [
            "libclang.so",
            "libclang-14.so",
            "libclang.so.1",
            "libclang-14.0.6.so",
            "libclang-14.so.13",
        ] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang_rt.asan.so", "libclangAST.a", "libc.so"] {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn the_wheel_is_found_where_it_is_laid() {
        let target = tempfile::tempdir().unwrap();
        let native = wheel(target.path()).join("clang/native");
        assert!(!holds_libclang(&native));
        std::fs::create_dir_all(&native).unwrap();
        std::fs::write(native.join("libclang.so"), "").unwrap();
        assert!(holds_libclang(&native));
    }

    #[test]
    fn a_pattern_stands_for_the_folders_that_are_there() {
        let target = tempfile::tempdir().unwrap();
        for name in ["llvm-14", "llvm-18", "other"] {
            std::fs::create_dir_all(target.path().join(name).join("lib")).unwrap();
        }
        let mut found = expand(&format!("{}/llvm-*/lib", target.path().display()));
        found.sort();
        assert_eq!(
            found,
            ["llvm-14/lib", "llvm-18/lib"].map(|name| target.path().join(name))
        );
    }
}
