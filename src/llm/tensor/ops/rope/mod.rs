//! Rotary position embedding.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;
pub(super) mod turns;

use std::f64::consts::PI;
use std::rc::Rc;

use candle_core::{Device, Tensor};

use super::kernel::on_cpu;
use super::needs::count;
use super::{
    Bound, Case, Constant, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes, Starts,
};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// Cosines and sines of rotary position embedding, `[T, R/2]` each, in the order of positions: the first R ≤ D numbers
/// of each head are turned, the rest pass as they are.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Cosines.
    pub cos: Tensor,
    /// Sines.
    pub sin: Tensor,
    /// True if neighbours `(x₂ᵢ, x₂ᵢ₊₁)` are turned together (GPT-J), false if `(xᵢ, xᵢ₊R/2)` are (Hugging Face's Llama).
    pub interleaved: bool,
}

/// Rotary position embedding of `[N, heads · D]`: every pair `(a, b)` of a head that the table turns becomes
/// `(a cos − b sin, b cos + a sin)`. A token's position is its index in its sequence.
///
/// # Errors
/// A sequence longer than the table, or a head narrower.
pub fn rope(tape: &Tape, x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<Node> {
    on_cpu!(
        x,
        cpu::rope,
        composed::rope,
        (tape, x, heads, table, starts)
    )
}

pub(super) const ENTRY: Entry = Entry {
    folder: "rope",
    functions: &["rope"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Numbers of each head that are turned.
    pub turned: usize,
    /// Whether neighbours are turned together.
    pub interleaved: bool,
    /// Sequences.
    pub starts: Starts,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let of = |starts: &Starts, turned, interleaved| {
        Rc::new(Call {
            heads: 3,
            head_dim: 16,
            turned,
            interleaved,
            starts: starts.clone(),
        })
    };
    let case = |turned, interleaved| of(&shapes.starts, turned, interleaved);
    vec![
        ("rope", case(16, false)),
        ("rope, part of a head", case(10, false)),
        ("rope, interleaved", case(16, true)),
        ("rope, part of a head interleaved", case(12, true)),
        ("rope, shared prompts", of(&shapes.shared, 16, false)),
    ]
}

impl Call {
    fn table(&self, constants: &[Tensor]) -> Rope {
        Rope {
            cos: constants[0].clone(),
            sin: constants[1].clone(),
            interleaved: self.interleaved,
        }
    }
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        "rope"
    }

    fn inputs(&self) -> Vec<Input> {
        vec![Input::new("x", &self.output(), 1.0)]
    }

    /// Cosines and sines; wide, as decoders have them.
    fn constants(&self) -> Result<Vec<Constant>> {
        let (longest, half) = (self.starts.longest(), self.turned / 2);
        let part = |f: fn(f64) -> f64| -> Result<Constant> {
            let angle = |t: usize, i: usize| t as f64 * 1e4f64.powf(-(i as f64) / half as f64);
            let numbers: Vec<f64> = (0..longest)
                .flat_map(|t| (0..half).map(move |i| f(angle(t, i) % (2.0 * PI))))
                .collect();
            Ok(Constant {
                tensor: Tensor::from_vec(numbers, (longest, half), &Device::Cpu)?,
                wide: true,
            })
        };
        Ok(vec![part(f64::cos)?, part(f64::sin)?])
    }

    fn output(&self) -> Vec<usize> {
        vec![self.starts.tokens(), self.heads * self.head_dim]
    }

    fn run(&self, tape: &Tape, x: &[Node], constants: &[Tensor]) -> Result<Node> {
        rope(
            tape,
            &x[0],
            self.heads,
            &self.table(constants),
            &self.starts,
        )
    }

    fn twin(&self, tape: &Tape, x: &[Node], constants: &[Tensor]) -> Result<Node> {
        plain::rope(
            tape,
            &x[0],
            self.heads,
            &self.table(constants),
            &self.starts,
        )
    }

    fn cost(&self) -> [Cost; 2] {
        [Cost::new(0, 2 * self.starts.tokens() * self.heads * self.head_dim); 2]
    }

    fn bounds(&self) -> Vec<Bound> {
        vec![Bound::new(1, 3, &[], 0); 2]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        let (n, width) = (self.starts.tokens(), self.heads * self.head_dim);
        let all = if form.fused {
            // Positions.
            4 * n as u64
        } else {
            // Both halves' products and what they are made of, less the result.
            (3 * form.wide() - form.size) * count(n, width)
        };
        Memory {
            out: form.of(n, width),
            gradients: vec![(0, How::Fresh)],
            needs: Needs {
                forward: all,
                backward: all,
                ..Needs::default()
            },
            ..Memory::default()
        }
    }
}
