"""The admin's start page in a real browser: on a telephone and on a screen, light and dark.

`TIDEGATE_PICTURES=folder` keeps what it looks like. What it leaves to others: the numbers
(`core/tests/admin_pages.rs`).
"""
import os
import threading
from pathlib import Path

from rig import bootstrap, cluster, get, limit, listener, once, only, route
from rig.browser import Browser, chromium

LONG = "outbound|50001|v1|a-service-with-a-rather-long-name.and-its-namespace.svc.cluster.local"

# What is wider than the place it has, though it is not meant to be cut.
OVERFLOWING = """[...document.querySelectorAll('main *, header *')].filter(it =>
  it.getBoundingClientRect().right > document.documentElement.clientWidth + 1 ||
  (it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).overflow === 'visible' &&
   getComputedStyle(it).display !== 'inline')
).map(it => it.tagName + '.' + it.className + ' ' + it.textContent.slice(0, 40))"""

# The worst contrast of a text with what is behind it, as WCAG reckons it.
CONTRAST = """(() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = c => c.slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = it => {
    for (; it; it = it.parentElement) {
      const c = rgb(getComputedStyle(it).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  for (const it of document.querySelectorAll('body *')) {
    const own = [...it.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || ['SCRIPT', 'STYLE'].includes(it.tagName)) continue;
    const style = getComputedStyle(it), svg = it instanceof SVGElement;
    const [a, b] = [rgb(svg ? style.fill : style.color), behind(it)].map(light);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < worst[0]) worst = [ratio, it.tagName + ' ' + it.textContent.slice(0, 30)];
  }
  return worst;
})()"""

DRAWN = """[...document.querySelectorAll('#rate path, #time path')]
  .filter(it => (it.getAttribute('d').match(/L/g) || []).length >= 1).length"""


@once
@only("tidegate")
@limit(120)
def test_start_page(rig):
    """Nothing scrolls sideways, the charts draw lines, the console has no complaint, and every
    text can be read."""
    if not chromium():
        with rig.case("SKIPPED: no chromium here (scripts/test installs it; 150 MB of packages)"):
            return
    origin = rig.origin()
    port, admin = rig.port(), rig.port()
    clusters = [cluster(origin.port), cluster(rig.port(), LONG),
                cluster(rig.port(), "c", load_assignment={"cluster_name": "c"})]
    routes = [route("/gone/", LONG), route("/", "origin")]
    rig.proxy(bootstrap([listener(port, routes)], clusters, admin))
    over = threading.Event()
    load = threading.Thread(target=keep_asking, args=(port, over))
    load.start()
    browser = Browser(rig.tmp)
    rig.stack.callback(browser.close)
    try:
        for width, height in ((390, 844), (1280, 900)):
            browser.show(f"http://127.0.0.1:{admin}/", width, height)
            for scheme in ("light", "dark"):
                with rig.case(f"{width} px, {scheme}"):
                    look(browser, width, scheme)
    finally:
        over.set()
        load.join()


def keep_asking(port, over):
    """Requests with answers of several classes."""
    while not over.wait(0.02):
        get(port, "/")
        get(port, "/gone/x")


def look(browser, width, scheme):
    """One way of looking at the page."""
    browser.prefer(scheme)
    browser.wait_for(f"{DRAWN} >= 3")
    folder = os.environ.get("TIDEGATE_PICTURES")
    if folder:
        browser.picture(Path(folder) / f"{width}-{scheme}.png")
    assert browser.value("document.querySelector('#state').textContent") == "LIVE"
    wide = browser.value("document.documentElement.scrollWidth")
    assert wide <= width, f"{wide} px wide: {browser.value(OVERFLOWING)}"
    assert browser.value(OVERFLOWING) == []
    ratio, where = browser.value(CONTRAST)
    assert ratio >= 4.5, f"contrast {ratio:.2f} of {where}"
    assert browser.complaints == [], browser.complaints
