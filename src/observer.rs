//! What long work says while it is done.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Hears of long work, from any thread: lines for a person, and how far it is. [`Silent`] is for those who
/// do not want to know; the command draws bars.
pub trait Observer: Sync {
    /// Hears a line that a person may want to know.
    fn tell(&self, line: &str);

    /// Hears that work of that name begins, of `length` items or bytes. It has ended once the answer is
    /// dropped.
    fn begin(&self, name: &str, length: u64) -> Box<dyn Work + '_>;
}

/// Work under way, as an [`Observer`] follows it.
pub trait Work: Sync {
    /// So many more items or bytes are done; none, where it only goes on.
    fn advance(&self, by: u64);

    /// So many were done before it began, and say nothing about how long the rest takes.
    fn skip(&self, by: u64);

    /// Says what it is at, in place of its name.
    fn note(&self, text: fmt::Arguments);

    /// True once nobody waits for it any more: work that can be left leaves with [`Error::Interrupted`](crate::error::Error::Interrupted).
    fn is_unwanted(&self) -> bool {
        false
    }

    /// Does something else meanwhile, which may have work of its own to tell of.
    fn aside(&self, other: &mut dyn FnMut()) {
        other();
    }
}

/// An observer whose work is unwanted once a flag is set.
pub struct Until<'a> {
    /// Hears all else.
    pub observer: &'a dyn Observer,
    /// The flag.
    pub stop: &'a AtomicBool,
}

impl Observer for Until<'_> {
    fn tell(&self, line: &str) {
        self.observer.tell(line);
    }

    fn begin(&self, name: &str, length: u64) -> Box<dyn Work + '_> {
        Box::new(UntilDone {
            work: self.observer.begin(name, length),
            stop: self.stop,
        })
    }
}

/// Work of [`Until`].
struct UntilDone<'a> {
    work: Box<dyn Work + 'a>,
    stop: &'a AtomicBool,
}

impl Work for UntilDone<'_> {
    fn advance(&self, by: u64) {
        self.work.advance(by);
    }

    fn skip(&self, by: u64) {
        self.work.skip(by);
    }

    fn note(&self, text: fmt::Arguments) {
        self.work.note(text);
    }

    fn is_unwanted(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.work.is_unwanted()
    }

    fn aside(&self, other: &mut dyn FnMut()) {
        self.work.aside(other);
    }
}

/// An observer that leaves everything unsaid.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn tell(&self, _: &str) {}

    fn begin(&self, _: &str, _: u64) -> Box<dyn Work + '_> {
        Box::new(Self)
    }
}

impl Work for Silent {
    fn advance(&self, _: u64) {}
    fn skip(&self, _: u64) {}
    fn note(&self, _: fmt::Arguments) {}
}

/// [`Silent`].
impl Default for &dyn Observer {
    fn default() -> Self {
        &Silent
    }
}
