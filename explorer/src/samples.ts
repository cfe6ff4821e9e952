// The sample tabs. Each runs unchanged: dates and ids are queried once, after sign-in.
import { request } from "./session";

export interface Sample {
  query: string;
  variables: string;
}

const YEAR_OVERVIEW = `# A year by month. Each number is the length of a list;
# the next tab opens one of these lists.
query YearOverview($range: DateRangeInput!) {
  statistics(period: MONTH, range: $range) {
    asOf
    buckets {
      ...Numbers
    }
    total {
      ...Numbers
    }
  }
}

fragment Numbers on StatisticsBucket {
  start
  end
  complete
  newPatients { patientCount visitCount }
  returning { patientCount visitCount }
  churnSuspected { patientCount visitCount }
  noShow { patientCount visitCount }
  churnRate
  noShowRate
}
`;

const LIST_UNDER_A_NUMBER = `# The list behind a number: exactly the patients and visits
# that churnSuspected counted in the month of $day.
query ListUnderANumber($range: DateRangeInput!, $day: Date!) {
  statistics(period: MONTH, range: $range) {
    bucket(day: $day) {
      start
      end
      cohort(kind: CHURN_SUSPECTED) {
        id
        kind
        patientCount
        patients(
          first: 10
          orderBy: { field: LAST_VISIT, direction: DESC }
        ) {
          totalCount
          pageInfo { hasNextPage endCursor }
          edges {
            firstVisitDate
            lastVisitDate
            visitCount
            node { id chartNo name phone }
          }
        }
        visits(first: 10) {
          totalCount
          pageInfo { hasNextPage endCursor }
          edges {
            date
            status
            patientId
            node { channel department { name } doctor { name } }
          }
        }
      }
    }
  }
}
`;

const PATIENT_HISTORY = `# One patient's history: the latest visitor, or the first
# match of $search (a word of the name, chart number, phone).
query PatientHistory($search: String) {
  patients(
    first: 1
    orderBy: { field: LAST_VISIT, direction: DESC }
    filter: { search: $search }
  ) {
    totalCount
    nodes {
      chartNo
      name
      birthYear
      visitCount
      firstVisit { date }
      lastVisit { date }
      nextVisit { date status }
      visits(first: 20) {
        totalCount
        nodes {
          date
          status
          channel
          department { name }
          doctor { name }
        }
      }
    }
  }
}
`;

const SNAPSHOT_BY_ID = `# A snapshot opened by its id: the same numbers and lists,
# even if the data has changed since.
query SnapshotById($id: ID!) {
  statisticsSnapshot(id: $id) {
    id
    period
    range { from to }
    asOf
    computedAt
    revision
    definition { version churnAfterDays overdueAfterDays }
    buckets {
      start
      newPatients { patientCount }
      churnSuspected { patientCount }
    }
  }
}
`;

const COHORT_BY_ID = `# A cohort opened by its id: one list, without asking the
# question again.
query CohortById($id: ID!) {
  node(id: $id) {
    ... on Cohort {
      id
      kind
      patientCount
      visitCount
      digest
      patients(
        first: 10
        orderBy: { field: LAST_VISIT, direction: DESC }
      ) {
        totalCount
        pageInfo { hasNextPage endCursor }
        edges {
          firstVisitDate
          lastVisitDate
          visitCount
          node { id chartNo name }
        }
      }
    }
  }
}
`;

const DAY_AT_THE_DESK = `# A day at the desk, by time. nextStatuses is what you may
# make of a visit now.
query DayAtTheDesk($day: Date!) {
  visitsOn(date: $day) {
    date
    revision
    visits {
      id
      version
      scheduledAt
      endsAt
      status
      expiresAt
      checkedInAt
      nextStatuses
      patient { chartNo name }
      doctor { name }
    }
  }
}
`;

