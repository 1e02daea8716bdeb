"""A management server: it gives what it has to whoever subscribes, and remembers what it was told.

It speaks ADS and streams of one kind, state of the world and delta, as plain Python on grpcio.
What it leaves to others: what resources hold (`config.py` makes them as values).
"""
import queue
import threading
import time
from concurrent import futures

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2, json_format
# What resources hold must be known by name before it can be packed.
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2, scoped_route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2  # noqa: F401
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2  # noqa: F401
from envoy.service.runtime.v3 import rtds_pb2

TYPES = {
    "cds": cluster_pb2.Cluster,
    "eds": endpoint_pb2.ClusterLoadAssignment,
    "lds": listener_pb2.Listener,
    "rds": route_pb2.RouteConfiguration,
    "srds": scoped_route_pb2.ScopedRouteConfiguration,
    "vhds": route_components_pb2.VirtualHost,
    "sds": secret_pb2.Secret,
    "rtds": rtds_pb2.Runtime,
}
URLS = {kind: "type.googleapis.com/" + message.DESCRIPTOR.full_name
        for kind, message in TYPES.items()}
KINDS = {url: kind for kind, url in URLS.items()}
WILDCARDS = ("cds", "lds", "srds", "vhds")


def packed(kind, value):
    """A resource from a value, as it travels."""
    message = json_format.ParseDict(value, TYPES[kind]())
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped


def name_of(kind, value):
    """By which it is asked for."""
    return value["cluster_name" if kind == "eds" else "name"]


