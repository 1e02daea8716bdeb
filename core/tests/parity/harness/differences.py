"""The list of allowed differences, and what of it no longer holds.

What it leaves to others: finding differences (`observation.py`).

An entry names a subject, then either a setup that is refused (`reason: "not yet: <field>"`), or
cases and the paths that differ. A path, a case and a subject may be patterns (`*`). `sometimes:
true` is for what depends on timing: it need not occur.
"""
import fnmatch
from pathlib import Path

import yaml

NOT_YET = "not yet: "
KEYS = {"subject", "setup", "case", "differs", "reason", "sometimes"}


class Entry:
    """One allowed difference."""

    def __init__(self, given, line):
        if set(given) - KEYS or "reason" not in given or "subject" not in given \
                or ("setup" in given) == ("case" in given):
            raise ValueError(f"differences.yaml:{line}: not an entry: {given}")
        self.line = line
        self.subject = given["subject"]
        self.setup = given.get("setup")
        self.cases = listed(given.get("case", []))
        self.paths = listed(given.get("differs", "verdict"))
        self.reason = given["reason"]
        self.not_yet = self.reason.startswith(NOT_YET)
        if self.setup and not self.not_yet:
            raise ValueError(f"differences.yaml:{line}: a refused setup is 'not yet: <field>'")
        self.used = set()
        self.equal = []
        self.unseen = given.get("sometimes", False)

    def covers(self, case):
        """Whether it speaks of this case."""
        return any(fnmatch.fnmatchcase(case, pattern) for pattern in self.cases)

    def stale(self):
        """What of it no longer holds, when its whole subject has run."""
        if self.setup:
            return [] if self.used else [f"setup {self.setup} is no longer refused for this"]
        if self.unseen:
            return []
        unused = [path for path in self.paths if path not in self.used]
        return ([f"no difference at {path}" for path in unused]
                or [f"equal now: {case}" for case in self.equal])


class Differences:
    """All entries."""

    def __init__(self, path):
        text = Path(path).read_text()
        nodes = yaml.compose(text)
        lines = [node.start_mark.line + 1 for node in nodes.value] if nodes else []
        self.entries = [Entry(*pair) for pair in zip(yaml.safe_load(text) or [], lines)]

    def of(self, subject):
        """The entries of a subject."""
        return [e for e in self.entries if fnmatch.fnmatchcase(subject, e.subject)]

    def refused(self, subject, setup, errors):
        """The entry that allows this setup to be refused with these errors. Each field that it
        names, after commas, must be in them."""
        for entry in self.of(subject):
            fields = entry.reason.removeprefix(NOT_YET).split(", ")
            if entry.setup == setup and all(field in errors for field in fields):
                entry.used.add(setup)
                return entry
        return None

    def explain(self, subject, case, found):
        """(What no entry allows, the entries that allow the rest)."""
        left, entries = list(found), []
        for entry in self.of(subject):
            if not entry.covers(case):
                continue
            before = len(left)
            for pattern in entry.paths:
                if any(fnmatch.fnmatchcase(path, pattern) for path, _, _ in found):
                    entry.used.add(pattern)
                left = [d for d in left if not fnmatch.fnmatchcase(d[0], pattern)]
            if len(left) == before:
                # A pattern covers what differs of what it names; a name has to differ.
                if case in entry.cases:
                    entry.equal.append(case)
            else:
                entries.append(entry)
        return left, entries


def listed(value):
    """One or several."""
    return value if isinstance(value, list) else [value]
