//! Rows of a table or of an activation.

pub(super) mod composed;
mod cpu;
pub(super) mod plain;

use std::rc::Rc;

use candle_core::Tensor;

use super::kernel::on_cpu;
use super::needs::count;
use super::{Bound, Case, Cost, Entry, Form, How, Input, Memory, Needs, Operation, Shapes};
use crate::error::Result;
use crate::llm::tensor::tape::{Node, Tape};

/// The rows of `table` with those indices: `[V, D]` → `[N, D]`.
///
/// # Errors
/// An index that is not a row.
pub fn embedding(tape: &Tape, table: &Node, ids: &Rc<[u32]>) -> Result<Node> {
    rows(tape, table, ids)
}

/// Some rows of an activation: `[N, D]` → `[M, D]`.
///
/// # Errors
/// An index that is not a row.
pub fn rows(tape: &Tape, x: &Node, rows: &Rc<[u32]>) -> Result<Node> {
    on_cpu!(x, cpu::rows, composed::rows, (tape, x, rows))
}

pub(super) const ENTRY: Entry = Entry {
    folder: "rows",
    functions: &["embedding", "rows"],
    cases,
};

/// Its shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Whether it is [`embedding`].
    pub table: bool,
    /// V or N
    pub height: usize,
    /// D
    pub width: usize,
    /// Which rows.
    pub picks: Rc<[u32]>,
}

fn cases(shapes: &Shapes) -> Vec<Case> {
    let case = |table, height, picks: &Rc<[u32]>| {
        Rc::new(Call {
            table,
            height,
            width: shapes.width,
            picks: picks.clone(),
        })
    };
    vec![
        ("embedding, ids repeated", case(true, 40, &shapes.repeated)),
        ("rows", case(false, 170, &shapes.picks)),
    ]
}

impl Call {
    /// How often the most frequent row is there.
    fn most(&self) -> usize {
        let mut sorted = self.picks.to_vec();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|a, b| a == b).map(<[u32]>::len);
        runs.max().unwrap_or(0)
    }
}

impl Operation for Call {
    fn function(&self) -> &'static str {
        if self.table { "embedding" } else { "rows" }
    }

    fn inputs(&self) -> Vec<Input> {
        let name = if self.table { "table" } else { "x" };
        vec![Input::new(name, &[self.height, self.width], 1.0)]
    }

    fn output(&self) -> Vec<usize> {
        vec![self.picks.len(), self.width]
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        if self.table {
            embedding(tape, &x[0], &self.picks)
        } else {
            rows(tape, &x[0], &self.picks)
        }
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        plain::rows(tape, &x[0], &self.picks)
    }

    fn cost(&self) -> [Cost; 2] {
        let n = self.picks.len() * self.width;
        [
            Cost::new(0, 2 * n),
            Cost::new(0, n + self.height * self.width),
        ]
    }

    /// Copies are exact; the gradient of a row is the sum over its copies.
    fn bounds(&self) -> Vec<Bound> {
        vec![
            Bound::new(0, 0, &[], 0),
            Bound::new(1, 0, &[self.most()], 0),
        ]
    }

    fn memory(&self, form: &Form, _: &[bool]) -> Memory {
        memory(form, self.most() > 1, [self.picks.len(), self.width])
    }
}

/// Memory of so many rows of that width, repeated or not.
pub fn memory(form: &Form, repeated: bool, [m, width]: [usize; 2]) -> Memory {
    let (how, needs) = if form.fused {
        (How::InPlace, Needs::default())
    } else {
        // Rows of one index are added in pairs, in f32.
        let each = if repeated {
            form.widened() + 3 * form.wide()
        } else {
            0
        };
        let needs = Needs {
            before: each * count(m, width),
            ..Needs::default()
        };
        (How::Fresh, needs)
    };
    Memory {
        out: form.of(m, width),
        gradients: vec![(0, how)],
        needs,
        ..Memory::default()
    }
}
