//! Graphs with one thing left out or changed, for tests.

use super::{Graph, Instruction, Op, Section};

/// One change of an instruction.
type Change = (String, Box<dyn Fn(&mut Instruction)>);

impl Graph {
    /// Every graph that lacks one operation, one of its settings, or one bias, named.
    pub(in crate::llm::model) fn mutants(&self) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        for section in 0..self.blocks.len() + 2 {
            let instructions = self.clone().section(section).instructions.clone();
            for (index, instruction) in instructions.iter().enumerate() {
                for (name, change) in changes(instruction) {
                    let mut mutant = self.clone();
                    change(&mut mutant.section(section).instructions[index]);
                    all.push((format!("section {section}, {index}: {name}"), mutant));
                }
            }
        }
        for (index, layer) in self.linears.iter().enumerate() {
            if layer.bias.is_some() {
                let mut mutant = self.clone();
                mutant.linears[index].bias = None;
                all.push((format!("{}.bias", layer.name), mutant));
            }
        }
        for (index, rotation) in self.rotations.iter().enumerate() {
            let mut mutant = self.clone();
            mutant.rotations[index].interleaved = !rotation.interleaved;
            all.push(("pairs that are turned".into(), mutant));
        }
        all
    }

    fn section(&mut self, index: usize) -> &mut Section {
        let blocks = self.blocks.len();
        match index {
            0 => &mut self.stem,
            i if i <= blocks => &mut self.blocks[i - 1],
            _ => &mut self.tail,
        }
    }
}

fn changes(instruction: &Instruction) -> Vec<Change> {
    // An input in the result's place.
    let pass = |input: usize| -> Box<dyn Fn(&mut Instruction)> {
        Box::new(move |i| {
            i.op = Op::Scale(1.0);
            i.inputs = vec![i.inputs[input]];
        })
    };
    let op = |name: &str, op: Op| -> Change { (name.into(), Box::new(move |i| i.op = op.clone())) };
    match instruction.op.clone() {
        Op::Norm(_) => vec![("norm".into(), pass(0))],
        Op::Rope { .. } => vec![("rotation".into(), pass(0))],
        Op::Scale(_) => vec![("scale".into(), pass(0))],
        Op::Activation(_) => vec![("activation".into(), pass(0))],
        Op::Gated(_) => vec![("gate".into(), pass(1))],
        Op::Add => vec![
            ("first term".into(), pass(1)),
            ("second term".into(), pass(0)),
        ],
        Op::Positions { table, offset } if offset > 0 => {
            vec![op("offset", Op::Positions { table, offset: 0 })]
        }
        Op::Attention { form, slot } => {
            let with = |form| Op::Attention { form, slot };
            let scale = 1.3 * form.scale;
            let mut all = vec![op("scale", {
                let form = form.clone();
                with(crate::llm::tensor::ops::Attention { scale, ..form })
            })];
            if form.window.is_some() {
                let window = None;
                let form = form.clone();
                let wide = crate::llm::tensor::ops::Attention { window, ..form };
                all.push(op("window", with(wide)));
            }
            if form.slopes.is_some() {
                let slopes = None;
                let flat = crate::llm::tensor::ops::Attention { slopes, ..form };
                all.push(op("slopes", with(flat)));
            }
            all
        }
        Op::Positions { .. } | Op::Tokens(_) | Op::Linear(_) => Vec::new(),
    }
}
