//! [`rope`](super::rope) on the CPU.

use super::Rope;
use crate::error::{Error, Result};
use crate::llm::tensor::ops::Starts;
use crate::llm::tensor::ops::float::Float;
use crate::llm::tensor::ops::kernel::{same, tensor};
use crate::llm::tensor::ops::memory::{parts, rows_per_task, unwritten};
use crate::llm::tensor::ops::slice::Slice;
use crate::llm::tensor::tape::{Node, Tape};

/// Backward: the rotation by the opposite angle.
pub fn rope<T: Float>(
    tape: &Tape,
    x: &Node,
    heads: usize,
    table: &Rope,
    starts: &Starts,
) -> Result<Node> {
    let [n, width] = check(x, heads, table, starts)?;
    let dims = [width, width / heads.max(1)];
    let value = x.value().contiguous()?;
    let out = rotate(&Slice::<T>::new(&value)?, dims, table, starts, T::one())?;
    Ok(tape.record(tensor(out, (n, width))?, &[x], || {
        let (x, table, starts) = (x.target(), table.clone(), starts.clone());
        Box::new(move |gradient, sums| {
            let gradient = gradient.contiguous()?;
            let dy = Slice::<T>::new(&gradient)?;
            let dx = rotate(&dy, dims, &table, &starts, -T::one())?;
            sums.add(&x, tensor(dx, (n, width))?)
        })
    }))
}

/// Rows and their width, if they fit.
pub fn check(x: &Node, heads: usize, table: &Rope, starts: &Starts) -> Result<[usize; 2]> {
    let (n, width) = x.value().dims2()?;
    let (length, half) = table.cos.dims2()?;
    let head_dim = width.checked_div(heads).unwrap_or(0);
    same("rope", width, head_dim * heads)?;
    if 2 * half > head_dim {
        return Err(Error::invalid(
            "rope",
            format!("a head has {head_dim} numbers"),
            format!("the table turns {}", 2 * half),
        ));
    }
    same("rope", n, starts.tokens())?;
    let longest = starts.longest();
    if longest > length {
        return Err(Error::invalid(
            "rope",
            format!("a sequence has {longest} tokens"),
            format!("the table has {length} positions"),
        ));
    }
    Ok([n, width])
}

/// Rotates the pairs of every head, of rows of that width and heads of that; `turn` is 1 or −1.
fn rotate<T: Float>(
    x: &[T],
    [width, head_dim]: [usize; 2],
    table: &Rope,
    starts: &Starts,
    turn: T,
) -> Result<Vec<T>> {
    let (half, interleaved) = (table.cos.dim(1)?, table.interleaved);
    let (cos, sin) = (table.cos.contiguous()?, table.sin.contiguous()?);
    let (cos, sin) = (Slice::<T>::new(&cos)?, Slice::<T>::new(&sin)?);
    let each = rows_per_task(width);
    let positions: Vec<u32> = starts.positions().collect();
    // SAFETY: the loop below writes every number.
    let mut out = unsafe { unwritten::<T>(x.len()) };
    parts(
        &mut out,
        each * width,
        #[inline(always)]
        |i, out| {
            for row in 0..out.len() / width {
                let token = i * each + row;
                let at = positions[token] as usize * half;
                let (cos, sin) = (&cos[at..][..half], &sin[at..][..half]);
                let (out, x) = (
                    &mut out[row * width..][..width],
                    &x[token * width..][..width],
                );
                let mut head = 0;
                while head < width {
                    let (out, x) = (&mut out[head..][..head_dim], &x[head..][..head_dim]);
                    let (turned, rest) = out.split_at_mut(2 * half);
                    let (pairs, same) = x.split_at(2 * half);
                    if interleaved {
                        turn_neighbours(turned, pairs, [cos, sin], turn);
                    } else {
                        let (first, second) = turned.split_at_mut(half);
                        let (a, b) = pairs.split_at(half);
                        turn_halves([first, second], [a, b], [cos, sin], turn);
                    }
                    // Spares a call for each head.
                    if !rest.is_empty() {
                        rest.copy_from_slice(same);
                    }
                    head += head_dim;
                }
            }
        },
    );
    Ok(out)
}

#[inline(always)]
fn turn_halves<T: Float>(out: [&mut [T]; 2], pairs: [&[T]; 2], angles: [&[T]; 2], turn: T) {
    // Of narrow heads, which a loop of any length would not turn as vectors.
    match out[0].len() {
        4 => turn_halves_of(4, out, pairs, angles, turn),
        8 => turn_halves_of(8, out, pairs, angles, turn),
        n => turn_halves_of(n, out, pairs, angles, turn),
    }
}

#[inline(always)]
fn turn_halves_of<T: Float>(
    n: usize,
    [first, second]: [&mut [T]; 2],
    [a, b]: [&[T]; 2],
    [cos, sin]: [&[T]; 2],
    turn: T,
) {
    let (first, second) = (&mut first[..n], &mut second[..n]);
    let (a, b, cos, sin) = (&a[..n], &b[..n], &cos[..n], &sin[..n]);
    for i in 0..n {
        let sin = turn * sin[i];
        first[i] = a[i] * cos[i] - b[i] * sin;
        second[i] = b[i] * cos[i] + a[i] * sin;
    }
}

#[inline(always)]
fn turn_neighbours<T: Float>(out: &mut [T], x: &[T], [cos, sin]: [&[T]; 2], turn: T) {
    let n = cos.len();
    let (out, x, sin) = (&mut out[..2 * n], &x[..2 * n], &sin[..n]);
    for i in 0..n {
        let (a, b, sin) = (x[2 * i], x[2 * i + 1], turn * sin[i]);
        out[2 * i] = a * cos[i] - b * sin;
        out[2 * i + 1] = b * cos[i] + a * sin;
    }
}
