//! Keeps the threads that execute blocks together: made once, asleep between blocks.
//!
//! Invariant: with one thread there are none: the caller does everything, in order. Leaves what is done together to
//! `crate::execute`; whatever runs first there, the outcome is the same.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::error::StoreError;
use crate::execute::Crew;

/// Fewer keys than this are done sooner than sleeping threads wake: that costs about 0.1 ms, a key 1 to 5 us.
const WORTH: usize = 256;

/// Threads that execute blocks together.
#[derive(Debug)]
pub struct Workers(Option<ThreadPool>);

impl Workers {
    /// So many threads, beside the one that asks: that one sleeps while they work. 0: one for every two cores,
    /// for signatures, the log and the network need cores as well, and shared work costs a little more of them in all.
    ///
    /// # Errors
    /// Where the system gives no threads.
    pub fn new(threads: usize) -> Result<Self, StoreError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
            given => given,
        };
        if threads == 1 {
            return Ok(Self::none());
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|number| format!("execute-{number}"))
            .build();
        let pool = pool.map_err(|error| StoreError::System {
            what: "starting threads for execution",
            error: error.to_string(),
        })?;
        Ok(Self(Some(pool)))
    }

    /// None: the caller works alone.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }
}

impl Crew for Workers {
    /// Operations that meet on the same keys cost more under locks than alone, and there is less to share.
    fn worth(&self, keys: usize, operations: usize) -> bool {
        self.0.is_some() && keys >= WORTH && keys.saturating_mul(2) >= operations
    }

    /// What is shared out within `lead` and not begun when the leader is ready, the leader takes back: so it never
    /// waits for a thread that has not got a core yet.
    fn enter<R: Send>(&self, lead: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(lead),
            None => lead(),
        }
    }

    fn share(&self, job: impl Fn() + Sync) {
        let Some(pool) = &self.0 else { return job() };
        pool.scope(|scope| {
            for _ in 1..pool.current_num_threads() {
                scope.spawn(|_| job());
            }
            job();
        });
    }
}
