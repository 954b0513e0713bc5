//! Every claim's verdict is found again, and the command shows it.

mod advantage;
mod copr;
mod printed;

use std::collections::BTreeSet;
#[cfg(feature = "cli")]
use std::process::Command;

use pistar::claims::{Finding, Paper, Verdict, all, check};
#[cfg(feature = "cli")]
use serde_json::Value;

#[test]
fn every_verdict_is_found_again() {
    for checked in check(&all()).unwrap() {
        let (claim, finding) = (&checked.claim, &checked.finding);
        assert!(
            checked.agrees(),
            "{}: {:?} on record, {finding:?}",
            claim.name,
            claim.verdict
        );
        assert!(!finding.evidence.is_empty(), "{}", claim.name);
        for measure in &finding.measures {
            assert!(measure.value.is_finite(), "{}: {measure:?}", claim.name);
        }
    }
}

/// γ of three temperatures, by the closed form of the fit's end: ranked arms at `π_ref e^{Adv/β}` beside the
/// others at π_ref, over their mass under π*.
#[test]
fn gamma_comes_from_the_start_and_the_advantages() {
    let claim = all()
        .into_iter()
        .find(|c| c.name == "copr/gamma-from-fit")
        .unwrap();
    let finding = &check(&[claim]).unwrap()[0].finding;
    let (advantage, reward) = ([-2.0 / 3.0, 0.0, 2.0 / 3.0], [0.0, 1.0, 2.0, 0.5]);
    for (beta, measure) in [0.1f64, 1.0, 10.0].into_iter().zip(&finding.measures) {
        let listed = |r: &[f64]| -> f64 { r[..3].iter().map(|r| 0.1 * (r / beta).exp()).sum() };
        let (fit, best) = (listed(&advantage), listed(&reward));
        let gamma = (fit / (fit + 0.7)) / (best / (best + 0.7 * (reward[3] / beta).exp()));
        assert!(
            (measure.value - gamma).abs() < 1e-12,
            "{measure:?}, not {gamma}"
        );
    }
    let rounded: Vec<String> = finding
        .measures
        .iter()
        .map(|m| format!("{:.3}", m.value))
        .collect();
    assert_eq!(rounded, ["0.991", "0.675", "0.965"]);
}

#[test]
fn claims_are_named_once_and_say_what_they_mean() {
    let claims = all();
    let names: BTreeSet<_> = claims.iter().map(|c| c.name).collect();
    assert_eq!(names.len(), claims.len());
    for claim in &claims {
        let prefix = format!("{}/", claim.paper.name());
        assert!(claim.name.starts_with(&prefix), "{}", claim.name);
        assert!(!claim.place.is_empty() && !claim.statement.is_empty());
        assert!(!claim.statement.ends_with('.'), "{}", claim.name);
        // A verdict against the letter of a paper says what stands.
        let plain = claim.verdict == Verdict::Holds;
        assert!(plain || !claim.remark.is_empty(), "{}", claim.name);
    }
}

#[test]
fn every_paper_is_there() {
    let claims = all();
    for paper in Paper::ALL {
        assert!(claims.iter().any(|c| c.paper == paper), "{}", paper.name());
        assert_eq!(Paper::from_name(paper.name()).unwrap(), paper);
    }
    assert!(claims.iter().filter(|c| c.paper == Paper::Copg).count() >= 16);
}

#[test]
fn findings_follow_their_numbers() {
    let verdict = |finding: Finding| finding.verdict;
    assert_eq!(verdict(Finding::holds(true, "")), Some(Verdict::Holds));
    assert_eq!(verdict(Finding::holds(false, "")), Some(Verdict::Refuted));
    assert_eq!(
        verdict(Finding::holds_if(true, true, "")),
        Some(Verdict::HoldsIf)
    );
    assert_eq!(
        verdict(Finding::holds_if(true, false, "")),
        Some(Verdict::Holds)
    );
    assert_eq!(verdict(Finding::holds_if(false, true, "")), None);
    assert_eq!(
        verdict(Finding::misprint(true, true, "")),
        Some(Verdict::Misprint)
    );
    assert_eq!(
        verdict(Finding::misprint(true, false, "")),
        Some(Verdict::Holds)
    );
    assert_eq!(verdict(Finding::misprint(false, true, "")), None);
    assert_eq!(verdict(Finding::refuted(true, "")), Some(Verdict::Refuted));
    assert_eq!(verdict(Finding::refuted(false, "")), None);
}

#[cfg(feature = "cli")]
/// Exit code, standard output and standard error of `pistar`.
fn pistar(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pistar"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[cfg(feature = "cli")]
#[test]
fn the_command_prints_them_for_people_and_for_scripts() {
    let (code, json, err) = pistar(&["claims", "--paper", "copg", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let Value::Array(rows) = serde_json::from_str(&json).unwrap() else {
        panic!("{json}");
    };
    assert_eq!(
        rows.len(),
        all().iter().filter(|c| c.paper == Paper::Copg).count()
    );
    for row in &rows {
        for field in ["name", "place", "statement", "remark", "evidence"] {
            assert!(row[field].is_string(), "{field} of {row}");
        }
        assert_eq!(row["paper"], "copg");
        assert_eq!(row["verdict"], row["found"], "{row}");
        assert_eq!(row["agrees"], true);
        for measure in row["measures"].as_array().unwrap() {
            assert!(
                measure["name"].is_string() && measure["value"].is_f64(),
                "{row}"
            );
            assert!(
                measure["printed"].is_null() || measure["printed"].is_f64(),
                "{row}"
            );
        }
    }

    let (code, text, _) = pistar(&["claims", "--paper", "copg"]);
    assert_eq!(code, Some(0));
    assert!(
        text.lines().all(|line| line.chars().count() <= 96),
        "{text}"
    );
    for row in &rows {
        assert!(text.contains(row["name"].as_str().unwrap()));
    }
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("{} claims: ", rows.len())),
        "{last}"
    );
    assert!(last.ends_with("every verdict found again"), "{last}");
}

#[cfg(feature = "cli")]
#[test]
fn an_unknown_paper_is_refused() {
    let (code, out, err) = pistar(&["claims", "--paper", "ppo"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("`ppo`") && err.contains("copg, dro, copr, bpo, advantage-model"),
        "{err}"
    );
}
