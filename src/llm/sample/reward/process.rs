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

/// Longest line of its answers, in bytes.
const LONGEST: u64 = 1 << 20;

/// How often it is looked at whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How long is waited for what it said last.
const GRACE: Duration = Duration::from_millis(500);

/// How a process ended before its time.
pub(super) enum Ended {
    TimedOut,
    Unread(io::Error),
}

/// A running process. Three threads feed and listen, so that no pipe that is full can stop it. When
/// this is dropped it is killed, with all that it started and left in its process group, and so it is
/// when this process ends, however it ends: see [`watch`].
pub(super) struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// What ends the group, and leads it: its number is no one else's until it is waited for.
    watcher: Option<Child>,
    lines: Receiver<io::Result<String>>,
    errors: Receiver<()>,
    said: Arc<Mutex<VecDeque<String>>>,
    gone: bool,
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
        let watcher = watch();
        #[cfg(unix)]
        {
            // In the watcher's group, or else in one of its own.
            let group = watcher.as_ref().and_then(|w| i32::try_from(w.id()).ok());
            std::os::unix::process::CommandExt::process_group(&mut command, group.unwrap_or(0));
        }
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                watcher.into_iter().for_each(dismiss);
                return Err(error);
            }
        };
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
            let mut stdout = BufReader::new(stdout);
            while let Some(line) = next_line(&mut stdout) {
                let broken = line.is_err();
                if send.send(line).is_err() || broken {
                    return;
                }
            }
        });
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (done, errors) = sync_channel(1);
        let (stderr, kept) = (child.stderr.take(), Arc::clone(&said));
        thread::spawn(move || {
            if let Some(stderr) = stderr {
                listen(BufReader::new(stderr), &kept);
            }
            drop(done);
        });
        Ok(Self {
            child,
            status: None,
            watcher,
            lines,
            errors,
            said,
            gone: false,
        })
    }

    /// Its next line, or none where its output ends. Once it is `done` with its answers its output ends
    /// with itself, whatever it has left in the background.
    pub fn next(&mut self, timeout: Duration, done: bool) -> Result<Option<String>, Ended> {
        let clock = Instant::now();
        loop {
            let left = timeout.saturating_sub(clock.elapsed());
            match self
                .lines
                .recv_timeout(if done { left.min(LOOK) } else { left })
            {
                Ok(line) => return line.map(Some).map_err(Ended::Unread),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if clock.elapsed() >= timeout => {
                    self.kill();
                    return Err(Ended::TimedOut);
                }
                Err(RecvTimeoutError::Timeout) if !self.gone && self.has_ended()? => self.kill(),
                // One that left the group may hold the output open still.
                Err(RecvTimeoutError::Timeout) if self.gone => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn has_ended(&mut self) -> Result<bool, Ended> {
        if self.status.is_none() {
            self.status = self.child.try_wait().map_err(Ended::Unread)?;
        }
        Ok(self.status.is_some())
    }

    /// Waits for its end, which is soon once its output has ended.
    pub fn end(&mut self, timeout: Duration) -> Result<ExitStatus, Ended> {
        let clock = Instant::now();
        loop {
            self.has_ended()?;
            match self.status {
                Some(status) => return Ok(status),
                None if clock.elapsed() >= timeout => {
                    self.kill();
                    return Err(Ended::TimedOut);
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Its last lines on standard error, to be put after a message.
    pub fn said(&self) -> String {
        // Until its standard error is closed, or long enough.
        let _ = self.errors.recv_timeout(GRACE);
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() {
            String::new()
        } else {
            let lines: Vec<&str> = said.iter().map(String::as_str).collect();
            format!("\nits last words:\n  {}", lines.join("\n  "))
        }
    }

    /// Ends it, with what is left of its group.
    fn kill(&mut self) {
        if self.gone {
            return;
        }
        self.gone = true;
        // Before the one that leads it is waited for: until then its number is no one else's.
        match (self.watcher.take(), self.status) {
            (Some(watcher), _) => dismiss(watcher),
            (None, None) => kill_group(&self.child),
            (None, Some(_)) => {}
        }
        if self.status.is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

/// Ends the group that a process leads.
fn kill_group(leader: &Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        let _ = kill_process_group(Pid::from_child(leader), Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = leader;
}

/// Ends a watcher with its group.
fn dismiss(mut watcher: Child) {
    kill_group(&watcher);
    let _ = watcher.wait();
}

/// Leads a process group, waits until its standard input ends, and then ends the group: a pipe's end
/// that only this process holds is closed by the system when this process ends, be it by a signal that
/// nobody can hear. A signal on the death of a parent would be of the thread that started a program, and
/// would not reach what that program starts.
const WATCH: &str = "trap '' INT TERM HUP; read -r line; kill -KILL 0";

/// Such a process, if there is a shell that can be one.
fn watch() -> Option<Child> {
    if !cfg!(unix) {
        return None;
    }
    let mut command = shell(WATCH);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok()
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

/// The next line, without its end.
fn next_line(stream: &mut impl BufRead) -> Option<io::Result<String>> {
    let mut line = Vec::new();
    match stream.take(LONGEST + 1).read_until(b'\n', &mut line) {
        Err(error) => Some(Err(error)),
        Ok(0) => None,
        Ok(_) => {
            if line.ends_with(b"\n") {
                line.pop();
            }
            Some(if line.len() as u64 > LONGEST {
                Err(io::Error::other(format!(
                    "a line has more than {LONGEST} bytes"
                )))
            } else {
                Ok(String::from_utf8_lossy(&line).into_owned())
            })
        }
    }
}

/// Keeps the last lines of a stream, of each its beginning, however long it is.
fn listen(mut stream: impl BufRead, kept: &Mutex<VecDeque<String>>) {
    let (most, longest) = LAST;
    let mut line: Vec<u8> = Vec::new();
    loop {
        let (used, whole) = match stream.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok([]) | Err(_) if line.is_empty() => return,
            Ok([]) | Err(_) => (0, true),
            Ok(bytes) => {
                let end = bytes.iter().position(|&b| b == b'\n');
                let text = &bytes[..end.unwrap_or(bytes.len())];
                // A character has at most 4 bytes.
                let room = (4 * longest).saturating_sub(line.len());
                line.extend_from_slice(&text[..text.len().min(room)]);
                (end.map_or(bytes.len(), |end| end + 1), end.is_some())
            }
        };
        stream.consume(used);
        if whole {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end().chars().take(longest).collect();
            line.clear();
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == most {
                kept.pop_front();
            }
            kept.push_back(text);
            drop(kept);
            if used == 0 {
                return;
            }
        }
    }
}
