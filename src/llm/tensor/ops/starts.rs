//! Offsets of the sequences in a ragged tensor.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use super::pack::Pack;

/// Offsets of the sequences in a ragged tensor: `[s₀ = 0, s₁, …, N]`. It also holds what operations on a device make
/// of it once and use in every layer; clones share that.
#[derive(Clone)]
pub struct Starts(Rc<Inner>);

struct Inner {
    starts: Box<[usize]>,
    pack: Pack,
}

impl Starts {
    /// Of sequences of those lengths.
    pub fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        let ends = lengths.into_iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.last().copied().unwrap_or(0)
    }

    /// Tokens of each sequence.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.windows(2).map(|w| w[1] - w[0])
    }

    /// Tokens of the longest sequence.
    pub fn longest(&self) -> usize {
        self.lengths().max().unwrap_or(0)
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
        **self == **other
    }
}

impl From<Vec<usize>> for Starts {
    fn from(starts: Vec<usize>) -> Self {
        let (starts, pack) = (starts.into(), Pack::default());
        Self(Rc::new(Inner { starts, pack }))
    }
}

impl FromIterator<usize> for Starts {
    fn from_iter<I: IntoIterator<Item = usize>>(starts: I) -> Self {
        starts.into_iter().collect::<Vec<_>>().into()
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.deref().fmt(f)
    }
}
