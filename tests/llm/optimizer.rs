//! AdamW against its definition and PyTorch; state, clipping, SGD.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::optimizer::{AdamW, Config, clip, gradient_norm, sgd};
use pistar::llm::internals::tensor::parameters::{Id, Parameters};
use pistar::llm::internals::tensor::tape::{LeafGradients, Tape};

pub fn store(dtype: DType, list: &[(&str, &[usize], Vec<f64>)]) -> (Parameters, Vec<Id>) {
    let mut parameters = Parameters::new(dtype, &Device::Cpu);
    let ids = (list.iter())
        .map(|(name, shape, numbers)| {
            let tensor = Tensor::from_slice(numbers, *shape, &Device::Cpu).unwrap();
            parameters.add(*name, &tensor).unwrap()
        })
        .collect();
    (parameters, ids)
}

/// Gradients, one function of (step, element) for all parameters but those left out.
pub fn gradients(parameters: &Parameters, ids: &[Id], g: impl Fn(usize) -> f64) -> LeafGradients {
    let tape = Tape::recording(parameters.len());
    let mut leaves = LeafGradients::new(parameters.len());
    let seeds: Vec<_> = (ids.iter())
        .map(|&id| {
            let node = parameters.node(&tape, id);
            let numbers: Vec<f64> = (0..node.value().elem_count()).map(&g).collect();
            let seed = Tensor::from_vec(numbers, node.value().shape(), &Device::Cpu).unwrap();
            let seed = seed.to_dtype(parameters.dtype()).unwrap();
            (node, seed)
        })
        .collect();
    tape.backward(seeds, &mut leaves).unwrap();
    leaves
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    flat.to_vec1().unwrap()
}

pub fn wave(n: usize, frequency: f64) -> Vec<f64> {
    (0..n).map(|i| (frequency * i as f64 + 0.3).sin()).collect()
}

/// `torch.optim.AdamW([w, b], betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)` in float64 over five
/// steps with lr = 0.01 t, `p.grad = sin(t + 2 i)` clipped by `clip_grad_norm_(…, 1.5)` (torch 2.15).
#[test]
fn adamw_is_pytorchs() {
    let w = vec![0.5, -1.0, 2.0, 0.1, 0.0, -0.3];
    let b = vec![1.0, -2.0, 0.25];
    let (parameters, ids) = store(DType::F64, &[("w", &[2, 3], w), ("b", &[3], b)]);
    let config = Config {
        beta2: 0.95,
        epsilon: 1e-6,
        weight_decay: 0.1,
        ..Config::default()
    };
    let mut optimizer = AdamW::new(&parameters, config).unwrap();
    let mut norm = 0.0;
    for t in 1..6 {
        let leaves = gradients(&parameters, &ids, |i| (t as f64 + 2.0 * i as f64).sin());
        norm = gradient_norm(&parameters, &leaves).unwrap();
        let rate = 0.01 * t as f64;
        optimizer
            .step(&parameters, &leaves, rate, clip(norm, 1.5))
            .unwrap();
    }
    assert!((norm - 2.154393796341269).abs() < 1e-14);
    let first = vec![
        -0.02059656112864865,
        -0.06170883876158169,
        0.07195643720390846,
        0.0018199513383624444,
        -0.07347117118816701,
        0.059329639596376056,
    ];
    let second = vec![
        0.06637297661196785,
        0.047626862750967044,
        0.055393850928546894,
        0.06398628023835139,
        0.044986518848621065,
        0.06123223519947251,
    ];
    let w = vec![
        0.43027938324369264,
        -0.913132708882113,
        1.9740395914973066,
        0.02149770611956118,
        0.060119113276773314,
        -0.27078373885646834,
    ];
    let b = vec![0.9228217708806327, -1.898217484155993, 0.2501412347680172];
    let state: HashMap<_, _> = optimizer.state(&parameters).unwrap().into_iter().collect();
    assert_eq!(state["w.step"].to_scalar::<i64>().unwrap(), 5);
    let found: Vec<_> = parameters.iter().map(|p| p.tensor.clone()).collect();
    for (found, wanted) in [
        (&found[0], &w),
        (&found[1], &b),
        (&state["w.exp_avg"], &first),
        (&state["w.exp_avg_sq"], &second),
        (&state["b.exp_avg"], &first[..3].to_vec()),
        (&state["b.exp_avg_sq"], &second[..3].to_vec()),
    ] {
        for (x, y) in numbers(found).iter().zip(wanted) {
            assert!((x - y).abs() < 1e-14, "{x} {y}");
        }
    }
}

