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
# Verdicts of cases that depend on timing may be one or the other; at most this many may differ.
TIMING = {"OK", "NON-STRICT"}
TIMING_MAX = 2


def verdicts(python2, where, port, name):
    """Verdict of each case."""
    reports = where / f"reports-{name}"
    spec = {"outdir": str(reports), "exclude-cases": EXCLUDED, "cases": ["*"],
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}]}
    path = where / f"{name}.json"
    path.write_text(json.dumps(spec))
    subprocess.run(
        [python2, "-m", "autobahntestsuite.wstest", "-m", "fuzzingclient", "-s", str(path)],
        env={**os.environ, "PYTHONPATH": str(where / "site")}, cwd=where, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    index = json.loads((reports / "index.json").read_text())[name]
    return {case: entry["behavior"] for case, entry in index.items()}


def through_proxy(python2, where, origin, backend):
    """Verdicts through a proxy on one backend."""
    rig = Rig(backend)
    try:
        upgrade = route("/", "origin", upgrade_configs=[{"upgrade_type": "websocket"}],
                        timeout="0s")
        _, port = rig.front(origin, routes=[upgrade])
        return verdicts(python2, where, port, backend or "through")
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
        through = through_proxy(python2, Path(where), origin, backend)
        print(f"{backend}: {dict(collections.Counter(through.values()))}")
        differing = [c for c in direct if direct[c] != through.get(c)]
        hard = [c for c in differing if not {direct[c], through.get(c)} <= TIMING]
        for case in differing:
            print(f"  case {case}: {direct[case]} directly, {through.get(case)} through the proxy")
        wrong = len(hard) + max(0, len(differing) - len(hard) - TIMING_MAX)
        passed, failed = passed + len(direct) - wrong, failed + wrong
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
