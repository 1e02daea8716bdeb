"""The proxy as a process: start, ask its admin, reload, measure, stop.

What it leaves to others: its configuration (`config.py`). `PROXY_BINARY` names the binary and
`PROXY_KIND` says which command line it has: `tidegate` (the default) or `envoy`, so that a test can
be tried on the reference.
"""
import collections
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from .config import to_yaml

CONFINE = Path(__file__).with_name("confine.py")
HERTZ = os.sysconf("SC_CLK_TCK")


class Proxy:
    """One running proxy. `config` is a bootstrap value; its admin port is read from it."""

    def __init__(self, directory, config, backend="", args=(), confine=(), concurrency=2,
                 ready=10.0, name="proxy"):
        self.directory = Path(directory)
        self.backend = backend
        self.path = self.directory / f"{name}.yaml"
        self.log_path = self.directory / f"{name}.log"
        self.write(config)
        self.stopped = False
        self.started = time.monotonic()
        self.process = self._spawn(list(args), list(confine), concurrency)
        self.pid = self.process.pid
        if ready:
            self.wait_ready(ready)

    def _spawn(self, args, confine, concurrency):
        command = command_line(self.path, self.backend, concurrency) + args
        if confine:
            command = [sys.executable, str(CONFINE), *confine, "--", *command]
        with open(self.log_path, "wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def write(self, config):
        """Writes the configuration file (a value, or text as it is), as one rename."""
        text = config if isinstance(config, str) else to_yaml(config) + "\n"
        if not isinstance(config, str):
            self.admin = config["admin"]["address"]["socket_address"]["port_value"]
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.chmod(new, 0o644)
        new.rename(self.path)

    def reload(self, config):
        """Writes a configuration and asks for it with SIGHUP."""
        self.write(config)
        self.process.send_signal(signal.SIGHUP)

    def log(self):
        """What it has written to its stdout and stderr."""
        return self.log_path.read_text(errors="replace")

    def fetch(self, path, method="GET"):
        """Status and body of an admin page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait_ready(self, seconds):
        """Waits until `/ready` answers 200."""
        end = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                code, said = self.process.returncode, self.log()[-3000:]
                raise AssertionError(f"exited with {code}:\n{said}")
            try:
                if self.fetch("/ready")[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                raise AssertionError(f"not ready after {seconds} s:\n{self.log()[-3000:]}")
            time.sleep(0.01)

    def stats(self):
        """Counters and gauges by name."""
        listed = json.loads(self.fetch("/stats?format=json")[1])["stats"]
        return {entry["name"]: entry["value"] for entry in listed if "name" in entry}

    def stat(self, name):
        """One counter or gauge; 0 when it does not exist."""
        return self.stats().get(name, 0)

    def wait_stat(self, name, value, seconds=5.0):
        """Waits until a stat has that value, and fails with what it had."""
        wait_until(lambda: self.stat(name) == value, seconds,
                   lambda: f"{name} is {self.stat(name)}, not {value}")

    def rss_kb(self):
        """Resident memory."""
        return self._status("VmRSS")

    def peak_kb(self):
        """Highest resident memory so far."""
        return self._status("VmHWM")

    def _status(self, key):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise AssertionError(f"no {key} of {self.pid}")

    def descriptors(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def descriptor_kinds(self):
        """How many it has open of each kind."""
        kinds = collections.Counter()
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                kinds[os.readlink(descriptor).split(":")[0]] += 1
        return dict(kinds)

    def cpu_seconds(self):
        """CPU time used so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / HERTZ

    def limit_descriptors(self, count):
        """Sets RLIMIT_NOFILE of the running process."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (count, hard))

    def wait_exit(self, seconds=15.0):
        """Exit status of a proxy that is expected to end by itself."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} s:\n{self.log()[-3000:]}") from None

    def stop(self):
        """Ends it without a drain and fails if it had panicked or died."""
        if self.stopped:
            return
        self.stopped = True
        died = self.process.poll()
        if died is None:
            self.process.kill()
            self.process.wait()
        log = self.log()
        if "panicked" in log or "RUST_BACKTRACE" in log:
            raise AssertionError(f"it panicked:\n{log[-3000:]}")
        if died is not None and died < 0 and died != -signal.SIGTERM:
            raise AssertionError(f"it died of signal {-died}:\n{log[-3000:]}")


def kind():
    """`tidegate` or `envoy`."""
    return os.environ.get("PROXY_KIND", "tidegate")


def binary():
    """The proxy under test."""
    return os.environ["PROXY_BINARY"]


def command_line(path, backend, concurrency):
    """How the proxy under test is started on a configuration file."""
    command = [binary(), "-c", str(path), "--concurrency", str(concurrency)]
    if kind() == "envoy":
        return command + ["-l", "warning", "--use-dynamic-base-id"]
    return command + (["--io-backend", backend] if backend else [])


def run_proxy(*args, seconds=20.0, confine=()):
    """Runs the binary to its end: (exit status, everything that it wrote)."""
    command = [binary(), *map(str, args)]
    if confine:
        command = [sys.executable, str(CONFINE), *confine, "--", *command]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, timeout=seconds)
    return done.returncode, done.stdout.decode(errors="replace")


def wait_until(condition, seconds, describe):
    """Polls a condition; fails with `describe()` when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s: {describe()}")
        time.sleep(0.02)


def can_bind(port):
    """Whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
