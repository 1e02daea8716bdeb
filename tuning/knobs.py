"""The knobs of a host that matter to Tidegate: one table, with what is wanted, why, and what was
measured of it; and the files for sysctl.d and tuned, which are written from it.

What it leaves to others: where a value lives on a machine (`places.py`), setting it and taking it
back (`tune`). A knob is here also when it is better left alone: people look for it, and find why.
"""
import textwrap
from typing import NamedTuple

UNMEASURED = "not measured"
UNMEASURABLE = "not measurable on the machine of bench-results"

# How a wanted value is met:
#   exact   by this text
#   least   by numbers that are each at least as large; larger ones stay
#   least0  the same, and 0 means no limit
#   span    by a range that begins no later and ends no earlier
#   mask    by this set of CPUs, however it is written


class Knob(NamedTuple):
    """One setting, or one family of settings (`each` names what there is one of)."""

    family: str
    wanted: str  # "" where there is nothing to want
    why: str
    effect: str = UNMEASURED
    rule: str = "exact"
    # Only set when it is asked for by name: the reason says what speaks against it.
    on_request: bool = False
    since: str = ""  # the kernel that has it
    group: str = "sysctl"
    # Part of the files for sysctl.d and tuned: a sysctl that is the same on every machine.
    in_files: bool = True


BACKENDS = (
    "CPU per request beside HAProxy's: 0.66 on io_uring, 0.75 on epoll (keep-alive, 100 bytes); "
    "bench-results/2026-11-21-eba97e7")

SYSCTLS = (
    Knob("net.core.somaxconn", "4096",
         "Upper bound of every listener's backlog. A burst of new connections beyond it is dropped "
         "and tried again by the clients a second later. The kernel's own default; kernels before "
         "5.4 have 128.", rule="least"),
    Knob("net.core.netdev_max_backlog", "4096",
         "Packets that wait for a CPU which another one has handed them to: by RPS, and from "
         "containers. Those beyond it are dropped; the second column of /proc/net/softnet_stat "
         "counts them.", rule="least"),
    Knob("net.ipv4.tcp_max_syn_backlog", "8192",
         "Half-open connections per listener before SYN cookies take over.", rule="least"),
    Knob("net.ipv4.ip_local_port_range", "16384 65535",
         "Ports for connections to origins: one origin address can be reached from at most this "
         "many at once. The default holds 28,232. Listeners should stay below the range, or be "
         "listed in ip_local_reserved_ports.", rule="span"),
    Knob("net.ipv4.tcp_tw_reuse", "1",
         "A new connection to an origin may take a port that is still in TIME_WAIT (with "
         "timestamps, RFC 6191). The kernel's default, 2, does so on loopback only.",
         UNMEASURABLE),
    Knob("net.ipv4.tcp_slow_start_after_idle", "0",
         "Keep the congestion window of a kept connection over its idle time: keep-alive "
         "connections are idle often, and begin anew with ten segments otherwise. RFC 2861's "
         "concern is a path that changed meanwhile.", UNMEASURABLE),
    Knob("net.ipv4.tcp_migrate_req", "1",
         "When one of several SO_REUSEPORT listeners closes, hand the connections that it had not "
         "accepted yet to another one of the group, so that they are not reset.", since="5.14"),
    Knob("fs.nr_open", "1048576",
         "Upper bound of every limit of open descriptors, LimitNOFILE= included. Tidegate needs "
         "two for each proxied connection. systemd has raised it further; the files would lower "
         "it.",
         rule="least", in_files=False),
    Knob("fs.file-max", "2097152",
         "Open files of the whole host. systemd has taken the limit away; the files would set one.",
         rule="least", in_files=False),
    Knob("fs.pipe-user-pages-soft", "262144",
         "Pages in pipes of all processes of one user. Bodies of 64 KiB and more are spliced "
         "through pipes of 16 pages, up to 128 of them per shard; the default of 16384 is enough "
         "for 8 shards, and beyond it pipes have two pages. Root has no such limit.",
         rule="least0"),
    Knob("kernel.io_uring_disabled", "0",
         "Who may use io_uring: 0 everybody, 1 root and the group kernel.io_uring_group, 2 nobody. "
         "With 1 or 2 Tidegate falls back to epoll and says so. On request only: it is the host's "
         "security policy.", BACKENDS, on_request=True, since="6.6"),
    Knob("kernel.io_uring_group", "",
         "With kernel.io_uring_disabled at 1: the number of the group that may use io_uring all "
         "the same. Tighter than 0: give Tidegate's user this group and set it with "
         "`--set kernel.io_uring_group=NUMBER`.", BACKENDS, since="6.6"),
    Knob("net.ipv4.tcp_rmem", "4096 131072 16777216",
         "The third number bounds the window of one connection: 6 MiB (the default) carry "
         "500 Mbit/s over 100 ms at most. On request only: for long fast paths; every connection "
         "may take so much memory.", UNMEASURABLE, rule="least", on_request=True),
    Knob("net.ipv4.tcp_wmem", "4096 16384 16777216",
         "The third number bounds what waits in the kernel for one client: 4 MiB (the default) "
         "carry 330 Mbit/s over 100 ms at most. On request only: slow clients make it all memory.",
         UNMEASURABLE, rule="least", on_request=True),
    Knob("net.ipv4.tcp_notsent_lowat", "131072",
         "Unsent bytes in a socket above which it is not writable. Smaller means that HTTP/2 "
         "streams of higher priority overtake earlier ones sooner, and less memory; larger means "
         "fewer wake-ups. On request only: it holds for every program of the host.",
         on_request=True),
    Knob("net.ipv4.tcp_fastopen", "",
         "Left alone: Tidegate's listeners do not ask for fast open, so it changes nothing."),
    Knob("net.core.busy_poll", "",
         "Left alone: it makes poll and epoll spin for packets, which costs a core and does "
         "nothing on io_uring.", UNMEASURABLE),
    Knob("net.core.busy_read", "",
         "Left alone, as net.core.busy_poll: it makes blocking reads spin, and there are none.",
         UNMEASURABLE),
    Knob("kernel.numa_balancing", "0",
         "Shards are pinned and touch their memory first; the kernel's search for better places "
         "only costs page faults. On request only: other programs of a host with several nodes "
         "may need it.", UNMEASURABLE, on_request=True),
    Knob("kernel.sched_autogroup_enabled", "",
         "Left alone: it groups the processes of a terminal and does not touch services. How long "
         "others may run before a shard gets its CPU, shards ask for by themselves (kernel 6.12).",
         "time from a wake-up to running, with and without: "
         "bench-results/2026-11-22-cb3fa53/tails-and-log.txt"),
)

