//! Losses of the field, written as a user would, and the page that each must have.

use pistar::Result;
use pistar::backend::{Backend, Segments};
use pistar::bandit::{Beta, Problem};
use pistar::loss::{Given, Group, InputKind, Inputs, Kind, Loss, Single, Spec, Temperature};
use pistar::verify::report::{Check, LimitRow, Outcome, Report, Rest, report, report_on};

use crate::common::toy;

fn check<'a>(report: &'a Report, property: &str) -> &'a Check {
    let found = report.checks.iter().find(|c| c.property == property);
    found.unwrap_or_else(|| panic!("no `{property}` in\n{report}"))
}

fn row<'a>(report: &'a Report, responses: &str) -> &'a LimitRow {
    let found = report.limits.iter().find(|r| r.responses == responses);
    found.unwrap_or_else(|| panic!("no row `{responses}` in\n{report}"))
}

/// The limit of a bandit of one prompt.
fn limit(row: &LimitRow) -> &[f64] {
    &row.policy
        .as_ref()
        .unwrap_or_else(|| panic!("no limit in {row:?}"))[0]
}

fn near(have: &[f64], want: &[f64], tolerance: f64) {
    for (h, w) in have.iter().zip(want) {
        assert!((h - w).abs() <= tolerance, "{have:?} is not {want:?}");
    }
}

/// Each group's numbers over its members: the mean of a group at each of them.
fn group_mean<X: Backend>(x: &X, groups: &std::rc::Rc<Segments>) -> Result<X> {
    let sizes: Vec<f64> = (0..groups.groups())
        .map(|g| 1.0 / groups.size(g) as f64)
        .collect();
    let sum = x.segment_sum(groups)?;
    sum.mul(&sum.constant(&sizes)?)
}

/// GRPO (DeepSeekMath): `−mean_j min(ρA, clip(ρ)A) + β k₃`, `A = (R − mean)/(std + 1e-4)` of the group
/// with the population's standard deviation, `k₃ = e^{−u} + u − 1`.
struct Grpo;

impl Loss for Grpo {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec {
            kind: Kind::Field,
            ..Spec::new("grpo", InputKind::Groups)
        }
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Group { responses, groups } = inputs.group()?;
        let centred = responses
            .reward()?
            .sub(&group_mean(responses.reward()?, groups)?.spread(groups)?)?;
        let deviation = group_mean(&centred.square()?, groups)?
            .sqrt()?
            .affine(1.0, 1e-4)?;
        let advantage = centred.div(&deviation.spread(groups)?)?.detach()?;
        let now = responses.log_policy();
        let ratio = now.sub(&now.detach()?)?.exp()?;
        let clipped = ratio.clamp(0.8, 1.2)?.mul(&advantage)?;
        let surrogate = ratio.mul(&advantage)?.min(&clipped)?;
        let u = responses.log_ratio()?;
        let k3 = u.neg()?.exp()?.add(&u)?.affine(1.0, -1.0)?;
        group_mean(&k3.affine(p.beta, 0.0)?.sub(&surrogate)?, groups)
    }
}

#[test]
fn grpo_depends_on_the_size_of_the_group() {
    let report = report_on(&Grpo, &toy()).unwrap();
    assert_eq!(report.faults(), 0, "{report}");
    assert_eq!(report.limits.len(), 15, "{report}");
    // By enumeration and simulation of the flow, elsewhere.
    for (k, want) in [
        (2, [0.7287, 0.1505, 0.1209]),
        (4, [0.8161, 0.1019, 0.0820]),
        (8, [0.8560, 0.0828, 0.0611]),
    ] {
        let row = row(&report, &format!("on policy, k = {k}"));
        assert_eq!((row.group, row.rest), (Some(k), Rest::Stable), "{report}");
        near(limit(row), &want, 1e-4);
    }
    let page = report.to_string();
    assert!(
        page.contains("groups of 2, 4 and 8 have different expected updates"),
        "{page}"
    );
    assert_eq!(report.group, Some(8));
}

