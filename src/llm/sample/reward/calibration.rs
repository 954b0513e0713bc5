//! Calibration of a reward model on labelled pairs: margin, calibration error, spread by category.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::Result;
use crate::solve::calibration::{binned_error, reliability};
use crate::stats::{Bootstrap, Mean, clustered, deviation, mean};

/// A labelled pair with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Category of the pair, if the data say so.
    pub category: Option<String>,
    /// Index of its prompt: pairs of the same are not independent.
    pub prompt: usize,
    /// The score of the preferred response.
    pub chosen: f64,
    /// The score of the other.
    pub rejected: f64,
}

/// Mean and spread of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub sd: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let fold = |start, f: fn(f64, f64) -> f64| values.iter().copied().fold(start, f);
        Self {
            mean: mean(values),
            sd: deviation(values),
            min: fold(f64::INFINITY, f64::min),
            max: fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// A bin of the reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Its lower edge; bins are equally wide on [½, 1].
    pub from: f64,
    /// Share of the pairs.
    pub share: f64,
    /// Mean of σ(|δ|), δ = r⁺ − r⁻.
    pub confidence: f64,
    /// Share of pairs that are ranked as labelled.
    pub accuracy: f64,
}

/// Statistics of a set of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Number of pairs.
    pub pairs: usize,
    /// Share in which the preferred response has the higher score, ties counted half.
    pub accuracy: Option<Mean>,
    /// Expected calibration error: `Σ share |accuracy − confidence|` over equally wide bins of the
    /// confidence `σ(|δ|)` on [½, 1].
    pub ece: f64,
    /// `r⁺ − r⁻`.
    pub margin: Spread,
    /// Scores of all responses.
    pub rewards: Spread,
    /// Mean score of the preferred responses.
    pub chosen: f64,
    /// Mean score of the others.
    pub rejected: f64,
    /// Share of the scores that are beyond ±m, if there is an m: the Advantage Model's loss keeps them
    /// within.
    pub beyond: Option<f64>,
}

/// Difference of rewards between categories.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Between {
    /// The standard deviation of the categories' mean rewards: 0 if no category is scored higher than
    /// another.
    pub sd_of_means: f64,
    /// The largest mean less the smallest.
    pub range_of_means: f64,
    /// The largest standard deviation over the smallest; none where that is 0.
    pub ratio_of_sds: Option<f64>,
    /// The share of the rewards' variance that is between categories (η²).
    pub variance_share: f64,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Statistics of all pairs.
    pub all: Group,
    /// The reliability diagram of all pairs; `share` 0 marks an empty bin.
    pub bins: Vec<Bin>,
    /// Statistics by category.
    pub categories: BTreeMap<String, Group>,
    /// Differences between categories, if there are two or more.
    pub between: Option<Between>,
}

impl Calibration {
    /// The report on pairs, one or more, in so many bins; `margin` is m.
    ///
    /// # Errors
    /// No bin.
    pub fn new(
        pairs: &[Pair],
        bins: usize,
        margin: Option<f64>,
        bootstrap: &Bootstrap,
    ) -> Result<Self> {
        let (all, diagram) = group(&pairs.iter().collect::<Vec<_>>(), bins, margin, bootstrap)?;
        let mut sorted: BTreeMap<String, Vec<&Pair>> = BTreeMap::new();
        for pair in pairs {
            if let Some(category) = &pair.category {
                sorted.entry(category.clone()).or_default().push(pair);
            }
        }
        let mut categories = BTreeMap::new();
        for (name, pairs) in sorted {
            categories.insert(name, group(&pairs, bins, margin, bootstrap)?.0);
        }
        let between = between(&categories);
        Ok(Self {
            all,
            bins: diagram,
            categories,
            between,
        })
    }
}

