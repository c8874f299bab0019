//! Keeps where and when a set of figures was measured: what one must know before comparing it with another.

use std::path::Path;

use serde_json::{Value, json};

use crate::command::answer;

/// Commit, date and machine.
pub(super) fn facts(root: &Path) -> Value {
    let root = root.display().to_string();
    let git = |words: &[&str]| answer("git", ["-C", &root].iter().chain(words));
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = after(&file("/proc/meminfo"), "MemTotal:").and_then(|text| {
        let kibibytes = text.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(format!("{} MiB", kibibytes / 1024))
    });
    let processor = after(&file("/proc/cpuinfo"), "model name");
    json!({
        "commit": if changed { format!("{commit} and changes") } else { commit },
        "date": answer("date", ["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "cores": std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        "memory": memory,
        "kernel": answer("uname", ["-sr"]),
        "processor": processor.map(|name| name.trim_start_matches(':').trim().to_owned()),
        "load before": file("/proc/loadavg").split_whitespace().next(),
    })
}

/// The rest of the first line that begins with `name`.
fn after(text: &str, name: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_counts() {
        let text = "processor\t: 0\nmodel name\t: One\nmodel name\t: Two\n";
        assert_eq!(after(text, "model name").as_deref(), Some(": One"));
        assert_eq!(after(text, "none"), None);
    }
}
