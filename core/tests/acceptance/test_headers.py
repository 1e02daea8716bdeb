"""Header handling of the connection manager and the router, as Envoy 1.40 does it: who the client
is, ids, spellings of paths, hosts and names, what an internal client may steer.

What it leaves to others: single functions' tables (the proxy's unit tests), malformed messages
(`test_ambiguous_requests.py`).
"""
import re
import time

from rig import Client, Closed, access_log, get, limit, route

LOOPBACK_IS_INTERNAL = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8},
                                        {"address_prefix": "10.0.0.0", "prefix_len": 8}]}
DETECTION = "type.googleapis.com/envoy.extensions.http.original_ip_detection"
PRESERVE_CASE = {"stateful_formatter": {"name": "preserve_case", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3."
             "PreserveCaseFormatterConfig", "forward_reason_phrase": True}}}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
NAMES = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-envoy-internal",
         "x-envoy-external-address")


def router(**fields):
    """`http_filters` with a router."""
    return [{"name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", **fields}}]


def upstream_http1(**fields):
    """A cluster's options for HTTP/1."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {name: {
        "@type": f"type.googleapis.com/{name}",
        "explicit_http_config": {"http_protocol_options": fields}}}}


def test_client_address(rig):
    """What the origin is told about the client, and what the log says: (options, fields sent,
    values of NAMES that the origin got, address in the log; `peer` is ours, `host` the host's)."""
    internal = {"internal_address_config": LOOPBACK_IS_INTERNAL}
    edge = {"use_remote_address": True, **internal}
    xff = {"@type": f"{DETECTION}.xff.v3.XffConfig"}
    header = {"@type": f"{DETECTION}.custom_header.v3.CustomHeaderConfig", "header_name": "X-Real",
              "allow_extension_to_set_address_as_trusted": True}

    def detect(config):
        return {**internal, "original_ip_detection_extensions": [
            {"name": "detection", "typed_config": config}]}

    two = ("x-forwarded-for", "1.2.3.4, 5.6.7.8")
    rows = [
        ({}, [], (None, "http", None, None, None), "peer"),
        (internal, [two], (two[1], "http", None, None, None), "5.6.7.8"),
        (internal, [("x-forwarded-for", "10.0.0.1")],
         ("10.0.0.1", "http", None, "true", None), "10.0.0.1"),
        ({"use_remote_address": True}, [], ("host", "http", None, None, "peer"), "peer"),
        (edge, [], ("host", "http", None, "true", None), "peer"),
        (edge, [two, ("x-forwarded-proto", "https")],
         (two[1] + ",host", "http", None, None, "peer"), "peer"),
        ({**edge, "skip_xff_append": True}, [two], (two[1], "http", None, None, "peer"), "peer"),
        ({**edge, "xff_num_trusted_hops": 1, "append_x_forwarded_port": True},
         [two, ("x-forwarded-proto", "https")],
         (two[1] + ",host", "https", "port", None, "5.6.7.8"), "5.6.7.8"),
        ({**internal, "xff_num_trusted_hops": 1}, [two], (two[1], "http", None, None, None),
         "1.2.3.4"),
        (detect({**xff, "xff_num_trusted_hops": 1, "skip_xff_append": False}), [two],
         (two[1] + ",host", "http", None, None, None), "1.2.3.4"),
        (detect({**xff, "xff_trusted_cidrs": {"cidrs": [
            {"address_prefix": "127.0.0.0", "prefix_len": 8},
            {"address_prefix": "5.6.0.0", "prefix_len": 16}]}}), [two],
         (two[1], "http", None, None, None), "1.2.3.4"),
        (detect(header), [("X-Real", "10.9.9.9")], (None, "http", None, "true", None), "10.9.9.9"),
        ({"scheme_header_transformation": {"scheme_to_overwrite": "https"}},
         [("x-forwarded-proto", "http")], (None, "https", None, None, None), "peer"),
    ]
    origin = rig.origin()
    for number, (options, fields, expected, logged) in enumerate(rows):
        with rig.case(f"{number} {options} {fields}"):
            log, lines = access_log(rig, "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% "
                                         "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")
            proxy, port = rig.front(origin.port, access_log=log, **options)
            assert get(port, headers=fields).status == 200
            got = [origin.last.get(name) for name in NAMES]
            got[0] = got[0] and re.sub(r"(^|,)(?!127)[0-9.]+$", r"\1host", got[0]) \
                if "host" in str(expected[0]) else got[0]
            wanted = [value and value.replace("peer", "127.0.0.1").replace("port", str(port))
                      if index != 0 else value for index, value in enumerate(expected)]
            assert got == wanted, (got, wanted)
            address = logged.replace("peer", "127.0.0.1")
            assert lines(number + 1)[-1] == f"{address} 127.0.0.1"
            proxy.stop()


def test_detection_failed(rig):
    """A client whose address cannot be found is refused, where that is asked for."""
    config = {"@type": f"{DETECTION}.custom_header.v3.CustomHeaderConfig",
              "header_name": "x-real", "reject_with_status": {"code": "Unauthorized"}}
    proxy, port = rig.front(rig.origin().port, original_ip_detection_extensions=[
        {"name": "header", "typed_config": config}])
    assert get(port, headers=[("x-real", "10.0.0.1")]).status == 200
    for fields in ([], [("x-real", "10.0.0.1:80")]):
        response = get(port, headers=fields)
        assert (response.status, response.reason, response.body) == (401, "Unauthorized", b"")
    assert proxy.stat("http.main.downstream_rq_rejected_via_ip_detection") == 2


def test_control_fields(rig):
    """Fields that steer the proxy are taken from requests from outside, and only from those."""
    origin = rig.origin()
    steering = ["x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url"]
    behind = ["x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
              "x-envoy-original-path"]
    others = ["x-envoy-foo", "x-envoy-attempt-count"]
    fields = [(name, "7") for name in [*steering, *behind, *others]]
    for options, kept in [
            ({}, [*behind, *others]),
            ({"use_remote_address": True}, others),
            ({"use_remote_address": True, "internal_address_config": LOOPBACK_IS_INTERNAL},
             [*steering, *behind, *others])]:
        with rig.case(str(options)):
            _, port = rig.front(origin.port, **options)
            get(port, headers=fields)
            got = [name for name, value in origin.last.headers if value == "7"]
            assert got == kept, got


def test_internal_only_headers(rig):
    """`internal_only_headers` of a route configuration."""
    origin = rig.origin()
    inside = {"use_remote_address": True, "internal_address_config": LOOPBACK_IS_INTERNAL}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route("/", "origin")]}]
    routes = {"name": "r", "virtual_hosts": hosts, "internal_only_headers": ["X-Secret"]}
    for options, seen in [({}, None), (inside, "1")]:
        with rig.case(str(options)):
            _, port = rig.front(origin.port, route_config=routes, **options)
            assert get(port, headers=[("x-secret", "1"), ("x-other", "2")]).status == 200
            assert (origin.last.get("x-secret"), origin.last.get("x-other")) == (seen, "2")


