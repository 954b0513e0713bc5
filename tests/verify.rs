//! Reports: none of a registered loss has a fault, every broken one has the right fault, and what a
//! loss merely lacks is called a difference.

#[cfg(feature = "cli")]
use std::process::Command;

use pistar::Result;
use pistar::backend::{Backend, Segments};
use pistar::loss::{
    Group, InputKind, Inputs, Kind, Loss, Objective, Rated, Single, Spec, Temperature,
};
use pistar::verify::report::{
    Area, Check, Data, LimitRow, Outcome, Report, Rest, WIDTH, report, report_on,
};
use rayon::prelude::*;
use serde_json::Value;
use std::rc::Rc;

use crate::common::toy;

fn check<'a>(report: &'a Report, property: &str) -> &'a Check {
    let found = report.checks.iter().find(|c| c.property == property);
    found.unwrap_or_else(|| panic!("no `{property}` in\n{report}"))
}

fn outcome(report: &Report, property: &str) -> Outcome {
    check(report, property).outcome
}

#[test]
fn no_registered_loss_has_a_fault() {
    let reports: Vec<Report> = (Objective::ALL.par_iter())
        .map(|&objective| report(objective).unwrap())
        .collect();
    for report in &reports {
        assert_eq!(report.faults(), 0, "{report}");
        assert!(report.count(Outcome::Ok) >= 10, "{report}");
        // No row vanishes, none is left unclassified.
        let rows = match report.inputs {
            InputKind::Lists => 1,
            InputKind::LabelledPairs => 6,
            _ => 5,
        };
        assert_eq!(report.limits.len(), rows, "{report}");
        for row in &report.limits {
            assert!(row.rest != Rest::None && row.policy.is_some(), "{report}");
        }
    }
}

#[test]
fn reports_know_the_toy() {
    let regrets = |objective: Objective| -> Vec<f64> {
        let report = report_on(objective, &toy()).unwrap();
        report
            .limits
            .iter()
            .map(|row| row.regret.unwrap())
            .collect()
    };
    // On policy, from π_ref, off policy with one law, off policy with two.
    for unbiased in [
        Objective::COPG,
        Objective::DPO,
        Objective::PG_SOFT_VALUE,
        Objective::DRO_V,
    ] {
        assert!(
            regrets(unbiased)[..4].iter().all(|r| *r < 1e-12),
            "{}",
            unbiased.name()
        );
    }
    let near = |have: f64, want: f64| assert!((have - want).abs() < 1e-9, "{have} is not {want}");
    near(regrets(Objective::IPO)[3], 0.152530660343);
    near(regrets(Objective::IPO)[2], 0.152231069261);
    // Without a baseline the policy gradient is right on policy and only there.
    let pg = regrets(Objective::PG_ZERO);
    near(pg[0], 0.0);
    near(pg[3], 0.637792700571);
    near(regrets(Objective::PG_VALUE)[3], 0.014817426243);
}

/// A loss on labelled or scored pairs from its margin.
macro_rules! pair_loss {
    ($name:ident, $inputs:expr, $kind:expr, |$d:ident, $r:ident, $p:ident| $body:block) => {
        struct $name;
        impl Loss for $name {
            type Numbers = Temperature;
            fn spec(&self) -> Spec {
                Spec {
                    kind: $kind,
                    ..Spec::new(stringify!($name), $inputs)
                }
            }
            fn loss<X: Backend>(&self, $p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
                let (first, second) = (&inputs.pair()?.first, &inputs.pair()?.second);
                let $d = first.log_ratio()?.sub(&second.log_ratio()?)?;
                let $r = first.reward()?.sub(second.reward()?)?;
                $body
            }
        }
    };
}

