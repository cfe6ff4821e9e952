"""Many hospitals with little memory: 20,000,000 visits of 50 hospitals on PostgreSQL, and a thousand questions about all of
them to a server whose memory holds a third of their ledgers."""

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import psycopg

import compare
from data import Random
from main import BINARY, postgres_answers, postgres_database, step
from rollcall import PASSWORD, Connection, Installation, Server

VISITS = int(os.environ.get("ROLLCALL_BENCH_VISITS", "20000000"))
HOSPITALS, QUESTIONS = 50, 1_000
# The size of a ledger in bytes a visit, as measured.
BYTES = 28
# `--memory` in MiB for a third of all ledgers, which get 8/11 of it.
MEMORY = max(VISITS * BYTES // 3 * 11 // 8 >> 20, 1)

# Inserted by SQL, which is faster than an import: visits over ten years, with recurring patients.
PATIENTS = """INSERT INTO patient (hospital_id, id, state, chart_no, name, sex, registered_on, version)
    SELECT {hospital}, n, 'ACTIVE', lpad(CAST(n AS TEXT), 7, '0'), 'Patient ' || n, 'UNKNOWN', '2016-01-01', 1
    FROM generate_series(1, {patients}) n"""
VISIT = """INSERT INTO visit (hospital_id, id, visit_no, patient_id, date, status, channel, version)
    SELECT {hospital}, n, 'V' || n,
        1 + (hashint8(n) + 2147483648) * greatest(1, {patients}::bigint * n / {visits}) / 4294967296,
        date '2016-01-01' + CAST(n::bigint * 3653 / ({visits} + 1) AS INT),
        (ARRAY['COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED', 'COMPLETED', 'ENDED',
            'NO_SHOW', 'CANCELED'])[1 + n % 10],
        (ARRAY['WALK_IN', 'PHONE', 'APP', 'WEB'])[1 + n % 4], 1
    FROM generate_series(1, {visits}) n"""


def fill(url: str) -> list[int]:
    """Inserts the visits. Returns their number for each hospital; the largest has four times as many as the smallest."""
    weights = [4 - 3 * place / (HOSPITALS - 1) for place in range(HOSPITALS)]
    visits = [int(VISITS * weight / sum(weights)) for weight in weights]
    with psycopg.connect(url, autocommit=True) as connection:
        # Without triggers, since ledgers are loaded from the visits and not from the change feed.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        hospitals = [row[0] for row in connection.execute("SELECT id FROM hospital ORDER BY id")]
        for hospital, count in zip(hospitals, visits, strict=True):
            values = {"hospital": hospital, "visits": count, "patients": max(count // 5, 1)}
            connection.execute(PATIENTS.format(**values))
            connection.execute(VISIT.format(**values))
        connection.execute("VACUUM ANALYZE visit")
        connection.execute("VACUUM ANALYZE patient")
    return visits


def main(stack: ExitStack) -> None:
    if not postgres_answers():
        sys.exit("PostgreSQL does not answer; this benchmark needs it")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollcall-bench-")))
    url = stack.enter_context(postgres_database())
    installation = Installation(BINARY, folder, "PostgreSQL", url)
    installation.make()
    codes = [f"H{place}" for place in range(HOSPITALS)]
    for code in codes:
        installation.run("hospital", "add", "--code", code, "--name", code, "--time-zone", "Asia/Seoul")
        account = ["--hospital", code, "--login", "reader", "--name", "reader", "--role", "admin"]
        installation.run("staff", "add", *account, said=PASSWORD)
    step(f"{VISITS:,} visits in {HOSPITALS} hospitals")
    begun = time.monotonic()
    visits = fill(url)
    print(f"  {max(visits):,} in the biggest, {min(visits):,} in the smallest; {time.monotonic() - begun:.0f} s", flush=True)
    installation.environment["ROLLCALL_MEMORY"] = str(MEMORY)
    server = stack.enter_context(Server(installation))
    client, tokens = Connection(server.base), {}

    def sign_in() -> None:
        for code in codes:
            client.account["hospital"] = code
            client.sign_in()
            tokens[code] = client.token

    sign_in()
    before = server.memory("VmRSS")
    step(f"{QUESTIONS:,} questions, a year by MONTH each, with --memory {MEMORY}")
    random, took = Random(5), []
    for asked in range(QUESTIONS):
        code = codes[random.below(HOSPITALS)]
        year = 2016 + random.below(10)
        question = compare.question(
            compare.COUNTS, "MONTH", (date(year, 1, 1), date(year, 12, 31)), date(2026, 1, 1 + random.below(28))
        )
        if asked % 200 == 199:
            sign_in()
        client.headers["Authorization"] = f"Bearer {tokens[code]}"
        begun = time.monotonic()
        answer = client.send(question)
        took.append((time.monotonic() - begun) * 1000)
        if b'"errors"' in answer:
            raise RuntimeError(f"question {asked} to {code}: {answer[:500]!r}")
    metrics = dict(
        line.rsplit(" ", 1) for line in Connection(server.base).get("/metrics").splitlines() if line[:1] not in "#"
    )
    took.sort()
    loads = int(metrics["rollcall_ledger_loads_total"])
    print(
        f"  none failed; {loads} ledgers loaded; p50 {statistics.median(took):.1f} ms, p90 {took[900 * QUESTIONS // 1000]:.0f} ms, "
        f"p99 {took[990 * QUESTIONS // 1000]:.0f} ms, slowest {took[-1]:.0f} ms\n"
        f"  at the end {metrics['rollcall_ledgers']} ledgers in memory; resident memory "
        f"{before} MiB before, {server.memory('VmRSS')} MiB after, {server.memory('VmHWM')} MiB at most",
        flush=True,
    )


if __name__ == "__main__":
    with ExitStack() as everything:
        main(everything)
