//! Every operation and every objective has the same value and gradient on both backends.

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use pistar::Error;
use pistar::backend::nd::{Tape, Var};
use pistar::backend::{Backend, Segments, candle};
use pistar::bandit::population::{Evaluation, Feed, evaluate_with};

use pistar::bandit::{Evidence, Problem, Shape, random_problem};
use pistar::loss::{Batch, Columns, Cotangents, InputKind, Inputs, Objective, on_tape};
use proptest::prelude::*;

const F64: f64 = 1e-12;
const F32: f64 = 1e-5;

/// [`on_tape`], on candle.
fn on_tensors(
    kind: InputKind,
    batch: &Batch,
    dtype: DType,
    device: &Device,
    loss: impl Fn(&Inputs<candle::Array>) -> pistar::Result<candle::Array>,
) -> pistar::Result<Cotangents> {
    let (inputs, leaves) = batch.inputs(
        kind,
        Columns::ALL,
        |v| candle::leaf(v, dtype, device),
        |v| candle::constant(v, dtype, device),
    )?;
    let each = loss(&inputs)?;
    let leaves: Vec<_> = leaves.iter().collect();
    let gradient = candle::backward(&each, &batch.weight, &leaves)?;
    let value = each
        .to_vec()?
        .iter()
        .zip(&batch.weight)
        .map(|(v, w)| v * w)
        .sum();
    Ok(Cotangents { value, gradient })
}

/// Equal up to `tolerance · max(1, |x|)`, or both NaN, or the same infinity.
fn near(x: f64, y: f64, tolerance: f64) -> bool {
    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * x.abs().max(1.0)
}

fn assert_near(what: &str, left: &[f64], right: &[f64], tolerance: f64) {
    assert_eq!(left.len(), right.len(), "{what}: lengths");
    for (i, (&x, &y)) in left.iter().zip(right).enumerate() {
        assert!(
            near(x, y, tolerance),
            "{what}[{i}]: {x:e} on nd, {y:e} on candle"
        );
    }
}

/// What a batch is turned into before the loss sees it.
type Change = fn(Objective, &mut Batch);

/// The population loss on nd and on candle.
fn both(
    problem: &Problem,
    objective: Objective,
    logits: &[Vec<f64>],
    dtype: DType,
    change: Change,
) -> pistar::Result<(Evaluation, Evaluation)> {
    let given = objective.with_examples(problem.given());
    let loss = objective.bind(&given)?;
    let feed = Feed::of(&loss)?;
    let evidence = Evidence::population(problem);
    let nd = evaluate_with(problem, &evidence, &feed, logits, |batch| {
        let mut batch = batch.clone();
        change(objective, &mut batch);
        on_tape(feed.inputs, &batch, |inputs| loss.loss(inputs))
    })?;
    let candle = evaluate_with(problem, &evidence, &feed, logits, |batch| {
        let mut batch = batch.clone();
        change(objective, &mut batch);
        on_tensors(feed.inputs, &batch, dtype, &Device::Cpu, |inputs| {
            loss.loss(inputs)
        })
    })?;
    Ok((nd, candle))
}

fn agree(problem: &Problem, logits: &[Vec<f64>], change: Change) {
    for objective in Objective::ALL {
        let (nd, candle) = both(problem, objective, logits, DType::F64, change).unwrap();
        let name = objective.name();
        assert_near(name, &[nd.value], &[candle.value], F64);
        assert_near(name, &nd.gradient.concat(), &candle.gradient.concat(), F64);
    }
}

/// Puts every margin at exactly 0: the policy is the reference, and all scores are equal.
fn tie(objective: Objective, batch: &mut Batch) {
    if objective.spec().trains_scores() {
        batch.log_policy.iter_mut().for_each(|slot| slot.fill(0.0));
    } else if !batch.log_reference[0].is_empty() {
        // A loss without a reference has no ties with it.
        batch.log_policy = batch.log_reference.clone();
    }
}

fn as_is(_: Objective, _: &mut Batch) {}

prop_compose! {
    fn problem_and_logits()(
        prompts in 1_usize..=3,
        arms in 2_usize..=5,
        log_beta in 0.05_f64.ln()..5_f64.ln(),
        seed in any::<u64>(),
    )(
        logits in prop::collection::vec(prop::collection::vec(-8.0..8.0, arms), prompts),
        shape in Just(Shape { prompts, arms, beta: log_beta.exp(), reward_scale: 1.0 }),
        seed in Just(seed),
    ) -> (Problem, Vec<Vec<f64>>) {
        (random_problem(shape, seed).unwrap(), logits)
    }
}

