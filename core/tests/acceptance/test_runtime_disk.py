"""Runtime layers on disk: a file for each key, and a change is a directory that is moved into
place.

What it leaves to others: layers that are static, of the admin server and of RTDS
(`test_xds.py`, `core/tests/admin.rs`).
"""
import json
import os
import time

from rig import bootstrap, listener
from rig.proxy import wait_until
from test_xds import answer


def tree(root, files):
    """Writes files by path below a directory."""
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def link(place, target):
    """Makes a link point to something else, by one rename."""
    fresh = place.with_name("fresh-link")
    os.symlink(target, fresh)
    os.rename(fresh, place)


def configured(rig, current, **layer):
    """A bootstrap whose first route takes a share of requests by a key."""
    share = {"default_value": {"numerator": 0}, "runtime_key": "routing.first"}
    routes = [{"match": {"prefix": "/", "runtime_fraction": share},
               "direct_response": {"status": 200, "body": {"inline_string": "first"}}},
              {"match": {"prefix": "/"},
               "direct_response": {"status": 200, "body": {"inline_string": "second"}}}]
    port = rig.port()
    made = bootstrap([listener(port, routes)], [], rig.port())
    disk = {"symlink_root": str(current), **layer}
    made["layered_runtime"] = {"layers": [
        {"name": "disk", "disk_layer": {**disk, "subdirectory": "envoy"}},
        {"name": "override", "disk_layer": {**disk, "subdirectory": "envoy_override",
                                            "append_service_cluster": True}}]}
    return made, port


def values(proxy):
    """Final values by key."""
    page = json.loads(proxy.fetch("/runtime")[1])
    return {key: one["final_value"] for key, one in page["entries"].items()}


def test_a_directory_moved_into_place_changes_what_requests_get(rig):
    """Comments and spaces are no values, subdirectories are parts of keys; a file that is only
    written changes nothing."""
    current = rig.tmp / "runtime" / "current"
    tree(rig.tmp / "runtime" / "one", {"envoy/routing/first": "# a share\n0\n", "envoy/x": "7 \n"})
    tree(rig.tmp / "runtime" / "two", {
        "envoy/routing/first": "numerator: 100\ndenominator: HUNDRED\n"})
    link(current, "one")
    made, port = configured(rig, current)
    proxy = rig.proxy(made)
    assert values(proxy) == {"routing.first": "0", "x": "7"}, values(proxy)
    assert answer(port) == (200, b"second")
    before = proxy.stats()
    loads = before["runtime.load_success"]
    assert loads >= 1 and before["runtime.num_layers"] == 1, before
    assert before["runtime.override_dir_not_exists"] == loads, before
    assert before["runtime.load_error"] == before["runtime.override_dir_exists"] == 0, before
    (rig.tmp / "runtime" / "one" / "envoy" / "routing" / "first").write_text("100")
    assert answer(port) == (200, b"second")
    link(current, "two")
    wait_until(lambda: answer(port) == (200, b"first"), 5, proxy.log)
    wait_until(lambda: proxy.stat("runtime.load_success") > loads, 5, proxy.log)
    loads = proxy.stat("runtime.load_success")
    tree(rig.tmp / "runtime" / "other", {"x": "1"})
    os.rename(rig.tmp / "runtime" / "other", rig.tmp / "runtime" / "another")
    time.sleep(0.3)
    assert proxy.stat("runtime.load_success") == loads, "another directory is no change"


def test_the_directory_of_a_cluster_counts_before_that_of_all(rig):
    """`append_service_cluster`: its name is the node's, or that of the command line."""
    for name in ("node", "command line"):
        with rig.case(name):
            root = rig.tmp / name.replace(" ", "-")
            tree(root / "one", {"envoy/routing/first": "0",
                                "envoy_override/blue/routing/first": "100"})
            link(root / "current", "one")
            made, port = configured(rig, root / "current")
            made["node"] = {"id": "a"}
            args = ["--service-cluster", "blue"]
            if name == "node":
                made["node"] = {"id": "a", "cluster": "blue"}
                args = []
            proxy = rig.proxy(made, args=args)
            assert answer(port) == (200, b"first"), proxy.fetch("/runtime")[1]
            assert proxy.stat("runtime.override_dir_exists") >= 1
            assert proxy.stat("runtime.num_layers") == 2


def test_a_layer_that_cannot_be_read_does_not_count(rig):
    """A loop of directories without end: the others count, and it is counted."""
    root = rig.tmp / "runtime"
    tree(root / "one", {"envoy/routing/first": "100"})
    os.symlink(".", root / "one" / "envoy" / "again")
    link(root / "current", "one")
    made, port = configured(rig, root / "current")
    proxy = rig.proxy(made)
    assert answer(port) == (200, b"second")
    assert proxy.stat("runtime.load_error") >= 1 and proxy.stat("runtime.num_layers") == 0
    tree(root / "two", {"envoy/routing/first": "100"})
    link(root / "current", "two")
    wait_until(lambda: answer(port) == (200, b"first"), 5, proxy.log)
    assert proxy.stat("runtime.load_success") >= 1
