//! Tensors that operations on a device make of a pack's shape once and use in every layer.

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::{DType, DeviceLocation, Result as Candle, Tensor, TensorId};

use super::attention::Plan;
use super::rows::NONE;
use super::wider;
use crate::llm::tensor::ops::{Attention, Rope, Starts};

/// What has been made so far.
#[derive(Default)]
pub(in crate::llm::tensor::ops) struct Pack {
    turns: RefCell<Vec<(TurnsKey, Rc<Turns>)>>,
    plans: RefCell<Vec<(PlanKey, Rc<Plan>)>>,
}

/// The table, whether neighbours are pairs, and the width of a head.
type TurnsKey = (TensorId, bool, usize, DType, DeviceLocation);

type PlanKey = (
    [usize; 2],
    Option<usize>,
    Option<Rc<[f64]>>,
    usize,
    DType,
    DeviceLocation,
);

/// The rotations of a pack's tokens, in the precision of statistics: D wide for heads of D.
pub(super) struct Turns {
    /// Cosines of each number, 1 of what is not turned: `[N, 1, D]`.
    pub cos: Tensor,
    /// Sines, of the first of each pair with the other sign, 0 of what is not turned: `[N, 1, D]`.
    pub sin: Tensor,
    /// Indices that swap the two of each pair, and select zeros for the rest: `[D]`.
    pub swap: Tensor,
}

impl Pack {
    /// The rotations for `x`, of heads of that width, by that table.
    pub(super) fn turns(
        &self,
        starts: &Starts,
        table: &Rope,
        head_dim: usize,
        x: &Tensor,
    ) -> Candle<Rc<Turns>> {
        let place = x.device().location();
        let key = (
            table.cos.id(),
            table.interleaved,
            head_dim,
            x.dtype(),
            place,
        );
        made(&self.turns, key, || Turns::new(starts, table, head_dim, x))
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
        let (slopes, place) = (form.slopes.clone(), x.device().location());
        let key = (heads, form.window, slopes, most, x.dtype(), place);
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
    fn new(starts: &Starts, table: &Rope, head_dim: usize, x: &Tensor) -> Candle<Self> {
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
        let mut swap: Vec<u32> = if table.interleaved {
            (0..2 * half).map(|i| i ^ 1).collect()
        } else {
            (half..2 * half).chain(0..half).collect()
        };
        swap.resize(head_dim, NONE);
        let rest = head_dim - 2 * half as usize;
        // Of both numbers of each pair, `[N, 1, D]`.
        let spread = |first: &Tensor, second: &Tensor, of_rest: f64| {
            let pairs = if table.interleaved {
                Tensor::stack(&[first, second], 2)?.flatten(1, 2)?
            } else {
                Tensor::cat(&[first, second], 1)?
            };
            let all = if rest > 0 {
                let rest = Tensor::full(of_rest, (n, rest), device)?;
                Tensor::cat(&[&pairs, &rest.to_dtype(pairs.dtype())?], 1)?
            } else {
                pairs
            };
            all.unsqueeze(1)
        };
        Ok(Self {
            cos: spread(&cos, &cos, 1.0)?,
            sin: spread(&sin.neg()?, &sin, 0.0)?,
            swap: Tensor::from_vec(swap, head_dim, device)?,
        })
    }
}
