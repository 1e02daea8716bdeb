"""What differs in every run made equal, and two observations compared path by path.

What it leaves to others: which differences are allowed (`differences.py`).

Made equal, and nothing else: dates, the digits of UUIDs and of durations in milliseconds, what is
left of a timeout of seconds (to a second), and the ports and files that were chosen for a
run. Header lines are compared in their order, but for those
of the codec (framing, `connection` and pseudo-header fields), which it writes anew, each at a place
of its own.
"""
import re

DATE = re.compile(r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT")
TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z")
UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
MILLISECONDS = {"x-envoy-upstream-service-time"}
LEFT = "x-envoy-expected-rq-timeout-ms"
CODEC = {"content-length", "transfer-encoding", "connection"}
ABSENT = "(none)"


class Tidy:
    """What is made equal on one side."""

    def __init__(self, ports, directory):
        self.names = {str(port): name for name, port in ports.items()}
        self.directory = str(directory)
        # The longest first: one port's digits may begin another's.
        numbers = sorted(self.names, key=len, reverse=True)
        self.port = re.compile(r"(?<!\d)(" + "|".join(numbers) + r")(?!\d)")

    def text(self, text):
        """One text."""
        text = text.replace(self.directory, "<directory>")
        text = self.port.sub(lambda found: f"<{self.names[found[1]]}>", text)
        text = TIME.sub("<time>", DATE.sub("<date>", text))
        return UUID.sub(lambda found: f"<uuid {found[1]}>", text)

    def value(self, value, key=""):
        """A value with all texts in it."""
        if isinstance(value, str):
            return re.sub(r"\d+", "<ms>", value) if key.endswith("_ms") else self.text(value)
        if isinstance(value, dict):
            return {name: self.value(item, name) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            if key in ("headers", "trailers"):
                return [self.header(*item) for item in value]
            return [self.value(item) for item in value]
        return value

    def header(self, name, value):
        """One header line."""
        known = MILLISECONDS if value.isdigit() else ()
        if name.lower() == LEFT and value.isdigit() and int(value) > 1000:
            return name, str(1000 * round(int(value) / 1000))
        return name, "<ms>" if name.lower() in known else self.text(value)


def level(envoy, ours, points):
    """Makes shares equal that differ by no more than so many percentage points, where both are more
    than none."""
    for name, share in envoy.get("spread", {}).items():
        if abs(share - ours.get("spread", {}).get(name, float("inf"))) <= points:
            ours["spread"][name] = share


def differences(envoy, ours, path=""):
    """All places where two observations differ: [(path, Envoy's, ours)]."""
    if isinstance(envoy, dict) and isinstance(ours, dict):
        found = []
        for key in [*envoy, *(key for key in ours if key not in envoy)]:
            at = f"{path}.{key}" if path else key
            pair = envoy.get(key, ABSENT), ours.get(key, ABSENT)
            if key in ("headers", "trailers") and ABSENT not in pair:
                found += header_differences(*pair, at)
            else:
                found += differences(*pair, at)
        return found
    if isinstance(envoy, list) and isinstance(ours, list):
        found = []
        for index in range(max(len(envoy), len(ours))):
            pair = [side[index] if index < len(side) else ABSENT for side in (envoy, ours)]
            found += differences(*pair, f"{path}.{index}")
        return found
    return [] if envoy == ours else [(path, envoy, ours)]


def header_differences(envoy, ours, path):
    """Values name by name, and the order of the lines that both have, as they are written."""
    found = []
    names = list(dict.fromkeys(name.lower() for name, _ in [*envoy, *ours]))
    values = [{name: [v for n, v in side if n.lower() == name] for name in names}
              for side in (envoy, ours)]
    for name in names:
        pair = values[0][name], values[1][name]
        if pair[0] != pair[1]:
            found.append((f"{path}.{name}", *(v or ABSENT for v in pair)))
    common = {name for name in names if len(values[0][name]) == len(values[1][name])
              and not name.startswith(":")} - CODEC
    order = [[name for name, _ in side if name.lower() in common] for side in (envoy, ours)]
    if order[0] != order[1]:
        found.append((f"{path}: order", *order))
    return found


def shape(value):
    """A JSON value with its leaves replaced by their type, and lists by the shapes in them."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        shapes = []
        for item in map(shape, value):
            if item not in shapes:
                shapes.append(item)
        return shapes
    return type(value).__name__
