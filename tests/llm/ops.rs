//! Every operation, fused and composed, against its twin with candle's gradient, in f64, f32 and bf16;
//! the fused also against finite differences, and against itself on another number of threads.

mod limits;
pub mod twins;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::ops::{
    self, Activation, Attention, Rope, Starts, Teacher, composed,
};
use pistar::llm::internals::tensor::tape::{LeafGradients, Node, Tape};

use twins::{Case, Dice, Make, Op, Rounding, Way, hold};

/// The operation done that way.
macro_rules! by {
    ($way:expr, $name:ident $arguments:tt) => {
        by!($way, $name, $name $arguments)
    };
    ($way:expr, $name:ident, $plain:ident $arguments:tt) => {
        match $way {
            $crate::ops::twins::Way::Dispatched => pistar::llm::internals::tensor::ops::$name $arguments,
            $crate::ops::twins::Way::Composed => pistar::llm::internals::tensor::ops::composed::$plain $arguments,
            $crate::ops::twins::Way::Plain => pistar::llm::internals::tensor::ops::plain::$plain $arguments,
        }
    };
}

pub(crate) use by;

/// Ragged sequences, one of length 1 among them; or in about every other case some that go on from others.
fn starts(dice: &mut Dice, big: bool) -> Starts {
    let longest = if big { LONGEST / 3 } else { 5 };
    let each = [
        1 + dice.below(2 * longest),
        1,
        longest,
        1 + dice.below(longest),
        0,
        1,
    ];
    let shares = dice.below(2) == 1;
    let goes_on = each.map(|_| shares && dice.below(3) > 0);
    Starts::branching(each.into_iter().zip(goes_on))
}

fn size(dice: &mut Dice, big: bool) -> usize {
    if big {
        200 + dice.below(150)
    } else {
        1 + dice.below(9)
    }
}

#[test]
fn linear() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let [n, i, o] = [(); 3].map(|()| size(&mut dice, big));
        let mut inputs = vec![dice.tensor(&[n, i]), dice.tensor(&[o, i])];
        if seed % 2 == 1 {
            inputs.push(dice.tensor(&[o]));
        }
        Case {
            inputs,
            op: Box::new(|way, tape, x| by!(way, linear(tape, &x[0], &x[1], x.get(2)))),
        }
    };
    hold(make, within(2e-6, [1.0; 2]));
}

#[test]
fn embedding_and_rows() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let [v, d] = [(); 2].map(|()| size(&mut dice, big));
        let ids = dice.indices(3 * v, v);
        Case {
            inputs: vec![dice.tensor(&[v, d])],
            op: match seed % 2 {
                0 => Box::new(move |way, tape, x| by!(way, embedding, rows(tape, &x[0], &ids))),
                _ => Box::new(move |way, tape, x| by!(way, rows(tape, &x[0], &ids))),
            },
        }
    };
    hold(make, within(1e-6, [1.0; 2]));
}

#[test]
fn rms_norm() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let [n, d] = [(); 2].map(|()| size(&mut dice, big));
        let offset = (seed % 2) as f64;
        Case {
            inputs: vec![dice.tensor(&[n, d]), dice.tensor(&[d])],
            op: Box::new(move |way, tape, x| by!(way, rms_norm(tape, &x[0], &x[1], 1e-2, offset))),
        }
    };
    hold(make, within(2e-6, [1.0; 2]));
}

#[test]
fn layer_norm() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let [n, d] = [(); 2].map(|()| size(&mut dice, big));
        Case {
            inputs: vec![dice.tensor(&[n, d]), dice.tensor(&[d]), dice.tensor(&[d])],
            op: Box::new(|way, tape, x| by!(way, layer_norm(tape, &x[0], &x[1], &x[2], 1e-2))),
        }
    };
    hold(make, within(2e-6, [1.0; 2]));
}

/// Positions that a sequence of a big case may have.
const LONGEST: usize = 225;

