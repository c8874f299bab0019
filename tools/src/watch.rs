//! Keeps `watch`: the chain as it is executed, one line a block, until the reader has enough.
//!
//! Invariant: no block is left out and none comes twice, whatever happens to the nodes meanwhile.

use std::time::{Duration, Instant};

use clap::Args;
use quipu_crypto::id::Height;
use quipu_node::client_protocol::Call;

use crate::block::{self, Executed};
use crate::cli::{Global, Identity};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::session::Session;

/// How long to go on without an answer from anyone, unless the user says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for one answer; a node answers `Await` within 5 s.
const CALL: Duration = Duration::from_secs(15);

/// Follow the chain as it is executed.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Begin with this block; with the next new one where it is left away.
    #[arg(long, value_name = "HEIGHT")]
    from: Option<Height>,
    /// End after so many blocks.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// End when there is nothing more to show.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    identity: Identity,
}

impl Watch {
    pub(crate) fn run(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let session = Session::open(global, &self.identity)?;
        let patience = global.timeout.unwrap_or(PATIENCE);
        session.run(self.follow(&session, patience, output))
    }

    async fn follow(&self, session: &Session, patience: Duration, output: Output) -> Result<(), Failure> {
        let mut shown = 0;
        let mut next = match self.from {
            Some(height) => height,
            None => ask(session, None, patience).await?.1.next(),
        };
        while self.limit.is_none_or(|limit| shown < limit) {
            let (block, last) = ask(session, Some(next), patience).await?;
            if let Some(executed) = block {
                if output.is_json() {
                    output.line(executed.json())
                } else {
                    output.line(executed.line())
                }?;
                shown = shown.saturating_add(1);
                next = next.next();
            } else if self.once && last < next {
                return Ok(());
            } else {
                wait_for(session, next).await;
            }
        }
        Ok(())
    }
}

/// A block and the last executed height; asks again until `patience` is over.
async fn ask(
    session: &Session,
    height: Option<Height>,
    patience: Duration,
) -> Result<(Option<Executed>, Height), Failure> {
    let begun = Instant::now();
    loop {
        match session.call(Call::Block { height }, CALL.min(patience)).await {
            Ok(answer) => return block::read(answer),
            Err(failure) if failure.exit == Exit::Unavailable && begun.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Waits until a node may have executed `next`.
async fn wait_for(session: &Session, next: Height) {
    let after = next.previous().unwrap_or_default();
    let waited = session.call(Call::Await { after }, CALL).await;
    // A node that is behind answers at once again and again; one that cannot answer is asked again by the caller.
    let behind = waited.and_then(block::read).map_or(true, |(_, last)| last < next);
    if behind {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
