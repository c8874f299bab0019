//! Keeps `network up`: a network made where there is none, started where there is one, and shown once it has a leader.
//!
//! Invariant: without `--detach`, the nodes stop with this program; with it, they outlive it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::place::{Place, lock};
use super::process::{self, Child};
use super::status::State;
use super::{Dir, START_WAIT, create, down};
use crate::cli::Global;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::session::{GENESIS_FILE, block_on};

/// How often a network is made anew where another program took a port in the last moment.
const TRIES: usize = 4;
/// How long a node is started again that finds its directory in use: a process that was killed takes a moment to end.
const RETRY: Duration = Duration::from_secs(3);
/// Pause before that.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Most nodes of a development network.
const MAX_NODES: i64 = 16;

/// Make a network in a directory, or start the one that is there, and wait until it has a leader.
#[derive(Args, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    dir: Dir,
    /// How many nodes a new network has (default 3).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_NODES))]
    nodes: Option<u32>,
    /// Leave the nodes running; otherwise they stop with this program, at Ctrl-C.
    #[arg(long)]
    detach: bool,
}

impl Up {
    pub(super) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let dir = self.dir.path(global)?;
        fs::create_dir_all(&dir).map_err(|error| Failure::file(&dir, "make", &error))?;
        let program = process::program()?;
        let wait = global.timeout.unwrap_or(START_WAIT);
        let mut tries = 0_usize;
        let (place, children) = loop {
            tries = tries.saturating_add(1);
            let made = !dir.join(GENESIS_FILE).exists();
            let (place, mut children) = self.start(&dir, &program)?;
            let shown = Progress::spinner(output, "starting");
            let failure = match wait_for(&place, wait, (&program, &mut children), State::has_leader) {
                Ok(()) => break (place, children),
                Err(failure) => failure,
            };
            drop(shown);
            if !self.detach || made {
                down(&place, output)?;
            }
            let taken = failure.message.contains("in use");
            if !(made && taken && tries < TRIES) {
                return Err(failure);
            }
            drop(children);
            create::take_back(&place.dir, self.count())?;
        };
        super::status::show(&place, output)?;
        if self.detach {
            return Ok(());
        }
        output.note("the nodes run until Ctrl-C");
        let stayed = block_on(stay(children, output));
        down(&place, output)?;
        output.note("all nodes have stopped; their data stay");
        stayed
    }

    fn count(&self) -> u32 {
        self.nodes.unwrap_or(3)
    }

    /// Makes the network where there is none, and starts what does not run.
    fn start(&self, dir: &Path, program: &Path) -> Result<(Place, Vec<Child>), Failure> {
        let _lock = lock(dir)?;
        let genesis = dir.join(GENESIS_FILE);
        let ports = if genesis.exists() {
            Vec::new()
        } else {
            create::create(dir, self.count(), program)?
        };
        let place = Place::open(dir)?;
        let there = place.members.len();
        if let Some(wanted) = self.nodes.filter(|wanted| usize::try_from(*wanted) != Ok(there)) {
            let text = format!("the network in {} has {there} nodes, not {wanted}", dir.display());
            return Err(Failure::usage(text).hint("leave --nodes away, or choose another directory"));
        }
        drop(ports);
        let mut children = Vec::new();
        for member in &place.members {
            if member.process()?.is_none() {
                children.push(member.start(program)?);
            }
        }
        Ok((place, children))
    }
}

/// Waits until the network is as wanted, or a child ends, or the time is over.
pub(super) fn wait_for(
    place: &Place,
    wait: Duration,
    (program, children): (&Path, &mut [Child]),
    mut wanted: impl FnMut(&State) -> bool,
) -> Result<(), Failure> {
    let session = place.session()?;
    let begun = Instant::now();
    session.run(async {
        loop {
            for child in children.iter_mut() {
                let Some(failure) = child.ended() else { continue };
                if begun.elapsed() > RETRY || !child.found_directory_in_use() {
                    return Err(failure);
                }
                tokio::time::sleep(RETRY_PAUSE).await;
                let _lock = place.lock()?;
                let member = place.member(&child.name)?;
                if member.process()?.is_some() {
                    // Another program has started it meanwhile.
                    return Err(failure);
                }
                *child = member.start(program)?;
            }
            let mut state = State::of(place)?;
            state.ask(&session).await?;
            if wanted(&state) {
                return Ok(());
            }
            if begun.elapsed() > wait {
                let text = format!("the network in {} is not ready after {wait:?}", place.dir.display());
                return Err(Failure::new(Exit::Unavailable, "not_ready", text).hint(
                    "a majority of the nodes must run; look into node.log of each, or wait longer with --timeout",
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Stays until a signal comes, and tells of nodes that end meanwhile.
async fn stay(mut children: Vec<Child>, output: Output) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = beat.tick() => children.retain_mut(|child| match child.ended() {
                Some(failure) => {
                    output.note(&failure.message);
                    false
                }
                None => true,
            }),
        }
    }
}
