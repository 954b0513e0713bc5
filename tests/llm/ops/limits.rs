//! Composed operations do the same whatever they take at once.

use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use pistar::llm::internals::tensor::ops::composed::{
    attention_within, cross_entropy_within, logit_difference_within, rows, token_log_probs_within,
};
use pistar::llm::internals::tensor::ops::{
    Attention, Starts, Teacher, add_in_place, attention, plain,
};
use pistar::llm::internals::tensor::tape::{LeafGradients, Node, Tape};

use super::twins::{Dice, compare, off, run};

fn result(
    inputs: &[Tensor],
    op: impl Fn(&Tape, &[Node]) -> pistar::Result<Node> + 'static,
) -> (Tensor, Vec<Tensor>) {
    use super::twins::{Op, Way};
    let op: Op = Box::new(move |_, tape, x| op(tape, x));
    run(inputs, 3, &op, Way::Composed, false)
}

/// Sequences of those lengths, and the same where all but the first and the fifth go on from those.
fn alone_and_shared<const N: usize>(lengths: [usize; N]) -> [Starts; 2] {
    let goes_on = |i: usize| i != 0 && i != 4;
    let pieces = lengths.into_iter().enumerate();
    let shared = pieces.map(|(i, length)| (length, goes_on(i)));
    [Starts::of(lengths), Starts::branching(shared)]
}

#[test]
fn attention_in_blocks_and_slices() {
    let mut dice = Dice::new(5);
    for window in [None, Some(1), Some(4), Some(30)] {
        for ([kv_heads, share], sloped) in [
            ([1, 1], false),
            ([2, 3], false),
            ([2, 3], true),
            ([3, 1], false),
            ([3, 1], true),
        ] {
            let slopes = (1..=kv_heads * share).map(|head| (-(head as f64)).exp2());
            let form = Attention {
                heads: kv_heads * share,
                kv_heads,
                head_dim: 6,
                scale: 0.4,
                window,
                slopes: sloped.then(|| slopes.collect()),
            };
            // Two groups, one of them ragged, and sequences of length 1.
            for starts in alone_and_shared([70, 1, 60, 30, 9, 1]) {
                let n = starts.tokens();
                let inputs =
                    [form.heads, kv_heads, kv_heads].map(|heads| dice.tensor(&[n, heads * 6]));
                let at = |most: usize| {
                    let (form, starts) = (form.clone(), starts.clone());
                    result(&inputs, move |tape, x| {
                        attention_within(tape, [&x[0], &x[1], &x[2]], &form, &starts, most)
                    })
                };
                let whole = at(1 << 26);
                for most in [1, 150, 700, 5000, 20_000] {
                    compare(&at(most), &whole, 1e-13);
                }
            }
        }
    }
}

#[test]
fn narrow_heads_see_what_others_see() {
    let mut dice = Dice::new(13);
    // About as long as there are queries side by side.
    let lengths = [15, 1, 16, 17, 33, 32, 2];
    let n: usize = lengths.iter().sum();
    for head_dim in [8, 16] {
        for window in [1, 2, 15, 16, 17, 40, usize::MAX] {
            for [kv_heads, share] in [[1, 1], [2, 3]] {
                for sloped in [false, true] {
                    let slopes = (1..=kv_heads * share).map(|head| (-(head as f64)).exp2());
                    let form = Attention {
                        heads: kv_heads * share,
                        kv_heads,
                        head_dim,
                        scale: 0.4,
                        window: Some(window),
                        slopes: sloped.then(|| slopes.collect()),
                    };
                    let inputs = [form.heads, kv_heads, kv_heads]
                        .map(|heads| dice.tensor(&[n, heads * head_dim]));
                    // The twin counts from a window's beginning.
                    let twin = Attention {
                        window: Some(window.min(n)),
                        ..form.clone()
                    };
                    for starts in alone_and_shared(lengths) {
                        let (form, twin, other) = (form.clone(), twin.clone(), starts.clone());
                        let found = result(&inputs, move |tape, x| {
                            attention(tape, [&x[0], &x[1], &x[2]], &form, &starts)
                        });
                        let plain = result(&inputs, move |tape, x| {
                            plain::attention(tape, [&x[0], &x[1], &x[2]], &twin, &other)
                        });
                        compare(&found, &plain, 1e-12);
                    }
                }
            }
        }
    }
}