/// Positions of a part of each head, the rest of which has that many numbers.
fn turned(seed: u64, big: bool, interleaved: bool, rest: usize) -> Case {
    let mut dice = Dice::new(seed);
    let starts = starts(&mut dice, big);
    let (heads, half) = (1 + dice.below(4), 1 + dice.below(9));
    let n = starts[starts.len() - 1];
    let table = move |dtype: DType| {
        let table = |f: fn(f64) -> f64| {
            let angles = (0..LONGEST).flat_map(|t| (0..half).map(move |i| (t * (i + 1)) as f64));
            let numbers = angles.map(|angle| f(0.37 * angle)).collect();
            let table = Tensor::from_vec::<_, f64>(numbers, (LONGEST, half), &Device::Cpu);
            table.unwrap().to_dtype(dtype).unwrap()
        };
        Rope {
            cos: table(f64::cos),
            sin: table(f64::sin),
            interleaved,
        }
    };
    Case {
        inputs: vec![dice.tensor(&[n, heads * (2 * half + rest)])],
        op: Box::new(move |way, tape, x| {
            let table = table(match x[0].value().dtype() {
                DType::BF16 => DType::F32,
                dtype => dtype,
            });
            by!(way, rope(tape, &x[0], heads, &table, &starts))
        }),
    }
}

#[test]
fn norms_of_each_head() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let [n, d] = [(); 2].map(|()| size(&mut dice, big));
        let heads = 2 + dice.below(3);
        let (x, w) = (dice.tensor(&[n, heads * d]), dice.tensor(&[d]));
        if seed % 2 == 0 {
            return Case {
                inputs: vec![x, w],
                op: Box::new(|way, tape, x| by!(way, rms_norm(tape, &x[0], &x[1], 1e-2, 0.0))),
            };
        }
        Case {
            inputs: vec![x, w, dice.tensor(&[d])],
            op: Box::new(|way, tape, x| by!(way, layer_norm(tape, &x[0], &x[1], &x[2], 1e-2))),
        }
    };
    hold(make, within(2e-6, [1.0; 2]));
}

#[test]
fn rows_that_are_no_whole_runs_are_refused() {
    let tape = Tape::idle();
    let numbers =
        |shape: &[usize]| Node::constant(Tensor::ones(shape, DType::F64, &Device::Cpu).unwrap());
    let x = numbers(&[3, 8]);
    for width in [0, 3, 5, 16] {
        let w = numbers(&[width]);
        assert!(ops::rms_norm(&tape, &x, &w, 1e-5, 0.0).is_err());
        assert!(composed::rms_norm(&tape, &x, &w, 1e-5, 0.0).is_err());
        assert!(ops::layer_norm(&tape, &x, &w, &w, 1e-5).is_err());
        assert!(composed::layer_norm(&tape, &x, &w, &w, 1e-5).is_err());
    }
}

#[test]
fn rope() {
    hold(
        |seed, big| turned(seed, big, false, 0),
        within(1e-6, [1.0; 2]),
    );
}

#[test]
fn rope_of_neighbours_and_of_a_part_of_each_head() {
    let make: Make = |seed, big| {
        let rest = [0, 3, 8][seed as usize % 3];
        turned(seed, big, seed % 2 == 1 || rest == 0, rest)
    };
    hold(make, within(1e-6, [1.0; 2]));
}

#[test]
fn rope_turns_pairs_by_the_angle_of_their_position() {
    // Angles 0 and 90°: pairs of the second token are turned by a right angle, the fifth number is not.
    let right = |rows: [[f64; 2]; 2]| Tensor::new(&rows, &Device::Cpu).unwrap();
    let x = Tensor::new(&[[1.0, 2.0, 3.0, 4.0, 5.0]; 2], &Device::Cpu).unwrap();
    for (interleaved, wanted) in [
        (false, [-3.0, -4.0, 1.0, 2.0, 5.0]),
        (true, [-2.0, 1.0, -4.0, 3.0, 5.0]),
    ] {
        let table = Rope {
            cos: right([[1.0; 2], [0.0; 2]]),
            sin: right([[0.0; 2], [1.0; 2]]),
            interleaved,
        };
        let starts: Starts = vec![0, 2].into();
        for way in [Way::Dispatched, Way::Composed, Way::Plain] {
            let (tape, x) = (Tape::idle(), Node::constant(x.clone()));
            let y: pistar::Result<Node> = by!(way, rope(&tape, &x, 1, &table, &starts));
            let rows: Vec<Vec<f64>> = y.unwrap().value().to_vec2().unwrap();
            assert_eq!(rows, [vec![1.0, 2.0, 3.0, 4.0, 5.0], wanted.to_vec()]);
        }
    }
    // A table wider than a head.
    let wide = Tensor::zeros((2, 3), DType::F64, &Device::Cpu).unwrap();
    let table = Rope {
        cos: wide.clone(),
        sin: wide,
        interleaved: true,
    };
    let (tape, x) = (Tape::idle(), Node::constant(x));
    for way in [Way::Dispatched, Way::Composed] {
        let refused = match way {
            Way::Dispatched => ops::rope(&tape, &x, 1, &table, &vec![0, 2].into()),
            _ => composed::rope(&tape, &x, 1, &table, &vec![0, 2].into()),
        };
        assert!(refused.unwrap_err().to_string().contains("turns 6"));
    }
}

