//! Programs that score: JSON lines in, one score a line out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::process::{Ended, Process};
use super::{Candidate, Reward};
use crate::error::{Error, Result};
use crate::observer::Observer;

/// Settings of [`Command`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// A line for the shell (`sh -c`, on Windows `cmd /C`), or a program and its arguments.
    pub command: Line,
    /// Seconds that it may take for its first answer, from one answer to the next, and from the last
    /// one to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

/// The command that is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A line that the shell runs.
    Shell(String),
    /// A program and its arguments, run without a shell.
    Program(Vec<String>),
}

/// Any program. It is run once for all rows that are scored together. A line of its standard input is
/// a row: an object with the row's columns and, over them, `prompt` and `completion`; the end of the
/// input follows at once. It answers every row with one line, in order: a number, or an object with a
/// number as its `score`. It must end with exit status 0.
///
/// A program that takes longer than the time limit for its next answer (or to end, after the last)
/// is killed, and with it its whole process group. The group ends too when the program has given its
/// last answer and ended, whatever of it is still in the background; and when pistar ends, even by a
/// signal that it cannot hear (where there is no `sh`, not by such a one).
pub struct Command {
    line: Line,
    timeout: Duration,
}

impl Command {
    /// The reward of those settings; `timeout` is used if they have none.
    ///
    /// # Errors
    /// No command, or a time limit that is none.
    pub fn new(settings: &CommandSettings, timeout: Duration) -> Result<Self> {
        let empty = match &settings.command {
            Line::Shell(line) => line.trim().is_empty(),
            Line::Program(words) => words.first().is_none_or(|w| w.trim().is_empty()),
        };
        if empty {
            let remedy = "give command:LINE, or a list of words in a TOML file";
            return Err(Error::invalid("command", "it is empty", remedy));
        }
        let timeout = match settings.timeout {
            None => timeout,
            Some(seconds) => seconds_of(seconds)?,
        };
        let line = settings.command.clone();
        Ok(Self { line, timeout })
    }

    fn place(&self) -> String {
        match &self.line {
            Line::Shell(line) => format!("command `{line}`"),
            Line::Program(words) => format!("command `{}`", words.join(" ")),
        }
    }
}

/// A time limit.
///
/// # Errors
/// Seconds that are not above 0, or beyond any clock.
pub fn seconds_of(seconds: f64) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok();
    let fits = duration.filter(|d| !d.is_zero() && *d < Duration::from_secs(1 << 32));
    fits.ok_or_else(|| {
        let problem = format!("it is {seconds}");
        Error::invalid("timeout", problem, "give seconds, more than 0")
    })
}

impl Reward for Command {
    fn name(&self) -> String {
        "command".into()
    }

    fn score(&mut self, rows: &[Candidate], observer: &dyn Observer) -> Result<Vec<f64>> {
        let objects = rows.iter().map(|row| {
            let mut object = row.fields.clone();
            object.insert("prompt".into(), row.prompt.into());
            object.insert("completion".into(), row.completion.into());
            object
        });
        let question = Question {
            work: "reward command",
            read: answer,
            remedy: "print a finite number for every row, or {\"score\": number}, and anything else \
                     to standard error",
        };
        self.ask(objects, &question, observer)
    }
}

/// What a program is asked.
pub(in crate::llm::sample) struct Question<T> {
    /// What observers call it.
    pub work: &'static str,
    /// The answer in a line, or what is wrong with it.
    pub read: fn(&str) -> std::result::Result<T, String>,
    /// What a right answer is.
    pub remedy: &'static str,
}

impl Command {
    /// Runs the program on rows, and hears one answer of each.
    ///
    /// # Errors
    /// A program that does not run, hangs, ends with another status than 0, or does not give every row
    /// an answer that is one.
    pub(in crate::llm::sample) fn ask<T>(
        &self,
        rows: impl ExactSizeIterator<Item = Map<String, Value>>,
        question: &Question<T>,
        observer: &dyn Observer,
    ) -> Result<Vec<T>> {
        let count = rows.len();
        let mut process = Process::start(&self.line, input(rows)).map_err(|reason| {
            let remedy = "is it installed, and may it be run?";
            Error::invalid(self.place(), format!("cannot run it: {reason}"), remedy)
        })?;
        let mut answers = Vec::with_capacity(count);
        let heard = self.listen(&mut process, count, question, &mut answers, observer);
        heard.map_err(|(problem, remedy)| {
            Error::invalid(self.place(), problem, format!("{remedy}{}", process.said()))
        })?;
        Ok(answers)
    }