# What there is one of for each CPU, device, queue or interrupt. The machine fills in what stands in
# braces.
HARDWARE = (
    Knob("thp", "madvise",
         "Huge pages only for who asks. With `always` the first byte of a receive buffer makes "
         "2 MiB present, of 64 KiB that are needed: idle connections and floods cost memory, and "
         "zeroing it costs time.", group="memory"),
    Knob("governor", "performance",
         "A CPU that has lowered its clock needs a while to raise it, and a proxy's work comes in "
         "pieces of microseconds.", UNMEASURABLE, group="cpu"),
    Knob("ethtool.channels", "{channels}",
         "One queue of the device for each CPU with a shard, so that packets are received where "
         "they are proxied. On request only: most drivers take the link down for a moment.",
         UNMEASURABLE, rule="least", on_request=True, group="ethtool"),
    Knob("ethtool.rx-ring", "{rx_ring}",
         "Packets that the device can hold while its CPU is busy. On request only: most drivers "
         "take the link down for a moment.", UNMEASURABLE, rule="least", on_request=True,
         group="ethtool"),
    Knob("ethtool.tx-ring", "{tx_ring}",
         "The same for sending.", UNMEASURABLE, rule="least", on_request=True, group="ethtool"),
    Knob("ethtool.adaptive-rx", "0",
         "Adaptive coalescing guesses from the rate of packets how long an interrupt may wait; "
         "with a fixed time latency is steady. On request only: it may cost interrupts.",
         UNMEASURABLE, on_request=True, group="ethtool"),
    Knob("ethtool.rx-usecs", "10",
         "How long received packets may wait for an interrupt, in microseconds. On request only, "
         "with ethtool.adaptive-rx: fewer means lower latency and more interrupts.",
         UNMEASURABLE, on_request=True, group="ethtool"),
    Knob("ethtool.gro", "1",
         "Segments that follow each other go through the stack as one. Large bodies need it.",
         UNMEASURABLE, group="ethtool"),
    Knob("ethtool.tso", "1",
         "The device cuts large sends into segments.", UNMEASURABLE, group="ethtool"),
    Knob("ethtool.gso", "1",
         "What the device cannot cut is cut as late as possible.", UNMEASURABLE,
         group="ethtool"),
    Knob("irq", "{cpu}",
         "The interrupt of queue N on the CPU of shard N: where packets are received is where "
         "they are proxied. A running irqbalance moves it again: stop it, or tell it with "
         "`--banirq`.", UNMEASURABLE, group="irq"),
    Knob("rps", "{mask}",
         "A device with fewer queues than CPUs wakes as many CPUs as it has queues. With RPS they "
         "hand packets to all CPUs with shards, by the hash of the connection.", UNMEASURABLE,
         rule="mask", group="steering"),
    Knob("net.core.rps_sock_flow_entries", "32768",
         "RFS: with RPS, packets go to the CPU on which the connection was last read from, which "
         "is its shard's. This is the size of the table of connections.", UNMEASURABLE,
         rule="least", group="steering", in_files=False),
    Knob("rfs", "{flows}",
         "The part of that table which belongs to the queue.", UNMEASURABLE, rule="least",
         group="steering"),
    Knob("xps", "{mask}",
         "A shard sends through the queue of its CPU: no lock that two CPUs want, and its "
         "completions come back to it.", UNMEASURABLE, rule="mask", group="steering"),
    Knob("limits.nofile", "* - nofile 1048576",
         "Descriptors of whoever logs in; two for each proxied connection. On request only: "
         "tidegate.service has LimitNOFILE=, this is for starting by hand.", on_request=True,
         group="limits"),
    Knob("limits.memlock", "* - memlock 65536",
         "KiB of locked memory of whoever logs in: rings and registered buffers count. With 64 "
         "KiB, the least, queues are small. On request only: tidegate.service has LimitMEMLOCK=.",
         on_request=True, group="limits"),
)
KNOBS = SYSCTLS + HARDWARE


