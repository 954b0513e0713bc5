//! BPO on a language model: DPO (and IPO, SLiC) in F phases, held against the policy that wrote the phase's completions
//! or against the initial model, a moving average, or BPO's own result ("golden").
//!
//! The paper's section 5 in small: T steps on pairs that the policy writes and a rule judges; F = 1 is offline, F = T
//! on-policy.

use std::collections::BTreeMap;
use std::path::Path;

use crate::llm::sample::generate::Prompt;
use crate::llm::train::reference::Reference;
use crate::llm::train::{Average, Batches, ReferenceSource, Rollouts, Settings, Trainer};
use crate::loss::{Given, Objective};
use crate::observer::{Observer, Silent, Work};
use anyhow::{Result, ensure};
use serde_json::{Map, json};

use super::judge::{Judge, mean};
use super::report::{self, Claim, at, cells, half};
use super::run::{Job, Run};
use super::world::{COMPLETION, PROMPT, World};
use super::{Request, Study};
use crate::rows::study_bpo::{Row, Setting, objectives, paths, read_rows, settings};
use crate::sims::report::{markdown, number};

pub const STUDY: Study = Study {
    name: "bpo",
    about: "BPO: preferences on what the policy writes, in F phases, with references that move or stay",
    run,
    report,
    ablations: None,
    full: true,
};

const STEPS: u64 = 60;
const BATCH: usize = 64;
const BETA: f64 = 0.1;
/// The paper's.
const LR: f64 = 5e-5;
const SEEDS: u64 = 3;
const PROMPTS: usize = 2048;
/// Held-out prompts.
const HELD: usize = 256;
/// Steps between two judgements.
const EVERY: u64 = 6;
/// Version of what `config` says.
const FORMAT: u32 = 1;
/// Rates of the moving average in the short and the full study.
const EMA: [&str; 3] = ["ema:0.05", "ema:0.01", "ema:0.001"];

const BEHAVIOUR: &str = "behaviour";
const INITIAL: &str = "initial";
const GOLDEN: &str = "golden";

/// References and numbers of phases.
fn sweep(full: bool) -> Vec<Setting> {
    let phases: &[u64] = if full { &[2, 6, 15, 60] } else { &[6, 60] };
    // With one phase both references are the same.
    let mut all = vec![(BEHAVIOUR.to_string(), 1)];
    for &phases in phases {
        all.extend([BEHAVIOUR, INITIAL].map(|reference| (reference.into(), phases)));
    }
    let averages = if full { &EMA[..] } else { &EMA[..1] };
    all.extend(averages.iter().map(|ema| (ema.to_string(), STEPS)));
    all.push((GOLDEN.into(), STEPS));
    all
}

/// A setting and a seed.
struct Trial {
    objective: Objective,
    setting: Setting,
    seed: u64,
    lr: f64,
}

fn run(request: &Request, dir: &Path) -> Result<()> {
    let count = request.prompts.unwrap_or(PROMPTS);
    let seeds = request.seeds.unwrap_or(SEEDS);
    let lr = request.lr.unwrap_or(LR);
    let world = World::of(request, dir, count, HELD)?;
    let all = if request.full {
        vec![Objective::DPO, Objective::IPO, Objective::SLIC]
    } else {
        vec![Objective::DPO]
    };
    let sweep = sweep(request.full);
    let names: Vec<&str> = all.iter().map(|o| o.name()).collect();
    let config = json!({
        "format": FORMAT, "inputs": world.inputs, "reward": world.rule_parts(), "key": request.key, "prompts": count,
        "held": HELD, "seeds": seeds, "lr": lr, "beta": BETA, "every": EVERY, "steps": STEPS, "batch": BATCH,
        "objectives": names, "settings": sweep, "tokens": [PROMPT, COMPLETION],
    });
    let run = Run::start(STUDY.name, request, dir, config)?;
    let mut trials = Vec::new();
    for seed in 0..seeds {
        for &objective in &all {
            for setting in &sweep {
                trials.push(Trial {
                    objective,
                    setting: setting.clone(),
                    seed,
                    lr,
                });
            }
        }
    }
    let rows = run.trials("bpo", &world, &trials)?;
    run.finish(&rows)
}

impl Job for Trial {
    type World = World;
    type Row = Row;

