//! The very code that a GPU runs, on the CPU.

use candle_core::{DType, Device};

use super::*;
use crate::llm::sample::generate::machine::Plain;
use crate::llm::sample::generate::{Generated, Job, Sampling, machine::Cached};
use crate::observer::Silent;

/// Families with grouped heads, a window, learned positions, biases, scaled embeddings, norms of heads, slopes.
const FAMILIES: [&str; 11] = [
    "llama", "llama3", "mistral", "gemma", "gpt2", "qwen2", "qwen3", "opt", "opt-350m", "gptj",
    "bloom",
];

fn model(family: &str, dtype: DType) -> Decoder {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/llm/fixtures");
    Decoder::load(format!("{fixtures}/{family}"), dtype, &Device::Cpu).unwrap()
}

/// Tokens of a sequence, different for each.
fn tokens(model: &Decoder, sequence: usize, count: usize) -> Vec<u32> {
    let vocabulary = model.sizes().vocabulary;
    let token = |i| (7 + 31 * sequence + 13 * i + i * i) % vocabulary;
    (0..count).map(|i| token(i) as u32).collect()
}

/// The greatest difference to the whole-sequence run's logits, over the greatest of those, when
/// sequences come and go, share prompts, and are fed several tokens and one.
fn difference<T: Float>(model: &Decoder, whole: &Decoder) -> f64 {
    let longest = model.sizes().context.min(20);
    let mut machine = OnDevice::<T>::new(model, [3, longest]).unwrap();
    let (mut worst, mut size): (f64, f64) = (0.0, 0.0);
    let mut compare = |feeds: &mut [(State, Vec<u32>, usize)]| {
        let new: Vec<Vec<u32>> = feeds
            .iter()
            .map(|(_, all, from)| all[*from..].to_vec())
            .collect();
        let mut inputs: Vec<Next<State>> = feeds
            .iter_mut()
            .zip(&new)
            .map(|((state, ..), new)| (state, &new[..]))
            .collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        machine.next(&mut inputs, &mut ours).unwrap();
        let mut plain = Plain(whole);
        let mut states: Vec<Vec<u32>> = feeds.iter().map(|_| Vec::new()).collect();
        let mut inputs: Vec<Next<Vec<u32>>> = states
            .iter_mut()
            .zip(feeds.iter())
            .map(|(state, (_, all, _))| (state, &all[..]))
            .collect();
        plain.next(&mut inputs, &mut theirs).unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(&theirs) {
            worst = worst.max((a.wide() - b).abs());
            size = size.max(b.abs());
        }
    };
    let grow = |(state, mut all, _): (State, Vec<u32>, usize), sequence: usize, more: usize| {
        let from = all.len();
        let longer = tokens(model, sequence, from + more);
        all.extend_from_slice(&longer[from..]);
        (state, all, from)
    };
    let fresh = |sequence: usize, count: usize| {
        let (empty, all) = (State::new(), tokens(model, sequence, count));
        (empty, all, 0)
    };
    // Ragged prompts, one of a single token.
    let mut live = vec![fresh(0, 7), fresh(1, 1), fresh(2, 9)];
    compare(&mut live);
    // One token each, in another order than their places.
    live.swap(0, 2);
    let mut live: Vec<_> = (live.into_iter().enumerate())
        .map(|(i, l)| grow(l, 10 + i, 1))
        .collect();
    compare(&mut live);
    // The middle one ends: a place without a sequence. Then a new one gets it.
    live.remove(1);
    let mut live: Vec<_> = live.into_iter().map(|l| grow(l, 20, 1)).collect();
    compare(&mut live);
    let mut more = vec![fresh(3, 5)];
    compare(&mut more);
    live.extend(more);
    // Several tokens at once, to a cache that has some, and beyond what was reserved.
    let mut live: Vec<_> = (live.into_iter().enumerate())
        .map(|(i, l)| grow(l, 30, 1 + 2 * i))
        .collect();
    compare(&mut live);
    // Two samples of one prompt go their own ways.
    let (state, all, _) = live.remove(0);
    live.truncate(1);
    let mut twins = vec![
        grow((state.clone(), all.clone(), 0), 40, 1),
        grow((state, all, 0), 41, 1),
    ];
    compare(&mut twins);
    live.extend(twins);
    let mut live: Vec<_> = live.into_iter().map(|l| grow(l, 50, 1)).collect();
    compare(&mut live);
    worst / size
}

#[test]
fn logits_are_those_of_the_fused_engine() {
    for family in FAMILIES {
        let whole = model(family, DType::F64);
        let difference_64 = difference::<f64>(&whole, &whole);
        assert!(difference_64 < 1e-10, "{family}: {difference_64:e}");
        let difference_32 = difference::<f32>(&model(family, DType::F32), &whole);
        assert!(difference_32 < 1e-4, "{family}: {difference_32:e}");
    }
}