    /// Hears as many answers as there are rows, or says what is wrong and what would be right.
    fn listen<T>(
        &self,
        process: &mut Process,
        rows: usize,
        question: &Question<T>,
        answers: &mut Vec<T>,
        observer: &dyn Observer,
    ) -> std::result::Result<(), (String, &'static str)> {
        let work = observer.begin(question.work, rows as u64);
        let ended = loop {
            match process.next(self.timeout, answers.len() == rows) {
                Ok(None) => break process.end(self.timeout),
                Err(ended) => break Err(ended),
                Ok(Some(_)) if answers.len() == rows => {
                    let problem = format!("it gave more answers than the {rows} rows");
                    let remedy = "print one line a row, and anything else to standard error";
                    return Err((problem, remedy));
                }
                Ok(Some(line)) => {
                    let answer = (question.read)(&line).map_err(|problem| {
                        let problem = format!("its answer {} {problem}", answers.len() + 1);
                        (problem, question.remedy)
                    })?;
                    answers.push(answer);
                    work.advance(1);
                }
            }
        };
        drop(work);
        let answered = format!("{} of {rows} rows answered", answers.len());
        match ended {
            Err(Ended::TimedOut) => {
                let seconds = self.timeout.as_secs_f64();
                let problem = if answers.len() == rows {
                    format!("no end within {seconds} seconds, {answered}")
                } else {
                    format!("no answer within {seconds} seconds, {answered}")
                };
                let remedy = "raise --reward-timeout if it may take so long";
                Err((format!("{problem}; it was killed"), remedy))
            }
            Err(Ended::Unread(reason)) => {
                let problem = format!("its answers cannot be read: {reason}, {answered}");
                Err((
                    problem,
                    "print one line a row, and anything else to standard error",
                ))
            }
            Ok(status) if !status.success() => {
                let problem = format!("it ended with {status}, {answered}");
                Err((problem, "run it by hand on a row of the data"))
            }
            Ok(_) if answers.len() < rows => Err((
                format!("it ended, {answered}"),
                "print one line a row, in order",
            )),
            Ok(_) => Ok(()),
        }
    }
}

