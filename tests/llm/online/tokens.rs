//! PPO token by token against what is exact: gradients by the sum over all strings, values, estimates of KL; runs.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use pistar::llm::model::decoder::Decoder;
use pistar::llm::model::sequence::Sequence;
use pistar::llm::text::example::{Beside, Example, OfTokens, Response, Stored};
use pistar::llm::text::objective::TextObjective;
use pistar::llm::train::reference::Reference;
use pistar::llm::train::{Batches, Gae, Settings, Trainer};
use pistar::loss::{Batch, Given};
use pistar::random::{Purpose, Stream};

use super::expected::{World, exact, projected};
use super::{after, apart, args, audit, load, moved};
use crate::place::Place;
use crate::train::{settings, weights};

const BETA: f64 = 0.3;

/// Name of a fault, and what it does to the numbers of a string.
type Fault<'a> = (&'a str, &'a dyn Fn(usize, &mut OfTokens));

/// All that may be written, with what is known of its tokens.
struct Strings {
    sequences: Vec<Sequence>,
    probability: Vec<f64>,
    reward: Vec<f64>,
    old: Vec<Vec<f64>>,
    reference: Vec<Vec<f64>>,
}

/// ln π of each token of a sequence.
fn tokens(model: &Decoder, sequence: &Sequence) -> Vec<f64> {
    let all = sequence.tokens();
    let first = sequence.prompt().len();
    let one = |end: usize| {
        let alone = audit::sequence(&all[..end - 1], &all[end - 1..end]);
        model.sums(&[&alone]).unwrap()[0]
    };
    (first + 1..=all.len()).map(one).collect()
}

impl Strings {
    fn new(world: &World) -> Self {
        let [policy, reference] = ["model", "other"].map(|name| world.model(name, 1.0));
        let all = world.strings(1.0);
        let of = |model: &Decoder| all.iter().map(|(s, _, _)| tokens(model, s)).collect();
        Self {
            old: of(&policy),
            reference: of(&reference),
            probability: all.iter().map(|(_, p, _)| *p).collect(),
            reward: all.iter().map(|(_, _, r)| *r).collect(),
            sequences: all.into_iter().map(|(s, _, _)| s).collect(),
        }
    }

    /// `−βu` of each token, and R at the last.
    fn rewards(&self, i: usize) -> Vec<f64> {
        let pairs = self.old[i].iter().zip(&self.reference[i]);
        let mut rewards: Vec<f64> = pairs.map(|(a, b)| -BETA * (a - b)).collect();
        *rewards.last_mut().unwrap() += self.reward[i];
        rewards
    }

    /// The prefix that each token of a string follows.
    fn prefixes(&self, i: usize) -> Vec<Vec<u32>> {
        let completion = self.sequences[i].completion();
        (0..completion.len())
            .map(|t| completion[..t].to_vec())
            .collect()
    }

    /// E of what follows each prefix.
    fn values(&self) -> HashMap<Vec<u32>, f64> {
        let mut sums: HashMap<Vec<u32>, [f64; 2]> = HashMap::new();
        for (i, p) in self.probability.iter().enumerate() {
            let rewards = self.rewards(i);
            for (t, prefix) in self.prefixes(i).into_iter().enumerate() {
                let sum = sums.entry(prefix).or_default();
                sum[0] += p * rewards[t..].iter().sum::<f64>();
                sum[1] += p;
            }
        }
        (sums.into_iter())
            .map(|(prefix, [sum, p])| (prefix, sum / p))
            .collect()
    }

    fn values_of(&self, i: usize) -> Vec<f64> {
        let values = self.values();
        self.prefixes(i).iter().map(|p| values[p]).collect()
    }

    /// The gradient of an objective's loss over all strings by their probabilities, with numbers of tokens that
    /// `of` gives.
    fn gradient(
        &self,
        world: &World,
        objective: &str,
        given: Given,
        of: impl Fn(usize) -> OfTokens,
    ) -> Vec<f64> {
        let count = self.sequences.len() as f64;
        let example = |i: usize| Example {
            row: i as u64,
            responses: vec![Response {
                stored: Some(Stored {
                    old: self.old[i].iter().sum(),
                    reference: self.reference[i].iter().sum(),
                    tokens: Some(Arc::new(of(i))),
                }),
                ..Response::new(self.sequences[i].clone(), 0.0)
            }],
            beside: Beside {
                weight: self.probability[i] * count,
                ..Beside::default()
            },
        };
        let examples: Vec<Example> = (0..self.sequences.len()).map(example).collect();
        let settings = Settings {
            batch: examples.len(),
            steps: Some(1),
            shuffle: false,
            ..Settings::default()
        };
        let objective = TextObjective::of_own_responses(objective, &given, None).unwrap();
        let plan = Batches::of(objective, &settings, 64, &examples).unwrap();
        let policy = Box::new(world.model("model", 1.0));
        let reference = Reference::Stored(None);
        let mut trainer = Trainer::new(&settings, plan, policy, None, reference).unwrap();
        projected(&mut trainer)
    }
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    let size = b.iter().map(|x| x.abs()).fold(0.0, f64::max);
    apart(a, b) / size
}

