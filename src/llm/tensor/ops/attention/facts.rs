//! Facts of attention.

use std::rc::Rc;

use candle_core::Tensor;

use super::composed::fall::Fall;
use super::cpu::{Block, narrow};
use super::groups::{SCORES, alike, block, queries};
use super::{Attention, attention, plain};
use crate::error::Result;
use crate::llm::tensor::ops::needs::count;
use crate::llm::tensor::ops::{
    Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes, Starts,
};
use crate::llm::tensor::tape::{Node, Tape};

pub const ENTRY: Entry = Entry {
    folder: "attention",
    functions: &["attention"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Heads, their width, the window, slopes.
    pub form: Attention,
    /// Sequences.
    pub starts: Starts,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let form = |heads, kv_heads, head_dim: usize, window| Attention {
        heads,
        kv_heads,
        head_dim,
        scale: (head_dim as f64).sqrt().recip(),
        window,
        slopes: None,
    };
    // As ALiBi has them: powers of 2^(−8/heads).
    let sloped = |form: Attention| {
        let each = -8.0 / form.heads as f64;
        let slopes = (1..=form.heads).map(|head| (each * head as f64).exp2());
        let slopes = Some(slopes.collect());
        Attention { slopes, ..form }
    };
    let of = |starts: &Starts, form| {
        let starts = starts.clone();
        Rc::new(Call { form, starts })
    };
    let case = |form| of(&shapes.starts, form);
    vec![
        ("attention", case(form(4, 4, 32, None))),
        ("attention, grouped heads", case(form(8, 2, 64, None))),
        ("attention, narrow heads", case(form(8, 2, 8, None))),
        (
            "attention, narrow heads, slopes, window",
            case(sloped(form(6, 3, 8, Some(21)))),
        ),
        ("attention, window", case(form(6, 3, 16, Some(37)))),
        ("attention, slopes", case(sloped(form(6, 6, 32, None)))),
        (
            "attention, slopes, grouped heads, window",
            case(sloped(form(6, 2, 24, Some(51)))),
        ),
        (
            "attention, shared prompts, grouped heads",
            of(&shapes.shared, form(8, 2, 64, None)),
        ),
        (
            "attention, shared prompts, narrow heads, slopes, window",
            of(&shapes.shared, sloped(form(6, 3, 8, Some(45)))),
        ),
    ]
}

impl Call {
    /// Pairs of a query and a key that it sees.
    fn pairs(&self) -> usize {
        let seen = |i: usize| self.form.window.map_or(i + 1, |w| w.min(i + 1));
        (self.starts.spans())
            .flat_map(|span| span.prefix.len()..span.length())
            .map(seen)
            .sum()
    }

    /// Of the kernels. A task has a key head of a sequence: its keys and values, as rows and as columns, and a block of
    /// scores; in the backward their gradients and two blocks. Of a narrow head it has keys and values as rows, and the
    /// scores of a tile; in the backward also two numbers of each of its queries. Gradients of prefixes are there for
    /// each piece that goes on.
    fn fused(&self, form: &Form) -> Needs {
        let Attention {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.form;
        let longest = self.starts.longest();
        let (pieces, prefixes) = (
            self.starts.filled().count(),
            self.starts.filled().map(|span| span.prefix.len()).sum(),
        );
        let tasks = form.machine.threads.min(kv_heads * pieces) as u64;
        let head = form.of(longest, head_dim);
        let scores = form.of(Block::size(longest), longest);
        let tile = form.of(longest, narrow::LANES);
        let numbers = form.of(
            longest.next_multiple_of(narrow::LANES),
            heads / kv_heads.max(1),
        );
        let forward = if narrow::forward::suits(head_dim) {
            2 * head + tile
        } else {
            4 * head + scores
        };
        let backward = if narrow::backward::suits(head_dim) {
            4 * head + tile + 2 * numbers
        } else {
            6 * head + 2 * scores
        };
        Needs {
            forward: tasks * forward,
            backward: tasks * backward + 2 * form.of(prefixes, kv_heads * head_dim),
            ..Needs::default()
        }
    }

    /// Composed. A block of queries of some sequences and key heads at a time; those of like length are brought into
    /// the products' order before, padded to the longest. `groups` are numbers of sequences and the tokens of their
    /// longest, of `padded` tokens in all.
    fn composed(&self, form: &Form, groups: &[[usize; 2]], padded: usize) -> Needs {
        let Attention {
            heads,
            kv_heads,
            head_dim,
            ref slopes,
            ..
        } = self.form;
        let share = (heads / kv_heads.max(1)).max(1);
        let most = |&[sequences, length]: &[usize; 2]| sequences * length * block(length);
        let largest = groups.iter().copied().max_by_key(|group| most(group));
        let [sequences, length] = largest.unwrap_or([1, 1]);
        let queries = queries(length, share, SCORES);
        let slice = (SCORES / (queries * share * length)).clamp(1, sequences * kv_heads);
        let scores = count(slice * queries * share, length);
        let (wide, widened) = (form.wide(), form.widened());
        // Of all, which results are kept of, and of those that are gone through at once.
        let found = form.size * count(padded, (heads + 2 * kv_heads) * head_dim);
        let outs = form.size * count(padded, heads * head_dim);
        let of_queries = count(sequences * length, heads * head_dim);
        let of_keys = count(sequences * length, kv_heads * head_dim);
        // With columns by which scores fall.
        let with_fall = match slopes {
            Some(_) => (head_dim + Fall::columns(length, form.size)).next_multiple_of(8),
            None => head_dim,
        };
        let columns = |numbers: u64, width: usize| numbers / head_dim.max(1) as u64 * width as u64;
        let (queries_fall, keys_fall) =
            (columns(of_queries, with_fall), columns(of_keys, with_fall));
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
            + form.product([operands, 0, scores]);
        let all = |width: usize| columns(of_queries, width) + columns(of_keys, width);
        let whole = all(with_fall + 8) + all(head_dim + 8);
        let inner = form.size * whole;
        // p, dP and dS; or two of them and a product.
        let of_scores =
            (3 * form.size * scores).max(2 * form.size * scores + form.product([whole, 0, scores]));
        // Where keys are of several sequences, their gradients are added up, keys' and then values'.
        let sums = if self.starts.branches() {
            (form.size + widened + 3 * wide) * count(padded, kv_heads * head_dim)
        } else {
            0
        };
        let backward = inner + found + of_scores.max(sums) + wide * 2 * of_keys;
        let pulls = (2 * widened + wide) * count(self.starts.tokens(), heads * head_dim);
        Needs {
            forward: forward.max(parts + scaling * of_queries),
            before: backward
                .max(pulls)
                .max(parts + form.size * of_queries + inner),
            backward: found,
        }
    }
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "attention"
    }

    fn inputs(&self) -> Vec<Input> {
        let n = self.starts.tokens();
        let kv = [n, self.form.kv_heads * self.form.head_dim];
        vec![
            Input::new("q", &self.output(), 1.0),
            Input::new("k", &kv, 1.0),
            Input::new("v", &kv, 1.0),
        ]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.starts.tokens(), self.form.heads * self.form.head_dim]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        attention(tape, [&x[0], &x[1], &x[2]], &self.form, &self.starts)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::attention(tape, [&x[0], &x[1], &x[2]], &self.form, &self.starts)
    }

    fn cost(&self) -> [Cost; 2] {
        let (form, n) = (&self.form, self.starts.tokens());
        let (q, kv) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
        let product = 2 * q * self.pairs();
        [
            Cost::new(2 * product, n * (2 * q + 2 * kv)),
            Cost::new(4 * product, n * (4 * q + 4 * kv)),
        ]
    }

    /// The exponentials' exponents are of the order of 1, so that an absolute error of an exponent is a relative one of
    /// its exponential; scores that are rounded to what is stored count twice, since under their own softmax the mean
    /// square of unit-normal scores is 2.
    fn bounds(&self) -> Vec<Bound> {
        let (form, new) = (&self.form, Bound::new);
        let longest = self.starts.longest();
        let seen = form.window.map_or(longest, |w| w.min(longest));
        // The queries that see a key: of a prefix, those of all that go on from it.
        let seeing = if self.starts.branches() {
            self.starts.tokens()
        } else {
            seen
        };
        let shared = seeing * form.heads / form.kv_heads.max(1);
        let d = form.head_dim;
        // Of scores that fall with distance, the sum may pass through the fall from the middle, and be
        // rounded before and after.
        let slopes = form.slopes.iter().flat_map(|slopes| slopes.iter());
        let steepest = slopes.fold(0.0, |most: f64, slope| most.max(slope.abs()));
        let fall = (steepest * longest as f64).ceil() as usize;
        // Scores (2), probabilities, output; back also dP, dS and the output's own
        // rounding in Σ dO ∘ O.
        vec![
            new(4, 10 + fall, &[d, seen, seen], 3),
            new(7, 20 + fall, &[d, seen, d, seen], 5),
            new(7, 20 + fall, &[d, seen, d, shared], 5),
            new(4, 10 + fall, &[d, seen, shared], 3),
        ]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let (n, heads) = (self.starts.tokens(), self.form.heads);
        let (rows, needs) = if form.fused {
            (n, self.fused(form))
        } else {
            let groups = alike(&self.starts)
                .into_iter()
                .map(|group| [group.len(), group[0].span.length()]);
            let groups: Vec<[usize; 2]> = groups.collect();
            let padded = groups.iter().map(|[sequences, length]| sequences * length);
            let padded = padded.sum();
            (padded, self.composed(form, &groups, padded))
        };
        Memory {
            out: form.of(n, heads * self.form.head_dim),
            gradients: (0..3).map(|input| (input, How::Fresh)).collect(),
            together: true,
            keeps: vec![0, 1, 2],
            keeps_output: true,
            statistics: form.statistics(rows, heads),
            needs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_sees_half_of_a_square_and_its_diagonal() {
        let call = |window| Call {
            form: Attention {
                heads: 4,
                kv_heads: 2,
                head_dim: 8,
                scale: 1.0,
                window,
                slopes: None,
            },
            starts: Starts::from(vec![0, 1, 11]),
        };
        assert_eq!(call(None).pairs(), 1 + 55);
        assert_eq!(call(Some(1)).pairs(), 11);
        assert_eq!(call(Some(3)).pairs(), 1 + 1 + 2 + 8 * 3);
        // Two products of 2 · 32 operations a pair; back four of them.
        let [forward, backward] = call(None).cost();
        assert_eq!(forward.flops, (2 * 2 * 32 * 56) as f64);
        assert_eq!(backward.flops, 2.0 * forward.flops);
        assert_eq!(forward.numbers, (11 * (32 + 16 + 16 + 32)) as f64);
    }
}
