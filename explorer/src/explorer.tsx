// GraphiQL for the signed-in user, with the sample tabs.
import "./workers";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "graphiql/graphiql.css";
import "monaco-graphql/esm/lite.js"; // loaded here, since GraphiQL would load it only when shown
import "monaco-graphql/esm/monaco-editor.js";
import type { Fetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { getOperationAST } from "graphql";
import { useState } from "react";
import { subscribe } from "./live";
import type { Sample } from "./samples";
import { request, signOut, type Viewer } from "./session";

const fetcher: Fetcher = ({ operationName, ...params }, options) => {
  // Right after switching tabs, GraphiQL still sends the other tab's operation name.
  const known = new RegExp(`\\b(query|mutation|subscription)\\s+${operationName}\\b`).test(params.query);
  const body = known ? { ...params, operationName } : params;
  const operation = options?.documentAST && getOperationAST(options.documentAST, body.operationName);
  return operation?.operation === "subscription" ? subscribe(body) : request(body, options?.headers);
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
