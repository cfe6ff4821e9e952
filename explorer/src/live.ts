// Subscriptions, over one WebSocket that is open while there are any.
import type { ExecutionResult } from "graphql";
import { createClient } from "graphql-ws";
import { accessToken, MARGIN_MS, type Request } from "./session";

const client = createClient({
  url: new URL("graphql", location.href.replace(/^http/, "ws")).href,
  connectionParams: async () => ({ authorization: `Bearer ${await accessToken()}` }),
  on: { opened: (socket) => void renew(socket as WebSocket) },
});

/** The server closes a connection whose token expires, so each new token is sent to it. */
async function renew(socket: WebSocket) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, MARGIN_MS / 2));
    if (socket.readyState !== WebSocket.OPEN) return;
    const payload = { authorization: `Bearer ${await accessToken()}` };
    socket.send(JSON.stringify({ type: "ping", payload }));
  }
}

/** The answers of a subscription. */
export function subscribe({ query, variables, operationName }: Request) {
  const answers = client.iterate({ query, variables: variables as Record<string, unknown>, operationName });
  // Errors are what the server sent, which GraphiQL takes, too.
  return answers as AsyncIterable<ExecutionResult>;
}