const BOOKING = `# A booking, for a role that may book. SLOT_TAKEN names the
# doctor's next free times; send it twice to see.
mutation Booking($input: RecordVisitInput!) {
  recordVisit(input: $input) {
    visit {
      id
      version
      status
      scheduledAt
      endsAt
      patient { name }
      doctor { name }
    }
  }
}
`;

const EXPLAIN = `# Why a patient is, or is not, in the lists of a snapshot.
query Explain($id: ID!, $patientId: ID!, $day: Date!) {
  statisticsSnapshot(id: $id) {
    explain(patientId: $patientId) {
      patient { chartNo name }
      firstVisit { counted { date status } }
      lastVisit { counted { date status } }
      daysSilent
      bucket(day: $day) {
        cohorts { kind included rule text }
      }
    }
  }
}
`;

const CHANGES = `# What differs between two snapshots of a question, and why:
# here between the same question at two values of asOf.
query Changes($range: DateRangeInput!, $since: ID!) {
  statistics(period: MONTH, range: $range) {
    changes(since: $since) {
      before { asOf }
      after { asOf }
      total {
        changedCohorts {
          kind
          enteredCount
          leftCount
          left(first: 3) {
            edges {
              node { chartNo }
              reasons { kind text }
            }
          }
        }
      }
    }
  }
}
`;

const RECALL_LISTS = `# What came of each recall list: how many were called with what outcome,
# and how many came since, within 30, 60 and 90 days.
query RecallLists {
  recallLists(first: 20) {
    totalCount
    nodes {
      name
      createdAt
      closedAt
      patientCount
      leftOut { reason patientCount }
      outcomes { outcome patientCount }
      returnedCount
      returnRate
      within30: returnedWithin(days: 30)
      within60: returnedWithin(days: 60)
      within90: returnedWithin(days: 90)
      next: entries(first: 5) {
        totalCount
        nodes { outcome dueOn returnedOn patient { chartNo name phone } contacts { at outcome note } }
      }
    }
  }
}
`;

const LIVE_NUMBERS = `# Live: the numbers of a month by now, and again whenever they
# change. Run it, and record a visit in another tab.
subscription LiveNumbers($range: DateRangeInput!) {
  statistics(period: MONTH, range: $range) {
    asOf
    computedAt
    total {
      visitors { patientCount visitCount }
      newPatients { patientCount }
      noShow { patientCount }
      cancellations: cohort(kind: CANCELED) { visitCount }
    }
  }
}
`;

const PARTS = `# A list divided into parts: each part is a list that opens.
# Parts of patients add up to patientCount, those of visits to visitCount.
query Parts($id: ID!) {
  cohort(id: $id) {
    kind
    patientCount
    visitCount
    bySex: breakdown(by: SEX) { ...Part }
    byAge: breakdown(by: AGE_BAND) { ...Part }
    byDoctor: breakdown(by: DOCTOR) { ...Part }
  }
}

fragment Part on CohortPart {
  key
  label
  cohort { id patientCount visitCount }
}
`;

const RETENTION = `# Of the new patients of each month, who came in which month after:
# read along a row. Each cell is a list that opens.
query Retention($range: DateRangeInput!) {
  retention(period: MONTH, range: $range, horizon: 6) {
    asOf
    rows {
      start
      newPatients { patientCount }
      cells {
        offset
        rate
        complete
        returned { patientCount }
      }
    }
  }
}
`;

const LAST_DAY = `query LastDay($dates: DateRangeInput!) {
  visits(first: 1, orderBy: { field: DATE, direction: DESC }, filter: { dates: $dates }) { nodes { date } }
}`;

const IDS = `query Ids($range: DateRangeInput!) {
  statistics(period: MONTH, range: $range) {
    id
    buckets { start churnMature churnSuspected { id patientCount patients(first: 1) { nodes { id } } } }
  }
}`;

const EARLIER = `query Earlier($range: DateRangeInput!, $asOf: Date!) {
  statistics(period: MONTH, range: $range, asOf: $asOf) { id }
}`;

