//! Every method of continual learning against its definition, written out again on parameters and differentiated by
//! differences; and each definition with a fault, which must not pass.

use pistar::continual::hooks::PlateauWindow;
use pistar::continual::{Base, Keeps, Method, Plan, Score, Sequence, SequenceShape, Weights, run};
use pistar::solve::copr::Divergence;

/// Two tasks in conflict: on the same prompts with a table, and on prompts of their own with shared features.
fn sequences() -> [Sequence; 2] {
    let shape = SequenceShape {
        tasks: 2,
        prompts: 2,
        arms: 3,
        beta: 0.5,
        overlap: None,
        block: 2,
    };
    let linear = SequenceShape {
        overlap: Some(0.9),
        ..shape
    };
    [
        Sequence::random(&shape, 4).unwrap(),
        Sequence::random(&linear, 9).unwrap(),
    ]
}

/// A few steps, all old prompts replayed, no setting at a value that hides it.
fn plan() -> Plan {
    Plan {
        steps: 5,
        rate: 0.4,
        replay: 1.0,
        likelihood: Some(0.3),
        beta: Some(0.7),
        pull: 0.6,
        plateau: PlateauWindow {
            length: 2,
            mean: f64::INFINITY,
            variance: f64::INFINITY,
        },
        distillation: 0.8,
        matching: 0.2,
        rehearsal: 0.9,
        contrast: 1.4,
        coupling: -0.4,
        iterations: 2,
        inner_steps: 2,
        clip: 0.05,
        multiplier_start: 1.2,
        multiplier_rate: 0.5,
        ..Plan::default()
    }
}

/// What is wrong with a definition.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// The old tasks count nothing.
    Forgets,
    /// They count twice.
    Twice,
    /// What refers to an earlier policy or to earlier parameters refers to the first.
    First,
    /// An importance, a reference or an opponent that does not change when it should.
    Stale,
    /// The base loss has another number.
    Number,
}

/// One run by its definitions.
struct By<'a> {
    sequence: &'a Sequence,
    plan: Plan,
    method: Method,
    fault: Fault,
}

type Table = Vec<Vec<f64>>;

