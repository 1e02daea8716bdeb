#!/usr/bin/env python3
"""Runs Autobahn's fuzzing client directly and through the proxy, and compares the verdicts.

Called by `scripts/autobahn`, which installs the suite. What it leaves to others: whether the origin
is right; the proxy must not change what it does.
"""
import collections
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from rig import Rig, route  # noqa: E402  (bytecode is switched off first)
from test_clients import websocket_echo  # noqa: E402

# 9: limits and performance; 12 and 13: compression, which the echo origin does not offer.
EXCLUDED = ["9.*", "12.*", "13.*"]
# Some verdicts depend on timing, directly too: cases that differ are run again, this many times.
AGAIN = 3


def verdicts(python2, where, port, name, cases=("*",)):
    """Verdict of each case."""
    reports = where / f"reports-{name}"
    spec = {"outdir": str(reports), "exclude-cases": EXCLUDED, "cases": list(cases),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}]}
    path = where / f"{name}.json"
    path.write_text(json.dumps(spec))
    subprocess.run(
        [python2, "-m", "autobahntestsuite.wstest", "-m", "fuzzingclient", "-s", str(path)],
        env={**os.environ, "PYTHONPATH": str(where / "site")}, cwd=where, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    index = json.loads((reports / "index.json").read_text())[name]
    return {case: entry["behavior"] for case, entry in index.items()}


def differing(python2, where, origin, backend, direct):
    """Cases whose verdict through the proxy was never seen directly, with both."""
    rig = Rig(backend)
    try:
        upgrade = route("/", "origin", upgrade_configs=[{"upgrade_type": "websocket"}],
                        timeout="0s")
        _, port = rig.front(origin, routes=[upgrade])
        through = verdicts(python2, where, port, backend or "through")
        print(f"{backend}: {dict(collections.Counter(through.values()))}")
        seen = {case: ({direct[case]}, {through.get(case)}) for case in direct}
        for _ in range(AGAIN):
            cases = [case for case, (one, other) in seen.items() if not one & other]
            if not cases:
                break
            for place, at in enumerate((origin, port)):
                for case, verdict in verdicts(python2, where, at, "again", cases).items():
                    seen[case][place].add(verdict)
        return {case: both for case, both in seen.items() if not both[0] & both[1]}
    finally:
        rig.close()


def main():
    """Compares; exit status 1 when the proxy changes a verdict."""
    python2, where, binary, backends = sys.argv[1:]
    os.environ.update(PROXY_BINARY=str(Path(binary).resolve()))
    os.environ.setdefault("PROXY_KIND", "tidegate")
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    origin = websocket_echo()
    direct = verdicts(python2, Path(where), origin, "direct")
    print(f"directly: {dict(collections.Counter(direct.values()))}")
    passed = failed = 0
    for backend in backends.split(","):
        wrong = differing(python2, Path(where), origin, backend, direct)
        for case, (one, other) in wrong.items():
            print(f"  case {case}: {one} directly, {other} through the proxy")
        passed, failed = passed + len(direct) - len(wrong), failed + len(wrong)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