/// bfloat16 keeps 8 bits, and a logit is what some tens of roundings in a row leave: transformers' own
/// bf16 runs of these models are up to 3.0e-2 of the greatest logit away from its f64. Two such runs
/// are within twice that, 2⁻⁴, of each other, and one of the same weights in f64.
#[test]
fn bfloat16_is_near_its_whole_sequence_run() {
    for family in FAMILIES {
        let rounded = model(family, DType::BF16);
        let same = difference::<f32>(&rounded, &rounded);
        let exact = difference::<f32>(&rounded, &widened(&rounded));
        println!("{family}: {same:.1e} to bf16, {exact:.1e} to f64");
        assert!(same < 1.0 / 16.0, "{family}: {same:e}");
        assert!(exact < 1.0 / 16.0, "{family}: {exact:e}");
        // And it is bfloat16 that ran.
        assert!(exact > 1e-5, "{family}: {exact:e}");
    }
}

/// The same numbers in f64.
fn widened(model: &Decoder) -> Decoder {
    Decoder::build(
        model.shared_graph(),
        true,
        DType::F64,
        &Device::Cpu,
        &mut |weight| {
            let parameter = (model.parameters().iter()).find(|p| p.name == weight.name);
            Ok(parameter.unwrap().tensor.to_dtype(DType::F64)?)
        },
    )
    .unwrap()
}

/// What `job` gives on a machine.
fn run<M: Machine>(model: &Decoder, batch_size: usize, temperature: f64, m: M) -> Vec<Generated> {
    let prompts: Vec<Vec<u32>> = (0..5).map(|i| tokens(model, i, 1 + 2 * i)).collect();
    let sampling = Sampling {
        temperature,
        max_new_tokens: 12,
        samples: 3,
        ..Sampling::default()
    };
    let job = Job {
        // Some of all tokens end a sequence, so that places are given up and taken.
        ends: &(0..model.sizes().vocabulary as u32)
            .filter(|t| t % 11 == 3)
            .collect::<Vec<_>>(),
        prompts: &prompts,
        sampling: &sampling,
        seed: 4,
        batch_size,
        context: model.sizes().context,
    };
    job.run(m, &Silent).unwrap()
}

#[test]
fn the_same_tokens_come_whatever_runs_together() {
    for family in ["llama", "mistral", "gpt2", "bloom"] {
        let model = model(family, DType::F64);
        for temperature in [0.0, 1.0] {
            let cached = Cached::<f64>::new(&model, 64).unwrap();
            let expected = run(&model, 4, temperature, cached);
            let lengths = expected.iter().map(|g| g.tokens.len());
            assert!(lengths.clone().max() > lengths.min());
            for batch_size in [1, 2, 4, 100] {
                let machine = OnDevice::<f64>::new(&model, [batch_size + 1, 64]).unwrap();
                let ours = run(&model, batch_size, temperature, machine);
                assert_eq!(ours.len(), expected.len());
                for (a, b) in ours.iter().zip(&expected) {
                    assert_eq!((&a.tokens, a.ended), (&b.tokens, b.ended));
                    assert!((a.log_prob - b.log_prob).abs() < 1e-10);
                    assert!((a.entropy - b.entropy).abs() < 1e-10);
                }
            }
        }
    }
}

#[test]
fn places_are_given_back_and_never_shared_by_two_that_write() {
    let mut slots = Slots::new();
    let place = |place| match place {
        Place::Own(at) => (None, at),
        Place::Moved { from, to } => (Some(from), to),
    };
    let mut a = State::new();
    assert_eq!(place(slots.own(&mut a)), (None, 0));
    assert_eq!(place(slots.own(&mut a)), (None, 0));
    let mut b = a.clone();
    assert_eq!(place(slots.own(&mut a)), (Some(0), 1));
    assert_eq!(place(slots.own(&mut b)), (None, 0));
    drop(b);
    let (mut c, mut d) = (State::new(), State::new());
    assert_eq!(place(slots.own(&mut c)), (None, 0));
    assert_eq!(place(slots.own(&mut d)), (None, 2));
    assert_eq!(slots.count(), 3);
}

#[test]
fn long_prompts_go_in_pieces() {
    let places = [Place::Own(0), Place::Own(1), Place::Own(2)];
    let (long, short) = (vec![1; 2 * CHUNK + 5], vec![2; 10]);
    let mut states = [State::new(), State::new(), State::new()];
    let inputs: Vec<Next<State>> = (states.iter_mut())
        .zip([&short, &long, &short])
        .map(|(s, t)| (s, &t[..]))
        .collect();
    let chunks = chunks(&inputs, &places);
    let sizes: Vec<Vec<(usize, usize, usize, bool)>> = (chunks.iter())
        .map(|c| {
            let piece = |p: &Piece| (p.slot, p.position, p.tokens.len(), p.last);
            c.iter().map(piece).collect()
        })
        .collect();
    let n = CHUNK - 10;
    let expected = [
        vec![(0, 0, 10, true), (1, 0, n, false)],
        vec![(1, n, CHUNK, false)],
        vec![(1, n + CHUNK, 15, true), (2, 0, 10, true)],
    ];
    assert_eq!(sizes, expected);
}