// Weights R_{β/2} detached in CoPG: the trap of theory and practice.
pair_loss!(
    DetachedCopg,
    InputKind::ScoredPairs,
    Kind::Smooth,
    |d, r, p| {
        let weight = r.sub(&d.affine(p.beta / 2.0, 0.0)?)?.detach()?;
        weight.mul(&d)?.neg()
    }
);
// The same, owned up to.
pair_loss!(CopgField, InputKind::ScoredPairs, Kind::Field, |d, r, p| {
    let weight = r.sub(&d.affine(p.beta / 2.0, 0.0)?)?.detach()?;
    weight.mul(&d)?.neg()
});
pair_loss!(
    NanAtTies,
    InputKind::LabelledPairs,
    Kind::Smooth,
    |d, _r, p| {
        let squared = d.affine(p.beta, 0.0)?.square()?;
        squared.mul(&squared.ln()?)?.sub(&d)
    }
);
pair_loss!(Hinge, InputKind::LabelledPairs, Kind::Kinked, |d, _r, p| {
    d.affine(-p.beta, 1.0)?.relu()
});
pair_loss!(
    AbsoluteIpo,
    InputKind::LabelledPairs,
    Kind::Kinked,
    |d, _r, p| {
        let off = d.affine(p.beta, -0.5)?;
        off.relu()?.add(&off.neg()?.relu()?)
    }
);
pair_loss!(
    Exponential,
    InputKind::LabelledPairs,
    Kind::Smooth,
    |d, _r, p| { d.affine(-p.beta, 0.0)?.exp() }
);
pair_loss!(
    FirstCounts,
    InputKind::ScoredPairs,
    Kind::Smooth,
    |d, r, p| { d.affine(p.beta, 0.0)?.sub(&r.relu()?)?.square() }
);
pair_loss!(
    OrderOfExamples,
    InputKind::LabelledPairs,
    Kind::Smooth,
    |d, _r, p| {
        let places: Vec<f64> = (1..=d.to_vec()?.len()).map(|i| i as f64).collect();
        d.affine(-p.beta, 0.0)?
            .softplus()?
            .mul(&d.constant(&places)?)
    }
);
// The margin less its mean over the batch.
pair_loss!(
    Centred,
    InputKind::LabelledPairs,
    Kind::Smooth,
    |d, _r, p| {
        let n = d.to_vec()?.len();
        let whole = Rc::new(Segments::new(&[n])?);
        let mean = d
            .segment_sum(&whole)?
            .affine(1.0 / n as f64, 0.0)?
            .spread(&whole)?;
        d.sub(&mean)?.affine(-p.beta, 0.0)?.softplus()
    }
);
pair_loss!(Cube, InputKind::LabelledPairs, Kind::Smooth, |d, _r, p| {
    d.affine(-p.beta, 1.0)?
        .relu()?
        .square()?
        .mul(&d.affine(-p.beta, 1.0)?.relu()?)
});

#[test]
fn a_hidden_detach_is_a_fault() {
    let detached = report(&DetachedCopg).unwrap();
    assert_eq!(
        outcome(&detached, "slope of its value"),
        Outcome::Fault,
        "{detached}"
    );
    // As a field it is one, and where it leads is information: π* of half the temperature.
    let field = report_on(&CopgField, &toy()).unwrap();
    assert_eq!(field.faults(), 0, "{field}");
    assert_eq!(outcome(&field, "reaches π*"), Outcome::Differs);
    let policy = field.limits[3].policy.as_ref().unwrap();
    for (have, want) in policy[0].iter().zip([0.878878, 0.118943, 0.002179]) {
        assert!((have - want).abs() < 1e-6, "{field}");
    }
}

#[test]
fn nan_where_training_starts_is_a_fault() {
    let report = report(&NanAtTies).unwrap();
    assert_eq!(
        outcome(&report, "policy = reference"),
        Outcome::Fault,
        "{report}"
    );
    assert!(
        check(&report, "policy = reference").says.contains("NaN"),
        "{report}"
    );
    assert_eq!(
        outcome(&report, "slope of its value"),
        Outcome::Ok,
        "{report}"
    );
}

#[test]
fn the_place_in_a_batch_must_not_count() {
    let report = report(&OrderOfExamples).unwrap();
    assert_eq!(
        outcome(&report, "order of the examples"),
        Outcome::Fault,
        "{report}"
    );
}

/// IPO that claims to be DPO.
struct Impostor;

impl Loss for Impostor {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("dpo", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, n: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        pistar::loss::ipo::Ipo.loss(n, inputs)
    }
}

