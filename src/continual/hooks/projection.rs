//! The projection of averaged gradient episodic memory (A-GEM).

use super::vectors::Vectors;
use crate::error::Result;

/// Projects a gradient so that its step does not raise the loss on the memory, to first order; true
/// where it had to.
///
/// With `g_ref` the gradient of the loss on examples of old tasks: where `g·g_ref < 0`,
/// `g ← g − (g·g_ref / ‖g_ref‖²) g_ref`, after which `g·g_ref = 0`. Nothing changes otherwise.
///
/// Source: Chaudhry et al. 2019, eq. 11.
///
/// # Errors
/// Gradients of different shapes, or a device that fails.
pub fn project<V: Vectors>(gradient: &mut V, reference: &V) -> Result<bool> {
    let along = gradient.dot(reference)?;
    let square = reference.dot(reference)?;
    // Squares of very small numbers are 0, and there is nothing to project on.
    if along >= 0.0 || square == 0.0 {
        return Ok(false);
    }
    gradient.add(-along / square, reference)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn a_conflict_is_taken_out_and_nothing_else() {
        let mut stream = Stream::new(0, Purpose::Start, 0);
        let mut conflicts = 0;
        for _ in 0..100 {
            let mut draw = || -> Vec<f64> { (0..5).map(|_| stream.uniform() - 0.5).collect() };
            let (before, reference) = (draw(), draw());
            let mut after = before.clone();
            let projected = project(&mut after, &reference).unwrap();
            let along: f64 = (0..5).map(|k| before[k] * reference[k]).sum();
            assert_eq!(projected, along < 0.0);
            if !projected {
                assert_eq!(after, before);
                continue;
            }
            conflicts += 1;
            let left: f64 = (0..5).map(|k| after[k] * reference[k]).sum();
            assert!(left.abs() < 1e-15, "{left}");
            // The nearest such gradient: what was taken is parallel to the reference.
            let taken: Vec<f64> = (0..5).map(|k| before[k] - after[k]).collect();
            for k in 1..5 {
                let cross = taken[k] * reference[0] - taken[0] * reference[k];
                assert!(cross.abs() < 1e-15, "{cross}");
            }
        }
        assert!((20..80).contains(&conflicts), "{conflicts}");
    }

    #[test]
    fn without_a_memory_nothing_is_projected() {
        let mut gradient = vec![1.0, -2.0];
        assert!(!project(&mut gradient, &vec![0.0, 0.0]).unwrap());
        assert!(!project(&mut gradient, &vec![-1e-200, 0.0]).unwrap());
        assert_eq!(gradient, [1.0, -2.0]);
        assert!(project(&mut gradient, &vec![1.0]).is_err());
    }
}
