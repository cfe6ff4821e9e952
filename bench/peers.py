"""The databases that Rollcall is compared with. Each has its own copy of the visits, with the schema and the SQL that are
fastest for it.

All three return a row for each bucket and class. As in Rollcall, classes are disjoint, so that no visit is returned twice:
NEW is the union of `STAYED` and `SUSPECTED`.
"""

import sqlite3
import struct
from datetime import date, timedelta
from pathlib import Path

import numpy
import psycopg

from data import COMPLETED, ENDED, FIRST_DAY, LAST_DAY, NO_SHOW, Visit

RETURNING, STAYED, SUSPECTED, MISSED = range(4)
CHURN_AFTER_DAYS = 90
MONDAY = date(2024, 12, 30)
EPOCH = date(1970, 1, 1)
# The selected columns for counts; each engine has its own for lists.
COUNTS = "count(DISTINCT patient_id), count(*)"

# A patient's first visit is never after another one, so it is in the visit's bucket if it is not before the bucket's first
# counted day. Histories and counted visits end at asOf.
QUESTION = f"""
WITH ends AS (
    SELECT patient_id, min(date) AS first, max(date) AS last FROM visit
    WHERE status IN ({COMPLETED}, {ENDED}) AND date <= {{as_of}}
    GROUP BY patient_id HAVING max(date) >= {{start}}
), listed AS (
    SELECT {{bucket}} AS bucket, v.id, v.patient_id, CASE
        WHEN v.status = {NO_SHOW} THEN {MISSED}
        WHEN e.first < {{greatest}}({{bucket}}, {{start}}) THEN {RETURNING}
        WHEN e.last <= {{silent_since}} THEN {SUSPECTED}
        ELSE {STAYED} END AS class
    FROM visit v {{join}} LEFT JOIN ends e ON e.patient_id = v.patient_id
    WHERE v.status IN ({COMPLETED}, {ENDED}, {NO_SHOW}) AND v.date BETWEEN {{start}} AND {{end}} AND v.date <= {{as_of}}
)
SELECT bucket, class, {{columns}} FROM listed GROUP BY bucket, class"""

# (bucket, class) -> patients, visits
Lists = dict[tuple[date, int], tuple[numpy.ndarray, numpy.ndarray]]
Counts = dict[tuple[date, int], tuple[int, int]]


class Postgres:
    """Lists are returned by `array_send` as bytes, so that rows are not converted one by one."""

    name = "PostgreSQL"
    BUCKETS = {
        "DAY": "v.date",
        "WEEK": f"v.date - (v.date - date '{MONDAY}') %% 7",
        "MONTH": "date_trunc('month', v.date::timestamp)::date",
    }
    LISTS = "array_send(array_agg(DISTINCT patient_id)), array_send(array_agg(id))"

    def __init__(self, url: str, rows: list[Visit]):
        self.db = psycopg.connect(url, autocommit=True)
        self.version = self.db.execute("SHOW server_version").fetchone()[0].split()[0]
        self.db.execute(
            "CREATE TABLE visit (id integer PRIMARY KEY, patient_id integer NOT NULL, date date NOT NULL, "
            "status smallint NOT NULL)"
        )
        with self.db.cursor() as cursor, cursor.copy("COPY visit FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "int4", "date", "int2"])
            for row in rows:
                copy.write_row((row.id, row.patient, row.date, row.status))
        self.db.execute(
            f"CREATE INDEX attended_by_patient ON visit (patient_id, date) WHERE status IN ({COMPLETED}, {ENDED})"
        )
        self.db.execute("CREATE INDEX visit_by_date ON visit (date) INCLUDE (id, patient_id, status)")
        self.db.execute("VACUUM ANALYZE visit")
        # Settings for a table in memory, and for sorting in memory.
        for setting in ["work_mem = '256MB'", "random_page_cost = 1", "jit = off"]:
            self.db.execute(f"SET {setting}")

    def ask(self, period: str, start: date, end: date, as_of: date, lists: bool) -> list[tuple]:
        sql = QUESTION.format(
            bucket=self.BUCKETS[period],
            join="",
            greatest="greatest",
            columns=self.LISTS if lists else COUNTS,
            start="%(start)s",
            end="%(end)s",
            as_of="%(as_of)s",
            silent_since="%(silent_since)s",
        )
        with self.db.cursor(binary=True) as cursor:
            cursor.execute(sql, arguments(start, end, as_of), prepare=True)
            return cursor.fetchall()

    def lists(self, answer: list[tuple]) -> Lists:
        return {(bucket, kind): (unpack(patients), unpack(visits)) for bucket, kind, patients, visits in answer}

    def counts(self, answer: list[tuple]) -> Counts:
        return {(bucket, kind): (patients, visits) for bucket, kind, patients, visits in answer}


class Sqlite:
    """Days are integers; a list is returned as one text, which is faster than rows."""

    name = "SQLite"
    # Months are joined from a table: SQLite's date functions are slower.
    BUCKETS = {"DAY": "v.date", "WEEK": f"v.date - (v.date - {(MONDAY - EPOCH).days}) % 7", "MONTH": "c.month"}
    LISTS = "group_concat(DISTINCT patient_id), group_concat(id)"

    def __init__(self, path: Path, rows: list[Visit]):
        self.db = sqlite3.connect(path)
        self.version = sqlite3.sqlite_version
        self.db.executescript(
            """
            PRAGMA journal_mode = WAL; PRAGMA cache_size = -1000000; PRAGMA mmap_size = 1000000000;
            PRAGMA temp_store = MEMORY;
            CREATE TABLE visit (id INTEGER PRIMARY KEY, patient_id INTEGER NOT NULL, date INTEGER NOT NULL,
                status INTEGER NOT NULL);
            CREATE TABLE calendar (day INTEGER PRIMARY KEY, month INTEGER NOT NULL);
            """
        )
        values = ((row.id, row.patient, (row.date - EPOCH).days, row.status) for row in rows)
        self.db.executemany("INSERT INTO visit VALUES (?, ?, ?, ?)", values)
        days = (FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1))
        months = (((day - EPOCH).days, (day.replace(day=1) - EPOCH).days) for day in days)
        self.db.executemany("INSERT INTO calendar VALUES (?, ?)", months)
        self.db.executescript(
            f"""
            CREATE INDEX attended_by_patient ON visit (patient_id, date) WHERE status IN ({COMPLETED}, {ENDED});
            CREATE INDEX visit_by_date ON visit (date, patient_id, status);
            ANALYZE;
            """
        )
        self.db.commit()

    def ask(self, period: str, start: date, end: date, as_of: date, lists: bool) -> list[tuple]:
        sql = QUESTION.format(
            bucket=self.BUCKETS[period],
            join="JOIN calendar c ON c.day = v.date" if period == "MONTH" else "",
            greatest="max",
            columns=self.LISTS if lists else COUNTS,
            start=":start",
            end=":end",
            as_of=":as_of",
            silent_since=":silent_since",
        )
        numbers = {key: (day - EPOCH).days for key, day in arguments(start, end, as_of).items()}
        return self.db.execute(sql, numbers).fetchall()

    def lists(self, answer: list[tuple]) -> Lists:
        def numbers(text: str) -> numpy.ndarray:
            return numpy.array(text.split(","), dtype=numpy.int64)

        return {
            (EPOCH + timedelta(days=bucket), kind): (numbers(patients), numbers(visits))
            for bucket, kind, patients, visits in answer
        }

    def counts(self, answer: list[tuple]) -> Counts:
        return {(EPOCH + timedelta(days=bucket), kind): (patients, visits) for bucket, kind, patients, visits in answer}


