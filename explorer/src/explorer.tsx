// GraphiQL for the signed-in user, with the sample tabs.
import "./workers";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "graphiql/graphiql.css";
import "monaco-graphql/esm/lite.js"; // loaded here, since GraphiQL would load it only when shown
import "monaco-graphql/esm/monaco-editor.js";
import type { Fetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { type ExecutionResult, getOperationAST, parse } from "graphql";
import { useState } from "react";
import { subscribe } from "./live";
import type { Sample } from "./samples";
import { type Request, request, signOut, type Viewer } from "./session";

/** Whether a request subscribes. What does not parse is left to the server, which says why. */
function subscribes({ query, operationName }: Request): boolean {
  try {
    return getOperationAST(parse(query), operationName)?.operation === "subscription";
  } catch {
    return false;
  }
}

const fetcher: Fetcher = ({ operationName, ...params }, options) => {
  // Right after switching tabs, GraphiQL still has the other tab's operation name and document.
  const known = new RegExp(`\\b(query|mutation|subscription)\\s+${operationName}\\b`).test(params.query);
  const body = known ? { ...params, operationName } : params;
  if (subscribes(body)) return subscribe(body);
  // Errors are what the server sent, which GraphiQL takes, too.
  return request(body, options?.headers) as Promise<unknown> as Promise<ExecutionResult>;
};

/** GraphiQL would store queries, variables and tabs in the browser: only the theme may be stored. */
const THEME = "graphiql:theme";
const storage = {
  length: 0,
  getItem: (key: string) => (key === THEME ? localStorage.getItem(key) : null),
  setItem: (key: string, value: string) => {
    if (key === THEME) localStorage.setItem(key, value);
  },
  removeItem: (key: string) => localStorage.removeItem(key),
  clear: () => localStorage.removeItem(THEME),
};

export function Explorer({ viewer, tabs }: { viewer: Viewer; tabs: Sample[] }) {
  const [leaving, setLeaving] = useState(false);
  return (
    <div className="explorer">
      <header>
        <strong>Rollcall</strong>
        <span>{viewer.hospital.name}</span>
        <span className="who">
          {viewer.name} <small>{viewer.role}</small>
        </span>
        <button
          type="button"
          disabled={leaving}
          onClick={() => {
            setLeaving(true);
            void signOut();
          }}
        >
          Sign out
        </button>
      </header>
      <main>
        <GraphiQL
          fetcher={fetcher}
          storage={storage}
          plugins={[]} // no history
          showPersistHeadersSettings={false}
          defaultTabs={tabs}
          initialVariables={tabs[0]?.variables ?? ""} // GraphiQL ignores the first tab's own
          defaultEditorToolsVisibility="variables"
        >
          <GraphiQL.Logo>{null}</GraphiQL.Logo>
        </GraphiQL>
      </main>
    </div>
  );
}
