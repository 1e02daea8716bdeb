"""A subject: one file of `cases/`, as setups (configurations) and cases (what is asked of them).

What it leaves to others: running a case (`side.py`), and what may differ (`differences.py`).
"""
import copy
import re

import yaml

from rig import config

LOG = {
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "request": "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%",
    "authority": "%REQ(:AUTHORITY)%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "host": "%UPSTREAM_HOST%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "route": "%ROUTE_NAME%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
}
SEPARATOR = "\x1f"
SETUP_KEYS = {"routes", "virtual_hosts", "route_config", "hcm", "listener", "clusters", "filters",
              "log", "log_format", "log_json", "bootstrap", "client"}
CASE_KEYS = {"name", "setup", "ask", "raw", "steps", "responses", "linger", "origin", "stats",
             "admin", "compare", "validate", "edit", "wait", "unordered", "spread", "within",
             "client", "fields", "begin", "windows"}
FILE_KEYS = {"about", "setups", "cases", "clusters", "stats"} | SETUP_KEYS
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


class Setup:
    """One listener with its HttpConnectionManager, as little as the file says and the rest from
    the skeleton."""

    def __init__(self, name, given, shared):
        unknown = set(given) - SETUP_KEYS
        if unknown:
            raise ValueError(f"setup {name}: unknown {sorted(unknown)}")
        self.name = name
        self.given = given
        self.clusters = {**(shared or {"origin": {}}), **given.get("clusters", {})}
        self.log = {**LOG, **given.get("log", {})}
        self.log_format = given.get("log_format")
        self.log_json = given.get("log_json")
        self.client = given.get("client", "h1")

    def listener(self, port, log_path):
        """The listener's configuration."""
        given = copy.deepcopy(self.given)
        hosts = given.get("virtual_hosts") or [
            {"name": "all", "domains": ["*"],
             "routes": given.get("routes", [{"at": "/", "to": "origin"}])}]
        hosts = [virtual_host(host) for host in hosts]
        listener = config.listener(port, name=self.name, virtual_hosts=hosts)
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["delayed_close_timeout"] = "0.1s"
        manager["access_log"] = [self.access_log(log_path)]
        merge(manager["route_config"], given.get("route_config", {}))
        if "filters" in given:
            manager["http_filters"] = given["filters"] + manager["http_filters"]
        merge(manager, given.get("hcm", {}))
        return merge(listener, given.get("listener", {}))

    def access_log(self, path):
        """A file whose lines begin with when the stream did, by which they find their case."""
        began = "%START_TIME(%s.%6f)%"
        if self.log_json:
            return file_log(path, {"json_format": {"began": began, **self.log_json}})
        text = self.log_format or SEPARATOR.join(f"{key}={value}"
                                                 for key, value in self.log.items())
        text = began + SEPARATOR + text + "\n"
        return file_log(path, {"text_format_source": {"inline_string": text}})


class Case:
    """One thing that is asked of both."""

    def __init__(self, given, subject):
        unknown = set(given) - CASE_KEYS
        if unknown or "name" not in given:
            raise ValueError(f"{subject}: case {given.get('name')}: unknown {sorted(unknown)}")
        self.name = str(given["name"])
        self.given = given
        self.setup = given.get("setup")

        self.client = given.get("client")

    @property
    def is_verdict(self):
        """Whether it asks for a verdict on a configuration."""
        return "validate" in self.given or "edit" in self.given


class Subject:
    """A file of cases."""

    def __init__(self, path):
        self.name = path.stem
        text = path.read_text()
        given = yaml.safe_load(text)
        unknown = set(given) - FILE_KEYS
        if unknown:
            raise ValueError(f"{path.name}: unknown {sorted(unknown)}")
        shared = given.get("clusters")
        setups = given.get("setups")
        if setups is None:
            own = {key: given[key] for key in SETUP_KEYS - {"clusters"} if key in given}
            setups = {"main": own}
        self.setups = {name: Setup(name, value or {}, shared) for name, value in setups.items()}
        self.cases = [Case(value, self.name) for value in expanded(given["cases"])]
        self.stats = given.get("stats", [])
        names = [case.name for case in self.cases]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{path.name}: more than one case {sorted(twice)}")
        first = next(iter(self.setups))
        for case in self.cases:
            case.setup = case.setup or first
            if case.setup not in self.setups:
                raise ValueError(f"{path.name}: {case.name}: no setup {case.setup}")
            case.client = case.client or self.setups[case.setup].client

    def bootstrap(self, ports, setups, logs):
        """A whole configuration for these setups; `ports` gives each listener and cluster its
        own."""
        clusters = {}
        for setup in setups:
            for name, fields in setup.clusters.items():
                clusters[name] = cluster(name, copy.deepcopy(fields or {}), ports)
        listeners = [setup.listener(ports[f"listener {setup.name}"], logs / f"{setup.name}.log")
                     for setup in setups]
        whole = config.bootstrap(listeners, list(clusters.values()), ports["admin"])
        for setup in setups:
            merge(whole, copy.deepcopy(setup.given.get("bootstrap", {})))
        return with_ports(whole, ports)

    def http2_clusters(self):
        """Clusters whose origins speak HTTP/2, each with the settings that it begins with."""
        return {name: fields["h2"] if isinstance(fields["h2"], dict) else {}
                for setup in self.setups.values() for name, fields in setup.clusters.items()
                if (fields or {}).get("h2")}

    def cluster_names(self):
        """Names of all clusters of all setups."""
        return sorted({name for setup in self.setups.values() for name in setup.clusters})


