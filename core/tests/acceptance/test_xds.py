"""Dynamic resources from a management server: what it says serves, as soon as all of it is there,
and what it should not have said changes nothing.

What it leaves to others: the protocol message by message (`xds-client/tests`).
"""
import json
import time

from rig import Client, bootstrap, cluster, http2_fields, listener, route
from rig.proxy import wait_until
from rig.tls import Authority, TlsClient, client_context, downstream_tls, pem, secured
from rig.xds import URLS, XdsServer

ADS = {"ads": {}, "resource_api_version": "V3"}
APIS = {"state of the world": "GRPC", "delta": "DELTA_GRPC"}


def eds_cluster(name):
    """A cluster whose endpoints come by EDS."""
    return {"name": name, "type": "EDS", "connect_timeout": "1s",
            "eds_cluster_config": {"eds_config": ADS}}


def assignment(name, *ports):
    """Endpoints of a cluster."""
    endpoints = [{"endpoint": {"address": {"socket_address": {
        "address": "127.0.0.1", "port_value": port}}}} for port in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def rds_listener(port, routes="routes", name="dynamic"):
    """A listener whose routes come by RDS."""
    made = listener(port, name=name)
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["route_config"]
    manager["rds"] = {"route_config_name": routes, "config_source": ADS}
    return made


def route_config(cluster_name, name="routes"):
    """All requests to a cluster."""
    hosts = [{"name": "all", "domains": ["*"], "routes": [route("/", cluster_name)]}]
    return {"name": name, "virtual_hosts": hosts}


def secret(certificate):
    """A certificate with its key, as a resource."""
    return {"name": "server", "tls_certificate": {
        "certificate_chain": {"inline_string": pem(certificate.certificate).decode()},
        "private_key": {"inline_string": pem(certificate.key).decode()}}}


def shown(port):
    """The certificate that a new connection gets."""
    with TlsClient(port, client_context("1.3")) as client:
        return client.sock.getpeercert(True)


def can_connect(port):
    """Whether somebody listens there."""
    try:
        Client(port).close()
        return True
    except OSError:
        return False


def following(rig, server, api, admin=None):
    """A bootstrap that follows the server."""
    made = bootstrap([], [cluster(server.port, "xds", **http2_fields())], admin or rig.port())
    made["node"] = {"id": "test-id", "cluster": "test-cluster"}
    made["dynamic_resources"] = {
        "ads_config": {"api_type": api, "transport_api_version": "V3", "grpc_services": [
            {"envoy_grpc": {"cluster_name": "xds"}}]},
        "cds_config": ADS, "lds_config": ADS}
    return made


def follower(rig, server, api, layers=(), **options):
    """A proxy that follows the server."""
    made = following(rig, server, api)
    if layers:
        made["layered_runtime"] = {"layers": list(layers)}
    return rig.proxy(made, **options)


def answer(port):
    """Status and body of a request."""
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
        return response.status, response.body


def world(rig, server, api, *names, layers=(), **options):
    """A proxy that has one listener to the first of these origins: (proxy, its port, origins)."""
    origins = {name: rig.origin(lambda request, name=name: (200, [], name.encode()))
               for name in names}
    port = rig.port()
    server.set("eds", *[assignment(name, origin.port) for name, origin in origins.items()])
    server.set("cds", *[eds_cluster(name) for name in names])
    server.set("rds", route_config(names[0]))
    server.set("lds", rds_listener(port))
    proxy = follower(rig, server, api, layers, **options)
    wait_until(lambda: port_answers(port), 10, proxy.log)
    return proxy, port, origins


def port_answers(port):
    """Whether somebody serves there."""
    try:
        return answer(port)[0] == 200
    except OSError:
        return False


def test_everything_comes_by_ads(rig):
    """Clusters, endpoints, listeners and routes; and each of them changes."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            _, port, origins = world(rig, server, api, "one", "two")
            assert answer(port) == (200, b"one")
            server.set("rds", route_config("two"))
            server.wait_ack("rds")
            wait_until(lambda port=port: answer(port) == (200, b"two"), 5, str)
            server.set("eds", assignment("one", origins["one"].port),
                       assignment("two", origins["one"].port))
            server.wait_ack("eds")
            wait_until(lambda port=port: answer(port) == (200, b"one"), 5, str)


def test_routes_wait_for_clusters_that_are_not_warm(rig):
    """Routes that name one take effect when its endpoints have come; until then the old ones do."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            _, port, origins = world(rig, server, api, "one")
            other = rig.origin(lambda request: (200, [], b"warm"))
            server.set("cds", eds_cluster("one"), eds_cluster("cold"))
            server.wait_ack("cds")
            server.set("rds", route_config("cold"))
            server.wait_ack("rds")
            for _ in range(20):
                assert answer(port) == (200, b"one")
                time.sleep(0.01)
            server.set("eds", assignment("one", origins["one"].port),
                       assignment("cold", other.port))
            wait_until(lambda port=port: answer(port) == (200, b"warm"), 5, str)


def test_removed_clusters_serve_until_routes_have_changed(rig):
    """Servers send clusters before routes: what is named is not taken away in between."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, _ = world(rig, server, api, "one", "two")
            server.set("cds", eds_cluster("two"))
            server.wait_ack("cds")
            assert answer(port) == (200, b"one")
            server.set("rds", route_config("two"))
            wait_until(lambda port=port: answer(port) == (200, b"two"), 5, str)
            wait_until(lambda proxy=proxy: "\none::" not in proxy.fetch("/clusters")[1], 5,
                       lambda proxy=proxy: proxy.log() + proxy.fetch("/clusters")[1])


def test_a_modified_cluster_has_the_endpoints_that_were_sent_before(rig):
    """A server does not send an assignment again because its cluster has changed."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, _ = world(rig, server, api, "one")
            server.set("cds", {**eds_cluster("one"), "connect_timeout": "2s"})
            server.wait_ack("cds")
            for _ in range(20):
                assert answer(port) == (200, b"one")
            log = proxy.log()
            assert "cluster modified: one" in log, log


def long_assignment(name, last):
    """5,000 endpoints, one of which is `127.2.0.last`: read beside everything else."""
    addresses = [f"127.1.{number // 250}.{number % 250}" for number in range(4_999)]
    addresses.insert(3_000, f"127.2.0.{last}")
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 8080}}}}
        for address in addresses]}]}