    fn name(&self) -> String {
        let (reference, phases) = &self.setting;
        let reference = reference.replace(':', "-");
        let objective = self.objective.name();
        format!("{objective}-{reference}-{phases}-seed{}", self.seed)
    }

    fn steps(&self, _: &World) -> Result<u64> {
        Ok(STEPS * if self.setting.0 == GOLDEN { 2 } else { 1 })
    }

    fn run(&self, world: &World, work: &dyn Work) -> Result<Vec<Row>> {
        let (reference, phases) = (self.setting.0.as_str(), self.setting.1);
        let given = match reference {
            GOLDEN => {
                // BPO's own result, on-policy.
                let settings = self.settings(BEHAVIOUR, STEPS)?;
                let mut trainer = self.trainer(world, &settings, Reference::Stored(None))?;
                for _ in 0..STEPS {
                    trainer.prepare(&Silent)?;
                    trainer.step(None)?;
                    work.advance(1);
                }
                trainer.policy.model.decoder().copy()?
            }
            _ => world.decoder()?,
        };
        let settings = self.settings(
            if reference == GOLDEN {
                INITIAL
            } else {
                reference
            },
            phases,
        )?;
        let reference = match (&settings.reference, settings.reference.rate()?) {
            (_, Some(rate)) => Reference::Average(Box::new(Average::new(&world.decoder()?, rate)?)),
            (ReferenceSource::Behaviour, _) => Reference::Stored(None),
            _ => Reference::Stored(Some(Box::new(given))),
        };
        let mut trainer = self.trainer(world, &settings, reference)?;
        let mut judge = Judge::new(world)?;
        let mut rows = vec![self.judge(&mut judge, &trainer, 0)?];
        for step in 1..=STEPS {
            trainer.prepare(&Silent)?;
            trainer.step(None)?;
            if step.is_multiple_of(EVERY) || step == STEPS {
                rows.push(self.judge(&mut judge, &trainer, step)?);
            }
            work.advance(1);
        }
        Ok(rows)
    }
}

impl Trial {
    fn settings(&self, reference: &str, phases: u64) -> Result<Settings> {
        let settings = Settings {
            objective: Some(self.objective.name().into()),
            numbers: Given::new().with("beta", BETA),
            prompts: Some("openings of the model's own".into()),
            // The world's own rule scores them.
            reward: vec!["length".into()],
            reference: ReferenceSource::from(reference.to_string()),
            phases: Some(phases),
            max_new_tokens: COMPLETION,
            lr: Some(self.lr),
            batch: BATCH,
            steps: Some(STEPS),
            seed: self.seed,
            ..Settings::default()
        };
        Ok(settings.resolve()?)
    }

    fn trainer<'a>(
        &self,
        world: &World,
        settings: &'a Settings,
        reference: Reference,
    ) -> Result<Trainer<'a>> {
        let objective = settings.objective()?;
        let prompt = |tokens: &[u32]| -> Result<Prompt> {
            Ok(Prompt {
                text: world.text(tokens)?,
                tokens: tokens.to_vec(),
                fields: Map::new(),
            })
        };
        let prompts = (world.pairs.iter()).map(|[first, _]| prompt(first.sequence.prompt()));
        let prompts = prompts.collect::<Result<_>>()?;
        let tokenizer = world.model.tokenizer()?;
        let rollouts = Rollouts::new(
            settings,
            &objective,
            prompts,
            tokenizer,
            world.rule()?,
            None,
        )?;
        let rollouts = rollouts.ending_at(world.ends().to_vec());
        let policy = world.decoder()?;
        let plan = Batches::fed(objective, settings, policy.sizes().context, rollouts)?;
        Ok(Trainer::new(
            settings,
            plan,
            Box::new(policy),
            None,
            reference,
        )?)
    }

    fn judge(&self, judge: &mut Judge, trainer: &Trainer, step: u64) -> Result<Row> {
        let judged = judge.of(trainer.policy.model.decoder())?;
        Ok(Row {
            objective: self.objective.name().into(),
            reference: self.setting.0.clone(),
            phases: self.setting.1,
            seed: self.seed,
            step,
            prompts: judged.wins.len() as u64,
            win: mean(&judged.wins),
            reward: mean(&judged.rewards),
            kl: mean(&judged.kl),
            entropy: mean(&judged.entropy),
            tokens: mean(&judged.tokens),
        })
    }
}

