//! Keeps `network`: development networks of real `quipu-node` processes on this machine.
//!
//! Invariants: keys and genesis come from the steps of the ceremony; a process is signalled only after it was shown to
//! be the very one that was started; nothing that a network has written is ever deleted by these verbs.

mod create;
mod place;
mod ports;
mod process;
mod status;
mod up;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use place::{Member, Place};

/// How long a node may take to stop before it is killed (`down`) or given up (`stop`).
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How long a node may take until it answers, or a network until it has a leader, unless the user says otherwise.
const START_WAIT: Duration = Duration::from_secs(60);

/// Development networks of real nodes on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Make a network in a directory, or start the one that is there, and wait until it has a leader.
    Up(up::Up),
    /// Show where each node stands. Takes a genesis file of any network too.
    Status(Status),
    /// Stop one node.
    Stop(Stop),
    /// Start one node.
    Start(Start),
    /// Stop all nodes. Their data stay, and `network up` starts them again.
    Down(Down),
}

/// Which development network.
#[derive(Args, Clone, Debug)]
pub(crate) struct Dir {
    /// The network's directory (default: --network or QUIPU_NETWORK).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    dir: Dir,
    #[command(flatten)]
    identity: Identity,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// The node's name, like node1.
    node: String,
    /// Kill it with SIGKILL: it gets no chance to put anything in order.
    #[arg(long)]
    kill: bool,
    #[command(flatten)]
    dir: Dir,
}

#[derive(Args, Debug)]
pub(crate) struct Start {
    /// The node's name, like node1.
    node: String,
    #[command(flatten)]
    dir: Dir,
}

#[derive(Args, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    dir: Dir,
}

impl Network {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Self::Up(up) => up.run(global, output),
            Self::Status(verb) => {
                let global = verb.dir.over(global);
                status::run(&global, &verb.identity, output)
            }
            Self::Stop(verb) => {
                let place = verb.dir.place(global)?;
                stop(&place, place.member(&verb.node)?, verb.kill)?;
                status::show(&place, output)
            }
            Self::Start(verb) => {
                let place = verb.dir.place(global)?;
                start(&place, place.member(&verb.node)?, global)?;
                status::show(&place, output)
            }
            Self::Down(verb) => {
                let place = verb.dir.place(global)?;
                down(&place, output)?;
                status::show(&place, output)
            }
        }
    }
}

impl Dir {
    /// The options with `--dir` as the network, where it is given.
    fn over(&self, global: &Global) -> Global {
        Global {
            network: self.dir.clone().or_else(|| global.network.clone()),
            ..global.clone()
        }
    }

    fn path(&self, global: &Global) -> Result<PathBuf, Failure> {
        self.over(global).network.ok_or_else(|| {
            Failure::usage("no network directory was given").hint("give --dir, --network or QUIPU_NETWORK")
        })
    }

    fn place(&self, global: &Global) -> Result<Place, Failure> {
        Place::open(&self.path(global)?)
    }
}

/// Stops one node and waits until it is gone.
fn stop(place: &Place, member: &Member, kill: bool) -> Result<(), Failure> {
    let _lock = place.lock()?;
    let Some(process) = member.process()? else {
        let text = format!("{} is not running", member.name);
        return Err(Failure::general("not_running", text).hint("`quipu network status` shows what runs"));
    };
    process.signal(kill)?;
    if process.ends_within(STOP_WAIT) {
        return Ok(());
    }
    let text = format!(
        "{} (process {}) has not stopped after {STOP_WAIT:?}",
        member.name,
        process.pid()
    );
    Err(Failure::new(Exit::Unavailable, "still_running", text)
        .hint(format!("look into {}, or add --kill", member.log().display())))
}

/// Starts one node and waits until it takes part again: where there is a leader, until it has executed what was
/// committed when it first answered.
fn start(place: &Place, member: &Member, global: &Global) -> Result<(), Failure> {
    let lock = place.lock()?;
    if let Some(process) = member.process()? {
        let text = format!("{} runs already, as process {}", member.name, process.pid());
        return Err(Failure::general("running", text).hint("`quipu network status` shows what runs"));
    }
    let program = process::program()?;
    let mut child = member.start(&program)?;
    drop(lock);
    let wait = global.timeout.unwrap_or(START_WAIT);
    let mut aim = None;
    up::wait_for(place, wait, (&program, std::slice::from_mut(&mut child)), |state| {
        state.answers(&member.name) && state.has_caught_up(&member.name, &mut aim)
    })
}

/// Stops all nodes at once.
fn down(place: &Place, output: Output) -> Result<(), Failure> {
    let _lock = place.lock()?;
    let mut running = Vec::new();
    for member in &place.members {
        if let Some(process) = member.process()? {
            process.signal(false)?;
            running.push((member, process));
        }
    }
    for (member, process) in running {
        if process.ends_within(STOP_WAIT) {
            continue;
        }
        output.note(format_args!(
            "{} has not stopped after {STOP_WAIT:?}; it is killed",
            member.name
        ));
        process.signal(true)?;
        if !process.ends_within(STOP_WAIT) {
            let text = format!(
                "{} (process {}) does not even end when killed",
                member.name,
                process.pid()
            );
            return Err(Failure::general("still_running", text).hint("see what the system says about it"));
        }
    }
    Ok(())
}
