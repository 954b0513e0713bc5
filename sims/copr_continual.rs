//! Forgetting along a sequence of tasks (COPR, section 4).
//!
//! Claim: COPR's constraints keep old tasks while new ones are learned, better than replay,
//! regularised or plain training. Checked on sequences of random bandits of a log-linear policy,
//! whose tasks share half of their features' variance; every gradient is exact, so the spread over
//! seeds is that of sequences. COPR is run as the paper has it, with the likelihood of the best response
//! in the fit of the new task, and without it as an ablation. Here the term buys accuracy on the new
//! task with that on the old ones: with it COPR forgets more than its rivals; without it COPR comes out
//! as replay with a weight of one, since at the paper's α the multipliers stay near where they start
//! (so it is run at α = 1 too). What a bandit cannot say: anything about language models.

use std::path::Path;

use crate::continual::{Method, Plan, Sequence, SequenceShape, run as learn};
use crate::observer::Observer;
use crate::rows::copr_continual::{Accuracy, Kept, Metric, read_kept};
use crate::rows::spread::Spread;
use anyhow::Result;
use serde_json::json;

use super::report::{markdown, number};
use super::run::Run;
use super::{Request, Sim};

pub const SIM: Sim = Sim {
    name: "copr-continual",
    about: "COPR and its rivals on sequences of tasks: accuracy on each after each, and forgetting",
    run: simulate,
    report,
};

const SHAPE: SequenceShape = SequenceShape {
    tasks: 4,
    prompts: 20,
    arms: 5,
    beta: 0.5,
    overlap: Some(0.5),
    block: 8,
};
/// A row of the comparison.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: &'static str,
    method: Method,
    /// Weight of the likelihood of the best response in the fit of the new task.
    likelihood: f64,
    /// α, the learning rate of COPR's multipliers.
    multiplier_rate: f64,
}

/// α of the paper.
const ALPHA: f64 = 1e-3;

/// COPR as the paper has it.
const COPR: Entry = Entry {
    name: "copr",
    method: Method::Copr,
    likelihood: 1.0,
    multiplier_rate: ALPHA,
};

/// A rival, whose fit is that of eq. 7 alone.
const fn rival(name: &'static str, method: Method) -> Entry {
    Entry {
        name,
        method,
        likelihood: 0.0,
        multiplier_rate: ALPHA,
    }
}

/// Strengths of the pulls were chosen once, by halves of a decade, for the highest final AA.
const METHODS: [Entry; 9] = [
    COPR,
    // With a multiplier that moves.
    Entry {
        name: "copr, α = 1",
        multiplier_rate: 1.0,
        ..COPR
    },
    Entry {
        name: "copr, no likelihood",
        likelihood: 0.0,
        ..COPR
    },
    rival("sequential", Method::Sequential),
    rival("replay", Method::Replay),
    rival("l2", Method::Anchor { strength: 0.1 }),
    rival("ewc", Method::ElasticWeights { strength: 0.3 }),
    rival("dpo-replay", Method::DpoReplay),
    rival("joint", Method::Joint),
];
const SEEDS: usize = 12;
const REPLAY: f64 = 0.25;

fn simulate(request: &Request, dir: &Path) -> Result<()> {
    request.takes(SIM.name, &["seeds"])?;
    let seeds = request.seeds.unwrap_or(SEEDS) as u64;
    anyhow::ensure!(
        (1..=100_000).contains(&seeds),
        "--seeds: {seeds} cannot be run; ask for 1 to 100000"
    );
    let plan = Plan {
        replay: REPLAY,
        record_every: usize::MAX,
        ..Plan::default()
    };
    let config = json!({
        "tasks": SHAPE.tasks, "prompts": SHAPE.prompts, "arms": SHAPE.arms, "beta": SHAPE.beta,
        "overlap": SHAPE.overlap, "block": SHAPE.block,
        "methods": METHODS.map(|e| json!({
            "name": e.name, "method": format!("{:?}", e.method), "likelihood": e.likelihood,
            "multiplier_rate": (e.method == Method::Copr).then_some(e.multiplier_rate),
        })),
        "replay": plan.replay, "steps": plan.steps, "rate": plan.rate,
        "multiplier_start": plan.multiplier_start,
        "seeds": seeds, "key": request.key,
    });
    let run = Run::start(SIM.name, request, dir, config)?;

    let places: Vec<(Entry, u64)> = (METHODS.iter())
        .flat_map(|&entry| (0..seeds).map(move |seed| (entry, seed)))
        .collect();
    let outcomes = run.map(&places, |&(entry, seed)| {
        let of = request.key.wrapping_mul(1_000_003) + seed;
        let sequence = Sequence::random(&SHAPE, of)?;
        let plan = Plan {
            seed: of,
            likelihood: entry.likelihood,
            multiplier_rate: entry.multiplier_rate,
            ..plan
        };
        Ok(learn(&sequence, entry.method, &plan)?)
    })?;
    let (mut cells, mut metrics) = (Vec::new(), Vec::new());
    for (&(entry, seed), outcome) in places.iter().zip(&outcomes) {
        let method = entry.name.to_owned();
        for (after, row) in outcome.accuracy.iter().enumerate() {
            for (task, &accuracy) in row.iter().enumerate().take(after + 1) {
                cells.push(Accuracy {
                    method: method.clone(),
                    seed,
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
            average: m.average_accuracy[last],
            incremental: m.average_incremental_accuracy[last],
            transfer: m.backward_transfer[last],
            forgetting: m.forgetting[last],
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
         and forgetting (FM, lower is better). Joint training sees all data at every step and is the \
         yardstick, not a rival. COPR's fit has the likelihood of the best response beside it, as the \
         paper has it, but where its name says otherwise; the rivals have the fit alone.\n\n",
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
    text += &markdown(&["method", "AA", "AIA", "BWT", "FM"], &rows);
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
    let least = (all.iter())
        .filter(|k| k.method != "joint")
        .filter_map(|k| Some((k.metrics[3]?.mean, &k.method)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((forgetting, method)) = least {
        text += &format!("\nWithout all data at hand {method} forgets least ({forgetting:.3}).\n");
    }
    Ok(text)
}
