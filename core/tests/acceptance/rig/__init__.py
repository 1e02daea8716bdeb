"""What the acceptance tests stand on: the proxy as a process, scripted origins, a raw client.

What it leaves to others: what must hold (`test_*.py`) and the order of running (`run.py`).
Only the Python standard library is used, so that the rig itself needs no installation; but
`http2.py`, which those import that need it, has HPACK from the package `hpack`.
"""
from .config import access_log, bootstrap, cluster, http2_fields, listener, route, to_yaml
from .fixture import Rig, alone, limit, once, only, soak
from .http1 import Closed, Reader, Response
from .client import Client, get
from .load import Load
from .origin import HttpOrigin, Nginx, RawOrigin
from .proxy import Proxy

__all__ = [
    "Client", "Closed", "HttpOrigin", "Load", "Nginx", "Proxy", "RawOrigin", "Reader", "Response",
    "Rig", "access_log", "alone", "bootstrap", "cluster", "get", "http2_fields", "limit",
    "listener", "once", "only", "route", "soak", "to_yaml",
]