impl By<'_> {
    fn log(&self, w: &[f64], task: usize) -> Table {
        self.sequence.policy(w, task).log().to_vec()
    }

    fn weight(&self, task: usize, x: usize) -> f64 {
        self.sequence.tasks()[task].problem.prompts()[x].weight
    }

    fn reward(&self, task: usize, x: usize) -> &[f64] {
        &self.sequence.tasks()[task].problem.prompts()[x].reward
    }

    /// Arms from worst to best.
    fn ranking(&self, task: usize, x: usize) -> Vec<usize> {
        let reward = self.reward(task, x);
        let mut arms: Vec<usize> = (0..reward.len()).collect();
        arms.sort_by(|&a, &b| reward[a].total_cmp(&reward[b]));
        arms
    }

    fn beta(&self) -> f64 {
        let beta = self.plan.beta.unwrap();
        if self.fault == Fault::Number {
            1.5 * beta
        } else {
            beta
        }
    }

    fn mean(&self, task: usize, of: impl Fn(usize) -> f64) -> f64 {
        let prompts = self.sequence.tasks()[task].prompts.len();
        (0..prompts).map(|x| self.weight(task, x) * of(x)).sum()
    }

    fn likelihood(&self, w: &[f64], task: usize) -> f64 {
        let log = self.log(w, task);
        self.mean(task, |x| -log[x][*self.ranking(task, x).last().unwrap()])
    }

    /// `KL(P ‖ P*)`, `P* ∝ π_before e^{Adv/β}`.
    fn fit(&self, w: &[f64], task: usize, before: &[f64]) -> f64 {
        let (log, reference) = (self.log(w, task), self.log(before, task));
        self.mean(task, |x| {
            let order = self.ranking(task, x);
            let n = order.len() as f64;
            let mut target = reference[x].clone();
            for (place, &arm) in order.iter().enumerate() {
                target[arm] += (2.0 * (place as f64 + 1.0) - n - 1.0) / n / self.beta();
            }
            let sum = target.iter().map(|l| l.exp()).sum::<f64>().ln();
            (log[x].iter().zip(&target))
                .map(|(l, t)| l.exp() * (l - t + sum))
                .sum()
        })
    }

    fn pairs(&self, task: usize, x: usize) -> Vec<(usize, usize)> {
        let order = self.ranking(task, x);
        let each = (0..order.len()).flat_map(|i| (i + 1..order.len()).map(move |j| (j, i)));
        each.map(|(better, worse)| (order[better], order[worse]))
            .collect()
    }

    fn dpo(&self, gap: f64) -> f64 {
        (-self.beta() * gap).exp().ln_1p()
    }

    /// The base on a task, `before` being what it refers to.
    fn base(&self, w: &[f64], task: usize, before: &[f64]) -> f64 {
        let (log, reference) = (self.log(w, task), self.log(before, task));
        let start = self.log(&vec![0.0; w.len()], task);
        let of_best = self.plan.likelihood.unwrap();
        let of_best = if self.fault == Fault::Number {
            2.0 * of_best
        } else {
            of_best
        };
        match self.method.base {
            Base::Fit => self.fit(w, task, before),
            Base::FitAndLikelihood => {
                self.fit(w, task, before) + of_best * self.likelihood(w, task)
            }
            Base::Likelihood => self.likelihood(w, task),
            Base::Preferences => self.mean(task, |x| {
                let u = |a: usize| log[x][a] - reference[x][a];
                let pairs = self.pairs(task, x);
                let sum: f64 = pairs.iter().map(|&(b, c)| self.dpo(u(b) - u(c))).sum();
                sum / pairs.len() as f64
            }),
            Base::SelfPlay => self.mean(task, |x| {
                let u = |a: usize| log[x][a] - reference[x][a];
                let best = *self.ranking(task, x).last().unwrap();
                (0..log[x].len())
                    .map(|a| reference[x][a].exp() * self.dpo(u(best) - u(a)))
                    .sum()
            }),
            Base::Contrasts => self.mean(task, |x| {
                let order = self.ranking(task, x);
                let n = order.len() as f64;
                let advantage =
                    |i: usize| self.plan.contrast * (2.0 * (i as f64 + 1.0) - n - 1.0) / n;
                let p = |i: usize| log[x][order[i]];
                let mut loss = -of_best * (n - 1.0).powi(2) * p(order.len() - 1);
                for k in 1..order.len() {
                    let most = advantage(k) - advantage(0);
                    let all = (0..k).map(|i| (p(i) * (advantage(k) - advantage(i))).exp());
                    loss += ((p(k) * most).exp() + all.sum::<f64>()).ln() - p(k) * most;
                }
                loss
            }),
            Base::Ranks => self.mean(task, |x| {
                let best = *self.ranking(task, x).last().unwrap();
                let pairs = self.pairs(task, x);
                let hinges = pairs.iter().map(|&(b, c)| (log[x][c] - log[x][b]).max(0.0));
                hinges.sum::<f64>() - of_best * log[x][best]
            }),
            Base::Reward => self.mean(task, |x| {
                let old = &reference[x];
                let earned =
                    |a: usize| self.reward(task, x)[a] - self.beta() * (old[a] - start[x][a]);
                let level: f64 = (0..old.len()).map(|a| old[a].exp() * earned(a)).sum();
                let each = (0..old.len()).map(|a| {
                    let (ratio, advantage) = ((log[x][a] - old[a]).exp(), earned(a) - level);
                    let clip = self.plan.clip;
                    let clipped = ratio.clamp(1.0 - clip, 1.0 + clip);
                    -old[a].exp() * (ratio * advantage).min(clipped * advantage)
                });
                each.sum()
            }),
            Base::Feedback => self.feedback(w, task, true),
            _ => panic!("{:?}", self.method.base),
        }
    }

    fn feedback(&self, w: &[f64], task: usize, good: bool) -> f64 {
        let log = self.log(w, task);
        self.mean(task, |x| {
            let pairs = self.pairs(task, x);
            let shown = pairs.iter().map(|&(b, c)| if good { b } else { c });
            -shown.map(|a| log[x][a]).sum::<f64>() / pairs.len() as f64
        })
    }

    /// Of every parameter, the importance to a task, at w.
    fn importance(&self, weights: Weights, w: &[f64], task: usize) -> Vec<f64> {
        let arms = |x: usize| self.log(w, task)[x].len();
        let prompts = 0..self.sequence.tasks()[task].prompts.len();
        let mut sum = vec![0.0; w.len()];
        for x in prompts {
            let scale = self.weight(task, x);
            match weights {
                Weights::Fisher => {
                    for a in 0..arms(x) {
                        let slope = slope(w, &|w| self.log(w, task)[x][a]);
                        let chance = self.log(w, task)[x][a].exp();
                        (sum.iter_mut().zip(slope)).for_each(|(s, g)| *s += scale * chance * g * g);
                    }
                }
                Weights::Outputs => {
                    let square =
                        |w: &[f64]| self.log(w, task)[x].iter().map(|l| l * l).sum::<f64>();
                    let slope = slope(w, &square);
                    (sum.iter_mut().zip(slope)).for_each(|(s, g)| *s += scale * g.abs());
                }
                _ => panic!("no estimate"),
            }
        }
        sum
    }

    /// Parameters after each task.
    fn learn(&self) -> Vec<Vec<f64>> {
        let plan = &self.plan;
        let first = vec![0.0; self.sequence.parameters()];
        let (mut w, mut other) = (first.clone(), first.clone());
        let mut ends = Vec::new();
        let mut importance = vec![0.0; w.len()];
        // Of old tasks: the policy before each, and that after it.
        let (mut befores, mut afters): (Vec<Vec<f64>>, Vec<Vec<f64>>) = Default::default();
        let mut free = Free::default();
        for t in 0..self.sequence.tasks().len() {
            let begin = w.clone();
            let olds = match self.fault {
                Fault::Forgets => 0.0,
                Fault::Twice => 2.0,
                _ => 1.0,
            };
            let anchor = if self.fault == Fault::First {
                first.clone()
            } else {
                begin.clone()
            };
            let everything = self.method.keeps == Keeps::Everything;
            let mut steps = plan.steps;
            if everything {
                w = first.clone();
                steps *= t + 1;
            }
            let mut before = if everything || self.fault == Fault::First {
                first.clone()
            } else {
                begin.clone()
            };
            let every = match self.method.base {
                Base::SelfPlay => steps.div_ceil(plan.iterations),
                Base::Reward => plan.inner_steps,
                _ => usize::MAX,
            };
            let mut lambda = vec![plan.multiplier_start; t];
            let limits: Vec<f64> = (0..t).map(|i| self.fit(&w, i, &befores[i])).collect();
            let tasks = t as f64;
            for step in 0..steps {
                if step > 0 && step % every == 0 && self.fault != Fault::Stale {
                    before = w.clone();
                }
                let base = |w: &[f64], i: usize| self.base(w, i, &before);
                let pull = |w: &[f64], importance: &[f64], anchor: &[f64]| -> f64 {
                    let square = |k: usize| importance[k] * (w[k] - anchor[k]).powi(2);
                    olds * plan.pull / 2.0 * (0..w.len()).map(square).sum::<f64>()
                };
                if self.method.base == Base::Feedback {
                    let total = |w: &[f64], good: bool| -> f64 {
                        let old: f64 = (0..t).map(|i| self.feedback(w, i, good)).sum();
                        (self.feedback(w, t, good) + olds * old) / (1.0 + tasks)
                    };
                    let good = slope(&w, &|w| total(w, true));
                    let bad = slope(&other, &|w| total(w, false));
                    let rho = if self.fault == Fault::Number {
                        0.0
                    } else {
                        plan.coupling
                    };
                    for k in 0..w.len() {
                        w[k] -= plan.rate * (good[k] + rho * bad[k]);
                        other[k] -= plan.rate * (bad[k] + rho * good[k]);
                    }
                    continue;
                }
                let mut g = match self.method.keeps {
                    Keeps::Nothing | Keeps::Projection => slope(&w, &|w| base(w, t)),
                    Keeps::Everything => slope(&w, &|w| {
                        let old: f64 = (0..t).map(|i| base(w, i)).sum();
                        (base(w, t) + olds * old) / (tasks + 1.0)
                    }),
                    Keeps::Replay => slope(&w, &|w| {
                        let fits = matches!(self.method.base, Base::Fit | Base::FitAndLikelihood);
                        let old = |i: usize| {
                            if fits {
                                self.fit(w, i, &befores[i])
                            } else {
                                base(w, i)
                            }
                        };
                        let old: f64 = (0..t).map(old).sum();
                        (base(w, t) + olds * old) / (tasks + 1.0)
                    }),
                    Keeps::Constraints | Keeps::Fits => {
                        for i in 0..t {
                            let now = self.fit(&w, i, &befores[i]);
                            let limit = if self.method.keeps == Keeps::Constraints {
                                limits[i]
                            } else {
                                0.0
                            };
                            if self.fault != Fault::Stale {
                                lambda[i] = (lambda[i].ln()
                                    + plan.multiplier_rate * lambda[i] * (now - limit))
                                    .exp();
                            }
                        }
                        let scale = 1.0 + lambda.iter().sum::<f64>();
                        slope(&w, &|w| {
                            let old = (0..t).map(|i| lambda[i] * self.fit(w, i, &befores[i]));
                            (base(w, t) + olds * old.sum::<f64>()) / scale
                        })
                    }
                    Keeps::Pull(weights) => {
                        let ones = vec![1.0; w.len()];
                        let of = if weights == Weights::Equal {
                            &ones
                        } else {
                            &importance
                        };
                        slope(&w, &|w| base(w, t) + pull(w, of, &anchor))
                    }
                    Keeps::Plateaus => {
                        let (part, hard) = if free.hard.is_empty() {
                            (1.0, 0.0)
                        } else {
                            (0.5, 0.5)
                        };
                        slope(&w, &|w| {
                            let replayed: f64 = (free.hard.iter())
                                .map(|&(i, x)| {
                                    let best = *self.ranking(i, x).last().unwrap();
                                    -self.log(w, i)[x][best] / free.hard.len() as f64
                                })
                                .sum();
                            let pulled = free
                                .anchor
                                .as_ref()
                                .map_or(0.0, |a| pull(w, &free.importance, a));
                            part * base(w, t) + hard * olds * replayed + pulled
                        })
                    }
                    Keeps::Distillation => slope(&w, &|w| {
                        let root = |log: &[f64]| -> Vec<f64> {
                            let roots: Vec<f64> = log.iter().map(|l| l.exp().sqrt()).collect();
                            let sum: f64 = roots.iter().sum();
                            roots.iter().map(|r| r / sum).collect()
                        };
                        let (now, old) = (self.log(w, t), self.log(&anchor, t));
                        let kl = self.mean(t, |x| {
                            let (q, p) = (root(&old[x]), root(&now[x]));
                            q.iter().zip(p).map(|(q, p)| q * (q / p).ln()).sum()
                        });
                        let strength = if t == 0 {
                            0.0
                        } else {
                            olds * plan.distillation
                        };
                        base(w, t) + strength * 4.0 * kl
                    }),
                    Keeps::Memory => slope(&w, &|w| {
                        let (mut square, mut labels, mut count) = (0.0, 0.0, 0.0);
                        for i in 0..t {
                            let at = if self.fault == Fault::First {
                                &first
                            } else {
                                &afters[i]
                            };
                            let (now, old) = (self.log(w, i), self.log(at, i));
                            for x in 0..now.len() {
                                let gaps = now[x].iter().zip(&old[x]);
                                square += gaps.map(|(a, b)| (a - b).powi(2)).sum::<f64>()
                                    / now[x].len() as f64;
                                labels -= now[x][*self.ranking(i, x).last().unwrap()];
                                count += 1.0;
                            }
                        }
                        let old = plan.matching * square + plan.rehearsal * labels;
                        base(w, t) + olds * if t == 0 { 0.0 } else { old / count }
                    }),
                    _ => panic!("{:?}", self.method.keeps),
                };
                if self.method.keeps == Keeps::Projection && t > 0 {
                    let old = slope(&w, &|w| {
                        (0..t).map(|i| self.likelihood(w, i)).sum::<f64>() / tasks
                    });
                    let along: f64 = g.iter().zip(&old).map(|(a, b)| a * b).sum();
                    let square: f64 = old.iter().map(|b| b * b).sum();
                    if along < 0.0 {
                        (g.iter_mut().zip(&old)).for_each(|(g, o)| *g -= olds * along / square * o);
                    }
                }
                let loss = self.likelihood(&w, t);
                w.iter_mut().zip(g).for_each(|(w, g)| *w -= plan.rate * g);
                if self.method.keeps == Keeps::Plateaus {
                    free.see(self, loss, t, &w);
                }
            }
            if let Keeps::Pull(weights) = self.method.keeps
                && weights != Weights::Equal
            {
                let new = self.importance(weights, &w, t);
                let replaced = self.fault == Fault::Stale;
                (importance.iter_mut().zip(new))
                    .for_each(|(sum, new)| *sum = if replaced { 1.0 } else { *sum + new });
            }
            befores.push(begin);
            afters.push(w.clone());
            ends.push(w.clone());
        }
        ends
    }
}

