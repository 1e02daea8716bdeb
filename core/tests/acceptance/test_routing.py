"""Which route a request takes, and what that does to its path, its host and its header fields.

The expectations are Envoy 1.40's answers (`--kind envoy` gives them again), except where a comment
says otherwise. What it leaves to others: the compiled table as such, which a property test compares
with a naive one.
"""
from rig import bootstrap, cluster, get, listener, once, route

OVERWRITE, IF_THERE = "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"
IF_ABSENT = "ADD_IF_ABSENT"


def direct(body, match, **fields):
    """A route that answers with its own name."""
    response = {"status": 200, "body": {"inline_string": body}}
    return {"match": match, "direct_response": response, **fields}


def add(name, value, action=None, **fields):
    """A `HeaderValueOption`."""
    option = {"header": {"key": name, "value": value}, **fields}
    return {**option, "append_action": action} if action else option


def regex(pattern, substitution):
    """A `RegexMatchAndSubstitute`."""
    return {"pattern": {"regex": pattern}, "substitution": substitution}


def template(kind, **fields):
    """The `typed_config` of a path template."""
    message = {"match": "UriTemplateMatchConfig", "rewrite": "UriTemplateRewriteConfig"}[kind]
    url = f"type.googleapis.com/envoy.extensions.path.{kind}.uri_template.v3.{message}"
    return {"name": f"envoy.path.{kind}.uri_template.uri_template_{kind}er",
            "typed_config": {"@type": url, **fields}}


def proxy(rig, hosts, clusters=(), **route_config):
    """A proxy with these virtual hosts (or routes for all hosts); returns its port."""
    if hosts and "match" in hosts[0]:
        hosts = [{"name": "all", "domains": ["*"], "routes": hosts}]
    port = rig.port()
    main = listener(port, virtual_hosts=hosts)
    manager = main["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"].update(route_config)
    rig.proxy(bootstrap([main], list(clusters), rig.port()), concurrency=1)
    return port


