//! Tensors that operations on a device make of a pack's shape once and use in every layer.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::{DType, DeviceLocation, Result as Candle, Tensor, TensorId};

use super::attention::Plan;
use super::wider;
use crate::llm::tensor::ops::{Attention, Rope, Starts};

/// What has been made so far.
#[derive(Default)]
pub(in crate::llm::tensor::ops) struct Pack {
    turns: RefCell<Vec<(TurnsKey, Rc<Turns>)>>,
    plans: RefCell<Vec<(PlanKey, Rc<Plan>)>>,
}

type TurnsKey = (TensorId, DType, DeviceLocation);

type PlanKey = ([usize; 2], Option<usize>, usize, DType, DeviceLocation);

/// The rotations of a pack's tokens, in the precision of statistics: D wide for heads of D.
pub(super) struct Turns {
    /// Cosines, twice: `[N, 1, D]`.
    pub cos: Tensor,
    /// Sines, first with the other sign: `[N, 1, D]`.
    pub sin: Tensor,
    /// Indices that swap halves, `[D]`.
    pub swap: Tensor,
}

impl Pack {
    /// The rotations for `x` by that table.
    pub(super) fn turns(&self, starts: &Starts, table: &Rope, x: &Tensor) -> Candle<Rc<Turns>> {
        let key = (table.cos.id(), x.dtype(), x.device().location());
        made(&self.turns, key, || Turns::new(starts, table, x))
    }

    /// How that attention is done on tensors like `x`, on at most so many scores at once.
    pub(super) fn plan(
        &self,
        starts: &Starts,
        form: &Attention,
        most: usize,
        x: &Tensor,
    ) -> Candle<Rc<Plan>> {
        let heads = [form.heads, form.kv_heads];
        let key = (heads, form.window, most, x.dtype(), x.device().location());
        made(&self.plans, key, || Plan::new(starts, form, most, x))
    }
}

fn made<K: PartialEq, T>(
    list: &RefCell<Vec<(K, Rc<T>)>>,
    key: K,
    make: impl FnOnce() -> Candle<T>,
) -> Candle<Rc<T>> {
    if let Some((_, found)) = list.borrow().iter().find(|(k, _)| *k == key) {
        return Ok(found.clone());
    }
    let new = Rc::new(make()?);
    list.borrow_mut().push((key, new.clone()));
    Ok(new)
}

impl Turns {
    fn new(starts: &Starts, table: &Rope, x: &Tensor) -> Candle<Self> {
        let (n, device) = (x.dim(0)?, x.device());
        let half = table.cos.dim(1)? as u32;
        let positions: Vec<u32> = (starts.windows(2))
            .flat_map(|w| 0..(w[1] - w[0]) as u32)
            .collect();
        let positions = Tensor::from_vec(positions, n, device)?;
        let rows = |table: &Tensor| {
            (table.contiguous()?.index_select(&positions, 0)?).to_dtype(wider(x.dtype()))
        };
        let (cos, sin) = (rows(&table.cos)?, rows(&table.sin)?);
        let swap: Vec<u32> = (half..2 * half).chain(0..half).collect();
        Ok(Self {
            cos: Tensor::cat(&[&cos, &cos], 1)?.unsqueeze(1)?,
            sin: Tensor::cat(&[&sin.neg()?, &sin], 1)?.unsqueeze(1)?,
            swap: Tensor::from_vec(swap, 2 * half as usize, device)?,
        })
    }
}
