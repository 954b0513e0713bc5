//! An operation on given shapes: what is checked, bounded, costed and timed.

use std::f64::consts::PI;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::llm::tensor::ops::{self, Activation, Attention, Rope, Starts, Teacher, plain};
use crate::llm::tensor::tape::{Node, Tape};

/// An operation of `ops` on given shapes.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// [`ops::linear`]
    Linear {
        /// N
        rows: usize,
        /// I
        inputs: usize,
        /// O
        outputs: usize,
        /// Whether there is a b.
        bias: bool,
    },
    /// [`ops::embedding`]
    Embedding {
        /// V
        vocabulary: usize,
        /// D
        width: usize,
        /// Rows of the table.
        ids: Rc<[u32]>,
    },
    /// [`ops::rows`]
    Rows {
        /// N
        rows: usize,
        /// D
        width: usize,
        /// Which rows.
        picks: Rc<[u32]>,
    },
    /// `ops::rms_norm`
    RmsNorm {
        /// N
        rows: usize,
        /// Runs of each row.
        runs: usize,
        /// D
        width: usize,
        /// What is added to weights.
        offset: f64,
    },
    /// `ops::layer_norm`
    LayerNorm {
        /// N
        rows: usize,
        /// Runs of each row.
        runs: usize,
        /// D
        width: usize,
    },
    /// [`ops::rope`]
    Rope {
        /// Heads.
        heads: usize,
        /// Width of a head.
        head_dim: usize,
        /// Numbers of each head that are turned.
        turned: usize,
        /// Whether neighbours are turned together.
        interleaved: bool,
        /// Sequences.
        starts: Starts,
    },
    /// [`ops::attention`]
    Attention {
        /// Heads, their width, the window.
        form: Attention,
        /// Sequences.
        starts: Starts,
    },
    /// [`ops::gated`]
    Gated {
        /// N
        rows: usize,
        /// D
        width: usize,
        /// The nonlinearity.
        f: Activation,
    },
    /// [`ops::activation`]
    Activation {
        /// N
        rows: usize,
        /// D
        width: usize,
        /// The nonlinearity.
        f: Activation,
    },
    /// [`ops::add`]
    Add {
        /// N
        rows: usize,
        /// D
        width: usize,
    },
    /// [`ops::scale`]
    Scale {
        /// N
        rows: usize,
        /// D
        width: usize,
        /// What is multiplied by.
        factor: f64,
    },
    /// `ops::token_log_probs`
    TokenLogProbs {
        /// D
        width: usize,
        /// V
        vocabulary: usize,
        /// Whether there is a b.
        bias: bool,
        /// The token at each of M rows.
        targets: Rc<[u32]>,
        /// τ
        temperature: f64,
    },
    /// `ops::cross_entropy`
    CrossEntropy(Compared),
    /// `ops::logit_difference`
    LogitDifference(Compared),
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

/// ε of norms.
const EPSILON: f64 = 1e-5;

/// A tensor that an operation is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Its name in messages.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Standard deviation of its random numbers: such that the output's is about 1.
    pub deviation: f64,
    /// Whether the operation is differentiated by it.
    pub trained: bool,
}