#[test]
fn a_shared_prompt_changes_no_bit_of_what_follows() {
    let mut dice = Dice::new(15);
    let prompts = [
        (1, 8),
        (5, 4),
        (17, 8),
        (33, 16),
        (70, 6),
        (20, 32),
        (600, 128),
        (590, 16),
    ];
    for (prompt, head_dim) in prompts {
        // Of many keys, gemm adds up one query's values in another order than those of several.
        let least = if prompt > 500 { 2 } else { 1 };
        let completions = [least, 2, 3, 17, 40, 90];
        for window in [None, Some(9), Some(50), Some(530)] {
            let form = Attention {
                heads: 4,
                kv_heads: 2,
                head_dim,
                scale: 0.4,
                window,
                slopes: None,
            };
            let shared = std::iter::once((prompt, false));
            let shared = Starts::branching(shared.chain(completions.map(|length| (length, true))));
            let alone = Starts::of(completions.map(|length| prompt + length));
            let inputs = [4, 2, 2].map(|heads| {
                let all = dice.tensor(&[shared.tokens(), heads * head_dim]);
                all.to_dtype(DType::F32).unwrap()
            });
            // The prompt is there once, or before each completion.
            let rows: Vec<u32> = (shared.spans().skip(1))
                .flat_map(|span| span.rows().map(|row| row as u32).collect::<Vec<_>>())
                .collect();
            let rows = Tensor::new(rows, &Device::Cpu).unwrap();
            let repeated = inputs.each_ref().map(|x| x.index_select(&rows, 0).unwrap());
            let run = |inputs: &[Tensor; 3], starts: &Starts| {
                let [q, k, v] = inputs.each_ref().map(|x| Node::constant(x.clone()));
                let out = attention(&Tape::idle(), [&q, &k, &v], &form, starts).unwrap();
                out.value().clone()
            };
            let once = run(&inputs, &shared).index_select(&rows, 0).unwrap();
            let each = run(&repeated, &alone);
            let bits = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, (a, b)) in bits(&once).iter().zip(&bits(&each)).enumerate() {
                let row = i / (4 * head_dim);
                assert!(
                    a.to_bits() == b.to_bits(),
                    "{prompt} {head_dim} {window:?} {row}: {a} {b}"
                );
            }
        }
    }
}

#[test]
fn long_sequences_are_done_in_blocks() {
    // 600 tokens make more than one block without being asked to.
    let mut dice = Dice::new(6);
    let form = Attention {
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        scale: 0.5,
        window: None,
        slopes: None,
    };
    let inputs = [
        dice.tensor(&[600, 8]),
        dice.tensor(&[600, 4]),
        dice.tensor(&[600, 4]),
    ];
    let starts: Starts = vec![0, 600].into();
    let same = (form.clone(), starts.clone());
    let composed = result(&inputs, move |tape, x| {
        attention_within(tape, [&x[0], &x[1], &x[2]], &form, &starts, 1 << 26)
    });
    let plain = result(&inputs, move |tape, x| {
        plain::attention(tape, [&x[0], &x[1], &x[2]], &same.0, &same.1)
    });
    compare(&composed, &plain, 1e-12);
}

