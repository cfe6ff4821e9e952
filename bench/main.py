"""The whole benchmark: data, imports, comparison, growth, load, and the report."""

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

import compare
import data
import load
import plot
import report
from peers import Duckdb, Postgres, Sqlite
from rollcall import Connection, Installation, Server

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ["ROLLCALL_BENCH_BINARY"]).resolve()
VISITS = int(os.environ.get("ROLLCALL_BENCH_VISITS", "1000000"))
ROUNDS = int(os.environ.get("ROLLCALL_BENCH_ROUNDS", "15"))
SECONDS = int(os.environ.get("ROLLCALL_BENCH_SECONDS", "10"))
POSTGRES = os.environ.get("ROLLCALL_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
# The visits of the small hospital, to measure whether the length of the history matters.
SMALL = VISITS * 12 // 100


def step(text: str) -> None:
    print(f"== {text}", flush=True)


def left_out(text: str) -> str:
    print(f"LEFT OUT: {text}", flush=True)
    return text


@contextmanager
def postgres_database():
    """A temporary database, which is dropped at the end, also after a failure."""
    name = f"rollcall_bench_{secrets.token_hex(8)}"
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        # No TLS, for Rollcall and for the peer.
        yield f"{POSTGRES.rsplit('/', 1)[0]}/{name}?sslmode=disable"
    finally:
        with psycopg.connect(POSTGRES, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def postgres_answers() -> bool:
    try:
        psycopg.connect(POSTGRES, connect_timeout=5).close()
        return True
    except psycopg.OperationalError:
        return False


def first_answer(connection: Connection) -> float:
    """The duration in seconds of the first question after a start, which loads the ledger."""
    begun = time.monotonic()
    connection.send(compare.question(compare.COUNTS, "MONTH", compare.YEAR, data.LAST_DAY))
    return time.monotonic() - begun


def main(stack: ExitStack) -> None:
    about, missing = report.machine(), []
    has_postgres, wrk = postgres_answers(), shutil.which("wrk")
    if not has_postgres:
        missing.append(left_out(f"PostgreSQL does not answer at {POSTGRES.rsplit('@', 1)[-1]}"))
    if not wrk:
        missing.append(left_out("wrk is not installed (Debian: apt-get install wrk): no load"))
    if not importlib.util.find_spec("duckdb"):
        missing.append(left_out("the package duckdb could not be installed"))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollcall-bench-")))

    step(f"{VISITS:,} visits, and {SMALL:,} of a small hospital")
    big, small = data.visits_of(VISITS), data.visits_of(SMALL)
    files = {}
    for code, rows in [("BENCH", big), ("SMALL", small)]:
        (folder / code).mkdir()
        files[code] = data.write_csv(rows, folder / code)

    databases = {"SQLite": f"sqlite://{folder}/rollcall.db"}
    if has_postgres:
        databases["PostgreSQL"] = stack.enter_context(postgres_database())
    servers, imports = {}, []
    for name, url in databases.items():
        step(f"import into Rollcall on {name}")
        installation = Installation(BINARY, folder, name, url)
        installation.make()
        took = {code: installation.add_hospital(code, *files[code]) for code in files}["BENCH"]
        servers[name] = stack.enter_context(Server(installation))
        loaded = first_answer(Connection(servers[name].base, "BENCH"))
        patients = max(row.patient for row in big)
        imports.append(
            [name]
            + [
                f"{took[kind]:.1f} s, {n / took[kind]:,.0f} a second"
                for kind, n in [("patients", patients), ("visits", VISITS)]
            ]
            + [f"{loaded * 1000:,.0f} ms"]
        )
        print("  " + "; ".join(imports[-1][1:]), flush=True)

    step("copies for the peers")
    peers = [Sqlite(folder / "peer.db", big)]
    if has_postgres:
        peers.insert(0, Postgres(stack.enter_context(postgres_database()), big))
    if importlib.util.find_spec("duckdb"):
        peers.append(Duckdb(big))

    # PostgreSQL if available; counts and lists come from memory with either database.
    on, server = list(servers.items())[-1]
    asked = Connection(server.base, "BENCH")
    step("do all give the same lists?")
    lists = compare.check(asked, peers) // len(peers)
    print(f"  yes: {lists:,} lists of each", flush=True)
    step(f"comparison, {ROUNDS} rounds")
    days = compare.Days()
    times = compare.compare(asked, peers, ROUNDS, days)
    names = [peer.name for peer in peers]
    result = report.compared(times, names)
    print(result, flush=True)
    step(f"growth, {ROUNDS} rounds")
    labels = {f"Rollcall, {VISITS:,} in all": (asked, big)}
    asked_small = Connection(server.base, "SMALL")
    labels[f"Rollcall, {SMALL:,} in all"] = (asked_small, small)
    first_answer(asked_small)
    grown = compare.grow({label: connection for label, (connection, _) in labels.items()}, peers, ROUNDS, days)
    visits = {
        (label, name): sum(span[0] <= row.date <= span[1] for row in (labels[label][1] if label in labels else big))
        for label, name in grown.of
        for span in [compare.SPANS[name]]
    }
    growth = report.grown(grown, visits)
    print(growth, flush=True)

    step(f"all day long, {4 * ROUNDS} rounds")
    habits = report.steady(compare.steady(asked, 4 * ROUNDS, days))
    print(habits, flush=True)

    loads, memory = [], []
    if wrk:
        for name, server in servers.items():
            step(f"load on {name}, {SECONDS} s each")
            some, said = load.load(server, "BENCH", name, wrk, SECONDS, folder)
            loads += some
            memory.append([name, said])

    versions = [f"{peer.name} {peer.version}" for peer in peers]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    year = visits[next(iter(labels)), "year"]
    text = [
        "# Rollcall and its peers\n\nMade by `bench/run`; [bench/README.md](README.md) says how to read it.\n",
        "\n".join(f"- {line}" for line in about),
        f"- Rollcall at {commit.strip() or 'an unknown commit'}, on {on}",
        f"- {'; '.join(versions)}; Python {sys.version.split()[0]}",
        f"- {VISITS:,} visits over five years, {year:,} of them in the year asked about; {ROUNDS} rounds",
        *(f"- left out: {what}" for what in missing),
        f"\n## One year's lists\n\nAll gave the same: {lists:,} lists of each were compared.\n\n{result}",
        f"## Growth\n\nCounts of the four cohorts by MONTH.\n\n{growth}",
        f"## All day long\n\nOne connection, nothing else going on; {4 * ROUNDS} rounds.\n\n{habits}",
        f"## Import\n\n{report.table(['database', 'patients', 'visits', 'first answer after a start'], imports)}",
    ]
    if loads:
        text.append(
            f"## Load\n\n{SECONDS} s each, while a visit is changed ten times a second.\n\n{report.loaded(loads)}\n"
            + report.table(["database", "resident memory of the server"], memory)
        )
    (ROOT / "bench/results.md").write_text("\n".join(text))
    groups = {
        heading: {
            name: [times.of[f"{name}, {what}", period] for period in compare.PERIODS] for name in ["Rollcall", *names]
        }
        for heading, what in [("Every id of every list", compare.IDS), ("Counts alone", compare.COUNTS)]
    }
    title = f"A year's NEW, RETURNING, CHURN_SUSPECTED and NO_SHOW: {year:,} of {VISITS:,} visits"
    (ROOT / "docs/bench-engines.svg").write_text(plot.engines(title, groups))
    lines = {}
    for (label, name), taken in grown.of.items():
        lines.setdefault(label, []).append((visits[label, name], taken))
    title = "Counts by MONTH: time against visits in range, and against history"
    spans = "visits in the range: a quarter, half a year, a year, all five"
    (ROOT / "docs/bench-growth.svg").write_text(plot.growth(title, spans, lines))
    clients = {}
    for row in loads:
        if row.database == on and row.a_second:
            clients.setdefault(row.question.split(":")[0].strip("`"), []).append((row.connections, [row.p50]))
    if clients:
        title = f"Under load, on {on}: half of the answers came within"
        (ROOT / "docs/bench-clients.svg").write_text(plot.growth(title, "clients at a time", clients))
    step("written: bench/results.md, docs/bench-engines.svg, docs/bench-growth.svg, docs/bench-clients.svg")


if __name__ == "__main__":
    # Clean up also after SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with ExitStack() as everything:
        main(everything)
