//! What an observer hears of long work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pistar::llm::train::{Settings, train};
use pistar::observer::{Observer, Work};

use crate::place::Place;

/// An observer that remembers.
#[derive(Default)]
pub struct Heard {
    lines: Mutex<Vec<String>>,
    ended: Arc<Mutex<Vec<(String, u64)>>>,
}

/// Work that must come to its length before it ends.
struct Followed {
    name: String,
    length: u64,
    done: AtomicU64,
    ended: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Heard {
    /// All that it was told.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Names and lengths of all work that ended, in the order of its ends. None ended early or late.
    pub fn works(&self) -> Vec<(String, u64)> {
        self.ended.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn tell(&self, line: &str) {
        self.lines.lock().unwrap().push(line.into());
    }

    fn begin(&self, name: &str, length: u64) -> Box<dyn Work + '_> {
        Box::new(Followed {
            name: name.into(),
            length,
            done: AtomicU64::new(0),
            ended: Arc::clone(&self.ended),
        })
    }
}

impl Work for Followed {
    fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
    }

    fn skip(&self, by: u64) {
        self.advance(by);
    }

    fn note(&self, _: std::fmt::Arguments) {}
}

impl Drop for Followed {
    fn drop(&mut self) {
        let done = self.done.load(Ordering::Relaxed);
        assert_eq!(done, self.length, "{}", self.name);
        let mut ended = self.ended.lock().unwrap();
        ended.push((std::mem::take(&mut self.name), done));
    }
}

/// Trains in a place and returns what was heard: lines, and work in the order of its ends.
fn trained(place: &Place, change: impl Fn(&mut Settings)) -> (Vec<String>, Vec<(String, u64)>) {
    let mut settings = Settings {
        objective: Some("dpo".into()),
        model: Some(place.at("model")),
        data: Some(place.at("data.jsonl")),
        eval_data: Some(place.at("data.jsonl")),
        eval_every: Some(2),
        out: Some(place.at("run")),
        batch: 3,
        steps: Some(4),
        checkpoint_every: 2,
        ..Settings::default()
    };
    change(&mut settings);
    let heard = Heard::default();
    train(settings, &heard).unwrap();
    (heard.lines(), heard.works())
}

#[test]
fn a_run_tells_of_all_its_work_and_all_of_it_ends() {
    let place = Place::new(6);
    let work = |name: &str, length: u64| (name.to_string(), length);
    let (lines, works) = trained(&place, |_| ());
    // Rows that are trained and evaluated on; the reference on both; training ends after the evaluations
    // that stand aside from it.
    let expected = [
        work("reading", 6),
        work("reading", 6),
        work("reference", 2),
        work("reference", 2),
        work("evaluating", 2),
        work("evaluating", 2),
        work("training", 4),
    ];
    assert_eq!(works, expected);
    assert!(lines[1].starts_with("evaluation: "), "{lines:?}");
    assert!(lines[2].starts_with("training "), "{lines:?}");
    // What was done before counts as done.
    std::fs::remove_dir_all(place.at("run/checkpoint-4")).unwrap();
    std::fs::remove_dir_all(place.at("run/model")).unwrap();
    let manifest = place
        .read("run/manifest.json")
        .replace("complete", "interrupted");
    std::fs::write(place.at("run/manifest.json"), manifest).unwrap();
    let (lines, works) = trained(&place, |settings| settings.resume = Some("latest".into()));
    assert!(
        lines.iter().any(|l| l == "going on after step 2"),
        "{lines:?}"
    );
    assert_eq!(works[2..], [work("evaluating", 2), work("training", 4)]);
}

#[test]
fn work_of_many_threads_is_heard() {
    use pistar::bandit::Problem;
    use pistar::loss::Objective;
    use pistar::sim::{Config, Optimizer, run};
    let problem = Problem::from_json(
        r#"{"beta": 0.5, "prompts": [{"reward": [2.5, 2.0, 1.0],
            "behavior": [[0.1, 0.2, 0.7], [0.05, 0.05, 0.9]]}]}"#,
    );
    let config = Config {
        objectives: vec![Objective::DPO, Objective::IPO],
        seeds: 7,
        key: 0,
        samples: 8,
        batch: 4,
        epochs: 3,
        drop_last: false,
        optimizer: Optimizer::adam(1e-3),
        threads: 3,
    };
    let heard = Heard::default();
    let work = heard.begin("toy", 21);
    run(&problem.unwrap(), &config, |_| Ok(()), &*work).unwrap();
    drop(work);
    assert_eq!(heard.works(), [("toy".to_string(), 21)]);
}
