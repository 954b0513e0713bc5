//! Ensembles of adapters (BPO, section 4): what members make, that each is trained by itself, and what a phase draws
//! from.

use super::{after, apart, args, audit, load};
use crate::place::Place;
use crate::train::weights;

const LORA: [&str; 4] = ["--lora-rank", "2", "--lora-alpha", "3"];

/// The weights of a base with the adapter of a folder in it.
fn with(place: &Place, adapter: &str) -> Vec<f64> {
    let mut base = load(place, "model");
    base.load_adapter(place.at(adapter)).unwrap();
    weights(base.merge().unwrap().parameters())
}

/// The base's weights, and the mean or sum of what members add to them.
fn made_of(place: &Place, checkpoint: &str, members: usize, share: f64) -> Vec<f64> {
    let base = weights(load(place, "model").parameters());
    let mut all = base.clone();
    for member in 1..=members {
        let own = with(place, &format!("{checkpoint}/member-{member}"));
        let parts = all.iter_mut().zip(&own).zip(&base);
        parts.for_each(|((w, own), base)| *w += share * (own - base));
    }
    all
}

#[test]
fn the_policy_is_what_its_members_make() {
    let place = Place::new(7);
    for (merge, share) in [("mean", 1.0 / 3.0), ("sum", 1.0)] {
        let more = ["--members", "3", "--merge", merge];
        place.train(&args("dpo", merge, &[&LORA[..], &more].concat()));
        let base = weights(load(&place, "model").parameters());
        for steps in 1..=4 {
            let at = after(merge, steps);
            let found = with(&place, &at);
            let wanted = made_of(&place, &at, 3, share);
            let size = apart(&found, &base);
            assert!(size > 1e-5, "{merge}: {size}");
            assert!(apart(&found, &wanted) < 1e-12, "{merge}");
            // Not the product of the averages, nor one member, nor the other way of merging.
            let others = [
                made_of(&place, &at, 1, 1.0),
                made_of(&place, &at, 2, share),
                made_of(&place, &at, 3, 4.0 / 3.0 - share),
            ];
            for other in others {
                assert!(apart(&found, &other) > 1e-3 * size, "{merge}");
            }
        }
        // What is kept is that policy, as an adapter that anybody can load.
        let kept = with(&place, &format!("{merge}/model"));
        assert!(kept == with(&place, &after(merge, 4)));
    }
}

/// Members with a fixed reference on fixed data know nothing of each other.
#[test]
fn each_member_is_trained_by_itself() {
    let place = Place::new(7);
    let offline = |out: &str, more: &[&str]| {
        let mut all = args("dpo", out, &[&LORA[..], more].concat());
        let prompts = all.iter().position(|a| *a == "--prompts").unwrap();
        all.drain(prompts..prompts + 4);
        let tokens = all.iter().position(|a| *a == "--max-new-tokens").unwrap();
        all.drain(tokens..tokens + 2);
        all.extend(["--data", "data.jsonl"]);
        place.train(&all);
    };
    for optimizer in ["sgd", "adamw"] {
        let [alone, three] = ["alone", "three"].map(|name| format!("{name}-{optimizer}"));
        offline(&alone, &["--optimizer", optimizer]);
        offline(&three, &["--optimizer", optimizer, "--members", "3"]);
        let own = with(&place, &after(&alone, 4));
        let member = |l: usize| with(&place, &format!("{three}/checkpoint-4/member-{l}"));
        assert!(own == member(1), "{optimizer}");
        let size = apart(&own, &weights(load(&place, "model").parameters()));
        for l in [2, 3] {
            assert!(apart(&own, &member(l)) > 1e-2 * size, "{optimizer}");
        }
    }
}

/// One policy against itself has no log-ratio, so that β is only a rate; a member's against the policy that several
/// make is one.
#[test]
fn members_are_held_against_what_they_make() {
    let place = Place::new(7);
    let run = |out: &str, members: &str, beta: &str, lr: &str| {
        let more = [
            "--reference",
            "behaviour",
            "--members",
            members,
            "--beta",
            beta,
        ];
        let mut all = args("dpo", out, &[&LORA[..], &more].concat());
        let at = all.iter().position(|a| *a == "--lr").unwrap();
        all[at + 1] = lr;
        place.train(&all);
        with(&place, &after(out, 4))
    };
    let base = weights(load(&place, "model").parameters());
    for (members, alike) in [("1", true), ("3", false)] {
        let a = run(&format!("a{members}"), members, "1", "0.8");
        let b = run(&format!("b{members}"), members, "16", "0.05");
        let size = apart(&a, &base);
        assert!(size > 1e-4, "{size}");
        let found = apart(&a, &b) / size;
        let as_it_should = if alike { found < 1e-9 } else { found > 1e-6 };
        assert!(as_it_should, "{members}: {found}");
    }
}

/// What a phase stored is the log-probability of the policy that the members made before it.
#[test]
fn the_policy_that_members_make_writes_the_phases() {
    let place = Place::new(7);
    let more = [
        "--reference",
        "behaviour",
        "--members",
        "2",
        "--phases",
        "2",
    ];
    place.train(&args("dpo", "run", &[&LORA[..], &more].concat()));
    let prompts = audit::prompts(&place);
    for phase in audit::phases(&place, "run", 2) {
        let mut policy = load(&place, "model");
        if phase.first > 0 {
            policy
                .load_adapter(place.at(&after("run", phase.first)))
                .unwrap();
        }
        let mut checked = 0;
        for row in &phase.rows {
            let prompt = &prompts[row["index"].as_u64().unwrap() as usize].tokens;
            for c in row["completions"].as_array().unwrap() {
                let tokens: Vec<u32> = (c["tokens"].as_array().unwrap().iter())
                    .map(|t| t.as_u64().unwrap() as u32)
                    .collect();
                let sum = policy.sums(&[&audit::sequence(prompt, &tokens)]).unwrap()[0];
                assert!((sum - c["reference"].as_f64().unwrap()).abs() < 1e-9);
                checked += 1;
            }
        }
        assert!(checked >= 6);
    }
}

#[test]
fn an_ensemble_goes_on_to_the_same_bytes() {
    let place = Place::new(7);
    let more = [
        "--reference",
        "behaviour",
        "--members",
        "2",
        "--optimizer",
        "adamw",
    ];
    place.train(&args("dpo", "whole", &[&LORA[..], &more].concat()));
    for steps in 1..4 {
        let run = format!("from-{steps}");
        place.copy("whole", &run);
        place.train(&["--resume", &format!("{run}/checkpoint-{steps}")]);
        assert!(place.lasting(&run) == place.lasting("whole"), "{steps}");
    }
}

#[test]
fn members_that_cannot_be_are_refused() {
    let place = Place::new(7);
    place.train(&args("dpo", "adapter", &LORA));
    for (objective, more, wanted) in [
        ("dpo", &["--members", "2"][..], "members are adapters"),
        ("dpo", &["--members", "0", "--lora-rank", "2"], "members"),
        (
            "dpo",
            &["--members", "99999999", "--lora-rank", "2"],
            "at most",
        ),
        ("dpo", &["--merge", "sum", "--lora-rank", "2"], "merge"),
        (
            "dro-v",
            &["--members", "2", "--lora-rank", "2"],
            "another head",
        ),
        (
            "dpo",
            &["--members", "2", "--model", "adapter/model"],
            "members",
        ),
    ] {
        let mut all = args(objective, "no", more);
        if more.contains(&"--model") {
            all.drain(1..3);
        }
        let said = place.refused(&all);
        assert!(said.contains(wanted), "{more:?}: {said}");
    }
}