#[test]
fn far_positions_fall_exactly_in_bf16() {
    // Positions beyond 256 and slopes of many bits, which bf16 does not hold: on rounded inputs the results are those
    // of f64 but for what attention in bf16 rounds anyway.
    let mut dice = Dice::new(12);
    for lengths in [vec![1200, 1000], vec![300]] {
        let n = lengths.iter().sum::<usize>();
        let inputs = [32, 16, 16].map(|width| dice.tensor(&[n, width]));
        let half = inputs.map(|t| t.to_dtype(DType::BF16).unwrap());
        let double = half.each_ref().map(|t| t.to_dtype(DType::F64).unwrap());
        let starts = std::iter::once(0).chain(lengths.iter().scan(0, |at, length| {
            *at += length;
            Some(*at)
        }));
        let starts: Starts = starts.collect();
        for window in [None, Some(700)] {
            let form = Attention {
                heads: 4,
                kv_heads: 2,
                head_dim: 8,
                scale: 0.3,
                window,
                slopes: Some(std::sync::Arc::new([0.713, 0.25, 0.0123, 0.001])),
            };
            let forms = (form.clone(), form.clone());
            let (one, other) = (starts.clone(), starts.clone());
            let found = result(&half, move |tape, x| {
                attention_within(tape, [&x[0], &x[1], &x[2]], &forms.0, &one, 1 << 26)
            });
            let wanted = result(&double, move |tape, x| {
                plain::attention(tape, [&x[0], &x[1], &x[2]], &forms.1, &other)
            });
            for (found, wanted) in
                std::iter::once((&found.0, &wanted.0)).chain(found.1.iter().zip(&wanted.1))
            {
                let far = off(found, wanted);
                assert!(far < 3.0 / 256.0, "{lengths:?} {window:?}: {far:e}");
            }
            let far = off(&found.0, &wanted.0);
            assert!(far < 1.5 / 256.0, "{lengths:?} {window:?}: {far:e}");
        }
    }
}

#[test]
fn a_neighbour_in_the_group_changes_nothing() {
    // The shorter is padded to the longer; alone it is not.
    let mut dice = Dice::new(7);
    let form = Attention {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        scale: 0.3,
        window: None,
        slopes: None,
    };
    let all = [32, 16, 16].map(|width| dice.tensor(&[100 + 90, width]));
    let short = all.each_ref().map(|t| t.narrow(0, 100, 90).unwrap());
    let run = |inputs: &[Tensor; 3], starts: Vec<usize>| {
        let tape = Tape::idle();
        let [q, k, v] = inputs.each_ref().map(|t| Node::constant(t.clone()));
        let starts = starts.into();
        let out = attention_within(&tape, [&q, &k, &v], &form, &starts, 1 << 26).unwrap();
        out.value().clone()
    };
    let together = run(&all, vec![0, 100, 190]).narrow(0, 100, 90).unwrap();
    let alone = run(&short, vec![0, 90]);
    compare(&(together, vec![]), &(alone, vec![]), 1e-14);
}

#[test]
fn log_probabilities_in_parts_of_the_vocabulary() {
    let mut dice = Dice::new(8);
    let (m, d, v) = (23, 5, 61);
    let inputs = [
        dice.tensor(&[m, d]),
        dice.tensor(&[v, d]),
        dice.tensor(&[v]),
    ];
    let targets = dice.indices(m, v);
    for temperature in [1.0, 0.6] {
        let at = |most: usize| {
            let targets = targets.clone();
            result(&inputs, move |tape, x| {
                let (bias, targets) = (x.get(2), &targets);
                token_log_probs_within(tape, &x[0], &x[1], bias, targets, temperature, most)
            })
        };
        let whole = at(1 << 25);
        for most in [1, 50, 23 * 7, 23 * 60, 23 * 61] {
            compare(&at(most), &whole, 1e-13);
        }
    }
}

#[test]
fn comparisons_with_a_teacher_in_parts_of_the_vocabulary() {
    let mut dice = Dice::new(13);
    let (m, d, v, other) = (23, 5, 61, 9);
    let inputs = [
        dice.tensor(&[m, d]),
        dice.tensor(&[v, d]),
        dice.tensor(&[v]),
    ];
    let teacher = Teacher {
        hidden: dice.tensor(&[m, other]),
        head: dice.tensor(&[v, other]),
        bias: Some(dice.tensor(&[v])),
    };
    for difference in [false, true] {
        let at = |most: usize| {
            let teacher = teacher.clone();
            result(&inputs, move |tape, x| {
                let of = if difference {
                    logit_difference_within
                } else {
                    cross_entropy_within
                };
                of(tape, &x[0], &x[1], x.get(2), &teacher, most)
            })
        };
        let whole = at(1 << 25);
        for most in [1, 50, 23 * 7, 23 * 60, 23 * 61, 2 * 23 * 60, 2 * 23 * 61] {
            compare(&at(most), &whole, 1e-13);
        }
    }
}

