//! Memory of the operations of [`ops::composed`](crate::llm::tensor::ops::composed) while they run: the tensors that
//! are alive at once inside each, at the moment when they are most.

use super::network::Rows;
use super::ops::{Form, Needs};
use crate::llm::tensor::ops::Activation;

/// Most scores, logits and numbers of an update at once: those of `ops::composed` and of the
/// optimiser.
const SCORES: usize = 1 << 26;
const LOGITS: usize = 1 << 25;
const PIECE: u64 = 1 << 24;

/// A matrix product's operands and result, in numbers of the tensors that they lie in. candle widens
/// all of them on a CPU in bf16.
fn product(form: &Form, numbers: [u64; 3]) -> u64 {
    if form.machine.cpu && form.size < 4 {
        4 * numbers.iter().sum::<u64>()
    } else {
        0
    }
}

fn count(rows: usize, width: usize) -> u64 {
    rows as u64 * width as u64
}

pub fn linear(form: &Form, n: usize, [i, o]: [usize; 2], biased: bool) -> Needs {
    let numbers = [count(n, i), count(o, i), count(n, o)];
    let all = product(form, numbers);
    let unbiased = if biased { form.of(n, o) } else { 0 };
    Needs {
        forward: all.max(unbiased),
        backward: all,
        ..Needs::default()
    }
}

/// Rows of one index are added in pairs, in f32.
pub fn rows(form: &Form, m: usize, width: usize, repeated: bool) -> Needs {
    let numbers = count(m, width);
    let before = if repeated {
        (form.widened() + 3 * form.wide()) * numbers
    } else {
        0
    };
    Needs {
        before,
        ..Needs::default()
    }
}

/// Both norms: in the backward x̂, dy, and the difference of two products.
pub fn norm(form: &Form, n: usize, width: usize, layer: bool) -> Needs {
    let (all, wide, widened) = (count(n, width), form.wide(), form.widened());
    let forward = match (layer, widened > 0) {
        (false, true) => 2 * wide,
        (false, false) => wide,
        (true, true) => 3 * wide,
        (true, false) => 2 * wide,
    };
    Needs {
        forward: forward * all,
        before: (4 * wide + widened) * all,
        backward: (2 * wide + 2 * widened) * all,
    }
}

pub fn rope(form: &Form, n: usize, width: usize) -> Needs {
    // Both halves' products and what they are made of, less the result.
    let all = (3 * form.wide() - form.size) * count(n, width);
    Needs {
        forward: all,
        backward: all,
        ..Needs::default()
    }
}

/// Bytes of a number of which slope and value are made together.
fn slopes(form: &Form, f: Activation) -> u64 {
    match f {
        // Both, and a byte that says whether it is above 0.
        Activation::Relu => 2 * form.size + 1,
        Activation::Silu => 4 * form.wide(),
        Activation::Gelu => 4 * form.wide(),
        Activation::GeluTanh => 7 * form.wide(),
    }
}

pub fn gated(form: &Form, n: usize, width: usize, f: Activation) -> Needs {
    let all = count(n, width);
    let value = match f {
        Activation::Relu => form.size + 1,
        Activation::Silu => form.size,
        _ => form.size + 2 * form.widened(),
    };
    Needs {
        forward: value * all,
        before: slopes(form, f) * all,
        backward: 2 * form.size * all,
    }
}

pub fn activation(form: &Form, n: usize, width: usize, f: Activation) -> Needs {
    let all = count(n, width);
    let value = match f {
        Activation::Relu => 1,
        _ => 2 * form.widened(),
    };
    Needs {
        forward: value * all,
        before: slopes(form, f) * all,
        backward: form.size * all,
    }
}

pub fn scale(form: &Form, n: usize, width: usize) -> Needs {
    let all = 2 * form.widened() * count(n, width);
    Needs {
        forward: all,
        backward: all,
        ..Needs::default()
    }
}

/// Queries of a block, of sequences of that length.
pub fn queries(length: usize) -> usize {
    match length {
        0..=512 => length,
        _ => (length / 4).next_multiple_of(64).clamp(256, 1024),
    }
}

/// Columns of queries and keys beside a head's numbers, where scores fall with distance: a slope's and a row's number's
/// parts, and both digits of positions.
fn fall(form: &Form, length: usize) -> usize {
    let parts = if form.size < 8 { 3 } else { 1 };
    let digits = if form.size < 8 && length > 512 { 2 } else { 1 };
    parts * (digits + 1)
}

