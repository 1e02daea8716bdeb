"""Conformance suites and clients that `scripts/test` installs, and how they are run.

What it leaves to others: what must pass.
"""
import shutil
import subprocess
from pathlib import Path

# Where `scripts/test` installs what no distribution packages: names like `client` would not do on
# PATH.
TARGET = Path(__file__).resolve().parents[4] / "target"
TOOLS = TARGET / "tools" / "bin"
# Where our own are built, with everything else.
BUILT = TARGET / "quick"


def tool(name):
    """The path of a tool; a machine without it fails, because nothing is skipped silently."""
    paths = [path for path in (TOOLS / name, BUILT / name) if path.exists()]
    found = str(paths[0]) if paths else shutil.which(name)
    assert found, f"no {name}: scripts/test installs it"
    return found


def run(*command, seconds=60, fails=False, **options):
    """What a command wrote; fails when it does, unless that is expected (`fails`)."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=seconds, check=False, **options)
    text = done.stdout.decode(errors="replace")
    assert fails or done.returncode == 0, f"{command[0]}: {done.returncode}\n{text[-2000:]}"
    return text
