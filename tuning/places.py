"""Where the values of knobs live on a machine: files of the kernel, files of our own, drivers of
network devices; and which of them this machine has.

What it leaves to others: what is wanted (`knobs.py`), setting and taking back (`tune`).
"""
import ctypes
import fcntl
import os
import re
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from knobs import KNOBS, SYSCTLS, Knob


class FilePlace:
    """A file of the kernel with one value."""

    def __init__(self, root, path):
        self.path = Path(str(root) + path)
        self.key = path

    def read(self):
        """Its value, with single blanks; of several words with one in brackets, that one."""
        text = " ".join(self.path.read_text().split())
        chosen = re.search(r"\[(.*?)\]", text)
        return chosen.group(1) if chosen else text

    def write(self, value):
        """Sets it. One write, as the kernel wants it."""
        file = os.open(self.path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(file, value.encode() + b"\n")
        finally:
            os.close(file)

    def read_only(self):
        """Whether not even root may write it."""
        return os.geteuid() == 0 and not os.access(self.path, os.W_OK)


class OwnPlace(FilePlace):
    """A file of our own with one line; it may be absent."""

    ABSENT = "absent"

    def read(self):
        return super().read() if self.path.exists() else self.ABSENT

    def write(self, value):
        if value == self.ABSENT:
            self.path.unlink(missing_ok=True)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(value + "\n")

    def read_only(self):
        return False


class DevicePlace:
    """A setting of a network device's driver, as ethtool(8) has it."""

    # name: request to get, to set, numbers in the structure, where the value is, where its maximum
    FIELDS = {
        "channels": (0x3C, 0x3D, 9, 8, 4),
        "rx-ring": (0x10, 0x11, 9, 5, 1),
        "tx-ring": (0x10, 0x11, 9, 8, 4),
        "adaptive-rx": (0x0E, 0x0F, 23, 10, None),
        "rx-usecs": (0x0E, 0x0F, 23, 1, None),
        "gro": (0x2B, 0x2C, 2, 1, None),
        "tso": (0x1E, 0x1F, 2, 1, None),
        "gso": (0x23, 0x24, 2, 1, None),
    }
    SIOCETHTOOL = 0x8946

    def __init__(self, device, field):
        self.device, self.field = device, field
        self.key = f"ethtool:{device}:{field}"

    def _request(self, numbers):
        data = (ctypes.c_uint32 * len(numbers))(*numbers)
        request = struct.pack("16sP16x", self.device.encode(), ctypes.addressof(data))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, self.SIOCETHTOOL, request)
        return list(data)

    def _all(self):
        get, _, size, *_ = self.FIELDS[self.field]
        return self._request([get] + [0] * (size - 1))

    def read(self):
        """The value in force."""
        return str(self._all()[self.FIELDS[self.field][3]])

    def maximum(self):
        """The largest that the device has."""
        return self._all()[self.FIELDS[self.field][4]]

    def write(self, value):
        """Sets it, and leaves its neighbours in the structure as they are."""
        numbers = self._all()
        _, numbers[0], _, index, _ = self.FIELDS[self.field]
        numbers[index] = int(value)
        self._request(numbers)

    def read_only(self):
        """Drivers say so only when they are asked."""
        return False


# What drivers call the interrupt of a queue: virtio2-input.0, eth0-TxRx-3, mlx5_comp3@pci:...
QUEUE = re.compile(r"(?:comp|tx|rx|input|output|blk)[-_.]?(\d+)$", re.IGNORECASE)


class Setting(NamedTuple):
    """One knob on this machine."""

    name: str
    knob: Knob
    place: object
    wanted: str


def numbered(names):
    """Sorted by the number at the end."""
    return sorted(names, key=lambda name: int(re.search(r"(\d+)$", str(name)).group(1)))


def cpu_list(text):
    """`0-2,5` as numbers."""
    cpus = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def cpu_mask(cpus):
    """A set of CPUs as the kernel reads it: words of 32 bits, the highest first."""
    bits = sum(1 << cpu for cpu in cpus)
    words = []
    while bits or not words:
        words.insert(0, bits & 0xFFFFFFFF)
        bits >>= 32
    return ",".join([f"{words[0]:x}"] + [f"{word:08x}" for word in words[1:]])


