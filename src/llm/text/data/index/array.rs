//! Elements of one JSON array.

use super::{Index, Scan, Scanned, Wrong};

/// Finds the commas between the elements, by strings and brackets alone. What is in an element is
/// looked at when it is read.
#[derive(Default)]
pub(super) struct Array {
    state: State,
    starts: Vec<u64>,
    /// Open brackets.
    depth: usize,
    text: bool,
    escaped: bool,
    /// Whether the element has something in it.
    filled: bool,
    end: u64,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Before,
    Inside,
    After,
}

const SHORT: &str = "fetch the file again: it must end with ]";

impl Array {
    fn byte(&mut self, byte: u8, at: u64) -> Scanned {
        if self.text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.text = false,
                _ => {}
            }
            return Ok(());
        }
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Before, b'[') => {
                self.state = State::Inside;
                self.starts.push(at + 1);
            }
            (State::Before, _) => {
                return self.wrong(at, "it is no JSON array".into(), "give a list of objects");
            }
            (State::After, _) => {
                let problem = "something follows the array's end".into();
                return self.wrong(
                    at,
                    problem,
                    "give one array; of JSON lines, say format: jsonl",
                );
            }
            (State::Inside, b']') if self.depth == 0 => {
                self.end = at;
                self.state = State::After;
                match (self.filled, self.starts.len()) {
                    (true, _) => {}
                    (false, 1) => self.starts.clear(),
                    (false, _) => return self.empty(at),
                }
            }
            (State::Inside, b',') if self.depth == 0 => {
                if !self.filled {
                    return self.empty(at);
                }
                self.filled = false;
                self.starts.push(at + 1);
            }
            (State::Inside, b'}' | b']') if self.depth == 0 => {
                let problem = format!("element {} has a bracket too many", self.starts.len());
                return self.wrong(at, problem, "give a list of objects");
            }
            (State::Inside, byte) => {
                if !self.filled {
                    self.filled = true;
                    // Its own line, not that of the comma before.
                    if let Some(start) = self.starts.last_mut() {
                        *start = at;
                    }
                }
                match byte {
                    b'"' => self.text = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn empty(&self, at: u64) -> Scanned {
        let problem = format!("element {} is empty", self.starts.len());
        self.wrong(at, problem, "take out the comma too many")
    }

    fn wrong(&self, offset: u64, problem: String, remedy: &'static str) -> Scanned {
        Err(Wrong {
            offset,
            problem,
            remedy,
        })
    }
}

impl Scan for Array {
    fn rows(&self) -> usize {
        self.starts.len()
    }

    fn piece(&mut self, bytes: &[u8], offset: u64) -> Scanned {
        for (&byte, at) in bytes.iter().zip(offset..) {
            self.byte(byte, at)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, end: u64) -> Result<Index, Wrong> {
        match self.state {
            State::After => Ok(Index {
                starts: self.starts,
                end: self.end,
                ..Index::default()
            }),
            _ => {
                let elements = self.starts.len();
                let problem = format!("it ends within element {elements} of its array");
                Err(Wrong {
                    offset: end,
                    problem,
                    remedy: SHORT,
                })
            }
        }
    }

    fn last(&self) -> u64 {
        match self.state {
            State::Inside => self.starts.last().copied().unwrap_or_default(),
            _ => u64::MAX,
        }
    }
}