impl Call {
    /// Name of the function in [`ops`].
    pub fn function(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::Embedding { .. } => "embedding",
            Self::Rows { .. } => "rows",
            Self::RmsNorm { .. } => "rms_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Rope { .. } => "rope",
            Self::Attention { .. } => "attention",
            Self::Gated { .. } => "gated",
            Self::Activation { .. } => "activation",
            Self::Add { .. } => "add",
            Self::Scale { .. } => "scale",
            Self::TokenLogProbs { .. } => "token_log_probs",
            Self::CrossEntropy(_) => "cross_entropy",
            Self::LogitDifference(_) => "logit_difference",
        }
    }

    /// Inputs, in the order of its arguments: those that it is differentiated by before the constants.
    pub fn inputs(&self) -> Vec<Input> {
        let input = |name, shape: &[usize], deviation: f64| Input {
            name,
            shape: shape.to_vec(),
            deviation,
            trained: true,
        };
        let root = |width: usize| (width as f64).sqrt().recip();
        match *self {
            Self::Linear {
                rows,
                inputs,
                outputs,
                bias,
            } => {
                let mut list = vec![
                    input("x", &[rows, inputs], 1.0),
                    input("weight", &[outputs, inputs], root(inputs)),
                ];
                list.extend(bias.then(|| input("bias", &[outputs], 1.0)));
                list
            }
            Self::Embedding {
                vocabulary, width, ..
            } => vec![input("table", &[vocabulary, width], 1.0)],
            Self::Rows { rows, width, .. } => vec![input("x", &[rows, width], 1.0)],
            Self::RmsNorm {
                rows, runs, width, ..
            } => vec![
                input("x", &[rows, runs * width], 1.0),
                input("weight", &[width], 1.0),
            ],
            Self::LayerNorm { rows, runs, width } => vec![
                input("x", &[rows, runs * width], 1.0),
                input("weight", &[width], 1.0),
                input("bias", &[width], 1.0),
            ],
            Self::Rope {
                heads,
                head_dim,
                ref starts,
                ..
            } => vec![input("x", &[tokens(starts), heads * head_dim], 1.0)],
            Self::Attention {
                ref form,
                ref starts,
            } => {
                let n = tokens(starts);
                let kv = [n, form.kv_heads * form.head_dim];
                vec![
                    input("q", &[n, form.heads * form.head_dim], 1.0),
                    input("k", &kv, 1.0),
                    input("v", &kv, 1.0),
                ]
            }
            Self::Gated { rows, width, .. } => vec![
                input("gate", &[rows, width], 1.0),
                input("up", &[rows, width], 1.0),
            ],
            Self::Activation { rows, width, .. } | Self::Scale { rows, width, .. } => {
                vec![input("x", &[rows, width], 1.0)]
            }
            Self::Add { rows, width } => {
                vec![
                    input("a", &[rows, width], 1.0),
                    input("b", &[rows, width], 1.0),
                ]
            }
            Self::TokenLogProbs {
                width,
                vocabulary,
                bias,
                ref targets,
                temperature,
            } => {
                let mut list = vec![
                    input("hidden", &[targets.len(), width], 1.0),
                    input("head", &[vocabulary, width], temperature * root(width)),
                ];
                list.extend(bias.then(|| input("bias", &[vocabulary], temperature)));
                list
            }
            Self::CrossEntropy(of) | Self::LogitDifference(of) => {
                let logits = |[hidden, head, bias]: [&'static str; 3], width| {
                    let mut list = vec![
                        input(hidden, &[of.rows, width], 1.0),
                        input(head, &[of.vocabulary, width], root(width)),
                    ];
                    list.extend(of.bias.then(|| input(bias, &[of.vocabulary], 1.0)));
                    list
                };
                let mut list = logits(["hidden", "head", "bias"], of.widths[0]);
                let names = ["teacher's hidden", "teacher's head", "teacher's bias"];
                let constant = |input| Input {
                    trained: false,
                    ..input
                };
                list.extend(logits(names, of.widths[1]).into_iter().map(constant));
                list
            }
        }
    }

    /// The output's shape.
    pub fn output(&self) -> Vec<usize> {
        match *self {
            Self::Linear { rows, outputs, .. } => vec![rows, outputs],
            Self::Embedding { width, ref ids, .. } => vec![ids.len(), width],
            Self::Rows {
                width, ref picks, ..
            } => vec![picks.len(), width],
            Self::RmsNorm {
                rows, runs, width, ..
            }
            | Self::LayerNorm { rows, runs, width } => vec![rows, runs * width],
            Self::Gated { rows, width, .. }
            | Self::Activation { rows, width, .. }
            | Self::Add { rows, width }
            | Self::Scale { rows, width, .. } => vec![rows, width],
            Self::Rope {
                heads,
                head_dim,
                ref starts,
                ..
            } => vec![tokens(starts), heads * head_dim],
            Self::Attention {
                ref form,
                ref starts,
            } => vec![tokens(starts), form.heads * form.head_dim],
            Self::TokenLogProbs { ref targets, .. } => vec![targets.len()],
            Self::CrossEntropy(of) | Self::LogitDifference(of) => vec![of.rows],
        }
    }

    /// Cosines and sines, if it needs them, in f64 on the CPU.
    ///
    /// # Errors
    /// A failing device.
    pub fn table(&self) -> Result<Option<Rope>> {
        let Self::Rope {
            turned,
            interleaved,
            starts,
            ..
        } = self
        else {
            return Ok(None);
        };
        let longest = (starts.windows(2).map(|w| w[1] - w[0])).max().unwrap_or(0);
        let half = turned / 2;
        let part = |f: fn(f64) -> f64| -> Result<Tensor> {
            let angle = |t: usize, i: usize| t as f64 * 1e4f64.powf(-(i as f64) / half as f64);
            let numbers: Vec<f64> = (0..longest)
                .flat_map(|t| (0..half).map(move |i| f(angle(t, i) % (2.0 * PI))))
                .collect();
            Ok(Tensor::from_vec(numbers, (longest, half), &Device::Cpu)?)
        };
        Ok(Some(Rope {
            cos: part(f64::cos)?,
            sin: part(f64::sin)?,
            interleaved: *interleaved,
        }))
    }

    /// The operation as models call it.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn run(&self, tape: &Tape, x: &[Node], table: Option<&Rope>) -> Result<Node> {
        match self {
            Self::Linear { .. } => ops::linear(tape, &x[0], &x[1], x.get(2)),
            Self::Embedding { ids, .. } => ops::embedding(tape, &x[0], ids),
            Self::Rows { picks, .. } => ops::rows(tape, &x[0], picks),
            Self::RmsNorm { offset, .. } => ops::rms_norm(tape, &x[0], &x[1], EPSILON, *offset),
            Self::LayerNorm { .. } => ops::layer_norm(tape, &x[0], &x[1], &x[2], EPSILON),
            Self::Rope { heads, starts, .. } => {
                ops::rope(tape, &x[0], *heads, given(table)?, starts)
            }
            Self::Attention { form, starts } => {
                ops::attention(tape, [&x[0], &x[1], &x[2]], form, starts)
            }
            Self::Gated { f, .. } => ops::gated(tape, &x[0], &x[1], *f),
            Self::Activation { f, .. } => ops::activation(tape, &x[0], *f),
            Self::Add { .. } => ops::add(tape, &x[0], &x[1]),
            Self::Scale { factor, .. } => ops::scale(tape, &x[0], *factor),
            Self::TokenLogProbs {
                targets,
                temperature,
                ..
            } => ops::token_log_probs(tape, &x[0], &x[1], x.get(2), targets, *temperature),
            Self::CrossEntropy(of) => {
                let (bias, teacher) = of.split(x);
                ops::cross_entropy(tape, &x[0], &x[1], bias, &teacher)
            }
            Self::LogitDifference(of) => {
                let (bias, teacher) = of.split(x);
                ops::logit_difference(tape, &x[0], &x[1], bias, &teacher)
            }
        }
    }

    /// Its twin of candle's operations, whose graph gives the gradient.
    ///
    /// # Errors
    /// Those of candle.
    pub fn twin(&self, tape: &Tape, x: &[Node], table: Option<&Rope>) -> Result<Node> {
        match self {
            Self::Linear { .. } => plain::linear(tape, &x[0], &x[1], x.get(2)),
            Self::Embedding { ids, .. } => plain::rows(tape, &x[0], ids),
            Self::Rows { picks, .. } => plain::rows(tape, &x[0], picks),
            Self::RmsNorm { offset, .. } => plain::rms_norm(tape, &x[0], &x[1], EPSILON, *offset),
            Self::LayerNorm { .. } => plain::layer_norm(tape, &x[0], &x[1], &x[2], EPSILON),
            Self::Rope { heads, starts, .. } => {
                plain::rope(tape, &x[0], *heads, given(table)?, starts)
            }
            Self::Attention { form, starts } => {
                plain::attention(tape, [&x[0], &x[1], &x[2]], form, starts)
            }
            Self::Gated { f, .. } => plain::gated(tape, &x[0], &x[1], *f),
            Self::Activation { f, .. } => plain::activation(tape, &x[0], *f),
            Self::Add { .. } => plain::composed(tape, &[&x[0], &x[1]], |t| &t[0] + &t[1]),
            Self::Scale { factor, .. } => plain::composed(tape, &[&x[0]], |t| &t[0] * *factor),
            Self::TokenLogProbs {
                targets,
                temperature,
                ..
            } => plain::token_log_probs(tape, &x[0], &x[1], x.get(2), targets, *temperature),
            Self::CrossEntropy(of) => {
                let (bias, teacher) = of.split(x);
                plain::cross_entropy(tape, &x[0], &x[1], bias, &teacher)
            }
            Self::LogitDifference(of) => {
                let (bias, teacher) = of.split(x);
                plain::logit_difference(tape, &x[0], &x[1], bias, &teacher)
            }
        }
    }
}