fn group(
    pairs: &[&Pair],
    bins: usize,
    margin: Option<f64>,
    bootstrap: &Bootstrap,
) -> Result<(Group, Vec<Bin>)> {
    let gap = |pair: &&Pair| pair.chosen - pair.rejected;
    let gaps: Vec<f64> = pairs.iter().map(gap).collect();
    let right = |gap: &f64| match gap.partial_cmp(&0.0) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 0.0,
    };
    let hits: Vec<f64> = gaps.iter().map(right).collect();
    let prompts: Vec<usize> = pairs.iter().map(|pair| pair.prompt).collect();
    let labelled: Vec<_> = gaps.iter().map(|&gap| (1.0, gap, f64::INFINITY)).collect();
    let diagram = reliability(&labelled, bins)?;
    let [chosen, rejected]: [Vec<f64>; 2] = [
        pairs.iter().map(|pair| pair.chosen).collect(),
        pairs.iter().map(|pair| pair.rejected).collect(),
    ];
    let all = [chosen.as_slice(), &rejected].concat();
    let beyond = |m: f64| all.iter().filter(|r| r.abs() > m).count() as f64 / all.len() as f64;
    let group = Group {
        pairs: pairs.len(),
        accuracy: clustered(&hits, &prompts, bootstrap).map(Mean::of_shares),
        ece: binned_error(&diagram),
        margin: Spread::of(&gaps),
        rewards: Spread::of(&all),
        chosen: mean(&chosen),
        rejected: mean(&rejected),
        beyond: margin.map(beyond),
    };
    let bin = |bin: &crate::solve::calibration::Bin| Bin {
        from: bin.from,
        share: bin.mass,
        confidence: bin.confidence,
        accuracy: bin.accuracy,
    };
    Ok((group, diagram.iter().map(bin).collect()))
}

fn between(categories: &BTreeMap<String, Group>) -> Option<Between> {
    let groups: Vec<&Group> = categories.values().collect();
    if groups.len() < 2 {
        return None;
    }
    let means: Vec<f64> = groups.iter().map(|g| g.rewards.mean).collect();
    let sds = groups.iter().map(|g| g.rewards.sd);
    let (low, high) = sds.fold((f64::INFINITY, 0.0f64), |(l, h), sd| (l.min(sd), h.max(sd)));
    let count = |g: &Group| 2.0 * g.pairs as f64;
    let total: f64 = groups.iter().map(|g| count(g)).sum();
    let centre = groups
        .iter()
        .map(|g| count(g) * g.rewards.mean)
        .sum::<f64>()
        / total;
    let outer: f64 = (groups.iter())
        .map(|g| count(g) * (g.rewards.mean - centre).powi(2))
        .sum();
    let inner: f64 = (groups.iter())
        .map(|g| (count(g) - 1.0) * g.rewards.sd.powi(2))
        .sum();
    let spread = Spread::of(&means);
    Some(Between {
        sd_of_means: spread.sd,
        range_of_means: spread.max - spread.min,
        ratio_of_sds: (low > 0.0).then(|| high / low),
        variance_share: if outer + inner > 0.0 {
            outer / (outer + inner)
        } else {
            0.0
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(category: &str, prompt: usize, chosen: f64, rejected: f64) -> Pair {
        Pair {
            category: Some(category.into()),
            prompt,
            chosen,
            rejected,
        }
    }

    #[test]
    fn a_report_by_hand() {
        // σ(ln 3) = 3/4, σ(ln 4) = 4/5: two bins, [½, ¾) and [¾, 1].
        let (a, b) = (3f64.ln(), 4f64.ln());
        let pairs = [
            pair("x", 0, a, 0.0),
            pair("x", 1, 0.0, a),
            pair("y", 2, b, 0.0),
            pair("y", 2, 5.0, 5.0),
        ];
        let report = Calibration::new(&pairs, 2, Some(1.2), &Bootstrap::default()).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        // Of prompts: 1, 0, and (1 + ½)/2.
        close(report.all.accuracy.unwrap().value, 1.75 / 3.0);
        // The tie is in the lower bin and right half of the time with confidence ½: no error. In the
        // upper bin two of three are right at a mean confidence of (¾ + ¾ + ⅘)/3.
        close(report.all.ece, 0.75 * (2.0 / 3.0 - 2.3 / 3.0f64).abs());
        close(report.all.margin.mean, b / 4.0);
        close(report.all.chosen, (a + b + 5.0) / 4.0);
        close(report.all.beyond.unwrap(), 3.0 / 8.0);
        assert_eq!(report.bins.len(), 2);
        close(report.bins[0].share, 0.25);
        let x = &report.categories["x"];
        close(x.ece, 0.25);
        close(x.rewards.mean, a / 2.0);
        close(x.rewards.sd, (a * a / 3.0).sqrt());
        let between = report.between.unwrap();
        close(between.range_of_means, (b + 10.0) / 4.0 - a / 2.0);
        // η² from its definition.
        let all = [a, 0.0, 0.0, a, b, 0.0, 5.0, 5.0];
        let centre = mean(&all);
        let total: f64 = all.iter().map(|r| (r - centre).powi(2)).sum();
        let outer = 4.0 * (a / 2.0 - centre).powi(2) + 4.0 * ((b + 10.0) / 4.0 - centre).powi(2);
        close(between.variance_share, outer / total);
        assert!(Calibration::new(&pairs, 0, None, &Bootstrap::default()).is_err());
    }
}