/// What TFCL carries along, with thresholds that every window is below.
#[derive(Default)]
struct Free {
    losses: Vec<f64>,
    last: Option<(f64, f64)>,
    peak: bool,
    hard: Vec<(usize, usize)>,
    importance: Vec<f64>,
    estimates: f64,
    anchor: Option<Vec<f64>>,
}

impl Free {
    fn see(&mut self, by: &By, loss: f64, task: usize, w: &[f64]) {
        self.losses.push(loss);
        let [.., a, b] = self.losses[..] else { return };
        let (mean, variance) = ((a + b) / 2.0, ((a - b) / 2.0).powi(2));
        self.peak |= self.last.is_none_or(|(m, v)| mean > m + v.sqrt());
        if !self.peak {
            return;
        }
        self.peak = false;
        self.last = Some((mean, variance));
        // Room for all prompts: the hardest first.
        let shared = by.sequence.tasks()[0].prompts == by.sequence.tasks()[1].prompts;
        for x in 0..by.sequence.tasks()[task].prompts.len() {
            let known = |h: &(usize, usize)| *h == (task, x) || shared && h.1 == x;
            if !self.hard.iter().any(known) {
                self.hard.push((task, x));
            }
        }
        let mut new = vec![0.0; w.len()];
        let single = |i: usize, x: usize| {
            let square = |w: &[f64]| by.log(w, i)[x].iter().map(|l| l * l).sum::<f64>();
            slope(w, &square)
        };
        for &(i, x) in &self.hard {
            let slope = single(i, x);
            (new.iter_mut().zip(slope)).for_each(|(n, g)| *n += g.abs() / self.hard.len() as f64);
        }
        self.importance.resize(w.len(), 0.0);
        for (sum, new) in self.importance.iter_mut().zip(new) {
            *sum = match by.fault {
                Fault::Stale => *sum + new,
                _ => (*sum * self.estimates + new) / (self.estimates + 1.0),
            };
        }
        self.estimates += 1.0;
        self.anchor = Some(match by.fault {
            Fault::First => vec![0.0; w.len()],
            _ => w.to_vec(),
        });
    }
}