/// The rows as JSON lines.
fn input(rows: impl Iterator<Item = Map<String, Value>>) -> Vec<u8> {
    let mut lines = Vec::new();
    for mut object in rows {
        object.sort_keys();
        lines.extend_from_slice(json!(object).to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// The score in a line, or what is wrong with it.
fn answer(line: &str) -> std::result::Result<f64, String> {
    let text = line.trim();
    let shown: String = text.chars().take(80).collect();
    let number = match text.parse::<f64>() {
        Ok(number) => number,
        Err(_) => match crate::file::json::value(text) {
            Ok(Value::Object(object)) => {
                let score = object.get("score").and_then(Value::as_f64);
                score.ok_or_else(|| format!("has no number `score`: `{shown}`"))?
            }
            _ => return Err(format!("is no number: `{shown}`")),
        },
    };
    if number.is_finite() {
        Ok(number)
    } else {
        Err(format!("is not finite: `{shown}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_or_objects() {
        for (line, score) in [
            ("1", 1.0),
            (" -2.5e-1\r", -0.25),
            ("{\"score\": 0}", 0.0),
            ("{\"why\": [1], \"score\": 1.5}", 1.5),
        ] {
            assert_eq!(answer(line), Ok(score));
        }
        for (line, problem) in [
            ("", "no number"),
            ("True", "no number"),
            ("[1]", "no number"),
            ("nan", "not finite"),
            ("-inf", "not finite"),
            ("{\"reward\": 1}", "`score`"),
            ("{\"score\": null}", "`score`"),
        ] {
            assert!(answer(line).unwrap_err().contains(problem), "{line}");
        }
    }
}

#[cfg(all(test, unix))]
mod runs {
    use std::time::Instant;

    use super::*;

    fn run(line: &str, rows: usize, seconds: f64, text: &str) -> Result<Vec<f64>> {
        let fields = json!({"answer": 7, "prompt": "other"});
        let fields: &Map<String, Value> = fields.as_object().unwrap();
        let each = |index| Candidate {
            prompt: "p",
            completion: text,
            index,
            fields,
        };
        let rows: Vec<Candidate> = (0..rows).map(each).collect();
        let settings = CommandSettings {
            command: Line::Shell(line.into()),
            timeout: Some(seconds),
        };
        Command::new(&settings, Duration::ZERO)?.score(&rows, &crate::observer::Silent)
    }

    fn refused(line: &str, seconds: f64) -> String {
        run(line, 3, seconds, "x").unwrap_err().to_string()
    }

    #[test]
    fn rows_come_as_json_and_scores_go_back() {
        let line = r#"while read -r row; do
            case "$row" in
                '{"answer":7,"completion":"x\ny","prompt":"p"}') echo '{"score": 2}' ;;
                *) echo "$row" >&2; exit 1 ;;
            esac
        done"#;
        assert_eq!(run(line, 3, 20.0, "x\ny").unwrap(), [2.0; 3]);
        assert_eq!(
            run("cat >/dev/null; echo 1; echo 2", 2, 20.0, "").unwrap(),
            [1.0, 2.0]
        );
        // One that answers without reading.
        assert_eq!(run("echo 1; echo 2", 2, 20.0, "").unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn much_goes_in_while_much_comes_out() {
        // Far beyond what pipes hold, on both ends.
        let (rows, text) = (20_000, "many words ".repeat(20));
        let line = "awk '{ print length($0) } { print \"noise\" > \"/dev/stderr\" }'";
        let scores = run(line, rows, 30.0, &text).unwrap();
        assert_eq!(scores.len(), rows);
        assert!(scores.iter().all(|&s| s == scores[0] && s > 220.0));
        // Answers come only after all was read.
        let line = "awk '{ n++ } END { for (i = 0; i < n; i++) print i }'";
        assert_eq!(
            run(line, rows, 30.0, &text).unwrap()[rows - 1],
            rows as f64 - 1.0
        );
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let clock = Instant::now();
        let line = format!("echo 1; sleep 60 & echo $! > {}; wait", file.display());
        let error = refused(&line, 0.3);
        assert!(clock.elapsed() < Duration::from_secs(10));
        for part in [
            "no answer within 0.3 seconds",
            "1 of 3 rows",
            "--reward-timeout",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let child: i32 = std::fs::read_to_string(file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let child = rustix::process::Pid::from_raw(child).unwrap();
        let gone = || rustix::process::test_kill_process(child).is_err();
        let clock = Instant::now();
        // A zombie is there until its new parent looks.
        let zombie = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
            stat.is_ok_and(|s| s.contains(") Z "))
        };
        while !(gone() || zombie()) {
            assert!(clock.elapsed() < Duration::from_secs(10), "the child lives");
            std::thread::sleep(Duration::from_millis(10));
        }
        // It answers everything and does not end; or reads nothing.
        let error = refused("echo 1; echo 2; echo 3; sleep 60", 0.3);
        assert!(error.contains("3 of 3 rows answered"), "{error}");
        let much = run("sleep 60", 2000, 0.3, &"x".repeat(1000)).unwrap_err();
        assert!(much.to_string().contains("0 of 2000 rows"), "{much}");
    }

    #[test]
    fn what_goes_wrong_is_told_with_its_last_words() {
        for (line, parts) in [
            (
                "read -r row; echo 1; echo 'Traceback' >&2; echo 'KeyError: 7' >&2; exit 3",
                &["exit status: 3", "1 of 3 rows", "Traceback", "KeyError: 7"][..],
            ),
            ("kill -9 $$", &["signal: 9", "0 of 3 rows"]),
            (
                "cat >/dev/null; echo 1; echo 2",
                &["2 of 3 rows", "one line a row"],
            ),
            ("seq 4", &["more answers than the 3 rows"]),
            ("echo 1; echo hello", &["answer 2 is no number: `hello`"]),
            ("echo nan", &["answer 1 is not finite"]),
            ("no-such-program-here", &["exit status: 127", "not found"]),
            ("printf '1\\n\\377\\n3\\n'", &["answer 2"]),
        ] {
            let error = refused(line, 20.0);
            for part in parts {
                assert!(error.contains(part), "{line}: {error}");
            }
        }
        let settings = CommandSettings {
            command: Line::Program(vec!["no-such-program-here".into()]),
            timeout: None,
        };
        let fields = Map::new();
        let row = Candidate {
            prompt: "",
            completion: "",
            index: 0,
            fields: &fields,
        };
        let mut program = Command::new(&settings, Duration::from_secs(9)).unwrap();
        let error = program
            .score(&[row], &crate::observer::Silent)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cannot run it"), "{error}");
        assert!(seconds_of(0.0).is_err() && seconds_of(-1.0).is_err());
        assert!(seconds_of(f64::NAN).is_err() && seconds_of(1e30).is_err());
    }
}
