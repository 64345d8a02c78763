"""A git server over HTTP with a password, for tests: git's own program behind a real socket."""

import base64
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

USERNAME = "git-user"
SECRET = "s3cret+/=:@ %word"


@dataclass
class GitServer:
    """``url(name)`` is the address of the bare repository ``root/name``.

    ``asked`` has the method, path and Authorization header of each request. With ``moved_to``,
    every request is sent on to that address.
    """

    root: Path
    port: int = 0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    moved_to: str | None = None
    api: Callable[[str, str, bytes, Mapping[str, str]], tuple[int, Any]] | None = None
    """Answers requests for JSON below ``/api``: method, path with query, body and headers."""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        return f"http://{self.host}/{name}"

    @property
    def authorized(self) -> int:
        """How many requests came with the right password."""
        return sum(header == _expected() for _, _, header in self.asked)


def _expected() -> str:
    return "Basic " + base64.b64encode(f"{USERNAME}:{SECRET}".encode()).decode()


@contextmanager
def a_git_server(root: Path) -> Iterator[GitServer]:  # noqa: C901  # one handler, in one place
    """Serve the bare repositories below a folder on 127.0.0.1."""
    found = GitServer(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def _serve(self) -> None:
            header = self.headers.get("Authorization")
            found.asked.append((self.command, self.path, header))
            body = self._body()
            if self.path.startswith("/api/") and found.api is not None:
                path = self.path.removeprefix("/api")
                status, value = found.api(self.command, path, body, dict(self.headers.items()))
                headers = {"Content-Type": "application/json; charset=utf-8"}
                self._answer(status, headers, json.dumps(value).encode())
            elif found.moved_to is not None:
                self._answer(302, {"Location": found.moved_to + self.path}, b"")
            elif header != _expected():
                challenge = {"WWW-Authenticate": 'Basic realm="git"'}
                self._answer(401, challenge, f"who is {header}?".encode())
            else:
                self._run(body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline().strip(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _run(self, body: bytes) -> None:
            parts = urlsplit(self.path)
            done = subprocess.run(
                ["git", "-c", "http.receivepack=true", "http-backend"],
                input=body,
                capture_output=True,
                check=False,
                env={
                    "PATH": "/usr/bin:/bin:/usr/local/bin",
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_CONFIG_GLOBAL": "/dev/null",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": parts.path,
                    "QUERY_STRING": parts.query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_USER": USERNAME,
                    "GIT_COMMITTER_NAME": "x",
                    "GIT_COMMITTER_EMAIL": "x@localhost",
                },
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if line)
            status = int(headers.pop("Status", "200").split(" ")[0])
            self._answer(status, headers, content)

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
