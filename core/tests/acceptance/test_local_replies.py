"""The proxy's own answers as `local_reply_config` wants them, and filters and JSON of access logs.

What it leaves to others: which answers there are (`test_headers.py`, `test_routing.py`).
"""
import json

from rig import Client, access_log, get, route


def status_is(operator, value):
    """A `status_code_filter`."""
    return {"status_code_filter": {"comparison": {
        "op": operator, "value": {"default_value": value, "runtime_key": "none"}}}}


REPLIES = [
    {"match": {"prefix": "/tea"},
     "direct_response": {"status": 418, "body": {"inline_string": "tea"}}},
    {"match": {"prefix": "/moved"}, "redirect": {"host_redirect": "x.test"}},
    route("/up", "origin"),
]


def test_local_reply_format(rig):
    """`body_format`: every answer of the proxy's own is written anew, in text or JSON."""
    origin = rig.origin()
    with rig.case("text"):
        text = "<%LOCAL_REPLY_BODY%> %RESPONSE_CODE% %REQ(:path)% %REQ(x-none)%"
        _, port = rig.front(origin.port, routes=REPLIES, local_reply_config={"body_format": {
            "content_type": "text/html", "text_format_source": {"inline_string": text}}})
        for path, status, body in [("/tea", 418, b"<tea> 418 /tea -"),
                                   ("/moved", 301, b"<> 301 /moved -"),
                                   ("/none", 404, b"<> 404 /none -")]:
            response = get(port, path)
            assert (response.status, response.body) == (status, body)
            assert response.get("content-type") == "text/html"
        assert get(port, "/up").body == b"origin\n"
        head = get(port, "/tea", method="HEAD")
        assert (head.get("content-length"), head.body) == ("16", b"")
        with Client(port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n")
            assert client.final().body == b"<Bad Request> 400 - -"
            assert client.closed()
    with rig.case("json"):
        fields = {"status": "%RESPONSE_CODE%", "body": "%LOCAL_REPLY_BODY%", "no": "%REQ(x-none)%",
                  "mixed": "a \"%REQ(:path)%\" %REQ(x-none)%",
                  "list": [1, True, {"flags": "%RESPONSE_FLAGS%"}]}
        _, port = rig.front(origin.port, routes=REPLIES, local_reply_config={
            "body_format": {"json_format": fields}})
        response = get(port, "/none\"")
        assert response.get("content-type") == "application/json"
        assert json.loads(response.body) == {
            "status": 404, "body": "", "no": None, "mixed": "a \"/none\"\" -",
            "list": [1, True, {"flags": "NR"}]}


def test_local_reply_mappers(rig):
    """The first mapper that matches changes status, body, format and fields."""
    mappers = [
        {"filter": status_is("EQ", 418), "status_code": 404, "body": {"inline_string": "no tea"},
         "headers_to_add": [{"header": {"key": "x-was", "value": "%RESPONSE_CODE%"}}]},
        {"filter": {"and_filter": {"filters": [
            status_is("EQ", 404), {"header_filter": {"header": {
                "name": "x-a", "string_match": {"exact": "1"}}}}]}},
         "status_code": 200,
         "body_format_override": {"json_format": {"code": "%RESPONSE_CODE%"}}},
        {"filter": {"response_flag_filter": {"flags": ["NR"]}}, "status_code": 410,
         "body": {"inline_string": "gone"}},
        {"filter": {"header_filter": {"header": {
            "name": ":path", "string_match": {"prefix": "/moved"}}}}, "status_code": 204},
    ]
    log, lines = access_log(rig, "%REQ(:PATH)% %RESPONSE_CODE% %BYTES_SENT%")
    _, port = rig.front(rig.origin().port, routes=REPLIES, access_log=log,
                        local_reply_config={"mappers": mappers})
    response = get(port, "/tea")
    assert (response.status, response.body, response.get("x-was")) == (404, b"no tea", "418")
    response = get(port, "/none", [("x-a", "1")])
    assert (response.status, response.body) == (200, b"{\"code\":200}\n")
    assert response.get("content-type") == "application/json"
    response = get(port, "/none")
    assert (response.status, response.body) == (410, b"gone")
    response = get(port, "/moved")
    assert (response.status, response.body, response.get("content-length")) == (204, b"", None)
    response = get(port, "/up")
    assert (response.status, response.body) == (200, b"origin\n")
    assert sorted(lines(5)) == [
        "/moved 204 0", "/none 200 13", "/none 410 4", "/tea 404 6", "/up 200 7"]


def test_access_log_filters(rig):
    """A log gets the lines that its filter lets pass."""
    share = {"runtime_key": "none", "percent_sampled": {"numerator": 100}}
    filters = {
        "all": {"not_health_check_filter": {}},
        "bad": status_is("GE", 400),
        "flagged": {"response_flag_filter": {}},
        "tea": {"header_filter": {"header": {
            "name": ":path", "string_match": {"prefix": "/tea"}}}},
        "either": {"or_filter": {"filters": [status_is("EQ", 301), status_is("EQ", 418)]}},
        "share": {"runtime_filter": share},
        "none": {"runtime_filter": {"runtime_key": "none"}},
        "long": {"duration_filter": {"comparison": {
            "op": "GE", "value": {"default_value": 60000, "runtime_key": "none"}}}},
    }
    logs, lines = [], None
    for name, condition in filters.items():
        log, lines = access_log(rig, f"{name} %RESPONSE_CODE%")
        logs.append({**log[0], "filter": condition})
    _, port = rig.front(rig.origin().port, routes=REPLIES, access_log=logs)
    for path in ("/tea", "/moved", "/none", "/up"):
        get(port, path)
    expected = ["all 418", "all 301", "all 404", "all 200", "bad 418", "bad 404", "flagged 404",
                "tea 418", "either 418", "either 301",
                "share 418", "share 301", "share 404", "share 200"]
    assert sorted(lines(len(expected))) == sorted(expected)


def test_json_access_log(rig):
    """`json_format` of an access log: one object in a line, however peers try to break it."""
    log, lines = access_log(rig, "")
    log[0]["typed_config"]["log_format"] = {"json_format": {
        "path": "%REQ(:PATH)%", "agent": "%REQ(USER-AGENT)%", "code": "%RESPONSE_CODE%",
        "none": "%REQ(X-NONE)%", "n": {"text": "%BYTES_SENT% of %REQ(X-NONE)%"}}}
    _, port = rig.front(rig.origin().port, access_log=log)
    get(port, "/a\"b", [("User-Agent", "x\\\t\"\u00e9")])
    assert json.loads(lines(1)[0]) == {
        "path": "/a\"b", "agent": "x\\\t\"\ufffd", "code": 200, "none": None,
        "n": {"text": "7 of -"}}