prop_compose! {
    /// Ragged groups and, for each response, ln π, ln π_ref and R.
    fn groups()(
        sizes in Just(vec![2_usize, 3, 5]).prop_shuffle(),
        numbers in prop::collection::vec((-9.0..0.0, -9.0..0.0, -3.0..3.0), 10),
        weights in prop::collection::vec(0.0..1.0, 3),
        beta in 0.05..5.0,
    ) -> (Vec<usize>, Vec<(f64, f64, f64)>, Vec<f64>, f64) {
        (sizes, numbers, weights, beta)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn objectives_agree((problem, logits) in problem_and_logits()) {
        agree(&problem, &logits, as_is);
    }

    #[test]
    fn objectives_agree_at_the_reference((problem, _) in problem_and_logits()) {
        // Exact ties in the batch, and ties up to rounding through the logits.
        let logits: Vec<_> = problem.prompts().iter().map(|p| p.log_reference.clone()).collect();
        agree(&problem, &logits, tie);
        agree(&problem, &logits, as_is);
    }

    #[test]
    fn objectives_agree_in_f32((problem, logits) in problem_and_logits()) {
        for objective in Objective::ALL {
            let (nd, candle) = both(&problem, objective, &logits, DType::F32, as_is).unwrap();
            // Entries are sums that may cancel: relative to the largest.
            let numbers = |e: &Evaluation| [vec![e.value], e.gradient.concat()].concat();
            let (nd, candle) = (numbers(&nd), numbers(&candle));
            let scale = nd.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
            for (x, y) in nd.iter().zip(&candle) {
                prop_assert!((x - y).abs() <= F32 * scale, "{}: {x:e}, {y:e}", objective.name());
            }
        }
    }

    #[test]
    fn rloo_agrees_on_ragged_groups((sizes, numbers, weights, beta) in groups()) {
        let column = |f: fn(&(f64, f64, f64)) -> f64| numbers.iter().map(f).collect::<Vec<_>>();
        let batch = Batch {
            log_policy: [column(|n| n.0), Vec::new()],
            log_reference: [column(|n| n.1), Vec::new()],
            reward: [column(|n| n.2), Vec::new()],
            sizes,
            weight: weights,
            ..Batch::default()
        };
        let rloo = Objective::RLOO.bind(&beta.into()).unwrap();
        let (kind, columns) = (InputKind::Groups, rloo.columns().unwrap());

        let tape = Tape::new();
        let (inputs, leaves) = (batch.inputs(
            kind,
            columns,
            |v| Ok(tape.leaf(v.to_vec())),
            |v| Ok(tape.constant(v.to_vec())),
        )).unwrap();
        let nd = rloo.loss(&inputs).unwrap();
        let nd_gradient = tape.backward(&nd, &batch.weight, &[&leaves[0]]).unwrap();

        let (inputs, leaves) = (batch.inputs(
            kind,
            columns,
            |v| candle::leaf(v, DType::F64, &Device::Cpu),
            |v| candle::constant(v, DType::F64, &Device::Cpu),
        )).unwrap();
        let candle = rloo.loss(&inputs).unwrap();
        let gradient = candle::backward(&candle, &batch.weight, &[&leaves[0]]).unwrap();

        assert_near("value", &nd.to_vec().unwrap(), &candle.to_vec().unwrap(), F64);
        assert_near("gradient", &nd_gradient[0].to_vec(), &gradient[0], F64);
    }
}

#[test]
fn slic_has_slope_zero_at_its_kink() {
    // βd = 1 exactly.
    let batch = Batch {
        log_policy: [vec![-1.0], vec![-3.0]],
        log_reference: [vec![-2.0], vec![-2.0]],
        reward: [vec![0.0], vec![0.0]],
        weight: vec![1.0],
        ..Batch::default()
    };
    let kind = InputKind::LabelledPairs;
    let nd = on_tape(kind, &batch, |i| Objective::SLIC.loss(i, 0.5)).unwrap();
    assert_eq!((nd.value, nd.gradient.concat()), (0.0, vec![0.0, 0.0]));
    for dtype in [DType::F64, DType::F32] {
        let loss = |i: &Inputs<candle::Array>| Objective::SLIC.loss(i, 0.5);
        let candle = on_tensors(kind, &batch, dtype, &Device::Cpu, loss).unwrap();
        assert_eq!(
            (candle.value, candle.gradient.concat()),
            (0.0, vec![0.0, 0.0])
        );
    }
}

/// Every operation of the trait, once.
const OPERATIONS: [&str; 29] = [
    "add",
    "sub",
    "mul",
    "mul by itself",
    "affine",
    "affine by 0",
    "softplus",
    "sigmoid",
    "relu",
    "step",
    "detach",
    "segment_sum",
    "spread",
    "select",
    "neg",
    "square",
    "exp",
    "ln",
    "log_softmax",
    "div",
    "max",
    "max, tied, of the first",
    "max, tied, of the second",
    "min",
    "sqrt",
    "abs",
    "clamp",
    "ln_1m_exp",
    "mean",
];

fn segments_of(points: usize) -> Rc<Segments> {
    let mut sizes = vec![3, 1, 2];
    sizes.push(points - sizes.iter().sum::<usize>());
    Rc::new(Segments::new(&sizes).unwrap())
}

fn apply<X: Backend>(operation: &str, x: &X, y: &X) -> pistar::Result<X> {
    let segments = segments_of(x.to_vec()?.len());
    match operation {
        "add" => x.add(y),
        "sub" => x.sub(y),
        "mul" => x.mul(y),
        "mul by itself" => x.mul(x),
        "affine" => x.affine(-1.5, 0.25),
        "affine by 0" => x.affine(0.0, 2.0),
        "softplus" => x.softplus(),
        "sigmoid" => x.sigmoid(),
        "relu" => x.relu(),
        "step" => x.step(),
        // A dropped detach would give the square's gradient.
        "detach" => x.detach()?.mul(x),
        "segment_sum" => x.segment_sum(&segments),
        "spread" => x.segment_sum(&segments)?.square()?.spread(&segments),
        // Backwards, without the first, and the last one again.
        "select" => {
            let last = x.to_vec()?.len() as u32 - 1;
            x.square()?
                .select(&(1..=last).rev().chain([last]).collect::<Vec<_>>())
        }
        "neg" => x.neg(),
        "square" => x.square(),
        // Of numbers whose exponential and logarithm are finite.
        "exp" => x.softplus()?.neg()?.exp(),
        "ln" => x.softplus()?.affine(1.0, 1.0)?.ln(),
        "log_softmax" => x.log_softmax(&segments),
        "div" => x.div(&y.softplus()?.affine(-1.0, -0.5)?),
        "max" => x.max(y),
        // Ties everywhere: the slope is the second's.
        "max, tied, of the first" => x.max(&x.detach()?),
        "max, tied, of the second" => x.detach()?.max(x),
        "min" => x.min(y),
        "sqrt" => x.relu()?.sqrt(),
        "abs" => x.abs(),
        // Some points are its ends.
        "clamp" => x.clamp(-0.5, 17.0),
        // Of numbers below 0, on both sides of where its two forms meet.
        "ln_1m_exp" => x.softplus()?.affine(-1.0, -0.01)?.ln_1m_exp(),
        "mean" => x.sigmoid()?.mean(),
        other => unreachable!("{other}"),
    }
}

/// The value of an operation and the gradients of a weighted sum of it.
struct Seen {
    value: Vec<f64>,
    gradient: Vec<Vec<f64>>,
}

fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| 1.0 - 0.75 * (i % 4) as f64).collect()
}

