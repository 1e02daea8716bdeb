"""`/stats/prometheus` as Prometheus's own `promtool` reads it.

What it leaves to others: which series there are (`core/tests/stats.rs`, parity).
"""
import subprocess
import urllib.request

from rig import bootstrap, cluster, get, listener, once, only, route

# Names that must not break a line, a label or a name.
ODD = ["plain", "outbound|50001|v1|foo.bar.svc.cluster.local", 'quote"and\\backslash', "ümläut",
       "dots.and-dashes", "a b", "{brace}", "x=1,y=2", "colon::two", "9 begins with a digit"]

PAGES = ["", "?usedonly", "?histogram_buckets=summary", "?text_readouts",
         "?filter=cluster.*"]

# About how Prometheus would name things: the names are Envoy's.
STYLE = ("counter metrics should have \"_total\" suffix",
         "non-counter metrics should not have \"_total\" suffix",
         "non-histogram and non-summary metrics should not have \"_count\" suffix",
         "non-histogram and non-summary metrics should not have \"_sum\" suffix",
         "no help text", "metric names should not contain abbreviated units",
         "use base unit", "metric name should not include type",
         "metric names should not contain ':'", "metric names should be written in 'snake_case'")


@once
@only("tidegate")
def test_promtool(rig):
    """promtool finds no fault in any form of the page, whatever clusters are called."""
    origin = rig.origin()
    port, admin = rig.port(), rig.port()
    routes = [route(f"/{number}/", name) for number, name in enumerate(ODD)]
    config = bootstrap([listener(port, routes, name="in \"quotes\"")],
                       [cluster(origin.port, name) for name in ODD], admin)
    config["stats_config"] = {
        "stats_tags": [{"tag_name": "mine", "fixed_value": 'a "b" \\ c\nd'},
                       {"tag_name": "the.kind", "regex": "^cluster\\.((\\w+)\\.)"}]}
    rig.proxy(config)
    for number in range(len(ODD)):
        assert get(port, f"/{number}/").status == 200
    for page in PAGES:
        with rig.case(page or "plain"):
            url = f"http://127.0.0.1:{admin}/stats/prometheus{page}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read()
            assert text.strip(), "an empty page"
            done = subprocess.run(["promtool", "check", "metrics"], input=text,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            said = done.stdout.decode().splitlines()
            # 3: it has remarks on style.
            assert done.returncode in (0, 3), said[:10]
            faults = [line for line in said if line and not any(s in line for s in STYLE)]
            assert not faults, faults[:10]
