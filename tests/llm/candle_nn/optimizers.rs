//! AdamW and gradient descent step by step.

use candle_core::{DType, Device, Tensor, Var, backprop::GradStore};
use candle_nn::{Optimizer, ParamsAdamW, SGD};
use pistar::llm::internals::tensor::optimizer::{AdamW, Config, sgd};
use pistar::llm::internals::tensor::parameters::Parameters;

use crate::fixtures::{largest, numbers};
use crate::optimizer::{gradients, store, wave};

/// `g(i)` as the gradient of each variable's i-th number.
fn graph(variables: &[Var], g: impl Fn(usize) -> f64) -> GradStore {
    let total = variables.iter().map(|variable| {
        let g = (0..variable.elem_count()).map(&g);
        let g = Tensor::from_iter(g, &Device::Cpu).unwrap();
        let g = g.reshape(variable.shape()).unwrap();
        let g = g.to_dtype(variable.dtype()).unwrap();
        (variable.as_tensor() * g).unwrap().sum_all().unwrap()
    });
    let total = total.reduce(|a, b| (a + b).unwrap()).unwrap();
    total.backward().unwrap()
}

/// The parameters as variables of candle's.
fn variables(parameters: &Parameters) -> Vec<Var> {
    let copies = parameters.iter().map(|p| p.tensor.copy().unwrap());
    copies.map(|t| Var::from_tensor(&t).unwrap()).collect()
}

/// The largest difference of each.
fn far(parameters: &Parameters, variables: &[Var]) -> f64 {
    let each = parameters.iter().zip(variables);
    each.map(|(p, v)| largest(&numbers(&p.tensor), &numbers(v.as_tensor())))
        .fold(0.0, f64::max)
}

/// The gradient of the i-th number in step t: of every size, so that ε counts too.
fn gradient(t: usize, i: usize) -> f64 {
    (1.7 * i as f64 + t as f64).cos() * 10f64.powi(-((i % 12) as i32))
}

const CONFIG: Config = Config {
    beta1: 0.8,
    beta2: 0.95,
    epsilon: 1e-6,
    weight_decay: 0.3,
    decay_vectors: true,
};

fn theirs(config: &Config) -> ParamsAdamW {
    ParamsAdamW {
        lr: 0.01,
        beta1: config.beta1,
        beta2: config.beta2,
        eps: config.epsilon,
        weight_decay: config.weight_decay,
    }
}

/// Both decay first, by `1 − lr·λ`, and add ε to the corrected root.
#[test]
fn adamw() {
    for (dtype, bound) in [(DType::F64, 1e-15), (DType::F32, 5e-7)] {
        let list = [
            ("w", &[50, 40][..], wave(2000, 0.1)),
            ("b", &[30], wave(30, 0.7)),
        ];
        let (parameters, ids) = store(dtype, &list);
        let variables = variables(&parameters);
        let mut ours = AdamW::new(&parameters, CONFIG).unwrap();
        let mut theirs = candle_nn::AdamW::new(variables.clone(), theirs(&CONFIG)).unwrap();
        for t in 1..=20 {
            let lr = 0.001 * t as f64;
            let leaves = gradients(&parameters, &ids, |i| gradient(t, i));
            ours.step(&parameters, &leaves, lr, 1.0).unwrap();
            theirs.set_learning_rate(lr);
            theirs.step(&graph(&variables, |i| gradient(t, i))).unwrap();
        }
        let far = far(&parameters, &variables);
        println!("{dtype:?} {far:.1e}");
        assert!(far < bound, "{dtype:?} {far:e}");
        let start = [wave(2000, 0.1), wave(30, 0.7)].concat();
        let moved: Vec<f64> = parameters.iter().flat_map(|p| numbers(&p.tensor)).collect();
        assert!(largest(&moved, &start) > 0.05);
    }
}

/// Ours counts the steps of each parameter, as PyTorch does; theirs those of all. In its first step, the second of all,
/// theirs moves a parameter by `√(1 + β₂)/(1 + β₁)` times as much, without ε.
#[test]
fn steps_are_counted_apart() {
    let list = [("a", &[2][..], vec![1.0; 2]), ("b", &[2], vec![1.0; 2])];
    let (parameters, ids) = store(DType::F64, &list);
    let variables = variables(&parameters);
    let config = Config {
        epsilon: 0.0,
        weight_decay: 0.0,
        ..CONFIG
    };
    let mut ours = AdamW::new(&parameters, config).unwrap();
    let mut other = candle_nn::AdamW::new(variables.clone(), theirs(&config)).unwrap();
    for count in [1, 2] {
        let leaves = gradients(&parameters, &ids[..count], |_| 0.3);
        ours.step(&parameters, &leaves, 0.01, 1.0).unwrap();
        other.step(&graph(&variables[..count], |_| 0.3)).unwrap();
    }
    let last = |x: &Tensor| 1.0 - numbers(x)[0];
    let (first, second) = (&variables[0], &variables[1]);
    let [a, b] = [0, 1].map(|i| last(&parameters.get(ids[i]).tensor));
    assert!((last(first) - a).abs() < 1e-15);
    assert!((b - 0.01).abs() < 1e-15);
    let ratio = 1.95f64.sqrt() / 1.8;
    assert!(
        (last(second) / b - ratio).abs() < 1e-13,
        "{}",
        last(second) / b
    );
}

/// A step of `lr` = 0.001 is less than half the distance from 1 to the bf16 below, 1/256: theirs never moves. Ours keeps
/// a weight in f32.
#[test]
fn bf16_needs_a_master() {
    let (parameters, ids) = store(DType::BF16, &[("w", &[2, 2], vec![1.0; 4])]);
    let variables = variables(&parameters);
    let config = Config {
        weight_decay: 0.0,
        ..Config::default()
    };
    let mut ours = AdamW::new(&parameters, config).unwrap();
    let mut other = candle_nn::AdamW::new(variables.clone(), theirs(&config)).unwrap();
    other.set_learning_rate(0.001);
    for _ in 0..100 {
        let leaves = gradients(&parameters, &ids, |_| 1.0);
        ours.step(&parameters, &leaves, 0.001, 1.0).unwrap();
        other.step(&graph(&variables, |_| 1.0)).unwrap();
    }
    assert_eq!(numbers(variables[0].as_tensor()), [1.0; 4]);
    for weight in numbers(&parameters.get(ids[0]).tensor) {
        assert!((weight - 0.9).abs() <= 1.0 / 512.0, "{weight}");
    }
}

#[test]
fn gradient_descent_to_the_bit() {
    for dtype in [DType::F64, DType::F32] {
        let list = [
            ("w", &[100, 40][..], wave(4000, 0.1)),
            ("b", &[30], wave(30, 0.7)),
        ];
        let (parameters, ids) = store(dtype, &list);
        let variables = variables(&parameters);
        let mut theirs = SGD::new(variables.clone(), 0.0).unwrap();
        for t in 1..=10 {
            let lr = 0.03 * t as f64;
            let leaves = gradients(&parameters, &ids, |i| gradient(t, i));
            sgd(&parameters, &leaves, lr, 1.0).unwrap();
            theirs.set_learning_rate(lr);
            theirs.step(&graph(&variables, |i| gradient(t, i))).unwrap();
        }
        assert_eq!(far(&parameters, &variables), 0.0);
        let moved = numbers(&parameters.get(ids[0]).tensor);
        assert!(largest(&moved, &wave(4000, 0.1)) > 0.1);
    }
}
