"""The front desk: bookings a second while many clients want the same doctors' time, and the statements of a desk's screens."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path

from data import Random
from main import BINARY, left_out, postgres_answers, postgres_database, step
from rollcall import Connection, Installation, Server, body

MARIADB = os.environ.get("ROLLCALL_TEST_MARIADB_URL", "mysql://root@127.0.0.1:3306/test")
SECONDS = int(os.environ.get("ROLLCALL_BENCH_SECONDS", "10"))
CLIENTS, PATIENTS, DOCTORS = 32, 2_000, 4
# Slots of 15 minutes, from 09:00 to 18:00 on so many days: about as many as are asked for.
DAYS, SLOTS = 60, 36

BOOK = """mutation ($input: RecordVisitInput!) { recordVisit(input: $input) { visit { id version } } }"""
VISIT = "id scheduledAt status patient { id chartNo name phone } department { name } doctor { name }"
SCREENS = {
    "a day's list": f"{{ visitsOn(date: DAY) {{ revision visits {{ {VISIT} }} }} }}",
    "the waiting room": f"{{ visitsOn(date: DAY, filter: {{statuses: [CHECKED_IN]}}) {{ visits {{ {VISIT} checkedInAt }} }} }}",
    "a search": """{ patients(filter: {search: "Patient 1"}, first: 20) { totalCount nodes { id chartNo name birthDate phone
        lastVisit { date } nextVisit { date } } } }""",
    "a doctor's free slots of a week": """{ hospital { doctors { name slots(range: {from: DAY, to: NEXT_WEEK}, state: FREE) { starts } } } }""",
    "a patient, with visits and history": f"""{{ patient(id: PATIENT) {{ chartNo name phone memo visits(first: 10) {{ nodes {{ {VISIT} }} }}
        history(first: 10) {{ nodes {{ at by {{ name }} fields {{ field before after }} }} }} }} }}""",
}


def command(*arguments: str) -> subprocess.CompletedProcess:
    url = urllib.parse.urlsplit(MARIADB)
    account = ["-h", url.hostname, "-P", str(url.port or 3306), "-u", url.username or "root"]
    environment = {**os.environ, "MYSQL_PWD": urllib.parse.unquote(url.password or "")}
    return subprocess.run(["mariadb", *account, "-e", *arguments], capture_output=True, text=True, env=environment)


@contextmanager
def mariadb_database():
    """A temporary database, which is dropped at the end, also after a failure."""
    name = f"rollcall_bench_{os.getpid()}"
    command(f"CREATE DATABASE {name}").check_returncode()
    try:
        yield urllib.parse.urlsplit(MARIADB)._replace(path=f"/{name}", query="ssl-mode=disabled").geturl()
    finally:
        command(f"DROP DATABASE {name}")


def mariadb_answers() -> bool:
    try:
        return command("SELECT 1").returncode == 0
    except FileNotFoundError:
        return False


def book(base: str, seed: int, hospital: tuple[list[str], list[str]], end: float, outcomes: Counter, took: list[float]) -> None:
    """Books random times until the end."""
    connection, random = Connection(base, "BENCH"), Random(seed)
    patients, doctors = hospital
    first = date.today() + timedelta(days=7)
    while time.monotonic() < end:
        day, slot = first + timedelta(days=random.below(DAYS)), random.below(SLOTS)
        at = f"{day}T{9 + slot // 4:02}:{slot % 4 * 15:02}:00+09:00"
        visit = {"patientId": patients[random.below(PATIENTS)], "doctorId": doctors[random.below(DOCTORS)], "scheduledAt": at}
        begun = time.monotonic()
        answer = json.loads(connection.send(body(BOOK, {"input": visit})))
        took.append((time.monotonic() - begun) * 1000)
        errors = answer.get("errors")
        outcomes[errors[0]["extensions"]["code"] if errors else "booked"] += 1


def contend(servers: list[Server], hospital: tuple[list[str], list[str]]) -> str:
    outcomes, took, end = Counter(), [], time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=book, args=(servers[n % len(servers)].base, n, hospital, end, outcomes, took))
        for n in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    rates = ", ".join(f"{outcome} {count / SECONDS:,.0f} a second" for outcome, count in outcomes.most_common())
    return f"{rates}; p50 {statistics.median(took):.0f} ms, p99 {took[len(took) * 99 // 100]:.0f} ms"


def statements(server: Server, connection: Connection, query: str, variables: dict | None = None) -> int:
    """The statements that a request takes, once what it needs is in memory."""

    def so_far() -> int:
        lines = Connection(server.base).get("/metrics").splitlines()
        return int(next(line for line in lines if line.startswith("rollcall_database_statements_total ")).split()[1])

    before = so_far()
    connection.ask(query, variables)
    return so_far() - before


def measure(name: str, url: str, folder: Path, stack: ExitStack) -> None:
    installation = Installation(BINARY, folder, name, url)
    installation.make()
    patients = folder / "patients.csv"
    rows = [f"{n:05},Patient {n},010-{2000 + n // 10000:04}-{n % 10000:04}" for n in range(PATIENTS)]
    patients.write_text("\n".join(["chart_no,name,phone", *rows]))
    visits = folder / "visits.csv"
    visits.write_text("visit_no,chart_no,date,status\n")
    installation.add_hospital("BENCH", patients, visits)
    # SQLite has one writer, and its file belongs to one machine.
    servers = [stack.enter_context(Server(installation)) for _ in range(1 if name == "SQLite" else 2)]
    connection = Connection(servers[0].base, "BENCH")
    ids, after = [], None
    while len(ids) < PATIENTS:
        page = connection.ask(
            "query ($after: String) { patients(first: 100, after: $after) { nodes { id } pageInfo { endCursor } } }",
            {"after": after},
        )["patients"]
        ids += [row["id"] for row in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
    doctors = [
        connection.ask("mutation ($input: AddDoctorInput!) { addDoctor(input: $input) { doctor { id } } }", {"input": {"name": f"Doctor {n}"}})[
            "addDoctor"
        ]["doctor"]["id"]
        for n in range(DOCTORS)
    ]
    step(f"{name}: {CLIENTS} clients of {len(servers)} servers book {DOCTORS} doctors for {SECONDS} s")
    print("  " + contend(servers, (ids, doctors)), flush=True)
    today = date.today()
    for hour in range(9, 18):
        at = {"scheduledAt": f"{today}T{hour:02}:05:00+09:00", "force": True, "reason": "Benchmark"}
        connection.ask(BOOK, {"input": {"patientId": ids[hour], "doctorId": doctors[0], **at}})
    counts = {}
    for screen, query in SCREENS.items():
        for word, value in [("DAY", today), ("NEXT_WEEK", today + timedelta(days=6)), ("PATIENT", ids[9])]:
            query = query.replace(word, json.dumps(str(value)))
        connection.ask(query)
        counts[screen] = statements(servers[0], connection, query)
    day = today + timedelta(days=90)
    visit = {"patientId": ids[0], "doctorId": doctors[0], "scheduledAt": f"{day}T09:00:00+09:00"}
    counts["a booking"] = statements(servers[0], connection, BOOK, {"input": visit})
    print("  statements: " + ", ".join(f"{screen} {count}" for screen, count in counts.items()), flush=True)


def main() -> None:
    databases = ["SQLite"]
    for name, answers in [("PostgreSQL", postgres_answers), ("MariaDB", mariadb_answers)]:
        if answers():
            databases.append(name)
        else:
            left_out(f"{name} does not answer")
    for name in databases:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rollcall-bench-")))
            url = {
                "SQLite": lambda: f"sqlite://{folder}/rollcall.db",
                "PostgreSQL": lambda: stack.enter_context(postgres_database()),
                "MariaDB": lambda: stack.enter_context(mariadb_database()),
            }[name]()
            measure(name, url, folder, stack)


if __name__ == "__main__":
    sys.exit(main())
