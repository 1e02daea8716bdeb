"""`tidegate doctor` on this machine, and on one with less.

What it leaves to others: single judgements (unit tests of `core/src/cli/doctor`).
"""
import json
import random
import subprocess

from rig import once, only
from rig.proxy import binary, run_proxy


def findings(*args, confine=()):
    """Runs it with --json: (exit status, findings by name)."""
    status, said = run_proxy("doctor", "--json", *args, confine=confine)
    listed = json.loads(said[:said.rindex("}") + 1])["findings"]
    return status, {finding["name"]: finding for finding in listed}


def check_status(status, found):
    """3 when something is lacking, else 0; and what is not good says what to do."""
    lacking = [name for name, finding in found.items() if finding["verdict"] == "lacking"]
    assert status == (3 if lacking else 0), (status, lacking)
    for finding in found.values():
        if finding["verdict"] == "ok":
            assert not finding["command"] and not finding["by_hand"], finding
        else:
            assert finding["wanted"] and finding["why"], finding
            assert finding["command"] or finding["by_hand"], finding


@once
@only("tidegate")
def test_here(rig):
    """On this machine as it is: io_uring was really tried, and the values are the kernel's."""
    status, found = findings()
    check_status(status, found)
    assert found["io_uring"]["found"].startswith("works: queues of "), found["io_uring"]
    ports = "net.ipv4.ip_local_port_range"
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="utf-8") as file:
        assert found[ports]["found"].split() == file.read().split(), found[ports]
    status, said = run_proxy("doctor")
    assert f" {len([f for f in found.values() if f['verdict'] == 'advice'])} advice," in said, said
    for name in found:
        assert name in said, f"{name} is not in\n{said}"


@once
@only("tidegate")
def test_with_little(rig):
    """With 1024 descriptors, 64 KiB of locked memory and no io_uring: all three are lacking."""
    user = str(random.randrange(40000, 60000))
    limits = ["--nofile", "1024", "--memlock", "65536", "--user", user]
    with rig.case("limits"):
        status, found = findings(confine=limits)
        check_status(status, found)
        assert status == 3
        assert found["open descriptors"]["verdict"] == "lacking", found["open descriptors"]
        assert "LimitNOFILE" in found["open descriptors"]["by_hand"]
        assert found["locked memory"]["verdict"] == "lacking", found["locked memory"]
    with rig.case("no io_uring"):
        status, found = findings(confine=[*limits, "--no-io-uring", "EPERM"])
        check_status(status, found)
        assert found["io_uring"]["verdict"] == "lacking", found["io_uring"]
        assert "seccomp" in found["io_uring"]["found"], found["io_uring"]
    with rig.case("epoll asked for"):
        status, found = findings("--io-backend", "epoll", confine=["--no-io-uring", "EPERM"])
        check_status(status, found)
        assert found["io_uring"]["verdict"] == "ok", found["io_uring"]
    with rig.case("more shards than CPUs"):
        status, found = findings("--concurrency", "1000")
        check_status(status, found)
        assert found["CPUs"]["verdict"] == "lacking", found["CPUs"]


@once
@only("tidegate")
def test_commands_are_a_script(rig):
    """--fix-cmds is something that a shell takes, with a line for each thing to mend."""
    limits = ["--nofile", "1024", "--user", str(random.randrange(40000, 60000))]
    status, said = run_proxy("doctor", "--fix-cmds", confine=limits)
    found = findings(confine=limits)[1]
    assert status == 3, said
    assert said.splitlines()[-1].startswith("error: lacking here: open descriptors"), said
    script = "".join(line + "\n" for line in said.splitlines()[:-1])
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)
    for finding in found.values():
        if finding["command"]:
            assert finding["command"] + "\n" in script, finding
        if finding["by_hand"]:
            assert f"# by hand: {finding['by_hand']}\n" in script, finding
    assert run_proxy("doctor", "--fix-cmds", "--json")[0] == 2
    done = subprocess.run([binary(), "doctor", "--help"], capture_output=True, check=True)
    assert b"--fix-cmds" in done.stdout