#[test]
fn code_that_leads_elsewhere_than_its_solver_is_a_fault() {
    let report = report(&Impostor).unwrap();
    assert_eq!(
        outcome(&report, "exact solver = numeric limit"),
        Outcome::Fault,
        "{report}"
    );
}

#[test]
fn kinks_are_no_faults() {
    let hinge = report_on(&Hinge, &toy()).unwrap();
    assert_eq!(hinge.faults(), 0, "{hinge}");
    assert_eq!(
        outcome(&hinge, "slope of its value"),
        Outcome::Ok,
        "{hinge}"
    );
    assert!(
        (hinge.limits[2].regret.unwrap() - 0.061039005127595862).abs() < 1e-6,
        "{hinge}"
    );
    assert_eq!(report(&AbsoluteIpo).unwrap().faults(), 0);
    assert_eq!(report(&Cube).unwrap().faults(), 0);
}

#[test]
fn what_a_loss_lacks_is_a_difference() {
    let centred = report(&Centred).unwrap();
    assert_eq!(centred.faults(), 0, "{centred}");
    for property in ["padding", "micro-batches"] {
        assert_eq!(outcome(&centred, property), Outcome::Differs, "{centred}");
    }
    let first = report(&FirstCounts).unwrap();
    assert_eq!(
        outcome(&first, "order of a pair"),
        Outcome::Differs,
        "{first}"
    );
    assert_eq!(
        outcome(&first, "laws of y and y′ exchanged"),
        Outcome::Ok,
        "{first}"
    );
    let exponential = report(&Exponential).unwrap();
    assert_eq!(exponential.faults(), 0, "{exponential}");
    assert_eq!(
        outcome(&exponential, "far out"),
        Outcome::Differs,
        "{exponential}"
    );

    let dpo = report(Objective::DPO).unwrap();
    assert_eq!(outcome(&dpo, "rewards and β × 2"), Outcome::Ok, "{dpo}");
    let ipo = report(Objective::IPO).unwrap();
    assert_eq!(
        outcome(&ipo, "rewards and β × 2"),
        Outcome::Differs,
        "{ipo}"
    );
    assert_eq!(outcome(&ipo, "rewards + 3"), Outcome::Ok, "{ipo}");
    let pg = report(Objective::PG_ZERO).unwrap();
    assert_eq!(outcome(&pg, "rewards + 3"), Outcome::Differs, "{pg}");
    assert_eq!(
        outcome(&pg, "best arm shown rarely"),
        Outcome::Differs,
        "{pg}"
    );
    let copg = report(Objective::COPG).unwrap();
    assert_eq!(
        outcome(&copg, "best arm shown rarely"),
        Outcome::Ok,
        "{copg}"
    );
    assert_eq!(
        outcome(&copg, "best arm never shown"),
        Outcome::Differs,
        "{copg}"
    );
}

/// Least squares on single responses: DRO with V left at 0, written by a user.
struct Regression;

impl Loss for Regression {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("regression", InputKind::Singles)
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Single {
            response,
            baseline: held,
        } = inputs.single()?;
        let u = response.log_ratio()?.affine(p.beta, 0.0)?;
        response
            .reward()?
            .sub(held)?
            .sub(&u)?
            .square()?
            .affine(0.5, 0.0)
    }
}

/// A user's loss on groups: the variance of R_β.
struct Variance;

impl Loss for Variance {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("variance", InputKind::Groups)
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let u = responses.log_ratio()?.affine(p.beta, 0.0)?;
        let rewards = responses.reward()?.sub(&u)?;
        let size: Vec<f64> = (0..groups.groups())
            .map(|g| 1.0 / groups.size(g) as f64)
            .collect();
        let total = rewards.segment_sum(groups)?;
        let mean = total.mul(&total.constant(&size)?)?.spread(groups)?;
        rewards.sub(&mean)?.square()?.segment_sum(groups)
    }
}

/// A user's loss on rated responses: logistic regression on u.
struct Logistic;