/// The derivative, by differences.
fn slope(w: &[f64], value: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let at = |k: usize, h: f64| {
        let mut w = w.to_vec();
        w[k] += h;
        value(&w)
    };
    // Of fourth order.
    let h = 1e-3;
    let each =
        |k: usize| (8.0 * (at(k, h) - at(k, -h)) - (at(k, 2.0 * h) - at(k, -2.0 * h))) / (12.0 * h);
    (0..w.len()).map(each).collect()
}

fn apart(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let gaps = a.iter().flatten().zip(b.iter().flatten());
    gaps.fold(0.0, |most, (a, b)| (a - b).abs().max(most))
}

/// What a fault would change of a method; other faults leave it as it is.
fn faults(method: &Method) -> Vec<Fault> {
    let mut faults = match method.keeps {
        Keeps::Nothing => vec![],
        Keeps::Pull(Weights::Equal) => vec![Fault::Forgets, Fault::Twice, Fault::First],
        Keeps::Pull(_) | Keeps::Plateaus => {
            vec![Fault::Forgets, Fault::Twice, Fault::First, Fault::Stale]
        }
        Keeps::Distillation | Keeps::Memory => vec![Fault::Forgets, Fault::Twice, Fault::First],
        Keeps::Constraints | Keeps::Fits => vec![Fault::Forgets, Fault::Twice, Fault::Stale],
        _ => vec![Fault::Forgets, Fault::Twice],
    };
    match method.base {
        Base::Fit | Base::FitAndLikelihood | Base::Preferences if !method.sees_all() => {
            faults.extend([Fault::First, Fault::Number]);
        }
        Base::SelfPlay | Base::Reward => faults.extend([Fault::Stale, Fault::Number]),
        Base::Likelihood => {}
        _ => faults.push(Fault::Number),
    }
    faults
}

