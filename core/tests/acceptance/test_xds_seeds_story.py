"""Two clusters behind two virtual hosts, whose endpoints a server in Go gives: requests reach them
by host, follow every change, and do not notice when the server dies.

The server (`eds_server`) is made of go-control-plane's cache and server. Whatever it is told here,
the real Envoy 1.40 follows in the same way. What it leaves to others: every other kind of resource
(`test_xds_go_control_plane`).
"""
import contextlib
import subprocess
import time

from rig import Client, alone, bootstrap, cluster, http2_fields, limit, listener, route
from rig.origin import wait_for_port
from rig.proxy import wait_until
from rig.tools import tool

APIS = {"state of the world": "GRPC", "delta": "DELTA_GRPC"}
# By host, the cluster that answers.
STORY = {"nginx.local": "nginx_cluster", "httpd.local": "httpd_cluster"}


class EdsServer:
    """The server as a process; `set` returns when it has what it was told."""

    def __init__(self, port):
        self.port = port
        self.start()

    def start(self):
        """Begins a life, in which it knows nothing."""
        self.process = subprocess.Popen([tool("eds_server"), f"-port={self.port}"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for_port(self.port, self.process)

    def set(self, name, *ports):
        """From now on these are the endpoints of a cluster."""
        line = " ".join([name, *map(str, ports)])
        said = self._ask(line)
        assert said == line, said

    def is_asked(self):
        """Whether somebody waits for the endpoints of both clusters."""
        return all(int(self._ask(f"? {name}")) > 0 for name in STORY.values())

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self):
        """Ends it without a word to anybody."""
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    close = kill


def eds_cluster(name, api):
    """A cluster as the story has it: its endpoints come by a stream of its own kind."""
    source = {"resource_api_version": "V3", "api_config_source": {
        "api_type": api, "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}]}}
    return {"name": name, "type": "EDS", "connect_timeout": "0.25s", "lb_policy": "ROUND_ROBIN",
            "eds_cluster_config": {"eds_config": source}}


def story(rig, server, api):
    """The bootstrap, and the port of its listener."""
    port = rig.port()
    hosts = [{"name": f"{name[:5]}_service", "domains": [name], "routes": [route("/", to)]}
             for name, to in STORY.items()]
    made = bootstrap(
        [listener(port, name="listener_0", virtual_hosts=hosts)],
        [*[eds_cluster(name, api) for name in STORY.values()],
         cluster(server.port, "xds_cluster", **http2_fields())], rig.port())
    return made, port


def origins(rig, name, count):
    """Origins that answer with their own name."""
    return [rig.nginx(f"{name} {number}") for number in range(count)]


def answer(port, host):
    """Status and body of a request to a host."""
    with Client(port) as client:
        response = client.ask("/", [("Host", host)])
        return response.status, response.body.decode()


def answers(port, host, count=16):
    """What that many requests get, each once."""
    return {answer(port, host) for _ in range(count)}


def wrk(port, host, seconds):
    """Load on one of the hosts."""
    return subprocess.Popen(
        ["wrk", "-t1", "-c8", f"-d{seconds}", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/"],
        stdout=subprocess.PIPE, text=True)


def nothing_failed(loads):
    """Every request of these was answered with a 2xx."""
    for load in loads:
        text = load.communicate(timeout=60)[0]
        assert load.returncode == 0 and "Requests/sec" in text, text
        assert "Non-2xx" not in text and "Socket errors" not in text, text


class World:
    """A server that serves the story, two origins of each cluster, and a proxy."""

    def __init__(self, rig, api):
        self.server = rig.keep(EdsServer(rig.port()))
        self.origins = {name: origins(rig, name, 2) for name in STORY.values()}
        for name in STORY.values():
            self.give(name, 0)
        made, self.port = story(rig, self.server, api)
        self.proxy = rig.proxy(made)
        wait_until(self.first_serve, 10, self.proxy.log)

    def give(self, name, *which):
        """The server says that a cluster has these of its origins."""
        self.server.set(name, *[self.origins[name][number].port for number in which])

    def served(self, *which):
        """What requests of all hosts get while every cluster has these of its origins."""
        return [{(200, f"{name} {number}") for number in which} for name in STORY.values()]

    def seen(self):
        """What requests of all hosts get."""
        return [answers(self.port, host) for host in STORY]

    def first_serve(self):
        """Whether both clusters are served by their first origin."""
        return self.seen() == self.served(0)


def test_each_host_reaches_the_endpoints_of_its_cluster(rig):
    """And only these; a host that is none of both reaches nothing."""
    for name, api in APIS.items():
        with rig.case(name):
            world = World(rig, api)
            assert answer(world.port, "other.local")[0] == 404
            world.give("nginx_cluster", 0, 1)
            both = {(200, "nginx_cluster 0"), (200, "nginx_cluster 1")}
            wait_until(lambda w=world: answers(w.port, "nginx.local") == both, 5, world.proxy.log)
            assert answers(world.port, "httpd.local") == {(200, "httpd_cluster 0")}
            world.give("nginx_cluster")
            wait_until(lambda w=world: answer(w.port, "nginx.local")[0] == 503, 5, world.proxy.log)
            assert answers(world.port, "httpd.local") == {(200, "httpd_cluster 0")}


@alone
@limit(120)
def test_endpoints_change_under_load(rig):
    """A hundred times in five seconds; no request fails."""
    for name, api in APIS.items():
        with rig.case(name):
            world = World(rig, api)
            loads = [wrk(world.port, host, 6) for host in STORY]
            for turn in range(100):
                for of in STORY.values():
                    world.give(of, *[(0,), (0, 1), (1,)][turn % 3])
                time.sleep(0.05)
            for of in STORY.values():
                world.give(of, 1)
            nothing_failed(loads)
            wait_until(lambda w=world: w.seen() == w.served(1), 5, world.proxy.log)


@alone
@limit(120)
def test_the_server_dies_and_comes_back(rig):
    """Nothing that is served changes: neither while it is away, nor when it is back and knows
    nothing, nor when it says what it said before. What it says then is followed."""
    for name, api in APIS.items():
        with rig.case(name):
            world = World(rig, api)
            loads = [wrk(world.port, host, 8) for host in STORY]
            world.server.kill()
            time.sleep(1)
            assert world.first_serve()
            world.server.start()
            wait_until(world.server.is_asked, 30, world.proxy.log)
            assert world.first_serve()
            for of in STORY.values():
                world.give(of, 0)
            time.sleep(0.5)
            assert world.first_serve()
            nothing_failed(loads)
            for of in STORY.values():
                world.give(of, 1)
            wait_until(lambda w=world: w.seen() == w.served(1), 10, world.proxy.log)
