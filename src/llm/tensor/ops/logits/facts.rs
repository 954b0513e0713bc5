//! What the facts of operations on logits have in common.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::rc::Rc;

use candle_core::Tensor;

use super::Teacher;
use super::composed::rows_of_a_part;
use super::cpu::{KEPT, each_chunk};
use crate::error::Result;
use crate::llm::tensor::ops::needs::count;
use crate::llm::tensor::ops::{
    Bound, Case, Cost, Form, How, Input, Memory, Needs, Operation, Shapes, linear,
};
use crate::llm::tensor::tape::{Node, Tape};

/// Shapes of logits.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// M
    pub rows: usize,
    /// D
    pub width: usize,
    /// V
    pub vocabulary: usize,
}

/// Shapes of the logits of a student and a teacher.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// M
    pub rows: usize,
    /// D of each.
    pub widths: [usize; 2],
    /// V
    pub vocabulary: usize,
    /// Whether each has a b.
    pub bias: bool,
}

/// Inputs whose logits have about that deviation.
pub fn inputs(
    [hidden, head, bias]: [&'static str; 3],
    of: Sizes,
    with_bias: bool,
    deviation: f64,
) -> Vec<Input> {
    let root = (of.width as f64).sqrt().recip();
    let mut list = vec![
        Input::new(hidden, &[of.rows, of.width], 1.0),
        Input::new(head, &[of.vocabulary, of.width], deviation * root),
    ];
    list.extend(with_bias.then(|| Input::new(bias, &[of.vocabulary], deviation)));
    list
}

impl Sizes {
    /// Memory of the kernels, on so many logits at a time, beside which lie as many others' of so many `sides`.
    pub fn fused(self, form: &Form, wanted: &[bool], chunk: usize, sides: u64) -> (u64, Needs) {
        let (m, vocabulary) = (self.rows, self.vocabulary);
        let each = each_chunk(chunk, vocabulary).min(m.max(1));
        let mut needs = linear::products(form, each, [self.width, vocabulary], [wanted[1], false]);
        let of_chunk = form.of(each, vocabulary);
        if wanted.contains(&true) && m * vocabulary <= KEPT {
            needs.forward += sides * of_chunk;
            return (form.of(m, vocabulary), needs);
        }
        needs.forward += (1 + sides) * of_chunk;
        needs.backward += (1 + sides) * of_chunk;
        (0, needs)
    }

    /// Memory of what is composed, on so many logits at a time.
    pub fn composed(self, form: &Form, bias: bool, most: usize) -> Needs {
        let (m, width, vocabulary) = (self.rows, self.width, self.vocabulary);
        let of_bias = if bias {
            2 * form.wide() * vocabulary as u64
        } else {
            0
        };
        let (wide, widened, size) = (form.wide(), form.widened(), form.size);
        let each = rows_of_a_part(m, vocabulary, most);
        let (logits, hidden, head) = (count(m, each), count(m, width), count(vocabulary, width));
        // With columns, and zeros up to a multiple of 8.
        let shifted = count(m, width + 8);
        let with_ones = count(each, width + 8);
        let make = size * (with_ones + logits) + form.product([shifted, with_ones, logits]);
        let of_targets = (size + 2 * wide + widened) * hidden.min(most as u64);
        let pass = (size + widened + 2 * wide) * logits;
        // minus_h, and dh so far.
        let base = (size + wide) * hidden;
        let of_hidden = size * hidden + form.product([logits, head, hidden]);
        let part = count(each, width);
        let of_head = size * part + form.product([logits, hidden, part]);
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
}

/// Memory of a number made of each row of logits.
pub fn memory(form: &Form, rows: usize, bias: bool, statistics: u64, needs: Needs) -> Memory {
    let of_bias = if form.fused { How::InPlace } else { How::Fresh };
    let mut gradients = vec![(1, How::InPlace)];
    gradients.extend(bias.then_some((2, of_bias)));
    gradients.push((0, How::Fresh));
    Memory {
        out: form.statistics(rows, 1),
        gradients,
        together: form.fused,
        keeps: vec![0],
        statistics,
        needs,
        ..Memory::default()
    }
}

impl Compared {
    fn sizes(&self, width: usize) -> Sizes {
        Sizes {
            rows: self.rows,
            width,
            vocabulary: self.vocabulary,
        }
    }

    /// The student's, by which it is differentiated, before the teacher's.
    pub fn inputs(&self) -> Vec<Input> {
        let [ours, theirs] = self.widths.map(|width| self.sizes(width));
        let mut list = inputs(["hidden", "head", "bias"], ours, self.bias, 1.0);
        let names = ["teacher's hidden", "teacher's head", "teacher's bias"];
        let constants = inputs(names, theirs, self.bias, 1.0);
        list.extend(constants.into_iter().map(Input::constant));
        list
    }

    /// The student's bias, and the teacher, of all inputs.
    pub fn split<'a>(&self, x: &'a [Node]) -> (Option<&'a Node>, Teacher) {
        let (student, teacher) = x.split_at(2 + usize::from(self.bias));
        let teacher = Teacher {
            hidden: teacher[0].value().clone(),
            head: teacher[1].value().clone(),
            bias: teacher.get(2).map(|bias| bias.value().clone()),
        };
        (student.get(2), teacher)
    }

    /// The least cost: the teacher's logits, too, have to be made.
    pub fn cost(&self) -> [Cost; 2] {
        let Self {
            rows: m,
            widths: [ours, theirs],
            vocabulary,
            bias,
        } = *self;
        let numbers = |width| (m + vocabulary) * width + if bias { vocabulary } else { 0 };
        let product = |width| 2 * m * width * vocabulary;
        let (own, all) = (numbers(ours), numbers(ours) + numbers(theirs));
        [
            Cost::new(product(ours) + product(theirs), all + m),
            Cost::new(2 * product(ours), all + own + m),
        ]
    }

    /// Memory of both's logits, so many of the student's at a time in each form; those of the teacher lie beside them
    /// if both are needed at once.
    pub fn memory(
        &self,
        form: &Form,
        wanted: &[bool],
        [chunk, part]: [usize; 2],
        both: bool,
    ) -> Memory {
        let [ours, theirs] = self.widths.map(|width| self.sizes(width));
        let (statistics, needs) = if form.fused {
            let (kept, needs) = ours.fused(form, wanted, chunk, u64::from(both));
            (kept + form.of(self.rows, 1), needs)
        } else {
            let mut needs = ours.composed(form, self.bias, part);
            let beside = theirs.composed(form, self.bias, part);
            needs.forward += beside.forward;
            needs.before += beside.forward;
            needs.backward += form.size * count(self.rows, theirs.width + 8);
            (form.statistics(self.rows, 4), needs)
        };
        memory(form, self.rows, self.bias, statistics, needs)
    }
}

/// Comparison of a student's logits with a teacher's: what the operations differ in.
pub trait Comparison: Copy + Debug + PartialEq + 'static {
    /// The function's name.
    const FUNCTION: &'static str;
    /// Names of its cases: without a bias, and with one in chunks.
    const CASES: [&'static str; 2];
    /// Most logits at a time, by the kernels and composed.
    const LIMITS: [usize; 2];
    /// True if the teacher's lie beside the student's.
    const BOTH: bool;

    /// The operation as models call it.
    ///
    /// # Errors
    /// Those of the operation.
    fn run(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node>;

    /// Its twin of candle's operations.
    ///
    /// # Errors
    /// Those of candle.
    fn twin(tape: &Tape, x: [&Node; 2], bias: Option<&Node>, teacher: &Teacher) -> Result<Node>;

    /// Error bounds of the value and of each gradient.
    fn bounds(of: &Compared) -> Vec<Bound>;
}

/// A comparison on given shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Call<C>(pub Compared, PhantomData<C>);

impl<C: Comparison> Call<C> {
    /// Every choice.
    pub fn cases(shapes: &Shapes) -> Vec<Case> {
        let case = |rows, widths, vocabulary, bias| -> Rc<dyn Operation> {
            let of = Compared {
                rows,
                widths,
                vocabulary,
                bias,
            };
            Rc::new(Self(of, PhantomData))
        };
        let [plain, biased] = C::CASES;
        vec![
            (plain, case(37, [shapes.width, 51], 997, false)),
            (biased, case(640, [48, 40], 8000, true)),
        ]
    }
}

impl<C: Comparison> Operation for Call<C> {
    fn function(&self) -> &'static str {
        C::FUNCTION
    }

    fn inputs(&self) -> Vec<Input> {
        self.0.inputs()
    }

    fn output(&self) -> Vec<usize> {
        vec![self.0.rows]
    }

    fn gives_wide(&self) -> bool {
        true
    }

    fn run(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, teacher) = self.0.split(x);
        C::run(tape, [&x[0], &x[1]], bias, &teacher)
    }

    fn twin(&self, tape: &Tape, x: &[Node], _: &[Tensor]) -> Result<Node> {
        let (bias, teacher) = self.0.split(x);
        C::twin(tape, [&x[0], &x[1]], bias, &teacher)
    }

    fn cost(&self) -> [Cost; 2] {
        self.0.cost()
    }

    fn bounds(&self) -> Vec<Bound> {
        C::bounds(&self.0)
    }

    fn memory(&self, form: &Form, wanted: &[bool]) -> Memory {
        self.0.memory(form, wanted, C::LIMITS, C::BOTH)
    }
}
