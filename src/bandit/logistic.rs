//! Sums of logistic functions over all pairs of arms, in quadratic time and linear memory.

use rayon::prelude::*;

/// Width of a bucket of values: within and between adjacent buckets `eᵛ` cannot overflow, and
/// further apart the logistic function is 0 or 1 to the last bit.
const WIDTH: f64 = 256.0;

/// For each arm a, `(Σ_b p_b (σ(v_a − v_b) − ½), Σ_b q_b (σ(v_a − v_b) − ½))`.
///
/// One exponential per arm gives all the sigmoids: `σ(v_a − v_b) − ½ = ½ (E_a − E_b)/(E_a + E_b)`
/// with `E = eᵛ`, taken relative to the arm's bucket so that no gap is too large.
pub(crate) fn half_logistic_sums(v: &[f64], p: &[f64], q: &[f64]) -> Vec<(f64, f64)> {
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_by(|&a, &b| v[a].total_cmp(&v[b]));
    let sorted = |x: &[f64]| -> Vec<f64> { order.iter().map(|&i| x[i]).collect() };
    let (p, q) = (sorted(p), sorted(q));
    let bucket: Vec<f64> = order.iter().map(|&i| (v[i] / WIDTH).floor()).collect();
    let e: Vec<f64> = (order.iter().zip(&bucket))
        .map(|(&i, b)| (v[i] - b * WIDTH).exp())
        .collect();
    let prefix = |x: &[f64]| -> Vec<f64> {
        let mut sums = vec![0.0; x.len() + 1];
        for (i, x) in x.iter().enumerate() {
            sums[i + 1] = sums[i] + x;
        }
        sums
    };
    let (below_p, below_q) = (prefix(&p), prefix(&q));
    let total = (below_p[v.len()], below_q[v.len()]);
    let sums: Vec<(f64, f64)> = (0..v.len())
        .into_par_iter()
        .with_min_len(256)
        .map(|i| {
            let mine = bucket[i];
            let near = bucket.partition_point(|&b| b < mine - 1.0);
            let same = bucket.partition_point(|&b| b < mine);
            let above = bucket.partition_point(|&b| b <= mine);
            let far = bucket.partition_point(|&b| b <= mine + 1.0);
            let mut sum = (
                0.5 * (below_p[near] - (total.0 - below_p[far])),
                0.5 * (below_q[near] - (total.1 - below_q[far])),
            );
            let shift = (-WIDTH).exp();
            // The same value relative to the bucket below, mine, and above.
            for (range, e_i, scale) in [
                (near..same, e[i], shift),
                (same..above, e[i], 1.0),
                (above..far, e[i] * shift, 1.0),
            ] {
                let part = ratio_sums(e_i, scale, &e[range.clone()], &p[range.clone()], &q[range]);
                sum.0 += 0.5 * part.0;
                sum.1 += 0.5 * part.1;
            }
            sum
        })
        .collect();
    let mut result = vec![(0.0, 0.0); v.len()];
    for (&i, sum) in order.iter().zip(sums) {
        result[i] = sum;
    }
    result
}

/// `Σ (x − s e)/(x + s e)` weighted by p and by q, in eight lanes so that it vectorises.
fn ratio_sums(x: f64, s: f64, e: &[f64], p: &[f64], q: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut sp, mut sq) = ([0.0; LANES], [0.0; LANES]);
    let whole = e.len() - e.len() % LANES;
    for at in (0..whole).step_by(LANES) {
        let (e, p, q) = (&e[at..at + LANES], &p[at..at + LANES], &q[at..at + LANES]);
        for lane in 0..LANES {
            let y = s * e[lane];
            let t = (x - y) / (x + y);
            sp[lane] += p[lane] * t;
            sq[lane] += q[lane] * t;
        }
    }
    for i in whole..e.len() {
        let y = s * e[i];
        let t = (x - y) / (x + y);
        sp[0] += p[i] * t;
        sq[0] += q[i] * t;
    }
    (sp.iter().sum(), sq.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn equals_the_plain_double_sum_at_every_scale() {
        for scale in [1.0, 100.0, 3000.0] {
            let mut stream = Stream::new(1, Purpose::Problem, 0);
            let n = 203;
            let mut draw =
                |s: f64| -> Vec<f64> { (0..n).map(|_| s * (stream.uniform() - 0.5)).collect() };
            let (v, p, q) = (draw(scale), draw(1.0), draw(1.0));
            for (a, got) in half_logistic_sums(&v, &p, &q).into_iter().enumerate() {
                let sum = |w: &[f64]| -> f64 {
                    (0..n)
                        .map(|b| w[b] * 0.5 * ((v[a] - v[b]) / 2.0).tanh())
                        .sum()
                };
                assert!((got.0 - sum(&p)).abs() < 1e-13, "{scale} {a}");
                assert!((got.1 - sum(&q)).abs() < 1e-13, "{scale} {a}");
            }
        }
    }
}