fn on_nd(operation: &str, x: &[f64], y: &[f64]) -> Seen {
    let tape = Tape::new();
    let (x, y) = (tape.leaf(x.to_vec()), tape.leaf(y.to_vec()));
    let z: Var = apply(operation, &x, &y).unwrap();
    let value = z.to_vec().unwrap();
    let gradient = tape.backward(&z, &weights(value.len()), &[&x, &y]).unwrap();
    let gradient = gradient.iter().map(|g| g.to_vec()).collect();
    Seen { value, gradient }
}

fn on_candle(operation: &str, x: &[f64], y: &[f64], dtype: DType) -> Seen {
    let leaf = |v: &[f64]| candle::leaf(v, dtype, &Device::Cpu).unwrap();
    let (x, y) = (leaf(x), leaf(y));
    let z = apply(operation, &x, &y).unwrap();
    let value = z.to_vec().unwrap();
    let gradient = candle::backward(&z, &weights(value.len()), &[&x, &y]).unwrap();
    Seen { value, gradient }
}

/// Kinks, tails, and numbers whose squares or exponentials overflow or vanish.
const POINTS: [f64; 20] = [
    0.0, -0.0, 1.0, -1.0, 1e4, -1e4, 1e-10, -1e-10, 1e-30, -1e-30, 0.5, -0.5, 17.0, -17.0, 40.0,
    -40.0, 80.0, -80.0, 710.0, -710.0,
];

