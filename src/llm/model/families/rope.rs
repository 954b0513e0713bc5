//! Rotary frequencies, scaled or not.

use std::f32::consts::TAU;

use serde_json::Value;

use super::harmless::HARMLESS;
use crate::error::{Error, Result};
use crate::llm::files::fields::Fields;
use crate::llm::model::architecture::{Positions, most};

/// `θ^(−2i/D)` for the pairs `i` of a head of width D (Su et al. 2021), scaled as `rope_scaling`
/// (transformers before 5) or `rope_parameters` say:
///
/// * `linear`: all divided by `factor`;
/// * `llama3`: with wavelength λ = 2π/f and original context T, those with λ > T/`low_freq_factor`
///   divided by `factor`, those with λ < T/`high_freq_factor` kept, the rest interpolated;
/// * `dynamic`: changes nothing up to `max_position_embeddings`, and no longer sequence is taken.
///
/// In f32, step by step as in transformers: at position 8,000 the rounding of a frequency is the
/// fourth digit of its angle, and checkpoints are trained with it.
///
/// # Errors
/// Any other kind of scaling, or a field of it that is not known.
pub fn positions(fields: &Fields, head_dim: usize, context: usize) -> Result<Positions> {
    if !head_dim.is_multiple_of(2) {
        let remedy = "rotary embedding turns pairs: use an even width";
        return Err(Error::invalid(
            "head_dim",
            format!("it is {head_dim}"),
            remedy,
        ));
    }
    fields.only("partial_rotary_factor", 1.0)?;
    let old = object(fields, "rope_scaling", "rope_scaling.")?;
    let new = object(fields, "rope_parameters", "rope_parameters.")?;
    if let (Some(_), Some(_)) = (&old, &new)
        && fields.value("rope_scaling") != fields.value("rope_parameters")
    {
        return Err(Error::invalid(
            "rope_scaling",
            "`rope_parameters` is there too and says something else",
            "keep the one that the model was trained with",
        ));
    }
    let theta = fields.number_or("rope_theta", 10_000.0)?;
    let Some(scaling) = new.or(old) else {
        return rotary(theta, head_dim, |f| f);
    };
    let theta = scaling.number_or("rope_theta", theta)?;
    scaling.only("partial_rotary_factor", 1.0)?;
    let kind = match (scaling.text("rope_type")?, scaling.text("type")?) {
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => "default",
    };
    let factor = || -> Result<f64> {
        match scaling.number("factor")? {
            0.0 => Err(scaling.wrong("factor", &Value::from(0), "give a number above 0")),
            factor => Ok(factor),
        }
    };
    let positions = match kind {
        "default" => rotary(theta, head_dim, |f| f),
        "linear" => {
            let factor = factor()? as f32;
            rotary(theta, head_dim, |f| f / factor)
        }
        "dynamic" => {
            factor()?;
            scaling.only("original_max_position_embeddings", context)?;
            rotary(theta, head_dim, |f| f)
        }
        "llama3" => {
            let factor = factor()? as f32;
            let low = scaling.number("low_freq_factor")? as f32;
            let high = scaling.number("high_freq_factor")? as f32;
            if low >= high {
                let right = format!("it must be above low_freq_factor, which is {low}");
                return Err(scaling.wrong("high_freq_factor", &Value::from(high), right));
            }
            let original =
                scaling.count_if_there("original_max_position_embeddings", most::CONTEXT)?;
            let original = original.unwrap_or(context) as f32;
            rotary(theta, head_dim, |f| {
                let wavelength = TAU / f;
                if wavelength > original / low {
                    f / factor
                } else if wavelength < original / high {
                    f
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            })
        }
        other => {
            let right = "supported are default, linear, llama3 and dynamic";
            Err(scaling.wrong("rope_type", &Value::from(other), right))
        }
    }?;
    scaling.all_known("rotary positions", HARMLESS)?;
    Ok(positions)
}

fn object<'a>(fields: &Fields<'a>, name: &str, prefix: &'static str) -> Result<Option<Fields<'a>>> {
    match fields.value(name) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(Fields::within(prefix, object))),
        Some(value) => Err(fields.wrong(name, value, "give an object or null")),
    }
}

fn rotary(theta: f64, head_dim: usize, scale: impl Fn(f32) -> f32) -> Result<Positions> {
    Ok(Positions::Rotary {
        frequencies: frequencies(theta, head_dim, scale)?,
        factor: 1.0,
    })
}

/// The angles per position of the pairs of so many numbers.
///
/// # Errors
/// θ = 0.
pub fn frequencies(theta: f64, dim: usize, scale: impl Fn(f32) -> f32) -> Result<Vec<f64>> {
    if theta == 0.0 {
        let remedy = "give the base of the rotary frequencies, such as 10000";
        return Err(Error::invalid("rope_theta", "it is 0", remedy));
    }
    let theta = f64::from(theta as f32);
    Ok((0..dim / 2)
        .map(|i| (2 * i) as f32 / dim as f32)
        .map(|x| 1.0 / (theta.powf(f64::from(x)) as f32))
        .map(|f| f64::from(scale(f)))
        .collect())
}
