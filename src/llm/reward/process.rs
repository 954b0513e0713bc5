//! A child process that is fed, listened to, and killed if it must be.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{self, Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::command::Line;

/// How many of its last lines on standard error are kept, and how much of each.
const LAST: (usize, usize) = (8, 400);

/// How long is waited for what it said last.
const GRACE: Duration = Duration::from_millis(500);

/// How a process ended before its time.
pub(super) enum Ended {
    TimedOut,
    Unread(io::Error),
}

/// A running process. Three threads feed and listen, so that no pipe that is full can stop it. When
/// this is dropped it is killed, with all that it started.
pub(super) struct Process {
    child: Child,
    lines: Receiver<io::Result<String>>,
    errors: Receiver<()>,
    said: Arc<Mutex<VecDeque<String>>>,
    ended: bool,
}

impl Process {
    /// Starts it with that input.
    pub fn start(line: &Line, input: Vec<u8>) -> io::Result<Self> {
        let mut command = match line {
            Line::Program(words) => {
                let mut command = process::Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1));
                command
            }
            Line::Shell(line) => shell(line),
        };
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        // Threads are not joined: one may wait for a grandchild that has left the group.
        thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // One that does not read what it is given may yet answer.
                let _ = stdin.write_all(&input);
            }
        });
        let (send, lines) = sync_channel(1024);
        let stdout = child.stdout.take();
        thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (done, errors) = sync_channel(1);
        let (stderr, kept) = (child.stderr.take(), Arc::clone(&said));
        thread::spawn(move || {
            if let Some(stderr) = stderr {
                listen(stderr, &kept);
            }
            drop(done);
        });
        Ok(Self {
            child,
            lines,
            errors,
            said,
            ended: false,
        })
    }

    /// Its next line, or none where its output ends.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<String>, Ended> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => line.map(Some).map_err(Ended::Unread),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                Err(Ended::TimedOut)
            }
        }
    }

    /// Waits for its end, which is soon once its output has ended.
    pub fn end(&mut self, timeout: Duration) -> Result<ExitStatus, Ended> {
        let clock = Instant::now();
        loop {
            match self.child.try_wait() {
                Err(reason) => return Err(Ended::Unread(reason)),
                Ok(Some(status)) => {
                    self.ended = true;
                    return Ok(status);
                }
                Ok(None) if clock.elapsed() >= timeout => {
                    self.kill();
                    return Err(Ended::TimedOut);
                }
                Ok(None) => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Its last lines on standard error, to be put after a message.
    pub fn said(&self) -> String {
        // Until its standard error is closed, or long enough.
        let _ = self.errors.recv_timeout(GRACE);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.is_empty() {
            true => String::new(),
            false => {
                let lines: Vec<&str> = said.iter().map(String::as_str).collect();
                format!("\nits last words:\n  {}", lines.join("\n  "))
            }
        }
    }

    fn kill(&mut self) {
        if self.ended {
            return;
        }
        // Before it is waited for: until then its number is no one else's.
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(unix)]
fn shell(line: &str) -> process::Command {
    let mut command = process::Command::new("sh");
    command.arg("-c").arg(line);
    command
}

#[cfg(windows)]
fn shell(line: &str) -> process::Command {
    use std::os::windows::process::CommandExt;
    let mut command = process::Command::new("cmd");
    // As it is: cmd has its own rules for quotes.
    command.arg("/C").raw_arg(line);
    command
}

/// Keeps the last lines of a stream.
fn listen(stream: impl Read, kept: &Mutex<VecDeque<String>>) {
    let (most, longest) = LAST;
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let line: String = (String::from_utf8_lossy(&line).trim_end().chars())
            .take(longest)
            .collect();
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
