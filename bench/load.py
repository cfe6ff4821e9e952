"""Measures a server under load: wrk sends a console's queries while visits are changed."""

import os
import subprocess
import threading
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from compare import COUNTS, YEAR, question
from data import LAST_DAY, Random
from rollcall import Connection, Server, body, data_of

CONNECTIONS = [1, 16, 256]
WRITE_EVERY = 0.1
PERSON = "id chartNo name birthDate phone"
VISIT = "date status department { name } doctor { name }"
PAGE = f"""query ($list: ID!, $first: Int!, $after: String) {{
  node(id: $list) {{ ... on Cohort {{ patientCount patients(first: $first, after: $after) {{
    totalCount pageInfo {{ hasNextPage endCursor }}
    edges {{ cursor firstVisitDate lastVisitDate node {{ {PERSON} }} }} }} }} }} }}"""
PATIENT = (
    f"query ($id: ID!) {{ patient(id: $id) {{ {PERSON} visitCount visits(first: 3) {{ nodes {{ {VISIT} }} }} }} }}"
)
LIST = f"""query ($range: DateRangeInput!, $asOf: Date!, $day: Date!) {{
  statistics(period: MONTH, range: $range, asOf: $asOf) {{ bucket(day: $day) {{ returning {{
    patientCount patients {{ nodes {{ {PERSON} }} }} visits {{ nodes {{ {VISIT} patient {{ name }} }} }} }} }} }} }}"""
KNOWN = f"""query ($list: ID!) {{ node(id: $list) {{ ... on Cohort {{
    patientCount patients {{ nodes {{ {PERSON} }} }} visits {{ nodes {{ {VISIT} patient {{ name }} }} }} }} }} }}"""
IDS = """query ($range: DateRangeInput!, $asOf: Date!) {
  statistics(period: MONTH, range: $range, asOf: $asOf) { buckets { returning { id } } } }"""
BOOKED = """query ($range: DateRangeInput!) {
  visits(first: 1, filter: {statuses: [BOOKED], dates: $range}) { nodes { id version } } }"""
SPAN = {"range": {"from": str(YEAR[0]), "to": str(YEAR[1])}, "asOf": str(LAST_DAY)}


def scenarios(client: Connection) -> dict[str, list[bytes]]:
    """The request bodies of each scenario, which are sent in turn."""
    overview, by_day = question(COUNTS, "MONTH", YEAR, LAST_DAY), question(COUNTS, "DAY", YEAR, LAST_DAY)
    firsts, tenths, known = [], [], []
    for bucket in client.ask(IDS, SPAN)["statistics"]["buckets"]:
        held = {"list": bucket["returning"]["id"], "first": 20}
        firsts.append(body(PAGE, held))
        known.append(body(KNOWN, {"list": held["list"]}))
        # Skip nine pages of 20 rows, with two requests.
        cursor = None
        for step in [100, 80]:
            page = client.ask(PAGE, {**held, "first": step, "after": cursor})["node"]["patients"]
            cursor = page["pageInfo"]["endCursor"]
        tenths.append(body(PAGE, {**held, "after": cursor}))
    page = client.ask("{ patients(first: 100) { nodes { id } } }")["patients"]["nodes"]
    people = [body(PATIENT, {"id": row["id"]}) for row in page]
    random = Random(11)
    mix = []
    for _ in range(60):
        mix += [overview, overview, overview, by_day]
        mix += [firsts[random.below(12)], firsts[random.below(12)], firsts[random.below(12)], tenths[random.below(12)]]
        mix += [people[random.below(len(people))], people[random.below(len(people))]]
    months = [date(2025, month, 1) for month in range(1, 13)]
    return {
        "a console's mix": mix,
        "`{ __typename }`": [body("{ __typename }")],
        "a year by MONTH, counts": [overview],
        "20 patients with 3 visits each": [
            body("{ patients(first: 20) { nodes { name visits(first: 3) { nodes { date status } } } } }")
        ],
        "the list under a number: count, patients, visits": [body(LIST, {**SPAN, "day": str(day)}) for day in months],
        "the same list by its id": known,
    }


class Writer(threading.Thread):
    """Changes a visit's status between BOOKED and CHECKED_IN through the API, about ten times a second."""

    def __init__(self, base: str, code: str):
        super().__init__()
        self.client = Connection(base, code, "writer")
        self.done, self.writes, self.failure = threading.Event(), 0, None

    def run(self) -> None:
        try:
            visit = self.client.ask(BOOKED, {"range": SPAN["range"]})["visits"]["nodes"][0]
            change = "mutation ($input: ChangeVisitInput!) { changeVisit(input: $input) { visit { id version } } }"
            words = ["CHECKED_IN", "BOOKED"]
            # Stop after an even number of changes, so that the visit has its first status again.
            while not self.done.wait(WRITE_EVERY) or self.writes % 2:
                made = {"input": {**visit, "status": words[self.writes % 2]}}
                visit = self.client.ask(change, made)["changeVisit"]["visit"]
                self.writes += 1
        except Exception as failure:  # raised by the caller of `join`
            self.failure = failure


@dataclass
class Load:
    database: str
    question: str
    connections: int
    a_second: float
    p50: float
    p99: float
    writes: float
    failures: str


def load(server: Server, code: str, database: str, wrk: str, seconds: int, folder: Path) -> tuple[list[Load], str]:
    """Measures all scenarios with each number of connections. Returns the results, and the server's memory before and after."""
    before = server.memory("VmRSS")
    measured = []
    for name, bodies in scenarios(Connection(server.base, code)).items():
        file = folder / "bodies"
        file.write_bytes(b"\n".join(bodies) + b"\n")
        for connections in CONNECTIONS:
            # A new session for each run. Each request is sent once first, and must succeed.
            client = Connection(server.base, code)
            for asked in dict.fromkeys(bodies):
                data_of(client.send(asked), name)
            refused = server.refusals()
            writer = Writer(server.base, code)
            writer.start()
            threads = min(connections, 2)
            command = [wrk, "-t", str(threads), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "30s"]
            said = subprocess.run(
                [*command, "-s", str(Path(__file__).with_name("load.lua")), f"{server.base}/graphql"],
                env={**os.environ, "BENCH_TOKEN": client.token, "BENCH_BODIES": str(file)},
                capture_output=True,
                text=True,
            )
            writer.done.set()
            writer.join()
            if writer.failure:
                raise writer.failure
            results = [line for line in said.stdout.splitlines() if line.startswith("RESULT ")]
            if not results:
                raise RuntimeError(f"wrk: {said.stdout}{said.stderr}")
            requests, micros, p50, p99, broken = (int(word) for word in results[0].split()[1:])
            failures = [
                f"{count - refused.get(what, 0)} {what}"
                for what, count in server.refusals().items()
                if count > refused.get(what, 0)
            ] + ([f"{broken} by wrk"] if broken else [])
            row = Load(
                database, name, connections, requests / micros * 1e6, p50 / 1000, p99 / 1000,
                writer.writes / micros * 1e6, ", ".join(failures) or "none",
            )  # fmt: skip
            print(
                f"  {row.question}, {connections}: {row.a_second:.0f} a second, p50 {row.p50:.2f}, p99 {row.p99:.2f}",
                flush=True,
            )
            measured.append(row)
    memory = f"{before} MiB before, {server.memory('VmRSS')} MiB after, {server.memory('VmHWM')} MiB at most"
    return measured, memory
