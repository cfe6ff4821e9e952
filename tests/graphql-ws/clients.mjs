// Runs the subscription clients graphql-ws, Apollo and urql, unchanged, against the server at BASE_URL. The account may record visits.
import assert from "node:assert/strict";
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Client, fetchExchange, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const { BASE_URL, HOSPITAL, LOGIN, PASSWORD } = process.env;
const url = `${BASE_URL}/graphql`;
const liveUrl = url.replace(/^http/, "ws");

async function post(query, variables, token) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined, JSON.stringify(errors));
  return data;
}

const SIGN_IN = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
const signedIn = await post(SIGN_IN, { input: { hospital: HOSPITAL, login: LOGIN, password: PASSWORD } });
const token = signedIn.signIn.session.accessToken;
const { hospital, patients } = await post(
  "{ hospital { today } patients(first: 1) { nodes { id } } }",
  undefined,
  token,
);
const day = hospital.today;

/** Changes the numbers of today. */
async function recordVisit() {
  const query = "mutation ($input: RecordVisitInput!) { recordVisit(input: $input) { visit { id } } }";
  await post(query, { input: { patientId: patients.nodes[0].id, date: day, status: "COMPLETED" } }, token);
}

const LIVE = `subscription Live($range: DateRangeInput!) {
  statistics(period: DAY, range: $range) { total { visitors { visitCount } } }
}`;
const variables = { range: { from: day, to: day } };

/** Waits for what `subscribe` gets: the number at once, and one more after a visit. */
async function follow(subscribe) {
  const counts = [];
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`only ${counts} within 20 s`)), 20_000);
    const stop = subscribe((data) => {
      counts.push(data.statistics.total.visitors.visitCount);
      if (counts.length === 1) recordVisit().catch(reject);
      if (counts.length === 2) {
        clearTimeout(timer);
        setTimeout(() => {
          stop();
          resolve();
        });
      }
    }, reject);
  });
  assert.equal(counts[1], counts[0] + 1);
}

const options = {
  url: liveUrl,
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${token}` },
  retryAttempts: 0,
};

const checks = {
  async "graphql-ws follows a number"() {
    const client = createClient(options);
    await follow((next, error) =>
      client.subscribe({ query: LIVE, variables }, { next: ({ data }) => next(data), error, complete() {} }),
    );
    await client.dispose();
  },

  async "graphql-ws runs a query, and hears of errors"() {
    const client = createClient(options);
    const answers = [];
    for await (const answer of client.iterate({ query: "{ viewer { login } }" })) answers.push(answer);
    assert.deepEqual(answers, [{ data: { viewer: { login: LOGIN } } }]);
    await assert.rejects(
      (async () => {
        for await (const _ of client.iterate({ query: "subscription { nothing }" }));
      })(),
      (errors) => errors[0].extensions.code === "GRAPHQL_VALIDATION_FAILED",
    );
    await client.dispose();
  },

  async "graphql-ws is told that its token is wrong"() {
    const client = createClient({ ...options, connectionParams: { authorization: "Bearer nonsense" } });
    await assert.rejects(
      (async () => {
        for await (const _ of client.iterate({ query: "{ viewer { login } }" }));
      })(),
      ({ code }) => code === 4401,
    );
  },

  async "graphql-ws sends pings that renew the token"() {
    let socket;
    const pongs = [];
    const client = createClient({
      ...options,
      lazy: false,
      on: { connected: (opened) => (socket = opened), pong: (received) => received && pongs.push(received) },
      onNonLazyError() {},
    });
    while (!socket) await new Promise((resolve) => setTimeout(resolve, 20));
    socket.send(JSON.stringify({ type: "ping", payload: { authorization: `Bearer ${token}` } }));
    while (pongs.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await client.dispose();
  },

  async "Apollo Client follows a number"() {
    const live = createClient(options);
    const client = new ApolloClient({
      link: ApolloLink.split(
        ({ operationType }) => operationType === "subscription",
        new GraphQLWsLink(live),
        new HttpLink({ uri: url }),
      ),
      cache: new InMemoryCache(),
    });
    await follow((next, error) => {
      const subscription = client.subscribe({ query: gql(LIVE), variables }).subscribe({
        next: ({ data, error: failed }) => (failed ? error(failed) : next(data)),
        error,
      });
      return () => subscription.unsubscribe();
    });
    client.stop();
    await live.dispose();
  },

  async "urql follows a number"() {
    const live = createClient(options);
    const client = new Client({
      url,
      exchanges: [
        fetchExchange,
        subscriptionExchange({
          forwardSubscription: ({ query, variables }) => ({
            subscribe: (sink) => ({ unsubscribe: live.subscribe({ query: query ?? "", variables }, sink) }),
          }),
        }),
      ],
    });
    await follow((next, error) => {
      const subscription = client.subscription(LIVE, variables).subscribe(({ data, error: failed }) => {
        if (failed) error(failed);
        else if (data) next(data);
      });
      return () => subscription.unsubscribe();
    });
    await live.dispose();
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.error(`FAIL  ${name}\n      ${error?.message ?? JSON.stringify(error)}`);
  }
}
process.exit(failed > 0 ? 1 : 0);