def test_long_lists_of_endpoints_are_taken_in_their_turn(rig):
    """What comes behind one waits until it was taken, and a bad one is refused like any other."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, port, origins = world(rig, server, api, "one", "two")
            first = assignment("one", origins["one"].port)
            for last in range(1, 6):
                server.set("eds", first, long_assignment("two", last))
                server.set("cds", eds_cluster("one"),
                           {**eds_cluster("two"), "connect_timeout": f"{last + 1}s"})
                server.wait_ack("cds")
                server.wait_ack("eds")
                page = proxy.fetch("/clusters")[1]
                found = {line.split("::")[1] for line in page.splitlines()
                         if line.startswith("two::127.2.")}
                assert found == {f"127.2.0.{last}:8080"}, found
                assert page.count("::hostname::") == 5_002, page.count("::hostname::")
                assert answer(port) == (200, b"one")
            assert proxy.log().count("cluster modified: two") == 5, proxy.log()
            bad = long_assignment("two", 9)
            bad["endpoints"][0]["lb_endpoints"][4_000]["endpoint"]["address"]["socket_address"][
                "port_value"] = 70_000
            server.set("eds", first, bad)
            assert "at most 65535" in server.wait_nack("eds")
            assert "two::127.2.0.5:8080::" in proxy.fetch("/clusters")[1]


def test_secrets_come_by_ads(rig):
    """A listener waits for its certificate; a new one is shown by new handshakes at once, and one
    that cannot be used is refused by name."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            origin = rig.origin(lambda request: (200, [], b"one"))
            port = rig.port()
            root = Authority(rig.tmp)
            first, second = root.issue(), root.issue()
            common = {"tls_certificates": [], "tls_certificate_sds_secret_configs": [
                {"name": "server", "sds_config": ADS}]}
            made = secured(rds_listener(port), downstream_tls([], common=common))
            server.set("eds", assignment("one", origin.port))
            server.set("cds", eds_cluster("one"))
            server.set("rds", route_config("one"))
            server.set("lds", made)
            proxy = follower(rig, server, api, ready=None)
            server.wait_ack("lds")
            time.sleep(0.2)
            assert proxy.fetch("/ready")[0] == 503
            assert not can_connect(port), "a listener without its certificate accepts"
            server.set("sds", secret(first))
            proxy.wait_ready(5)
            assert shown(port) == first.der()
            server.set("sds", secret(second))
            server.wait_ack("sds")
            assert shown(port) == second.der()
            server.set("sds", {"name": "server", "tls_certificate": {
                "certificate_chain": {"inline_string": pem(first.certificate).decode()},
                "private_key": {"inline_string": pem(second.key).decode()}}})
            text = server.wait_nack("sds")
            assert "key" in text, text
            assert shown(port) == second.der()


