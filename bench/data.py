"""The hospital of all benchmarks: the same visits as `Data` in statistics/benches/core.rs."""

import csv
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

FIRST_DAY, LAST_DAY = date(2021, 1, 1), date(2025, 12, 31)
STATUSES = ["TENTATIVE", "BOOKED", "CHECKED_IN", "IN_PROGRESS", "COMPLETED", "ENDED", "CANCELED", "NO_SHOW"]
CHANNELS = ["WALK_IN", "PHONE", "APP", "WEB", "QR", "TABLET", "OTHER"]
BOOKED, COMPLETED, ENDED, CANCELED, NO_SHOW = (
    STATUSES.index(word) for word in ["BOOKED", "COMPLETED", "ENDED", "CANCELED", "NO_SHOW"]
)
GROWTH = 0.047
FAMILY = list("김이박최정강조윤장임")
GIVEN = ["서연", "민준", "지우", "하은", "도윤", "수빈", "현우", "예진", "성호", "유나"]


class Random:
    """The SplitMix64 generator, so that the data is the same on every machine."""

    MASK = (1 << 64) - 1

    def __init__(self, seed: int):
        self.state = seed

    def below(self, bound: int) -> int:
        self.state = self.state + 0x9E3779B97F4A7C15 & self.MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & self.MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & self.MASK
        return (z ^ z >> 31) * bound >> 64


@dataclass(frozen=True)
class Visit:
    id: int
    patient: int
    date: date
    minute: int | None
    status: int
    channel: int
    department: int
    doctor: int


def visits_of(visits: int) -> list[Visit]:
    """Visits by date. Their number grows slowly; one in five is a patient's first, the others are mostly of recent patients."""
    patients = visits // 5
    days = (LAST_DAY - FIRST_DAY).days + 1
    random = Random(42)
    rows: list[Visit] = []
    known = 0
    for offset in range(days):
        x = (offset + 1) / days
        up_to = round(visits * (x * (1 - GROWTH) + x * x * GROWTH))
        day = FIRST_DAY + timedelta(days=offset)
        while len(rows) < up_to:
            if known == 0 or (known < patients and random.below(visits) < patients):
                known += 1
                patient = known
            else:
                patient = known - random.below(known) * random.below(known) // known
            second = random.below(86_400)
            minute = second // 60 if random.below(10) < 7 else None
            n = random.below(100)
            status = COMPLETED if n < 80 else ENDED if n < 84 else NO_SHOW if n < 92 else CANCELED if n < 98 else BOOKED
            channel, department, doctor = random.below(7), random.below(12) + 1, random.below(40) + 1
            rows.append(Visit(len(rows) + 1, patient, day, minute, status, channel, department, doctor))
    return rows


def write_csv(rows: list[Visit], folder: Path) -> tuple[Path, Path]:
    """Writes files for `rollcall import`: patients in the order of their numbers, and visits."""
    random = Random(7)
    patients, visits = folder / "patients.csv", folder / "visits.csv"
    with patients.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["chart_no", "name", "phone", "birth_date", "sex", "registered_on"])
        known = 0
        for row in rows:
            if row.patient <= known:
                continue
            known = row.patient
            name = FAMILY[random.below(10)] + GIVEN[random.below(10)]
            phone = f"010-{2000 + random.below(3000)}-{random.below(10_000):04}"
            born = date(1940, 1, 1) + timedelta(days=random.below(80 * 365))
            out.writerow([f"{known:07}", name, phone, born, ["FEMALE", "MALE"][random.below(2)], row.date])
    with visits.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["visit_no", "chart_no", "date", "scheduled_at", "status", "department", "doctor", "channel"])
        for row in rows:
            time = "" if row.minute is None else f"{row.date}T{row.minute // 60:02}:{row.minute % 60:02}"
            out.writerow(
                [f"V{row.id}", f"{row.patient:07}", row.date, time, STATUSES[row.status]]
                + [f"Department {row.department}", f"Doctor {row.doctor}", CHANNELS[row.channel]]
            )
    return patients, visits
