//! Estimates of how important each parameter is to a policy's answers.

use super::examples::Example;
use super::hooks::Vectors;
use super::method::Weights;
use super::sequence::Sequence;
use crate::error::Result;
use crate::sim::Parameters;

/// The importance of the parameters to a policy on examples, weighted as they are; none where all are alike.
///
/// Every gradient is exact: of EWC's expectation over the policy's responses all terms are summed.
pub(super) fn estimate(
    weights: Weights,
    sequence: &Sequence,
    parameters: &mut dyn Parameters,
    examples: &[Example],
) -> Result<Vec<f64>> {
    let mut sum = parameters.vector().zeros_like()?;
    for e in examples {
        let arms = sequence.logits.rows()[e.prompt].clone();
        match weights {
            Weights::Equal => {}
            Weights::Fisher => {
                for arm in arms {
                    let mut probability = 0.0;
                    let slope = parameters.slope(&mut |numbers, gradient| {
                        probability = numbers[arm].exp();
                        gradient[arm] = 1.0;
                        Ok(())
                    })?;
                    sum.add_product(e.weight * probability, &slope, &slope)?;
                }
            }
            Weights::Outputs => {
                let slope = parameters.slope(&mut |numbers, gradient| {
                    for arm in arms.clone() {
                        gradient[arm] = 2.0 * numbers[arm];
                    }
                    Ok(())
                })?;
                sum.add_absolute(e.weight, &slope)?;
            }
        }
    }
    Ok(sum)
}
