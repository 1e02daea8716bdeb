"""`tidegate status` and its page: what is in use, what was refused, and what every shard has.

What it leaves to others: how it is printed in detail (unit tests of `cli/status.rs`).
"""
import json

from rig.proxy import run_proxy, wait_until
from rig.xds import XdsServer
from test_xds import APIS, eds_cluster, follower, rds_listener, world


def status(proxy, *args):
    """Exit status and text of `tidegate status`."""
    return run_proxy("status", "--admin", f"127.0.0.1:{proxy.admin}", *args)


def kinds(proxy):
    """What the page says, by kind."""
    page = json.loads(proxy.fetch("/xds_status")[1])
    return {kind["kind"]: kind for kind in page["kinds"]}


def test_it_says_what_is_in_use_and_what_was_refused(rig):
    """All is well, then something is refused, then the server is gone; each is told by name."""
    for name, api in APIS.items():
        with rig.case(name):
            server = XdsServer(identifier="control-1")
            try:
                proxy, _, _ = world(rig, server, api, "one")
                said = kinds(proxy)
                assert {kind: one["status"] for kind, one in said.items()} == {
                    "CDS": "SYNCED", "EDS": "SYNCED", "LDS": "SYNCED", "RDS": "SYNCED"}, said
                assert said["CDS"]["control_plane"] == "control-1"
                wait_until(lambda p=proxy: status(p)[0] == 0, 5, lambda p=proxy: status(p)[1])
                assert "is live on all 2 shards" in status(proxy)[1]
                bad = {**eds_cluster("bad"), "connect_timeout": "-1s"}
                server.set("cds", eds_cluster("one"), bad)
                server.wait_nack("cds")
                wait_until(lambda p=proxy: kinds(p)["CDS"]["status"] == "NACKED", 5, proxy.log)
                code, text = status(proxy)
                assert code == 1 and "error: CDS is NACKED" in text, (code, text)
                assert "refused in version" in text and "connect_timeout" in text, text
                server.set("cds", eds_cluster("one"))
                wait_until(lambda p=proxy: kinds(p)["CDS"]["status"] == "SYNCED", 5, proxy.log)
            finally:
                server.close()
            wait_until(lambda p=proxy: kinds(p)["RDS"]["status"] == "STALE", 10, proxy.log)
            code, text = status(proxy)
            assert code == 1 and "the management server is not connected" in text, (code, text)


def test_it_says_what_waits(rig):
    """A listener whose routes have not come; and as JSON."""
    server = rig.keep(XdsServer())
    server.set("lds", rds_listener(rig.port()))
    proxy = follower(rig, server, "GRPC", ready=None)
    server.wait_ack("lds")
    code, text = status(proxy)
    assert code == 1 and "RDS   STALE" in text, text
    assert "listener `dynamic` waits for routes `routes`" in text, text
    code, text = status(proxy, "--json")
    made = json.loads(text[:text.rindex("}") + 1])
    assert made["waiting"] == [{"name": "listener `dynamic`", "for": ["routes `routes`"]}], made


def test_without_an_admin_server_it_says_how_to_name_one(rig):
    """And exits with the code of the environment."""
    code, text = run_proxy("status", "--admin", f"127.0.0.1:{rig.port()}")
    assert code == 3 and "--admin HOST:PORT" in text, (code, text)
