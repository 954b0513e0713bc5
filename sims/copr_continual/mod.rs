//! Forgetting along a sequence of tasks (COPR, section 4).
//!
//! Claim: COPR's constraints keep old tasks while new ones are learned, better than replay,
//! regularised or plain training. Checked on sequences of random bandits of a log-linear policy,
//! whose tasks share half of their features' variance; every gradient is exact, so the spread over
//! seeds is that of sequences. All 15 rivals of the paper's Table 2, COPR and the ablations of its Table 3 are run,
//! each with the settings that are best of nine on other sequences ([`tuning`]), and COPR as the paper has it too.
//! What a bandit cannot say: anything about language models. Chain of hindsight has no text to condition on here;
//! [`Base::Feedback`](crate::continual::Base::Feedback) says what stands for it.

pub mod tuning;

use std::path::Path;

use crate::continual::{
    Method, Outcome, Plan, Score, Sequence, SequenceShape, Setting, run as learn,
};
use crate::observer::Observer;
use crate::rows::copr_continual::{Accuracy, Kept, Metric, gaps, read_kept};
use crate::rows::spread::Spread;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "copr-continual",
    about: "COPR and its 15 rivals on sequences of tasks: accuracy on each after each, and forgetting",
    run: simulate,
    report,
};

const SHAPE: SequenceShape = SequenceShape::THREE;
const SEEDS: u64 = 24;
const REPLAY: f64 = 0.25;
const STEPS: usize = 300;

/// COPR with the paper's settings.
const PRINTED: &str = "copr, as printed";

/// What is the same for all methods.
pub struct Base {
    replay: f64,
    /// α of every method that has multipliers, in place of the tuned one.
    alpha: Option<f64>,
    /// β of every method that has one.
    beta: Option<f64>,
    orders: u64,
}

impl Base {
    fn of(request: &Request) -> Result<Self> {
        let orders = request.orders.unwrap_or(1) as u64;
        // Three tasks have six orders.
        ensure!(
            (1..=6).contains(&orders),
            "--orders: {orders} cannot be run; ask for 1 to 6"
        );
        Ok(Self {
            replay: request.replay.unwrap_or(REPLAY),
            alpha: request.alpha,
            beta: request.beta,
            orders,
        })
    }
}

/// The plan of a method that is not tuned.
fn plan(base: &Base) -> Plan {
    Plan {
        steps: STEPS,
        replay: base.replay,
        record_every: usize::MAX,
        ..Plan::default()
    }
}

fn config(base: &Base, seeds: u64, more: &[(&str, Value)]) -> Value {
    let plan = plan(base);
    let mut config = json!({
        "tasks": SHAPE.tasks, "prompts": SHAPE.prompts, "arms": SHAPE.arms, "beta": SHAPE.beta,
        "overlap": SHAPE.overlap, "block": SHAPE.block,
        "replay": plan.replay, "steps": plan.steps, "rate": plan.rate, "seeds": seeds,
    });
    for (name, value) in more {
        config[*name] = value.clone();
    }
    config
}

/// A method on the sequence of a seed in one of its orders: its outcome by the order of all arms, and its average accuracy by
/// reward after the last task.
fn outcome(
    key: u64,
    seed: u64,
    order: u64,
    method: Method,
    plan: Plan,
) -> crate::Result<(Outcome, f64)> {
    let of = key.wrapping_mul(1_000_003).wrapping_add(seed);
    let sequence = Sequence::random(&SHAPE, of)?.reordered(&permutation(SHAPE.tasks, order))?;
    let outcome = learn(&sequence, method, &Plan { seed: of, ..plan })?;
    let last = outcome.parameters.last().map_or(&[][..], Vec::as_slice);
    let each = sequence.tasks().iter().enumerate();
    let rewards = each.map(|(t, task)| task.accuracy(&sequence.policy(last, t), Score::Reward));
    let rewards = rewards.sum::<f64>() / SHAPE.tasks as f64;
    Ok((outcome, rewards))
}

/// The `index`-th order of so many tasks; the first is that of their numbers.
fn permutation(tasks: usize, index: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..tasks).collect();
    let mut index = index as usize;
    let mut order = Vec::new();
    while !left.is_empty() {
        let below: usize = (1..left.len()).product();
        order.push(left.remove(index / below % left.len()));
        index %= below;
    }
    order
}

/// A row of the comparison.
#[derive(Clone)]
struct Entry {
    name: String,
    method: Method,
    plan: Plan,
    settings: String,
}

