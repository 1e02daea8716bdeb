"""`seccomp/make` on profiles of the forms that runtimes have.

What it leaves to others: a runtime's whole profile, which is not ours to keep here.
"""
import json
import subprocess
import unittest

import rig

MAKE = rig.load("seccomp/make")
CALLS = list(MAKE.CALLS)


def allow_list(*rules):
    """A profile that denies what it does not name, as Docker's."""
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}, *rules]}


def make(profile, *words):
    """Runs it as people do: (exit status, output, errors)."""
    text = profile if isinstance(profile, str) else json.dumps(profile)
    done = subprocess.run([rig.TUNING / "seccomp/make", *words], input=text, text=True,
                          capture_output=True, timeout=20, check=False)
    return done.returncode, done.stdout, done.stderr


class Seccomp(unittest.TestCase):
    """Profiles in, profiles out."""

    def test_the_three_are_added_and_nothing_else_is_changed(self):
        before = allow_list({"names": ["bpf"], "action": "SCMP_ACT_ALLOW",
                             "includes": {"caps": ["CAP_BPF"]}})
        self.assertEqual(make(before, "--check")[0], 1)
        status, said, _ = make(before)
        self.assertEqual(status, 0)
        after = json.loads(said)
        added = {"names": CALLS, "action": "SCMP_ACT_ALLOW"}
        self.assertEqual(after, {**before, "syscalls": before["syscalls"] + [added]})
        self.assertEqual(make(said, "--check"), (0, "allows io_uring\n", ""))
        self.assertEqual(make(said)[1], said)

    def test_what_denies_them_by_name_gives_way(self):
        denied = {"names": ["io_uring_setup", "userfaultfd"], "action": "SCMP_ACT_ERRNO",
                  "errnoRet": 38}
        old = {"name": "io_uring_enter", "action": "SCMP_ACT_ERRNO"}
        after = MAKE.with_io_uring(allow_list(denied, old))
        self.assertIn({**denied, "names": ["userfaultfd"]}, after["syscalls"])
        self.assertNotIn(old, after["syscalls"])
        self.assertTrue(all(MAKE.allows(after, call) for call in CALLS))

    def test_what_is_allowed_under_a_condition_is_not_enough(self):
        some = {"names": CALLS, "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]}}
        after = MAKE.with_io_uring(allow_list(some))
        self.assertEqual(after["syscalls"][-1], {"names": CALLS, "action": "SCMP_ACT_ALLOW"})
        part = {"names": CALLS[:2], "action": "SCMP_ACT_ALLOW"}
        after = MAKE.with_io_uring(allow_list(part))
        self.assertEqual(after["syscalls"][-1]["names"], CALLS[2:])

    def test_a_profile_that_allows_by_default(self):
        profile = {"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}
        self.assertEqual(MAKE.with_io_uring(profile), profile)
        profile["syscalls"].append({"names": CALLS, "action": "SCMP_ACT_ERRNO"})
        self.assertEqual(len(MAKE.with_io_uring(profile)["syscalls"]), 1)

    def test_what_is_no_profile_is_refused(self):
        for text in ("", "{", "[]", "{}", '{"defaultAction": "x", "syscalls": [{}]}'):
            status, said, errors = make(text)
            self.assertEqual((status, said), (2, ""), text)
            self.assertTrue(errors.startswith("<stdin>: "), errors)
