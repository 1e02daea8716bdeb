"""sovereign, a control plane that is asked by REST, with the proxy in Envoy's place.

What it leaves to others: REST by itself (`xds-client/tests/rest.rs`).
"""
import json
import os
import subprocess

from rig import bootstrap, cluster, limit
from rig.origin import wait_for_port
from rig.proxy import wait_until
from rig.tools import tool
from test_xds import answer, port_answers, rds_listener, route_config

T = "type.googleapis.com/envoy.config."
REST = {"resource_api_version": "V3", "api_config_source": {
    "api_type": "REST", "transport_api_version": "V3", "refresh_delay": "0.2s",
    "cluster_names": ["xds"]}}


class Sovereign:
    """The server with templates from files."""

    def __init__(self, rig):
        self.directory, self.port = rig.tmp, rig.port()
        kinds = ("clusters", "listeners", "routes")
        config = {"templates": {"default": [{"type": kind, "spec": {
            "protocol": "file", "serialization": "jinja2",
            "path": str(self.path(kind))}} for kind in kinds]}}
        file = self.directory / "sovereign.yaml"
        file.write_text(json.dumps(config))
        environment = {**os.environ, "SOVEREIGN_CONFIG": f"file://{file}",
                       "SOVEREIGN_HOST": "127.0.0.1", "SOVEREIGN_PORT": str(self.port),
                       "SOVEREIGN_WORKERS": "1"}
        self.log = open(self.directory / "sovereign.log", "wb")
        self.process = subprocess.Popen([tool("sovereign/bin/sovereign")], env=environment,
                                        cwd=self.directory, stdout=self.log, stderr=self.log)

    def path(self, kind):
        """The template of a kind."""
        return self.directory / f"{kind}.yaml"

    def set(self, kind, url, *values):
        """From now on a template has these resources."""
        resources = [{"@type": T + url, **value} for value in values]
        new = self.directory / "new"
        new.write_text(json.dumps({"resources": resources}))
        new.rename(self.path(kind))

    def close(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()
        self.log.close()


@limit(90)
def test_sovereign(rig):
    """Clusters, listeners and routes come from it, and 304 after that."""
    origin = rig.origin(lambda request: (200, [], b"by sovereign"))
    server = rig.keep(Sovereign(rig))
    port = rig.port()
    made = rds_listener(port)
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    manager["rds"]["config_source"] = REST
    server.set("clusters", "cluster.v3.Cluster", cluster(origin.port, "one"))
    server.set("listeners", "listener.v3.Listener", made)
    server.set("routes", "route.v3.RouteConfiguration", route_config("one"))
    wait_for_port(server.port, server.process)
    config = bootstrap([], [cluster(server.port, "xds")], rig.port())
    config["node"] = {"id": "test-id", "cluster": "test-cluster"}
    config["dynamic_resources"] = {"cds_config": REST, "lds_config": REST}
    proxy = rig.proxy(config, ready=20)
    wait_until(lambda: port_answers(port), 20, proxy.log)
    assert answer(port) == (200, b"by sovereign")
    stats = proxy.stats()
    assert stats["cluster_manager.cds.update_success"] >= 1, stats
    assert stats["cluster_manager.cds.update_rejected"] == 0, stats
