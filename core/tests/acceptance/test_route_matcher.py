"""The matcher of a virtual host: a tree of conditions that ends in routes.

The expectations are Envoy 1.40's answers. What it leaves to others: what routes match and do
(`test_routing.py`).
"""
from rig import bootstrap, get, listener, once

XDS = "type.googleapis.com/envoy"


def direct(body, prefix="/"):
    """A route that answers with a name."""
    response = {"status": 200, "body": {"inline_string": body}}
    return {"match": {"prefix": prefix}, "direct_response": response}


def go(*routes):
    """An `OnMatch` that leads to routes."""
    kind, value = ("Route", routes[0]) if len(routes) == 1 else ("RouteList", {"routes": [*routes]})
    return {"action": {"name": "a",
                       "typed_config": {"@type": f"{XDS}.config.route.v3.{kind}", **value}}}


def field(name):
    """The input for a header field."""
    return {"name": "i", "typed_config": {
        "@type": f"{XDS}.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": name}}


def single(source, **value):
    """A condition on one value."""
    return {"single_predicate": {"input": source, "value_match": value}}


def case(predicate, on_match):
    """One case of a list."""
    return {"predicate": predicate, "on_match": on_match}


X, Y, PATH = field("x"), field("Y"), field(":path")
INNER = {"matcher_list": {"matchers": [case(single(Y, exact="in"), go(direct("inner")))]}}
BOTH = {"and_matcher": {"predicate": [
    single(X, prefix="b"), {"not_matcher": single(Y, exact="1")}]}}
EITHER = {"or_matcher": {"predicate": [
    single(PATH, safe_regex={"google_re2": {}, "regex": "/[0-9]+"}),
    single(X, suffix="Z", ignore_case=True)]}}
LONGEST = {"matcher_tree": {"input": PATH, "prefix_match_map": {"map": {
    "/": go(direct("root")), "/long": go(direct("long")), "/long/er": {"matcher": INNER}}}},
           "on_no_match": go(direct("no path"))}
MATCHER = {"matcher_list": {"matchers": [
    case(single(X, exact="a"), go(direct("a"))),
    case(BOTH, go(direct("b1", "/one"), direct("b2", "/two"))),
    case(single(X, exact="nested"), {"matcher": INNER}),
    case(single(X, contains="nest"), go(direct("not nested"))),
    case(EITHER, go(direct("either"))),
    case(single(X, prefix="tree"), {"matcher": LONGEST}),
]}, "on_no_match": {"matcher": {"matcher_tree": {"input": X, "exact_match_map": {"map": {
    "exact": go(direct("exact")), "c,d": go(direct("joined"))}}}}}}


@once
def test_matcher(rig):
    """Lists, maps and their nesting; what leads nowhere is 404."""
    port = rig.port()
    hosts = [{"name": "v", "domains": ["*"], "matcher": MATCHER}]
    rig.proxy(bootstrap([listener(port, virtual_hosts=hosts)], [], rig.port()), concurrency=1)
    rows = [
        ("/", ["a"], [], "a"), ("/one", ["bx"], [], "b1"), ("/two", ["b"], ["0"], "b2"),
        ("/three", ["b"], [], 404), ("/one", ["b"], ["1"], 404), ("/", ["nested"], ["in"], "inner"),
        ("/", ["nested"], [], "not nested"), ("/12", [], [], "either"), ("/1x", [], [], 404),
        ("/", ["xz"], [], "either"), ("/", ["tree"], [], "root"), ("/longx", ["tree"], [], "long"),
        ("/long/er", ["tree"], ["in"], "inner"), ("/long/er", ["tree"], [], "long"),
        ("/", ["exact"], [], "exact"), ("/", ["c", "d"], [], "joined"), ("/", [], [], 404),
    ]
    for path, of_x, of_y, expected in rows:
        fields = [("x", value) for value in of_x] + [("y", value) for value in of_y]
        with rig.case(f"{path} {fields}"):
            answer = get(port, path, headers=fields)
            found = answer.body.decode() if answer.status == 200 else answer.status
            assert found == expected, found
