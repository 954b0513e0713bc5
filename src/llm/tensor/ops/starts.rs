//! Offsets of the sequences in a ragged tensor.

use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

use super::pack::Pack;

/// Offsets of the pieces of a ragged tensor: `[s₀ = 0, s₁, …, N]`. A piece is a sequence; or it goes on from the last
/// piece before it that does not go on itself, as completions do from their prompt, which lies there once. It also
/// holds what operations on a device make of it once and use in every layer; clones share that.
#[derive(Clone)]
pub struct Starts(Rc<Inner>);

struct Inner {
    starts: Box<[usize]>,
    /// The piece that each goes on from, or itself; empty where none goes on.
    from: Box<[usize]>,
    pack: Pack,
}

/// The rows of a sequence: those that others go on from too, and its own behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Rows of the piece that it goes on from.
    pub prefix: Range<usize>,
    /// Its own.
    pub own: Range<usize>,
}

impl Span {
    /// Tokens of it.
    pub fn length(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    /// The row of a token of it.
    pub fn row(&self, token: usize) -> usize {
        match token.checked_sub(self.prefix.len()) {
            None => self.prefix.start + token,
            Some(later) => self.own.start + later,
        }
    }

    /// All rows, in the order of their tokens.
    pub fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        self.prefix.clone().chain(self.own.clone())
    }
}

impl Starts {
    /// Of sequences of those lengths.
    pub fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::branching(lengths.into_iter().map(|length| (length, false)))
    }

    /// Of pieces of those lengths, which go on or do not; the first does not.
    pub fn branching(pieces: impl IntoIterator<Item = (usize, bool)>) -> Self {
        let (mut starts, mut from) = (vec![0], Vec::new());
        let (mut end, mut last) = (0, 0);
        for (i, (length, goes_on)) in pieces.into_iter().enumerate() {
            end += length;
            starts.push(end);
            if !goes_on {
                last = i;
            }
            from.push(last);
        }
        if from.iter().enumerate().all(|(i, &from)| i == from) {
            from.clear();
        }
        Self::new(starts, from)
    }

    fn new(starts: Vec<usize>, from: Vec<usize>) -> Self {
        let pack = Pack::default();
        Self(Rc::new(Inner {
            starts: starts.into(),
            from: from.into(),
            pack,
        }))
    }

    /// Tokens of all pieces.
    pub fn tokens(&self) -> usize {
        self.last().copied().unwrap_or(0)
    }

    /// True if some piece goes on from another.
    pub fn branches(&self) -> bool {
        !self.0.from.is_empty()
    }

    /// The rows of each piece, and of what it goes on from.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        let from = &self.0.from;
        (self.windows(2).enumerate()).map(move |(i, w)| {
            let own = w[0]..w[1];
            let prefix = match from.get(i) {
                Some(&from) if from != i => self[from]..self[from + 1],
                _ => own.start..own.start,
            };
            Span { prefix, own }
        })
    }

    /// The [spans](Self::spans) of the pieces that have tokens: those that attention is asked for.
    pub fn filled(&self) -> impl Iterator<Item = Span> {
        self.spans().filter(|span| !span.own.is_empty())
    }

    /// The position of each token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.spans()
            .flat_map(|span| span.prefix.len() as u32..span.length() as u32)
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.spans().map(|span| span.length()).max().unwrap_or(0)
    }

    /// What has been made of it for a device.
    pub(super) fn pack(&self) -> &Pack {
        &self.0.pack
    }
}

impl Deref for Starts {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0.starts
    }
}

impl PartialEq for Starts {
    fn eq(&self, other: &Self) -> bool {
        **self == **other && self.0.from == other.0.from
    }
}

impl From<Vec<usize>> for Starts {
    fn from(starts: Vec<usize>) -> Self {
        Self::new(starts, Vec::new())
    }
}

impl FromIterator<usize> for Starts {
    fn from_iter<I: IntoIterator<Item = usize>>(starts: I) -> Self {
        starts.into_iter().collect::<Vec<_>>().into()
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.spans()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_on_from_their_prompt() {
        let starts = Starts::branching([(3, false), (2, true), (0, true), (4, false), (1, true)]);
        assert_eq!(*starts, [0, 3, 5, 5, 9, 10]);
        let spans: Vec<Span> = starts.spans().collect();
        let of = |prefix, own| Span { prefix, own };
        assert_eq!(spans[0], of(0..0, 0..3));
        assert_eq!(spans[1], of(0..3, 3..5));
        assert_eq!(spans[2], of(0..3, 5..5));
        assert_eq!(spans[4], of(5..9, 9..10));
        let positions: Vec<u32> = starts.positions().collect();
        assert_eq!(positions, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
        assert_eq!((starts.longest(), starts.tokens()), (5, 10));
        let rows: Vec<usize> = spans[4].rows().collect();
        assert_eq!(rows, [5, 6, 7, 8, 9]);
        assert!((0..5).all(|token| spans[4].row(token) == rows[token]));
        assert!(starts.branches() && !Starts::of([2, 3]).branches());
        assert_ne!(starts, Starts::of([3, 2, 0, 4, 1]));
    }
}
