"""What tuning/ has for containers and services is what the program takes.

What it leaves to others: the tools that read these files (`tuning/tests`).
"""
import re
import shlex
import textwrap
from pathlib import Path

from rig import once, only
from rig.proxy import run_proxy

TUNING = Path(__file__).resolve().parents[3] / "tuning"


def check(rig, words, config):
    """Fails unless the program takes these arguments and this configuration."""
    path = rig.tmp / "envoy.yaml"
    path.write_text(config, encoding="utf-8")
    words = [str(path) if word == "/etc/tidegate/envoy.yaml" else word for word in words]
    assert str(path) in words, words
    status, said = run_proxy(*words, "--mode", "validate")
    assert status == 0, said


@once
@only("tidegate")
def test_command_lines(rig):
    """Of the unit, of the image, of the pod: with the pod's configuration."""
    pod = (TUNING / "kubernetes.yaml").read_text(encoding="utf-8")
    config = textwrap.dedent(re.search(r"  envoy.yaml: \|\n(.*?)\n---", pod, re.DOTALL).group(1))
    with rig.case("pod"):
        args = re.search(r"^ *args: \[(.*)\]$", pod, re.MULTILINE).group(1)
        check(rig, shlex.split(args.replace(",", " ")), config)
    with rig.case("unit"):
        unit = (TUNING / "tidegate.service").read_text(encoding="utf-8")
        line = re.search(r"^ExecStart=/usr/bin/tidegate (.*)$", unit, re.MULTILINE).group(1)
        check(rig, shlex.split(line), config)
    with rig.case("image"):
        image = (TUNING / "Dockerfile").read_text(encoding="utf-8")
        args = re.search(r"^CMD \[(.*)\]$", image, re.MULTILINE).group(1)
        check(rig, shlex.split(args.replace(",", " ")), config)
