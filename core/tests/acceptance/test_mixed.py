"""A mixed run: random bodies both ways, all sums compared, memory and descriptors flat, all counts
equal.

30 s by default, ten minutes with `--soak`. What it leaves to others: load at full speed
(`test_clients.py`).
"""
import asyncio
import time

from rig import alone, limit
from rig.mixed import Clients, Origin
from rig.proxy import wait_until

CONNECTIONS = 40
# What one more burst of large bodies may take at once, beyond the highest seen in the first half.
ROOM_KB = 8 * 1024


@alone
@limit(780)
def test_random_bodies(rig):
    """0 mismatches; every side counts the same; nothing grows."""
    origin = Origin(seed=1)
    rig.stack.callback(origin.process.kill)
    proxy, port = rig.front(origin.port)
    clients = Clients(port, 2, CONNECTIONS, 600 if rig.soak else 30)
    time.sleep(0.2)  # The signals are listened for a moment after the first answer.
    kinds_before, descriptors_before, samples = proxy.descriptor_kinds(), proxy.descriptors(), []
    asyncio.run(clients.run(lambda: samples.append((proxy.rss_kb(), proxy.descriptors()))))
    with rig.case("bodies"):
        assert not clients.failures, clients.failures[:5]
        assert origin.mismatches.value == 0 and origin.errors.value == 0
        assert clients.answers > 1000, clients.answers
    proxy.wait_stat("http.main.downstream_cx_active", 0)
    with rig.case("counts"):
        compare(proxy, clients, origin)
    with rig.case("memory and descriptors"):
        half = len(samples) // 2
        early, late = max(s[0] for s in samples[:half]), max(s[0] for s in samples[half:])
        print(f"RSS {early} KiB at most in the first half, {late} KiB in the second")
        assert late < early + ROOM_KB, f"memory grows: {early} KiB, later {late} KiB"
        # Closed connections linger for a second, so the level depends on the load; it must be flat.
        early, late = max(s[1] for s in samples[:half]), max(s[1] for s in samples[half:])
        print(f"{early} descriptors at most in the first half, {late} in the second")
        assert late < early + CONNECTIONS, f"descriptors grow: {early}, later {late}"
        # Idle ones stay. Asked once: each question is a connection that has to close again.
        active = proxy.stat("cluster.origin.upstream_cx_active")
        wait_until(lambda: proxy.descriptors() <= descriptors_before + active, 10,
                   lambda: f"{proxy.descriptor_kinds()} are left, {active} of them to the origin,"
                           f" {kinds_before} before")
    print(f"{clients.answers} answers, {clients.cut} cut, {clients.opened} connections")


def compare(proxy, clients, origin):
    """What the proxy counted against what the clients and the origin counted."""
    stats = proxy.stats()
    expected = {
        "http.main.downstream_cx_total": clients.opened,
        "http.main.downstream_rq_total": clients.requests,
        "http.main.downstream_rq_2xx": clients.requests,
        "http.main.downstream_rq_4xx": 0,
        "http.main.downstream_rq_5xx": 0,
        "http.main.downstream_rq_active": 0,
        "http.main.downstream_cx_rx_bytes_total": clients.sent_bytes,
        "cluster.origin.upstream_rq_total": origin.requests.value,
        "cluster.origin.upstream_rq_active": 0,
    }
    # Envoy counts a request from its first byte on, others from the end of its head.
    if stats["http.main.downstream_rq_total"] == clients.requests + clients.half_heads:
        expected["http.main.downstream_rq_total"] += clients.half_heads
    found = {name: stats.get(name, 0) for name in expected}
    wrong = {n: (found[n], expected[n]) for n in expected if found[n] != expected[n]}
    assert not wrong, f"(proxy, clients or origin): {wrong}"
    assert clients.requests == origin.requests.value, "a request was lost or doubled"
