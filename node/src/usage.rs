//! Keeps what a process has used of its machine: processor, memory, disk, as Linux counts it under `/proc/self`.
//!
//! Invariant: what cannot be read is zero, never an error: nothing depends on it. Other systems have zeros.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::stages::Capped;

/// Most names of threads that an answer has.
pub const MAX_THREADS: usize = 64;
/// Clock ticks in a second, as `/proc` counts: 100 on every architecture that Linux tells user space about here.
const TICK_MS: u64 = 10;

/// What a process has used since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in the program, ms.
    pub user_ms: u64,
    /// Processor time in the system for it, ms.
    pub system_ms: u64,
    /// Bytes that it has caused to be sent to a disk.
    pub written: u64,
    /// Memory that it holds, bytes.
    pub resident: u64,
    /// The most that it ever held.
    pub resident_peak: u64,
    /// Its living threads, those of one name together.
    pub threads: Capped<ThreadUsage, MAX_THREADS>,
}

/// What the threads of one name have used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadUsage {
    /// The name, as the system keeps it: 15 bytes at most.
    pub name: String,
    /// How many.
    pub count: u64,
    /// Processor time, ns.
    pub cpu_nanos: u64,
    /// How long they were ready to run and had no processor, ns.
    pub ready_nanos: u64,
}

impl Usage {
    /// Of this process, now.
    #[must_use]
    pub fn now() -> Self {
        let (user_ms, system_ms) = processor(&text("/proc/self/stat"));
        let status = text("/proc/self/status");
        let io = text("/proc/self/io");
        let kibibytes = |name| field(&status, name).saturating_mul(1024);
        Self {
            user_ms,
            system_ms,
            written: field(&io, "write_bytes:").saturating_sub(field(&io, "cancelled_write_bytes:")),
            resident: kibibytes("VmRSS:"),
            resident_peak: kibibytes("VmHWM:"),
            threads: Capped::of(threads()),
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after `name` at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let number = rest.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// User and system time, ms. The name, second in the line, may hold anything, also brackets and spaces.
fn processor(stat: &str) -> (u64, u64) {
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after
        .split_whitespace()
        .skip(11)
        .map(|field| field.parse::<u64>().unwrap_or(0));
    let mut next = || fields.next().unwrap_or(0).saturating_mul(TICK_MS);
    (next(), next())
}

fn threads() -> Vec<ThreadUsage> {
    let mut found: BTreeMap<String, ThreadUsage> = BTreeMap::new();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks {
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else {
            continue;
        };
        let times = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut times = times.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        let name = name.trim_end().to_owned();
        let thread = found.entry(name.clone()).or_default();
        thread.name = name;
        thread.count = thread.count.saturating_add(1);
        thread.cpu_nanos = thread.cpu_nanos.saturating_add(times.next().unwrap_or(0));
        thread.ready_nanos = thread.ready_nanos.saturating_add(times.next().unwrap_or(0));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_linux_writes_them() {
        let stat = "6223 (a) b) R 6221 6221 30092 0 -1 4194304 135 0 0 0 17 5 0 0 20 0 1 0 3755905";
        assert_eq!(processor(stat), (170, 50));
        assert_eq!(processor(""), (0, 0));
        let io = "rchar: 6976\nwrite_bytes: 4096\ncancelled_write_bytes: 96\n";
        assert_eq!(field(io, "write_bytes:"), 4096);
        assert_eq!(field(io, "none:"), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_something() {
        let before = Usage::now();
        let mut number = 1_u64;
        while Usage::now().user_ms.saturating_add(Usage::now().system_ms) < before.user_ms + before.system_ms + 20 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let now = Usage::now();
        assert!(now.resident > 1_000_000 && now.resident_peak >= now.resident, "{now:?}");
        let cpu: u64 = now.threads.as_slice().iter().map(|thread| thread.cpu_nanos).sum();
        assert!(cpu > 0 && !now.threads.as_slice().is_empty(), "{now:?}");
    }
}