fn report(dir: &Path, observer: &dyn Observer) -> Result<String> {
    let rows = read_rows(dir, observer)?;
    ensure!(
        !rows.is_empty(),
        "rows.csv: it has no rows; run the study to its end"
    );
    let mut text = String::new();
    for objective in objectives(&rows) {
        text += &of_objective(&rows, &objective)?;
    }
    Ok(text)
}

fn of_objective(rows: &[Row], objective: &str) -> Result<String> {
    let mut trials: BTreeMap<Setting, BTreeMap<u64, (report::Path, f64)>> = BTreeMap::new();
    let mut lines = Vec::new();
    for setting in settings(rows, objective) {
        let found = paths(rows, objective, &setting);
        let of = |f: &dyn Fn(&Row) -> f64| {
            let ends: Vec<f64> = found
                .values()
                .filter_map(|p| p.last())
                .map(|r| f(r))
                .collect();
            let mean = ends.iter().sum::<f64>() / ends.len() as f64;
            number(mean) + &half(&ends).map_or(String::new(), |h| format!(" ± {}", number(h)))
        };
        lines.push(vec![
            setting.0.clone(),
            setting.1.to_string(),
            of(&|r| r.reward),
            of(&|r| r.kl),
            of(&|r| r.win),
        ]);
        let by_seed = found.into_iter().map(|(seed, path)| {
            let win = path.last().map_or(f64::NAN, |r| r.win);
            let path = path.iter().map(|r| (r.step, r.reward, r.kl)).collect();
            (seed, (path, win))
        });
        trials.insert(setting, by_seed.collect());
    }
    let header = [
        "reference",
        "phases",
        "reward",
        "KL(π‖π₀)",
        "win against π₀",
    ];
    let table = markdown(&header, &lines);
    let end = |path: &report::Path| path.last().copied().unwrap_or_default();
    let mut claims = Vec::new();
    let mut compare = |words: String, a: (&str, u64), b: (&str, u64), what: What, above: bool| {
        let named = |s: (&str, u64)| (s.0.to_string(), s.1);
        let (Some(a), Some(b)) = (trials.get(&named(a)), trials.get(&named(b))) else {
            return;
        };
        let both = a.iter().filter_map(|(seed, x)| Some((x, b.get(seed)?)));
        let difference =
            |((x, win_x), (y, win_y)): (&(report::Path, f64), &(report::Path, f64))| match what {
                What::Reward => end(x).1 - end(y).1,
                What::Kl => end(x).2 - end(y).2,
                What::Win => win_x - win_y,
                What::AtEqualKl => {
                    let kl = end(x).2.min(end(y).2);
                    at(x, kl) - at(y, kl)
                }
            };
        claims.push(Claim {
            words,
            differences: both.map(difference).collect(),
            above,
        });
    };
    let most = STEPS;
    let one = (BEHAVIOUR, 1);
    for (phases, before) in [(6, one), (most, (BEHAVIOUR, 6))] {
        compare(
            format!(
                "BPO in {phases} phases has more reward than in {}",
                before.1
            ),
            (BEHAVIOUR, phases),
            before,
            What::Reward,
            true,
        );
    }
    for phases in [6, most] {
        let (ours, theirs) = ((BEHAVIOUR, phases), (INITIAL, phases));
        let mut of = |words: &str, what, above| {
            compare(
                format!("F = {phases}: BPO {words}"),
                ours,
                theirs,
                what,
                above,
            );
        };
        of("has more reward than the reference π₀", What::Reward, true);
        of("wins more often than it", What::Win, true);
        of("goes farther from π₀ than it", What::Kl, true);
        of("has more reward at equal KL", What::AtEqualKl, true);
    }
    compare(
        "the golden reference has less reward than BPO".into(),
        (BEHAVIOUR, most),
        (GOLDEN, most),
        What::Reward,
        true,
    );
    for ema in EMA {
        compare(
            format!("{ema} has less reward than BPO"),
            (BEHAVIOUR, most),
            (ema, most),
            What::Reward,
            true,
        );
    }
    let header = ["statement", "difference, 95 % interval over seeds", "here"];
    Ok(format!(
        "## {objective}\n\n{table}\n{}\n",
        markdown(&header, &cells(&claims))
    ))
}

/// What two settings are compared by.
#[derive(Clone, Copy)]
enum What {
    Reward,
    Kl,
    Win,
    AtEqualKl,
}