#[test]
fn every_method_is_its_definition_and_no_faulty_one() {
    for method in Method::ALL {
        let faults = faults(method);
        let mut caught = vec![false; faults.len()];
        for (kind, sequence) in sequences().iter().enumerate() {
            let out = run(sequence, *method, &plan()).unwrap();
            let by = |fault| By {
                sequence,
                plan: plan(),
                method: *method,
                fault,
            };
            let gap = apart(&out.parameters, &by(Fault::None).learn());
            assert!(gap < 1e-9, "{} on sequence {kind}: {gap}", method.name);
            for (fault, caught) in faults.iter().zip(&mut caught) {
                *caught |= apart(&out.parameters, &by(*fault).learn()) > 1e-5;
            }
        }
        for (fault, caught) in faults.iter().zip(caught) {
            assert!(caught, "{}: {fault:?}", method.name);
        }
    }
}

/// The 15 rivals of the paper, COPR and its ablations are there, each under one name with its facts.
#[test]
fn the_table_of_methods() {
    let names: Vec<&str> = Method::ALL.iter().map(|m| m.name).collect();
    let rivals = [
        "sft",
        "sft-all",
        "sft+l2",
        "sft+ewc",
        "sft+mas",
        "sft+agem",
        "sft+lwf",
        "sft+tfcl",
        "sft+der++",
        "spin+er",
        "rlhf",
        "coh+er",
        "pro+er",
        "rrhf+er",
        "dpo+er",
    ];
    assert_eq!(names[..15], rivals);
    let ablations = [
        "copr-no-fit",
        "copr-no-constraints",
        "copr-no-sft",
        "copr-lambda-1",
        "copr-replay-fit",
    ];
    assert_eq!(names[15], "copr");
    assert_eq!(names[16..21], ablations);
    for method in Method::ALL {
        assert_eq!(Method::named(method.name), Some(*method));
        assert!(!method.about.is_empty() && method.about.len() < 80);
        // The hooks of the paper's rivals sit on SFT in order.
        if method.name.starts_with("sft") {
            assert_eq!(method.base, Base::Likelihood, "{}", method.name);
        }
    }
    assert_eq!(
        names
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        names.len()
    );
    assert_eq!(Method::named("nothing"), None);
}

