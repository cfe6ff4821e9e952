// Measures live numbers: how long a change in SQL takes to reach many subscribers, and what idle ones cost.
//
//   npm ci --prefix tests/graphql-ws
//   node bench/live.mjs ROLLCALL SUBSCRIBERS IDLE_SECONDS DATABASE_URL
//
// DATABASE_URL is an empty PostgreSQL database, which psql can reach. Two servers serve it; each has half of the subscribers.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(new URL("../tests/graphql-ws/package.json", import.meta.url));
const WebSocket = require("ws");

const [rollcall, subscribers, idleSeconds, database] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "rollcall-live-"));
const env = { ...process.env, ROLLCALL_DATABASE_URL: database, ROLLCALL_KEY_FILE: join(folder, "key"), ROLLCALL_LOG: "warn" };
const run = (args, input = "") => execFileSync(rollcall, args, { env, input, cwd: folder, stdio: ["pipe", "ignore", "inherit"] });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const PASSWORD = "correct horse";
run(["migrate"]);
run(["hospital", "add", "--code", "H1", "--name", "One", "--time-zone", "Asia/Seoul"]);
run(["staff", "add", "--hospital", "H1", "--login", "admin", "--name", "Ada", "--role", "admin"], PASSWORD);
const patients = Array.from({ length: 2_000 }, (_, number) => `${number},Patient ${number}`);
const visits = Array.from({ length: 20_000 }, (_, number) => {
  const day = new Date(Date.UTC(2025, 0, 1 + (number % 365))).toISOString().slice(0, 10);
  return `${number},${number % 2_000},${day},COMPLETED`;
});
for (const [kind, header, rows] of [["patients", "chart_no,name", patients], ["visits", "visit_no,chart_no,date,status", visits]]) {
  const file = join(folder, `${kind}.csv`);
  writeFileSync(file, `${header}\n${rows.join("\n")}\n`);
  run(["import", kind, "--hospital", "H1", file]);
}

async function serve() {
  const args = ["serve", "--listen", "127.0.0.1:0", "--max-connections-per-address", "20000"];
  const child = spawn(rollcall, args, { env, cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise((resolve) => child.stdout.once("data", (data) => resolve(String(data))));
  return { child, base: /http:\/\/[^ ]*?(?=\/graphql)/.exec(line)[0] };
}

async function signIn(base) {
  const query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
  const variables = { input: { hospital: "H1", login: "admin", password: PASSWORD } };
  const response = await fetch(`${base}/graphql`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  return (await response.json()).data.signIn.session.accessToken;
}

const QUERY = `subscription {
  statistics(period: MONTH, range: {from: "2025-01-01", to: "2025-12-31"}, asOf: "2025-12-31") {
    revision total { visitors { patientCount visitCount } } buckets { start newPatients { patientCount } visitors { visitCount } }
  }
}`;
const PER_SESSION = 32;
let arrived = () => {};

function subscribe(base, token) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    const send = (message) => socket.send(JSON.stringify(message));
    socket.on("open", () => send({ type: "connection_init", payload: { authorization: `Bearer ${token}` } }));
    socket.on("error", reject);
    socket.on("close", (code, reason) => code !== 1005 && console.error(`closed: ${code} ${reason}`));
    socket.on("message", (data) => {
      const { type } = JSON.parse(data);
      if (type === "connection_ack") send({ id: "1", type: "subscribe", payload: { query: QUERY } });
      if (type === "next") {
        resolve(socket);
        arrived();
      }
    });
  });
}

/** Resident memory in MiB, and the CPU time in seconds. */
function usage({ pid }) {
  const memory = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1] / 1024;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return { memory, cpu: (Number(fields[11]) + Number(fields[12])) / 100 };
}

async function statements(base) {
  const text = await (await fetch(`${base}/metrics`)).text();
  return Number(/^rollcall_database_statements_total (\d+)/m.exec(text)[1]);
}

const servers = [await serve(), await serve()];
try {
  const before = servers.map(({ child }) => usage(child).memory);
  const sockets = [];
  let token;
  for (let number = 0; number < Number(subscribers); number += 1) {
    const { base } = servers[number % 2];
    if (number % PER_SESSION === 0) token = await signIn(base);
    sockets.push(subscribe(base, token));
    if (sockets.length % 50 === 0) await Promise.all(sockets.slice(-50));
  }
  await Promise.all(sockets);
  await sleep(3_000);

  const took = [];
  for (let change = 0; change < 10; change += 1) {
    await sleep(1_500 + Math.random() * 1_000);
    let left = Number(subscribers);
    const all = new Promise((resolve) => {
      let started;
      arrived = () => {
        took.push(performance.now() - started);
        left -= 1;
        if (left === 0) resolve();
      };
      const status = change % 2 === 0 ? "CANCELED" : "COMPLETED";
      execFileSync("psql", [database, "-qc", `UPDATE visit SET status = '${status}' WHERE visit_no = '1'`]);
      started = performance.now();
    });
    await all;
  }
  arrived = () => {};
  took.sort((a, b) => a - b);
  const at = (share) => Math.round(took[Math.min(took.length - 1, Math.floor(share * took.length))]);
  console.log(`${subscribers} subscribers, 10 changes: ms from the commit to the client`);
  console.log(`  least ${at(0)}, median ${at(0.5)}, 95% ${at(0.95)}, 99% ${at(0.99)}, most ${at(1)}`);

  const start = await Promise.all(servers.map(async ({ child, base }) => ({ ...usage(child), statements: await statements(base) })));
  await sleep(Number(idleSeconds) * 1_000);
  for (const [place, { child, base }] of servers.entries()) {
    const now = usage(child);
    const cpu = ((now.cpu - start[place].cpu) / Number(idleSeconds)) * 100;
    const asked = ((await statements(base)) - start[place].statements) * (60 / Number(idleSeconds));
    const each = ((now.memory - before[place]) * 1024) / (Number(subscribers) / 2);
    console.log(`server ${place + 1}, idle: ${Math.round(now.memory)} MiB (${each.toFixed(1)} KiB a subscriber), ${cpu.toFixed(2)}% of a core, ${Math.round(asked)} statements a minute`);
  }
  for (const socket of sockets) (await socket).terminate();
} finally {
  for (const { child } of servers) child.kill();
  rmSync(folder, { recursive: true });
}