def test_request_id(rig):
    """(options, id sent, id that the origin gets: `new` for one made here, whether the response
    has it)."""
    origin = rig.origin()
    edge = {"use_remote_address": True}
    keep = {**edge, "preserve_external_request_id": True}
    internal = {**edge, "internal_address_config": LOOPBACK_IS_INTERNAL}
    traced, untraced = [f"11111111-2222-{digit}333-8444-555555555555" for digit in "94"]
    unpacked = {"request_id_extension": {"typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "pack_trace_reason": False}}}
    for options, sent, expected, answered in [
            ({}, None, "new", False),
            ({}, "own", "own", False),
            (edge, "own", "new", False),
            (internal, "own", "own", False),
            (keep, "own", "own", False),
            (keep, traced, untraced, False),
            ({**keep, **unpacked}, traced, traced, False),
            ({"always_set_request_id_in_response": True}, "own", "own", True),
            ({"generate_request_id": False}, None, None, False)]:
        with rig.case(f"{options} {sent}"):
            _, port = rig.front(origin.port, **options)
            response = get(port, headers=[("x-request-id", sent)] if sent else [])
            got = origin.last.get("x-request-id")
            assert got == expected or expected == "new" and UUID.fullmatch(got), got
            assert response.get("x-request-id") == (got if answered else None)
    with rig.case("traced by an internal client"):
        _, port = rig.front(origin.port, **internal)
        response = get(port, headers=[("x-envoy-force-trace", "1")])
        assert response.get("x-request-id") == origin.last.get("x-request-id")


def test_paths(rig):
    """(options, path sent, path that the origin gets or status and location of the answer)."""
    origin = rig.origin()
    normalize = {"normalize_path": True}
    merge = {"merge_slashes": True}

    def slashes(action, **options):
        return {"path_with_escaped_slashes_action": action, **options}

    rows = [
        ({}, {"/a/../b//c%2fd": "/a/../b//c%2fd", "/a#b": (400, None)}),
        (normalize, {"/a/../b//c/./d%2f..": "/b//c/d%2f..", "/%41%2e%2E/x": "/A../x",
                     "/x/%2e%2E/y?/../": "/y?/../", "/a\\b": "/a/b", "/%00": (400, None),
                     "/\"<>^`{|}": "/%22%3C%3E%5E%60%7B%7C%7D"}),
        (merge, {"/a///b//?c//d": "/a/b/?c//d", "/a/../b": "/a/../b"}),
        (slashes("KEEP_UNCHANGED"), {"/a%2fb%5Cc": "/a%2fb%5Cc"}),
        (slashes("REJECT_REQUEST"), {"/a%2fb": (400, None), "/a%5Cb": (400, None),
                                     "/a?%2f": "/a?%2f"}),
        (slashes("UNESCAPE_AND_REDIRECT"), {"/a%2fb?%2f": (307, "/a/b?%2f"), "/a": "/a"}),
        (slashes("UNESCAPE_AND_FORWARD"), {"/a%2F%5Cb?%2f": "/a/\\b?%2f"}),
        (slashes("UNESCAPE_AND_FORWARD", **normalize, **merge), {"/a%2f..%2F%5c/b": "/b"}),
    ]
    for options, paths in rows:
        _, port = rig.front(origin.port, **options)
        for sent, expected in paths.items():
            with rig.case(f"{options} {sent}"):
                response = get(port, sent)
                if isinstance(expected, str):
                    assert (response.status, origin.last.target) == (200, expected)
                else:
                    assert (response.status, response.get("location")) == expected
                    assert response.body == b""
                    closes = response.tokens("connection") == ["close"]
                    assert closes == (expected[0] == 400)


def test_routes_see_normalized_requests(rig):
    """Host and path are looked up in the spelling that they are sent on with."""
    origin = rig.origin()
    hosts = [{"name": "one", "domains": ["one.test"], "routes": [route("/in/", "origin")]}]
    _, port = rig.front(origin.port, virtual_hosts=hosts, normalize_path=True,
                        strip_any_host_port=True, strip_trailing_host_dot=True)
    for host, path, status in [("one.test", "/in/x", 200), ("ONE.test:99", "/out/../in/x", 200),
                               ("one.test.:99", "/in/x", 200), ("one.test", "/in/../out", 404),
                               ("two.test", "/in/x", 404)]:
        with rig.case(f"{host}{path}"):
            assert get(port, path, [("Host", host)]).status == status
            if status == 200:
                got = (origin.last.get("host").lower(), origin.last.target)
                assert got == ("one.test", "/in/x")


def test_host_ports(rig):
    """`strip_matching_host_port` takes away the port that the connection came to."""
    origin = rig.origin()
    _, port = rig.front(origin.port, strip_matching_host_port=True)
    for host, expected in [(f"h.test:{port}", "h.test"), ("h.test:1", "h.test:1"),
                           (f"[::1]:{port}", "[::1]")]:
        get(port, headers=[("Host", host)])
        assert origin.last.get("host") == expected


def test_underscores(rig):
    """Names with underscores are allowed, dropped or refused, and counted."""
    origin = rig.origin()
    fields = [("x_y", "1"), ("x-y", "2")]
    for action in ("ALLOW", "DROP_HEADER", "REJECT_REQUEST"):
        with rig.case(action):
            proxy, port = rig.front(origin.port, common_http_protocol_options={
                "headers_with_underscores_action": action})
            response = get(port, headers=fields)
            assert get(port, headers=[("x-y", "2")]).status == 200
            if action == "REJECT_REQUEST":
                assert (response.status, response.body) == (400, b"Bad Request")
                assert response.tokens("connection") == ["close"]
                name = "requests_rejected_with_underscores_in_headers"
                assert proxy.stat(f"http1.{name}") == 1
            else:
                names = [name for name, _ in origin.requests[-2].headers]
                assert response.status == 200 and ("x_y" in names) == (action == "ALLOW")
                dropped = proxy.stats().get("http1.dropped_headers_with_underscores", 0)
                assert dropped == (action == "DROP_HEADER")


def test_server_via_and_agent(rig):
    """`server`, `via` and `user-agent`, where nothing is there and where something is."""
    def fields(request):
        return [("Server", "up"), ("Via", "1.1 up")] if request.target == "/with" else []

    origin = rig.origin(lambda request: (200, fields(request), b""))
    for transformation, servers in [("OVERWRITE", ["me", "me"]), ("APPEND_IF_ABSENT", ["me", "up"]),
                                    ("PASS_THROUGH", [None, "up"])]:
        with rig.case(transformation):
            _, port = rig.front(origin.port, server_header_transformation=transformation,
                                server_name="me", via="1.1 me", add_user_agent=True)
            responses = [get(port, path) for path in ("/", "/with")]
            assert [response.get("server") for response in responses] == servers
            assert [response.get("via") for response in responses] == ["1.1 me", "1.1 up, 1.1 me"]
            request = origin.last
            assert request.get("user-agent") == "acceptance"
            assert request.get("x-envoy-downstream-service-node") == "acceptance"
            get(port, headers=[("User-Agent", "mine"), ("Via", "1.0 p")])
            assert origin.last.get("user-agent") == "mine"
            assert origin.last.get("via") == "1.0 p, 1.1 me"
            assert origin.last.get("x-envoy-downstream-service-cluster") == "acceptance"


def test_suppressed_envoy_headers(rig):
    """`suppress_envoy_headers`: no field of Envoy's own in either direction."""
    origin = rig.origin()
    _, port = rig.front(origin.port, http_filters=router(suppress_envoy_headers=True),
                        routes=[route("/", "origin", prefix_rewrite="/x")])
    response = get(port)
    names = [name.lower() for name, _ in [*response.headers, *origin.last.headers]]
    assert not [name for name in names if name.startswith("x-envoy-")], names


def test_expectation(rig):
    """100 comes from the proxy, or with `proxy_100_continue` from the origin."""
    for proxied in (False, True):
        with rig.case(str(proxied)):
            origin = rig.origin()
            _, port = rig.front(origin.port, proxy_100_continue=proxied)
            with Client(port) as client:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
                            b"Expect: 100-continue\r\n\r\n")
                if not proxied:
                    assert client.response().status == 100
                client.send(b"hi")
                assert client.final().status == 200
            assert origin.last.get("expect") == ("100-continue" if proxied else None)


def test_spelling_of_names(rig):
    """`header_key_format`, on both sides."""
    proper = {"proper_case_words": {}}
    origin = rig.origin(lambda request: (200, [("x-FOO-bar", "1")], b""))
    for ours, theirs, sent_on, answered in [
            (None, None, "x-ab-cd", "x-foo-bar"),
            (proper, None, "x-ab-cd", "X-Foo-Bar"),
            (None, proper, "X-Ab-Cd", "x-foo-bar"),
            (PRESERVE_CASE, None, "X-aB-cd", "x-foo-bar"),
            (None, PRESERVE_CASE, "x-ab-cd", "x-FOO-bar"),
            (PRESERVE_CASE, PRESERVE_CASE, "X-aB-cd", "x-FOO-bar")]:
        with rig.case(f"{ours} {theirs}"):
            options = {"http_protocol_options": {"header_key_format": ours}} if ours else {}
            cluster = upstream_http1(header_key_format=theirs) if theirs else None
            _, port = rig.front(origin.port, cluster, **options)
            response = get(port, headers=[("X-aB-cd", "1")])
            assert sent_on in [name for name, _ in origin.last.headers], origin.last.headers
            assert answered in [name for name, _ in response.headers], response.headers


def test_codec_options(rig):
    """Options of the codec: custom methods, both framings, whole URLs, HTTP/1.0 without host."""
    origin = rig.origin()
    both = (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\na\r\n0\r\n\r\n")
    with rig.case("defaults"):
        _, port = rig.front(origin.port)
        for request, status in [(b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 400), (both, 400),
                                (b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
                                (b"GET / HTTP/1.0\r\n\r\n", 426)]:
            with Client(port) as client:
                client.send(request)
                assert client.final().status == status, request
    with rig.case("allowed"):
        _, port = rig.front(origin.port, upstream_http1(send_fully_qualified_url=True),
                            http_protocol_options={
                                "allow_custom_methods": True, "allow_chunked_length": True,
                                "accept_http_10": True, "default_host_for_http_10": "ten.test"})
        for request, start in [
                (b"FOO /x?y HTTP/1.1\r\nHost: a\r\n\r\n", "FOO http://a/x?y HTTP/1.1"),
                (both, "POST http://a/ HTTP/1.1"),
                (b"GET /z HTTP/1.0\r\n\r\n", "GET http://ten.test/z HTTP/1.1")]:
            with Client(port) as client:
                client.send(request)
                assert client.final().status == 200, request
            assert origin.last.start == start
            assert not (origin.last.chunked and origin.last.all("content-length"))


def test_connection_after_400(rig):
    """After an answer 400 the connection closes, or with `stream_error_on_invalid_http_message`
    stays, where it can."""
    for stays in (False, True):
        with rig.case(str(stays)):
            _, port = rig.front(rig.origin().port, normalize_path=True,
                                stream_error_on_invalid_http_message=stays)
            with Client(port) as client:
                response = client.ask("/%00")
                assert (response.status, response.tokens("connection")) == \
                    (400, [] if stays else ["close"])
                if stays:
                    assert client.ask("/").status == 200
                else:
                    assert client.closed()


def slow_origin(rig):
    """An origin that takes a second and a half for `/slow`."""
    def answer(request):
        if request.target == "/slow":
            time.sleep(1.5)
        return 200, [], b""
    return rig.origin(answer)


@limit(90)
def test_timeouts_of_internal_clients(rig):
    """(fields, whether the client is internal, status, what the upstream is told)."""
    origin = slow_origin(rig)
    inside = {"use_remote_address": True, "internal_address_config": LOOPBACK_IS_INTERNAL}
    prefix = "x-envoy-upstream-rq"
    for options, fields, status, told in [
            (inside, {f"{prefix}-timeout-ms": "300"}, 504, "300"),
            (inside, {f"{prefix}-timeout-ms": "300",
                      f"{prefix}-timeout-alt-response": "1"}, 204, "300"),
            (inside, {f"{prefix}-timeout-ms": "0"}, 200, None),
            (inside, {f"{prefix}-timeout-ms": "soon"}, 200, "15000"),
            (inside, {f"{prefix}-per-try-timeout-ms": "300"}, 504, "300"),
            (inside, {"x-envoy-upstream-stream-duration-ms": "300"}, 504, "15000"),
            (inside, {"x-envoy-expected-rq-timeout-ms": "300"}, 200, "15000"),
            ({**inside, "http_filters": router(respect_expected_rq_timeout=True)},
             {"x-envoy-expected-rq-timeout-ms": "300"}, 504, "300"),
            ({}, {f"{prefix}-timeout-ms": "300"}, 200, "15000"),
            ({}, {"x-envoy-upstream-stream-duration-ms": "300"}, 200, "15000")]:
        with rig.case(f"{options} {fields}"):
            _, port = rig.front(origin.port, **options)
            assert get(port, "/slow", list(fields.items())).status == status
            assert origin.last.get("x-envoy-expected-rq-timeout-ms") == told
            assert not [name for name in fields if name != "x-envoy-expected-rq-timeout-ms"
                        and origin.last.all(name)]


@limit(90)
def test_stream_duration(rig):
    """`max_stream_duration` of the connection manager and of the cluster."""
    origin = slow_origin(rig)
    short = {"max_stream_duration": "0.3s"}
    with rig.case("connection manager"):
        proxy, port = rig.front(origin.port, common_http_protocol_options=short)
        response = get(port, "/slow")
        assert (response.status, response.body) == (504, b"downstream duration timeout")
        with Client(port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
            response = client.final()
            assert (response.status, response.body) == (408, b"downstream duration timeout")
        assert get(port, "/").status == 200
        assert proxy.stat("http.main.downstream_rq_max_duration_reached") == 2
    with rig.case("route"):
        routes = [route("/slow", "origin", max_stream_duration={"max_stream_duration": "0s"},
                        timeout="0.3s"), route("/", "origin", max_stream_duration=short)]
        _, port = rig.front(origin.port, routes=routes, common_http_protocol_options=short)
        assert get(port, "/slow").status == 200
        assert origin.last.get("x-envoy-expected-rq-timeout-ms") is None
    with rig.case("cluster"):
        cluster = upstream_http1()
        options = next(iter(cluster["typed_extension_protocol_options"].values()))
        options["common_http_protocol_options"] = short
        _, port = rig.front(origin.port, cluster)
        response = get(port, "/slow")
        assert (response.status, response.body) == (504, b"upstream max stream duration reached")


def test_safe_connection_duration(rig):
    """`http1_safe_max_connection_duration`: an idle connection that is old closes with its next
    response, not before."""
    for safe in (False, True):
        with rig.case(str(safe)):
            _, port = rig.front(rig.origin().port, http1_safe_max_connection_duration=safe,
                                common_http_protocol_options={"max_connection_duration": "0.5s"},
                                drain_timeout="0.1s")
            with Client(port) as client:
                assert client.ask().tokens("connection") == []
                time.sleep(1.5)
                try:
                    answer = client.ask().tokens("connection")
                except (Closed, OSError):
                    answer = None
                assert answer == (["close"] if safe else None)