/// The definition, written once more in f64; parameters longer than a task's share.
#[test]
fn adamw_is_its_definition() {
    let n = 40_000;
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 3e-6)] {
        let list = [
            ("w", &[100, 400][..], wave(n, 0.1)),
            ("b", &[3], wave(3, 0.7)),
        ];
        let (parameters, ids) = store(dtype, &list);
        let config = Config {
            weight_decay: 0.3,
            decay_vectors: false,
            ..Config::default()
        };
        let mut optimizer = AdamW::new(&parameters, config).unwrap();
        let g = |t: usize, i: usize| (1.7 * i as f64 + t as f64).cos();
        for t in 1..4 {
            let leaves = gradients(&parameters, &ids, |i| g(t, i));
            optimizer.step(&parameters, &leaves, 0.02, 0.5).unwrap();
        }
        for (p, (_, _, start)) in parameters.iter().zip(&list) {
            let decay = if p.name == "w" { 0.3 } else { 0.0 };
            for (i, (found, &start)) in numbers(&p.tensor).iter().zip(start).enumerate() {
                let (mut p, mut m, mut v) = (start, 0.0, 0.0);
                for t in 1..4 {
                    let g = 0.5 * g(t, i);
                    m = 0.9 * m + 0.1 * g;
                    v = 0.999 * v + 0.001 * g * g;
                    let m_hat = m / (1.0 - 0.9f64.powi(t as i32));
                    let v_hat = v / (1.0 - 0.999f64.powi(t as i32));
                    p = (1.0 - 0.02 * decay) * p - 0.02 * m_hat / (v_hat.sqrt() + 1e-8);
                }
                // With a gradient near 0, f32 has no more than its absolute precision.
                assert!((found - p).abs() < tolerance, "{dtype:?} {i}: {found} {p}");
            }
        }
    }
}

#[test]
fn a_parameter_without_a_gradient_or_frozen_stays() {
    let list = [("a", &[2, 2][..], wave(4, 1.0)), ("b", &[4], wave(4, 2.0))];
    let (mut parameters, ids) = store(DType::F64, &list);
    let mut optimizer = AdamW::new(&parameters, Config::default()).unwrap();
    let leaves = gradients(&parameters, &ids[..1], |_| 1.0);
    optimizer.step(&parameters, &leaves, 0.1, 1.0).unwrap();
    let state = optimizer.state(&parameters).unwrap();
    assert!(state.iter().all(|(name, _)| name.starts_with("a.")));
    let after: Vec<_> = parameters.iter().map(|p| numbers(&p.tensor)).collect();
    assert!(after[0] != list[0].2 && after[1] == list[1].2);

    let leaves = gradients(&parameters, &ids, |_| 1.0);
    parameters.iter_mut().for_each(|p| p.trainable = false);
    optimizer.step(&parameters, &leaves, 0.1, 1.0).unwrap();
    sgd(&parameters, &leaves, 0.1, 1.0).unwrap();
    assert_eq!(gradient_norm(&parameters, &leaves).unwrap(), 0.0);
    let frozen: Vec<_> = parameters.iter().map(|p| numbers(&p.tensor)).collect();
    assert_eq!(after, frozen);
}

