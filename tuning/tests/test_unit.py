"""The systemd unit: it is understood, and its sandbox is rated.

What it leaves to others: starting it, for which a test would need a machine of its own.
"""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import rig

UNIT = rig.TUNING / "tidegate.service"
EXPOSURE_MAX = 2.0


def analyze(*words):
    """Runs systemd-analyze: (exit status, what it wrote)."""
    done = subprocess.run(["systemd-analyze", *map(str, words)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


@unittest.skipUnless(shutil.which("systemd-analyze"), "the unit's sandbox: no systemd-analyze")
class Unit(unittest.TestCase):
    """What systemd says of it, without running."""

    def test_it_is_understood(self):
        with tempfile.TemporaryDirectory() as directory:
            unit = Path(directory, "tidegate.service")
            # It is looked for, and it is not installed here.
            unit.write_text(UNIT.read_text().replace("/usr/bin/tidegate", "/bin/true"))
            self.assertEqual(analyze("verify", unit), (0, ""))

    def test_its_exposure_is_small(self):
        status, said = analyze("security", "--offline=true", "--no-pager", UNIT)
        if status and "--offline" in said:
            self.skipTest("the unit's sandbox: systemd-analyze is older than 250")
        level = re.search(r"Overall exposure level for tidegate.service: ([\d.]+)", said)
        self.assertLessEqual(float(level.group(1)), EXPOSURE_MAX, said)


class CallsOfTheUnit(unittest.TestCase):
    """What its comments promise."""

    def test_io_uring_stays_allowed(self):
        text = UNIT.read_text()
        self.assertIn("\nSystemCallFilter=@system-service\n", text)
        self.assertNotRegex(text, r"SystemCallFilter=~.*@(aio|resources|system-service)")
        drain = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
        self.assertGreater(int(drain.group(1)), 600)