#[test]
fn operations_agree_at_special_points() {
    let reversed: Vec<f64> = POINTS.iter().rev().copied().collect();
    for operation in OPERATIONS {
        let nd = on_nd(operation, &POINTS, &reversed);
        for (dtype, tolerance) in [(DType::F64, F64), (DType::F32, F32)] {
            let candle = on_candle(operation, &POINTS, &reversed, dtype);
            let what = format!("{operation} in {dtype:?}");
            assert_near(&what, &nd.value, &candle.value, tolerance);
            for (nd, candle) in nd.gradient.iter().zip(&candle.gradient) {
                assert!(
                    nd.iter().chain(candle).all(|g| g.is_finite()),
                    "{what}: {candle:?}"
                );
                assert_near(&format!("slope of {what}"), nd, candle, tolerance);
            }
        }
    }
}

#[test]
fn infinities_agree() {
    let points = [
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        0.0,
        1.0,
        -1.0,
    ];
    for operation in ["softplus", "sigmoid", "relu", "step"] {
        let nd = on_nd(operation, &points, &points);
        let candle = on_candle(operation, &points, &points, DType::F64);
        assert_near(operation, &nd.value, &candle.value, F64);
        assert_near(operation, &nd.gradient[0], &candle.gradient[0], F64);
    }
}

#[test]
fn tails_agree_in_relative_terms() {
    let points: Vec<f64> = (0..70).map(|i| -f64::from(i) * 1.25).collect();
    for operation in ["softplus", "sigmoid"] {
        let nd = on_nd(operation, &points, &points);
        for (dtype, tolerance) in [(DType::F64, F64), (DType::F32, F32)] {
            let candle = on_candle(operation, &points, &points, dtype);
            let pairs = (nd.value.iter().zip(&candle.value))
                .chain(nd.gradient[0].iter().zip(&candle.gradient[0]));
            for (i, (x, y)) in pairs.enumerate() {
                let error = (x - y).abs() / x.abs().max(f64::MIN_POSITIVE);
                assert!(
                    error <= tolerance,
                    "{operation} in {dtype:?}, {i}: {x:e}, {y:e}"
                );
            }
        }
    }
}

#[test]
fn slopes_at_zero_are_those_of_the_contract() {
    let zeros = [0.0, -0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for (operation, slope) in [
        ("relu", 0.0),
        ("softplus", 0.5),
        ("sigmoid", 0.25),
        ("step", 0.0),
    ] {
        let expected: Vec<f64> = weights(zeros.len()).iter().map(|w| slope * w).collect();
        assert_eq!(
            on_nd(operation, &zeros, &zeros).gradient[0],
            expected,
            "{operation}"
        );
        for dtype in [DType::F64, DType::F32] {
            let candle = on_candle(operation, &zeros, &zeros, dtype);
            assert_eq!(candle.gradient[0], expected, "{operation} in {dtype:?}");
        }
    }
}

#[test]
fn nan_propagates() {
    let points = [1.0, f64::NAN, -1.0, 0.0, 2.0, f64::NAN, 3.0];
    for operation in ["relu", "softplus", "sigmoid"] {
        let nd = on_nd(operation, &points, &points);
        for dtype in [DType::F64, DType::F32] {
            let candle = on_candle(operation, &points, &points, dtype);
            for (i, point) in points.iter().enumerate() {
                assert_eq!(nd.value[i].is_nan(), point.is_nan(), "{operation} on nd");
                assert_eq!(
                    candle.value[i].is_nan(),
                    point.is_nan(),
                    "{operation} in {dtype:?}"
                );
            }
            let what = format!("slope of {operation} in {dtype:?}");
            assert_near(&what, &nd.gradient[0], &candle.gradient[0], F32);
        }
    }
    assert_eq!(on_nd("step", &points, &points).value[1], 0.0);
    assert_eq!(
        on_candle("step", &points, &points, DType::F64).value[1],
        0.0
    );
}

/// Operations on lengths that do not fit; a length of 1 must not be broadcast.
fn mismatches<X: Backend>(two: &X, one: &X) -> Vec<pistar::Result<X>> {
    let segments = Rc::new(Segments::new(&[1, 2]).unwrap());
    vec![
        two.add(one),
        one.add(two),
        two.sub(one),
        one.mul(two),
        two.segment_sum(&segments),
        one.spread(&segments),
    ]
}

#[test]
fn mismatched_lengths_are_shape_errors() {
    let tape = Tape::new();
    let nd = mismatches(&tape.leaf(vec![1.0, 2.0]), &tape.leaf(vec![3.0]));
    let leaf = |v: &[f64]| candle::leaf(v, DType::F64, &Device::Cpu).unwrap();
    let (two, one) = (leaf(&[1.0, 2.0]), leaf(&[3.0]));
    for (nd, candle) in nd.into_iter().zip(mismatches(&two, &one)) {
        let (nd, candle) = (nd.err().unwrap(), candle.err().unwrap());
        assert!(matches!(nd, Error::Shape { .. }), "{nd}");
        assert_eq!(nd.to_string(), candle.to_string());
    }
    let error = candle::backward(&two, &[1.0], &[&two]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Shape {
                operation: "backward",
                left: 2,
                right: 1
            }
        ),
        "{error}"
    );
}

