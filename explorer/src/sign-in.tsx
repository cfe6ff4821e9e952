import { type FormEvent, useEffect, useRef, useState } from "react";
import type { Credentials } from "./session";

/** The accounts of a demo server; empty on other servers. */
interface Hint {
  hospital?: string;
  accounts?: { login: string; password: string; role: string }[];
}

interface Props {
  notice: string | undefined;
  onSignIn: (credentials: Credentials) => Promise<void>;
}

export function SignIn({ notice, onSignIn }: Props) {
  const form = useRef<HTMLFormElement>(null);
  const [hint, setHint] = useState<Hint>({});
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");

  useEffect(() => {
    fetch("graphiql/hint.json")
      .then((response) => (response.ok ? response.json() : {}))
      .then(setHint)
      .catch(() => {});
  }, []);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (busy) return;
    const data = new FormData(event.currentTarget);
    const value = (name: string) => String(data.get(name) ?? "");
    setBusy(true);
    setError("");
    try {
      await onSignIn({ hospital: value("hospital"), login: value("login"), password: value("password") });
    } catch (problem) {
      setBusy(false);
      setError(problem instanceof Error ? problem.message : String(problem));
      field("password")?.select();
    }
  }

  function field(name: string) {
    return form.current?.elements.namedItem(name) as HTMLInputElement | null | undefined;
  }

  function signInAs(credentials: Credentials) {
    for (const [name, value] of Object.entries(credentials)) {
      const input = field(name);
      if (input) input.value = value;
    }
    form.current?.requestSubmit();
  }

  return (
    <main className="sign-in">
      <h1>Rollcall explorer</h1>
      <p>Query the hospital’s statistics in GraphQL, and open the list behind any number.</p>
      {notice && !error && <p role="status">{notice}</p>}
      <form ref={form} onSubmit={submit}>
        <label htmlFor="hospital">Hospital code</label>
        <input id="hospital" name="hospital" autoComplete="organization" autoCapitalize="none" spellCheck={false} required autoFocus />
        <label htmlFor="login">Login</label>
        <input id="login" name="login" autoComplete="username" autoCapitalize="none" spellCheck={false} required />
        <label htmlFor="password">Password</label>
        <input id="password" name="password" type="password" autoComplete="current-password" required />
        {error && <p role="alert">{error}</p>}
        <button type="submit" disabled={busy}>
          {busy ? "Signing in…" : "Sign in"}
        </button>
      </form>
      {hint.accounts?.length ? (
        <section>
          <h2>Demo accounts</h2>
          <ul>
            {hint.accounts.map(({ login, password, role }) => (
              <li key={login}>
                <button
                  type="button"
                  disabled={busy}
                  onClick={() => signInAs({ hospital: hint.hospital ?? "", login, password })}
                >
                  {login} <small>{role}</small>
                </button>
              </li>
            ))}
          </ul>
        </section>
      ) : null}
      <footer>
        <a href="graphiql/licences.txt">Licences</a>
      </footer>
    </main>
  );
}