/// A loss on labelled pairs from u of both responses.
macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($field:ident)? }, |$self:ident, $inputs:ident, $p:ident| $body:block) => {
        $(#[$doc])*
        struct $name { $($field: f64)? }
        impl Loss for $name {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new(stringify!($name), InputKind::LabelledPairs)
    }
            fn loss<X: Backend>(&$self, $p: &Temperature, $inputs: &Inputs<X>) -> Result<X> $body
        }
    };
}

labelled!(
    /// `((βd)² − 1)²`: π_ref is a local maximum.
    TwoWells {}, |self, inputs, p| {
    let (preferred, rejected) = (&inputs.pair()?.first, &inputs.pair()?.second);
    let d = preferred.log_ratio()?.sub(&rejected.log_ratio()?)?.affine(p.beta, 0.0)?;
    d.square()?.affine(1.0, -1.0)?.square()
});

#[test]
fn a_local_maximum_is_no_limit() {
    let report = report(&TwoWells {}).unwrap();
    assert_eq!(report.faults(), 0, "{report}");
    for row in &report.limits {
        assert!(row.pushed, "{report}");
        assert!(
            row.note
                .as_ref()
                .unwrap()
                .contains("the start, π_ref, is a rest that repels"),
            "{report}"
        );
        assert!(row.from_reference.is_none_or(|kl| kl > 1e-2), "{report}");
    }
    // Two arms have margins of ±1/β, one on either side.
    let two = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [1.0, 0.0], "reference": [0.4, 0.6],
            "behavior": [[0.5, 0.5]]}]}"#,
    )
    .unwrap();
    let report = report_on(&TwoWells {}, &two).unwrap();
    for row in &report.limits {
        assert_eq!(row.rest, Rest::Stable, "{report}");
        let policy = limit(row);
        let d = (policy[0] / 0.4).ln() - (policy[1] / 0.6).ln();
        assert!((d.abs() - 2.0).abs() < 1e-9, "{report}");
    }
    assert!(
        check(&report, "comes to rest").says.contains("push"),
        "{report}"
    );
}

pistar::numbers! {
    /// Numbers of DPO-positive.
    struct Positive {
        /// β
        beta in above(0.0) = 0.1;
        /// λ, how much it counts that the preferred response falls
        lambda in from(0.0);
    }
}

/// DPO-positive (Smaug): `−ln σ(β(d − λ max(0, ln π_ref/π of the preferred)))`.
struct DpoPositive;

impl Loss for DpoPositive {
    type Numbers = Positive;
    fn spec(&self) -> Spec {
        Spec::new("dpo-positive", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, n: &Positive, inputs: &Inputs<X>) -> Result<X> {
        let pair = inputs.pair()?;
        let fallen = pair.first.log_ratio()?.neg()?.relu()?;
        let d = pair.difference()?.sub(&fallen.affine(n.lambda, 0.0)?)?;
        d.affine(-n.beta, 0.0)?.softplus()
    }
}

#[test]
fn kinks_are_found_and_no_row_vanishes() {
    for lambda in [5.0, 50.0] {
        let report = report_on(
            &DpoPositive,
            &toy().with_numbers(&Given::new().with("lambda", lambda)),
        )
        .unwrap();
        assert_eq!(report.faults(), 0, "{report}");
        assert_eq!(report.limits.len(), 6, "{report}");
        assert_eq!(
            check(&report, "kinks").outcome,
            Outcome::Differs,
            "{report}"
        );
        // Convex, with its only minimum at π_ref while labels are as noisy as on this bandit.
        for responses in [
            "on policy",
            "from π_ref",
            "off policy, one law",
            "off policy, two laws",
        ] {
            let row = row(&report, responses);
            assert_eq!(row.rest, Rest::Stable, "{report}");
            near(limit(row), &[1.0 / 3.0; 3], 1e-3);
        }
        assert_eq!(check(&report, "one limit").outcome, Outcome::Ok, "{report}");
    }
}

/// `|βd − ½|`, without a word on its kink.
struct Absolute;

impl Loss for Absolute {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("absolute", InputKind::LabelledPairs)
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let (preferred, rejected) = (&inputs.pair()?.first, &inputs.pair()?.second);
        preferred
            .log_ratio()?
            .sub(&rejected.log_ratio()?)?
            .affine(p.beta, -0.5)?
            .abs()
    }
}

