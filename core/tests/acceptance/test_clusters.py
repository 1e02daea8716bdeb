"""Which origin gets a request, and where names lead, over real sockets and a real resolver.

What it leaves to others: shares of origins that are all alike (`parity`, unit tests).
"""
import select
import socket
import struct
import threading
import time

from rig import Client, config, get, limit, only

NAME = "app.test"
REFRESH_S = 0.2


class Resolver:
    """Answers every question for an IPv4 address with `address`, and others with nothing."""

    def __init__(self, address):
        self.address = address
        self.asked = 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, client = self.sock.recvfrom(512)
                self.sock.sendto(self._reply(query), client)
            except OSError:
                return

    def _reply(self, query):
        end = query.index(b"\0", 12) + 5
        wanted, = struct.unpack(">H", query[end - 4:end - 2])
        self.asked += 1
        answer = b""
        if wanted == 1 and self.address:
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(self.address)
        head = query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1 if answer else 0, 0, 0)
        return head + query[12:end] + answer

    def close(self):
        """Stops."""
        self.sock.close()


class Origins:
    """One port at several addresses; each answers with its own address, on connections that it
    keeps."""

    def __init__(self, rig, *addresses):
        self.port = rig.port()
        self.socks = []
        self.connections = []
        for address in addresses:
            sock = socket.create_server((address, self.port))
            self.socks.append(sock)
            threading.Thread(target=self._accept, args=(sock, address), daemon=True).start()

    def _accept(self, sock, address):
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    @staticmethod
    def _serve(connection, address):
        body = address.encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        try:
            while connection.recv(65536):
                connection.sendall(answer)
        except OSError:
            pass

    def hang_up(self):
        """Closes all connections that there are."""
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()

    def close(self):
        """Stops."""
        for sock in self.socks:
            sock.close()
        self.hang_up()


def by_name(kind, port, resolver):
    """A cluster of one name, which this resolver knows."""
    cares = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3"
    typed = {"@type": f"{cares}.CaresDnsResolverConfig",
             "resolvers": [config.address(resolver.port)]}
    return {
        "type": kind, "dns_lookup_family": "V4_ONLY", "dns_refresh_rate": f"{REFRESH_S}s",
        "typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares",
                                      "typed_config": typed},
        "load_assignment": {"cluster_name": "origin", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": config.address(port, NAME)}}]}]},
    }


def moved(rig, kind):
    """A proxy with a cluster by name whose address has changed while a connection was idle:
    (its port, the origins, the resolver)."""
    resolver = Resolver("127.0.0.1")
    rig.stack.callback(resolver.close)
    origins = Origins(rig, "127.0.0.1", "127.0.0.2")
    rig.stack.callback(origins.close)
    _, port = rig.front(origins.port, by_name(kind, origins.port, resolver), {"concurrency": 1})
    assert get(port).body == b"127.0.0.1"
    resolver.address = "127.0.0.2"
    asked, end = resolver.asked, time.monotonic() + 10
    while resolver.asked < asked + 3 and time.monotonic() < end:
        time.sleep(0.02)
    return port, origins, resolver


@only("tidegate")
def test_logical_host_keeps_its_connections(rig):
    """New connections go to the new address, and those that there are stay in use: so says Envoy's
    documentation, but Envoy 1.40 closes them whenever the answer is another one."""
    port, origins, _ = moved(rig, "LOGICAL_DNS")
    assert get(port).body == b"127.0.0.1", "the idle connection is not used any more"
    origins.hang_up()
    time.sleep(0.1)
    assert get(port).body == b"127.0.0.2"


def test_strict_hosts_come_and_go(rig):
    """A host that is gone gets no request, whatever connections there are, and an empty answer
    leaves none."""
    port, _, resolver = moved(rig, "STRICT_DNS")
    assert get(port).body == b"127.0.0.2"
    resolver.address = None
    end = time.monotonic() + 10
    while get(port).status != 503 and time.monotonic() < end:
        time.sleep(0.05)
    assert get(port).body == b"no healthy upstream"


@limit(60)
def test_least_request_spares_who_is_busy(rig):
    """An origin that keeps the requests that it has gets few others: where two of two are drawn,
    those for which it is drawn twice (a quarter), and with a full scan none."""
    typed = {"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies"
                      ".least_request.v3.LeastRequest", "selection_method": "FULL_SCAN"}
    policies = {"policies": [{"typed_extension_config": {"name": "x", "typed_config": typed}}]}
    for name, policy, fewest, most in [
            ("two choices", {"lb_policy": "LEAST_REQUEST"}, 20, 78),
            ("full scan", {"load_balancing_policy": policies}, 1, 1)]:
        with rig.case(name):
            done = threading.Event()
            busy = rig.origin(lambda request, done=done: (done.wait(30), (200, [], b""))[1])
            free = rig.origin()
            _, port = rig.front([busy.port, free.port], policy, {"concurrency": 1})
            clients = [ask_one(port, busy, free) for _ in range(200)]
            done.set()
            for client in clients:
                assert client.response().status == 200
                client.close()
            got = busy.count
            assert fewest <= got <= most, f"the busy origin got {got} of 200"


def ask_one(port, busy, free):
    """A client whose request is either kept by `busy` or answered by `free`, whose response waits."""
    client, kept = Client(port, 20), busy.count
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    while busy.count == kept and not select.select([client.sock], [], [], 0.002)[0]:
        pass
    return client


def test_preconnect(rig):
    """Connections are made ahead: for one and a half times the requests that there are."""
    go_on = threading.Event()

    def answer(_):
        go_on.wait(20)
        return 200, [], b"ok"

    origin, port = rig.origin(answer), rig.port()
    policy = {"per_upstream_preconnect_ratio": 1.5}
    clusters = [config.cluster(origin.port, preconnect_policy=policy)]
    proxy = rig.proxy(config.bootstrap([config.listener(port)], clusters, rig.port()),
                      concurrency=1)
    clients = [Client(port, timeout=30) for _ in range(2)]
    for client, connections in zip(clients, (2, 3)):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        proxy.wait_stat("cluster.origin.upstream_cx_total", connections)
        assert proxy.stat("cluster.origin.upstream_cx_active") == connections
    go_on.set()
    assert [client.response().status for client in clients] == [200, 200]
    assert get(port).status == 200
    assert proxy.stat("cluster.origin.upstream_cx_total") == 3
