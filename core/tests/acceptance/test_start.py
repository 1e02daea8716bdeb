"""Starting with little: an unprivileged user, small limits, io_uring refused.

What it leaves to others: wrong configurations (`test_bad_input.py`).
"""
import os
import random

from rig import Load, Proxy, bootstrap, cluster, get, limit, listener, once, only
from rig.proxy import run_proxy


def served(port, count=200):
    """Fails unless a burst of requests is answered."""
    load = Load(port, threads=4)
    while load.done < count and not load.failures:
        load.threads[0].join(0.05)
    return load.stop()


@only("tidegate")
def test_as_nobody_with_little(rig):
    """As a nobody, with 64 KiB of locked memory and 256 descriptors: it starts, serves and says what
    is limited."""
    origin = rig.origin(keep=False)
    # A user of its own: the kernel counts locked memory by user, and somebody may be nobody.
    user = str(random.randrange(40000, 60000))
    confine = ["--memlock", "65536", "--nofile", "256", "--user", user]
    proxy, port = rig.front(origin.port, proxy={"confine": confine})
    served(port)
    if os.getuid() == 0:
        assert proxy._status("Uid") != 0, "it still runs as root"
    log = proxy.log()
    assert "256" in log, f"it does not say that 256 descriptors are few:\n{log}"
    stats = proxy.stats()
    if rig.backend == "io_uring":
        assert stats["io_uring.enabled"] >= 1, stats["io_uring.enabled"]


@once
@only("tidegate")
@limit(60)
def test_io_uring_refused(rig):
    """Under seccomp: auto serves on epoll after one warning that names the reason; forced ends
    with the remedy."""
    for code in ("EPERM", "ENOSYS"):
        confine = ["--no-io-uring", code]
        origin = rig.origin(keep=False)
        port = rig.port()
        config = bootstrap([listener(port)], [cluster(origin.port)], rig.port())
        with rig.case(f"auto, {code}"):
            proxy = Proxy(rig.tmp, config, backend="auto", confine=confine, name=f"auto-{code}")
            try:
                served(port)
                warnings = [line for line in proxy.log().splitlines() if "io_uring" in line]
                assert len(warnings) == 1, f"{len(warnings)} lines about io_uring: {warnings}"
                assert code in warnings[0] and "seccomp" in warnings[0], warnings[0]
                assert proxy.stat("io_uring.enabled") == 0
            finally:
                proxy.stop()
        with rig.case(f"forced, {code}"):
            path = rig.tmp / f"auto-{code}.yaml"
            status, said = run_proxy("-c", path, "--io-backend", "io_uring", confine=confine)
            assert status not in (0, 101) and status > 0, status
            assert code in said and "--security-opt seccomp" in said, said


@once
@only("tidegate")
def test_auto_takes_io_uring(rig):
    """Where io_uring is there, auto takes it without a word and the gauge says so."""
    origin = rig.origin(keep=False)
    port = rig.port()
    config = bootstrap([listener(port)], [cluster(origin.port)], rig.port())
    proxy = Proxy(rig.tmp, config, backend="auto")
    try:
        served(port)
        assert proxy.stat("io_uring.enabled") >= 1
        assert "warning" not in proxy.log(), proxy.log()
    finally:
        proxy.stop()


@only("tidegate")
def test_epoll_when_asked(rig):
    """The backend that was asked for is the one that runs."""
    origin = rig.origin(keep=False)
    proxy, port = rig.front(origin.port)
    served(port)
    assert (proxy.stat("io_uring.enabled") >= 1) == (rig.backend == "io_uring")


def test_concurrency(rig):
    """--concurrency 1 and 4 (more than there may be CPUs) serve alike."""
    for shards in (1, 4):
        with rig.case(str(shards)):
            origin = rig.origin(keep=False)
            _, port = rig.front(origin.port, proxy={"concurrency": shards, "name": f"p{shards}"})
            served(port)
            assert get(port).status == 200