#[test]
fn a_kink_need_not_be_at_the_reference() {
    let report = report(&Absolute).unwrap();
    assert_eq!(
        check(&report, "kinks").outcome,
        Outcome::Differs,
        "{report}"
    );
    // Steep is not kinked.
    assert_eq!(
        check(
            &pistar::verify::report::report(&TwoWells {}).unwrap(),
            "kinks"
        )
        .outcome,
        Outcome::Ok
    );
}

labelled!(
    /// Robust DPO (Chowdhury et al. 2024): `[(1 − ε) sp(−βd) − ε sp(βd)]/(1 − 2ε)`.
    RobustDpo { epsilon }, |self, inputs, p| {
    let (preferred, rejected) = (&inputs.pair()?.first, &inputs.pair()?.second);
    let d = preferred.log_ratio()?.sub(&rejected.log_ratio()?)?.affine(p.beta, 0.0)?;
    let (kept, flipped) = (d.neg()?.softplus()?, d.softplus()?);
    let kept = kept.affine(1.0 - self.epsilon, 0.0)?;
    let scale = 1.0 / (1.0 - 2.0 * self.epsilon);
    kept.sub(&flipped.affine(self.epsilon, 0.0)?)?.affine(scale, 0.0)
});

#[test]
fn a_loss_without_a_bound_has_no_limit() {
    // On noisy labels a small ε has a limit; where an arm wins more often than 1 − ε it has none.
    let bounded = report(&RobustDpo { epsilon: 0.1 }).unwrap();
    assert_eq!(bounded.faults(), 0, "{bounded}");
    for row in &bounded.limits[..4] {
        assert_eq!(
            (row.rest, row.unbounded),
            (Rest::Stable, false),
            "{bounded}"
        );
    }
    let all = report(&RobustDpo { epsilon: 0.35 }).unwrap();
    for row in bounded.limits[4..].iter().chain(&all.limits[1..]) {
        assert!(row.unbounded && row.rest == Rest::None, "{bounded}\n{all}");
        assert!(row.policy.is_none() && row.regret.is_none(), "{row:?}");
        // The worst arm loses most.
        assert_eq!(row.direction.as_ref().unwrap()[0][2], -1.0, "{row:?}");
    }
    for property in ["noiseless labels", "separable log"] {
        assert!(
            check(&bounded, property).says.contains("falls for ever"),
            "{bounded}"
        );
    }
    assert!(
        bounded
            .to_string()
            .contains("unbounded below: the loss falls for ever as"),
        "{bounded}"
    );
    assert!(
        check(&all, "comes to rest").says.contains("without bound"),
        "{all}"
    );
}

#[test]
fn robust_dpo_of_clean_labels_goes_where_it_is_known_to() {
    // All ordered pairs alike, ε = 0.1.
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
            "behavior": [[0.3333333333333333, 0.3333333333333333, 0.3333333333333334]]}]}"#,
    )
    .unwrap();
    let report = report_on(&RobustDpo { epsilon: 0.1 }, &problem).unwrap();
    near(
        limit(row(&report, "off policy, two laws")),
        &[0.7849, 0.2023, 0.0128],
        1e-4,
    );
}

labelled!(
    /// `+ln π` of the rejected response.
    Unlikelihood {}, |self, inputs, _p| {
    Ok(inputs.pair()?.second.log_policy().clone())
});

