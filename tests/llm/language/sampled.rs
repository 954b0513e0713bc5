//! Trained on samples, a transformer reaches the dataset's fixed point, which is within its
//! statistical error of the population's; and estimates of a run say what is exact.

use std::collections::BTreeMap;

use pistar::bandit::{Dataset, Evidence, Policy};
use pistar::llm::internals::train::step::Step;
use pistar::llm::language::{
    Bandit, Language, Measure, Population, Training, examples, implicit, total_variation, walk,
};
use pistar::llm::model::network::Reduction;
use pistar::llm::text::example::collate;
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::{Meter, MetricsRow};
use pistar::loss::Objective;
use pistar::random::{Purpose, Stream};
use pistar::solve::fixed_point;

use super::{bandit, transformer};

const PAIRS: usize = 2000;
const BATCH: usize = 100;
/// Of the datasets' random streams.
const KEY: u64 = 7;

/// Trains on minibatches of a dataset, as language models are; `watch` gets the metrics of the
/// last steps and the policy at the end of each epoch.
fn train_on(
    bandit: &Bandit,
    dataset: &Dataset,
    objective: Objective,
    epochs: usize,
    mut watch: impl FnMut(Meter, &Policy, u64),
) -> Policy {
    let text_objective =
        TextObjective::new(objective.name(), &bandit.problem().beta().into(), None).unwrap();
    let language = bandit.language();
    let kind = objective.spec().inputs;
    let data = examples(bandit, dataset, kind).unwrap();
    let reference = bandit.problem().reference();
    let mut order: Vec<usize> = (0..data.len()).collect();
    let mut stream = Stream::new(9, Purpose::Order, 0);
    let per_epoch = data.len() / BATCH;
    let training = Training {
        steps: epochs * per_epoch,
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
        let loss = |batch: &_| text_objective.cotangents(batch);
        let outcome = step.run(&text, loss, gradient, none)?;
        meter.mean("loss", outcome.loss);
        meter.measure(&text_objective, &outcome.batch, batch.len());
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
    let fit = |pairs: usize, index: u64| -> Policy {
        let dataset = Dataset::preferences(problem, pairs, KEY, index);
        let evidence = Evidence::from_dataset(problem, &dataset);
        let limit = fixed_point(Objective::DPO, problem, &evidence).unwrap();
        limit.policy.expect("enough pairs for a limit")
    };
    // How far exact fits of 200 datasets of some size are from the population's fixed point.
    let errors = |pairs: usize| {
        let error = |index| total_variation(&fit(pairs, index), &optimum);
        let mut errors: Vec<f64> = (1..=200).map(error).collect();
        errors.sort_by(f64::total_cmp);
        (errors[100], errors[198])
    };
    // A statistical error: four times the pairs, half of it.
    let ((median, most), (of_four, _)) = (errors(PAIRS), errors(4 * PAIRS));
    assert!((median / of_four - 2.0).abs() < 0.5, "{median} {of_four}");

    let dataset = Dataset::preferences(problem, PAIRS, KEY, 0);
    let want = fit(PAIRS, 0);
    let got = train_on(&bandit, &dataset, Objective::DPO, 60, |_, _, _| {});
    let to_fit = total_variation(&got, &want);
    let [of_got, of_fit] = [&got, &want].map(|p| total_variation(p, &optimum));
    println!(
        "dpo on {PAIRS} pairs: {to_fit:.1e} from the dataset's fixed point, {of_got:.3} from the \
         population's (the dataset's: {of_fit:.3}); of 200 datasets' exact fits the median is \
         {median:.3}, 99 % within {most:.3}; of four times the pairs the median is {of_four:.3}"
    );
    assert!(to_fit < 0.2 * median, "{to_fit} {median}");
    assert!(of_got < most, "{of_got} {most}");
}

/// CoPG makes no statistical error at all: rewards are seen, and any connected data has π*.
#[test]
fn copg_needs_no_more_than_a_connected_dataset() {
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let dataset = Dataset::pairs(bandit.problem(), 500, KEY, 0);
    let got = train_on(&bandit, &dataset, Objective::COPG, 150, |_, _, _| {});
    let distance = total_variation(&got, &bandit.problem().optimum().policy);
    println!("copg on 500 pairs: {distance:.1e}");
    assert!(distance < 1e-3, "{distance:e}");
}

/// The exact means and standard deviations of what is estimated.
fn moments(bandit: &Bandit, policy: &Policy) -> [[f64; 2]; 4] {
    let problem = bandit.problem();
    let mut sums = [[0.0; 2]; 4];
    for (prompt, log) in problem.prompts().iter().zip(policy.log()) {
        for (arm, l) in log.iter().enumerate() {
            let (u, r) = (l - prompt.log_reference[arm], prompt.reward[arm]);
            let numbers = [u, (-u).exp() - 1.0 + u, r, r - problem.beta() * u];
            for (sum, number) in sums.iter_mut().zip(numbers) {
                let p = prompt.weight * l.exp();
                *sum = [sum[0] + p * number, sum[1] + p * number * number];
            }
        }
    }
    sums.map(|[mean, square]| [mean, (square - mean * mean).sqrt()])
}

#[test]
fn exact_numbers_stand_beside_the_estimates() {
    const SAMPLES: usize = 1000;
    let language = Language::with_prompts(3, 2, 2).unwrap();
    let bandit = bandit(2, &transformer(&language, 1));
    let problem = bandit.problem();
    let evidence = Evidence::population(problem);
    let limit = (fixed_point(Objective::DPO, problem, &evidence).unwrap()).policy;
    let population = Population::new(&bandit, &evidence, Objective::DPO).unwrap();
    let dataset = Dataset::preferences(problem, PAIRS, KEY, 0);
    let mut stream = Stream::new(1, Purpose::Responses, 7);
    let (mut rows, mut within): (Vec<MetricsRow>, usize) = (Vec::new(), 0);
    train_on(
        &bandit,
        &dataset,
        Objective::DPO,
        40,
        |mut meter, policy, step| {
            let measure = Measure::of(&bandit, policy, limit.as_ref(), SAMPLES, &mut stream);
            let exact = moments(&bandit, policy);
            // k1 and k3 are two estimates of the one KL; R − βu is one of J.
            for (mean, number) in [
                (exact[0], measure.kl),
                (exact[1], measure.kl),
                (exact[3], measure.objective),
            ] {
                assert!((mean[0] - number).abs() < 1e-12);
            }
            for ((name, [value, _]), [mean, deviation]) in measure.estimates.into_iter().zip(exact)
            {
                let off = (value - mean).abs() / (deviation / (SAMPLES as f64).sqrt());
                assert!(
                    off < 6.0,
                    "{name}: {value} is {off} standard errors from {mean}"
                );
                within += usize::from(off < 2.0);
            }
            // J* − J is the regret, however each is found.
            let gap = problem.optimum().objective - measure.objective;
            assert!((gap - measure.regret).abs() < 1e-12);
            measure.tell(&mut meter);
            let [accuracy, margin] = implicit(&population, policy).unwrap();
            meter.last("exact/accuracies", accuracy);
            meter.last("exact/margins", margin);
            rows.push(MetricsRow {
                step,
                epoch: rows.len() as f64 + 1.0,
                metrics: meter.take(),
                num_tokens: 0,
                seconds: 0.0,
                tokens_per_second: Some(0.0),
                eval_runtime: None,
            });
        },
    );
    // 160 estimates, of which 95 % should be within two standard errors.
    assert!(within >= 145, "{within}");
    let [first, last] = [&rows[0], &rows[rows.len() - 1]];
    println!("{}", serde_json::to_string(last).unwrap());
    let (first, last): (&BTreeMap<String, f64>, _) = (&first.metrics, &last.metrics);
    // What the run's own data say of implicit rewards is the expectation to within its noise.
    assert!((last["rewards/accuracies"] - last["exact/accuracies"]).abs() < 0.05);
    assert!((last["rewards/margins"] - last["exact/margins"]).abs() < 0.1);
    assert!(last["loss"] < first["loss"]);
    // It ends with the regret of the dataset's fixed point.
    let evidence = Evidence::from_dataset(problem, &dataset);
    let fit = fixed_point(Objective::DPO, problem, &evidence).unwrap();
    let regret = fit.regret.unwrap();
    let off = (last["exact/regret"] - regret).abs();
    assert!(off < 0.2 * regret, "{off} {regret}");
}
