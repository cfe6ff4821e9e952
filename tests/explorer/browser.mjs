// Drives the explorer of a running server in headless Chromium.
//
//   BASE_URL=http://127.0.0.1:8080 HOSPITAL=… LOGIN=… PASSWORD=… node browser.mjs
//
// CHROMIUM names the browser (/usr/bin/chromium); SCREENSHOT names a PNG to write of an open list.
// The account has to see rows in full, and the hospital to have visits.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { BASE_URL, HOSPITAL, LOGIN, PASSWORD, CHROMIUM = "/usr/bin/chromium", SCREENSHOT } = process.env;
for (const [name, value] of Object.entries({ BASE_URL, HOSPITAL, LOGIN, PASSWORD })) {
  assert(value, `${name} is not set`);
}
const { origin } = new URL(BASE_URL);
const address = new URL("graphiql", BASE_URL).href;

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(20_000);

const foreign = [];
await context.route("**/*", (route) => {
  const url = route.request().url();
  if (new URL(url).origin === origin) return route.continue();
  foreign.push(url);
  return route.abort();
});

const complaints = [];
// What the browser itself logs of an answer's status: a refused sign-in, a server without a hint.
const expected = /^Failed to load resource/;
page.on("console", (message) => {
  const answer = expected.test(message.text()) && /\/(graphql|graphiql\/hint\.json)$/.test(message.location().url);
  if (/error|warning/.test(message.type()) && !answer) complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));
await page.exposeFunction("complain", (text) => complaints.push(text));
await page.addInitScript(() => {
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
    globalThis.complain(`${violatedDirective} forbids ${blockedURI}`);
  });
});

const tokens = new Set();
page.on("request", (request) => {
  const token = request.headers().authorization?.replace("Bearer ", "");
  if (token) tokens.add(token);
});