#[test]
fn minimising_ln_of_the_rejected_has_no_bound() {
    let report = report(&Unlikelihood {}).unwrap();
    assert_eq!(report.faults(), 0, "{report}");
    for row in &report.limits[1..] {
        assert!(row.unbounded && row.policy.is_none(), "{report}");
        assert!(row.direction.is_some(), "{report}");
    }
}

labelled!(
    /// SimPO (Meng et al. 2024) where all responses have one length, γ = 0: `−ln σ(β ln π/π′)`.
    SimPo {}, |self, inputs, p| {
    let (preferred, rejected) = (&inputs.pair()?.first, &inputs.pair()?.second);
    let d = preferred.log_policy().sub(rejected.log_policy())?;
    d.affine(-p.beta, 0.0)?.softplus()
});

#[test]
fn a_loss_without_a_reference_does_not_reach_the_optimum() {
    let own = report(&SimPo {}).unwrap();
    assert_eq!(own.faults(), 0, "{own}");
    assert_eq!(check(&own, "reaches π*").outcome, Outcome::Differs, "{own}");
    // Where the reference is uniform it does, and there too the page says that it does not know of it.
    let uniform = report_on(&SimPo {}, &toy()).unwrap();
    assert_eq!(
        check(&uniform, "reaches π*").outcome,
        Outcome::Ok,
        "{uniform}"
    );
    for report in [own, uniform] {
        let line = check(&report, "reference matters");
        assert_eq!(line.outcome, Outcome::Differs, "{report}");
        assert!(line.says.contains("does not depend on π_ref"), "{report}");
    }
}

/// Advantage-weighted regression: `−e^{R/β} ln π`.
struct Awr;

impl Loss for Awr {
    type Numbers = Temperature;
    fn spec(&self) -> Spec {
        Spec::new("awr", InputKind::Singles)
    }
    fn loss<X: Backend>(&self, p: &Temperature, inputs: &Inputs<X>) -> Result<X> {
        let Single { response, .. } = inputs.single()?;
        let weight = response.reward()?.affine(1.0 / p.beta, 0.0)?.exp()?;
        weight.mul(response.log_policy())?.neg()
    }
}

#[test]
fn far_out_names_what_overflows() {
    let awr = report(&Awr).unwrap();
    let line = check(&awr, "far out");
    assert_eq!(line.outcome, Outcome::Differs, "{awr}");
    for named in ["rewards of ±1e3", "β = 1e-3", "R/β"] {
        assert!(line.says.contains(named), "{awr}");
    }
    assert!(!line.says.contains("log-ratios"), "{awr}");
    // k₃ overflows in the log-ratio, and in nothing else.
    let grpo = report(&Grpo).unwrap();
    let line = check(&grpo, "far out");
    assert!(line.says.contains("log-ratios of ±1e3"), "{grpo}");
    assert!(
        !line.says.contains("rewards") && !line.says.contains("β ="),
        "{grpo}"
    );
}

#[test]
fn another_temperature_is_another_page() {
    let cold = toy().at(Beta::new("beta", 0.1).unwrap());
    let [warm, cold] = [toy(), cold].map(|problem| report_on(&SimPo {}, &problem).unwrap());
    assert!(cold.to_string().contains("β = 0.1,"), "{cold}");
    assert!(limit(&cold.limits[0])[0] > limit(&warm.limits[0])[0] + 0.1);
}

#[test]
fn a_low_temperature_is_not_the_boundary() {
    // ln π* of the last arm is −300: its update is of that size on policy, and it is at rest.
    let cold = toy().at(Beta::new("beta", 0.005).unwrap());
    let dpo = report_on(pistar::loss::Objective::DPO, &cold).unwrap();
    for row in &dpo.limits[..4] {
        assert_eq!(row.rest, Rest::Stable, "{dpo}");
        assert!(row.regret.unwrap() < 1e-9, "{dpo}");
    }
}