def test_runtime_layers_come_by_ads(rig):
    """A value of a layer counts in what came before it."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            layers = [{"name": "dynamic", "rtds_layer": {"name": "layer", "rtds_config": ADS}}]
            _, port, _ = world(rig, server, api, "one", "two", layers=layers)
            split = route_config("one")
            split["virtual_hosts"][0]["routes"].insert(0, {
                "match": {"prefix": "/", "runtime_fraction": {
                    "default_value": {"numerator": 0}, "runtime_key": "to.two"}},
                "route": {"cluster": "two"}})
            server.set("rds", split)
            server.wait_ack("rds")
            assert answer(port) == (200, b"one")
            server.set("rtds", {"name": "layer", "layer": {"to": {"two": 100}}})
            server.wait_ack("rtds")
            wait_until(lambda port=port: answer(port) == (200, b"two"), 5, str)
            server.set("rtds", {"name": "layer", "layer": {}})
            wait_until(lambda port=port: answer(port) == (200, b"one"), 5, str)


def dump(proxy, resource):
    """The items of a list of `/config_dump`."""
    return json.loads(proxy.fetch(f"/config_dump?resource={resource}")[1]).get("configs", [])


def test_pages_show_what_came(rig):
    """`/config_dump` has each resource as it came with its version, and what was refused;
    `/init_dump` says what waits for what; stats count."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            proxy, _, _ = world(rig, server, api, "one")
            active, = dump(proxy, "dynamic_active_clusters")
            assert active["cluster"]["name"] == "one" and active["version_info"] == "1", active
            listens, = dump(proxy, "dynamic_listeners")
            state = listens["active_state"]
            assert listens["name"] == "dynamic" and state["listener"]["name"] == "dynamic", listens
            routes, = dump(proxy, "dynamic_route_configs")
            assert routes["route_config"]["name"] == "routes", routes
            bad = {**eds_cluster("bad"), "lb_policy": "MAGLEV"}
            server.set("cds", eds_cluster("one"), eds_cluster("cold"), bad)
            server.wait_nack("cds")
            by_name = {item.get("cluster", item.get("error_state", {}).get(
                "failed_configuration"))["name"]: item
                       for item in dump(proxy, "dynamic_active_clusters")}
            assert sorted(by_name) == ["bad", "one"], by_name
            assert "lb_policy" in by_name["bad"]["error_state"]["details"], by_name
            warming, = dump(proxy, "dynamic_warming_clusters")
            assert warming["cluster"]["name"] == "cold", warming
            waiting = json.loads(proxy.fetch("/init_dump")[1])["unready_targets_dumps"]
            assert waiting == [{"name": "cluster `cold`",
                                "target_names": ["target assignment `cold`"]}], waiting
            endpoints = proxy.fetch("/config_dump?include_eds")[1]
            assert "dynamic_endpoint_configs" in endpoints
            stats = proxy.stats()
            expected = {"cluster_manager.cds.update_success": 1,
                        "cluster_manager.cds.update_rejected": 1,
                        "listener_manager.lds.update_success": 1,
                        "http.dynamic.rds.routes.update_success": 1}
            found = {name: stats.get(name) for name in expected}
            assert found == expected, found
            assert stats["cluster.one.update_success"] >= 1
            assert stats["control_plane.connected_state"] == 1
            assert "one::added_via_api::true" in proxy.fetch("/clusters")[1]


def test_everything_comes_by_files(rig):
    """CDS, EDS, LDS and RDS in files; a file that is moved into place is read again, one that is
    not valid changes nothing."""
    files = {kind: rig.tmp / f"{kind}.yaml" for kind in ("cds", "eds", "lds", "rds")}

    def move(kind, *resources):
        new = rig.tmp / "new"
        url = URLS[kind]
        new.write_text(json.dumps({"version_info": "1", "resources": [
            {"@type": url, **resource} for resource in resources]}))
        new.rename(files[kind])

    def source(kind):
        return {"path_config_source": {"path": str(files[kind])}, "resource_api_version": "V3"}

    origins = [rig.origin(lambda request, name=name: (200, [], name)) for name in (b"one", b"two")]
    port = rig.port()
    made = eds_cluster("one")
    made["eds_cluster_config"]["eds_config"] = source("eds")
    move("cds", made)
    move("eds", assignment("one", origins[0].port))
    move("rds", route_config("one"))
    listens = rds_listener(port)
    manager = listens["filter_chains"][0]["filters"][0]["typed_config"]
    manager["rds"]["config_source"] = source("rds")
    move("lds", listens)
    config = bootstrap([], [], rig.port())
    config["dynamic_resources"] = {"cds_config": source("cds"), "lds_config": source("lds")}
    proxy = rig.proxy(config)
    wait_until(lambda: answer(port) == (200, b"one"), 5, proxy.log)
    move("eds", assignment("one", origins[1].port))
    wait_until(lambda: answer(port) == (200, b"two"), 5, proxy.log)
    files["eds"].write_text("{")
    move("rds", {"name": "routes", "virtual_hostz": []})
    wait_until(lambda: "virtual_hostz" in proxy.log(), 5, proxy.log)
    assert answer(port) == (200, b"two")
    move("lds")
    wait_until(lambda: not can_connect(port), 5, proxy.log)


