"""`tune` on a tree of files that stands for a machine with everything: four CPUs, a governor, a
device with two queues and its interrupts.

What it leaves to others: a real kernel (`inside_namespace.py`).
"""
import errno
import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path

import rig
from knobs import KNOBS, SYSCTLS, met
from places import Host, cpu_list, cpu_mask

SYSCTL_VALUES = {
    "net.core.somaxconn": "128",
    "net.core.netdev_max_backlog": "1000",
    "net.ipv4.tcp_max_syn_backlog": "65536",  # more than is wanted
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.tcp_rmem": "4096\t131072\t6291456",
    "net.ipv4.tcp_wmem": "4096\t16384\t4194304",
    "fs.pipe-user-pages-soft": "0",  # no limit
    "fs.file-max": "9223372036854775807",
    "fs.nr_open": "524288",
    "kernel.io_uring_group": "-1",
}
ETHTOOL = {"channels": "1", "channels.max": "2", "rx-ring": "256", "rx-ring.max": "4096",
           "tx-ring": "256", "tx-ring.max": "512", "adaptive-rx": "1", "rx-usecs": "50",
           "gro": "0", "tso": "1", "gso": "1"}
EVERYTHING = ",".join(sorted({knob.family for knob in KNOBS}))


def make_machine(root):
    """Writes the tree."""
    files = {"/sys/devices/system/cpu/online": "0-3",
             "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
             "/proc/sys/net/core/rps_sock_flow_entries": "0"}
    for knob in SYSCTLS:
        path = "/proc/sys/" + knob.family.replace(".", "/")
        files[path] = SYSCTL_VALUES.get(knob.family, "2")
    for cpu in range(4):
        files[f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"] = "powersave"
    device = "/sys/class/net/eth0"
    for index in range(2):
        files[f"{device}/queues/rx-{index}/rps_cpus"] = "00000000,00000000"
        files[f"{device}/queues/rx-{index}/rps_flow_cnt"] = "0"
        files[f"{device}/queues/tx-{index}/xps_cpus"] = "f"
    for number, action in ((30, "eth0-config"), (31, "eth0-TxRx-0"),
                           (32, "mlx5_comp1@pci:0000:08:00.0")):
        files[f"{device}/device/msi_irqs/{number}"] = "msix"
        files[f"/proc/irq/{number}/smp_affinity_list"] = "0-3"
        files[f"/proc/irq/{number}/{action}/none"] = ""
    files.update({f"/ethtool/eth0/{name}": value for name, value in ETHTOOL.items()})
    for path, text in files.items():
        place = Path(root + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n", encoding="utf-8")


class Tree(unittest.TestCase):
    """A machine of its own for every test."""

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="tidegate-tune-", dir=rig.MEMORY)
        self.addCleanup(shutil.rmtree, self.root)
        make_machine(self.root)
        self.state = Path(self.root, "var/lib/tidegate/tune.json")
        self.before = rig.snapshot(Host(self.root))

    def now(self, name=None):
        """What a knob is now, or all of them."""
        found = rig.snapshot(Host(self.root))
        return found[name] if name else found

    def revert(self):
        """Takes back, and everything must be as it was."""
        status, said = rig.tune("--root", self.root, "--revert")
        self.assertEqual(status, 0, said)
        self.assertEqual(self.now(), self.before)
        self.assertFalse(self.state.exists())

    def test_nothing_is_changed_without_apply(self):
        status, said = rig.run("--root", self.root)
        self.assertEqual((status, self.now()), (0, self.before), said)
        self.assertIn("net.core.somaxconn: 128 -> 4096\n      Upper bound", said)
        self.assertIn("net.ipv4.tcp_max_syn_backlog = 65536, as wanted", said)
        self.assertFalse(self.state.exists())
        self.assertEqual(rig.tune("--root", self.root, "--revert"), (0, "nothing to do\n"))

    def test_what_is_wanted_is_set(self):
        status, said = rig.tune("--root", self.root, "--apply")
        self.assertEqual(status, 0, said)
        wanted = {
            "net.core.somaxconn": "4096", "net.ipv4.ip_local_port_range": "16384 65535",
            "fs.pipe-user-pages-soft": "0", "fs.file-max": "9223372036854775807",
            "thp": "madvise", "governor.cpu3": "performance", "irq.eth0.31": "0",
            "irq.eth0.32": "1", "rps.eth0.rx-1": "f", "rfs.eth0.rx-0": "16384",
            "net.core.rps_sock_flow_entries": "32768", "xps.eth0.tx-0": "5",
            "xps.eth0.tx-1": "a", "ethtool.gro.eth0": "1",
            # On request only, or left alone.
            "kernel.io_uring_disabled": "2", "ethtool.channels.eth0": "1",
            "net.ipv4.tcp_rmem": "4096 131072 6291456", "net.core.busy_poll": "2",
            "limits.nofile": "absent"}
        self.assertEqual({name: self.now(name) for name in wanted}, wanted)
        self.assertNotIn("irq.eth0.30", self.now())
        self.revert()

    def test_on_request_by_name_only(self):
        self.assertEqual(rig.tune("--root", self.root, "--apply", "--only", EVERYTHING)[0], 0)
        self.assertEqual(self.now("ethtool.channels.eth0"), "2")
        self.assertEqual(self.now("ethtool.tx-ring.eth0"), "512")
        self.assertEqual(self.now("kernel.io_uring_disabled"), "0")
        self.assertEqual(self.now("limits.nofile"), "* - nofile 1048576")
        self.revert()
        rig.tune("--root", self.root, "--apply", "--only", "ethtool,net.ipv4")
        self.assertEqual(self.now("ethtool.channels.eth0"), "1")
        self.assertEqual(self.now("net.ipv4.tcp_rmem"), self.before["net.ipv4.tcp_rmem"])
        self.assertEqual(self.now("net.core.somaxconn"), "128")
        self.revert()

    def test_another_value(self):
        words = ("--root", self.root, "--apply", "--set", "kernel.io_uring_group=990")
        self.assertEqual(rig.tune(*words)[0], 0)
        changed = {name for name, value in self.now().items() if value != self.before[name]}
        self.assertEqual(changed, {"kernel.io_uring_group"})
        self.revert()

    def test_twice_is_once(self):
        rig.tune("--root", self.root, "--apply")
        state = self.state.read_text()
        status, said = rig.tune("--root", self.root, "--apply")
        self.assertEqual(status, 0)
        self.assertNotIn("->", said)
        self.assertEqual(self.state.read_text(), state)
        # Other wishes later: what was there first counts.
        rig.tune("--root", self.root, "--apply", "--set", "net.core.somaxconn=9999")
        self.revert()

    def test_killed_at_every_write(self):
        words = ("--root", self.root, "--apply", "--only", EVERYTHING)
        count = 0
        while rig.killed_at(count, count % 2, *words):
            if count % 3 == 0:
                rig.tune(*words)
            self.revert()
            count += 1
        self.assertGreater(count, 25)
        self.revert()

    def test_reverting_is_killed_at_every_write(self):
        count = 0
        while True:
            rig.tune("--root", self.root, "--apply", "--only", EVERYTHING)
            if not rig.killed_at(count, count % 2, "--root", self.root, "--revert"):
                break
            self.revert()
            count += 4
        self.assertEqual(self.now(), self.before)
        self.assertGreater(count, 25)

    def test_each_write_refused(self):
        for count, code in enumerate([errno.EPERM, errno.EROFS, errno.EIO, errno.EINVAL] * 5):
            with rig.writes(count, rig.refused(code)):
                status, results = rig.rows("--root", self.root, "--apply")
            bad = [row for row in results.values() if row["outcome"] == "failed"]
            self.assertEqual((status, len(bad)), (1, 1))
            self.assertIn(os.strerror(code) + ": ", bad[0]["problem"])
            self.assertEqual(self.now(bad[0]["name"]), self.before[bad[0]["name"]])
            self.assertNotIn(bad[0]["name"], json.loads(self.state.read_text())["knobs"])
            self.revert()

    def test_a_refused_revert_is_kept_for_another_time(self):
        rig.tune("--root", self.root, "--apply")
        with rig.writes(3, rig.refused(errno.EROFS)):
            status, said = rig.tune("--root", self.root, "--revert")
        self.assertEqual(status, 1)
        self.assertIn("CANNOT BE SET", said)
        self.assertEqual(len(json.loads(self.state.read_text())["knobs"]), 1)
        self.revert()

    def test_what_is_missing_is_named_and_the_rest_set(self):
        Path(self.root, "proc/sys/net/ipv4/tcp_migrate_req").unlink()
        Path(self.root, "proc/sys/net/core/somaxconn").write_text("what")
        self.before = self.now()
        status, said = rig.run("--root", self.root, "--apply")
        self.assertEqual(status, 1)
        self.assertIn("net.ipv4.tcp_migrate_req: CANNOT BE SET to 1: No such file or directory: "
                      "needs Linux 5.14 or newer", said)
        self.assertIn("net.core.somaxconn: CANNOT BE SET", said)
        self.assertEqual(self.now("thp"), "madvise")
        self.revert()

    def test_what_is_gone_cannot_be_taken_back(self):
        rig.tune("--root", self.root, "--apply", "--only", "governor")
        shutil.rmtree(self.root + "/sys/devices/system/cpu/cpu2/cpufreq")
        status, said = rig.tune("--root", self.root, "--revert")
        self.assertEqual(status, 0)
        self.assertIn("governor.cpu2 (is no longer there: nothing to take back)", said)
        self.assertEqual(self.now("governor.cpu3"), "powersave")
        self.assertFalse(self.state.exists())

    def test_what_somebody_else_set_since_is_said(self):
        rig.tune("--root", self.root, "--apply", "--only", "net.core.somaxconn")
        Path(self.root, "proc/sys/net/core/somaxconn").write_text("777\n")
        status, said = rig.tune("--root", self.root, "--revert")
        self.assertEqual(status, 0)
        self.assertIn("net.core.somaxconn = 128 again (somebody had set it to 777 since)", said)

    def test_without_a_place_for_the_state_nothing_is_changed(self):
        status, said = rig.tune("--root", self.root, "--apply", "--state", "/proc/no/tune.json")
        self.assertEqual(status, 1, said)
        self.state.parent.mkdir(parents=True)
        self.state.write_text("{ half")
        status, said = rig.tune("--root", self.root, "--apply")
        self.assertEqual(status, 1, said)
        self.assertIn("nothing further was changed", said)
        self.assertEqual(self.now(), self.before)

    def test_names_that_are_not_there(self):
        status, said = rig.run("--root", self.root, "--only", "net.core.somaxcon")
        self.assertEqual(status, 2)
        self.assertIn("did you mean net.core.somaxconn?", said)
        self.assertEqual(rig.run("--root", self.root, "--set", "nothing=1")[0], 2)
        self.assertEqual(rig.run("--explain", "nothing")[0], 2)
        self.assertEqual(rig.run("--apply", "--revert")[0], 2)


class Table(unittest.TestCase):
    """The table itself."""

    def test_every_knob_has_a_reason_and_an_effect(self):
        said = rig.run("--explain")[1]
        for knob in KNOBS:
            self.assertTrue(knob.why.endswith("."), knob.family)
            self.assertIn(knob.family, said)
            # An effect is a figure with its place, or said to be none.
            self.assertTrue("measur" in knob.effect or "bench-results/" in knob.effect)
            for word in knob.effect.split():
                if word.startswith("bench-results/"):
                    self.assertTrue((rig.TUNING.parent / word.rstrip(".;")).exists(), word)
        self.assertEqual(said.count("Effect: "), len(KNOBS))

    def test_values_that_will_do_are_left(self):
        for rule, have, wanted, value in [
            ("least", "128", "4096", "4096"), ("least", "8192", "4096", "8192"),
            ("least", "1 9 3", "2 2 4", "2 9 4"), ("least0", "0", "10", "0"),
            ("least0", "5", "10", "10"), ("span", "1024 60999", "16384 65535", "1024 65535"),
            ("span", "1024 65535", "16384 65535", "1024 65535"),
            ("mask", "00000000,0000000f", "f", "00000000,0000000f"), ("mask", "1", "f", "f"),
            ("exact", "2", "1", "1"), ("exact", "0", "1", "1"),
        ]:
            self.assertEqual(met(rule, have, wanted), value, (rule, have))

    def test_sets_of_cpus(self):
        self.assertEqual(cpu_list("0-2,5,8-9\n"), [0, 1, 2, 5, 8, 9])
        self.assertEqual(cpu_mask([0, 2]), "5")
        self.assertEqual(cpu_mask([0, 32, 64]), "1,00000001,00000001")
        self.assertEqual(cpu_mask([]), "0")

    def test_files_are_written_from_the_table(self):
        for kind, path in (("sysctl.d", "sysctl.d/60-tidegate.conf"),
                           ("tuned", "tuned/tidegate/tuned.conf")):
            text = (rig.TUNING / path).read_text()
            said = rig.run("--print", kind)[1]
            self.assertEqual(said, text, f"tuning/tune --print {kind} >tuning/{path}")
