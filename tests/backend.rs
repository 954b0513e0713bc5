//! Operations of the backend by their definitions, their slopes at ties included, and forward mode
//! against reverse mode.

use std::rc::Rc;

use pistar::Result;
use pistar::backend::dual::Dual;
use pistar::backend::mutant::{Fault, Mutant, Saboteur};
use pistar::backend::nd::{Tape, Var};
use pistar::backend::{Backend, Segments};
use proptest::prelude::*;

/// An operation of two arrays, on any backend.
trait Operation {
    fn on<X: Backend>(&self, x: &X, y: &X) -> Result<X>;
}

/// An operation by name.
struct Named(&'static str);

/// Everything that the trait has, of arrays in the domain of all of them: x and y in (0, ∞).
const ALL: [&str; 23] = [
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "affine",
    "softplus",
    "exp",
    "ln",
    "sqrt",
    "sigmoid",
    "relu",
    "step",
    "detach",
    "segment_sum",
    "spread",
    "select",
    "abs",
    "clamp",
    "ln_1m_exp",
    "mean",
    "log_softmax",
];

impl Operation for Named {
    fn on<X: Backend>(&self, x: &X, y: &X) -> Result<X> {
        let whole = Rc::new(Segments::new(&[x.to_vec()?.len()])?);
        match self.0 {
            "add" => x.add(y),
            "sub" => x.sub(y),
            "mul" => x.mul(y),
            "div" => x.div(y),
            "max" => x.max(y),
            "min" => x.min(y),
            "affine" => x.affine(-1.5, 0.25),
            "softplus" => x.softplus(),
            "exp" => x.exp(),
            "ln" => x.ln(),
            "sqrt" => x.sqrt(),
            "sigmoid" => x.sigmoid(),
            "relu" => x.sub(y)?.relu(),
            "step" => x.step()?.mul(x),
            "detach" => x.detach()?.mul(x),
            "segment_sum" => x.segment_sum(&whole),
            "spread" => x.segment_sum(&whole)?.spread(&whole),
            // Backwards, and its last number twice.
            "select" => {
                let last = x.to_vec()?.len() as u32 - 1;
                x.mul(y)?
                    .select(&(0..=last).rev().chain([last]).collect::<Vec<_>>())
            }
            "abs" => x.sub(y)?.abs(),
            "clamp" => x.clamp(0.5, 1.5),
            "ln_1m_exp" => x.neg()?.ln_1m_exp(),
            "mean" => x.mul(y)?.mean(),
            "log_softmax" => x.log_softmax(&whole),
            other => unreachable!("{other}"),
        }
    }
}

/// The value, and the gradients of its sum with respect to x and y.
fn reverse(operation: &impl Operation, x: &[f64], y: &[f64]) -> (Vec<f64>, [Vec<f64>; 2]) {
    let tape = Tape::new();
    let (x, y) = (tape.leaf(x.to_vec()), tape.leaf(y.to_vec()));
    let z = operation.on(&x, &y).unwrap();
    let value = z.to_vec().unwrap();
    let gradient = tape
        .backward(&z, &vec![1.0; value.len()], &[&x, &y])
        .unwrap();
    (value, [gradient[0].to_vec(), gradient[1].to_vec()])
}

/// The derivative of the sum along (dx, dy).
fn forward(operation: &impl Operation, x: &[f64], y: &[f64], dx: &[f64], dy: &[f64]) -> f64 {
    let tape = Tape::new();
    let dual = |v: &[f64], d: &[f64]| {
        Dual::new(tape.constant(v.to_vec()), tape.constant(d.to_vec())).unwrap()
    };
    let z = operation.on(&dual(x, dx), &dual(y, dy)).unwrap();
    z.tangent.to_vec().unwrap().iter().sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

proptest! {
    #[test]
    fn both_modes_give_the_same_slopes(
        numbers in prop::collection::vec((1e-3..3.0, 1e-3..3.0, -1.0..1.0, -1.0..1.0), 1..6),
        tied in any::<bool>(),
    ) {
        let column = |f: fn(&(f64, f64, f64, f64)) -> f64| numbers.iter().map(f).collect::<Vec<_>>();
        let [x, y, dx, dy] = [column(|n| n.0), column(|n| n.1), column(|n| n.2), column(|n| n.3)];
        let y = if tied { x.clone() } else { y };
        for name in ALL {
            let (_, [gx, gy]) = reverse(&Named(name), &x, &y);
            let (back, ahead) = (dot(&gx, &dx) + dot(&gy, &dy), forward(&Named(name), &x, &y, &dx, &dy));
            prop_assert!((back - ahead).abs() <= 1e-12 * (1.0 + back.abs()), "{name}: {back}, {ahead}");
        }
    }

    #[test]
    fn ln_1m_exp_is_as_exact_far_out_as_near_zero(exponent in -14.0..2.8_f64) {
        let x = -(10f64.powf(exponent));
        // ln(1 − eˣ) by the library's own `expm1` and `ln_1p`.
        let want = if x > -0.7 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() };
        let (have, [slope, _]) = reverse(&Named("ln_1m_exp"), &[-x], &[1.0]);
        prop_assert!((have[0] - want).abs() <= 4e-15 * (1.0 + want.abs()), "{x}: {have:?}, {want}");
        // d/dx ln(1 − eˣ) = −1/(e^{−x} − 1), here of −x.
        let want = 1.0 / (-x).exp_m1();
        prop_assert!((slope[0] - want).abs() <= 1e-13 * want.abs() + 1e-16, "{x}: {slope:?}, {want}");
    }
}

/// What an operation of x alone, or of x and y, is at a point, and its slopes there.
fn at(name: &'static str, x: f64, y: f64) -> (f64, f64, f64) {
    let (value, [dx, dy]) = reverse(&Named(name), &[x], &[y]);
    assert_eq!(
        (dx[0] + 2.0 * dy[0]).to_bits(),
        (forward(&Named(name), &[x], &[y], &[1.0], &[2.0]) + 0.0).to_bits(),
        "{name} at {x}, {y}: the modes differ"
    );
    (value[0], dx[0], dy[0])
}

#[test]
fn slopes_at_ties_are_those_of_the_contract() {
    assert_eq!(at("abs", 2.0, 2.0), (0.0, 0.0, 0.0));
    assert_eq!(at("sqrt", 0.0, 1.0), (0.0, 0.0, 0.0));
    assert_eq!(at("max", 2.0, 2.0), (2.0, 0.0, 1.0));
    assert_eq!(at("min", 2.0, 2.0), (2.0, 0.0, 1.0));
    assert_eq!(at("clamp", 0.5, 1.0), (0.5, 0.0, 0.0));
    assert_eq!(at("clamp", 1.5, 1.0), (1.5, 0.0, 0.0));
    // Where the two forms of ln(1 − eˣ) meet there is one slope, not none and not two.
    let (value, slope, _) = at("ln_1m_exp", 0.1, 1.0);
    assert!((value - (-(-0.1f64).exp_m1()).ln()).abs() < 1e-15);
    assert!((slope - 1.0 / 0.1f64.exp_m1()).abs() < 1e-13);
}

#[test]
fn slopes_away_from_ties() {
    assert_eq!(at("abs", 1.0, 3.0), (2.0, -1.0, 1.0));
    assert_eq!(at("sqrt", 4.0, 1.0), (2.0, 0.25, 0.0));
    assert_eq!(at("div", 3.0, 4.0), (0.75, 0.25, -0.1875));
    assert_eq!(at("max", 2.0, 1.0), (2.0, 1.0, 0.0));
    assert_eq!(at("min", 2.0, 1.0), (1.0, 0.0, 1.0));
    assert_eq!(at("clamp", 1.0, 1.0), (1.0, 1.0, 0.0));
    assert_eq!(at("clamp", 7.0, 1.0), (1.5, 0.0, 0.0));
    let tape = Tape::new();
    let x = tape.leaf(vec![1.0, 2.0, 6.0]);
    let mean = x.mean().unwrap();
    assert_eq!(mean.to_vec().unwrap(), [3.0; 3]);
    let gradient = tape.backward(&mean, &[1.0, 1.0, 1.0], &[&x]).unwrap();
    assert_eq!(gradient[0].to_vec(), [1.0; 3]);
}

#[test]
fn numbers_are_taken_from_their_places() {
    let tape = Tape::new();
    let x = tape.leaf(vec![1.0, 2.0, 6.0]);
    let taken = x.select(&[2, 0, 2, 2]).unwrap();
    assert_eq!(taken.to_vec().unwrap(), [6.0, 1.0, 6.0, 6.0]);
    let gradient = tape
        .backward(&taken, &[1.0, 10.0, 100.0, 0.5], &[&x])
        .unwrap();
    assert_eq!(gradient[0].to_vec(), [10.0, 0.0, 101.5]);
    let error = x.select(&[0, 3]).err().unwrap().to_string();
    assert!(error.contains("number 3 of 3"), "{error}");
}

#[test]
fn a_root_keeps_its_slope_where_it_is_small() {
    let (value, slope, _) = at("sqrt", 1e-20, 1.0);
    assert_eq!((value, slope), (1e-10, 5e9));
}

#[test]
fn extremes_are_taken_exactly() {
    let (infinite, nan) = (f64::INFINITY, f64::NAN);
    for (x, y, larger, smaller) in [
        (1e-20, -1e20, 1e-20, -1e20),
        (infinite, 1.2, infinite, 1.2),
        (-infinite, 1.2, 1.2, -infinite),
        (infinite, infinite, infinite, infinite),
    ] {
        assert_eq!(reverse(&Named("max"), &[x], &[y]).0, [larger]);
        assert_eq!(reverse(&Named("min"), &[x], &[y]).0, [smaller]);
    }
    for (x, y) in [(nan, 1.0), (1.0, nan)] {
        assert!(reverse(&Named("max"), &[x], &[y]).0[0].is_nan());
        assert!(reverse(&Named("min"), &[x], &[y]).0[0].is_nan());
    }
    assert_eq!(reverse(&Named("clamp"), &[infinite], &[1.0]).0, [1.5]);
}

#[test]
fn bounds_in_the_wrong_order_and_the_mean_of_nothing_are_refused() {
    let tape = Tape::new();
    let x = tape.leaf(vec![1.0]);
    let message = |r: Result<Var>| r.err().unwrap().to_string();
    assert!(message(x.clamp(1.0, 0.0)).contains("bounds are 1 and 0"));
    assert!(message(x.clamp(f64::NAN, 0.0)).contains("bounds are NaN and 0"));
    assert!(tape.leaf(Vec::<f64>::new()).mean().is_err());
    let two = tape.leaf(vec![1.0, 2.0]);
    assert!(x.div(&two).is_err() && x.max(&two).is_err() && x.min(&two).is_err());
}

#[test]
fn the_saboteur_strikes_every_operation() {
    let run = |name: &'static str, saboteur: &Rc<Saboteur>| {
        let tape = Tape::new();
        let (x, y) = (
            tape.leaf(vec![1.2, 0.3, 2.0, 0.05]),
            tape.leaf(vec![0.9, 0.7, 1.1, 0.8]),
        );
        let wrap = |v: &Var| Mutant::new(v.clone(), saboteur);
        let z = Named(name).on(&wrap(&x), &wrap(&y)).unwrap();
        let weights = vec![1.0; z.to_vec().unwrap().len()];
        let gradient = tape.backward(z.inner(), &weights, &[&x, &y]).unwrap();
        (z.to_vec().unwrap(), gradient)
    };
    for name in ALL {
        let idle = Saboteur::idle();
        let honest = run(name, &idle);
        let seen = idle.seen();
        assert!(!seen.is_empty(), "{name}");
        // Whatever operation is struck, something of the result changes: with one of the two faults,
        // since |−x| is |x|, and a bound that nothing reaches may move.
        for site in seen {
            let shows = |fault| {
                let struck = run(name, &Saboteur::new(site, fault));
                struck != honest || struck.0.iter().any(|v| v.is_nan())
            };
            assert!(
                shows(Fault::Negate) || shows(Fault::Double),
                "{name}: {site}"
            );
        }
    }
}
