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
# match of $search (part of the name, chart number, phone).
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

const LAST_DAY = `query LastDay($dates: DateRangeInput!) {
  visits(first: 1, orderBy: { field: DATE, direction: DESC }, filter: { dates: $dates }) { nodes { date } }
}`;

const IDS = `query Ids($range: DateRangeInput!) {
  statistics(period: MONTH, range: $range) {
    id
    buckets { start churnMature churnSuspected { id patientCount } }
  }
}`;

interface LastDay {
  visits: { nodes: { date: string }[] };
}

interface Ids {
  statistics: {
    id: string;
    buckets: { start: string; churnMature: boolean; churnSuspected: { id: string; patientCount: number } }[];
  };
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

  return [
    sample(YEAR_OVERVIEW, { range }),
    sample(LIST_UNDER_A_NUMBER, { range, day: month?.start ?? range.from }),
    sample(PATIENT_HISTORY, { search: null }),
    sample(SNAPSHOT_BY_ID, { id: statistics?.id ?? "" }),
    sample(COHORT_BY_ID, { id: month?.churnSuspected.id ?? "" }),
  ];
}

function sample(query: string, variables: object): Sample {
  return { query, variables: JSON.stringify(variables, null, 2) };
}

/** The twelve calendar months up to that of the date. */
function yearUpTo(to: string): { from: string; to: string } {
  const [year = 0, month = 0] = to.split("-").map(Number);
  return { from: new Date(Date.UTC(year, month - 12, 1)).toISOString().slice(0, 10), to };
}