impl Loss for Logistic {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec {
            rating: Objective::KTO_NO_KL.spec().rating,
            ..Spec::new("logistic", InputKind::Rated)
        }
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Rated {
            response,
            desirable,
            ..
        } = inputs.rated()?;
        let x = response.log_ratio()?.affine(p.beta, 0.0)?;
        x.softplus()?.sub(&desirable.mul(&x)?)
    }
}

#[test]
fn losses_of_ones_own_on_every_kind_of_example() {
    // pg-zero and the regression lead to the same place (theory, section 6).
    let regression = report_on(&Regression, &toy()).unwrap();
    assert_eq!(regression.faults(), 0, "{regression}");
    assert!(
        (regression.limits[3].regret.unwrap() - 0.637792700571).abs() < 1e-9,
        "{regression}"
    );
    let variance = report(&Variance).unwrap();
    assert_eq!(variance.faults(), 0, "{variance}");
    assert_eq!(outcome(&variance, "reaches π*"), Outcome::Ok, "{variance}");
    let logistic = report(&Logistic).unwrap();
    assert_eq!(logistic.faults(), 0, "{logistic}");
}

/// Asks for singles and reads pairs.
struct Confused;

impl Loss for Confused {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("confused", InputKind::Singles)
    }
    fn loss<X: Backend>(&self, _: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let (first, second) = (&inputs.pair()?.first, &inputs.pair()?.second);
        first.log_ratio()?.sub(&second.log_ratio()?)
    }
}

/// One number for the whole batch.
struct Reduced;

impl Loss for Reduced {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("reduced", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, _: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let (first, second) = (&inputs.pair()?.first, &inputs.pair()?.second);
        let d = first.log_ratio()?.sub(&second.log_ratio()?)?;
        d.segment_sum(&Rc::new(Segments::new(&[d.to_vec()?.len()])?))
    }
}

#[test]
fn misuse_is_an_error_that_says_what_is_wrong() {
    let message = report(&Confused).unwrap_err().to_string();
    assert!(message.contains("single responses, not pairs"), "{message}");
    let message = report(&Reduced).unwrap_err().to_string();
    assert!(message.contains("one number per example"), "{message}");
}

#[test]
fn pages_are_narrow_and_json_is_whole() {
    for objective in [
        Objective::IPO,
        Objective::DPO,
        Objective::DRO_FIXED,
        Objective::RLOO,
        Objective::COPR,
    ] {
        assert_eq!(WIDTH, 80);
        let report = report(objective).unwrap();
        let page = report.to_string();
        assert!(
            page.lines()
                .all(|l| l.chars().count() <= WIDTH && l == l.trim_end()),
            "{page}"
        );
        for area in Area::ALL {
            // A ranked list has neither labels nor a log.
            if (area, objective) == (Area::FiniteData, Objective::COPR) {
                continue;
            }
            assert!(page.contains(&format!("\n{}\n", area.name())), "{page}");
        }
        let json = report.json();
        let text = json.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
        assert_eq!(json["loss"], objective.name());
        assert_eq!(json["faults"], 0);
        let checks = json["checks"].as_array().unwrap();
        let counted = |outcome: &str| checks.iter().filter(|c| c["outcome"] == outcome).count();
        assert_eq!(json["ok"], counted("ok"));
        assert_eq!(json["differences"], counted("differs"));
        for check in checks {
            assert!(check["area"].is_string() && check["property"].is_string());
            assert!(check["number"].is_null() || check["number"].is_f64());
            assert!(!check["says"].as_str().unwrap().is_empty());
        }
        for row in json["limits"].as_array().unwrap() {
            let policy = row["policy"][0].as_array().unwrap();
            let sum: f64 = policy.iter().map(|p| p.as_f64().unwrap()).sum();
            // Whatever the page says of a row.
            let note = row["note"].as_str().unwrap_or("");
            for said in ["responses", "rest"]
                .map(|key| row[key].as_str().unwrap())
                .iter()
                .chain([&note])
            {
                assert!(page.contains(said), "{said}: {page}");
            }
            assert!((sum - 1.0).abs() < 1e-9 && row["regret"].as_f64().unwrap() >= 0.0);
        }
        // The same loss, the same report.
        assert_eq!(
            pistar::verify::report::report(objective)
                .unwrap()
                .to_string(),
            page
        );
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_command_reports() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pistar"))
            .args(args)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, out, err) = run(&["verify", "dpo", "ipo", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let reports: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&reports[0]["loss"], &reports[1]["loss"]),
        (&"dpo".into(), &"ipo".into())
    );
    let (code, out, _) = run(&["verify", "copg"]);
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("copg  ") && out.contains("0 faults"),
        "{out}"
    );
    let (code, out, err) = run(&["verify", "ppo"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("`ppo`"), "{err}");
    assert_eq!(run(&["verify"]).0, Some(2));
}

