//! Trained on samples, a transformer reaches the dataset's fixed point, which is within its
//! statistical error of the population's; and estimates of a run say what is exact.

use std::collections::BTreeMap;

use pistar::bandit::{Dataset, Evidence, Policy};
use pistar::llm::example::collate;
use pistar::llm::language::{
    Bandit, Language, Measure, Population, Training, examples, implicit, total_variation, walk,
};
use pistar::llm::network::Reduction;
use pistar::llm::objective::{Numbers, TextObjective};
use pistar::llm::step::Step;
use pistar::llm::train::{Meter, Row};
use pistar::loss::Objective;
use pistar::random::{Purpose, Stream};
use pistar::solve::fixed_point;

use super::{bandit, transformer};

const PAIRS: usize = 2000;
const BATCH: usize = 100;

/// Trains on minibatches of a dataset, as language models are; `watch` gets the metrics of the
/// last steps and the policy at the end of each epoch.
fn train_on(
    bandit: &Bandit,
    dataset: &Dataset,
    objective: Objective,
    mut watch: impl FnMut(Meter, &Policy, u64),
) -> Policy {
    let text_objective = TextObjective::new(
        objective.name(),
        Numbers {
            parameters: bandit.problem().beta().into(),
            baseline: None,
            weights: [1.0, 1.0],
            token_reduction: None,
        },
    )
    .unwrap();
    let language = bandit.language();
    let kind = objective.spec().inputs;
    let data = examples(bandit, dataset, kind).unwrap();
    let reference = bandit.problem().reference();
    let mut order: Vec<usize> = (0..data.len()).collect();
    let mut stream = Stream::new(9, Purpose::Order, 0);
    let per_epoch = data.len() / BATCH;
    let training = Training {
        steps: 80 * per_epoch,
        lr: 3e-3,
        value_lr: 0.0,
        micro_batch: usize::MAX,
    };
    let model = transformer(language, 1);
    let step = Step {
        kind,
        policy: &model,
        value: None,
        reduction: Reduction::Sum,
        micro_batch: training.micro_batch,
    };
    let mut meter = Meter::default();
    let result = training.descend((&model).into(), None, |index, gradient, none| {
        let at = index % per_epoch;
        if at == 0 {
            stream.shuffle(&mut order);
        }
        let chosen = order[at * BATCH..][..BATCH].iter();
        let batch: Vec<_> = chosen.map(|&i| data[i].clone()).collect();
        let text = collate(kind, &batch, |example, i| {
            let sequence = &example.responses[i].sequence;
            let prompts = language.prompts();
            let x = prompts.iter().position(|p| p == sequence.prompt()).unwrap();
            reference.log()[x][language.arm(sequence.completion()).unwrap()]
        });
        let loss = |inputs: &_| objective.loss(inputs, bandit.problem().parameters());
        let outcome = step.run(&text, loss, gradient, none)?;
        meter.mean("loss", outcome.loss);
        meter.measure(&text_objective, &outcome.batch);
        if at + 1 == per_epoch {
            let policy = walk(&model, language)?;
            watch(std::mem::take(&mut meter), &policy, index as u64 + 1);
        }
        Ok(())
    });
    result.unwrap();
    walk(&model, language).unwrap()
}

#[test]
fn a_dataset_is_within_its_statistical_error() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let problem = bandit.problem();
    let optimum = problem.optimum().policy;
    // How far exact fits of datasets of some size are from the population's fixed point.
    let fit = |pairs: usize, index: u64| -> Policy {
        let dataset = Dataset::preferences(problem, pairs, 4, index);
        let evidence = Evidence::from_dataset(problem, &dataset);
        let limit = fixed_point(Objective::Dpo, problem, &evidence).unwrap();
        limit.policy.expect("enough pairs for a limit")
    };
    let error = |pairs: usize, index| total_variation(&fit(pairs, index), &optimum);
    let median = |pairs: usize| {
        let mut errors: Vec<f64> = (1..=200).map(|index| error(pairs, index)).collect();
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    };
    // A statistical error: four times the pairs, half of it.
    let (here, there) = (median(PAIRS), median(4 * PAIRS));
    assert!((here / there - 2.0).abs() < 0.5, "{here} {there}");

    let dataset = Dataset::preferences(problem, PAIRS, 4, 0);
    let want = fit(PAIRS, 0);
    let got = train_on(&bandit, &dataset, Objective::Dpo, |_, _, _| {});
    let to_fit = total_variation(&got, &want);
    println!(
        "dpo on {PAIRS} pairs: {to_fit:.1e} from the dataset's fixed point, which is {:.3} from the \
         population's; of 200 datasets the median is {here:.3}, of four times the pairs {there:.3}",
        error(PAIRS, 0)
    );
    // Minibatches keep a policy from its limit by less than a dataset of this size does.
    assert!(to_fit < 0.2 * here, "{to_fit} {here}");
}

