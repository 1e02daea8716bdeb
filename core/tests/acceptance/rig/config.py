"""Envoy bootstraps as Python values, and their YAML.

What it leaves to others: starting a proxy on one (`proxy.py`). Every configuration made here is
also accepted by Envoy 1.40, so that any test can be run against it for comparison.
"""
import json
import time

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
NO_LIMIT = 1 << 20


def address(port, host="127.0.0.1"):
    """A `core.v3.Address`."""
    return {"socket_address": {"address": host, "port_value": port}}


def route(prefix, cluster_name, **action):
    """A route by prefix to a cluster; `action` goes into the `RouteAction`."""
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster_name, **action}}


def listener(port, routes=None, name="main", host="127.0.0.1", virtual_hosts=None, **manager):
    """A listener with one HttpConnectionManager; `manager` goes into that."""
    hosts = virtual_hosts or [
        {"name": "all", "domains": ["*"], "routes": routes or [route("/", "origin")]}]
    typed = {
        "@type": f"type.googleapis.com/{HCM}",
        "stat_prefix": name,
        "route_config": {"name": name, "virtual_hosts": hosts},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"type.googleapis.com/{ROUTER}"}}],
        **manager,
    }
    return {
        "name": name,
        "address": address(port, host),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": typed}]}],
    }


def tcp_listener(port, name="tcp", **proxy):
    """A listener with one TcpProxy, to the cluster `origin` unless `proxy` says otherwise."""
    if "weighted_clusters" not in proxy:
        proxy = {"cluster": "origin", **proxy}
    typed = {"@type": f"type.googleapis.com/{TCP}", "stat_prefix": name, **proxy}
    return {
        "name": name,
        "address": address(port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy", "typed_config": typed}]}],
    }


def cluster(port, name="origin", host="127.0.0.1", **fields):
    """A STATIC cluster of one endpoint (or several, when `port` is a list) without effective
    limits."""
    ports = port if isinstance(port, list) else [port]
    endpoints = [{"endpoint": {"address": address(p, host)}} for p in ports]
    threshold = {"max_connections": NO_LIMIT, "max_pending_requests": NO_LIMIT,
                 "max_requests": NO_LIMIT}
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **fields,
    }


def http2_fields(spoken=True, **options):
    """Fields of a cluster whose origin speaks HTTP/2 (or does not); `options` go into the
    `Http2ProtocolOptions`."""
    if not spoken:
        return {}
    return {"typed_extension_protocol_options": {HTTP_OPTIONS: {
        "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": options}}}}


def bootstrap(listeners, clusters, admin_port):
    """A whole bootstrap."""
    return {
        "node": {"id": "acceptance", "cluster": "acceptance"},
        "admin": {"address": address(admin_port)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def to_yaml(value, indent=0):
    """Block-style YAML of JSON-like values (scalars written as JSON, which YAML contains)."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            name = json.dumps(key) if key.startswith("@") else key
            lines.append(_entry(f"{pad}{name}:", item, indent + 1))
        return "\n".join(lines)
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            body = to_yaml(item, indent + 1)
            lines.append(f"{pad}- {body.lstrip()}")
        return "\n".join(lines)
    return pad + json.dumps(value, ensure_ascii=False)


def _entry(head, item, indent):
    if isinstance(item, (dict, list)) and item:
        return f"{head}\n{to_yaml(item, indent)}"
    return f"{head} {json.dumps(item, ensure_ascii=False)}"


def access_log(rig, text):
    """An access log with this format: (its configuration, a function that waits for so many lines
    and answers all)."""
    path = rig.tmp / "access.log"
    file_log = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"

    def lines(count):
        for _ in range(300):
            seen = path.read_text().splitlines() if path.exists() else []
            if len(seen) >= count:
                break
            time.sleep(0.05)
        return seen

    return [{"name": "file", "typed_config": {
        "@type": file_log, "path": str(path),
        "log_format": {"text_format_source": {"inline_string": text + "\n"}}}}], lines