/// Attention, with ALiBi's slopes or without.
fn attend(seed: u64, big: bool, sloped: bool) -> Case {
    let mut dice = Dice::new(seed);
    let starts = starts(&mut dice, big);
    let group = [1, 2, 4][seed as usize % 3];
    let kv_heads = 1 + dice.below(3);
    // Narrow heads have kernels of their own.
    let head_dim = [1 + dice.below(19), 8, 16][dice.below(3)];
    let heads = group * kv_heads;
    let slopes = (1..=heads).map(|head| (-8.0 * head as f64 / heads as f64).exp2());
    let form = Attention {
        heads,
        kv_heads,
        head_dim,
        scale: (head_dim as f64).sqrt().recip(),
        window: (seed % 2 == 1).then(|| 1 + dice.below(if big { 100 } else { 6 })),
        slopes: sloped.then(|| slopes.collect()),
    };
    let n = starts[starts.len() - 1];
    Case {
        inputs: vec![
            dice.tensor(&[n, form.heads * head_dim]),
            dice.tensor(&[n, kv_heads * head_dim]),
            dice.tensor(&[n, kv_heads * head_dim]),
        ],
        op: Box::new(move |way, tape, x| {
            by!(way, attention(tape, [&x[0], &x[1], &x[2]], &form, &starts))
        }),
    }
}

#[test]
fn attention() {
    hold(
        |seed, big| attend(seed, big, false),
        within(3e-6, [1.5, 3.0]),
    );
}

#[test]
fn attention_with_slopes() {
    // Composed, a sum passes through slope · 112, up to 71, of which a rounding is 4e-6.
    hold(
        |seed, big| attend(seed, big, true),
        within(6e-6, [1.5, 3.0]),
    );
}

/// A nonlinearity, or the product with one.
fn pointwise(seed: u64, big: bool, f: Activation, gated: bool) -> Case {
    let mut dice = Dice::new(seed);
    let shape = [(); 2].map(|()| size(&mut dice, big));
    // Far from 0 too.
    let mut wide = || dice.tensor(&shape).affine(3.0, 0.0).unwrap();
    let inputs = (0..1 + usize::from(gated)).map(|_| wide()).collect();
    let op: Op = if gated {
        Box::new(move |way, tape, x| by!(way, gated(tape, &x[0], &x[1], f)))
    } else {
        Box::new(move |way, tape, x| by!(way, activation(tape, &x[0], f)))
    };
    Case { inputs, op }
}

#[test]
fn activation_and_gated() {
    let make: Make = |seed, big| {
        let f = [Activation::Silu, Activation::Gelu, Activation::GeluTanh][seed as usize % 3];
        pointwise(seed, big, f, seed >= 3)
    };
    // Numbers near 10 are rounded by 5e-7 before the operation begins.
    hold(make, within(3e-6, [1.0, 1.5]));
}

