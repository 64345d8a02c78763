"""Requests to addresses of users' choice reach the outside and nothing else."""

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from resolvers.ports import OutboundAnswer
from server.outbound import OutboundHttp, address_refusal
from tests.support.receivers import Receiver, a_receiver

LOCAL = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "100.64.0.1", "100.127.255.255", "::1", "fc00::1", "fdff::1", "::ffff:127.0.0.1",
    "::ffff:10.1.2.3", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2002:a00:1::",
    "::ffff:0:192.168.0.1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3",  # noqa: S104  # connected to, not bound
    "169.254.169.254", "169.254.0.1", "192.0.0.192", "192.0.2.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "100.100.100.200", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "2001:db8::1", "2001::1", "100::1", "fd00:ec2::254", "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "64:ff9b:1::1", "::ffff:0.0.0.0", "not an address",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "9.9.9.9", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1",
          "2606:4700::1111", "::ffff:9.9.9.9", "64:ff9b::909:909"]  # fmt: skip


@pytest.mark.parametrize("address", [*LOCAL, *NEVER])
def test_what_is_not_public_is_refused(address: str) -> None:
    assert address_refusal(address, allow_local=False) is not None


@pytest.mark.parametrize("address", NEVER)
def test_what_is_refused_even_where_this_machine_is_allowed(address: str) -> None:
    assert address_refusal(address, allow_local=True) is not None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not_refused(address: str) -> None:
    assert address_refusal(address, allow_local=False) is None


@pytest.mark.parametrize("address", LOCAL)
def test_the_operator_may_allow_this_machine(address: str) -> None:
    assert address_refusal(address, allow_local=True) is None


class Names:
    """A name server: the answers of a name, one after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def outbound(
    names: Names | None = None,
    *,
    allow_local: bool = True,
    verify: ssl.SSLContext | None = None,
) -> AsyncIterator[OutboundHttp]:
    made = OutboundHttp(allow_local=allow_local, resolve=names, verify=verify)
    yield made
    await made.aclose()


async def post(
    http: OutboundHttp, url: str, *, seconds: float = 5.0, body: bytes = b"{}"
) -> OutboundAnswer:
    return await http.post(url, headers={"X-One": "1"}, body=body, seconds=seconds)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.1:{port}/",
        "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://0177.0.0.1:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/", "http://[::1]:{port}/", "http://0.0.0.0:{port}/",
        "http://0:{port}/", "http://127.0.0.1:{port}#@9.9.9.9/", "http://9.9.9.9@127.0.0.1:{port}/",
    ],
)  # fmt: skip
async def test_no_spelling_of_this_machine_is_reached(url: str) -> None:
    async with a_receiver() as receiver, outbound(allow_local=False) as http:
        address = url.format(port=receiver.port)
        assert await http.refusal(address) is not None
        answer = await post(http, address)
        assert answer.status is None
        assert (answer.error or "").startswith("refused: ")
        assert receiver.connections == 0


async def test_a_name_that_changes_its_address_is_asked_once_and_held_to_it() -> None:
    """DNS rebinding: the first answer is checked, a second one is never asked for."""
    async with a_receiver() as receiver:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with outbound(names) as http:
            answer = await post(http, f"http://hooks.test:{receiver.port}/a?b=c")
        assert answer.status == 200
        assert names.asked == ["hooks.test"]
        (received,) = receiver.received
        assert received.target == "/a?b=c"
        assert received.headers["host"] == f"hooks.test:{receiver.port}"
        assert received.headers["x-one"] == "1"
        async with outbound(names) as http:
            again = await post(http, f"http://hooks.test:{receiver.port}/")
        assert again.error == "refused: 169.254.169.254 is not a public address"


async def test_one_forbidden_address_among_many_is_enough() -> None:
    async with a_receiver() as receiver:
        names = Names(["9.9.9.9", "127.0.0.1"])
        async with outbound(names, allow_local=False) as http:
            answer = await post(http, f"http://hooks.test:{receiver.port}/")
        assert (answer.error or "").startswith("refused: 127.0.0.1")
        assert receiver.connections == 0


async def test_the_next_address_is_tried_when_one_does_not_listen() -> None:
    async with a_receiver() as receiver:
        async with outbound(Names(["127.0.0.3", "127.0.0.1"])) as http:
            answer = await post(http, f"http://hooks.test:{receiver.port}/")
        assert answer.status == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers_and_not_followed(status: int) -> None:
    async with a_receiver() as secret, a_receiver() as receiver, outbound() as http:
        to = f"Location: {secret.url}\r\n"
        receiver.answers(f"HTTP/1.1 {status} X\r\n{to}Content-Length: 0\r\n\r\n".encode())
        answer = await post(http, receiver.url)
        assert answer.status == status
        assert secret.connections == 0


async def test_no_proxy_no_cookie_no_connection_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_receiver() as proxy, a_receiver() as receiver, outbound() as http:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        receiver.answers(cookie, cookie)
        await post(http, receiver.url)
        await post(http, receiver.url)
        assert proxy.connections == 0
        assert receiver.connections == 2
        assert "cookie" not in receiver.received[1].headers


async def test_a_slow_receiver_is_left_after_the_time_allowed() -> None:
    async with a_receiver() as receiver, outbound() as http:

        async def hang(_: object) -> int:
            await asyncio.sleep(60)
            return 200

        receiver.reply = hang
        began = time.monotonic()
        answer = await post(http, receiver.url, seconds=0.3)
        assert time.monotonic() - began < 3
        assert (answer.status, answer.error) == (None, "no answer within 0.3 s")


async def test_an_endless_answer_is_cut() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with outbound() as http:
        answer = await post(http, f"http://127.0.0.1:{port}/")
    server.close()
    assert answer.status == 200
    assert answer.excerpt == b"x" * 1024


@pytest.mark.parametrize("reply", [None, b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX"])
async def test_broken_answers_are_told_in_words(reply: bytes | None) -> None:
    async with a_receiver() as receiver, outbound() as http:
        receiver.answers(reply)
        answer = await post(http, receiver.url)
        assert answer.status is None
        assert (answer.error or "").startswith("the exchange broke off")


async def test_nobody_listens() -> None:
    async with a_receiver() as receiver:
        url = receiver.url
    async with outbound() as http:
        assert ((await post(http, url)).error or "").startswith("no connection")


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), ("soon", None), ("-1", None), ("9" * 400, 999999999.0)]
)
async def test_retry_after_is_read(value: str, seconds: float | None) -> None:
    async with a_receiver() as receiver, outbound() as http:
        head = f"HTTP/1.1 503 X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        receiver.answers(head.encode())
        assert (await post(http, receiver.url)).retry_after == seconds


def _certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a certificate for a name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def test_over_tls_the_name_is_asked_for_and_proved(tmp_path: Path) -> None:
    served, trusts = _certificate(tmp_path, "hooks.test")
    asked: list[str | None] = []
    served.sni_callback = lambda _socket, name, _context: asked.append(name)

    async def reach(receiver: Receiver, name: str) -> OutboundAnswer:
        async with outbound(Names(["127.0.0.1"]), verify=trusts) as http:
            return await post(http, f"https://{name}:{receiver.port}/")

    async with a_receiver(tls=served) as receiver:
        assert (await reach(receiver, "hooks.test")).status == 200
        assert receiver.received[0].headers["host"] == f"hooks.test:{receiver.port}"
        other = await reach(receiver, "other.test")
        assert (other.error or "").startswith("no connection")
        assert asked == ["hooks.test", "other.test"]
        assert len(receiver.received) == 1