def expanded(cases):
    """Cases, with one for each setup where a case lists several."""
    for given in cases:
        if isinstance(given.get("setup"), list):
            for setup in given["setup"]:
                yield {**given, "setup": setup, "name": f"{given['name']} ({setup})"}
        else:
            yield given


def file_log(path, log_format):
    """An access log in a file."""
    return {"name": "file", "typed_config": {
        "@type": FILE_LOG, "path": str(path), "log_format": log_format}}


def virtual_host(given):
    """A virtual host, with the short forms of its routes written out. `says: x`: one route that
    says x."""
    if "says" in given:
        given.setdefault("name", given["says"])
        given["routes"] = [{"at": "/", "says": given.pop("says")}]
    given["routes"] = [route(item) for item in given.get("routes", [])]
    return given


def route(given):
    """A route. `at: /x` is a match by prefix, `to: x` a cluster, and `says: x` a direct response
    of 200 and a name."""
    if "at" in given:
        given["match"] = {"prefix": given.pop("at"), **given.get("match", {})}
    if "to" in given:
        given["route"] = {"cluster": given.pop("to"), **given.get("route", {})}
    if "says" in given:
        text = given.pop("says")
        given.setdefault("name", text)
        given["direct_response"] = {"status": 200, "body": {"inline_string": text}}
    return given


def cluster(name, fields, ports):
    """A cluster of one endpoint, its origin's. `refused: true`: a port at which nobody listens, as
    for one that is only judged."""
    refused = fields.pop("refused", False) or f"cluster {name}" not in ports
    port = ports["refused"] if refused else ports[f"cluster {name}"]
    whole = config.cluster(port, name)
    whole.pop("circuit_breakers")
    if fields.pop("h2", False):
        whole["typed_extension_protocol_options"] = {HTTP_OPTIONS: {
            "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": {}}}}
    if "hosts" in fields:
        assignment = whole["load_assignment"]
        assignment["endpoints"] = [locality(item) for item in localities(fields.pop("hosts"))]
    return merge(whole, fields)


def localities(hosts):
    """One locality when hosts are listed without any."""
    return hosts if isinstance(hosts[0], dict) else [{"of": hosts}]


def locality(given):
    """A locality: its fields, and `of`, its hosts. `a*3 UNHEALTHY` is the origin a with the weight
    3 and that health status."""
    endpoints = []
    for text in given["of"]:
        name, _, status = text.partition(" ")
        name, _, weight = name.partition("*")
        address = {"address": "127.0.0.1", "port_value": f"${{cluster {name}}}"}
        endpoint = {"endpoint": {"address": {"socket_address": address}}}
        if weight:
            endpoint["load_balancing_weight"] = int(weight)
        if status:
            endpoint["health_status"] = status
        endpoints.append(endpoint)
    fields = {key: value for key, value in given.items() if key not in ("of", "zone")}
    if "zone" in given:
        fields["locality"] = {"zone": given["zone"]}
    return {**fields, "lb_endpoints": endpoints}


def merge(base, over):
    """Merges `over` into `base`, objects deeply, everything else by replacing; null removes."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        elif value is None:
            base.pop(key, None)
        else:
            base[key] = value
    return base


def with_ports(value, ports):
    """`${listener main}` and its like replaced by ports; a string that is only that becomes a
    number."""
    if isinstance(value, dict):
        return {key: with_ports(item, ports) for key, item in value.items()}
    if isinstance(value, list):
        return [with_ports(item, ports) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = re.fullmatch(r"\$\{([^}]*)\}", value)
    if whole:
        return ports[whole[1]]
    return re.sub(r"\$\{([^}]*)\}", lambda found: str(ports[found[1]]), value)