const DESK = `query Desk($slots: DateRangeInput!) {
  patients(first: 1) { nodes { id } }
  hospital { doctors { id slots(range: $slots, state: FREE) { starts } } }
}`;

interface LastDay {
  visits: { nodes: { date: string }[] };
}

interface Ids {
  statistics: {
    id: string;
    buckets: { start: string; churnMature: boolean; churnSuspected: Churned }[];
  };
}

interface Churned {
  id: string;
  patientCount: number;
  patients: { nodes: { id: string }[] };
}

interface Earlier {
  statistics: { id: string };
}

interface Desk {
  patients: { nodes: { id: string }[] };
  hospital: { doctors: { id: string; slots: { starts: string }[] }[] };
}

/** The tabs for a hospital where the date is `today`. */
export async function samples(today: string): Promise<Sample[]> {
  // In imported data the last visit may be long ago.
  const dates = { from: "1900-01-01", to: today };
  const last = await request<LastDay>({ query: LAST_DAY, variables: { dates } });
  const range = yearUpTo(last.data?.visits.nodes[0]?.date ?? today);

  const ids = await request<Ids>({ query: IDS, variables: { range } });
  const statistics = ids.data?.statistics;
  // The last month with suspected patients, if possible one in which every new patient had the time to come back.
  const months = statistics?.buckets ?? [];
  const populated = months.filter(({ churnSuspected }) => churnSuspected.patientCount > 0);
  const month = populated.findLast(({ churnMature }) => churnMature) ?? populated.at(-1) ?? months[0];

  const asOf = month?.start ?? range.from;
  const earlier = await request<Earlier>({ query: EARLIER, variables: { range, asOf } });
  const tomorrow = daysAfter(today, 1);
  const desk = await request<Desk>({ query: DESK, variables: { slots: { from: tomorrow, to: tomorrow } } });
  const doctor = desk.data?.hospital.doctors.find(({ slots }) => slots.length > 0);
  const input = {
    patientId: desk.data?.patients.nodes[0]?.id ?? "",
    doctorId: doctor?.id ?? null,
    scheduledAt: doctor?.slots[0]?.starts ?? `${tomorrow}T09:00:00Z`,
  };

  return [
    sample(YEAR_OVERVIEW, { range }),
    sample(LIST_UNDER_A_NUMBER, { range, day: month?.start ?? range.from }),
    sample(PATIENT_HISTORY, { search: null }),
    sample(SNAPSHOT_BY_ID, { id: statistics?.id ?? "" }),
    sample(COHORT_BY_ID, { id: month?.churnSuspected.id ?? "" }),
    sample(EXPLAIN, {
      id: statistics?.id ?? "",
      patientId: month?.churnSuspected.patients.nodes[0]?.id ?? input.patientId,
      day: month?.start ?? range.from,
    }),
    sample(PARTS, { id: month?.churnSuspected.id ?? "" }),
    sample(RETENTION, { range }),
    sample(CHANGES, { range, since: earlier.data?.statistics.id ?? "" }),
    sample(DAY_AT_THE_DESK, { day: today }),
    sample(BOOKING, { input }),
    sample(RECALL_LISTS, {}),
    sample(LIVE_NUMBERS, { range: { from: `${today.slice(0, 8)}01`, to: daysAfter(today, 31) } }),
  ];
}

function sample(query: string, variables: object): Sample {
  return { query, variables: JSON.stringify(variables, null, 2) };
}

/** The date so many days after another. */
function daysAfter(date: string, days: number): string {
  return new Date(Date.parse(`${date}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** The twelve calendar months up to that of the date. */
function yearUpTo(to: string): { from: string; to: string } {
  const [year = 0, month = 0] = to.split("-").map(Number);
  return { from: new Date(Date.UTC(year, month - 12, 1)).toISOString().slice(0, 10), to };
}