#[test]
fn relu() {
    let make: Make = |seed, big| pointwise(seed, big, Activation::Relu, seed % 2 == 1);
    hold(make, within(1e-6, [1.0, 1.5]));
    // Slope 0 at 0, and what is no number stays none.
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let x = Tensor::new(&[0.0, -1.0, 2.0, f64::NAN, f64::NEG_INFINITY], &Device::Cpu);
        let tape = Tape::recording(1);
        let x = tape.leaf(0, x.unwrap().to_dtype(dtype).unwrap());
        let y = ops::activation(&tape, &x, Activation::Relu).unwrap();
        let value = y.value().clone();
        let mut leaves = LeafGradients::new(1);
        tape.backward([(y, value.ones_like().unwrap())], &mut leaves)
            .unwrap();
        let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
        let (value, slope) = (numbers(&value), numbers(leaves.get(0).unwrap()));
        assert!(value[3].is_nan());
        assert_eq!(
            [value[0], value[1], value[2], value[4]],
            [0.0, 0.0, 2.0, 0.0]
        );
        assert_eq!(slope[..3], [0.0, 0.0, 1.0]);
    }
}

/// Hidden states and a head, with a bias if the seed is odd: logits of a trained model's size.
fn logits(dice: &mut Dice, seed: u64, [m, d, v]: [usize; 3]) -> Vec<Tensor> {
    let wide = (d as f64).sqrt().recip() * 4.0;
    let mut inputs = vec![
        dice.tensor(&[m, d]),
        dice.tensor(&[v, d]).affine(wide, 0.0).unwrap(),
    ];
    if seed % 2 == 1 {
        inputs.push(dice.tensor(&[v]));
    }
    inputs
}

/// Log-probabilities at a temperature of each seed.
fn log_probs(seed: u64, big: bool, temperatures: &[f64]) -> Case {
    let mut dice = Dice::new(seed);
    let [m, d, v] = [(); 3].map(|()| size(&mut dice, big));
    let targets = dice.indices(m, v);
    let temperature = temperatures[seed as usize % temperatures.len()];
    let mut inputs = logits(&mut dice, seed, [m, d, v]);
    // Of that size once divided by the temperature, which a rounding of a logit is divided by too.
    for input in &mut inputs[1..] {
        *input = input.affine(temperature, 0.0).unwrap();
    }
    Case {
        inputs,
        op: Box::new(move |way, tape, x| {
            let (bias, targets) = (x.get(2), &targets);
            by!(
                way,
                token_log_probs(tape, &x[0], &x[1], bias, targets, temperature)
            )
        }),
    }
}

#[test]
fn token_log_probs() {
    hold(
        |seed, big| log_probs(seed, big, &[1.0]),
        within(3e-6, [1.5, 8.0]),
    );
}

#[test]
fn token_log_probs_at_a_temperature() {
    hold(
        |seed, big| log_probs(seed, big, &[0.5, 0.7, 4.0]),
        within(3e-6, [1.5, 8.0]),
    );
}

#[test]
fn a_temperature_costs_no_precision_in_bf16() {
    // Of a few rows, one whose target has nearly all probability may be far off: how often is what is compared, over
    // many.
    let errors = |temperature: f64| -> Vec<f64> {
        let mut all = Vec::new();
        for seed in 0..400 {
            let case = log_probs(seed, false, &[temperature]);
            let half = twins::all(&case.inputs, DType::BF16);
            let double = twins::all(&half, DType::F64);
            let found = twins::run(&half, seed, &case.op, Way::Composed, true);
            let wanted = twins::run(&double, seed, &case.op, Way::Plain, true);
            let pairs = found.1.iter().zip(&wanted.1);
            all.extend(pairs.map(|(found, wanted)| twins::off(found, wanted)));
        }
        all.sort_by(f64::total_cmp);
        all
    };
    let wanted = errors(1.0);
    for temperature in [0.7, 1.3, 2.0, 2.9] {
        let found = errors(temperature);
        for share in [0.5, 0.9] {
            let at = (share * wanted.len() as f64) as usize;
            let times = found[at] / wanted[at];
            assert!(times < 1.2, "{temperature}, {share}: {times}");
        }
    }
}