fn entries(base: &Base) -> Result<Vec<Entry>> {
    let chosen = tuning::chosen()?;
    let entry = |name: &str, method: Method, point: usize| {
        let mut plan = plan(base);
        tuning::settle(method, point, &mut plan);
        let mut settings = tuning::words(method, point);
        for (setting, value) in [
            (Setting::MultiplierRate, base.alpha),
            (Setting::Beta, base.beta),
        ] {
            if let Some(value) = value
                && method.settings.iter().any(|range| range.setting == setting)
            {
                setting.set(value, &mut plan);
                settings += &format!(", but {}={value}", setting.name());
            }
        }
        Entry {
            name: name.into(),
            method,
            plan,
            settings,
        }
    };
    let mut entries = Vec::new();
    for &method in Method::ALL {
        entries.push(entry(method.name, method, chosen(method)?));
        if method == Method::COPR {
            entries.push(entry(PRINTED, method, 0));
        }
    }
    Ok(entries)
}

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    if request.tune {
        request.takes(SIM.name, &["seeds", "tune"])?;
    } else {
        request.takes(SIM.name, &["seeds", "orders", "replay", "alpha", "beta"])?;
    }
    let seeds = request.seeds.map_or(SEEDS, |seeds| seeds as u64);
    ensure!(
        (1..=100_000).contains(&seeds),
        "--seeds: {seeds} cannot be run; ask for 1 to 100000"
    );
    if request.tune {
        return tuning::tune(request, dir);
    }
    let base = Base::of(request)?;
    let entries = entries(&base)?;
    let methods: Vec<Value> = (entries.iter())
        .map(|e| json!({"name": e.name, "method": e.method.name, "settings": e.settings}))
        .collect();
    let more = [
        ("methods", methods.into()),
        ("orders", base.orders.into()),
        ("key", request.key.into()),
    ];
    let run = Run::start(SIM.name, request, dir, config(&base, seeds, &more))?;

    let places: Vec<(&Entry, u64, u64)> = (entries.iter())
        .flat_map(|entry| {
            let each = (0..seeds).flat_map(|seed| (0..base.orders).map(move |order| (seed, order)));
            each.map(move |(seed, order)| (entry, seed, order))
        })
        .collect();
    let outcomes = run.map(&places, |&(entry, seed, order)| {
        Ok(outcome(request.key, seed, order, entry.method, entry.plan)?)
    })?;
    let (mut cells, mut metrics) = (Vec::new(), Vec::new());
    for (&(entry, seed, order), (outcome, rewards)) in places.iter().zip(&outcomes) {
        let method = entry.name.clone();
        for (after, row) in outcome.accuracy.iter().enumerate() {
            for (task, &accuracy) in row.iter().enumerate().take(after + 1) {
                cells.push(Accuracy {
                    method: method.clone(),
                    seed,
                    order,
                    after: after as u64,
                    task: task as u64,
                    accuracy,
                });
            }
        }
        let (m, last) = (&outcome.metrics, SHAPE.tasks - 1);
        metrics.push(Metric {
            method,
            seed,
            order,
            average: m.average_accuracy[last],
            incremental: m.average_incremental_accuracy[last],
            transfer: m.backward_transfer[last],
            forgetting: m.forgetting[last],
            rewards: *rewards,
        });
    }
    run.write("rows.csv", &cells)?;
    run.write("metrics.csv", &metrics)?;
    run.finish()
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let all = read_kept(dir, observer)?;
    let mut text = String::from(
        "Accuracy is the share of pairs of arms that the policy's log-ratio orders rightly (½ is \
         chance). After the last of the tasks, mean over sequences ± half of the 95 % interval: \
         average accuracy over all tasks (AA), its mean along the way (AIA), backward transfer (BWT) \
         and forgetting (FM, lower is better). The last column is AA by reward: the mean reward of a response, 0 \
         that of the worst arm and 1 of the best; it favours sharp policies, as the order does those that know \
         every arm. Every method has the settings of the highest AA among nine trials on other sequences \
         (`--tune`), but COPR as printed. `sft-all`, `fit-all` and `rlhf` see all data at every step and are \
         yardsticks, not rivals.\n\n",
    );
    let cell = |s: &Option<Spread>| match s {
        None => "–".into(),
        Some(s) => match s.half() {
            None => number(s.mean),
            Some(half) => format!("{:.3} ± {half:.3}", s.mean),
        },
    };
    let rows: Vec<Vec<String>> = (all.iter())
        .map(|kept| {
            [kept.method.clone()]
                .into_iter()
                .chain(kept.metrics.iter().map(cell))
                .collect()
        })
        .collect();
    text += &markdown(&["method", "AA", "AIA", "BWT", "FM", "AA by reward"], &rows);
    let first = |kept: &Kept| {
        let last = kept.matrix.keys().map(|at| at.0).max()?;
        Some((*kept.matrix.get(&(0, 0))?, *kept.matrix.get(&(last, 0))?))
    };
    let drops: Vec<String> = (all.iter())
        .filter_map(|kept| {
            let (at_once, at_last) = first(kept)?;
            Some(format!("{} {at_once:.2} → {at_last:.2}", kept.method))
        })
        .collect();
    text += &format!(
        "\nThe first task, just learned and after the last: {}.\n",
        drops.join(", ")
    );
    text += &verdict(&gaps(dir, Method::COPR.name, observer)?);
    Ok(text)
}

/// How the head's claim fares: which methods are above COPR, and below, by more than the noise.
fn verdict(gaps: &[(String, [Spread; 3])]) -> String {
    let clear = |which: usize, sign: f64| -> String {
        let names: Vec<&str> = (gaps.iter())
            .filter(|(_, of)| of[which].half().is_some_and(|h| sign * of[which].mean > h))
            .map(|(name, _)| name.as_str())
            .collect();
        if names.is_empty() {
            "none".into()
        } else {
            names.join(", ")
        }
    };
    format!(
        "\nAgainst tuned COPR, sequence by sequence, beyond the 95 % interval of the difference. AA higher: {}. \
         AA lower: {}. FM lower: {}. FM higher: {}. AA by reward higher: {}; lower: {}.\n",
        clear(0, 1.0),
        clear(0, -1.0),
        clear(1, -1.0),
        clear(1, 1.0),
        clear(2, 1.0),
        clear(2, -1.0)
    )
}