/// With values that are right, advantages of any λ have the policy's gradient as their expectation; with λ = 1
/// whatever the values are. Ten faults, each of which shows.
#[test]
fn expected_gradients_are_exact_with_right_values_for_every_lambda() {
    let world = World::new();
    let strings = Strings::new(&world);
    let pg = Settings {
        prompts: Some("given".into()),
        ..settings("pg-zero")
    };
    let wanted = exact(&world, &pg, &pg.objective().unwrap(), 1.0);
    let given = || Given::new().with("beta", BETA);
    let of = |i: usize, gae: Gae, values: Vec<f64>| OfTokens {
        old: strings.old[i].clone(),
        reference: strings.reference[i].clone(),
        advantage: gae.of(&strings.rewards(i), &values)[0].clone(),
        ..OfTokens::default()
    };
    let found = |of: &dyn Fn(usize) -> OfTokens| strings.gradient(&world, "grpo", given(), of);
    let with = |lambda: f64, values: &dyn Fn(usize) -> Vec<f64>| {
        let gae = Gae {
            discount: 1.0,
            lambda,
        };
        found(&|i| of(i, gae, values(i)))
    };
    let right = |i: usize| strings.values_of(i);
    for lambda in [0.0, 0.3, 0.95, 1.0] {
        let off = far(&with(lambda, &right), &wanted);
        assert!(off < 1e-9, "{lambda}: {off}");
    }
    let wrong = |i: usize| -> Vec<f64> {
        let prefixes = strings.prefixes(i);
        let number = |p: &Vec<u32>| 0.7 - p.iter().map(|&t| f64::from(t)).sum::<f64>();
        prefixes.iter().map(number).collect()
    };
    let off = far(&with(1.0, &wrong), &wanted);
    assert!(off < 1e-9, "{off}");
    assert!(far(&with(0.5, &wrong), &wanted) > 1e-3);
    // Faults.
    let gae = Gae {
        discount: 1.0,
        lambda: 0.6,
    };
    let change = |f: &dyn Fn(usize, &mut OfTokens)| {
        found(&|i| {
            let mut numbers = of(i, gae, right(i));
            f(i, &mut numbers);
            numbers
        })
    };
    let estimated = |rewards: Vec<f64>, values: Vec<f64>| gae.of(&rewards, &values)[0].clone();
    let faults: [Fault; 10] = [
        ("advantages a token late", &|_, n| {
            n.advantage.rotate_right(1)
        }),
        ("the last token forgotten", &|_, n| {
            *n.advantage.last_mut().unwrap() = 0.0;
        }),
        ("values of the prefix after", &|i, n| {
            let mut values = right(i);
            values.rotate_left(1);
            n.advantage = estimated(strings.rewards(i), values);
        }),
        ("values of the prompt alone", &|i, n| {
            let values = right(i);
            n.advantage = estimated(strings.rewards(i), vec![values[0]; values.len()]);
        }),
        ("a value after the end", &|i, n| {
            *n.advantage.last_mut().unwrap() += right(i)[0];
        }),
        ("the reward at the first token", &|i, n| {
            let mut rewards = strings.rewards(i);
            let last = rewards.len() - 1;
            rewards[last] -= strings.reward[i];
            rewards[0] += strings.reward[i];
            n.advantage = estimated(rewards, right(i));
        }),
        ("the reward at every token", &|i, n| {
            let mut rewards = strings.rewards(i);
            let last = rewards.len() - 1;
            rewards[..last]
                .iter_mut()
                .for_each(|r| *r += strings.reward[i]);
            n.advantage = estimated(rewards, right(i));
        }),
        ("no penalty", &|i, n| {
            let mut rewards = vec![0.0; right(i).len()];
            *rewards.last_mut().unwrap() = strings.reward[i];
            n.advantage = estimated(rewards, right(i));
        }),
        ("another's old numbers", &|i, n| {
            n.old.clone_from(&strings.reference[i])
        }),
        ("one advantage for the sum of tokens", &|_, n| {
            let sum: f64 = n.advantage.iter().sum::<f64>() / n.advantage.len() as f64;
            n.advantage.fill(sum);
        }),
    ];
    for (name, fault) in faults {
        let off = far(&change(fault), &wanted);
        assert!(off > 1e-4, "{name}: {off}");
    }
}

