"""Stats of subscriptions and of streams to management servers: names and values are Envoy's.

What it leaves to others: stats of the proxy's work (`test_mixed.py`).
"""
import json
import time

from rig import route
from rig.proxy import wait_until
from rig.xds import XdsServer
from test_xds import (ADS, APIS, assignment, eds_cluster, follower, following, rds_listener,
                      route_config, secret, world)
from rig.tls import Authority, downstream_tls, secured

# XXH64 with the seed 0, as Envoy shows it.
HASH_OF_1, HASH_OF_2 = 13237225503670494420, 6927017134761466251
SUBSCRIPTIONS = ("cluster_manager.cds", "listener_manager.lds", "http.dynamic.rds.routes",
                 "cluster.one", "runtime")


def texts(proxy):
    """Texts by name."""
    page = proxy.fetch("/stats?format=json&type=TextReadouts")[1]
    return {entry["name"]: entry["value"] for entry in json.loads(page)["stats"]}


def test_versions_and_times_of_subscriptions(rig):
    """Each has the version that was accepted last, and when; a refused one changes neither."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer(identifier="control-1"))
            server.set("rtds", {"name": "runtime-0", "layer": {"a": 1}})
            layer = {"name": "r", "rtds_layer": {"name": "runtime-0", "rtds_config": ADS}}
            began_ms = int(time.time() * 1000)
            proxy, _, _ = world(rig, server, api, "one", layers=[layer])
            stats, said = proxy.stats(), texts(proxy)
            now_ms = int(time.time() * 1000)
            for prefix in SUBSCRIPTIONS:
                assert said[prefix + ".version_text"] == "1", (prefix, said)
                assert stats[prefix + ".version"] == HASH_OF_1, (prefix, stats)
                assert began_ms <= stats[prefix + ".update_time"] <= now_ms, prefix
                assert stats[prefix + ".update_success"] == 1, prefix
            for prefix in ("cluster_manager.cds", "http.dynamic.rds.routes"):
                assert began_ms <= stats[prefix + ".config_reload_time_ms"] <= now_ms, prefix
                assert stats[prefix + ".config_reload"] == 1, prefix
            assert "listener_manager.lds.config_reload" not in stats
            assert said["control_plane.identifier"] == "control-1"
            assert stats["control_plane.connected_state"] == 1
            server.set("rds", route_config("one"), {"name": "unasked", "virtual_hosts": []})
            server.wait_ack("rds")
            server.set("cds", eds_cluster("one"), {**eds_cluster("bad"), "connect_timeout": "-1s"})
            server.wait_nack("cds")
            if api == "GRPC":
                assert texts(proxy)["http.dynamic.rds.routes.version_text"] == "2"
                assert proxy.stat("http.dynamic.rds.routes.version") == HASH_OF_2
            assert texts(proxy)["cluster_manager.cds.version_text"] == "1"
            assert proxy.stat("cluster_manager.cds.update_rejected") == 1


def test_stats_of_an_own_stream_are_below_its_subscription(rig):
    """A source that is not ADS has its own stream, and a lost server shows there."""
    for name, api in APIS.items():
        with rig.case(name):
            server = XdsServer(identifier="own")
            try:
                own = {"resource_api_version": "V3", "api_config_source": {
                    "api_type": api, "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}}
                made = following(rig, server, api)
                made["dynamic_resources"] = {"cds_config": own}
                proxy = rig.proxy(made, ready=None)
                wait_until(lambda proxy=proxy: is_connected(proxy), 10, proxy.log)
                assert "control_plane.identifier" not in texts(proxy)
                assert "cluster_manager.cds.control_plane.identifier" in texts(proxy)
            finally:
                server.close()
            proxy.wait_stat("cluster_manager.cds.control_plane.connected_state", 0, 10)


def is_connected(proxy):
    """Whether the stream of CDS is open."""
    try:
        return proxy.stat("cluster_manager.cds.control_plane.connected_state") == 1
    except OSError:
        return False


def test_stats_of_a_subscription_end_with_it(rig):
    """A secret that nobody names any longer has none."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            port = rig.port()
            common = {"tls_certificates": [], "tls_certificate_sds_secret_configs": [
                {"name": "server", "sds_config": ADS}]}
            server.set("sds", secret(Authority(rig.tmp).issue()))
            server.set("eds", assignment("one", rig.origin(lambda _: (200, [], b"")).port))
            server.set("cds", eds_cluster("one"))
            server.set("rds", route_config("one"))
            server.set("lds", secured(rds_listener(port), downstream_tls([], common=common)))
            proxy = follower(rig, server, api)
            server.wait_ack("sds")
            wait_until(lambda p=proxy: texts(p).get("sds.server.version_text") == "1", 5, proxy.log)
            assert proxy.stat("sds.server.update_success") == 1
            server.set("lds", rds_listener(port))
            wait_until(lambda p=proxy: "sds.server.version_text" not in texts(p), 5, proxy.log)
            assert "sds.server.update_success" not in proxy.stats()


def test_prometheus_has_texts_when_asked(rig):
    """As labels of gauges, and the tags of subscriptions are Envoy's."""
    server = rig.keep(XdsServer(identifier='a "b"'))
    proxy, _, _ = world(rig, server, "GRPC", "one")
    page = proxy.fetch("/stats/prometheus")[1]
    assert "version_text" not in page and "identifier" not in page
    tags = 'envoy_rds_route_config="routes",envoy_http_conn_manager_prefix="dynamic"'
    assert f"envoy_http_rds_version{{{tags}}} {HASH_OF_1}\n" in page, page
    page = proxy.fetch("/stats/prometheus?text_readouts")[1]
    assert 'envoy_cluster_version_text{envoy_cluster_name="one",text_value="1"} 0\n' in page
    assert 'envoy_control_plane_identifier{text_value="a \\"b\\""} 0\n' in page, page


def test_scopes_and_virtual_hosts_have_stats_of_their_own(rig):
    """`scoped_rds` and `vhds`, below the connection manager that asks for them."""
    server = rig.keep(XdsServer())
    origin = rig.origin(lambda request: (200, [], b"one"))
    server.set("eds", assignment("one", origin.port))
    server.set("cds", eds_cluster("one"))
    scoped = rds_listener(rig.port(), name="scoped")
    manager = scoped["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    manager["scoped_routes"] = {
        "name": "scopes", "rds_config_source": ADS,
        "scope_key_builder": {"fragments": [{"header_value_extractor": {
            "name": "x-scope", "element": {"separator": "=", "key": "a"}}}]},
        "scoped_rds": {"scoped_rds_config_source": ADS}}
    port = rig.port()
    server.set("lds", scoped, rds_listener(port))
    server.set("srds", {"name": "s", "route_configuration_name": "of-scope",
                        "key": {"fragments": [{"string_key": "x"}]}})
    server.set("rds", {"name": "routes", "vhds": {"config_source": ADS}},
               route_config("one", name="of-scope"))
    server.set("vhds", {"name": "routes/all", "domains": ["*"], "routes": [route("/", "one")]})
    proxy = follower(rig, server, "DELTA_GRPC")
    for prefix in ("http.scoped.scoped_rds.scopes", "http.dynamic.rds.vhds.routes",
                   "http.scoped.rds.of-scope"):
        wait_until(lambda prefix=prefix: texts(proxy).get(prefix + ".version_text") == "1", 5,
                   lambda: proxy.log() + str(texts(proxy)))
        assert proxy.stat(prefix + ".update_success") == 1, prefix
        assert proxy.stat(prefix + ".config_reload") == 1, prefix
