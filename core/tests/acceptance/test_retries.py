"""Retries at their edges: bodies that are kept, hosts that are avoided, permits that come back.

What it leaves to others: which responses and failures are retried (the parity test), and retries
among everything else that can go wrong (the simulator).
"""
import hashlib
import threading
import time

from rig import Client, HttpOrigin, bootstrap, cluster, get, limit, listener, route

MEBIBYTE = 1 << 20
BODY = bytes(hashlib.shake_256(b"a body").digest(MEBIBYTE))
AT_ONCE = {"base_interval": "0.001s"}
LATER = {"base_interval": "60s", "max_interval": "60s"}
PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def policy(**fields):
    """Routes whose one route retries."""
    return {"routes": [route("/", "origin", retry_policy={
        "retry_on": "5xx", "retry_back_off": AT_ONCE, **fields})]}


def failing_origin(failures):
    """An origin whose first answers are 503."""
    lock = threading.Lock()
    left = [failures]

    def answer(_request):
        with lock:
            left[0] -= 1
            return (503, [], b"not now") if left[0] >= 0 else (200, [], b"now")

    return HttpOrigin(answer)


@limit(60)
def test_kept_bodies_are_whole(rig):
    """A body is sent again whole, with a length or in chunks, as long as it fits; else the first
    answer counts."""
    for size, chunked, answered in [(1, False, 200), (700_000, False, 200), (700_000, True, 200),
                                    (MEBIBYTE, False, 200), (MEBIBYTE + 1, False, 503),
                                    (2 * MEBIBYTE, True, 503)]:
        with rig.case(f"{size} bytes, chunked {chunked}"):
            origin = failing_origin(2)
            proxy, port = rig.front(origin.port, **policy(num_retries=3))
            body = (BODY * 3)[:size]
            with Client(port) as client:
                if chunked:
                    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                    for at in range(0, size, 100_000):
                        part = body[at:at + 100_000]
                        client.send(b"%x\r\n%s\r\n" % (len(part), part))
                    client.send(b"0\r\n\r\n")
                    response = client.final()
                else:
                    response = client.ask(method="POST", body=body)
                assert response.status == answered, response.start
            assert [r.body == body for r in origin.requests] == [True] * len(origin.requests)
            assert len(origin.requests) == (3 if answered == 200 else 1), len(origin.requests)
            abandoned = proxy.stat("cluster.origin.retry_or_shadow_abandoned")
            assert abandoned == (0 if answered == 200 else 1), abandoned


@limit(60)
def test_body_that_comes_during_the_back_off(rig):
    """What comes of a body while its request waits is sent with the next attempt; what does not fit
    then is 507, for there is no attempt that it could go to."""
    class Early:
        """Answers 503 to the first head, and the rest after the whole request."""
        def __init__(self):
            self.count = 0
            self.bodies = []

        def __call__(self, connection):
            self.count += 1
            if self.count == 1:
                connection.reader.request_head()
                connection.send(b"HTTP/1.1 503 Not Now\r\nContent-Length: 0\r\n\r\n")
                time.sleep(1)
                return
            while (request := connection.request()) is not None:
                self.bodies.append(request.body)
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    for size, kept, wait, expected in [(8, 8, "0.5s", 200), (9, 8, "60s", 507)]:
        with rig.case(f"{size} bytes where {kept} are kept"):
            served = Early()
            routes = policy(retry_back_off={"base_interval": wait, "max_interval": wait})
            routes["routes"][0]["request_body_buffer_limit"] = kept
            _, port = rig.front(rig.raw_origin(served).port, **routes)
            with Client(port) as client:
                client.send(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\nab"
                            .encode())
                time.sleep(0.1)
                client.send(b"c" * (size - 2))
                response = client.final()
                assert response.status == expected, response.start
            if response.status == 200:
                assert served.bodies == [b"ab" + b"c" * (size - 2)], served.bodies


@limit(60)
def test_previous_hosts_are_avoided(rig):
    """Of two origins one never answers well: with previous_hosts one retry is always enough."""
    good, bad = HttpOrigin(), HttpOrigin(lambda request: (500, [], b""))
    fields = {"retry_host_predicate": [{"name": "x", "typed_config": {
        "@type": f"type.googleapis.com/{PREVIOUS_HOSTS}"}}],
        "host_selection_retry_max_attempts": 5}
    port = rig.port()
    clusters = [cluster([good.port, bad.port])]
    rig.proxy(bootstrap([listener(port, **policy(**fields))], clusters, rig.port()))
    with Client(port) as client:
        statuses = {client.ask().status for _ in range(40)}
    assert statuses == {200}, statuses
    assert bad.count > 0


@limit(60)
def test_permits_come_back(rig):
    """A client that leaves while its request waits for a retry gives its permit back."""
    origin = HttpOrigin(lambda request: (503, [], b""))
    breaker = {"circuit_breakers": {"thresholds": [{"max_retries": 1}]}}
    proxy, port = rig.front(origin.port, cluster=breaker, **policy(retry_back_off=LATER))
    is_open = "cluster.origin.circuit_breakers.default.rq_retry_open"
    for _ in range(3):
        with Client(port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            proxy.wait_stat(is_open, 1)
            # The other one is not retried, and gets its answer.
            assert get(port).status == 503
        proxy.wait_stat(is_open, 0)
    retries = [proxy.stat(f"cluster.origin.upstream_rq_retry{name}") for name in ("", "_overflow")]
    # None has begun.
    assert retries == [0, 3], retries


@limit(60)
def test_route_timeout_ends_a_back_off(rig):
    """The route's timeout covers all attempts and what is between them."""
    origin = HttpOrigin(lambda request: (503, [], b""))
    routes = {"routes": [route("/", "origin", timeout="0.3s", retry_policy={
        "retry_on": "5xx", "num_retries": 100, "retry_back_off": LATER})]}
    _, port = rig.front(origin.port, **routes)
    start = time.monotonic()
    response = get(port)
    # The first wait is random, from nothing on.
    assert response.status in (503, 504), response.start
    assert time.monotonic() - start < 2