/// Whatever a value was, the returns that it is to come to are those of λ = 1 in expectation: at the exact value of
/// each prefix the critic's gradient is 0, and nowhere else.
#[test]
fn the_exact_values_are_what_a_critic_comes_to() {
    let world = World::new();
    let strings = Strings::new(&world);
    let given = Given::new()
        .with("beta", BETA)
        .with("value_clip", f64::INFINITY);
    let objective = TextObjective::of_own_responses("ppo", &given, None).unwrap();
    let slopes = |values: &HashMap<Vec<u32>, f64>| {
        let mut slopes: HashMap<Vec<u32>, f64> = HashMap::new();
        for (i, &p) in strings.probability.iter().enumerate() {
            let (prefixes, rewards) = (strings.prefixes(i), strings.rewards(i));
            let old: Vec<f64> = prefixes.iter().map(|p| p.len() as f64 - 0.3).collect();
            let [advantage, target] = Gae {
                discount: 1.0,
                lambda: 1.0,
            }
            .of(&rewards, &old);
            let batch = Batch {
                log_policy: [strings.old[i].clone(), Vec::new()],
                log_old: [strings.old[i].clone(), Vec::new()],
                log_reference: [strings.reference[i].clone(), Vec::new()],
                baseline: prefixes.iter().map(|p| values[p]).collect(),
                advantage,
                old_value: old,
                target,
                lengths: vec![rewards.len()],
                sizes: vec![1],
                weight: vec![p],
                ..Batch::default()
            };
            let found = objective.cotangents(&batch).unwrap();
            for (prefix, slope) in prefixes.into_iter().zip(&found.gradient[1]) {
                *slopes.entry(prefix).or_default() += slope;
            }
        }
        slopes
    };
    let right = strings.values();
    assert!(right.len() > 3);
    assert!(slopes(&right).values().all(|s| s.abs() < 1e-12));
    let moved = right.iter().map(|(p, v)| (p.clone(), v + 0.5)).collect();
    assert!(slopes(&moved).values().all(|s| s.abs() > 1e-6));
}

/// On-policy, k1 has no gradient in expectation; k2 has that of `Σ KL(π‖π_ref)` of the next token, k3 that of
/// `Σ KL(π_ref‖π)`, over prefixes that stay as they were drawn.
#[test]
fn each_estimate_of_kl_has_its_own_gradient() {
    let world = World::new();
    let strings = Strings::new(&world);
    let found = |name: &str| {
        let given = Given::new().with("beta", 0.0).with(name, 1.0);
        strings.gradient(&world, "grpo", given, |i| OfTokens {
            old: strings.old[i].clone(),
            reference: strings.reference[i].clone(),
            advantage: vec![0.0; strings.old[i].len()],
            ..OfTokens::default()
        })
    };
    // Each prefix with its probability, and the strings of one more token.
    let mut reach: HashMap<Vec<u32>, f64> = HashMap::new();
    for (i, p) in strings.probability.iter().enumerate() {
        for prefix in strings.prefixes(i) {
            *reach.entry(prefix).or_default() += p;
        }
    }
    let next = |model: &Decoder, prefix: &[u32]| -> Vec<f64> {
        let before = [&world.prompt.tokens[..], prefix].concat();
        let vocabulary = model.sizes().vocabulary as u32;
        (0..vocabulary)
            .map(|token| model.sums(&[&audit::sequence(&before, &[token])]).unwrap()[0])
            .collect()
    };
    let reference = world.model("other", 1.0);
    let divergence = |model: &Decoder, forward: bool| -> f64 {
        let of = |(prefix, p): (&Vec<u32>, &f64)| {
            let (own, theirs) = (next(model, prefix), next(&reference, prefix));
            let (from, to) = if forward {
                (&theirs, &own)
            } else {
                (&own, &theirs)
            };
            let pairs = from.iter().zip(to);
            p * pairs.map(|(a, b)| a.exp() * (a - b)).sum::<f64>()
        };
        reach.iter().map(of).sum()
    };
    // Differences along the directions that gradients are projected on.
    let slope = |direction: usize, forward: bool| {
        let at = |step: f64| {
            let mut model = world.model("model", 1.0);
            for (leaf, p) in model.parameters_mut().iter_mut().enumerate() {
                let mut stream = Stream::new(direction as u64, Purpose::Problem, leaf as u64);
                let count = p.tensor.elem_count();
                let along: Vec<f64> = (0..count)
                    .map(|_| step * (stream.uniform() - 0.5))
                    .collect();
                let along = candle_core::Tensor::from_vec(
                    along,
                    p.tensor.dims(),
                    &candle_core::Device::Cpu,
                );
                p.tensor = (&p.tensor + along.unwrap()).unwrap();
            }
            divergence(&model, forward)
        };
        let step = 1e-4;
        (at(step) - at(-step)) / (2.0 * step)
    };
    let [reverse, forward] =
        [false, true].map(|forward| (0..6).map(|d| slope(d, forward)).collect::<Vec<_>>());
    let [k1, k2, k3] = ["k1", "k2", "k3"].map(found);
    let size = reverse.iter().map(|x| x.abs()).fold(0.0, f64::max);
    assert!(k1.iter().all(|x| x.abs() < 1e-9 * size), "{k1:?}");
    assert!(far(&k2, &reverse) < 1e-6, "{k2:?} {reverse:?}");
    assert!(far(&k3, &forward) < 1e-6, "{k3:?} {forward:?}");
    assert!(far(&k2, &forward) > 1e-3);
}