#[test]
fn log_probabilities_add_to_the_gradient_that_is_there() {
    // A tied head used twice, in parts: the second use adds in place.
    let mut dice = Dice::new(9);
    let (m, d, v) = (9, 4, 30);
    let inputs = [
        dice.tensor(&[m, d]),
        dice.tensor(&[v, d]),
        dice.tensor(&[v]),
    ];
    let targets = dice.indices(m, v);
    let twice = |most: usize| {
        let targets = targets.clone();
        result(&inputs, move |tape, x| {
            let a = token_log_probs_within(tape, &x[0], &x[1], x.get(2), &targets, 1.0, most)?;
            let b = token_log_probs_within(tape, &x[0], &x[1], x.get(2), &targets, 1.0, most)?;
            pistar::llm::internals::tensor::ops::add(tape, &a, &b)
        })
    };
    compare(&twice(9 * 8), &twice(1 << 20), 1e-13);
}

#[test]
fn extreme_logits_are_numbers() {
    // Up to ±3000: e to that is none, and the target is far from the largest.
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let logits = [3000.0, -3000.0, 0.0, 2990.0];
        let head = Tensor::new(&logits, &Device::Cpu).unwrap();
        let head = head.reshape((4, 1)).unwrap().to_dtype(dtype).unwrap();
        let hidden = Tensor::ones((4, 1), dtype, &Device::Cpu).unwrap();
        let targets: Rc<[u32]> = Rc::new([0, 1, 2, 3]);
        for most in [4, 1 << 20] {
            let tape = Tape::recording(2);
            let nodes = [tape.leaf(0, hidden.clone()), tape.leaf(1, head.clone())];
            let out =
                token_log_probs_within(&tape, &nodes[0], &nodes[1], None, &targets, 1.0, most)
                    .unwrap();
            let found: Vec<f64> = (out.value().to_dtype(DType::F64).unwrap())
                .to_vec1()
                .unwrap();
            let near = if dtype == DType::BF16 { 0.01 } else { 1e-6 };
            let of_head: Vec<f64> = (head.to_dtype(DType::F64).unwrap().flatten_all().unwrap())
                .to_vec1()
                .unwrap();
            let rest = |x: f64| of_head.iter().map(|y| (y - x).exp()).sum::<f64>().ln();
            for (x, logit) in found.iter().zip(&of_head) {
                // Their sum of exponentials is that of the two largest.
                let wanted = -(rest(3000.0) + 3000.0 - logit);
                assert!(
                    (x - wanted).abs() <= near * wanted.abs() + 1e-6,
                    "{x} {wanted}"
                );
                assert!(*x <= 0.0);
            }
            let mut leaves = LeafGradients::new(2);
            let ones = out.value().ones_like().unwrap();
            tape.backward([(out, ones)], &mut leaves).unwrap();
            for leaf in 0..2 {
                let sum = leaves.get(leaf).unwrap().to_dtype(DType::F64).unwrap();
                let sum: f64 = sum.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
                assert!(sum.is_finite());
            }
        }
    }
}

#[test]
fn many_gradients_of_one_row_are_not_lost() {
    // 1 + 4000 · 2⁻⁹: one after another in bf16 it would stay 1.
    let n = 4001;
    let tape = Tape::recording(1);
    let table = Tensor::zeros((4, 1), DType::BF16, &Device::Cpu).unwrap();
    let table = tape.leaf(0, table);
    let out = rows(&tape, &table, &vec![2; n].into()).unwrap();
    let column = (0..n).map(|i| if i == 0 { 1.0 } else { 2f32.powi(-9) });
    let column = Tensor::from_iter(column, &Device::Cpu).unwrap();
    let column = column.reshape((n, 1)).unwrap().to_dtype(DType::BF16);
    let mut leaves = LeafGradients::new(1);
    tape.backward([(out, column.unwrap())], &mut leaves)
        .unwrap();
    let sum = leaves.get(0).unwrap().to_dtype(DType::F32).unwrap();
    let sum: Vec<f32> = sum.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(sum, [0.0, 0.0, 8.8125, 0.0]);
}

