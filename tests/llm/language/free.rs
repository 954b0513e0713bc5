//! Where a limit depends on the path, what is determined is reached: the policy within what is
//! compared, what goes to zero, the value of the loss.

use candle_core::{DType, Device};
use pistar::bandit::population::evaluate;
use pistar::bandit::{Dataset, Evidence, PairLaw, Policy, Simplex};
use pistar::llm::language::{Bandit, Language, Population, normal_rewards, total_variation, walk};
use pistar::llm::model::decoder::Decoder;
use pistar::loss::{InputKind, Objective};
use pistar::solve::fixed_point;

use super::limits::{trained, training};
use super::{laws, transformer};

/// Both policies given that the response is one of `arms`.
fn given(policy: &Policy, arms: impl Fn(usize) -> bool) -> Policy {
    let row = |row: &Vec<f64>| -> Vec<f64> {
        (row.iter().enumerate())
            .filter(|(a, _)| arms(*a))
            .map(|(_, l)| *l)
            .collect()
    };
    Policy::softmax(&policy.log().iter().map(row).collect::<Vec<_>>())
}

fn language() -> Language {
    Language::with_prompts(3, 2, 2).unwrap()
}

/// Responses are compared with those of their own parity only.
#[test]
fn within_a_component() {
    let model = transformer(&language(), 2);
    let same = |_: usize, reference: &[f64]| {
        let arms = reference.len();
        let entry = |a: usize, b: usize| match (a % 2, b % 2) {
            (0, 0) => 0.6 / 49.0,
            (1, 1) => 0.4 / 36.0,
            _ => 0.0,
        };
        let row = |a: usize| (0..arms).map(|b| entry(a, b)).collect();
        PairLaw::joint("pairs", &(0..arms).map(row).collect::<Vec<_>>())
    };
    let bandit = Bandit::around(&model, language(), 0.5, normal_rewards(3, 1.0), same).unwrap();
    let evidence = Evidence::population(bandit.problem());
    let mut free = 0.0f64;
    for objective in [
        Objective::COPG,
        Objective::COPG_SQUARED,
        Objective::DPO,
        Objective::IPO,
        Objective::IPO_GPO,
    ] {
        let want = fixed_point(objective, bandit.problem(), &evidence).unwrap();
        assert!(!want.unique);
        let want = want.policy.unwrap();
        let got = trained(&bandit, &evidence, objective, training(objective));
        for parity in [0, 1] {
            let of = |policy| given(policy, |a| a % 2 == parity);
            let distance = total_variation(&of(&got), &of(&want));
            assert!(distance < 1e-3, "{} {distance:e}", objective.name());
        }
        free = free.max(total_variation(&got, &want));
    }
    // What is not determined is not reached: shared parameters move the mass of the components.
    assert!(free > 1e-3, "{free:e}");
}

/// COPR ranks five of thirteen responses.
#[test]
fn within_a_list() {
    let model = transformer(&language(), 2);
    let bandit = Bandit::around(&model, language(), 0.5, normal_rewards(3, 1.0), laws).unwrap();
    let list = [11, 3, 0, 7, 5];
    let ranked = bandit
        .map(|p| p.map_prompts(|_, p| p.ranking = Some(list.to_vec())))
        .unwrap();
    let evidence = Evidence::population(ranked.problem());
    let of = |policy: &Policy| given(policy, |a| list.contains(&(a as u32)));
    for objective in [
        Objective::COPR,
        Objective::COPR_FORWARD,
        Objective::COPR_FORWARD_MEAN,
        Objective::COPR_SFT,
    ] {
        let want = fixed_point(objective, ranked.problem(), &evidence).unwrap();
        let got = trained(&ranked, &evidence, objective, training(objective));
        let distance = total_variation(&of(&got), &of(&want.policy.clone().unwrap()));
        assert!(distance < 1e-3, "{} {distance:e}", objective.name());
        // With the likelihood of the best one, nothing stays off the list.
        if objective == Objective::COPR_SFT {
            let distance = total_variation(&got, &want.policy.unwrap());
            assert!(distance < 1e-3, "{distance:e}");
        } else {
            assert!(!want.unique);
        }
    }
}

/// Nothing shows the responses of odd number: what there is of the policy on the others is π*.
#[test]
fn within_what_is_seen() {
    let model = transformer(&language(), 2);
    let seen = |_: usize, reference: &[f64]| {
        let arms = reference.len();
        let law = (0..arms).map(|a| [1.0 / 7.0, 0.0][a % 2]).collect();
        let law = Simplex::new("law", law)?;
        Ok(PairLaw::product(law.clone(), law))
    };
    let bandit = Bandit::around(&model, language(), 0.5, normal_rewards(3, 1.0), seen).unwrap();
    let evidence = Evidence::population(bandit.problem());
    let of = |policy: &Policy| given(policy, |a| a % 2 == 0);
    let want = of(&bandit.problem().optimum().policy);
    for objective in [
        Objective::COPG,
        Objective::DRO_V,
        Objective::DRO_V_ELIMINATED,
        Objective::RLOO,
    ] {
        let solved = fixed_point(objective, bandit.problem(), &evidence).unwrap();
        assert!(!solved.unique);
        let got = trained(&bandit, &evidence, objective, training(objective));
        let distance = total_variation(&of(&got), &want);
        assert!(distance < 1e-3, "{} {distance:e}", objective.name());
    }
}

