//! Settings that methods are tuned by, and the points at which they are tried.

use super::method::Method;
use super::plan::Plan;

/// A setting of some methods: a number of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting {
    /// Strength of the pull at parameters.
    Pull,
    /// Mean loss below which there is a plateau.
    PlateauMean,
    /// Weight of LwF's distillation.
    Distillation,
    /// Weight of DER++'s stored numbers.
    Matching,
    /// Weight of DER++'s stored labels.
    Rehearsal,
    /// β.
    Beta,
    /// Weight of the likelihood of the best response.
    Likelihood,
    /// Factor of PRO's advantages.
    Contrast,
    /// Correlation of CoH's two policies.
    Coupling,
    /// Where COPR's multipliers start.
    MultiplierStart,
    /// α of COPR's multipliers.
    MultiplierRate,
}

/// Points at which every method that has settings is tried: the plan's own, and one of each level of every setting.
pub const POINTS: usize = 9;

/// Levels of a setting: all points but the first.
const LEVELS: usize = POINTS - 1;

impl Setting {
    /// Its name, that of the plan's field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::PlateauMean => "plateau.mean",
            Self::Distillation => "distillation",
            Self::Matching => "matching",
            Self::Rehearsal => "rehearsal",
            Self::Beta => "beta",
            Self::Likelihood => "likelihood",
            Self::Contrast => "contrast",
            Self::Coupling => "coupling",
            Self::MultiplierStart => "multiplier_start",
            Self::MultiplierRate => "multiplier_rate",
        }
    }

    /// The plan with this setting at a value.
    pub fn set(self, value: f64, plan: &mut Plan) {
        match self {
            Self::Pull => plan.pull = value,
            Self::PlateauMean => plan.plateau.mean = value,
            Self::Distillation => plan.distillation = value,
            Self::Matching => plan.matching = value,
            Self::Rehearsal => plan.rehearsal = value,
            Self::Beta => plan.beta = Some(value),
            Self::Likelihood => plan.likelihood = Some(value),
            Self::Contrast => plan.contrast = value,
            Self::Coupling => plan.coupling = value,
            Self::MultiplierStart => plan.multiplier_start = value,
            Self::MultiplierRate => plan.multiplier_rate = value,
        }
    }
}

/// A setting that a method is tuned by, and between what.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Range {
    /// The setting.
    pub setting: Setting,
    /// Its lowest level.
    pub low: f64,
    /// Its highest. Levels between are evenly spaced: by ratios, but where the lowest is negative.
    pub high: f64,
}

impl Range {
    pub(super) const fn of(setting: Setting, (low, high): (f64, f64)) -> Self {
        Self { setting, low, high }
    }

    /// One of its levels, from 0 to 7, to three digits.
    fn level(self, index: usize) -> f64 {
        let Self { low, high, .. } = self;
        let part = index as f64 / (LEVELS - 1) as f64;
        let value = if low > 0.0 {
            low * (high / low).powf(part)
        } else {
            low + part * (high - low)
        };
        format!("{value:.2e}").parse().unwrap_or(value)
    }
}

impl Method {
    /// The settings' values at a point, from 0 to 8, in their order; none at point 0, which is the plan's own
    /// values.
    ///
    /// The points are a lattice: the s-th setting goes through its levels in steps of the s-th
    /// number that has no divisor in common with 9, so every level of every setting is tried once, whatever their number,
    /// and all methods have as many trials.
    pub fn point(&self, index: usize) -> Vec<(Setting, f64)> {
        const STEPS: [usize; 6] = [1, 2, 4, 5, 7, 8];
        if index == 0 {
            return Vec::new();
        }
        let steps = STEPS.iter().cycle();
        let each = self.settings.iter().zip(steps);
        each.map(|(range, step)| (range.setting, range.level(index * step % POINTS - 1)))
            .collect()
    }

    /// Number of points at which it is tried: one if it has no settings.
    pub fn points(&self) -> usize {
        if self.settings.is_empty() { 1 } else { POINTS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method has as many trials, each setting is at each of its levels once, and no two points are alike.
    #[test]
    fn points_are_a_lattice() {
        for method in Method::ALL {
            if method.settings.is_empty() {
                assert_eq!(method.points(), 1);
                continue;
            }
            let points: Vec<_> = (1..method.points()).map(|i| method.point(i)).collect();
            assert_eq!(points.len(), LEVELS);
            for (s, range) in method.settings.iter().enumerate() {
                let mut values: Vec<f64> = points.iter().map(|p| p[s].1).collect();
                assert!(points.iter().all(|p| p[s].0 == range.setting));
                values.sort_by(f64::total_cmp);
                assert!(values.windows(2).all(|w| w[0] < w[1]), "{values:?}");
                assert_eq!((values[0], values[LEVELS - 1]), (range.low, range.high));
            }
        }
    }

    /// A setting is the number of the plan that it is called after.
    #[test]
    fn settings_set_what_they_name() {
        let plan = Plan::default();
        let mut seen = std::collections::BTreeSet::new();
        for range in Method::ALL.iter().flat_map(|m| m.settings) {
            let (setting, mut other) = (range.setting, plan);
            setting.set(0.123, &mut other);
            let text = format!("{other:?}").replace(' ', "");
            let last = setting.name().rsplit('.').next().unwrap();
            let field = [format!("{last}:0.123"), format!("{last}:Some(0.123)")];
            assert!(field.iter().any(|f| text.contains(f)), "{text}");
            assert_ne!(plan, other);
            seen.insert(setting.name());
        }
        assert_eq!(seen.len(), 11);
    }
}
