//! Progress bars and lines on standard error.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::observer::{Observer, Work};

/// Draws a bar for all work, and says lines. Bars are hidden where standard error is no terminal.
#[derive(Debug, Clone, Copy)]
pub struct Bars {
    /// How a bar looks, as a template of indicatif.
    style: &'static str,
    /// How often a bar is drawn anew where nothing goes on.
    tick: Option<Duration>,
}

impl Bars {
    /// With the name, how much is done and how long the rest will take.
    pub const fn new() -> Self {
        Self {
            style: "{msg} {wide_bar} {percent}% {eta} left",
            tick: None,
        }
    }

    /// With how many of how many are done, for items that take unlike times.
    #[cfg(feature = "llm")]
    pub const fn counting() -> Self {
        Self {
            style: "{wide_bar} {pos}/{len} {msg}",
            ..Self::new()
        }
    }

    /// Drawn anew so often while one item takes long, too.
    pub const fn ticking(self, every: Duration) -> Self {
        Self {
            tick: Some(every),
            ..self
        }
    }
}

impl Observer for Bars {
    fn tell(&self, line: &str) {
        tell!("{line}");
    }

    fn begin(&self, name: &str, length: u64) -> Box<dyn Work + '_> {
        let style = ProgressStyle::with_template(self.style);
        let bar = ProgressBar::new(length)
            .with_message(name.to_owned())
            .with_style(style.unwrap_or(ProgressStyle::default_bar()));
        if let Some(every) = self.tick {
            bar.enable_steady_tick(every);
        }
        Box::new(Bar(bar))
    }
}

/// A bar, taken away when its work ends.
struct Bar(ProgressBar);

impl Work for Bar {
    fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    fn skip(&self, by: u64) {
        self.0.inc(by);
        self.0.reset_eta();
    }

    fn note(&self, text: fmt::Arguments) {
        self.0.set_message(text.to_string());
    }

    fn aside(&self, other: &mut dyn FnMut()) {
        self.0.suspend(other);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
