//! Attention of narrow heads: their sums are so short that a product of matrices is laid out for longer than it takes.
//!
//! Queries lie side by side in the lanes of vectors, and take the keys one after another: `s += k_d · q_d` for all lanes at
//! once. Nothing is added up across lanes. In the backward the gradients of keys and values are made the same way, with
//! keys in the lanes.

#![expect(
    clippy::needless_range_loop,
    reason = "the library's iterators are not always inlined"
)]

pub mod backward;
pub mod forward;

use std::ops::Range;

use crate::llm::tensor::ops::attention::Attention;
use crate::llm::tensor::ops::attention::cpu::{Task, slope};
use crate::llm::tensor::ops::float::Float;

/// Queries, or keys, that are side by side.
pub const LANES: usize = 16;

/// A number of each lane.
type Lanes<T> = [T; LANES];

/// Rows of a sequence in a head's columns, by their positions.
#[derive(Clone, Copy)]
struct Strip<'a, T, const D: usize> {
    numbers: &'a [T],
    width: usize,
    /// Position of the first row.
    first: usize,
    /// Position behind the last.
    end: usize,
}

impl<'a, T: Float, const D: usize> Strip<'a, T, D> {
    /// A task's own rows, each of `width` numbers, in the columns of a query head.
    #[inline(always)]
    fn own(numbers: &'a [T], task: &Task, width: usize, head: usize) -> Self {
        let Range { start, end } = task.span.own;
        let numbers = &numbers[start * width..end * width];
        assert!((head + 1) * D <= width, "a head beyond its row");
        let Range { start: first, end } = task.queries();
        Self {
            numbers: &numbers[head * D..],
            width,
            first,
            end,
        }
    }

    /// Rows of a whole sequence, of this head alone.
    #[inline(always)]
    fn gathered(numbers: &'a [T]) -> Self {
        Self {
            numbers,
            width: D,
            first: 0,
            end: numbers.len() / D,
        }
    }

    /// The row at that position.
    #[inline(always)]
    fn row(&self, position: usize) -> &'a [T; D] {
        let within = (self.first..self.end).contains(&position);
        assert!(within, "a row beyond a sequence");
        let row = position - self.first;
        // SAFETY: the row is there, and its columns are within it.
        unsafe { &*self.numbers.as_ptr().add(row * self.width).cast() }
    }

    /// As many rows as there are lanes from that position on, side by side; zeros behind the last.
    #[inline(always)]
    fn tile(&self, from: usize) -> [Lanes<T>; D] {
        let mut tile = [[T::zero(); LANES]; D];
        for lane in 0..LANES.min(self.end - from) {
            let row = self.row(from + lane);
            for d in 0..D {
                tile[d][lane] = row[d];
            }
        }
        tile
    }
}

/// The products of a row with every lane of a tile.
#[inline(always)]
fn dots<T: Float, const D: usize>(row: &[T; D], tile: &[Lanes<T>; D]) -> Lanes<T> {
    let mut sums = [T::zero(); LANES];
    for lane in 0..LANES {
        let mut sum = T::zero();
        for d in 0..D {
            sum = row[d].mul_add(tile[d][lane], sum);
        }
        sums[lane] = sum;
    }
    sums
}

/// `sum_d + row_d · factor` in every lane.
#[inline(always)]
fn added<T: Float, const D: usize>(
    mut sums: [Lanes<T>; D],
    row: &[T; D],
    factors: &Lanes<T>,
) -> [Lanes<T>; D] {
    for lane in 0..LANES {
        for d in 0..D {
            sums[d][lane] = row[d].mul_add(factors[lane], sums[d][lane]);
        }
    }
    sums
}

/// Writes lanes to the next rows, at most `most`.
#[inline(always)]
fn write<'o, T: Float, const D: usize>(
    rows: &mut impl Iterator<Item = &'o mut [T]>,
    found: &[Lanes<T>; D],
    most: usize,
) {
    for (lane, row) in (0..LANES.min(most)).zip(rows) {
        for d in 0..D {
            row[d] = found[d][lane];
        }
    }
}

/// How scores of products come about in a head.
#[derive(Clone, Copy)]
struct Scoring<T> {
    scale: T,
    slope: Option<T>,
    window: usize,
}

/// What lies side by side.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Queries,
    Keys,
}

impl<T: Float> Scoring<T> {
    fn new(form: &Attention, head: usize) -> Self {
        const ALL: usize = isize::MAX as usize / 2;
        Self {
            scale: T::of(form.scale),
            slope: slope(form, head),
            window: form.window.map_or(ALL, |window| window.min(ALL)),
        }
    }

    /// The keys that some query of the tile from `query` on sees, of as many as there are.
    fn keys(&self, query: usize, length: usize) -> Range<usize> {
        (query + 1).saturating_sub(self.window)..length.min(query + LANES)
    }

    /// The queries that see some key of the tile from `key` on, of those that there are.
    fn queries(&self, key: usize, all: Range<usize>) -> Range<usize> {
        let from = key.max(all.start);
        from..all.end.min(key + LANES - 1 + self.window).max(from)
    }

    /// Scores of rows with every lane of a tile that begins at `at`; −∞ where a query does not see its key.
    #[inline(always)]
    fn write<const D: usize>(
        &self,
        scores: &mut [Lanes<T>],
        rows: &Strip<T, D>,
        range: Range<usize>,
        tile: &[Lanes<T>; D],
        at: usize,
        side: Side,
    ) {
        for (row, scores) in range.clone().zip(scores.iter_mut()) {
            let products = dots(rows.row(row), tile);
            for lane in 0..LANES {
                scores[lane] = self.scale * products[lane];
            }
        }
        // How far a query is behind its key, in the first lane.
        let first = |row: usize| match side {
            Side::Queries => at as isize - row as isize,
            Side::Keys => row as isize - at as isize,
        };
        if let Some(slope) = self.slope {
            let step = if side == Side::Queries { 1 } else { -1 };
            for (row, scores) in range.clone().zip(scores.iter_mut()) {
                for lane in 0..LANES {
                    let distance = first(row) + step * lane as isize;
                    scores[lane] -= slope * T::of(distance as f64);
                }
            }
        }
        // From row `before` to row `from` nothing is hidden from any lane.
        let [before, from] = match side {
            Side::Queries => [(at + LANES).saturating_sub(self.window), at + 1],
            Side::Keys => [at + LANES - 1, at + self.window],
        };
        let before = before.clamp(range.start, range.end);
        let from = from.clamp(before, range.end);
        for row in (range.start..before).chain(from..range.end) {
            let (first, window) = (first(row), self.window as isize);
            let seen = match side {
                Side::Queries => [-first, window - first],
                Side::Keys => [first - window + 1, first + 1],
            };
            let [from, to] = seen.map(|lane| lane.clamp(0, LANES as isize) as usize);
            let scores = &mut scores[row - range.start];
            scores[..from].fill(T::of(f64::NEG_INFINITY));
            scores[to..].fill(T::of(f64::NEG_INFINITY));
        }
    }
}