def met(rule, have, wanted):
    """The value to set where `have` is found: `have` itself when it will do."""
    if rule == "mask":
        same = int(have.replace(",", ""), 16) == int(wanted.replace(",", ""), 16)
        return have if same else wanted
    if rule == "exact" or rule == "least0" and have == "0":
        return have if have == wanted or rule == "least0" else wanted
    numbers = [int(word) for word in have.split()]
    wishes = [int(word) for word in wanted.split()]
    if rule == "span":
        best = [min(numbers[0], wishes[0]), max(numbers[1], wishes[1])]
    else:
        best = [max(pair) for pair in zip(numbers, wishes)]
    return have if best == numbers else " ".join(map(str, best))


def sysctl_file():
    """sysctl.d/60-tidegate.conf."""
    lines = [
        "# Kernel settings for a host whose main work is proxying; none is needed for Tidegate to",
        "# run. Written by `tuning/tune --print sysctl.d`; change the table there.",
        "#",
        "# Copy to /etc/sysctl.d. Unlike the script this file also lowers what is larger already.",
        "# No effect is claimed that was not measured: see `tuning/tune --explain`.",
    ]
    for knob in SYSCTLS:
        if knob.in_files and knob.wanted:
            lines += ["", *textwrap.wrap(knob.why, 96, initial_indent="# ",
                                         subsequent_indent="# ")]
            lines.append(("# " if knob.on_request else "") + f"{knob.family} = {knob.wanted}")
    return "\n".join(lines) + "\n"


def tuned_profile():
    """tuned/tidegate/tuned.conf."""
    lines = [
        "# A profile for tuned. Written by `tuning/tune --print tuned`; change the table there.",
        "# Copy the folder to /etc/tuned/tidegate, then: tuned-adm profile tidegate",
        "[main]", "summary=Proxying with Tidegate", "include=throughput-performance", "",
        "[cpu]", "governor=performance", "", "[vm]", "transparent_hugepages=madvise", "",
        "[sysctl]", "# =>N keeps what is larger."]
    for knob in SYSCTLS:
        if knob.in_files and knob.wanted and not knob.on_request:
            single = knob.rule == "least" and " " not in knob.wanted
            value = f"=>{knob.wanted}" if single else f"={knob.wanted}"
            lines.append(knob.family + value)
    return "\n".join(lines) + "\n"