/// The clips as they are printed, off-policy: of the ratio of each token, and of values about what they were.
#[test]
fn clips_are_of_each_token_and_about_old_values() {
    let given = Given::new().with("value_coefficient", 1.0);
    let objective = TextObjective::of_own_responses("ppo", &given, None).unwrap();
    let ratios = [1.5f64, 0.5, 1.1, 1.5];
    let batch = Batch {
        log_policy: [ratios.map(|r| r.ln() - 2.0).to_vec(), Vec::new()],
        log_old: [vec![-2.0; 4], Vec::new()],
        log_reference: [vec![-1.0; 4], Vec::new()],
        advantage: vec![1.0, 1.0, -2.0, -1.0],
        baseline: vec![1.0, 0.0, 0.1, 2.0],
        old_value: vec![0.0; 4],
        target: vec![2.0, 3.0, 0.5, -1.0],
        lengths: vec![3, 1],
        sizes: vec![1, 1],
        weight: vec![1.0, 1.0],
        ..Batch::default()
    };
    let found = objective.cotangents(&batch).unwrap();
    // ½ of squares: (2 − .2)², 3², .4², and of the last the own one, which is larger.
    let policy = [-1.2, -0.5, 2.2, 1.5];
    let value = [1.62, 4.5, 0.08, 4.5];
    let sum: f64 = policy.iter().chain(&value).sum();
    assert!((found.value - sum).abs() < 1e-12, "{} {sum}", found.value);
    let near = |a: &[f64], b: [f64; 4]| assert!(apart(a, &b) < 1e-12, "{a:?}");
    // Clipped ones have no slope; ∂(−ρA)/∂ln π = −ρA.
    near(&found.gradient[0], [0.0, -0.5, 2.2, 1.5]);
    near(&found.gradient[1], [0.0, -3.0, -0.4, 3.0]);
}

/// Runs of `pistar train`: a critic of its own, and one on the policy.
fn ppo<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    args("ppo", out, more)
}

#[test]
fn without_a_critic_one_step_is_the_policy_gradient() {
    let place = Place::new(7);
    let both = [
        "--completions",
        "2",
        "--beta",
        "0.2",
        "--temperature",
        "0.8",
    ];
    place.train(&args("pg-zero", "pg", &both));
    let more = ["--advantage", "reward", "--length-weight", "sum"];
    place.train(&args("grpo", "grpo", &[&both[..], &more].concat()));
    let of = |run: &str| weights(load(&place, &after(run, 4)).parameters());
    let size = moved(&place, "pg", 4);
    assert!(apart(&of("pg"), &of("grpo")) < 1e-9 * size);
    for row in place.rows("grpo") {
        assert!((row["val/ratio"].as_f64().unwrap() - 1.0).abs() < 1e-10);
        assert_eq!(row["policy/clipfrac_avg"], 0.0);
    }
    // Weights by length are another step.
    place.train(&args("grpo", "tokens", &[&both[..], &more[..2]].concat()));
    assert!(apart(&of("pg"), &of("tokens")) > 1e-6 * size);
}