/// A block of queries of some sequences and key heads at a time; those of like length are brought into
/// the products' order before, padded to the longest.
pub fn attention(
    form: &Form,
    [heads, kv_heads, head_dim]: [usize; 3],
    slopes: bool,
    rows: &Rows,
) -> Needs {
    let share = (heads / kv_heads.max(1)).max(1);
    let [sequences, length] = rows.alike.map(|count| count.max(1));
    let queries = queries(length).min(SCORES / (share * length)).max(1);
    let slice = (SCORES / (queries * share * length)).clamp(1, sequences * kv_heads);
    let scores = count(slice * queries * share, length);
    let (wide, widened) = (form.wide(), form.widened());
    // Of all, which results are kept of, and of those that are gone through at once.
    let found = form.size * count(rows.padded, (heads + 2 * kv_heads) * head_dim);
    let outs = form.size * count(rows.padded, heads * head_dim);
    let of_queries = count(sequences * length, heads * head_dim);
    let of_keys = count(sequences * length, kv_heads * head_dim);
    // With columns by which scores fall.
    let with_fall = if slopes {
        (head_dim + fall(form, length)).next_multiple_of(8)
    } else {
        head_dim
    };
    let columns = |numbers: u64, width: usize| numbers / head_dim.max(1) as u64 * width as u64;
    let (queries_fall, keys_fall) = (columns(of_queries, with_fall), columns(of_keys, with_fall));
    // Where 1/√d is no power of 2, in f32.
    let exact = head_dim.trailing_zeros() % 2 == 0 && head_dim.is_power_of_two();
    let scaling = if exact {
        form.size
    } else {
        form.size + 2 * widened
    };
    let parts = form.size * (queries_fall + keys_fall + of_keys);
    let operands = count(slice * length, (share + 1) * (with_fall + 8));
    let forward = parts
        + outs
        + (2 * form.size).max(form.size + widened) * scores
        + product(form, [operands, 0, scores]);
    let all = |width: usize| columns(of_queries, width) + columns(of_keys, width);
    let whole = all(with_fall + 8) + all(head_dim + 8);
    let inner = form.size * whole;
    // p, dP and dS; or two of them and a product.
    let of_scores =
        (3 * form.size * scores).max(2 * form.size * scores + product(form, [whole, 0, scores]));
    let backward = inner + found + of_scores + wide * 2 * of_keys;
    let pulls = (2 * widened + wide) * count(rows.n, heads * head_dim);
    Needs {
        forward: forward.max(parts + scaling * of_queries),
        before: backward
            .max(pulls)
            .max(parts + form.size * of_queries + inner),
        backward: found,
    }
}

/// A part of the vocabulary at a time.
pub fn token_log_probs(
    form: &Form,
    m: usize,
    [width, vocabulary]: [usize; 2],
    biased: bool,
) -> Needs {
    let (wide, widened, size) = (form.wide(), form.widened(), form.size);
    let each = LOGITS / m.max(1);
    let each = if each > 8 { each / 8 * 8 } else { each };
    let each = each.clamp(1, vocabulary.max(1));
    let (logits, hidden, head) = (count(m, each), count(m, width), count(vocabulary, width));
    // With columns, and zeros up to a multiple of 8.
    let shifted = count(m, width + 8);
    let with_ones = count(each, width + 8);
    let of_bias = if biased {
        2 * form.wide() * vocabulary as u64
    } else {
        0
    };
    let make = size * (with_ones + logits) + product(form, [shifted, with_ones, logits]);
    let of_targets = (size + 2 * wide + widened) * hidden.min(LOGITS as u64);
    let pass = (size + widened + 2 * wide) * logits;
    // minus_h, and dh so far.
    let base = (size + wide) * hidden;
    let of_hidden = size * hidden + product(form, [logits, head, hidden]);
    let part = count(each, width);
    let of_head = size * part + product(form, [logits, hidden, part]);
    let backward = [
        make,
        2 * size * logits,
        size * logits + of_hidden,
        size * logits + 2 * wide * hidden,
        size * logits + of_head,
    ];
    let most = backward.into_iter().max().unwrap_or(0);
    Needs {
        forward: of_targets.max(size * shifted + pass.max(make)) + of_bias,
        before: size * shifted + base + most + of_bias,
        backward: size * shifted + base,
    }
}

/// AdamW of so many numbers, in pieces: seven tensors in f32.
pub fn adamw(form: &Form, numbers: u64) -> u64 {
    6 * form.wide() * numbers.min(PIECE)
}

/// The sum of squares, in pieces.
pub fn norm_of_gradient(form: &Form, numbers: u64) -> u64 {
    (form.wide() + form.widened()) * numbers.min(PIECE)
}