#[test]
fn token_log_probs_between_cold_and_hot() {
    // Cold, the largest logit has all; hot, all are alike. No temperature that is not positive.
    let of = |t: &[f64], shape: (usize, usize)| {
        let t = Tensor::from_slice(t, shape, &Device::Cpu).unwrap();
        t.to_dtype(DType::F32).unwrap()
    };
    let inputs = [of(&[1.0; 3], (3, 1)), of(&[250.0, -90.0, 249.0], (3, 1))];
    let targets = vec![0, 1, 2].into();
    for way in [Way::Dispatched, Way::Composed] {
        for dtype in [DType::F64, DType::F32, DType::BF16] {
            let tape = Tape::idle();
            let x = inputs
                .each_ref()
                .map(|t| Node::constant(t.to_dtype(dtype).unwrap()));
            let at = |temperature: f64| -> pistar::Result<Vec<f64>> {
                let y: pistar::Result<Node> = by!(
                    way,
                    token_log_probs(&tape, &x[0], &x[1], None, &targets, temperature)
                );
                Ok(y?.value().to_dtype(DType::F64)?.to_vec1()?)
            };
            let cold = at(1e-3).unwrap();
            assert_eq!(cold[0], 0.0);
            assert!(cold[1] < -3.3e5 && cold[2] < -9e2, "{cold:?}");
            let coldest = at(1e-200).unwrap();
            assert!(coldest[0] == 0.0 && coldest[1] < -1e30, "{coldest:?}");
            let hot = at(1e100).unwrap();
            assert!(hot.iter().all(|x| (x + 3f64.ln()).abs() < 1e-6), "{hot:?}");
            for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
                let error = at(wrong).unwrap_err().to_string();
                assert!(error.contains("temperature"), "{error}");
            }
        }
    }
}

/// A teacher of another width, of numbers that bf16 holds, with a bias in two of three seeds.
fn teacher(dice: &mut Dice, seed: u64, [m, d, v]: [usize; 3]) -> Teacher {
    let mut all = logits(dice, u64::from(!seed.is_multiple_of(3)), [m, d, v]).into_iter();
    let mut next = || all.next().map(|t| t.to_dtype(DType::BF16).unwrap());
    Teacher {
        hidden: next().unwrap(),
        head: next().unwrap(),
        bias: next(),
    }
}

/// The teacher in the precision of `like`.
fn as_precise(teacher: &Teacher, like: &Node) -> pistar::Result<Teacher> {
    let dtype = like.value().dtype();
    Ok(Teacher {
        hidden: teacher.hidden.to_dtype(dtype)?,
        head: teacher.head.to_dtype(dtype)?,
        bias: (teacher.bias.as_ref().map(|b| b.to_dtype(dtype))).transpose()?,
    })
}

/// An operation on logits of a student and a teacher.
macro_rules! of_both {
    ($name:ident) => {
        |seed, big| {
            let mut dice = Dice::new(seed);
            let [m, d, v, other] = [(); 4].map(|()| size(&mut dice, big));
            let teacher = teacher(&mut dice, seed, [m, other, v]);
            Case {
                inputs: logits(&mut dice, seed, [m, d, v]),
                op: Box::new(move |way, tape, x| {
                    let teacher = as_precise(&teacher, &x[0])?;
                    by!(way, $name(tape, &x[0], &x[1], x.get(2), &teacher))
                }),
            }
        }
    };
}

#[test]
fn cross_entropy() {
    let make: Make = of_both!(cross_entropy);
    hold(make, within(3e-6, [1.5, 8.0]));
}

#[test]
fn logit_difference() {
    let make: Make = of_both!(logit_difference);
    hold(make, within(3e-6, [1.5, 2.0]));
}

#[test]
fn cross_entropy_to_oneself_is_entropy_and_least() {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let mut dice = Dice::new(3);
        let inputs = twins::all(&logits(&mut dice, 1, [5, 8, 300]), dtype);
        let [hidden, head, bias] = &inputs[..] else {
            panic!("no bias")
        };
        let teacher = Teacher {
            hidden: hidden.clone(),
            head: head.clone(),
            bias: Some(bias.clone()),
        };
        for way in [Way::Dispatched, Way::Composed] {
            let teacher = teacher.clone();
            let op: Op = Box::new(move |way, tape, x| {
                by!(way, cross_entropy(tape, &x[0], &x[1], x.get(2), &teacher))
            });
            let (value, gradients) = twins::run(&inputs, 1, &op, way, false);
            let double = twins::all(&inputs, DType::F64);
            let z = double[0].matmul(&double[1].t().unwrap()).unwrap();
            let z: Vec<Vec<f64>> = z.broadcast_add(&double[2]).unwrap().to_vec2().unwrap();
            let value: Vec<f64> = value.to_dtype(DType::F64).unwrap().to_vec1().unwrap();
            for (row, value) in z.iter().zip(value) {
                let total: f64 = row.iter().map(|z| z.exp()).sum();
                let entropy: f64 = row.iter().map(|z| z.exp() / total * (total.ln() - z)).sum();
                let near = if dtype == DType::BF16 { 0.01 } else { 1e-6 };
                assert!(
                    (value - entropy).abs() < near * entropy.max(1.0),
                    "{value} {entropy}"
                );
            }
            // p and q are made the same way.
            for gradient in gradients {
                let most = gradient
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap();
                let most: f64 = most.to_dtype(DType::F64).unwrap().to_scalar().unwrap();
                let least = if dtype == DType::F64 { 1e-14 } else { 1e-5 };
                assert!(most < least, "{dtype:?}: {most}");
            }
        }
    }
}

