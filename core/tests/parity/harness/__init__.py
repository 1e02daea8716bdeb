"""What the parity test stands on: subjects, the two sides, their origins, and the comparison.

What it leaves to others: which files run and in what order (`run.py`), what is asked (`cases/`).
The proxy as a process, the configuration skeletons and the strict HTTP reader are the acceptance
tests' own rig.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "acceptance"))
