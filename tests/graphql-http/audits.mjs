// Runs the audits of GraphQL over HTTP against the server at BASE_URL, signed in. Each has to pass, also those that the
// specification only recommends.
import { serverAudits } from "graphql-http";

const { BASE_URL, HOSPITAL, LOGIN, PASSWORD } = process.env;
const url = `${BASE_URL}/graphql`;

const query = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }";
const variables = { input: { hospital: HOSPITAL, login: LOGIN, password: PASSWORD } };
const signedIn = await fetch(url, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ query, variables }),
});
const token = (await signedIn.json()).data.signIn.session.accessToken;

const fetchFn = (input, init = {}) => {
  const headers = new Headers(init.headers);
  headers.set("Authorization", `Bearer ${token}`);
  return fetch(input, { ...init, headers });
};

const audits = serverAudits({ url, fetchFn });
let failed = 0;
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status !== "ok") {
    failed += 1;
    console.error(`${result.status}: ${audit.id} ${audit.name}: ${result.reason}`);
  }
}
console.log(`${audits.length - failed} of ${audits.length} audits of GraphQL over HTTP pass`);
process.exitCode = failed > 0 || audits.length === 0 ? 1 : 0;
