//! Rotary frequencies, scaled or not.

use std::f64::consts::TAU;

use serde_json::Value;

use super::Family;
use super::harmless::HARMLESS;
use crate::error::{Error, Result};
use crate::llm::architecture::Positions;
use crate::llm::fields::Fields;

/// `θ^(−2i/D)` for the pairs `i` of a head of width D (Su et al. 2021), scaled as `rope_scaling`
/// (transformers before 5) or `rope_parameters` say:
///
/// * `linear`: all divided by `factor`;
/// * `llama3`: with wavelength λ = 2π/f and original context T, those with λ > T/`low_freq_factor`
///   divided by `factor`, those with λ < T/`high_freq_factor` kept, the rest interpolated;
/// * `dynamic`: changes nothing up to `max_position_embeddings`, and no longer sequence is taken.
///
/// Rounded to f32 as in the checkpoint's training code.
///
/// # Errors
/// Any other kind of scaling, or a field of it that is not known.
pub fn positions(
    fields: &Fields,
    family: Family,
    head_dim: usize,
    context: usize,
) -> Result<Positions> {
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
            let factor = factor()?;
            rotary(theta, head_dim, |f| f / factor)
        }
        "dynamic" => {
            factor()?;
            scaling.only("original_max_position_embeddings", context)?;
            rotary(theta, head_dim, |f| f)
        }
        "llama3" => {
            let factor = factor()?;
            let low = scaling.number("low_freq_factor")?;
            let high = scaling.number("high_freq_factor")?;
            if low >= high {
                let right = format!("it must be above low_freq_factor, which is {low}");
                return Err(scaling.wrong("high_freq_factor", &Value::from(high), right));
            }
            let original = scaling.count_if_there("original_max_position_embeddings")?;
            let original = original.unwrap_or(context) as f64;
            rotary(theta, head_dim, |f| {
                let turns = original * f / TAU;
                if turns < low {
                    f / factor
                } else if turns > high {
                    f
                } else {
                    let smooth = (turns - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            })
        }
        other => {
            let right = "supported are default, linear, llama3 and dynamic";
            Err(scaling.wrong("rope_type", &Value::from(other), right))
        }
    }?;
    scaling.all_known(family.name(), HARMLESS)?;
    Ok(positions)
}

fn object<'a>(fields: &Fields<'a>, name: &str, prefix: &'static str) -> Result<Option<Fields<'a>>> {
    match fields.value(name) {
        None => Ok(None),
        Some(Value::Object(object)) => Ok(Some(Fields::within(prefix, object))),
        Some(value) => Err(fields.wrong(name, value, "give an object or null")),
    }
}

fn rotary(theta: f64, head_dim: usize, scale: impl Fn(f64) -> f64) -> Result<Positions> {
    if theta == 0.0 {
        let remedy = "give the base of the rotary frequencies, such as 10000";
        return Err(Error::invalid("rope_theta", "it is 0", remedy));
    }
    let frequencies = (0..head_dim / 2)
        .map(|i| theta.powf(-((2 * i) as f64) / head_dim as f64))
        .map(|f| f64::from(scale(f64::from(f as f32)) as f32))
        .collect();
    Ok(Positions::Rotary {
        frequencies,
        factor: 1.0,
    })
}