/// Where every comparison goes one way, SLiC's optimum is a face: its loss, 0, is reached.
#[test]
fn a_face_of_slic() {
    let model = transformer(&language(), 2);
    let bandit = Bandit::around(&model, language(), 0.5, normal_rewards(3, 1.0), laws).unwrap();
    let problem = bandit.problem();
    let wins = (0..24).map(|i| {
        let (x, a) = (i / 12, i % 12);
        format!(
            "{{\"prompt\": {x}, \"first\": {}, \"second\": {a}, \"label\": true}}\n",
            a + 1
        )
    });
    let wins: String = wins.collect();
    let dataset = Dataset::read(wins.as_bytes(), "wins", problem).unwrap();
    let evidence = Evidence::from_dataset(problem, &dataset);
    let want = fixed_point(Objective::SLIC, problem, &evidence).unwrap();
    assert!(!want.unique);
    let loss = |policy: &Policy| {
        let there = evaluate(problem, &evidence, Objective::SLIC, policy.log());
        there.unwrap().value
    };
    let (start, least) = (loss(&problem.reference()), loss(&want.policy.unwrap()));
    assert!(
        (start - 1.0).abs() < 1e-12 && least.abs() < 1e-12,
        "{start} {least}"
    );
    let got = trained(
        &bandit,
        &evidence,
        Objective::SLIC,
        training(Objective::SLIC),
    );
    assert!(loss(&got) < 1e-3, "{:e}", loss(&got));
}

/// What every limit of KTO has, whichever desirable responses were lost on the way to it (the pull on
/// a response vanishes with its probability): undesirable ones have none, and the pulls
/// `μ s(1 − s)/π`, `s = σ(β(u − z₀))`, on what is left are equal.
pub fn on_a_face_of_kto(bandit: &Bandit, objective: Objective, policy: &Policy) {
    let problem = bandit.problem();
    let evidence = Evidence::population(problem);
    let anchor = if objective.spec().rating.kl {
        problem.kl(policy, &problem.reference())
    } else {
        0.0
    };
    let want = fixed_point(objective, problem, &evidence).unwrap();
    let want = want.policy.unwrap();
    let responses = evidence.of(InputKind::Rated).unwrap();
    let (mut lost, mut left) = (0, 0);
    for (x, prompt) in problem.prompts().iter().enumerate() {
        let (mut off, mut pulls) = (0.0, Vec::new());
        for (arm, log) in policy.log()[x].iter().enumerate() {
            if want.log()[x][arm] == f64::NEG_INFINITY {
                off += log.exp();
            } else if log.exp() > 1e-3 {
                let u = log - prompt.log_reference[arm];
                let s = sigmoid(problem.beta() * (u - anchor));
                pulls.push(responses.prompts[x].responses[arm] * s * (1.0 - s) / log.exp());
            } else {
                lost += usize::from(want.log()[x][arm].exp() > 1e-3);
            }
        }
        assert!(off < 1e-3, "{} {off:e}", objective.name());
        let most = pulls.iter().copied().fold(0.0, f64::max);
        let least = pulls.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(most < 1.05 * least, "{} {pulls:?}", objective.name());
        left += pulls.len();
    }
    println!(
        "{:15} {left} responses left, {lost} lost, {:.1e} from the limit of a table",
        objective.name(),
        total_variation(policy, &want)
    );
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// From a reference so sharp that desirable responses are lost.
#[test]
fn the_face_of_kto() {
    let architecture = language().architecture(32, 2);
    let model = Decoder::random(architecture, 0.4, 1, DType::F64, &Device::Cpu).unwrap();
    let bandit = Bandit::around(&model, language(), 0.5, normal_rewards(3, 1.0), laws).unwrap();
    let evidence = Evidence::population(bandit.problem());
    let mut population = Population::new(&bandit, &evidence, Objective::KTO).unwrap();
    let training = training(Objective::KTO);
    (training.run(&mut population, (&model).into(), None, |_, _| Ok(()))).unwrap();
    let got = walk(&model, &language()).unwrap();
    on_a_face_of_kto(&bandit, Objective::KTO, &got);
    let want = fixed_point(Objective::KTO, bandit.problem(), &evidence).unwrap();
    let distance = total_variation(&got, &want.policy.unwrap());
    assert!(distance > 1e-2, "nothing was lost: {distance:e}");
}