impl Compared {
    /// The student's bias, and the teacher, of all inputs.
    fn split<'a>(&self, x: &'a [Node]) -> (Option<&'a Node>, Teacher) {
        let (student, teacher) = x.split_at(2 + usize::from(self.bias));
        let teacher = Teacher {
            hidden: teacher[0].value().clone(),
            head: teacher[1].value().clone(),
            bias: teacher.get(2).map(|bias| bias.value().clone()),
        };
        (student.get(2), teacher)
    }
}

/// Tokens of all sequences.
pub fn tokens(starts: &Starts) -> usize {
    starts.last().copied().unwrap_or(0)
}

fn given(table: Option<&Rope>) -> Result<&Rope> {
    table.ok_or_else(|| {
        let (problem, remedy) = ("no cosines and sines", "make them with Call::table");
        crate::Error::invalid("rope", problem, remedy)
    })
}

/// The precision and device of tensors.
#[derive(Debug, Clone)]
pub struct Place {
    /// Precision.
    pub dtype: DType,
    /// Device.
    pub device: Device,
}

impl Place {
    /// f64 on the CPU.
    pub fn reference() -> Self {
        Self {
            dtype: DType::F64,
            device: Device::Cpu,
        }
    }

    /// A tensor there.
    ///
    /// # Errors
    /// A failing device.
    pub fn put(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
    }

    /// Cosines and sines there, in f32 at least, as decoders have them.
    ///
    /// # Errors
    /// A failing device.
    pub fn table(&self, table: Option<&Rope>) -> Result<Option<Rope>> {
        let Some(Rope {
            cos,
            sin,
            interleaved,
        }) = table
        else {
            return Ok(None);
        };
        let wide = Self {
            dtype: match self.dtype {
                DType::BF16 => DType::F32,
                other => other,
            },
            device: self.device.clone(),
        };
        Ok(Some(Rope {
            cos: wide.put(cos)?,
            sin: wide.put(sin)?,
            interleaved: *interleaved,
        }))
    }
}
