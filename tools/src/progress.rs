//! Keeps progress bars: on a terminal only, on standard error, gone when the work is done.
//!
//! Invariant: where nobody watches, nothing is drawn and nothing is counted.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// A bar, or nothing.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// For work of `total` steps.
    pub(crate) fn new(output: Output, what: &'static str, total: u64) -> Self {
        let shape = "{msg:>12} [{bar:32}] {human_pos}/{human_len} {per_sec} {eta}";
        Self::with(
            output,
            what,
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
            shape,
        )
    }

    /// For work of unknown length.
    pub(crate) fn spinner(output: Output, what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self::with(output, what, bar, "{msg:>12} {spinner} {elapsed}")
    }

    fn with(output: Output, what: &'static str, bar: ProgressBar, shape: &str) -> Self {
        if !output.is_watched() {
            return Self(None);
        }
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Self(Some(bar))
    }

    pub(crate) fn advance(&self, steps: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(steps);
        }
    }

    pub(crate) fn set(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    pub(crate) fn message(&self, what: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