#[test]
fn teachers_that_do_not_fit_are_refused() {
    let of = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let (hidden, head) = (Node::constant(of(&[3, 4])), Node::constant(of(&[7, 4])));
    let fits = Teacher {
        hidden: of(&[3, 5]),
        head: of(&[7, 5]),
        bias: Some(of(&[7])),
    };
    let double = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
    let rows = |t: &Tensor| t.narrow(0, 0, 2).unwrap();
    let tape = Tape::idle();
    let wrong = [
        Teacher {
            hidden: rows(&fits.hidden),
            ..fits.clone()
        },
        Teacher {
            head: rows(&fits.head),
            ..fits.clone()
        },
        Teacher {
            hidden: of(&[3, 6]),
            ..fits.clone()
        },
        Teacher {
            bias: Some(of(&[6])),
            ..fits.clone()
        },
        Teacher {
            head: double(&fits.head),
            ..fits.clone()
        },
        Teacher {
            bias: fits.bias.as_ref().map(double),
            ..fits.clone()
        },
    ];
    for way in [Way::Dispatched, Way::Composed] {
        for (i, teacher) in std::iter::once(&fits).chain(&wrong).enumerate() {
            let found: [pistar::Result<Node>; 2] = [
                by!(way, cross_entropy(&tape, &hidden, &head, None, teacher)),
                by!(way, logit_difference(&tape, &hidden, &head, None, teacher)),
            ];
            for found in found {
                assert_eq!(found.is_ok(), i == 0, "{i}");
            }
        }
    }
}

#[test]
fn add() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let shape = [(); 2].map(|()| size(&mut dice, big));
        Case {
            inputs: vec![dice.tensor(&shape), dice.tensor(&shape)],
            op: Box::new(|way, tape, x| {
                if way != Way::Plain {
                    return ops::add(tape, &x[0], &x[1]);
                }
                let (a, b) = (x[0].clone(), x[1].clone());
                let value = (a.value() + b.value())?;
                Ok(tape.record(value, &[&x[0], &x[1]], || {
                    Box::new(move |gradient, sums| {
                        sums.add(&a.target(), gradient.copy()?)?;
                        sums.add(&b.target(), gradient.copy()?)
                    })
                }))
            }),
        }
    };
    hold(make, within(1e-6, [1.0; 2]));
}

#[test]
fn scale() {
    let make: Make = |seed, big| {
        let mut dice = Dice::new(seed);
        let shape = [(); 2].map(|()| size(&mut dice, big));
        // Powers of 2, and what bf16 cannot hold.
        let by = [0.125, 0.3, 45.254834, 1.0 / 3.0, 2.0, 1.01][seed as usize];
        Case {
            inputs: vec![dice.tensor(&shape)],
            op: Box::new(move |way, tape, x| {
                if way != Way::Plain {
                    return ops::scale(tape, &x[0], by);
                }
                let target = x[0].target();
                Ok(tape.record((x[0].value() * by)?, &[&x[0]], || {
                    Box::new(move |gradient, sums| sums.add(&target, (gradient * by)?))
                }))
            }),
        }
    };
    hold(make, within(1e-6, [1.0; 2]));
}

fn within(single: f64, half: [f64; 2]) -> Rounding {
    Rounding { single, half }
}