def test_ready_waits_for_the_first_answers(rig):
    """Without its management server a proxy is not ready before the first fetch has timed out, of
    what the bootstrap names too."""
    waits = eds_cluster("waits")
    waits["eds_cluster_config"]["eds_config"] = {**ADS, "initial_fetch_timeout": "2s"}
    made = bootstrap([], [cluster(rig.port(), "xds", **http2_fields()), waits], rig.port())
    made["dynamic_resources"] = {
        "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [
            {"envoy_grpc": {"cluster_name": "xds"}}]},
        "cds_config": {**ADS, "initial_fetch_timeout": "2s"},
        "lds_config": {**ADS, "initial_fetch_timeout": "2s"}}
    began = time.monotonic()
    rig.proxy(made)
    assert time.monotonic() - began > 1.9


def test_what_is_wrong_is_refused_and_changes_nothing(rig):
    """The NACK names the resource and the reason, and the valid ones beside it count."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            _, port, _ = world(rig, server, api, "one")
            bad = {**eds_cluster("bad"), "lb_policy": "MAGLEV"}
            server.set("cds", eds_cluster("one"), bad)
            text = server.wait_nack("cds")
            assert "cluster `bad`" in text and "lb_policy" in text, text
            assert answer(port) == (200, b"one")


def test_a_listener_that_cannot_be_had_holds_up_nothing(rig):
    """Its port is in use: it is refused by name, the others of its response count, and so do
    responses after it."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            taken = rig.origin(lambda request: (200, [], b"taken"))
            proxy, port, _ = world(rig, server, api, "one", "two")
            more = rig.port()
            server.set("lds", rds_listener(port), rds_listener(taken.port, name="no"),
                       rds_listener(more, name="more"))
            text = server.wait_nack("lds")
            assert f"listener `no` cannot listen on 127.0.0.1:{taken.port}" in text, text
            wait_until(lambda more=more: answer(more) == (200, b"one"), 5, proxy.log)
            server.set("rds", route_config("two"))
            server.wait_ack("rds")
            wait_until(lambda port=port: answer(port) == (200, b"two"), 5, proxy.log)
            failed = [item for item in dump(proxy, "dynamic_listeners") if "error_state" in item]
            assert [item["name"] for item in failed] == ["no"], failed


def test_another_management_server_is_followed_after_a_reload(rig):
    """What the first one said serves until the second has said something else."""
    for name, api in APIS.items():
        with rig.case(name):
            first, second = rig.keep(XdsServer()), rig.keep(XdsServer())
            proxy, port, origins = world(rig, first, api, "one", "two")
            second.set("eds", *[assignment(n, o.port) for n, o in origins.items()])
            second.set("cds", eds_cluster("one"), eds_cluster("two"))
            second.set("lds", rds_listener(port))
            second.set("rds", route_config("two"))
            made = following(rig, second, api, proxy.admin)
            made["static_resources"]["clusters"][0]["name"] = "other"
            made["dynamic_resources"]["ads_config"]["grpc_services"] = [
                {"envoy_grpc": {"cluster_name": "other"}}]
            proxy.reload(made)
            wait_until(lambda port=port: answer(port) == (200, b"two"), 10, proxy.log)


def test_a_server_that_goes_away_changes_nothing(rig):
    """What it said serves on, and a new one is followed."""
    for name, api in APIS.items():
        with rig.case(name):
            server = XdsServer()
            _, port, origins = world(rig, server, api, "one", "two")
            place = server.port
            server.close()
            time.sleep(0.3)
            assert answer(port) == (200, b"one")
            again = rig.keep(XdsServer(place))
            again.set("eds", *[assignment(n, o.port) for n, o in origins.items()])
            again.set("cds", eds_cluster("one"), eds_cluster("two"))
            again.set("lds", rds_listener(port))
            again.set("rds", route_config("two"))
            wait_until(lambda port=port: answer(port) == (200, b"two"), 20, str)


def test_removed_listeners_and_clusters_are_gone(rig):
    """A listener that the server does not name any longer accepts no connection."""
    for name, api in APIS.items():
        with rig.case(name):
            server = rig.keep(XdsServer())
            _, port, _ = world(rig, server, api, "one")
            server.set("lds")
            wait_until(lambda port=port: not port_answers(port), 5, str)
