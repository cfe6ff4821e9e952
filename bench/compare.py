"""Compares Rollcall with other engines (the peers): first that all return the same lists, then how long they take."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

from data import FIRST_DAY, LAST_DAY
from peers import MISSED, RETURNING, STAYED, SUSPECTED
from rollcall import Connection, body, data_of, number

PERIODS = ["DAY", "WEEK", "MONTH"]
YEAR = (date(2025, 1, 1), LAST_DAY)
# Each cohort: the peers' classes that it consists of, and its field in the API.
COHORTS = {
    "NEW": ((STAYED, SUSPECTED), "newPatients"),
    "RETURNING": ((RETURNING,), "returning"),
    "CHURN_SUSPECTED": ((SUSPECTED,), "churnSuspected"),
    "NO_SHOW": ((MISSED,), "noShow"),
}
ALL_KINDS = "VISITORS NEW RETURNING CHURN_SUSPECTED RETAINED PENDING NO_SHOW CANCELED".split()

# What is queried, as named in the table's rows.
IDS, COUNTS, EIGHT, AGAIN = "every id", "counts", "counts of all eight cohorts", "the same counts again"


def query_of(fields: str) -> str:
    return (
        "query ($period: Period!, $range: DateRangeInput!, $asOf: Date!) "
        f"{{ statistics(period: $period, range: $range, asOf: $asOf) {{ buckets {{ start {fields} }} }} }}"
    )


FOUR = " ".join(f"{name} {{ {{lists}} }}" for _, name in COHORTS.values())
QUERIES = {
    IDS: query_of(FOUR.replace("{lists}", "patientIds visitIds")),
    COUNTS: query_of(FOUR.replace("{lists}", "patientCount visitCount")),
    EIGHT: query_of(" ".join(f"{kind}: cohort(kind: {kind}) {{ patientCount visitCount }}" for kind in ALL_KINDS)),
}


def question(what: str, period: str, span: tuple[date, date], as_of: date) -> bytes:
    bounds = {"from": str(span[0]), "to": str(span[1])}
    return body(QUERIES[what], {"period": period, "range": bounds, "asOf": str(as_of)})


def check(rollcall: Connection, peers: list) -> int:
    """Compares every list of every bucket, also for an asOf within the year. Returns the number of comparisons."""
    compared = 0
    for period in PERIODS:
        for as_of in [LAST_DAY + timedelta(days=1), date(2025, 7, 16)]:
            buckets = data_of(rollcall.send(question(IDS, period, YEAR, as_of)), "the lists")["statistics"]["buckets"]
            counts = data_of(rollcall.send(question(COUNTS, period, YEAR, as_of)), "counts")["statistics"]["buckets"]
            for peer in peers:
                answer = peer.lists(peer.ask(period, *YEAR, as_of, lists=True))
                numbers = peer.counts(peer.ask(period, *YEAR, as_of, lists=False))
                starts = {bucket["start"] for bucket in buckets}
                if unknown := {str(start) for start, _ in answer} - starts:
                    raise SystemExit(f"{peer.name} has buckets by {period} that Rollcall has not: {sorted(unknown)}")
                for bucket, counted in zip(buckets, counts, strict=True):
                    start = date.fromisoformat(bucket["start"])
                    for cohort, (classes, name) in COHORTS.items():
                        for place, (ids, count) in enumerate(
                            [("patientIds", "patientCount"), ("visitIds", "visitCount")]
                        ):
                            ours = sorted(number(text) for text in bucket[name][ids])
                            found = [answer[start, kind][place].tolist() for kind in classes if (start, kind) in answer]
                            theirs = sorted(sum(found, []))
                            there = f"{cohort} of {start} by {period}, asOf {as_of}, {ids}"
                            if ours != theirs:
                                raise SystemExit(
                                    f"{there}: Rollcall has {len(ours)}, {peer.name} {len(theirs)}; "
                                    f"in one alone: {sorted(set(ours) ^ set(theirs))[:10]}"
                                )
                            said = sum(numbers.get((start, kind), (0, 0))[place] for kind in classes)
                            if not len(ours) == counted[name][count] == said:
                                raise SystemExit(
                                    f"{there}: {len(ours)} in the list, Rollcall counts {counted[name][count]}, "
                                    f"{peer.name} {said}"
                                )
                            compared += 1
    return compared


@dataclass
class Times:
    """Durations in milliseconds, by row and column of a table."""

    of: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def take(self, row: str, column: str, ask: Callable[[], object]) -> None:
        begun = time.perf_counter()
        answer = ask()
        self.of[row, column].append((time.perf_counter() - begun) * 1000)
        # An error response would be measured as a fast one.
        if isinstance(answer, bytes) and b'"errors"' in answer:
            raise RuntimeError(f"{row}, {column}: {answer[:500]!r}")


class Days:
    """A new asOf for each question, so that Rollcall does not have the result in memory; the work stays nearly the same."""

    def __init__(self):
        self.next = LAST_DAY + timedelta(days=1)

    def fresh(self) -> date:
        self.next += timedelta(days=1)
        return self.next


def compare(rollcall: Connection, peers: list, rounds: int, days: Days) -> Times:
    """Queries all engines in turn within each round, so that other load on the machine affects all."""
    times = Times()
    for _ in range(rounds):
        rollcall.sign_in()
        for period in PERIODS:
            eight, four, ids = (question(w, period, YEAR, days.fresh()) for w in [EIGHT, COUNTS, IDS])
            times.take(f"Rollcall, {EIGHT}", period, lambda: rollcall.send(eight))
            times.take(f"Rollcall, {COUNTS}", period, lambda: rollcall.send(four))
            times.take(f"Rollcall, {AGAIN}", period, lambda: rollcall.send(four))
            times.take(f"Rollcall, {IDS}", period, lambda: rollcall.send(ids))
            for peer in peers:
                for what, lists in [(COUNTS, False), (IDS, True)]:
                    times.take(f"{peer.name}, {what}", period, lambda: peer.ask(period, *YEAR, days.next, lists=lists))
    return times


ORDERS = ["CHART_NO", "NAME", "REGISTERED_ON", "FIRST_VISIT", "LAST_VISIT"]
PAGE = """query ($id: ID!, $order: PatientOrder, $after: String) { node(id: $id) { ... on Cohort {
  patients(first: 20, orderBy: $order, after: $after) { pageInfo { endCursor } nodes { id name } } } } }"""
BOOKED = "{ visits(first: 1, filter: {statuses: [BOOKED]}) { nodes { id version } } }"
CHANGE = "mutation ($input: ChangeVisitInput!) { changeVisit(input: $input) { visit { id version } } }"


def steady(client: Connection, rounds: int, days: Days) -> Times:
    """Measures what a console does all day: a repeated question, a question after a change, and pages of a list."""
    times = Times()
    known = question(COUNTS, "MONTH", YEAR, days.fresh())
    client.send(known)
    whole = {"from": str(YEAR[0]), "to": str(YEAR[1])}
    listed = client.ask(
        "query ($range: DateRangeInput!) { statistics(period: MONTH, range: $range) { total { returning { id } } } }",
        {"range": whole},
    )["statistics"]["total"]["returning"]["id"]
    visit = client.ask(BOOKED)["visits"]["nodes"][0]
    pages: dict[tuple[str, int], bytes] = {}
    for order in ORDERS:
        after = None
        for page in range(1, 101):
            asked = body(PAGE, {"id": listed, "order": {"field": order}, "after": after})
            pages[order, page] = asked
            after = data_of(client.send(asked), "a page")["node"]["patients"]["pageInfo"]["endCursor"]
    for done in range(rounds):
        client.sign_in()
        times.take("`{ __typename }`", "p50", lambda: client.send(body("{ __typename }")))
        times.take("a year by MONTH, asked before", "p50", lambda: client.send(known))
        anew = question(COUNTS, "MONTH", YEAR, days.fresh())
        times.take("a year by MONTH, not asked before", "p50", lambda: client.send(anew))
        word = ["CHECKED_IN", "BOOKED"][done % 2]
        visit = client.ask(CHANGE, {"input": {**visit, "status": word}})["changeVisit"]["visit"]
        times.take("a year by MONTH, after one visit was changed", "p50", lambda: client.send(known))
        for order in ORDERS:
            for page in [1, 10, 100]:
                row = f"a list's page {page} by {order}"
                times.take(row, "p50", lambda: client.send(pages[order, page]))
    return times


SPANS = {
    "quarter": (date(2025, 10, 1), LAST_DAY),
    "half": (date(2025, 7, 1), LAST_DAY),
    "year": YEAR,
    "all five years": (FIRST_DAY, LAST_DAY),
}


def grow(servers: dict[str, Connection], peers: list, rounds: int, days: Days) -> Times:
    """Counts by MONTH of a quarter up to all five years: in Rollcall for two hospitals, in the peers for the large one."""
    times = Times()
    for _ in range(rounds):
        for connection in servers.values():
            connection.sign_in()
        for name, span in SPANS.items():
            asked = question(COUNTS, "MONTH", span, days.fresh())
            for label, connection in servers.items():
                times.take(label, name, lambda: connection.send(asked))
            for peer in peers:
                times.take(peer.name, name, lambda: peer.ask("MONTH", *span, days.next, lists=False))
    return times