let passed = 0;
let failed = 0;
async function check(name, test) {
  try {
    await test();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}\n      ${String(error?.message ?? error).replaceAll("\n", "\n      ")}`);
  }
}

const tab = (name) => page.getByTitle(name, { exact: true });

/** Opens a sample tab, presses the run button and gives the answer's data, once it is to be seen. */
async function run(name) {
  await tab(name).click();
  const operation = new RegExp(` ${name}[ (]`);
  const answer = page.waitForResponse((response) => {
    return response.url() === `${origin}/graphql` && operation.test(response.request().postData() ?? "");
  });
  await page.getByRole("button", { name: /^Execute query/ }).click();
  const { data, errors } = await (await answer).json();
  assert.equal(errors, undefined, JSON.stringify(errors));
  await page.locator(".graphiql-response .view-lines", { hasText: '"data"' }).waitFor();
  return data;
}

async function signIn(password) {
  await page.getByLabel("Hospital code").fill(HOSPITAL);
  await page.getByLabel("Login").fill(LOGIN);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

await check("the page comes with a strict policy, its files compressed and for keeps", async () => {
  const files = [];
  const collect = (response) => files.push(response);
  page.on("response", collect);
  const response = await page.goto(address);
  await page.getByLabel("Password").waitFor();
  page.off("response", collect);
  assert.match(response.headers()["content-security-policy"], /default-src 'self'.*frame-ancestors 'none'/);
  assert.equal(response.headers()["cache-control"], "no-cache");
  const assets = files.filter((file) => file.url().includes("/graphiql/assets/"));
  assert(assets.length >= 2, `${assets.length} files`);
  for (const asset of assets) {
    assert.match(asset.headers()["cache-control"], /immutable/, asset.url());
    assert.match(asset.headers()["content-encoding"], /^(br|gzip)$/, asset.url());
  }
});

await check("a wrong password is refused with a message", async () => {
  await signIn(`${PASSWORD}x`);
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.notEqual((await alert.innerText()).trim(), "");
  assert.equal(await tab("YearOverview").count(), 0);
});

await check("the form signs in and GraphiQL opens with its sample tabs", async () => {
  await signIn(PASSWORD);
  for (const name of ["YearOverview", "ListUnderANumber", "PatientHistory", "SnapshotById", "CohortById", "Explain", "Parts", "Retention", "Changes", "DayAtTheDesk", "Booking", "RecallLists", "LiveNumbers"]) {
    await tab(name).waitFor();
  }
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  assert.equal(await page.getByLabel("Password").count(), 0);
});

await check("a year's overview shows twelve months and their total", async () => {
  const { statistics } = await run("YearOverview");
  assert.equal(statistics.buckets.length, 12);
  assert(statistics.total.newPatients.patientCount > 0, "no new patients");
  const sum = statistics.buckets.reduce((sum, bucket) => sum + bucket.newPatients.patientCount, 0);
  assert.equal(sum, statistics.total.newPatients.patientCount);
});

let cohort;
await check("the list under a number is as long as the number", async () => {
  const { statistics } = await run("ListUnderANumber");
  cohort = statistics.bucket.cohort;
  assert(cohort.patientCount > 0, "nobody in the list");
  assert.equal(cohort.patients.totalCount, cohort.patientCount);
  assert.equal(cohort.patients.edges.length, Math.min(10, cohort.patientCount));
  assert(cohort.patients.edges.every(({ node }) => node.chartNo), "a patient without a chart number");
  if (SCREENSHOT) await page.screenshot({ path: SCREENSHOT });
});

await check("one patient's history lists visits", async () => {
  const { patients } = await run("PatientHistory");
  const [patient] = patients.nodes;
  assert(patient.visits.totalCount >= patient.visits.nodes.length);
  assert(patient.visits.nodes.length > 0, "no visits");
});

await check("a patient is explained", async () => {
  const { statisticsSnapshot } = await run("Explain");
  assert.equal(statisticsSnapshot.explain.bucket.cohorts.length, 8);
  assert(statisticsSnapshot.explain.bucket.cohorts.some(({ included }) => included), "in no list");
});

await check("the parts of a list add up to it", async () => {
  const { cohort } = await run("Parts");
  const sum = (parts, count) => parts.reduce((sum, part) => sum + part.cohort[count], 0);
  assert(cohort.patientCount > 0 && cohort.byAge.length > 1, JSON.stringify(cohort));
  assert.equal(sum(cohort.bySex, "patientCount"), cohort.patientCount);
  assert.equal(sum(cohort.byAge, "patientCount"), cohort.patientCount);
  assert.equal(sum(cohort.byDoctor, "visitCount"), cohort.visitCount);
});

await check("retention has a row for each month", async () => {
  const { retention } = await run("Retention");
  assert.equal(retention.rows.length, 12);
  assert(retention.rows.some(({ cells }) => cells.some(({ returned }) => returned.patientCount > 0)), "nobody returned");
  for (const { newPatients, cells } of retention.rows) {
    assert(cells.every(({ returned }) => returned.patientCount <= newPatients.patientCount));
  }
});

await check("the changes between two snapshots have reasons", async () => {
  const { statistics } = await run("Changes");
  const { changedCohorts } = statistics.changes.total;
  assert(changedCohorts.length > 0, "nothing changed");
  assert(changedCohorts.every(({ left }) => left.edges.every(({ reasons }) => reasons.length > 0)));
});

await check("a day at the desk has bookings, a waiting room and tentative ones", async () => {
  const { visitsOn } = await run("DayAtTheDesk");
  const times = visitsOn.visits.map(({ scheduledAt }) => scheduledAt).filter(Boolean);
  assert.deepEqual(times, [...times].sort());
  assert(visitsOn.visits.some(({ checkedInAt }) => checkedInAt), "an empty waiting room");
});

await check("a free time is booked", async () => {
  const { recordVisit } = await run("Booking");
  assert.equal(recordVisit.visit.status, "BOOKED");
});

await check("recall lists are counted", async () => {
  const { recallLists } = await run("RecallLists");
  for (const list of recallLists.nodes) {
    const sum = list.outcomes.reduce((sum, { patientCount }) => sum + patientCount, 0);
    assert.equal(sum, list.patientCount);
    assert.equal(list.next.totalCount, list.patientCount);
  }
});

await check("a live number changes while it is looked at", async () => {
  await tab("LiveNumbers").click();
  await page.getByRole("button", { name: /^Execute query/ }).click();
  const shown = page.locator(".graphiql-response .view-lines");
  const count = async () => /"visitCount":\s*(\d+)/.exec((await shown.innerText()).replaceAll("\u00a0", " "))?.[1];
  await shown.getByText("visitCount").first().waitFor();
  const before = Number(await count());
  const [token] = tokens;
  const post = async (query, variables) => {
    const response = await fetch(`${origin}/graphql`, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    assert.equal(errors, undefined, JSON.stringify(errors));
    return data;
  };
  const { hospital, patients } = await post("{ hospital { today } patients(first: 1) { nodes { id } } }");
  const input = { patientId: patients.nodes[0].id, date: hospital.today, status: "COMPLETED" };
  await post("mutation ($input: RecordVisitInput!) { recordVisit(input: $input) { visit { id } } }", { input });
  const deadline = Date.now() + 10_000;
  while (Number(await count()) === before && Date.now() < deadline) await page.waitForTimeout(100);
  assert.equal(Number(await count()), before + 1);
  await page.getByRole("button", { name: /^Stop/ }).click();
});

await check("a snapshot is found again by its id", async () => {
  const { statisticsSnapshot } = await run("SnapshotById");
  assert.equal(statisticsSnapshot.buckets.length, 12);
});

await check("a cohort is found again by its id, with the same list", async () => {
  const { node } = await run("CohortById");
  assert.equal(node.patientCount, cohort.patientCount);
  const ids = ({ patients }) => patients.edges.map((edge) => edge.node.id);
  assert.deepEqual(ids(node), ids(cohort));
});

await check("a query is prettified", async () => {
  await page.getByRole("button", { name: /^Prettify/ }).click();
  // On a line of its own now.
  await page.locator(".graphiql-query-editor .view-line").getByText("hasNextPage", { exact: true }).waitFor();
});

await check("the documentation shows descriptions", async () => {
  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  const docs = page.locator(".graphiql-doc-explorer");
  await docs.getByText("Cohort", { exact: true }).first().click();
  await docs.locator(".graphiql-doc-explorer-title", { hasText: "Cohort" }).waitFor();
  const description = await docs.locator(".graphiql-markdown-description").first().innerText();
  assert(description.trim().length > 10, `“${description}”`);
});

await check("the browser keeps no token, no query and no patient", async () => {
  assert(tokens.size > 0, "no token was seen");
  const kept = await page.evaluate(async () => ({
    local: Object.keys(localStorage).filter((key) => key !== "graphiql:theme"),
    session: Object.keys(sessionStorage),
    databases: await indexedDB.databases(),
    caches: await caches.keys(),
    cookie: document.cookie,
    address: location.href,
  }));
  const nothing = { local: [], session: [], databases: [], caches: [], cookie: "", address };
  assert.deepEqual(kept, nothing);
  assert.deepEqual(await context.cookies(), []);
});

await check("signing out leads back to the form and leaves nothing behind", async () => {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByText("You are signed out.").waitFor();
  assert.equal(await page.getByLabel("Password").inputValue(), "");
  assert.equal(await tab("YearOverview").count(), 0);
});

await check("no other host was asked for anything", () => assert.deepEqual(foreign, []));
await check("the console shows no error and no breach of the policy", () => assert.deepEqual(complaints, []));

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
