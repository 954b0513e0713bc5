//! Kinks: whether the gradient of a loss jumps anywhere.

use super::engine::{random, reverse};
use super::subject::{Candidate, parameters};
use crate::error::Result;
use crate::loss::{Batch, InputKind};

/// Batches of segments, each with segments of this many examples.
const BATCHES: u64 = 6;
const EXAMPLES: usize = 24;

/// Segments that are looked at.
pub(crate) const SEGMENTS: usize = BATCHES as usize * EXAMPLES;

/// Pieces of a segment, in each of which the largest change of the slope is followed down.
const PIECES: usize = 8;

/// Halvings of a piece: what is left of it is too short for a continuous slope to change.
const HALVINGS: usize = 38;

/// Change of the slope over what is left, relative to the slopes of its segment, that is a jump.
const JUMP: f64 = 1e-6;

/// The largest jump of a slope found, relative to the slopes around it; 0 where none is.
///
/// Each example's numbers move along a segment between two random points. Its slope along the
/// segment is continuous unless there is a kink, however steep it is: of each piece, the half over
/// which the slope changes more is kept, until nothing but a jump can be left.
pub(crate) fn largest_jump(loss: &Candidate) -> Result<f64> {
    let mut worst = 0.0f64;
    for key in 0..BATCHES {
        let segment = Segment::random(loss.inputs(), key);
        let slopes = |at: &[f64]| segment.slopes(loss, at, key);
        let mut ends: Vec<Vec<f64>> = Vec::new();
        for i in 0..=PIECES {
            ends.push(slopes(&[i as f64 / PIECES as f64; EXAMPLES])?);
        }
        let largest = |e: usize| ends.iter().map(|s| s[e].abs()).fold(1.0, f64::max);
        let scale: Vec<f64> = (0..EXAMPLES).map(largest).collect();
        for i in 0..PIECES {
            let mut low = [i as f64 / PIECES as f64; EXAMPLES];
            let mut high = [(i + 1) as f64 / PIECES as f64; EXAMPLES];
            let (mut below, mut above) = (ends[i].clone(), ends[i + 1].clone());
            for _ in 0..HALVINGS {
                let middle: Vec<f64> = low.iter().zip(&high).map(|(l, h)| 0.5 * (l + h)).collect();
                let here = slopes(&middle)?;
                for e in 0..EXAMPLES {
                    if (here[e] - below[e]).abs() >= (above[e] - here[e]).abs() {
                        (high[e], above[e]) = (middle[e], here[e]);
                    } else {
                        (low[e], below[e]) = (middle[e], here[e]);
                    }
                }
            }
            for e in 0..EXAMPLES {
                worst = worst.max((above[e] - below[e]).abs() / scale[e]);
            }
        }
    }
    Ok(if worst > JUMP { worst } else { 0.0 })
}

/// One segment per example, between two batches of trained numbers.
struct Segment {
    kind: InputKind,
    from: Batch,
    to: Batch,
    /// The example of each response of a slot.
    owner: Vec<usize>,
}

impl Segment {
    fn random(kind: InputKind, key: u64) -> Self {
        let mut from = random(kind, EXAMPLES, 500 + key);
        from.weight.fill(1.0);
        let mut to = random(kind, EXAMPLES, 600 + key);
        // Far enough that log-ratios pass where hinges with small β have their corner.
        for slot in &mut to.log_policy {
            slot.iter_mut().for_each(|l| *l *= 3.0);
        }
        let grouped = kind.is_ragged();
        let owner = (from.sizes.iter().enumerate())
            .flat_map(|(e, &size)| vec![e; if grouped { size } else { 1 }])
            .collect();
        Self {
            kind,
            from,
            to,
            owner,
        }
    }

    /// Each example's slope along its segment, `at` from its start.
    fn slopes(&self, loss: &Candidate, at: &[f64], key: u64) -> Result<Vec<f64>> {
        let slots = (self.kind).slots();
        let mut batch = self.from.clone();
        for slot in 0..slots {
            let along = self.from.log_policy[slot]
                .iter()
                .zip(&self.to.log_policy[slot]);
            for ((l, (from, to)), &e) in batch.log_policy[slot]
                .iter_mut()
                .zip(along)
                .zip(&self.owner)
            {
                *l = from + at[e] * (to - from);
            }
        }
        let run = reverse(&loss.at(&parameters(key))?, &batch)?;
        let mut sum = vec![0.0; EXAMPLES];
        for (slot, gradient) in run.gradient.iter().take(slots).enumerate() {
            let along = self.from.log_policy[slot]
                .iter()
                .zip(&self.to.log_policy[slot]);
            for ((g, (from, to)), &e) in gradient.iter().zip(along).zip(&self.owner) {
                sum[e] += g * (to - from);
            }
        }
        Ok(sum)
    }
}