/// CoPG makes no statistical error at all: rewards are seen, and any connected data has π*.
#[test]
fn copg_needs_no_more_than_a_connected_dataset() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let dataset = Dataset::pairs(bandit.problem(), 500, 4, 0);
    let got = train_on(&bandit, &dataset, Objective::Copg, |_, _, _| {});
    let distance = total_variation(&got, &bandit.problem().optimum().policy);
    println!("copg on 500 pairs: {distance:.1e}");
    assert!(distance < 1e-3, "{distance:e}");
}

#[test]
fn exact_numbers_stand_beside_the_estimates() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let problem = bandit.problem();
    let evidence = Evidence::population(problem);
    let limit = fixed_point(Objective::Dpo, problem, &evidence)
        .unwrap()
        .policy;
    let population = Population::new(&bandit, &evidence, Objective::Dpo).unwrap();
    let dataset = Dataset::preferences(problem, PAIRS, 4, 0);
    let mut stream = Stream::new(1, Purpose::Responses, 7);
    let mut rows: Vec<Row> = Vec::new();
    let (mut within, mut estimates) = (0u32, 0u32);
    train_on(
        &bandit,
        &dataset,
        Objective::Dpo,
        |mut meter, policy, step| {
            let measure = Measure::of(&bandit, policy, limit.as_ref(), 1000, &mut stream);
            // Each estimator's mean and standard error, by listing: what a sample says of its own
            // error is wrong where a tail is heavy, as k3's is far from the reference.
            let moments = |power: i32| -> [f64; 4] {
                let mut sums = [0.0; 4];
                for (p, row) in problem.prompts().iter().zip(policy.log()) {
                    for (arm, log) in row.iter().enumerate() {
                        let u = log - p.log_reference[arm];
                        let reward = p.reward[arm];
                        let k3 = (-u).exp_m1() + u;
                        let numbers = [u, k3, reward, reward - problem.beta() * u];
                        for (sum, number) in sums.iter_mut().zip(numbers) {
                            *sum += p.weight * log.exp() * number.powi(power);
                        }
                    }
                }
                sums
            };
            let (means, squares) = (moments(1), moments(2));
            assert!((means[0] - measure.kl).abs() < 1e-9 && (means[1] - measure.kl).abs() < 1e-9);
            assert!((means[3] - measure.objective).abs() < 1e-9);
            for (i, (_, [value, _])) in measure.estimates.into_iter().enumerate() {
                let error = ((squares[i] - means[i].powi(2)) / 1000.0).sqrt();
                let off = (value - means[i]).abs();
                assert!(off < 5.0 * error, "{value} {} {error}", means[i]);
                within += u32::from(off < 2.0 * error);
                estimates += 1;
            }
            // J* − J = regret, however each is found.
            let gap = problem.optimum().objective - measure.objective;
            assert!((gap - measure.regret).abs() < 1e-12);
            measure.tell(&mut meter);
            let [accuracy, margin] = implicit(&population, policy).unwrap();
            meter.last("exact/accuracies", accuracy);
            meter.last("exact/margins", margin);
            rows.push(Row {
                step,
                epoch: rows.len() as f64 + 1.0,
                metrics: meter.take(),
                num_tokens: 0,
                seconds: 0.0,
                tokens_per_second: 0.0,
            });
        },
    );
    // Of all estimates 95 % should be within two standard errors.
    let share = f64::from(within) / f64::from(estimates);
    assert!(share > 0.9, "{share}");
    let last: &BTreeMap<String, f64> = &rows[rows.len() - 1].metrics;
    println!("{}", serde_json::to_string(&rows[rows.len() - 1]).unwrap());
    // What the run's own data say of implicit rewards, and the exact expectation.
    assert!((last["rewards/accuracies"] - last["exact/accuracies"]).abs() < 0.05);
    // It ends with the regret of the dataset's fixed point.
    let dataset = Evidence::from_dataset(problem, &dataset);
    let fit = fixed_point(Objective::Dpo, problem, &dataset).unwrap();
    let regret = fit.regret.unwrap();
    assert!(
        (last["exact/regret"] - regret).abs() < 0.1 * regret,
        "{regret}"
    );
}
