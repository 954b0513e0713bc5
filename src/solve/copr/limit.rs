//! Limit of COPR's fit on one ranked list or on several.

use super::exact::Form;
use super::fit::{fixed_point, likelihood};
use crate::bandit::{Prompt, PromptEvidence};
use crate::error::{Error, Result};
use crate::solve::exact::Exact;
use crate::solve::flow::{
    Course, Frame, Motion, Numeric, around, ends_elsewhere, fade, follow, rest_of,
};
use crate::solve::graph::{arm_list, groups, listing};
use crate::solve::policy_gradient::UNRESTED;
use crate::solve::update::Place;
use crate::solve::{Part, Rest, largest, log_softmax};

/// Most arms of a prompt with several lists: the flow's Jacobian comes from differences.
pub const LISTS_CAP: usize = 200;

/// The limit of COPR's fit, in any of its forms, or of the likelihood of the best response, on the
/// prompt's ranked lists, by gradient flow from the reference.
///
/// * One list: in closed form, [`fixed_point`] and [`likelihood`].
/// * Several, likelihood alone: each arm's share of the lists that it is best in.
/// * Several, the fit: the flow of the mean over the lists is followed. Lists that share no arm leave
///   the mass between them free, as the flow keeps the sum of the logits of each. KL(P*‖P_θ) is convex;
///   for KL(P_θ‖P*) other starts are tried to see whether the limit is the only one.
///
/// # Errors
/// Several lists over more than 200 arms, or a ranking that repeats an arm.
pub fn limit(
    form: Form,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    match (share.lists.as_slice(), form) {
        ([(list, _)], Form::Likelihood) => likelihood(prompt, list, beta),
        ([(list, _)], _) => fixed_point(prompt, list, beta, form == Form::WithLikelihood),
        (lists, Form::Likelihood) => Ok(best_shares(prompt, lists)),
        _ => several(form, x, prompt, share, beta),
    }
}

fn best_shares(prompt: &Prompt, lists: &[(Vec<u32>, f64)]) -> Part {
    let mut best = vec![0.0; prompt.arms()];
    for (list, part) in lists {
        if let Some(&top) = list.last() {
            best[top as usize] += part;
        }
    }
    let vanish = best.contains(&0.0);
    Part {
        log_policy: Some(log_softmax(
            &best.iter().map(|p| p.ln()).collect::<Vec<_>>(),
        )),
        method: "closed form, shares of the best",
        residual: 0.0,
        unique: true,
        rest: if vanish { Rest::Boundary } else { Rest::Stable },
        error: None,
        note: vanish
            .then(|| "every arm that is never the best ranked goes to probability 0".into()),
    }
}

fn several(
    form: Form,
    x: usize,
    prompt: &Prompt,
    share: &PromptEvidence,
    beta: f64,
) -> Result<Part> {
    let arms = prompt.arms();
    if arms > LISTS_CAP {
        return Err(Error::TooLarge {
            what: "COPR's fit to several lists",
            cap: LISTS_CAP,
            prompt: x,
            arms,
        });
    }
    let place = Place::new(x, prompt, share, beta);
    let field = |logits: &[f64]| -> Option<Vec<f64>> {
        let update = form.gradient(place, logits).ok()?;
        Some(update.into_iter().map(|g| -g).collect())
    };
    let joined = share.lists.iter().map(|(list, _)| list.as_slice());
    let parts = groups(arms, joined);
    let unlisted: Vec<usize> = (parts.iter())
        .filter(|part| part.len() == 1)
        .map(|part| part[0])
        .collect();
    let motion = Numeric::new(field, Frame::Logits(vec![arms]));
    let end = follow(&motion, prompt.log_reference.clone(), Course::Basin);
    let mut log_policy = log_softmax(&end.point);
    let likelihood = form == Form::WithLikelihood;
    let faded = likelihood && fade(&mut log_policy, &prompt.log_reference, &unlisted);
    let (mut rest, rests);
    if faded {
        // What is left settles without them.
        let kept: Vec<usize> = (0..arms)
            .filter(|&a| log_policy[a] > f64::NEG_INFINITY)
            .collect();
        let whole = |logits: &[f64]| {
            let mut row = vec![f64::NEG_INFINITY; arms];
            kept.iter().zip(logits).for_each(|(&a, &l)| row[a] = l);
            row
        };
        let inner = |logits: &[f64]| -> Option<Vec<f64>> {
            let update = field(&whole(logits))?;
            Some(kept.iter().map(|&a| update[a]).collect())
        };
        let motion = Numeric::new(inner, Frame::Logits(vec![kept.len()]));
        let start = kept.iter().map(|&a| log_policy[a]).collect();
        let end = follow(&motion, start, Course::Basin);
        (rest, rests) = (rest_of(&motion, &end.point), end.rests);
        if rest == Rest::Stable {
            rest = Rest::Boundary;
        }
        log_policy = log_softmax(&whole(&end.point));
    } else {
        if !likelihood {
            log_policy = conserved(prompt, &parts, &log_policy);
        }
        (rest, rests) = (rest_of(&motion, &log_policy), end.rests);
    }
    let open = parts.len() > 1 && !likelihood;
    let residual = largest(form.gradient(place, &log_policy)?);
    if !rests {
        return Ok(Part::none("gradient flow from the reference", UNRESTED));
    }
    let convex = matches!(form, Form::Forward | Form::ForwardMean);
    let elsewhere = !convex && !open && another(&motion, prompt, &log_policy);
    let note = if open {
        Some(format!(
            "the lists do not connect all arms: {}; the mass between them depends on the start, here \
             the reference",
            listing(&parts, prompt.kept())
        ))
    } else if elsewhere {
        Some(
            "gradient flow from other starts ends elsewhere; shown is its limit from the reference"
                .into(),
        )
    } else if faded {
        let gone = arm_list(&unlisted, prompt.kept());
        Some(format!(
            "arms that no list ranks go to probability 0, as 1/t: {gone}"
        ))
    } else {
        None
    };
    Ok(Part {
        log_policy: Some(log_policy),
        method: "gradient flow from the reference, Newton polish",
        residual,
        unique: !open && !elsewhere,
        rest,
        error: None,
        note,
    })
}

/// The policy with the sum of the logits of each part as the reference has it.
fn conserved(prompt: &Prompt, parts: &[Vec<usize>], log_policy: &[f64]) -> Vec<f64> {
    let mut logits = log_policy.to_vec();
    for part in parts {
        let moved: f64 = (part.iter())
            .map(|&a| log_policy[a] - prompt.log_reference[a])
            .sum();
        part.iter()
            .for_each(|&a| logits[a] -= moved / part.len() as f64);
    }
    log_softmax(&logits)
}

/// Whether flow from some random start comes to rest elsewhere.
fn another(motion: &impl Motion, prompt: &Prompt, log_policy: &[f64]) -> bool {
    let start =
        |i: u64, draw: &mut dyn FnMut() -> f64| around(&prompt.log_reference, 1.0 + i as f64, draw);
    ends_elsewhere(motion, log_policy, start, log_softmax)
}
