"""The results as Markdown."""

import platform
from pathlib import Path
from statistics import median, quantiles

from compare import AGAIN, COUNTS, EIGHT, IDS, PERIODS, SPANS, Times
from load import Load
from plot import milliseconds


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def spread(times: list[float]) -> str:
    return f"{milliseconds(median(times))} ({milliseconds(min(times))}–{milliseconds(max(times))})"


def machine() -> list[str]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = models[0].split(":", 1)[1].strip() if models else platform.machine()
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    loads = Path("/proc/loadavg").read_text().split()[0]
    return [
        f"{len(models)} × {model}, {int(memory.split()[1]) >> 20} GiB of memory",
        f"{system}, Linux {platform.release()}",
        f"load average when it began: {loads}",
    ]


def compared(times: Times, peers: list[str]) -> str:
    """A table that compares each row with Rollcall's row for the same work."""
    rows = []
    groups = [(IDS, [f"{name}, {IDS}" for name in ["Rollcall", *peers]])]
    groups.append(
        (COUNTS, [f"Rollcall, {what}" for what in [COUNTS, EIGHT, AGAIN]] + [f"{name}, {COUNTS}" for name in peers])
    )
    for what, labels in groups:
        for label in labels:
            ratios = []
            for period in PERIODS:
                ratio = median(times.of[label, period]) / median(times.of[f"Rollcall, {what}", period])
                ratios.append(f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}")
            rows.append([label, *(spread(times.of[label, period]) for period in PERIODS), " / ".join(ratios)])
    return table(["ms, median (fastest–slowest)", *PERIODS, "× Rollcall"], rows)


def grown(times: Times, visits: dict[tuple[str, str], int]) -> str:
    labels = dict.fromkeys(label for label, _ in times.of)
    rows = [
        [label, *(f"{milliseconds(median(times.of[label, span]))} for {visits[label, span]:,}" for span in SPANS)]
        for label in labels
    ]
    return table(["ms for visits in range", *SPANS], rows)


def steady(times: Times) -> str:
    first = next(iter(times.of.values()))
    rows = [
        [label, spread(taken), f"{milliseconds(quantiles(taken, n=20)[-1])}", f"{median(taken) / median(first):.1f}"]
        for (label, _), taken in times.of.items()
    ]
    return table(["", "ms, median (fastest–slowest)", "95 % within", "× the first row"], rows)


def loaded(loads: list[Load]) -> str:
    rows = [
        [
            load.question,
            load.database,
            str(load.connections),
            f"{load.p50:.2f} / {load.p99:.2f}" if load.a_second else "no answer in time",
            f"{load.a_second:,.0f}",
            f"{load.writes:.1f}",
            load.failures,
        ]
        for load in loads
    ]
    head = ["question", "database", "connections", "p50 / p99 ms", "requests a second", "changes a second", "failures"]
    return table(head, rows)