#[test]
fn a_saved_state_continues_to_the_bit() {
    let make = || {
        store(
            DType::F32,
            &[("w", &[50, 7], wave(350, 0.1)), ("b", &[3], wave(3, 0.7))],
        )
    };
    let step = |optimizer: &mut AdamW, parameters: &Parameters, ids: &[Id], t: usize| {
        let leaves = gradients(parameters, ids, |i| ((i * t) as f64).sin());
        optimizer.step(parameters, &leaves, 0.1, 1.0).unwrap();
    };
    let (straight, ids) = make();
    let mut optimizer = AdamW::new(&straight, Config::default()).unwrap();
    (0..6).for_each(|t| step(&mut optimizer, &straight, &ids, t));

    let (resumed, ids) = make();
    let mut optimizer = AdamW::new(&resumed, Config::default()).unwrap();
    (0..3).for_each(|t| step(&mut optimizer, &resumed, &ids, t));
    let state: HashMap<_, _> = optimizer.state(&resumed).unwrap().into_iter().collect();
    let mut optimizer = AdamW::new(&resumed, Config::default()).unwrap();
    optimizer.load_state(&resumed, state).unwrap();
    (3..6).for_each(|t| step(&mut optimizer, &resumed, &ids, t));
    for (a, b) in straight.iter().zip(resumed.iter()) {
        assert_eq!(numbers(&a.tensor), numbers(&b.tensor));
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let (parameters, ids) = store(DType::F64, &[("w", &[2, 2], wave(4, 1.0))]);
    let mut optimizer = AdamW::new(&parameters, Config::default()).unwrap();
    let leaves = gradients(&parameters, &ids, |_| 1.0);
    optimizer.step(&parameters, &leaves, 0.1, 1.0).unwrap();
    let state: HashMap<_, _> = optimizer.state(&parameters).unwrap().into_iter().collect();
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    let number = |x: i64| Tensor::new(x, &Device::Cpu).unwrap();
    for (name, change) in [
        ("w.exp_avg", Some(tensor(&[4]))),
        (
            "w.exp_avg_sq",
            Some(tensor(&[2, 2]).to_dtype(DType::F32).unwrap()),
        ),
        ("w.exp_avg_sq", None),
        ("w.step", Some(number(-1))),
        ("w.step", Some(tensor(&[]))),
        ("x.exp_avg", Some(tensor(&[2, 2]))),
    ] {
        let mut state = state.clone();
        match change {
            Some(tensor) => state.insert(name.to_string(), tensor),
            None => state.remove(name),
        };
        let error = optimizer
            .load_state(&parameters, state)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let (parameters, ids) = store(DType::F64, &[("w", &[2, 2], wave(4, 1.0))]);
    let with = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        AdamW::new(&parameters, config).unwrap_err().to_string()
    };
    assert!(with(|c| c.beta1 = 1.0).starts_with("beta1: it is 1;"));
    assert!(with(|c| c.beta2 = f64::NAN).starts_with("beta2: it is NaN;"));
    assert!(with(|c| c.epsilon = -1.0).starts_with("epsilon"));
    assert!(with(|c| c.weight_decay = f64::INFINITY).starts_with("weight_decay"));
    let mut optimizer = AdamW::new(&parameters, Config::default()).unwrap();
    let leaves = gradients(&parameters, &ids, |_| 1.0);
    assert!(optimizer.step(&parameters, &leaves, f64::NAN, 1.0).is_err());
    assert!(
        optimizer
            .step(&parameters, &leaves, 0.1, f64::INFINITY)
            .is_err()
    );
    assert!(sgd(&parameters, &leaves, -0.1, 1.0).is_err());

    let whole = Parameters::new(DType::U32, &Device::Cpu);
    let error = AdamW::new(&whole, Config::default()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("u32") && error.contains("bf16"), "{error}");
    let bf16 = Parameters::new(DType::BF16, &Device::Cpu);
    let error = sgd(&bf16, &LeafGradients::new(0), 0.1, 1.0).unwrap_err();
    assert!(error.to_string().contains("master weights"), "{error}");
}

#[test]
fn sgd_descends() {
    for dtype in [DType::F32, DType::F64] {
        let (parameters, ids) = store(dtype, &[("w", &[200, 100], wave(20_000, 0.01))]);
        let leaves = gradients(&parameters, &ids, |i| i as f64 / 4.0);
        sgd(&parameters, &leaves, 0.5, 0.25).unwrap();
        let found = numbers(&parameters.iter().next().unwrap().tensor);
        for (i, (x, y)) in found.iter().zip(wave(20_000, 0.01)).enumerate() {
            assert!((x - (y - 0.125 * i as f64 / 4.0)).abs() < 1e-7 * (1.0 + i as f64));
        }
    }
}

#[test]
fn the_norm_is_the_norm_to_the_bit_on_any_threads() {
    let (parameters, ids) = store(DType::F32, &[("w", &[300, 333], wave(99_900, 0.1))]);
    let norm = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let leaves = gradients(&parameters, &ids, |i| (i % 1000) as f64);
        pool.install(|| gradient_norm(&parameters, &leaves).unwrap())
    };
    let wanted: f64 = (0..99_900).map(|i| ((i % 1000) as f64).powi(2)).sum();
    assert_eq!(norm(1), wanted.sqrt());
    assert_eq!(norm(1).to_bits(), norm(2).to_bits());
    assert_eq!(clip(3.0, 5.0), 1.0);
    assert!((clip(10.0, 5.0) - 0.5).abs() < 1e-7);
}
