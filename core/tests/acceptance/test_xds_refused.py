"""Each kind of resource, once against its rules: it is refused with its name and the reason, every
listener goes on with what it had, and what is right is taken after it.

What it leaves to others: what is right (`test_xds`).
"""
from rig import Client, bootstrap, cluster, http2_fields, limit, only, route
from rig.proxy import wait_until
from rig.tls import Authority, TlsClient, client_context, downstream_tls, secured
from rig.xds import XdsServer
from test_xds import ADS, APIS, assignment, eds_cluster, rds_listener, route_config, secret

SCOPE = "x-scope"


def scoped(port):
    """A listener whose scopes come by SRDS."""
    made = rds_listener(port, name="scoped")
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["rds"]
    extractor = {"name": SCOPE, "element_separator": ",", "index": 0}
    manager["scoped_routes"] = {
        "name": "scoped", "scope_key_builder": {"fragments": [{
            "header_value_extractor": extractor}]},
        "rds_config_source": ADS, "scoped_rds": {"scoped_rds_config_source": ADS}}
    return made


def tls(port):
    """A listener whose certificate comes by SDS."""
    common = {"tls_certificates": [],
              "tls_certificate_sds_secret_configs": [{"name": "server", "sds_config": ADS}]}
    return secured(rds_listener(port, name="tls"), downstream_tls([], common=common))


def scope(key):
    """A scope with the routes of all."""
    fragments = [{"string_key": key}] if key else []
    return {"name": "scope", "route_configuration_name": "routes", "key": {"fragments": fragments}}


def host(domain):
    """The virtual host that comes by itself."""
    return {"name": "hosts/v", "domains": [domain] if domain else [], "routes": [
        route("/", "one")]}


class World:
    """A server that has one resource of each kind, and a proxy with a listener for each way to
    them."""

    def __init__(self, rig, api):
        self.server = rig.keep(XdsServer())
        self.origin = rig.origin(lambda request: (200, [], b"one"))
        # Virtual hosts by themselves are for delta only.
        names = ["plain", "tls", "scoped"] + ["hosts"] * (api == "DELTA_GRPC")
        self.ports = {name: rig.port() for name in names}
        root = Authority(rig.tmp)
        self.trusted, self.certificates = root.path, [root.issue() for _ in range(2)]
        self.good = {
            "eds": assignment("one", self.origin.port), "cds": eds_cluster("one"),
            "rds": route_config("one"), "sds": secret(self.certificates[0]), "srds": scope("s"),
            "vhds": host("*"), "rtds": {"name": "layer", "layer": {"a": 1}},
            "lds": rds_listener(self.ports["plain"], name="plain")}
        hosts = {"name": "hosts", "vhds": {"config_source": ADS}}
        self.others = {"lds": [tls(self.ports["tls"]), scoped(self.ports["scoped"])]}
        if "hosts" in self.ports:
            self.others["rds"] = [hosts]
            self.others["lds"].append(rds_listener(self.ports["hosts"], "hosts", "hosts"))
        else:
            del self.good["vhds"]
        for kind in self.good:
            self.give(kind, self.good[kind])
        made = bootstrap([], [cluster(self.server.port, "xds", **http2_fields())], rig.port())
        made["dynamic_resources"] = {
            "ads_config": {"api_type": api, "transport_api_version": "V3", "grpc_services": [
                {"envoy_grpc": {"cluster_name": "xds"}}]},
            "cds_config": ADS, "lds_config": ADS}
        made["layered_runtime"] = {"layers": [
            {"name": "layer", "rtds_layer": {"name": "layer", "rtds_config": ADS}}]}
        self.proxy = rig.proxy(made)
        wait_until(self.serves, 10, lambda: f"{self.seen()}\n{self.proxy.log()}")

    def give(self, kind, value):
        """The server has this one, beside what else there is of the kind."""
        self.server.set(kind, value, *self.others.get(kind, []))

    def bad(self):
        """By kind: a resource that breaks a rule, and how the reason begins."""
        other = secret(self.certificates[1])["tls_certificate"]["private_key"]
        mixed = secret(self.certificates[0])
        mixed["tls_certificate"]["private_key"] = other
        listener = rds_listener(self.ports["plain"], name="plain")
        listener["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = ""
        return {
            "cds": ({**eds_cluster("one"), "connect_timeout": "0s"}, "cluster `one`"),
            "eds": (assignment("one", 70_000), "assignment `one`"),
            "lds": (listener, "listener `plain`"),
            "rds": ({"name": "routes", "virtual_hosts": [{"name": "v"}]},
                    "route configuration `routes`"),
            "sds": (mixed, "listener `tls`"),
            "srds": (scope(None), "scope `scope`"),
            "vhds": (host(None), "virtual host `hosts/v`"),
            "rtds": ({"name": "layer", "layer": {"a": [1]}}, "runtime layer `layer`")}

    def seen(self):
        """What each listener answers."""
        return {name: self.ask(name) for name in self.ports}

    def ask(self, name):
        """Status and body of a request on a new connection; why there is none."""
        port = self.ports[name]
        try:
            if name == "tls":
                context = client_context(trusted=self.trusted)
                with TlsClient(port, context) as client:
                    response = client.ask()
            else:
                with Client(port) as client:
                    response = client.ask("/", [(SCOPE, "s")])
            return response.status, response.body
        except OSError as error:
            return error.errno, b""

    def serves(self):
        """Whether every listener answers as it is meant to."""
        return all(answer == (200, b"one") for answer in self.seen().values())


@only("tidegate")
@limit(120)
def test_each_kind_is_refused_and_changes_nothing(rig):
    """And says whether it was the listener, the cluster, the routes."""
    for name, api in APIS.items():
        world = World(rig, api)
        for kind, good in world.good.items():
            value, reason = world.bad()[kind]
            with rig.case(f"{name}: {kind}"):
                world.give(kind, value)
                text = world.server.wait_nack(kind)
                assert reason in text, text
                assert world.serves(), world.seen()
                world.give(kind, good)
                world.server.wait_ack(kind)
                assert world.serves(), world.seen()
        world.proxy.stop()
