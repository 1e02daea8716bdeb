"""Chromium without a window, driven by its DevTools protocol.

What it leaves to others: what a page should look like (`test_start_page.py`).
"""
import base64
import json
import os
import shutil
import signal
import subprocess
import time

from websockets.sync.client import connect


def chromium():
    """Its path, or nothing where it is not installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One page of one browser. `complaints` has what its console said, worst things only."""

    def __init__(self, directory):
        profile = directory / "profile"
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--disable-dev-shm-usage", "--disable-background-networking",
                   "--hide-scrollbars", "--remote-debugging-port=0",
                   f"--user-data-dir={profile}", "about:blank"]
        environment = {**os.environ, "HOME": str(directory)}
        # A group of its own: it starts processes, and they end together.
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            start_new_session=True)
        self.complaints = []
        self._number = 0
        self._socket = connect(self._page(profile / "DevToolsActivePort"), max_size=None)
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _page(self, port_file):
        deadline = time.monotonic() + 30
        while not (port_file.exists() and "\n" in port_file.read_text()):
            assert self.process.poll() is None, "the browser has ended"
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.05)
        port, path = port_file.read_text().split()[:2]
        with connect(f"ws://127.0.0.1:{port}{path}") as whole:
            whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(whole.recv(10))["result"]["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        return f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}"

    def call(self, method, **parameters):
        """Asks for something and waits for the answer."""
        self._number += 1
        self._socket.send(json.dumps(
            {"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message):
        given = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(given["exceptionDetails"].get("text", "exception"))
        elif message.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.complaints.append(given["entry"]["text"])
        elif message.get("method") == "Runtime.consoleAPICalled" and given["type"] == "error":
            self.complaints.append(str(given["args"]))

    def prefer(self, scheme):
        """`dark` or `light`, from now on."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def show(self, url, width, height):
        """Loads a page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Page.navigate", url=url)

    def value(self, expression):
        """What an expression of JavaScript is worth."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression, seconds=20):
        """Waits until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < deadline, f"not within {seconds} s: {expression}"
            time.sleep(0.1)

    def picture(self, path):
        """Writes the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        """Ends the browser with all that it has started."""
        self._socket.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
