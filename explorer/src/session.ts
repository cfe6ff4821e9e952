// The session. Tokens are kept only in this module's memory: reloading the page signs out, and nothing stays on a shared
// computer.

export interface Viewer {
  login: string;
  name: string;
  role: string;
  hospital: { code: string; name: string; timeZone: string; today: string };
}

export interface Credentials {
  hospital: string;
  login: string;
  password: string;
}

/** A GraphQL over HTTP request. */
export interface Request {
  query: string;
  variables?: unknown;
  operationName?: string | null | undefined;
}

export interface Result<Data = Record<string, unknown>> {
  data?: Data | null;
  errors?: { message: string; extensions?: { code?: string } }[];
}

interface Session {
  accessToken: string;
  accessExpiresAt: string;
  refreshToken: string;
  viewer: Viewer;
}

const SESSION = `session {
  accessToken accessExpiresAt refreshToken
  viewer { login name role hospital { code name timeZone today } }
}`;

const SIGN_IN = `mutation SignIn($input: SignInInput!) { signIn(input: $input) { ${SESSION} } }`;
const REFRESH = `mutation Refresh($input: RefreshSessionInput!) { refreshSession(input: $input) { ${SESSION} } }`;
const SIGN_OUT = "mutation SignOut { signOut { signedOut } }";

/** An access token that expires sooner is refreshed before it is used. */
export const MARGIN_MS = 60_000;

let session: Session | null = null;
let refreshing: Promise<void> | null = null;

export async function signIn(input: Credentials): Promise<Viewer> {
  const result = await post<{ signIn: { session: Session } }>({ query: SIGN_IN, variables: { input } });
  session = dataOf(result).signIn.session;
  return session.viewer;
}

export async function signOut(): Promise<never> {
  await request({ query: SIGN_OUT }).catch(() => {}); // sign out here even if the server cannot be reached
  return leave("signed-out");
}

/** The session's access token; shows the sign-in form if the session has ended. */
export async function accessToken(): Promise<string> {
  if (!session) return leave("expired");
  if (Date.parse(session.accessExpiresAt) - Date.now() < MARGIN_MS) await refresh(session);
  return session.accessToken;
}

/** Sends a request with the session's token; shows the sign-in form if the session has ended. */
export async function request<Data>(body: Request, headers?: Record<string, string>): Promise<Result<Data>> {
  const send = async () => post<Data>(body, { ...headers, Authorization: `Bearer ${await accessToken()}` });
  const result = await send();
  if (!isUnauthenticated(result)) return result;
  if (!session) return leave("expired");
  await refresh(session);
  const again = await send();
  return isUnauthenticated(again) ? leave("expired") : again;
}

/** A refresh token can be used once, so concurrent callers share one refresh. */
function refresh({ refreshToken }: Session): Promise<void> {
  refreshing ??= exchange(refreshToken).finally(() => {
    refreshing = null;
  });
  return refreshing;
}

async function exchange(refreshToken: string): Promise<void> {
  const body = { query: REFRESH, variables: { input: { refreshToken } } };
  const result = await post<{ refreshSession: { session: Session } }>(body);
  if (isUnauthenticated(result)) return leave("expired");
  session = dataOf(result).refreshSession.session;
}

async function post<Data>(body: Request, headers?: Record<string, string>): Promise<Result<Data>> {
  const response = await fetch("graphql", {
    method: "POST",
    headers: {
      ...headers,
      Accept: "application/graphql-response+json",
      "Content-Type": "application/json",
    },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  return response.json().catch(() => {
    throw new Error(`The server answered with status ${response.status}.`);
  });
}

function dataOf<Data>({ data, errors }: Result<Data>): Data {
  if (!data) throw new Error(errors?.[0]?.message ?? "The server sent no data.");
  return data;
}

function isUnauthenticated({ errors }: Result<unknown>): boolean {
  return errors?.some(({ extensions }) => extensions?.code === "UNAUTHENTICATED") ?? false;
}

export type Leaving = "signed-out" | "expired";

/** Reloads the page, so that no data stays in memory. */
function leave(why: Leaving): Promise<never> {
  session = null;
  history.replaceState(null, "", `#${why}`);
  location.reload();
  return new Promise(() => {});
}
