//! Logged data of a bandit as examples in tokens.

use super::Bandit;
use crate::bandit::{Dataset, Record};
use crate::error::{Error, Result};
use crate::llm::text::example::{Beside, Example, Response};
use crate::loss::InputKind;

/// The records of a dataset as examples of one kind: of a pair, the preferred response first where
/// the kind has labels; both, one after the other, as single responses; of a ranking, the list.
///
/// # Errors
/// A record that makes no example of that kind.
pub fn examples(bandit: &Bandit, dataset: &Dataset, kind: InputKind) -> Result<Vec<Example>> {
    let mut all = Vec::with_capacity(dataset.records().len());
    for (index, record) in dataset.records().iter().enumerate() {
        let x = record.prompt();
        let response = |arm: u32, reward: f64| -> Result<Response> {
            let sequence = bandit.language().sequence(x, arm as usize)?;
            Ok(Response::new(sequence, reward))
        };
        let truth = |arm: u32| bandit.problem().prompts()[x].reward[arm as usize];
        let (arms, rewards, label) = match record {
            &Record::Pair {
                first,
                second,
                label,
                ..
            } => (
                vec![first, second],
                vec![truth(first), truth(second)],
                label,
            ),
            &Record::Scored {
                first,
                second,
                rewards,
                label,
                ..
            } => (vec![first, second], rewards.to_vec(), label),
            &Record::Single { arm, reward, .. } => (vec![arm], vec![reward], None),
            Record::Ranking { ranking, .. } => {
                let advantage = |i| crate::bandit::population::linear_advantage(i, ranking.len());
                (
                    ranking.clone(),
                    (1..=ranking.len()).map(advantage).collect(),
                    None,
                )
            }
        };
        let mut responses = (arms.iter().zip(&rewards))
            .map(|(&arm, &reward)| response(arm, reward))
            .collect::<Result<Vec<_>>>()?;
        let ranked = matches!(record, Record::Ranking { .. });
        let row = index as u64;
        match kind {
            InputKind::LabelledPairs if label == Some(1.0) => {}
            InputKind::LabelledPairs if label == Some(0.0) => responses.reverse(),
            InputKind::ScoredPairs | InputKind::Groups if responses.len() == 2 && !ranked => {}
            InputKind::Lists if ranked => {}
            InputKind::Singles if !ranked => {
                all.extend(responses.into_iter().map(|response| Example {
                    row,
                    responses: vec![response],
                    beside: Beside::default(),
                }));
                continue;
            }
            _ => {
                return Err(Error::invalid(
                    format!("records[{index}]"),
                    format!("it makes no example of {}", kind.name()),
                    "draw another dataset: pairs with labels 0 or 1, scored pairs, single \
                     responses or rankings",
                ));
            }
        }
        all.push(Example {
            row,
            responses,
            beside: Beside::default(),
        });
    }
    Ok(all)
}