/// With multipliers held at 1, by a rate that moves nothing, COPR's parameters are those of replay of weight 1, to the byte.
#[test]
fn copr_with_multipliers_at_one_is_replay() {
    let shape = SequenceShape {
        tasks: 3,
        prompts: 6,
        arms: 4,
        beta: 0.5,
        overlap: Some(0.5),
        block: 4,
    };
    let held = Plan {
        steps: 200,
        replay: 0.5,
        multiplier_rate: 1e-300,
        ..Plan::default()
    };
    for seed in 0..3 {
        let sequence = Sequence::random(&shape, seed).unwrap();
        for (with, replay) in [
            (Method::COPR, Method::COPR_FIXED),
            (Method::COPR_NO_LIKELIHOOD, Method::FIT_REPLAY),
        ] {
            let one = run(&sequence, with, &held).unwrap();
            let other = run(&sequence, replay, &held).unwrap();
            assert_eq!(one.parameters, other.parameters);
            let moves = Plan {
                multiplier_rate: 1e-3,
                ..held
            };
            assert_ne!(
                run(&sequence, with, &moves).unwrap().parameters,
                other.parameters
            );
        }
    }
}

/// A-GEM's steps do not raise the loss on the replayed examples to first order: with small steps the loss on the old task
/// falls or stays, where SFT's rises.
#[test]
fn a_projected_run_does_not_lose_the_old_task() {
    let plan = Plan {
        steps: 400,
        rate: 0.01,
        replay: 1.0,
        ..Plan::default()
    };
    let mut rises = 0;
    for sequence in sequences() {
        let by = By {
            sequence: &sequence,
            plan,
            method: Method::SFT,
            fault: Fault::None,
        };
        let rise = |method, rate| {
            let steps = (4.0 / rate) as usize;
            let plan = Plan {
                steps,
                rate,
                ..plan
            };
            let out = run(&sequence, method, &plan).unwrap();
            by.likelihood(&out.parameters[1], 0) - by.likelihood(&out.parameters[0], 0)
        };
        // What is left is of the second order in the step: half the step, half of it.
        let left = rise(Method::SFT_AGEM, plan.rate);
        assert!(left < 1e-3, "{left}");
        let finer = rise(Method::SFT_AGEM, plan.rate / 2.0);
        assert!(left < 1e-6 || finer < 0.6 * left, "{left} {finer}");
        rises += u32::from(rise(Method::SFT, plan.rate) > 0.1);
    }
    assert!(rises > 0);
}

