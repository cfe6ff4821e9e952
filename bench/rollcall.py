"""Runs Rollcall: the release binary by its command line, and a client over HTTP."""

import base64
import http.client
import json
import os
import re
import subprocess
import time
import urllib.parse
from pathlib import Path

HOSPITAL, PASSWORD = "BENCH", "correct horse"
SIGN_IN = "mutation ($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }"
HEADERS = {"Content-Type": "application/json"}
# Higher than the load, so that rate limits do not affect the results.
RATES = {"ROLLCALL_REQUESTS_PER_SECOND": "10000000", "ROLLCALL_REQUESTS_PER_SECOND_PER_ADDRESS": "10000000"}


class Installation:
    """Commands of the binary on one database."""

    def __init__(self, binary: Path, folder: Path, name: str, url: str):
        self.binary, self.folder, self.name = binary, folder, name
        settings = {"ROLLCALL_DATABASE_URL": url, "ROLLCALL_KEY_FILE": str(folder / f"{name}.key")}
        self.environment = {**os.environ, **RATES, **settings}

    def run(self, *arguments: str, said: str = "") -> str:
        done = subprocess.run(
            [self.binary, *arguments], input=said, capture_output=True, text=True, env=self.environment, cwd=self.folder
        )
        if done.returncode:
            raise RuntimeError(f"rollcall {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def make(self) -> None:
        self.run("migrate")

    def add_hospital(self, code: str, patients: Path, visits: Path) -> dict[str, float]:
        """Adds a hospital and imports its files. Returns the duration in seconds of each import."""
        self.run("hospital", "add", "--code", code, "--name", code, "--time-zone", "Asia/Seoul")
        for login in ["reader", "writer"]:
            staff = ["--hospital", code, "--login", login, "--name", login, "--role", "admin"]
            self.run("staff", "add", *staff, said=PASSWORD)
        took = {}
        for kind, file in [("patients", patients), ("visits", visits)]:
            begun = time.monotonic()
            said = self.run("import", kind, "--hospital", code, str(file))
            took[kind] = time.monotonic() - begun
            if "inserted, 0 changed, 0 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty" not in said:
                raise RuntimeError(f"the import of {kind} said: {said}")
        return took


class Server:
    """A server with the default log level; its log is discarded."""

    def __init__(self, installation: Installation):
        command = [installation.binary, "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=installation.environment,
            cwd=installation.folder,
        )
        said = self.process.stdout.readline()
        addresses = [word for word in said.split() if word.startswith("http://")]
        if not addresses:
            self.stop()
            raise RuntimeError("rollcall serve did not start")
        self.base = addresses[0].removesuffix("/graphql")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def memory(self, what: str) -> int:
        """Resident memory in MiB: current (VmRSS) or peak (VmHWM)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) // 1024
        raise RuntimeError(f"/proc/…/status has no {what}")

    def refusals(self) -> dict[str, int]:
        """The number of responses with an error so far, by code."""
        lines = Connection(self.base).get("/metrics").splitlines()
        found = [re.fullmatch(r'rollcall_refusals_total\{code="(\w+)"\} (\d+)', line) for line in lines]
        return {match[1]: int(match[2]) for match in found if match}


class Connection:
    """A client with one HTTP connection, which is kept open."""

    def __init__(self, base: str, code: str | None = None, login: str = "reader"):
        self.http = http.client.HTTPConnection(urllib.parse.urlsplit(base).netloc, timeout=120)
        self.headers = dict(HEADERS)
        self.account = {"hospital": code, "login": login, "password": PASSWORD}
        if code:
            self.sign_in()

    def sign_in(self) -> None:
        """Renews the access token, which is valid for 15 minutes."""
        said = self.ask(SIGN_IN, {"input": self.account})
        self.token = said["signIn"]["session"]["accessToken"]
        self.headers["Authorization"] = f"Bearer {self.token}"

    def send(self, body: bytes) -> bytes:
        """Sends a request and reads the response; this is what is timed."""
        self.http.request("POST", "/graphql", body, self.headers)
        return self.http.getresponse().read()

    def get(self, path: str) -> str:
        self.http.request("GET", path)
        return self.http.getresponse().read().decode()

    def ask(self, query: str, variables: dict | None = None) -> dict:
        return data_of(self.send(body(query, variables)), query)


def body(query: str, variables: dict | None = None) -> bytes:
    return json.dumps({"query": query, "variables": variables or {}}).encode()


def data_of(answer: bytes, query: str) -> dict:
    read = json.loads(answer)
    if read.get("errors"):
        raise RuntimeError(f"{query}: {json.dumps(read['errors'][:3])}")
    return read["data"]


def number(text: str) -> int:
    """The number in an id, which is a letter for the type followed by the number in big-endian bytes, in Base64."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[1:], "big")