class Host:
    """The machine, or a tree of files that looks like one."""

    def __init__(self, root="", devices=(), cpus=""):
        self.root = root.rstrip("/")
        self.cpus = cpu_list(cpus or self._text("/sys/devices/system/cpu/online") or "0")
        net = self._path("/sys/class/net")
        self.devices = list(devices) or sorted(
            path.name for path in net.glob("*") if (path / "device").exists())

    def _path(self, path):
        return Path(self.root + path)

    def _text(self, path):
        try:
            return self._path(path).read_text().strip()
        except OSError:
            return ""

    def place(self, key):
        """The place with this key."""
        if not key.startswith("ethtool:"):
            kind = OwnPlace if key.startswith("/etc/") else FilePlace
            return kind(self.root, key)
        _, device, field = key.split(":")
        if self.root:
            return FilePlace(self.root, f"/ethtool/{device}/{field}")
        return DevicePlace(device, field)

    def settings(self):
        """Every knob that this machine has."""
        found = []
        by_family = {knob.family: knob for knob in KNOBS}

        def add(family, instance, key, **facts):
            knob = by_family[family]
            name = f"{family}.{instance}" if instance else family
            wanted = knob.wanted.format(**facts)
            found.append(Setting(name, knob, self.place(key), wanted))

        for knob in SYSCTLS:
            add(knob.family, "", "/proc/sys/" + knob.family.replace(".", "/"))
        add("thp", "", "/sys/kernel/mm/transparent_hugepage/enabled")
        for cpu in self.cpus:
            key = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            if self._path(key).exists():
                add("governor", f"cpu{cpu}", key)
        for kind in ("nofile", "memlock"):
            key = f"/etc/security/limits.d/60-tidegate-{kind}.conf"
            add(f"limits.{kind}", "", key)
        few = False
        for device in self.devices:
            few |= self._device(device, add)
        if few:
            family = "net.core.rps_sock_flow_entries"
            add(family, "", "/proc/sys/" + family.replace(".", "/"))
        return found

    def _device(self, device, add):
        """Adds the knobs of a device; answers whether it has fewer queues than there are CPUs."""
        cpus = self.cpus
        limits = {"channels": len(cpus), "rx-ring": 1024, "tx-ring": 1024}
        for field in DevicePlace.FIELDS:
            facts = {field.replace("-", "_"): min(wish, self._maximum(device, field) or wish)
                     for wish in [limits.get(field, 0)]}
            add(f"ethtool.{field}", device, f"ethtool:{device}:{field}", **facts)
        for queue, number in self._interrupts(device):
            cpu = cpus[queue % len(cpus)]
            add("irq", f"{device}.{number}", f"/proc/irq/{number}/smp_affinity_list", cpu=cpu)
        base = f"/sys/class/net/{device}/queues/"
        rx = numbered(path.name for path in self._path(base).glob("rx-*"))
        tx = numbered(path.name for path in self._path(base).glob("tx-*"))
        few = 0 < len(rx) < len(cpus)
        for queue in rx if few else []:
            add("rps", f"{device}.{queue}", f"{base}{queue}/rps_cpus", mask=cpu_mask(cpus))
            add("rfs", f"{device}.{queue}", f"{base}{queue}/rps_flow_cnt", flows=32768 // len(rx))
        for index, queue in enumerate(tx if len(tx) > 1 else []):
            own = cpus[index::len(tx)] or [cpus[index % len(cpus)]]
            add("xps", f"{device}.{queue}", f"{base}{queue}/xps_cpus", mask=cpu_mask(own))
        return few

    def _maximum(self, device, field):
        try:
            if self.root:
                return int(self._text(f"/ethtool/{device}/{field}.max") or 0)
            place = DevicePlace(device, field)
            return place.maximum() if place.FIELDS[field][4] else 0
        except OSError:
            return 0

    def _interrupts(self, device):
        """Interrupts of a device's queues: (number of the queue, number of the interrupt)."""
        for base in ("device/msi_irqs", "device/../msi_irqs"):
            for path in numbered(self._path(f"/sys/class/net/{device}/{base}").glob("*")):
                for action in self._path(f"/proc/irq/{path.name}").glob("*/"):
                    queue = QUEUE.search(action.name.partition("@")[0])
                    if queue:
                        yield int(queue.group(1)), path.name