def echo(rig):
    """An origin that answers with the request's head."""
    def answer(request):
        lines = [f"{request.method} {request.target}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        return 200, [("x-o", "1"), ("x-o", "2"), ("server", "o")], "\n".join(lines).encode()
    return rig.origin(answer)


def seen(response):
    """What an echoing origin saw: (target, fields)."""
    assert response.status == 200, response.status
    start, *lines = response.body.decode().split("\n")
    return start.split(" ")[1], [tuple(line.split(": ", 1)) for line in lines]


def values(fields, name):
    """Values of one field."""
    return [value for key, value in fields if key == name]


def text(**pattern):
    """A matcher of text."""
    return {"string_match": pattern}


# By column: what the request has of the field `x`.
REQUESTS = [[], ["a"], [""], ["ab"], ["ABC"], ["a", "b"], ["9"], ["-5"], ["10"], ["+3"], ["9,1"]]
HEADERS = [
    ("nynnnynnnnn", text(exact="a")),
    ("nnynnnnnnnn", text(exact="")),
    ("nyyyyyyyyyy", {"exact_match": ""}),
    ("nynynynnnnn", text(prefix="a")),
    ("nynynynnnnn", {"contains_match": "a"}),
    ("nnnyyynnnnn", text(contains="B", ignore_case=True)),
    ("nnnynynnnnn", text(suffix="b")),
    ("nynynynnnnn", text(safe_regex={"regex": "a|ab"})),
    ("nnnnnnnnnnn", text(exact="a,b")),
    ("nyyyyyyyyyy", {}),
    ("ynnnnnnnnnn", {"present_match": False}),
    ("ynnnnnnnnnn", {"present_match": True, "invert_match": True}),
    ("nyyyyyyyyyy", {"present_match": False, "invert_match": True}),
    ("nnyyynyyyyy", {"invert_match": True, **text(exact="a")}),
    ("ynyyynyyyyy", {"invert_match": True, "treat_missing_header_as_empty": True,
                     **text(exact="a")}),
    ("ynynnnnnnnn", {"treat_missing_header_as_empty": True, **text(exact="")}),
    ("yyyyyyyyyyy", {"treat_missing_header_as_empty": True, "present_match": True}),
    ("nnnnnnyynyn", {"range_match": {"start": -5, "end": 10}}),
    ("nyyyyynnyny", {"range_match": {"start": -5, "end": 10}, "invert_match": True}),
    ("yyyyyyyyyyy", {"name": ":method", **text(exact="GET")}),
    ("yyyyyyyyyyy", {"name": ":path", **text(exact="/p?q=1")}),
    ("yyyyyyyyyyy", {"name": ":authority", **text(prefix="v")}),
    ("yyyyyyyyyyy", {"name": ":scheme", **text(exact="http")}),
]


@once
def test_header_matchers(rig):
    """Every form of a `HeaderMatcher` against a field that is missing, single, doubled, a number."""
    hosts = []
    for index, (_, matcher) in enumerate(HEADERS):
        match = {"prefix": "/", "headers": [{"name": "x", **matcher}]}
        routes = [direct("y", match), direct("n", {"prefix": "/"})]
        hosts.append({"name": f"v{index}", "domains": [f"v{index}"], "routes": routes})
    port = proxy(rig, hosts)
    for index, (expected, matcher) in enumerate(HEADERS):
        with rig.case(str(matcher)):
            found = ""
            for wanted in REQUESTS:
                fields = [("Host", f"v{index}")] + [("X", value) for value in wanted]
                found += get(port, "/p?q=1", headers=fields).body.decode()
            assert found == expected, (found, expected)


QUERIES = ["/", "/?a", "/?a=", "/?a=1", "/?b=2&a=1", "/?a=2&a=1", "/?a=a%20b", "/?a=1?b", "/?;a=1",
           "/?&&a=1", "/?A=1", "/?a=1=2"]
PARAMETERS = [
    ("nyyyyyyynyny", {}),
    ("ynnnnnnnynyn", {"present_match": False}),
    ("nnnyynnnnynn", text(exact="1")),
    ("nyynnnnnnnnn", text(exact="")),
    ("nnnnnnynnnnn", text(exact="a%20b")),
]


@once
def test_query_parameters(rig):
    """A query parameter is compared as it is written; its first value counts."""
    hosts = []
    for index, (_, matcher) in enumerate(PARAMETERS):
        match = {"prefix": "/", "query_parameters": [{"name": "a", **matcher}]}
        routes = [direct("y", match), direct("n", {"prefix": "/"})]
        hosts.append({"name": f"v{index}", "domains": [f"v{index}"], "routes": routes})
    port = proxy(rig, hosts)
    for index, (expected, matcher) in enumerate(PARAMETERS):
        with rig.case(str(matcher)):
            host = [("Host", f"v{index}")]
            found = "".join(get(port, query, headers=host).body.decode() for query in QUERIES)
            assert found == expected, (found, expected)


@once
def test_paths_and_other_conditions(rig):
    """Path specifiers beside each other, in order; shares of requests; gRPC; TLS; ports."""
    none = {"default_value": {"numerator": 0}}
    routes = [
        direct("separated", {"path_separated_prefix": "/sep"}),
        {"match": {"prefix": "/g", "grpc": {}}, "route": {"cluster": "origin"}},
        direct("never", {"prefix": "/f", "runtime_fraction": none}),
        direct("certificate", {"prefix": "/c", "tls_context": {"presented": True}}),
        direct("no certificate", {"prefix": "/c", "tls_context": {"presented": False}}),
        direct("template", {"path_match_policy": template("match", path_template="/t/{a}/*.x")}),
        direct("rest", {"prefix": "/"}),
    ]
    hosts = [{"name": "v", "domains": ["v.test"], "routes": routes}]
    port = proxy(rig, hosts, [cluster(rig.origin().port)], ignore_port_in_host_matching=True,
                 ignore_path_parameters_in_path_matching=True)
    rows = [
        ("/sep", "separated", []), ("/sep/x", "separated", []), ("/sep;v=1", "separated", []),
        ("/sepx", "rest", []), ("/g", "rest", []), ("/f", "rest", []), ("/c", "no certificate", []),
        ("/g", "origin\n", [("content-type", "application/grpc+proto")]),
        ("/g", "rest", [("content-type", "application/grpc-web")]),
        ("/t/1/2.x?q", "template", []), ("/t/1/2.y", "rest", []), ("/t/1/2/3.x", "rest", []),
    ]
    for path, expected, fields in rows:
        with rig.case(f"{path} {fields}"):
            found = get(port, path, headers=[("Host", "v.test:8080")] + fields).body.decode()
            assert found == expected, found


@once
def test_header_mutations(rig):
    """Values are formats; what is overwritten, appended, left alone or removed."""
    request = [
        add("x-made", "<%REQ(:path)% %PROTOCOL% %UPSTREAM_CLUSTER% %ROUTE_NAME% %REQ(x-in):2%>"),
        add("x-none", "%REQ(x-nothing)%"), add("x-kept", "%REQ(x-nothing)%", keep_empty_value=True),
        add("x-percent", "100%%"), add("x-address", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        add("x-in", "b"), add("x-copy", "%REQ(x-in)%"), add("x-two", "new", OVERWRITE),
        add("x-one", "new", IF_THERE), add("x-nobody", "new", IF_THERE),
        add("x-in", "never", IF_ABSENT), add("x-absent", "new", IF_ABSENT),
        add("user-agent", "two"), add("cookie", "c=d"),
    ]
    response = [add("x-o", "3"), add("x-req", "%REQ(x-in)%"), add("x-resp", "%RESP(x-o)%"),
                add("x-state", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%"),
                add("date", "now", OVERWRITE), add("server", "mine")]
    all_of_it = {**route("/", "origin"), "name": "named", "request_headers_to_add": request,
                 "request_headers_to_remove": ["X-Rm"], "response_headers_to_add": response,
                 "response_headers_to_remove": ["x-envoy-upstream-service-time"]}
    port = proxy(rig, [all_of_it], [cluster(echo(rig).port)])
    given = [("X-In", "abc"), ("x-rm", "1"), ("User-Agent", "one"), ("x-two", "1"), ("x-two", "2"),
             ("x-one", "1"), ("cookie", "a=b")]
    answer = get(port, "/p?q", headers=given)
    _, fields = seen(answer)
    expected = {
        "x-made": ["</p?q HTTP/1.1 origin named ab>"], "x-none": [], "x-kept": [""],
        "x-percent": ["100%"], "x-address": ["127.0.0.1"], "x-in": ["abc", "b"],
        "x-copy": ["abc"], "x-two": ["new"], "x-one": ["new"], "x-nobody": [],
        "x-absent": ["new"], "user-agent": ["one,two"], "cookie": ["a=b", "c=d"], "x-rm": [],
    }
    for name, wanted in expected.items():
        with rig.case(name):
            assert values(fields, name) == wanted, values(fields, name)
    expected = {
        "x-o": ["1", "2", "3"], "x-req": ["abc"], "x-resp": ["1"], "date": ["now"],
        "x-state": ["200 - via_upstream"], "server": ["envoy"], "x-envoy-upstream-service-time": [],
    }
    for name, wanted in expected.items():
        with rig.case(f"response {name}"):
            assert answer.all(name) == wanted, answer.all(name)


@once
def test_levels_of_mutations(rig):
    """Weighted cluster, route, virtual host, route configuration; or the most specific last."""
    def level(mark):
        both = [add("x", mark), add("o", mark, OVERWRITE)]
        return {"request_headers_to_add": both, "response_headers_to_add": both}
    chosen = {"name": "origin", "weight": 1, "host_rewrite_literal": "chosen.test", **level("w")}
    origin = echo(rig)
    for most_specific, order, last in [(False, "wrvc", "c"), (True, "wcvr", "r")]:
        with rig.case(f"most_specific {most_specific}"):
            one = {"match": {"prefix": "/"}, **level("r"),
                   "route": {"weighted_clusters": {"clusters": [chosen]}}}
            hosts = [{"name": "v", "domains": ["*"], "routes": [one], **level("v")}]
            port = proxy(rig, hosts, [cluster(origin.port)], **level("c"),
                         most_specific_header_mutations_wins=most_specific)
            answer = get(port, "/")
            _, fields = seen(answer)
            for found in (fields, answer.headers):
                assert values(found, "x") == list(order), found
                assert values(found, "o") == [last], found
            assert values(fields, "host") == ["chosen.test"], fields
            assert values(fields, "x-envoy-original-host") == [], fields


@once
def test_mutations_of_own_answers(rig):
    """Redirects, direct responses and errors on a route are changed, too; 404 NR is not."""
    mark = {"response_headers_to_add": [add("x-d", "%RESPONSE_CODE_DETAILS%")]}
    routes = [
        direct("body", {"prefix": "/direct"},
               response_headers_to_add=[add("content-type", "a/b", OVERWRITE)]),
        {"match": {"prefix": "/away"}, "redirect": {"path_redirect": "/x"}, **mark},
        {**route("/gone", "gone"), **mark},
    ]
    hosts = [{"name": "v", "domains": ["*"], "routes": routes,
              "response_headers_to_add": [add("x-v", "v")]}]
    port = proxy(rig, hosts, validate_clusters=False)
    rows = [("/direct", 200, ["v"]), ("/away", 301, ["v"]), ("/gone", 503, ["v"]), ("/", 404, [])]
    for path, status, wanted in rows:
        with rig.case(path):
            answer = get(port, path)
            assert (answer.status, answer.all("x-v")) == (status, wanted), answer.headers
    assert get(port, "/direct").all("content-type") == ["a/b"]
    assert get(port, "/away").all("x-d") == ["direct_response"]


def forward(match, **action):
    """A route to the origin."""
    return {"match": match, "route": {"cluster": "origin", **action}}


@once
def test_path_rewrites(rig):
    """The query stays, and the path as it was goes into a field."""
    rewrite = template("rewrite", path_template_rewrite="/n/{b}/{a}")
    match = {"path_match_policy": template("match", path_template="/t/{a}/{b=**}")}
    routes = [
        forward({"prefix": "/rx/"}, regex_rewrite=regex("^/rx/([^/]+)(/.*)$", r"\2/y/\1")),
        forward({"prefix": "/all/"}, regex_rewrite=regex("a", "X")),
        forward({"prefix": "/none/"}, regex_rewrite=regex("zzz", "X")),
        forward({"prefix": "/empty"}, regex_rewrite=regex(".*", "")),
        forward({"path_separated_prefix": "/sep"}, prefix_rewrite="/q"),
        forward({"path": "/ex"}, prefix_rewrite="/q"),
        forward({"safe_regex": {"regex": "/re.*"}}, prefix_rewrite="/q"),
        forward({"prefix": "/ci", "case_sensitive": False}, prefix_rewrite="/q"),
        forward(match, path_rewrite_policy=rewrite),
    ]
    port = proxy(rig, routes, [cluster(echo(rig).port)])
    rows = [
        ("/rx/foo/bar?q=/rx/a", "/bar/y/foo?q=/rx/a"), ("/all/abca?a", "/Xll/XbcX?a"),
        ("/none/a", "/none/a"), ("/sep?x=1", "/q?x=1"), ("/sep/a", "/q/a"), ("/ex?x", "/q?x"),
        ("/rexx?y", "/q?y"), ("/CI/abc", "/q/abc"), ("/t/1/2/3?q", "/n/2/3/1?q"),
    ]
    for path, expected in rows:
        with rig.case(path):
            target, fields = seen(get(port, path))
            assert target == expected, target
            assert values(fields, "x-envoy-original-path") == [path], fields
    with rig.case("an empty path is none"):
        target, fields = seen(get(port, "/empty/x"))
        assert (target, values(fields, "x-envoy-original-path")) == ("/empty/x", []), fields


@once
def test_host_rewrites(rig):
    """The host that the origin sees, and the fields that keep the client's."""
    routes = [
        forward({"prefix": "/header/"}, host_rewrite_header="x-h"),
        forward({"prefix": "/path/"}, host_rewrite_path_regex=regex("^/path/(.+)$", r"\1.com")),
        forward({"prefix": "/literal/"}, host_rewrite_literal="new.h",
                append_x_forwarded_host=True),
        forward({"prefix": "/auto/"}, auto_host_rewrite=True),
        {"match": {"prefix": "/name/"}, "route": {"cluster": "named", "auto_host_rewrite": True}},
    ]
    origin = echo(rig)
    named = cluster(origin.port, "named")
    endpoint = named["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["hostname"] = "origin.name"
    port = proxy(rig, routes, [cluster(origin.port), named])
    old, forwarded = "acceptance.test", "x-forwarded-host"
    rows = [
        ("/header/", [("x-h", "hdr.com"), ("x-h", "2nd")], "hdr.com", [old], []),
        ("/header/", [], old, [], []),
        ("/path/foo?x", [], "foo.com", [old], []),
        ("/literal/", [], "new.h", [old], [old]),
        ("/literal/", [(forwarded, "a.b")], "new.h", [old], [f"a.b,{old}"]),
        ("/literal/", [(forwarded, f"a.b,{old}")], "new.h", [old], [f"a.b,{old}"]),
        ("/auto/", [], old, [], []),
        ("/name/", [], "origin.name", [old], []),
    ]
    for path, given, host, original, chain in rows:
        with rig.case(f"{path} {given}"):
            _, fields = seen(get(port, path, headers=given))
            found = [values(fields, name) for name in ("host", "x-envoy-original-host", forwarded)]
            assert found == [[host], original, chain], found


REDIRECTS = [
    # the action, and where it leads for a.com, a.com:80, a.com:443 and a.com:8080
    ({"https_redirect": True}, ["https://a.com", "https://a.com", "https://a.com:443",
                                "https://a.com:8080"]),
    ({"scheme_redirect": "ftp"}, ["ftp://a.com", "ftp://a.com", "ftp://a.com:443",
                                  "ftp://a.com:8080"]),
    ({"https_redirect": True, "port_redirect": 443}, ["https://a.com:443"] * 4),
    ({"port_redirect": 80}, ["http://a.com:80"] * 4),
    ({"host_redirect": "h.com"}, ["http://h.com"] * 4),
    ({"host_redirect": "h.com:99"}, ["http://h.com:99"] * 4),
    ({}, ["http://a.com", "http://a.com:80", "http://a.com:443", "http://a.com:8080"]),
]
PATHS = [
    ({"path_redirect": "/np"}, "/np?q=1"), ({"path_redirect": "/np?z=1"}, "/np?z=1"),
    ({"path_redirect": "/np?z", "strip_query": True}, "/np?z"),
    ({"prefix_rewrite": "/np"}, "/np/x?q=1"),
    ({"strip_query": True}, "/r/x"), ({"path_redirect": "/np#x"}, "/np#x?q=1"),
    ({"regex_rewrite": regex("^/r/(.*)", r"/y/\1")}, "/y/x?q=1"),
]


@once
def test_redirects(rig):
    """Scheme, host, port and path of a `location`."""
    hosts = []
    for action, _ in REDIRECTS + PATHS:
        hosts.append([{"match": {"prefix": "/r"}, "redirect": action}])
    codes = ["MOVED_PERMANENTLY", "FOUND", "SEE_OTHER", "TEMPORARY_REDIRECT", "PERMANENT_REDIRECT"]
    coded = [{"match": {"path": f"/c{i}"}, "redirect": {"response_code": c}}
             for i, c in enumerate(codes)]
    for index, (action, expected) in enumerate(REDIRECTS):
        with rig.case(str(action)):
            port = proxy(rig, hosts[index])
            for host, wanted in zip(["a.com", "a.com:80", "a.com:443", "a.com:8080"], expected):
                answer = get(port, "/r/x?q=1", headers=[("Host", host)])
                assert answer.status == 301, answer.status
                assert answer.get("location") == f"{wanted}/r/x?q=1", answer.get("location")
    for index, (action, expected) in enumerate(PATHS, len(REDIRECTS)):
        with rig.case(str(action)):
            answer = get(proxy(rig, hosts[index]), "/r/x?q=1", headers=[("Host", "a.com")])
            assert answer.get("location") == f"http://a.com{expected}", answer.get("location")
    port = proxy(rig, coded)
    statuses = [get(port, f"/c{i}").status for i in range(len(codes))]
    assert statuses == [301, 302, 303, 307, 308], statuses
    secure = [("Host", "a.com:443"), ("X-Forwarded-Proto", "https")]
    assert get(port, "/c0", headers=secure).get("location") == "https://a.com:443/c0"


@once
def test_require_tls(rig):
    """What did not come by TLS, here or before, is sent there."""
    for requirement in ("ALL", "EXTERNAL_ONLY"):
        with rig.case(requirement):
            hosts = [{"name": "v", "domains": ["*"], "require_tls": requirement,
                      "routes": [direct("in", {"prefix": "/"})]}]
            port = proxy(rig, hosts)
            answer = get(port, "/a?b=1", headers=[("Host", "tls.net:80")])
            assert answer.status == 301, answer.status
            assert answer.get("location") == "https://tls.net:80/a?b=1", answer.get("location")
            answer = get(port, "/", headers=[("X-Forwarded-Proto", "https")])
            assert answer.body == b"in", answer.body


@once
def test_choice_of_cluster(rig):
    """By a field, by weight with a number of the request's own; attempts are counted."""
    weighted = {"clusters": [{"name": "origin", "weight": 1},
                             {"cluster_header": "x-c", "weight": 1}], "header_name": "x-rnd"}
    routes = [
        {"match": {"prefix": "/field"}, "route": {"cluster_header": "X-C"}},
        {"match": {"prefix": "/weight"}, "route": {"weighted_clusters": weighted}},
        forward({"prefix": "/"}, cluster_not_found_response_code="NOT_FOUND"),
    ]
    routes[2]["route"]["cluster"] = "gone"
    hosts = [{"name": "v", "domains": ["*"], "routes": routes,
              "include_request_attempt_count": True, "include_attempt_count_in_response": True}]
    origin, other = echo(rig), rig.origin()
    port = proxy(rig, hosts, [cluster(origin.port), cluster(other.port, "other")],
                 validate_clusters=False)
    with rig.case("field"):
        answer = get(port, "/field", headers=[("x-c", "origin"), ("x-c", "gone")])
        _, fields = seen(answer)
        assert values(fields, "x-envoy-attempt-count") == ["1"], fields
        assert answer.all("x-envoy-attempt-count") == ["1"], answer.headers
        assert get(port, "/field", headers=[("x-c", "other")]).body == b"origin\n"
    for fields in ([], [("x-c", "gone")], [("x-c", "")]):
        with rig.case(f"field {fields}"):
            answer = get(port, "/field", headers=fields)
            assert (answer.status, answer.body) == (503, b""), answer.status
            assert answer.all("x-envoy-attempt-count") == [], answer.headers
    for number, body in [("0", b"GET"), ("1", b"origin\n"), ("2", b"GET"), ("3", b"origin\n")]:
        with rig.case(f"number {number}"):
            found = get(port, "/weight", headers=[("x-rnd", number), ("x-c", "other")]).body
            assert found.startswith(body), found
    with rig.case("no cluster"):
        assert get(port, "/").status == 404