#[test]
fn other_tensors_are_refused() {
    let matrix = Tensor::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
    let half = Tensor::zeros(2, DType::BF16, &Device::Cpu).unwrap();
    for tensor in [matrix, half] {
        let error = candle::Array::new(tensor).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Backend {
                    backend: "candle",
                    ..
                }
            ),
            "{error}"
        );
    }
    let leaf = |dtype| candle::leaf(&[1.0, 2.0], dtype, &Device::Cpu).unwrap();
    let mixed = leaf(DType::F32).add(&leaf(DType::F64)).unwrap_err();
    assert!(
        matches!(
            mixed,
            Error::Backend {
                backend: "candle",
                ..
            }
        ),
        "{mixed}"
    );
}

#[test]
fn gradients_reach_what_a_tensor_was_computed_from() {
    let leaf = candle::leaf(&[1.0, 2.0, 3.0], DType::F64, &Device::Cpu).unwrap();
    let unused = candle::leaf(&[7.0], DType::F64, &Device::Cpu).unwrap();
    // A strided view, as a slice of log-probabilities would be.
    let pair = Tensor::stack(&[leaf.tensor(), leaf.tensor()], 1).unwrap();
    let strided = candle::Array::new(pair.narrow(1, 0, 1).unwrap().squeeze(1).unwrap()).unwrap();
    let segments = Rc::new(Segments::new(&[2, 1]).unwrap());
    let sums = strided.square().unwrap().segment_sum(&segments).unwrap();
    assert_eq!(sums.to_vec().unwrap(), [5.0, 9.0]);
    assert_eq!(
        strided.segment_sum(&segments).unwrap().to_vec().unwrap(),
        [3.0, 3.0]
    );
    let gradient = candle::backward(&sums, &[1.0, 10.0], &[&leaf, &unused]).unwrap();
    assert_eq!(gradient, [vec![2.0, 4.0, 60.0], vec![0.0]]);
    // candle drops the gradient of intermediate results: asking for one is a mistake, not zeros.
    let error = candle::backward(&sums, &[1.0, 1.0], &[&strided]).unwrap_err();
    assert!(matches!(error, Error::Backend { .. }), "{error}");
}

#[test]
fn empty_batches_are_allowed() {
    let leaf = candle::leaf(&[], DType::F64, &Device::Cpu).unwrap();
    let segments = Rc::new(Segments::new(&[]).unwrap());
    let loss = leaf
        .softplus()
        .unwrap()
        .sigmoid()
        .unwrap()
        .relu()
        .unwrap()
        .affine(2.0, 1.0)
        .unwrap();
    let loss = loss
        .segment_sum(&segments)
        .unwrap()
        .spread(&segments)
        .unwrap();
    assert!(loss.to_vec().unwrap().is_empty());
    assert_eq!(
        candle::backward(&loss, &[], &[&leaf]).unwrap(),
        [Vec::<f64>::new()]
    );
}
