//! Keeps the clock of the benches that counts only time spent on a core: what others do on this machine does not count.
#![allow(missing_docs, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time that the threads of this process have spent on a core, RocksDB's own ones apart.
pub fn on_core() -> Duration {
    // Linux books the time of a thread when it leaves its core.
    std::thread::yield_now();
    let read = |task: &Path, name: &str| std::fs::read_to_string(task.join(name)).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let ours = tasks.filter(|task| !read(task, "comm").starts_with("rocksdb"));
    let spent = |task: PathBuf| -> u64 {
        let text = read(&task, "schedstat");
        text.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(ours.map(spent).sum())
}
