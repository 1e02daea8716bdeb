"""The varnishtest scripts in `vtc/`: each scripts a client and an origin around one running proxy.

A script finds the proxy at `${proxy}` and lets its server listen on `${origin}`. Hosts:
`upgrade.test` allows WebSocket upgrades, `unrouted.test` has no routes, `plain.test` and all others
go to the origin. What it leaves to others: messages that varnishtest itself refuses to write or
read.
"""
import subprocess
from pathlib import Path

from rig import bootstrap, cluster, limit, listener, route

SCRIPTS = sorted(Path(__file__).with_name("vtc").glob("*.vtc"))


def configuration(rig, port, origin):
    """One listener for all scripts."""
    upgrade = route("/", "origin", upgrade_configs=[{"upgrade_type": "websocket"}])
    hosts = [
        {"name": "upgrade", "domains": ["upgrade.test"], "routes": [upgrade]},
        {"name": "unrouted", "domains": ["unrouted.test"], "routes": [route("/never/", "origin")]},
        {"name": "all", "domains": ["*"], "routes": [route("/", "origin")]},
    ]
    return bootstrap([listener(port, virtual_hosts=hosts)], [cluster(origin)], rig.port())


@limit(180)
def test_scripts(rig):
    """Every script, each on a fresh proxy, so that no pooled connection leads from one to the
    next."""
    for script in SCRIPTS:
        with rig.case(script.stem):
            run_script(rig, script)


def run_script(rig, script):
    """Runs one script and fails with the end of its log."""
    port, origin = rig.port(), rig.port()
    proxy = rig.proxy(configuration(rig, port, origin), concurrency=1, name=script.stem)
    try:
        done = subprocess.run(
            ["varnishtest", f"-Dproxy=127.0.0.1:{port}", f"-Dorigin=127.0.0.1:{origin}",
             "-t", "15", str(script)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False)
        lines = done.stdout.decode(errors="replace").splitlines()
        assert done.returncode == 0, "\n".join(lines[-25:])
    finally:
        proxy.stop()
