"""What `/config_dump` says of listeners and clusters: what serves, what waits, what drains and what
failed; and answers that wait until what they accept is warm.

What it leaves to others: after every update at random (`control/model`).
"""
import time

from rig import Client
from rig.proxy import wait_until
from rig.xds import XdsServer
from test_xds import (APIS, answer, assignment, can_connect, dump, eds_cluster, rds_listener,
                      route_config, world)


def listeners(proxy):
    """Dynamic listeners of the page, by name."""
    return {item["name"]: item for item in dump(proxy, "dynamic_listeners")}


def clusters(proxy, state):
    """Versions of the clusters in one list, by name."""
    found = dump(proxy, f"dynamic_{state}_clusters")
    return {item["cluster"]["name"]: item["version_info"] for item in found}


def states(item):
    """Which states a listener has, with their versions."""
    return {name[:-6]: state["version_info"] for name, state in item.items()
            if name.endswith("_state")}


def test_what_serves_is_shown_beside_what_waits(rig):
    """A listener and a cluster that are changed and not complete."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, _ = world(rig, server, api, "one")
            assert states(listeners(proxy)["dynamic"]) == {"active": "1"}
            server.set("lds", rds_listener(port, routes="later"))
            server.wait_ack("lds")
            wait_until(lambda p=proxy: states(listeners(p)["dynamic"]) ==
                       {"active": "1", "warming": "2"}, 5, proxy.log)
            assert answer(port) == (200, b"one")
            moved = eds_cluster("one")
            moved["eds_cluster_config"]["service_name"] = "later"
            server.set("cds", moved)
            server.wait_ack("cds")
            wait_until(lambda p=proxy: clusters(p, "warming") == {"one": "2"}, 5, proxy.log)
            assert clusters(proxy, "active") == {"one": "1"}
            origin = rig.origin(lambda request: (200, [], b"later"))
            server.set("eds", {**assignment("later", origin.port)})
            server.set("rds", route_config("one"), route_config("one", name="later"))
            wait_until(lambda p=proxy: states(listeners(p)["dynamic"]) == {"active": "2"}, 5,
                       proxy.log)
            wait_until(lambda p=proxy: clusters(p, "active") == {"one": "2"}, 5, proxy.log)
            assert clusters(proxy, "warming") == {}
            assert answer(port) == (200, b"later")


def test_a_listener_that_moved_drains(rig):
    """While it has a connection it is shown as draining, beside what came in its place; and after
    it was removed alone."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, _ = world(rig, server, api, "one")
            with Client(port) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.response().status == 200
                other = rig.port()
                server.set("lds", rds_listener(other))
                wait_until(lambda p=proxy: states(listeners(p)["dynamic"]) ==
                           {"active": "2", "draining": "1"}, 5, proxy.log)
            wait_until(lambda p=proxy: states(listeners(p)["dynamic"]) == {"active": "2"}, 10,
                       proxy.log)
            with Client(other) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.response().status == 200
                server.set("lds")
                wait_until(lambda p=proxy: states(listeners(p).get("dynamic", {})) ==
                           {"draining": "2"}, 5, proxy.log)
            wait_until(lambda p=proxy: listeners(p) == {}, 10, proxy.log)


def test_a_listener_that_cannot_be_opened_after_it_was_accepted(rig):
    """It waits for its routes; when these have come its port is taken: that is its error, and what
    served before serves on."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, _ = world(rig, server, api, "one")
            taken = rig.origin(lambda request: (200, [], b"taken"))
            server.set("lds", rds_listener(taken.port, routes="later"))
            server.wait_ack("lds")
            server.set("rds", route_config("one"), route_config("one", name="later"))
            server.wait_ack("rds")
            wait_until(lambda p=proxy: states(listeners(p)["dynamic"]) ==
                       {"active": "1", "error": "2"}, 5, proxy.log)
            details = listeners(proxy)["dynamic"]["error_state"]["details"]
            assert "the port is in use" in details, details
            assert answer(port) == (200, b"one")
            free = rig.port()
            server.set("lds", rds_listener(free, routes="later"))
            server.wait_ack("lds")
            wait_until(lambda p=proxy: "error" not in states(listeners(p)["dynamic"]), 5,
                       proxy.log)
            assert can_connect(free)


def test_answers_wait_for_clusters_when_that_is_asked_for(rig):
    """`--ack-after-warming`: as Envoy, which accepts clusters when all of the response are warm.
    Without it they are accepted at once."""
    for name, api in APIS.items():
        for waits in (True, False):
            with rig.case(f"{name} {waits}"):
                server = rig.keep(XdsServer())
                args = ["--ack-after-warming"] if waits else []
                world(rig, server, api, "one", args=args)
                origin = rig.origin(lambda request: (200, [], b"two"))
                server.set("cds", eds_cluster("one"), eds_cluster("two"))
                if waits:
                    time.sleep(0.3)
                    assert ("cds", 2) not in server.acks, server.acks
                else:
                    server.wait_ack("cds")
                server.set("eds", *server.resources["eds"].values(),
                           assignment("two", origin.port))
                server.wait_ack("cds")
                assert not server.nacks, server.nacks