#[test]
fn ratios_are_one_at_first_and_leave_one() {
    let place = Place::new(7);
    for value in ["separate", "shared"] {
        let more = [
            "--value",
            value,
            "--phases",
            "2",
            "--phase-epochs",
            "2",
            "--completions",
            "2",
        ];
        place.train(&ppo(value, &more));
        let rows = place.rows(value);
        for (step, row) in rows.iter().enumerate() {
            let off = (row["val/ratio"].as_f64().unwrap() - 1.0).abs();
            let kl = row["policy/approxkl_avg"].as_f64().unwrap();
            // Phases have two steps, of which the second goes over the same completions again.
            if step % 2 == 0 {
                assert!(off < 1e-10 && kl < 1e-20, "{value} {step}: {off} {kl}");
            } else {
                assert!(kl > 1e-12, "{value} {step}: {kl}");
            }
            for name in ["loss/policy_avg", "loss/value_avg", "value"] {
                assert!(row[name].as_f64().unwrap().is_finite(), "{name}");
            }
        }
        for name in [
            "objective/kl_coef",
            "objective/non_score_reward",
            "val/num_eos_tokens",
        ] {
            assert!(rows[0][name].as_f64().is_some(), "{name}: {}", rows[0]);
        }
    }
}

/// What was stored of tokens: sums are those of responses, and values those of the critic that was there.
#[test]
fn numbers_of_tokens_are_those_of_the_policy_that_wrote() {
    let place = Place::new(7);
    let more = ["--reference", "behaviour", "--missing-eos-penalty", "2"];
    place.train(&ppo("run", &[&more[..], &["--completions", "2"]].concat()));
    let prompts = audit::prompts(&place);
    for phase in audit::phases(&place, "run", 1) {
        let policy = load(&place, &after("run", phase.first));
        for row in &phase.rows {
            let prompt = &prompts[row["index"].as_u64().unwrap() as usize].tokens;
            for c in row["completions"].as_array().unwrap() {
                let numbers = |name: &str| -> Vec<f64> {
                    let all = c["each"][name].as_array().unwrap().iter();
                    all.map(|x| x.as_f64().unwrap()).collect()
                };
                let written: Vec<u32> = (c["tokens"].as_array().unwrap().iter())
                    .map(|t| t.as_u64().unwrap() as u32)
                    .collect();
                let each = tokens(&policy, &audit::sequence(prompt, &written));
                assert!(apart(&numbers("old"), &each) < 1e-9);
                assert!(apart(&numbers("reference"), &each) < 1e-9);
                assert_eq!(numbers("value").len(), each.len());
            }
        }
    }
}

#[test]
fn parts_recomputation_and_accumulation_change_nothing() {
    let place = Place::new(7);
    for value in ["separate", "shared"] {
        let run = |out: &str, more: &[&str]| {
            let both = ["--completions", "2", "--value", value];
            place.train(&ppo(out, &[&both[..], more].concat()));
            weights(load(&place, &after(out, 4)).parameters())
        };
        let whole = run(&format!("{value}-whole"), &[]);
        let size = moved(&place, &format!("{value}-whole"), 4);
        for (name, more) in [
            ("parts", &["--micro-batch-tokens", "20"][..]),
            ("recomputed", &["--recompute"]),
            ("device", &["--loss-backend", "device"]),
        ] {
            let other = run(&format!("{value}-{name}"), more);
            assert!(apart(&whole, &other) < 1e-8 * size, "{value} {name}");
        }
    }
}

#[test]
fn a_run_with_a_critic_goes_on_to_the_same_bytes() {
    let place = Place::new(7);
    for value in ["separate", "shared"] {
        let more = [
            "--value",
            value,
            "--phases",
            "2",
            "--completions",
            "2",
            "--optimizer",
            "adamw",
            "--normalise-rewards",
            "--kl-target",
            "0.5",
        ];
        let whole = format!("{value}-whole");
        place.train(&ppo(&whole, &more));
        for steps in 1..4 {
            let run = format!("{value}-from-{steps}");
            place.copy(&whole, &run);
            if steps < 3 {
                fs::remove_file(place.at(&format!("{run}/rollouts/phase-000001.jsonl"))).unwrap();
            }
            place.train(&["--resume", &format!("{run}/checkpoint-{steps}")]);
            assert!(
                place.lasting(&run) == place.lasting(&whole),
                "{value} {steps}"
            );
            assert_eq!(place.rows(&run), place.rows(&whole));
        }
    }
}

