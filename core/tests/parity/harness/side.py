"""One side of a subject: a proxy, its origins, and what the cases show of it.

What it leaves to others: comparing the two sides (`observation.py`).
"""
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

from rig.config import to_yaml
from rig.proxy import Proxy

from .client import Exchange
from .http2_client import Http2Exchange
from .observation import Tidy, shape
from .origin import Origins
from .subject import SEPARATOR

VALIDATE_LIMIT_S = 20.0
GAP_S = 0.004
LOG_WITHIN_S = 1.5
UNSUPPORTED = re.compile("not supported yet|not supported upstream yet|Envoy that is not supported")


def command(kind, binary):
    """The command line of each kind, without the configuration."""
    if kind == "envoy":
        return [binary, "--concurrency", "1", "-l", "error", "--disable-hot-restart",
                "--file-flush-interval-msec", "5"]
    return [binary, "--concurrency", "1"]


class ParityProxy(Proxy):
    """A proxy of either kind."""

    def __init__(self, kind, binary, directory, config):
        self.command = command(kind, binary)
        super().__init__(directory, config, name=kind, ready=0)

    def _spawn(self, args, confine, concurrency):
        with open(self.log_path, "wb") as log:
            return subprocess.Popen([*self.command, "-c", str(self.path)], stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL)