#[test]
fn sums_in_place_of_any_two_precisions() {
    let mut dice = Dice::new(10);
    let [a, b] = [(); 2].map(|()| dice.tensor(&[7, 5]));
    for of_sum in [DType::BF16, DType::F32, DType::F64] {
        for of_x in [DType::BF16, DType::F32, DType::F64] {
            let sum = a.to_dtype(of_sum).unwrap().copy().unwrap();
            let x = b.to_dtype(of_x).unwrap();
            let wanted = (&sum + x.to_dtype(of_sum).unwrap()).unwrap();
            // x need not be contiguous.
            let x = x.t().unwrap().contiguous().unwrap().t().unwrap();
            add_in_place(&sum, &x).unwrap();
            compare(&(sum, vec![]), &(wanted, vec![]), f64::MIN_POSITIVE);
        }
    }
    // In several pieces.
    let sum = Tensor::ones((1 << 24) + 3, DType::BF16, &Device::Cpu).unwrap();
    add_in_place(&sum, &sum.copy().unwrap()).unwrap();
    let ends = [sum.min(0).unwrap(), sum.max(0).unwrap()];
    let ends = ends.map(|t| t.to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap());
    assert_eq!(ends, [2.0; 2]);
    let small = a.narrow(0, 0, 2).unwrap();
    for dtype in [DType::BF16, DType::F32] {
        let error = add_in_place(&a.to_dtype(dtype).unwrap(), &small).unwrap_err();
        assert!(error.to_string().contains("differ"), "{error}");
    }
}

#[test]
fn bf16_log_probabilities_do_not_suffer_from_large_logits() {
    // As GPT-2's: every logit near −100, differences of a few units.
    let mut dice = Dice::new(11);
    let (m, d, v) = (200, 64, 500);
    let common = Tensor::full(1.25f64, (m, d), &Device::Cpu).unwrap();
    let hidden = (dice.tensor(&[m, d]) * 0.6).unwrap() + common;
    let common = Tensor::full(-1.25f64, (v, d), &Device::Cpu).unwrap();
    let head = (dice.tensor(&[v, d]) * 0.6).unwrap() + common;
    let half = [hidden, head].map(|t| t.unwrap().to_dtype(DType::BF16).unwrap());
    let double = half.each_ref().map(|t| t.to_dtype(DType::F64).unwrap());
    let logits = double[0].matmul(&double[1].t().unwrap()).unwrap();
    let logits: Vec<Vec<f64>> = logits.to_vec2().unwrap();
    let mean = logits.concat().iter().sum::<f64>() / (m * v) as f64;
    assert!((-110.0..-90.0).contains(&mean), "{mean}");
    // Tokens as the model would draw them.
    let targets: Rc<[u32]> = (logits.iter())
        .map(|row| {
            let mut noise = || -(-((dice.below(1 << 20) as f64 + 0.5) / 2f64.powi(20)).ln()).ln();
            let noisy: Vec<f64> = row.iter().map(|l| l + noise()).collect();
            (0..v as u32)
                .max_by(|&a, &b| noisy[a as usize].total_cmp(&noisy[b as usize]))
                .unwrap()
        })
        .collect();
    let run = |inputs: &[Tensor; 2], plain: bool| -> Vec<f64> {
        let tape = Tape::idle();
        let [h, w] = inputs.each_ref().map(|t| Node::constant(t.clone()));
        let out = if plain {
            plain::token_log_probs(&tape, &h, &w, None, &targets, 1.0)
        } else {
            token_log_probs_within(&tape, &h, &w, None, &targets, 1.0, 30_000)
        };
        let out = out.unwrap().value().to_dtype(DType::F64).unwrap();
        out.to_vec1().unwrap()
    };
    let exact = run(&double, true);
    let off = |found: &[f64]| {
        let square: f64 = found.iter().zip(&exact).map(|(x, y)| (x - y).powi(2)).sum();
        (square / m as f64).sqrt()
    };
    let (found, rounded) = (run(&half, false), off(&run(&half, true)));
    for (row, &target) in targets.iter().enumerate() {
        let of_target = logits[row][target as usize];
        let away: f64 = (logits[row].iter())
            .map(|l| (l - of_target + exact[row]).exp() * (l - of_target).abs())
            .sum();
        let far = (found[row] - exact[row]).abs();
        // A hundredth more: the mean is under the exact p.
        assert!(far < 1.01 * away / 256.0 + 1e-5, "{far} {away}");
    }
    let ours = off(&found);
    println!("rms {ours} {rounded}");
    assert!(ours < rounded / 10.0, "{ours} {rounded}");
}
