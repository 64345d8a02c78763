"""A stand-in for S3 on a local port: one bucket, in memory, that checks every signature (SigV4)."""

import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

KEY, SECRET, REGION, BUCKET = "AKIDTEST", "secret-of-the-test", "eu-central-1", "board"


@dataclass
class S3:
    """The bucket; ``refused`` are requests whose signature was wrong."""

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }


def signature(method: str, target: str, headers: dict[str, str], authorization: str) -> str:
    """What the signature of a request has to be, after AWS's description of version 4."""
    parts = dict(p.strip().split("=", 1) for p in authorization.partition(" ")[2].split(","))
    signed = parts["SignedHeaders"].split(";")
    url = urlsplit(target)
    names = sorted(name if "=" in name else f"{name}=" for name in url.query.split("&") if name)
    query = "&".join(names)
    canonical = "\n".join(
        (
            method,
            quote(unquote(url.path), safe="/-_.~"),
            query,
            *(f"{name}:{headers[name].strip()}" for name in signed),
            "",
            parts["SignedHeaders"],
            headers["x-amz-content-sha256"],
        )
    )
    _, day, region, service, _ = parts["Credential"].split("/")
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            headers["x-amz-date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    key = f"AWS4{SECRET}".encode()
    for step in (day, region, service, "aws4_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the bucket that its server carries."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    @property
    def s3(self) -> S3:
        found: S3 = self.server.s3  # set by running_s3
        return found

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        given = headers.get("authorization", "")
        wanted = signature(self.command, self.path, headers, given) if given else ""
        if wanted and given.endswith(f"Signature={wanted}"):
            self._act(unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/"), body)
        else:
            self.s3.refused.append(f"{self.command} {self.path}")
            self._answer(403)

    def _act(self, key: str, body: bytes) -> None:
        objects = self.s3.objects
        etag = {"ETag": '"x"', "Last_Modified": "Wed, 21 Oct 2026 07:28:00 GMT"}
        if self.command == "PUT":
            objects[key] = body
            self._answer(200, **etag)
        elif self.command == "POST":
            keys = [unescape(found) for found in re.findall(r"<Key>(.*?)</Key>", body.decode())]
            for gone in keys:
                objects.pop(gone, None)
            told = "".join(f"<Deleted><Key>{escape(k)}</Key></Deleted>" for k in keys)
            self._answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())
        elif key not in objects:
            self._answer(404)
        elif self.command == "HEAD":
            self._answer(200, Content_Length=str(len(objects[key])), **etag)
        else:
            self._answer(200, objects[key], **etag)

    do_GET = do_PUT = do_HEAD = do_POST = _serve  # noqa: N815  # names of the base class


@contextmanager
def running_s3() -> Iterator[S3]:
    """A bucket for the length of the block."""
    s3 = S3()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.s3 = s3  # read by Handler
    s3.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield s3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
