//! Lines, paragraphs, a whole text.

use super::{Index, Scan, Scanned, Wrong};

/// Lines that are not blank.
pub(super) struct Lines {
    starts: Vec<u64>,
    start: u64,
    blank: bool,
    line: usize,
    plain: bool,
}

impl Lines {
    pub fn new() -> Self {
        Self {
            starts: Vec::new(),
            start: 0,
            blank: true,
            line: 1,
            plain: true,
        }
    }
}

impl Scan for Lines {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn piece(&mut self, bytes: &[u8], mut offset: u64) -> Scanned {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            if self.blank && !piece.trim_ascii().is_empty() {
                self.blank = false;
                self.starts.push(self.start);
                self.plain &= self.starts.len() == self.line;
            }
            offset += piece.len() as u64;
            if piece.ends_with(b"\n") {
                (self.start, self.blank) = (offset, true);
                self.line += 1;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, end: u64) -> Result<Index, Wrong> {
        Ok(Index {
            starts: self.starts,
            end,
            plain: self.plain,
            ..Index::default()
        })
    }

    fn last(&self) -> u64 {
        self.start
    }
}

/// What stands between blank lines.
#[derive(Default)]
pub(super) struct Paragraphs {
    starts: Vec<u64>,
    start: u64,
    /// Whether the line so far has something on it, and the one before.
    filled: bool,
    before: bool,
}

impl Scan for Paragraphs {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn piece(&mut self, bytes: &[u8], mut offset: u64) -> Scanned {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            if !self.filled && !piece.trim_ascii().is_empty() {
                self.filled = true;
                if !self.before {
                    self.starts.push(self.start);
                }
            }
            offset += piece.len() as u64;
            if piece.ends_with(b"\n") {
                self.start = offset;
                self.before = std::mem::take(&mut self.filled);
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, end: u64) -> Result<Index, Wrong> {
        Ok(Index {
            starts: self.starts,
            end,
            ..Index::default()
        })
    }

    fn last(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default().max(
            // Blank lines belong to no row.
            if self.before || self.filled {
                0
            } else {
                self.start
            },
        )
    }
}

/// All of it, if there is anything.
#[derive(Default)]
pub(super) struct Document {
    filled: bool,
}

impl Scan for Document {
    fn rows(&self) -> usize {
        usize::from(self.filled)
    }

    fn piece(&mut self, bytes: &[u8], _: u64) -> Scanned {
        self.filled |= !bytes.trim_ascii().is_empty();
        Ok(())
    }

    fn finish(self: Box<Self>, end: u64) -> Result<Index, Wrong> {
        Ok(Index {
            starts: if self.filled { vec![0] } else { Vec::new() },
            end,
            ..Index::default()
        })
    }

    fn last(&self) -> u64 {
        0
    }
}