#[test]
fn what_does_not_suit_tokens_is_refused() {
    let place = Place::new(7);
    for (objective, more, wanted) in [
        ("ppo", &["--old", "sampled"][..], "old"),
        ("ppo", &["--advantage", "group-mean"], "advantage"),
        ("ppo", &["--value-per", "batch"], "value_per"),
        ("ppo", &["--discount", "1.5"], "discount"),
        ("ppo", &["--gae-lambda=-1"], "gae_lambda"),
        ("ppo", &["--kl-target", "0"], "kl_target"),
        ("ppo", &["--kl-target", "1", "--beta", "0"], "kl_target"),
        ("ppo", &["--missing-eos-penalty=-1"], "missing_eos_penalty"),
        ("ppo", &["--demonstrations"], "demonstrations"),
        ("ppo", &["--epsilon", "-0.1"], "epsilon"),
        ("ppo", &["--eval-data", "data.jsonl"], "eval_data"),
        ("ppo", &["--token-reduction", "mean"], "token_reduction"),
        ("grpo", &["--gae-lambda", "0.5"], "gae_lambda"),
        ("grpo", &["--value", "shared"], "value"),
        ("grpo", &["--completions", "1"], "completions"),
        ("rloo", &["--kl-target", "1"], "kl_target"),
        (
            "dpo",
            &["--whiten-advantages", "false"],
            "whiten_advantages",
        ),
        ("dpo", &["--normalise-rewards"], "normalise_rewards"),
        (
            "ipo",
            &["--missing-eos-penalty", "1"],
            "missing_eos_penalty",
        ),
    ] {
        let said = place.refused(&args(objective, "no", more));
        assert!(said.contains(wanted), "{objective} {more:?}: {said}");
    }
    // On a file nobody stored what they need.
    let data = ["--model", "model", "--data", "data.jsonl", "--out", "no"];
    let said = place.refused(&[&["ppo"], &data[..]].concat());
    assert!(said.contains("give prompts in place of data"), "{said}");
}

/// PyTorch's numbers of a ragged batch by padding and masks (`fixtures/make_ppo.py`): advantages, loss, slopes.
#[test]
fn loss_and_advantages_are_those_of_pytorch() {
    let text = include_str!("../fixtures/ppo.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let number = |name: &str| all[name].as_f64().unwrap();
    let rows = |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(all[name].clone()).unwrap() };
    let gae = Gae {
        discount: number("gamma"),
        lambda: number("lambda"),
    };
    let values = rows("old_value");
    for (i, rewards) in rows("rewards").iter().enumerate() {
        let [advantages, returns] = gae.of(rewards, &values[i]);
        assert!(apart(&advantages, &rows("advantages")[i]) < 1e-12);
        assert!(apart(&returns, &rows("returns")[i]) < 1e-12);
    }
    let given = ["beta", "epsilon", "value_clip", "value_coefficient"]
        .iter()
        .fold(Given::new(), |given, name| given.with(*name, number(name)));
    let objective = TextObjective::of_own_responses("ppo", &given, None).unwrap();
    let flat = |name: &str| rows(name).concat();
    let lengths: Vec<usize> = rows("old").iter().map(Vec::len).collect();
    let count = lengths.len();
    let each = 1.0 / lengths.iter().sum::<usize>() as f64;
    let batch = Batch {
        log_policy: [flat("policy"), Vec::new()],
        log_old: [flat("old"), Vec::new()],
        log_reference: [flat("reference"), Vec::new()],
        baseline: flat("value"),
        advantage: flat("whitened"),
        old_value: flat("old_value"),
        target: flat("returns"),
        lengths,
        sizes: vec![1; count],
        weight: vec![each; count],
        ..Batch::default()
    };
    let device = candle_core::Device::Cpu;
    for found in [
        objective.cotangents(&batch).unwrap(),
        objective.loss().on_device(&batch, &device).unwrap(),
    ] {
        assert!((found.value - number("loss")).abs() < 1e-12);
        assert!(apart(&found.gradient[0], &flat("of_policy")) < 1e-12);
        assert!(apart(&found.gradient[1], &flat("of_value")) < 1e-12);
    }
}
