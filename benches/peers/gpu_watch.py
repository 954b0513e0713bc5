"""What is seen of a GPU from outside: which it is, and the memory that a run takes, the same way for everybody."""

import os
import platform
import signal
import statistics
import subprocess
import threading


def query(fields, *more):
    # The first GPU that programs see: CUDA may call another one the first than nvidia-smi does.
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    return ["nvidia-smi", "-i", first, f"--query-gpu={fields}", "--format=csv,noheader,nounits", *more]


def machine():
    """GPU and driver, processor and system."""
    try:
        done = subprocess.run(query("name,driver_version,memory.total,clocks.max.sm,power.limit"), capture_output=True,
                              text=True, timeout=30)
        found = done.stdout.strip() if done.returncode == 0 else "nvidia-smi failed"
    except (OSError, subprocess.TimeoutExpired):
        found = "no GPU (nvidia-smi is not there)"
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.machine())
    return f"{found}; {model}, {os.cpu_count()} CPUs, Linux {platform.release()}"


class Memory:
    """The GPU's used memory ten times a second, while in the block."""

    def __enter__(self):
        self.seen, self.child = [], None
        try:
            self.child = subprocess.Popen(query("memory.used", "-lms", "100"), stdout=subprocess.PIPE,
                                          stderr=subprocess.DEVNULL, text=True)
        except OSError:
            return self
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def read(self):
        for line in self.child.stdout:
            if line.strip().isdigit():
                self.seen.append(int(line))

    def __exit__(self, *_):
        if self.child:
            self.child.terminate()
            self.child.wait()
            self.reader.join(5)

    def taken_mb(self):
        """The most above the start, in MB of 10^6 bytes."""
        if len(self.seen) < 2:
            return None
        return (max(self.seen) - statistics.median(self.seen[:2])) * 1.048576


def end(child):
    """Ends a process that still runs, and all that it started."""
    if child.poll() is not None:
        return
    for how in [signal.SIGTERM, signal.SIGKILL]:
        try:
            os.killpg(child.pid, how)
        except ProcessLookupError:
            break
        try:
            child.wait(timeout=10)
            break
        except subprocess.TimeoutExpired:
            continue
    child.wait()
