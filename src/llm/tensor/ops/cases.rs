//! Shapes on which operations are examined.

use std::rc::Rc;

use super::Starts;

/// ε of norms.
pub const EPSILON: f64 = 1e-5;

/// Shapes that operations are examined on.
pub struct Shapes {
    /// Sequences: one of length 1, one of a single block's length, one of several blocks'.
    pub starts: Starts,
    /// Sequences of which several go on from one prompt, and one of length 1.
    pub shared: Starts,
    /// N
    pub rows: usize,
    /// D
    pub width: usize,
    /// Many of 40 rows, repeated.
    pub repeated: Rc<[u32]>,
    /// Some of 170 rows.
    pub picks: Rc<[u32]>,
    /// Tokens, below 997.
    pub few: Rc<[u32]>,
    /// Tokens, below 8000: so many logits that they come in chunks.
    pub many: Rc<[u32]>,
}

impl Shapes {
    /// Shapes by whole numbers below those given.
    pub fn draw(mut below: impl FnMut(u32) -> usize) -> Self {
        let lengths = [1 + below(60), 1, 150 + below(150), 64, 2 + below(30)];
        let starts = Starts::of(lengths);
        let mut piece = |from, most, goes_on| (from + below(most), goes_on);
        let shared = Starts::branching([
            piece(1, 40, false),
            piece(1, 40, true),
            piece(130, 20, true),
            (1, false),
            piece(60, 40, false),
            (0, true),
            (1, true),
            piece(1, 20, true),
        ]);
        let mut ids = |count: usize, rows: u32| -> Rc<[u32]> {
            (0..count).map(|_| below(rows) as u32).collect()
        };
        Self {
            starts,
            shared,
            repeated: ids(300, 40),
            picks: ids(120, 170),
            few: ids(37, 997),
            many: ids(640, 8000),
            rows: 100 + below(100),
            width: 65 + below(100),
        }
    }
}