/// A penalty of strength 0, no matching or no memory leave SFT in order, to the byte; CoH without coupling never hears of bad
/// feedback.
#[test]
fn without_strength_nothing_is_kept() {
    let none = Plan {
        pull: 0.0,
        distillation: 0.0,
        matching: 0.0,
        rehearsal: 0.0,
        steps: 50,
        ..Plan::default()
    };
    for sequence in sequences() {
        let plain = run(&sequence, Method::SFT, &none).unwrap().parameters;
        for method in [
            Method::SFT_L2,
            Method::SFT_EWC,
            Method::SFT_MAS,
            Method::SFT_LWF,
            Method::SFT_DER,
        ] {
            let out = run(&sequence, method, &none).unwrap();
            assert_eq!(out.parameters, plain, "{}", method.name);
        }
        let forgetful = Plan {
            replay: 0.0,
            ..none
        };
        let out = run(&sequence, Method::SFT_AGEM, &forgetful).unwrap();
        assert_eq!(out.parameters, plain);
        // A plateau that is never reached.
        let moving = Plan {
            plateau: PlateauWindow {
                mean: -1.0,
                ..none.plateau
            },
            pull: 1.0,
            ..none
        };
        let out = run(&sequence, Method::SFT_TFCL, &moving).unwrap();
        assert_eq!(out.parameters, plain);
    }
}

/// A pull that is too strong for the step runs away, and the error says so.
#[test]
fn parameters_that_run_away_are_an_error() {
    let sequence = &sequences()[0];
    let strong = Plan {
        pull: 1e3,
        steps: 200,
        ..Plan::default()
    };
    let error = run(sequence, Method::SFT_L2, &strong)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("rate: the parameters overflow"),
        "{error}"
    );
    assert!(error.contains("weaker penalty"), "{error}");
}

/// Training on all tasks at once is the upper bound of the same base in order, with pulls and with replay: on the accuracy
/// that it trains for, mean over sequences, of rewards for SFT and of orders for the fit.
#[test]
fn all_tasks_at_once_are_the_upper_bound() {
    let shape = SequenceShape::THREE;
    let average = |method, score| {
        let seeds = 6;
        let of = |seed| {
            let plan = Plan {
                steps: 300,
                replay: 0.25,
                score,
                record_every: usize::MAX,
                seed,
                ..Plan::default()
            };
            let sequence = Sequence::random(&shape, seed).unwrap();
            run(&sequence, method, &plan)
                .unwrap()
                .metrics
                .average_accuracy[2]
        };
        (0..seeds).map(of).sum::<f64>() / seeds as f64
    };
    for (all, score, others) in [
        (
            Method::SFT_ALL,
            Score::Reward,
            vec![
                Method::SFT,
                Method::SFT_L2,
                Method::SFT_EWC,
                Method::SFT_MAS,
                Method::SFT_AGEM,
                Method::SFT_LWF,
                Method::SFT_TFCL,
                Method::SFT_DER,
            ],
        ),
        (
            Method::FIT_ALL,
            Score::Order,
            vec![
                Method::FIT,
                Method::FIT_REPLAY,
                Method::FIT_L2,
                Method::FIT_EWC,
                Method::COPR_NO_LIKELIHOOD,
            ],
        ),
    ] {
        let most = average(all, score);
        for other in others {
            let of = average(other, score);
            println!("{} {most:.3}, {} {of:.3}", all.name, other.name);
            assert!(most > of, "{} {most}, {} {of}", all.name, other.name);
        }
    }
}

/// The forward divergence has another fit; the methods with it are other methods.
#[test]
fn the_direction_of_the_divergence_is_a_setting() {
    let sequence = &sequences()[0];
    let forward = Plan {
        divergence: Divergence::Forward,
        ..plan()
    };
    let of = |plan: &Plan, method| run(sequence, method, plan).unwrap().parameters;
    assert_ne!(of(&plan(), Method::COPR), of(&forward, Method::COPR));
    assert_eq!(of(&plan(), Method::SFT_DER), of(&forward, Method::SFT_DER));
}