class Side:
    """Everything of one side. `ports` are its own."""

    def __init__(self, kind, binary, subject, directory, ports):
        self.kind, self.binary = kind, binary
        self.subject = subject
        self.directory = directory
        self.logs = directory / "logs"
        self.logs.mkdir(parents=True)
        self.origins = Origins(subject.cluster_names(), subject.http2_clusters())
        self.ports = {**ports, **{f"cluster {name}": port
                                  for name, port in self.origins.ports().items()}}
        self.tidy = Tidy(self.ports, directory)
        self.proxy = None
        self.failed = None
        self.refused = {}
        self.results = {}
        self.windows = []

    def bootstrap(self, setups):
        """The configuration with these setups."""
        return self.subject.bootstrap(self.ports, setups, self.logs)

    def verdict(self, config, name):
        """What `--mode validate` says: (accept, reject or unsupported, its errors)."""
        path = self.directory / f"{name}.yaml"
        path.write_text(config if isinstance(config, str) else to_yaml(config) + "\n")
        try:
            done = subprocess.run(
                [*command(self.kind, self.binary), "--mode", "validate", "-c", str(path)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                timeout=VALIDATE_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return "no end", f"no end within {VALIDATE_LIMIT_S} s"
        said = done.stdout.decode(errors="replace")
        if done.returncode == 0:
            return "accept", said
        errors = re.findall(r"^error: .*", said, re.MULTILINE)
        if self.kind == "envoy" or not errors:
            return ("reject" if done.returncode == 1 else f"exit {done.returncode}"), said
        # With a mistake of its own it is refused for that.
        unsupported = all(UNSUPPORTED.search(error) for error in errors)
        return ("unsupported" if unsupported else "reject"), "\n".join(errors)

    def start(self, setups):
        """Starts the proxy on these setups, except those that our binary refuses."""
        accepted = []
        for setup in setups:
            verdict, said = "accept", ""
            if self.kind != "envoy":
                verdict, said = self.verdict(self.bootstrap([setup]), f"setup-{setup.name}")
            if verdict == "accept":
                accepted.append(setup)
            else:
                self.refused[setup.name] = (verdict, said)
        if not accepted:
            return
        proxy = ParityProxy(self.kind, self.binary, self.directory, self.bootstrap(accepted))
        self.proxy = proxy
        try:
            proxy.wait_ready(15)
        except AssertionError as error:
            self.failed = str(error)

    def run(self, cases):
        """Runs the cases one after the other."""
        for case in cases:
            if self.failed or case.setup in self.refused:
                continue
            if case.is_verdict:
                continue
            try:
                self.results[case.name] = self._run(case)
            except Exception as error:  # whatever it was, it is what this side shows
                self.results[case.name] = {"harness": f"{type(error).__name__}: {error}"}
            if self.proxy.process.poll() is not None:
                self.failed = f"it ended during {case.name}:\n{self.proxy.log()[-2000:]}"

    def _run(self, case):
        if "admin" in case.given:
            return self.tidy.value(self._admin(case.given))
        wanted = [name.replace("${setup}", case.setup)
                  for name in [*self.subject.stats, *case.given.get("stats", [])]]
        before = self._stats(wanted)
        self.origins.begin(case.given.get("origin"))
        time.sleep(GAP_S)
        began = time.time()
        fill = lambda text: re.sub(  # noqa: E731  (it is one expression)
            r"\$\{([^}]*)\}", lambda found: str(self.ports[found[1]]), text)
        kind = Http2Exchange if case.client == "h2" else Exchange
        exchange = kind(self.ports[f"listener {case.setup}"], case, fill)
        messages, end = exchange.run()
        if "spread" in case.given:
            return self._spread(case, began, exchange, before)
        time.sleep(case.given.get("wait", 0))
        result = self.tidy.value({"response": messages, "end": end, "origin": self.origins.end()})
        if case.given.get("unordered"):
            without_order(result, "response", "origin")
        if wanted:
            result["stats"] = self._stats_change(wanted, before)
        self.windows.append((case, began, str(exchange.client_port)))
        return result

    def _spread(self, case, began, exchange, before):
        """What share of the requests each origin got, in percent; how each went is not compared."""
        requests = case.given["spread"]
        names = [seen["cluster"] for seen in self.origins.end()]
        shares = {name: 100 * names.count(name) / requests for name in sorted(set(names))}
        self.windows.append((case, began, str(exchange.client_port)))
        return {"spread": shares, "stats": self._stats_change(list(before), before)}

    def _admin(self, given):
        method, path = given["admin"].split(" ", 1)
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['admin']}{path}",
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as page:
                status, headers, body = page.status, page.getheaders(), page.read().decode()
        except urllib.error.HTTPError as error:
            status, headers, body = error.code, list(error.headers.items()), error.read().decode()
        how = given.get("compare", "exact")
        result = {"status": status, "headers": headers}
        if how == "exact":
            result["body"] = body
        elif how == "json":
            result["body"] = json_shape(body)
        elif how == "values":
            # The order of members is chance in Envoy.
            result["body"] = json.loads(body)
        elif how == "names":
            result["body"] = dict.fromkeys(sorted({line.split(": ")[0] for line in
                                                   body.splitlines()}), "there")
        elif how != "status":
            raise ValueError(f"compare: {how}")
        return result

    def _stats(self, wanted):
        if not wanted:
            return {}
        found = self.proxy.stats()
        return {name: found.get(name, 0) for name in wanted}

    def _stats_change(self, wanted, before):
        """How stats changed, once they have come to rest and nothing is active any more."""
        last = None
        for _ in range(40):
            now = self._stats(wanted)
            active = any(now[name] > before[name] for name in wanted if name.endswith("_active"))
            if now == last and not active:
                break
            last = now
            time.sleep(0.03)
        return {name: now[name] - before[name] for name in wanted}

    def judge(self, cases):
        """The verdicts that cases ask for."""
        for number, case in enumerate(cases):
            try:
                self._judge(number, case)
            except Exception as error:  # whatever it was, it is what this side shows
                self.results[case.name] = {"harness": f"{type(error).__name__}: {error}"}

    def _judge(self, number, case):
        setup = self.subject.setups[case.setup]
        if "validate" in case.given:
            setup = type(setup)(setup.name, {**setup.given, **case.given["validate"]},
                                setup.clusters)
        config = to_yaml(self.bootstrap([setup])) + "\n"
        for old, new in case.given.get("edit", {}).items():
            old, new = self._filled(old), self._filled(new)
            if old not in config:
                self.results[case.name] = {"harness": f"nothing to edit: {old!r}"}
                break
            config = config.replace(old, new)
        else:
            verdict, said = self.verdict(config, f"verdict-{number}")
            self.results[case.name] = {"verdict": verdict, "said": self.tidy.text(said)}

    def _filled(self, text):
        return re.sub(r"\$\{([^}]*)\}", lambda found: str(self.ports[found[1]]), text)

    def collect_logs(self, wait_for=None):
        """Gives each case its access-log lines: those whose stream began while it ran. `wait_for`:
        how many lines the other side has."""
        end = time.monotonic() + LOG_WITHIN_S
        lines = self._log_lines()
        while wait_for is not None and len(lines) < wait_for and time.monotonic() < end:
            time.sleep(0.05)
            lines = self._log_lines()
        for index, (case, began, client_port) in enumerate(self.windows):
            until = self.windows[index + 1][1] if index + 1 < len(self.windows) else float("inf")
            mine = [text for at, name, text in lines
                    if began <= at < until and name == case.setup]
            result = self.results[case.name]
            if "spread" in result:
                continue
            result["log"] = [self._log_record(text, client_port) for text in mine]
            if case.given.get("unordered"):
                without_order(result, "log")
        return len(lines)

    def _log_record(self, text, client_port):
        text = text.replace(client_port, "<client>")
        if text.startswith("{"):
            return self.tidy.value(json.loads(text))
        if SEPARATOR not in text:
            return {"text": self.tidy.text(text)}
        fields = dict(part.split("=", 1) for part in text.split(SEPARATOR))
        return self.tidy.value(fields)

    def _log_lines(self):
        """All lines of all setups: [(when the stream began, setup, the rest)]."""
        found = []
        for path in self.logs.glob("*.log"):
            # Not splitlines: a field of a request may contain what Python takes for a line end.
            for line in path.read_bytes().decode("latin-1").split("\n"):
                at, separator, text = line.partition(SEPARATOR)
                if separator:
                    found.append((float(at), path.stem, text))
                elif line.startswith("{"):
                    fields = json.loads(line)
                    at = float(fields.pop("began"))
                    found.append((at, path.stem, json.dumps(fields)))
        return sorted(found, key=lambda line: line[0])

    def close(self):
        """Stops everything."""
        try:
            if self.proxy:
                self.proxy.stop()
        except AssertionError as error:
            self.failed = self.failed or str(error)
        self.origins.close()


def json_shape(text):
    """The shape of a page that should be JSON."""
    try:
        return shape(json.loads(text))
    except ValueError:
        return "not JSON"


def without_order(result, *keys):
    """Sorts what a case does not expect in an order."""
    for key in keys:
        for record in result[key]:
            record.pop("connection", None)
        result[key].sort(key=json.dumps)


def both(sides, step):
    """Runs a step on both sides at once."""
    threads = [threading.Thread(target=step, args=(side,)) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