class XdsServer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Serves `resources`, kind by name by value. `nacks` has what was refused."""

    def __init__(self, port=0, identifier="", credentials=None):
        self.identifier = identifier
        self.metadata = []
        self.lock = threading.Lock()
        self.resources = {kind: {} for kind in TYPES}
        self.version = {kind: 0 for kind in TYPES}
        self.acks, self.nacks, self.requests = [], [], []
        self.streams = []
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self.server)
        self.server.add_generic_rpc_handlers([OneKind(self)])
        place = f"127.0.0.1:{port}"
        self.port = self.server.add_secure_port(place, credentials) if credentials \
            else self.server.add_insecure_port(place)
        self.server.start()

    def close(self):
        """Ends it, and every stream."""
        self.end_streams()
        self.server.stop(0).wait()

    def end_streams(self):
        """Ends every stream; new ones are welcome."""
        for stream in list(self.streams):
            stream.changes.put(None)

    def set(self, kind, *values):
        """From now on these are all that there is of a kind."""
        with self.lock:
            self.resources[kind] = {name_of(kind, value): value for value in values}
            self.version[kind] += 1
        for stream in list(self.streams):
            stream.changes.put(kind)

    def wait_ack(self, kind, seconds=5.0):
        """Waits until the newest version of a kind was accepted."""
        self._wait(lambda: (kind, self.version[kind]) in self.acks, seconds,
                   lambda: f"{kind} {self.version[kind]}: {self.acks} {self.nacks}")

    def wait_nack(self, kind, seconds=5.0):
        """Waits until the newest version of a kind was refused, and answers why."""
        def found():
            return [text for of, version, text in self.nacks
                    if (of, version) == (kind, self.version[kind])]
        self._wait(found, seconds, lambda: f"no NACK of {kind}: {self.acks} {self.nacks}")
        return found()[0]

    @staticmethod
    def _wait(condition, seconds, text):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, text()
            time.sleep(0.01)

    def StreamAggregatedResources(self, request_iterator, context):
        """State of the world."""
        yield from StateOfTheWorld(self, context).run(request_iterator)

    def DeltaAggregatedResources(self, request_iterator, context):
        """Delta."""
        yield from Delta(self, context).run(request_iterator)


class OneKind(grpc.GenericRpcHandler):
    """Streams of one kind: `StreamClusters`, `DeltaClusters` and the like, whatever the service."""

    def __init__(self, server):
        self.server = server

    def service(self, handler_call_details):
        """Which of the two ways a method speaks."""
        method = handler_call_details.method.rsplit("/", 1)[1]
        if method.startswith("Delta"):
            return grpc.stream_stream_rpc_method_handler(
                self.server.DeltaAggregatedResources,
                discovery_pb2.DeltaDiscoveryRequest.FromString,
                discovery_pb2.DeltaDiscoveryResponse.SerializeToString)
        if method.startswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(
                self.server.StreamAggregatedResources,
                discovery_pb2.DiscoveryRequest.FromString,
                discovery_pb2.DiscoveryResponse.SerializeToString)
        return None


class Stream:
    """One stream: what was asked for, by kind, and what was sent."""

    def __init__(self, server, context):
        self.server, self.context = server, context
        self.changes = queue.Queue()
        self.wanted = {}
        self.nonces = {}
        self.count = 0

    def run(self, requests):
        """Answers until either side has had enough."""
        self.server.streams.append(self)
        self.server.metadata.append(list(self.context.invocation_metadata()))
        threading.Thread(target=self._read, args=[requests], daemon=True).start()
        try:
            while (kind := self.changes.get()) is not None:
                if kind in self.wanted and (response := self.response(kind)):
                    yield response
        finally:
            self.server.streams.remove(self)

    def _read(self, requests):
        try:
            for request in requests:
                self.server.requests.append(request)
                kind = KINDS.get(request.type_url)
                if kind is None:
                    continue
                version = self.nonces.get(request.response_nonce)
                if version is not None:
                    if request.HasField("error_detail"):
                        text = request.error_detail.message
                        self.server.nacks.append((kind, version, text))
                    else:
                        self.server.acks.append((kind, version))
                if self.subscribe(kind, request):
                    self.changes.put(kind)
        except Exception:  # the stream has ended, in whatever way
            pass
        self.changes.put(None)

    def identity(self):
        """What the server calls itself."""
        return base_pb2.ControlPlane(identifier=self.server.identifier)

    def nonce(self, kind):
        """A new one, for the newest version of a kind."""
        self.count += 1
        nonce = f"{kind}-{self.count}"
        self.nonces[nonce] = self.server.version[kind]
        return nonce


class StateOfTheWorld(Stream):
    """All that was asked for, in each response."""

    def subscribe(self, kind, request):
        """Whether something new is wanted."""
        names = None if kind in WILDCARDS else frozenset(request.resource_names)
        new = kind not in self.wanted or self.wanted[kind] != names
        self.wanted[kind] = names
        return new and names != frozenset()

    def response(self, kind):
        """The newest of a kind."""
        with self.server.lock:
            names, have = self.wanted[kind], self.server.resources[kind]
            found = [packed(kind, value) for name, value in have.items()
                     if names is None or name in names]
            if names is not None and not found:
                return None
            return discovery_pb2.DiscoveryResponse(
                version_info=str(self.server.version[kind]), type_url=URLS[kind],
                nonce=self.nonce(kind), resources=found, control_plane=self.identity())


class Delta(Stream):
    """What has changed."""

    def __init__(self, server, context):
        super().__init__(server, context)
        self.sent = {kind: {} for kind in TYPES}

    def subscribe(self, kind, request):
        """Whether something new is wanted."""
        first = kind not in self.wanted
        wanted = self.wanted.setdefault(kind, set())
        if first:
            known = request.initial_resource_versions
            self.sent[kind] = {name: self.server.resources[kind].get(name) for name in known}
        for name in request.resource_names_subscribe:
            self.sent[kind].pop(name, None)
        wanted.update(request.resource_names_subscribe)
        wanted.difference_update(request.resource_names_unsubscribe)
        return first or bool(request.resource_names_subscribe)

    def response(self, kind):
        """What is new since the last one."""
        with self.server.lock:
            wanted, sent = self.wanted[kind], self.sent[kind]
            have = {name: value for name, value in self.server.resources[kind].items()
                    if kind in WILDCARDS or name in wanted}
            changed = {name: value for name, value in have.items() if sent.get(name) != value}
            removed = [name for name in sent if name not in have]
            if not changed and not removed:
                # What there is was accepted.
                self.server.acks.append((kind, self.server.version[kind]))
                return None
            self.sent[kind] = have
            version = str(self.server.version[kind])
            resources = [discovery_pb2.Resource(name=name, version=version,
                                                resource=packed(kind, value))
                         for name, value in changed.items()]
            return discovery_pb2.DeltaDiscoveryResponse(
                system_version_info=version, type_url=URLS[kind], nonce=self.nonce(kind),
                resources=resources, removed_resources=removed,
                control_plane=self.identity())