fn row<'a>(report: &'a Report, responses: &str) -> &'a LimitRow {
    let found = report.limits.iter().find(|r| r.responses == responses);
    found.unwrap_or_else(|| panic!("no row `{responses}` in\n{report}"))
}

#[test]
fn the_reference_of_the_default_bandit_is_not_uniform() {
    // So that a loss that does not know of it cannot reach π* by accident.
    let report = report(Objective::DPO).unwrap();
    let reference = report.problem.reference().probabilities().concat();
    assert!(reference.windows(2).all(|w| w[0] != w[1]), "{reference:?}");
    assert_eq!(outcome(&report, "reaches π*"), Outcome::Ok, "{report}");
    assert_eq!(
        outcome(&report, "reference matters"),
        Outcome::Ok,
        "{report}"
    );
    let page = report.to_string();
    for said in ["R = (2.5, 2, 1)", "β = 0.5", "π_ref = (0.2, 0.3, 0.5)"] {
        assert!(page.contains(said), "{page}");
    }
    let star = report.problem.optimum().policy.probabilities().concat();
    let star: Vec<String> = star.iter().map(|p| format!("{p:.3}")).collect();
    assert!(
        page.contains(&format!("π* = ({})", star.join(", "))),
        "{page}"
    );
}

#[test]
fn where_labels_are_deterministic_dpo_runs_off_and_ipo_does_not() {
    let dpo = report(Objective::DPO).unwrap();
    let ipo = report(Objective::IPO).unwrap();
    for property in ["noiseless labels", "separable log"] {
        assert_eq!(outcome(&dpo, property), Outcome::Differs, "{dpo}");
        assert_eq!(outcome(&ipo, property), Outcome::Ok, "{ipo}");
    }
    // The better of two arms always wins, so that the best has all probability.
    let noiseless = row(&dpo, "noiseless labels");
    assert_eq!(
        (noiseless.data, noiseless.rest),
        (Data::Noiseless, Rest::Boundary)
    );
    assert!(
        noiseless.policy.as_ref().unwrap()[0][0] > 1.0 - 1e-6,
        "{dpo}"
    );
    // Of CoPG's laws IPO's limit with noiseless labels is known (uniform reference).
    let copg = report_on(Objective::IPO, &toy()).unwrap();
    let regret = row(&copg, "noiseless labels").regret.unwrap();
    assert!((regret - 0.092155859267).abs() < 1e-9, "{regret}");
}

#[test]
fn arms_that_nobody_beats_keep_the_odds_of_gradient_flow() {
    // Arm 0 beats the worst twice, arm 1 once, and they never meet: reference odds × 2^{1/β}.
    for beta in [0.5, 1.0, 2.0] {
        let problem = report(Objective::DPO).unwrap().problem;
        let problem = problem.at(pistar::bandit::Beta::new("beta", beta).unwrap());
        let dpo = report_on(Objective::DPO, &problem).unwrap();
        let log = row(&dpo, "a separable log");
        assert_eq!((log.data, log.rest), (Data::Log, Rest::Boundary), "{dpo}");
        let odds = &log.odds.as_ref().unwrap()[0];
        let want = 2f64.powf(1.0 / beta);
        assert!(
            (odds[0].unwrap() / want - 1.0).abs() < 1e-6,
            "{odds:?}, {want}"
        );
        assert_eq!((odds[1], odds[2]), (Some(1.0), None));
        assert_eq!(log.any_start, Some(true), "{dpo}");
        let policy = &log.policy.as_ref().unwrap()[0];
        assert!((policy[0] / policy[1] / (0.2 / 0.3 * want) - 1.0).abs() < 1e-6);
        let direction = &log.direction.as_ref().unwrap()[0];
        assert!(direction[2] == -1.0 && direction[0].abs() < 1e-3 && direction[1].abs() < 1e-3);
        assert!(
            check(&dpo, "separable log").says.contains("arm 2 vanishes"),
            "{dpo}"
        );
    }
}