class Duckdb:
    """A table in memory, in the order of dates."""

    name = "DuckDB"
    BUCKETS = {"DAY": "v.date", "WEEK": "date_trunc('week', v.date)", "MONTH": "date_trunc('month', v.date)"}
    LISTS = "list(DISTINCT patient_id), list(id)"

    def __init__(self, rows: list[Visit]):
        import duckdb  # optional

        self.db = duckdb.connect()
        self.version = duckdb.__version__
        days = numpy.array([(row.date - EPOCH).days for row in rows], dtype="datetime64[D]")
        columns = {
            "id": numpy.array([row.id for row in rows], dtype=numpy.int32),
            "patient_id": numpy.array([row.patient for row in rows], dtype=numpy.int32),
            "date": days.astype("datetime64[s]"),
            "status": numpy.array([row.status for row in rows], dtype=numpy.int8),
        }
        self.db.register("columns", columns)
        self.db.execute("CREATE TABLE visit AS SELECT id, patient_id, date::DATE AS date, status FROM columns")
        self.db.unregister("columns")

    def ask(self, period: str, start: date, end: date, as_of: date, lists: bool) -> dict:
        sql = QUESTION.format(
            bucket=self.BUCKETS[period],
            join="",
            greatest="greatest",
            columns=self.LISTS if lists else COUNTS,
            start="$start",
            end="$end",
            as_of="$as_of",
            silent_since="$silent_since",
        )
        return self.db.execute(sql, arguments(start, end, as_of)).fetchnumpy()

    def lists(self, answer: dict) -> Lists:
        buckets, kinds, patients, visits = answer.values()
        days = buckets.astype("datetime64[D]").astype(object)
        return {
            (bucket, int(kind)): (numpy.asarray(p), numpy.asarray(v))
            for bucket, kind, p, v in zip(days, kinds, patients, visits)
        }

    def counts(self, answer: dict) -> Counts:
        buckets, kinds, patients, visits = answer.values()
        days = buckets.astype("datetime64[D]").astype(object)
        return {(bucket, int(kind)): (int(p), int(v)) for bucket, kind, p, v in zip(days, kinds, patients, visits)}


def arguments(start: date, end: date, as_of: date) -> dict[str, date]:
    return {"start": start, "end": end, "as_of": as_of, "silent_since": as_of - timedelta(days=CHURN_AFTER_DAYS)}


def unpack(sent: bytes) -> numpy.ndarray:
    """Decodes PostgreSQL's binary array format: a header of five integers, then length and value of each element."""
    (dimensions,) = struct.unpack_from(">i", sent)
    assert dimensions == 1
    return numpy.frombuffer(sent, dtype=">i4", offset=20)[1::2].astype(numpy.int64)
