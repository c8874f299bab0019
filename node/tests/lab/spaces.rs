//! Keeps network namespaces: one a site, each with all addresses of the lab on its loopback and no other device.
//!
//! Invariant: they carry the id of this process in their names; they end with the lab, and what a killed run has left
//! is removed by the next one, its processes with it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::switch;

const PREFIX: &str = "quipu-lab";

pub(crate) struct Spaces {
    spaces: Vec<(String, File)>,
}

impl Spaces {
    /// None where it is not permitted.
    pub(crate) fn make(sites: usize) -> Option<Self> {
        sweep();
        let mut made = Self { spaces: Vec::new() };
        for site in 0..sites {
            let name = format!("{PREFIX}-{}-{site}", std::process::id());
            if !ip(&["netns", "add", &name]) {
                return None;
            }
            let file = File::open(Path::new("/run/netns").join(&name)).ok()?;
            made.spaces.push((name.clone(), file));
            // All addresses of the lab are local; its own one is the source of what is sent from here.
            let own = format!("{}/24", switch::address(site).ip());
            if !ip(&["-n", &name, "addr", "add", &own, "dev", "lo"]) || !ip(&["-n", &name, "link", "set", "lo", "up"]) {
                return None;
            }
        }
        let entered = std::thread::spawn({
            let file = made.spaces[0].1.try_clone().ok()?;
            move || move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).is_ok()
        });
        entered.join().unwrap_or(false).then_some(made)
    }

    pub(crate) fn name(&self, site: usize) -> &str {
        &self.spaces[site].0
    }

    /// Moves this thread to a site: its sockets are made there from now on.
    pub(crate) fn enter(&self, site: usize) {
        move_into_link_name_space(self.spaces[site].1.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for (name, _) in &self.spaces {
            remove(name);
        }
    }
}

/// Removes what runs have left that are no more.
fn sweep() {
    let Ok(listed) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in listed
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            println!("removing {name}, left by an earlier run");
            remove(&name);
        }
    }
}

/// Ends what runs in a namespace of ours, and removes it.
fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for pid in pids.unwrap_or_default().split_whitespace() {
        let pid: Option<i32> = pid.parse().ok();
        // A thread of this process may be at that site.
        let other = pid.filter(|pid| u32::try_from(*pid).is_ok_and(|pid| pid != std::process::id()));
        if let Some(pid) = other.and_then(Pid::from_raw) {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
    ip(&["netns", "del", name]);
}

fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
