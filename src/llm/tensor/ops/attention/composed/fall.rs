//! Columns that make scores fall with distance (ALiBi).

use candle_core::{DType, Device, Result as Candle, Tensor};

use crate::llm::tensor::ops::composed::{augmented, columns, wider};

/// What 8 bits hold of whole numbers of either sign.
const DIGIT: f64 = 256.0;

/// Columns of queries and of keys whose products are `−slope · (i − j)` of query i and key j.
///
/// A bias that is added to scores in bf16 would be rounded, and so would the sum; a position beyond 256 is none in
/// bf16. So `slope · j` is the product of columns of 8 bits each: three make a slope ([`columns`]), and one or more
/// digits to the base 256 a position. `−slope · i` is a number of each row, which columns hold too. Positions are
/// counted from the middle, so that what is summed in f32 is no larger than it has to be.
pub struct Fall {
    /// `[key heads, L · G, c]`
    queries: Vec<Tensor>,
    /// `[1, L, c]`
    keys: Vec<Tensor>,
}

impl Fall {
    /// Columns of sequences of that length, in numbers of so many bytes: a slope's parts for each digit of positions,
    /// and a row's number's.
    pub fn columns(length: usize, size: u64) -> usize {
        let parts = if size < 8 { 3 } else { 1 };
        let digits = if size < 8 && length > 2 * DIGIT as usize {
            2
        } else {
            1
        };
        parts * (digits + 1)
    }

    /// Of sequences of that length, for slopes of each query head, `share` of them a key head.
    pub fn new(
        slopes: &[f64],
        share: usize,
        length: usize,
        dtype: DType,
        device: &Device,
    ) -> Candle<Self> {
        let kv_heads = slopes.len() / share;
        let from_middle = |token: usize| token as f64 - (length / 2) as f64;
        // By row: the heads of a key head within a token.
        let of_rows = |f: &dyn Fn(f64, f64) -> f64| {
            let rows = slopes.chunks(share).flat_map(|slopes| {
                let rows = move |token| {
                    slopes
                        .iter()
                        .map(move |&slope| f(slope, from_middle(token)))
                };
                (0..length).flat_map(rows)
            });
            let rows = Tensor::from_iter(rows, device)?.to_dtype(wider(dtype))?;
            columns(&rows.reshape((kv_heads, length * share, 1))?, dtype)
        };
        let of_slopes = of_rows(&|slope, _| slope)?;
        let ones = Tensor::ones((1, length, 1), dtype, device)?;
        let (mut queries, mut keys) = (Vec::new(), Vec::new());
        // The digits of positions, the lowest first; f64 holds any position.
        let (mut unit, mut rest) = (1.0, (0..length).map(from_middle).collect::<Vec<_>>());
        loop {
            let whole = dtype == DType::F64 || rest.iter().all(|x| x.abs() <= DIGIT);
            let higher = |x: f64| if whole { 0.0 } else { (x / DIGIT).round() };
            let digits = rest.iter().map(|&x| x - DIGIT * higher(x));
            let digits = Tensor::from_iter(digits, device)?.to_dtype(dtype)?;
            keys.extend(vec![digits.reshape((1, length, 1))?; of_slopes.len()]);
            for slope in &of_slopes {
                // By a power of 2: exact.
                queries.push((slope * unit)?);
            }
            if whole {
                break;
            }
            rest.iter_mut().for_each(|x| *x = higher(*x));
            unit *= DIGIT;
        }
        for less in of_rows(&|slope, position| -slope * position)? {
            queries.push(less);
            keys.push(ones.clone());
        }
        Ok(Self { queries, keys })
    }

    /// Queries `[Z, L · G, D]` with their columns.
    pub fn of_queries(&self, q: Tensor) -> Candle<Tensor> {
        let (batch, rows, _) = q.dims3()?;
        let each = self.queries.iter().map(|column| {
            let heads = column.dim(0)?;
            (column.unsqueeze(0)?)
                .broadcast_as((batch / heads, heads, rows, 1))?
                .reshape((batch, rows, 1))
        });
        augmented(&q, &each.collect::<Candle<Vec<_>>>()?)
    }

    /// Keys `[Z, L, D]` with theirs.
    pub fn of_keys(&self, k: Tensor) -> Candle<Tensor> {
        let (batch, length, _) = k.dims3()?;
        let each =
            (self.keys.iter()).map(|column| column.broadcast_as((batch, length, 1))?.contiguous());
        augmented(&k, &each.collect::<Candle<Vec<_>>>()?)
    }
}