#[test]
fn one_size_of_groups_stands_for_all_where_they_agree() {
    for objective in [Objective::RLOO, Objective::DRO_V_ELIMINATED] {
        let report = report(objective).unwrap();
        assert_eq!(report.group, Some(2), "{report}");
        assert!(
            report.limits.iter().all(|r| r.responses.ends_with("any k")),
            "{report}"
        );
    }
    assert_eq!(report(Objective::DPO).unwrap().group, None);
}

/// A bandit of one's own: two prompts, one with an arm that the reference excludes.
fn own_problem() -> pistar::bandit::Problem {
    pistar::bandit::Problem::from_json(
        r#"{"beta": 0.3, "prompts": [
            {"weight": 0.6, "reward": [1.0, 0.2, 0.5, 0.0], "reference": [0.1, 0.4, 0.0, 0.5],
             "behavior": [[0.3, 0.3, 0.0, 0.4]]},
            {"weight": 0.4, "reward": [0.0, 1.0], "reference": [0.7, 0.3],
             "behavior": [[0.5, 0.5], [0.9, 0.1]]}]}"#,
    )
    .unwrap()
}

#[test]
fn limits_are_those_of_ones_own_problem() {
    let problem = own_problem();
    let report = report_on(Objective::COPG, &problem).unwrap();
    assert_eq!(report.faults(), 0, "{report}");
    let star = problem.optimum().policy.probabilities();
    for row in &report.limits {
        assert!(row.regret.unwrap() < 1e-12, "{report}");
        for (have, want) in row
            .policy
            .iter()
            .flatten()
            .flatten()
            .zip(star.iter().flatten())
        {
            assert!((have - want).abs() < 1e-6, "{report}");
        }
    }
    let page = report.to_string();
    assert!(page.contains("prompt 1: R = (0, 1), β = 0.3"), "{page}");
    assert!(page.lines().all(|l| l.chars().count() <= WIDTH), "{page}");
    let wide = pistar::bandit::random_problem(
        pistar::bandit::Shape {
            prompts: 5,
            arms: 5,
            beta: 1.0,
            reward_scale: 1.0,
        },
        1,
    )
    .unwrap();
    let message = report_on(Objective::COPG, &wide).unwrap_err().to_string();
    assert!(
        message.contains("25 arms") && message.contains("24"),
        "{message}"
    );
}

#[cfg(feature = "cli")]
#[test]
fn the_command_takes_a_problem_and_a_temperature() {
    let run = |args: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pistar"))
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its flags is gone before it reads.
        let written = std::io::Write::write_all(
            &mut child.stdin.take().unwrap(),
            own_problem().to_json().as_bytes(),
        );
        drop(written);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, out, err) = run(&["verify", "dpo", "--problem", "-", "--beta", "0.7", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report[0]["bandit"]["beta"], 0.7);
    let hot = own_problem().at(pistar::bandit::Beta::new("beta", 0.7).unwrap());
    let star = hot.optimum().policy.probabilities();
    let found = &report[0]["limits"][0]["policy"];
    for (x, row) in star.iter().enumerate() {
        for (a, want) in row.iter().enumerate() {
            assert!(
                (found[x][a].as_f64().unwrap() - want).abs() < 1e-6,
                "{found}"
            );
        }
    }
    let (code, _, err) = run(&["verify", "dpo", "--problem", "-", "--beta", "-1"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--beta") && err.contains("-1"), "{err}");
    assert_eq!(run(&["verify", "dpo", "--beta", "1"]).0, Some(2));
}
