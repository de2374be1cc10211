"""A hub of model repositories on 127.0.0.1, with the faults that a real one has."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000  # bytes from which on a file is redirected to the store of large files


@dataclasses.dataclass
class Hub:
    """The repositories of a hub and how it behaves.

    Attributes:
      files: (repository, file name) to content.
      gated: repositories whose terms nobody has accepted.
      token: what private repositories ask for; None: none is private.
      busy: whether it answers 429.
      cut: after how many bytes it breaks the next download of a large file; None: it does not.
      damage: whether it flips a bit of large files.
      requests: what was asked for, such as "HEAD /owner/name/resolve/main/config.json" or "GET /store/... bytes=9-".
      url: of the server.
    """

    files: dict[tuple[str, str], bytes]
    gated: frozenset[str] = frozenset()
    token: str | None = None
    busy: bool = False
    cut: int | None = None
    damage: bool = False
    requests: list[str] = dataclasses.field(default_factory=list)
    url: str = ""

    def answer(self, path: str, token: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        if self.busy:
            return 429, {}, b""
        if path.startswith("/store/"):
            assert not token, "the token of the hub was sent to another host"
            content = next(c for c in self.files.values() if hashlib.sha256(c).hexdigest() == path.rpartition("/")[2])
            return 200, {"ETag": '"store"'}, content
        repository, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        known = {repository for repository, _ in self.files}
        if self.token and token != f"Bearer {self.token}":
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repository not in known:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", "v1", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if (repository, name) not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        content = self.files[repository, name]
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest[:40]}"'}
        if len(content) < LARGE:
            return 200, headers, content
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        # On another host than the hub itself, to which the client must not send its token.
        return 302, headers | linked | {"Location": f"{self.url.replace('127.0.0.1', 'localhost')}/store/{digest}"}, b""


@contextlib.contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Runs the hub until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            status, headers, body = hub.answer(self.path, self.headers.get("Authorization", ""))
            large = self.path.startswith("/store/")
            if large and hub.damage:
                body = bytes([body[0] ^ 1]) + body[1:]
            if status == 200 and start:
                status, body = 206, body[int(start) :]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if large and hub.cut is not None:
                body, hub.cut = body[: hub.cut], None
                self.close_connection = True
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
