//! Reports: none of a registered loss has a fault, every broken one has the right fault, and what a
//! loss merely lacks is called a difference.

use std::process::Command;

use pistar::Result;
use pistar::backend::{Backend, Segments};
use pistar::bandit::population::Feed;
use pistar::loss::{InputKind, Inputs, Kind, Objective, Parameters, margin};
use pistar::verify::report::{
    Area, Check, Loss, Outcome, Report, group, pair, rated, report, single,
};
use rayon::prelude::*;
use serde_json::Value;
use std::rc::Rc;

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
        .map(|objective| report(objective).unwrap())
        .collect();
    for report in &reports {
        assert_eq!(report.faults(), 0, "{report}");
        assert!(report.count(Outcome::Ok) >= 10, "{report}");
    }
}

#[test]
fn reports_know_the_toy() {
    let regrets = |objective: Objective| -> Vec<f64> {
        let report = report(&objective).unwrap();
        report.limits.iter().map(|row| row.regret).collect()
    };
    // On policy, from π_ref, off policy with one law, off policy with two.
    for unbiased in [
        Objective::Copg,
        Objective::Dpo,
        Objective::PgSoftValue,
        Objective::DroV,
    ] {
        assert!(
            regrets(unbiased).iter().all(|r| *r < 1e-12),
            "{}",
            unbiased.name()
        );
    }
    let near = |have: f64, want: f64| assert!((have - want).abs() < 1e-9, "{have} is not {want}");
    near(regrets(Objective::Ipo)[3], 0.152530660343);
    near(regrets(Objective::Ipo)[2], 0.152231069261);
    // Without a baseline the policy gradient is right on policy and only there.
    let pg = regrets(Objective::PgZero);
    near(pg[0], 0.0);
    near(pg[3], 0.637792700571);
    near(regrets(Objective::PgValue)[3], 0.014817426243);
}

/// A loss on labelled or scored pairs from its margin.
macro_rules! pair_loss {
    ($name:ident, $inputs:expr, $kind:expr, |$d:ident, $r:ident, $p:ident| $body:block) => {
        struct $name;
        impl Loss for $name {
            fn name(&self) -> &str {
                stringify!($name)
            }
            fn inputs(&self) -> InputKind {
                $inputs
            }
            fn kind(&self) -> Kind {
                $kind
            }
            fn loss<X: Backend>(&self, inputs: &Inputs<X>, $p: Parameters) -> Result<X> {
                let (first, second) = pair(inputs)?;
                let $d = margin(first, second)?;
                let $r = first.reward.sub(&second.reward)?;
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
    let field = report(&CopgField).unwrap();
    assert_eq!(field.faults(), 0, "{field}");
    assert_eq!(outcome(&field, "reaches π*"), Outcome::Differs);
    let policy = &field.limits[3].policy;
    for (have, want) in policy.iter().zip([0.878878, 0.118943, 0.002179]) {
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
    fn name(&self) -> &str {
        "impostor"
    }
    fn inputs(&self) -> InputKind {
        InputKind::LabelledPairs
    }
    fn registered(&self) -> Option<Objective> {
        Some(Objective::Dpo)
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, parameters: Parameters) -> Result<X> {
        Objective::Ipo.loss(inputs, parameters)
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
    let hinge = report(&Hinge).unwrap();
    assert_eq!(hinge.faults(), 0, "{hinge}");
    assert_eq!(
        outcome(&hinge, "slope of its value"),
        Outcome::Ok,
        "{hinge}"
    );
    assert!(
        (hinge.limits[2].regret - 0.061039005127595862).abs() < 1e-6,
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

    let dpo = report(&Objective::Dpo).unwrap();
    assert_eq!(outcome(&dpo, "rewards and β × 2"), Outcome::Ok, "{dpo}");
    let ipo = report(&Objective::Ipo).unwrap();
    assert_eq!(
        outcome(&ipo, "rewards and β × 2"),
        Outcome::Differs,
        "{ipo}"
    );
    assert_eq!(outcome(&ipo, "rewards + 3"), Outcome::Ok, "{ipo}");
    let pg = report(&Objective::PgZero).unwrap();
    assert_eq!(outcome(&pg, "rewards + 3"), Outcome::Differs, "{pg}");
    assert_eq!(
        outcome(&pg, "best arm shown rarely"),
        Outcome::Differs,
        "{pg}"
    );
    let copg = report(&Objective::Copg).unwrap();
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
    fn name(&self) -> &str {
        "regression"
    }
    fn inputs(&self) -> InputKind {
        InputKind::Singles
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, p: Parameters) -> Result<X> {
        let (response, held) = single(inputs)?;
        let u = response.log_ratio()?.affine(p.beta, 0.0)?;
        response
            .reward
            .sub(held)?
            .sub(&u)?
            .square()?
            .affine(0.5, 0.0)
    }
}

/// A user's loss on groups: the variance of R_β.
struct Variance;

impl Loss for Variance {
    fn name(&self) -> &str {
        "variance"
    }
    fn inputs(&self) -> InputKind {
        InputKind::Groups
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, p: Parameters) -> Result<X> {
        let (responses, groups) = group(inputs)?;
        let u = responses.log_ratio()?.affine(p.beta, 0.0)?;
        let rewards = responses.reward.sub(&u)?;
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
    fn name(&self) -> &str {
        "logistic"
    }
    fn inputs(&self) -> InputKind {
        InputKind::Rated
    }
    fn feed(&self) -> Feed {
        Feed::of(Objective::KtoNoKl)
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, p: Parameters) -> Result<X> {
        let (response, desirable, _) = rated(inputs)?;
        let x = response.log_ratio()?.affine(p.beta, 0.0)?;
        x.softplus()?.sub(&desirable.mul(&x)?)
    }
}

#[test]
fn losses_of_ones_own_on_every_kind_of_example() {
    // pg-zero and the regression lead to the same place (theory, section 6).
    let regression = report(&Regression).unwrap();
    assert_eq!(regression.faults(), 0, "{regression}");
    assert!(
        (regression.limits[3].regret - 0.637792700571).abs() < 1e-9,
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
    fn name(&self) -> &str {
        "confused"
    }
    fn inputs(&self) -> InputKind {
        InputKind::Singles
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, _: Parameters) -> Result<X> {
        let (first, second) = pair(inputs)?;
        margin(first, second)
    }
}

/// One number for the whole batch.
struct Reduced;

impl Loss for Reduced {
    fn name(&self) -> &str {
        "reduced"
    }
    fn inputs(&self) -> InputKind {
        InputKind::LabelledPairs
    }
    fn loss<X: Backend>(&self, inputs: &Inputs<X>, _: Parameters) -> Result<X> {
        let (first, second) = pair(inputs)?;
        let d = margin(first, second)?;
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
    for objective in [Objective::Ipo, Objective::DroFixed, Objective::Copr] {
        let report = report(&objective).unwrap();
        let page = report.to_string();
        assert!(
            page.lines()
                .all(|l| l.chars().count() <= 96 && l == l.trim_end()),
            "{page}"
        );
        for area in Area::ALL {
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
            let policy = row["policy"].as_array().unwrap();
            let sum: f64 = policy.iter().map(|p| p.as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-9 && row["regret"].as_f64().unwrap() >= 0.0);
        }
        // The same loss, the same report.
        assert_eq!(
            pistar::verify::report::report(&objective)
                .unwrap()
                .to_string(),
            page
        );
    }
}

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
