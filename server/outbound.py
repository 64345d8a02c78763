"""Requests to addresses that users chose, closed against reaching this machine or its network.

A name is resolved once, every address it has is looked at, and the connection goes to one of
exactly these, under the name's ``Host`` and TLS name. No redirects, no proxies, no cookies, no
connection used twice, bounded in time and size.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from resolvers.ports import OutboundAnswer

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a name, as text; raises OSError."""

EXCERPT_BYTES: Final = 1_024
CONNECT_SECONDS: Final = 5.0
RESOLVE_SECONDS: Final = 5.0
ADDRESSES_TRIED: Final = 4
RESOLVERS_AT_ONCE: Final = 8
NOTIFIER_SECONDS: Final = 10.0
PORTS: Final = {"http": 80, "https": 443}

# Spelled out: `is_global` of the ipaddress module changes between patch releases of Python.
_LOCAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
        "::1/128", "fc00::/7",
    )
)  # fmt: skip
"""This machine and private networks: what the operator may allow."""
_NEVER: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "100.100.100.200/32",  # metadata of a cloud, in the network of carriers
        "::/128", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16",
        "fe80::/10", "fec0::/10", "ff00::/8",
        "fd00:ec2::254/128", "fd20:ce::254/128",  # metadata of clouds, in private networks
    )
)  # fmt: skip
"""What no webhook has any business with, whatever the operator allows."""
_IPV4_INSIDE: Final = (
    # network, and how far right the IPv4 address stands in it
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""Ways to write an IPv4 address as an IPv6 one: mapped, translated, NAT64, compatible, 6to4."""
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")


def address_refusal(text: str, *, allow_local: bool) -> str | None:
    """Why a connection to an address is refused; None when it is not."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "it has an address of an unknown kind"
    for candidate in _meanings(address):
        if _is_in(candidate, _NEVER) or candidate in _NAT64_LOCAL:
            return f"{text} is not a public address"
        if _is_in(candidate, _LOCAL) and not allow_local:
            return f"{text} belongs to this machine or a private network"
    return None


def _meanings(address: Address) -> list[Address]:
    """An address, and the IPv4 address that it leads to where it is another's disguise."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) <= 1:
        return [address]
    inside = [
        ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
        for network, shift in _IPV4_INSIDE
        if address in network
    ]
    return [*inside] or [address]


def _is_in(
    address: Address, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> bool:
    return any(address.version == net.version and address in net for net in networks)


class RefusedAddressError(Exception):
    """The name leads where requests may not go."""


class OutboundHttp:
    """The port ``resolvers.ports.Outbound``.

    Args:
        allow_local: whether this machine and private networks may be reached.
        resolve: how names become addresses; by default the machine's way, in threads of its own
            so that a slow name server holds up nothing else.
        verify: how servers of https prove who they are; by default against the usual roots.
    """

    def __init__(
        self,
        *,
        allow_local: bool,
        resolve: Resolve | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_local = allow_local
        self._threads: ThreadPoolExecutor | None = None
        self._resolve = resolve or self._ask_the_machine
        self._verify = verify
        self._made: httpx.AsyncHTTPTransport | None = None

    async def refusal(self, url: str, /) -> str | None:
        """See the port. A name that cannot be resolved now is not refused: it may be later."""
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await self._addresses(httpx.URL(url))
        except RefusedAddressError as error:
            return str(error)
        except httpx.InvalidURL:
            return "it is no address"
        except (OSError, UnicodeError, TimeoutError):
            return None
        return None

    async def post(
        self, url: str, /, *, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> OutboundAnswer:
        """See the port."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                status, excerpt, retry_after = await self._post(url, headers, body)
        except (
            RefusedAddressError,
            httpx.HTTPError,
            httpx.InvalidURL,
            OSError,
            UnicodeError,
        ) as error:
            return OutboundAnswer(None, time.monotonic() - began, _in_words(error, seconds))
        return OutboundAnswer(
            status, time.monotonic() - began, excerpt=excerpt, retry_after=retry_after
        )

    async def aclose(self) -> None:
        """End what is open."""
        if self._made is not None:
            await self._made.aclose()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(
        self, text: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, float | None]:
        url = httpx.URL(text)
        addresses = (await self._addresses(url))[:ADDRESSES_TRIED]
        for address in addresses[:-1]:
            try:
                return await self._exchange(url, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._exchange(url, addresses[-1], headers, body)

    async def _exchange(
        self, url: httpx.URL, address: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, float | None]:
        request = httpx.Request(
            "POST",
            url.copy_with(host=address, fragment=None),
            headers={
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                **headers,
                "Host": url.netloc.decode("ascii"),
                "Connection": "close",
            },
            content=body,
            extensions={
                "sni_hostname": url.raw_host.decode("ascii"),
                "timeout": {"connect": CONNECT_SECONDS},
            },
        )
        response = await self._transport().handle_async_request(request)
        try:
            excerpt = b""
            async for chunk in response.aiter_raw():
                excerpt += chunk
                if len(excerpt) >= EXCERPT_BYTES:
                    break
        except httpx.HTTPError:
            excerpt += b" (the rest was lost)"  # the status has come, and that decides
        finally:
            await response.aclose()
        waits = response.headers.get("retry-after")
        return response.status_code, excerpt[:EXCERPT_BYTES], _retry_after(waits)

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        """All addresses of a URL's host, none of them refused."""
        if url.scheme not in PORTS or not url.host:
            raise RefusedAddressError("it is no http or https address")
        host = url.raw_host.decode("ascii")
        found = await self._resolve(host, url.port or PORTS[url.scheme])
        if not found:
            raise OSError("the name has no address")
        for address in found:
            refusal = address_refusal(address, allow_local=self._allow_local)
            if refusal is not None:
                raise RefusedAddressError(refusal)
        return list(dict.fromkeys(found))

    async def _ask_the_machine(self, host: str, port: int) -> Sequence[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(RESOLVERS_AT_ONCE, "resolve")
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
        )
        return [str(entry[4][0]) for entry in found]

    def _transport(self) -> httpx.AsyncHTTPTransport:
        if self._made is None:
            self._made = httpx.AsyncHTTPTransport(
                verify=self._verify or httpx.create_ssl_context(trust_env=False),
                trust_env=False,
                # Connections are told apart by address alone: none may serve another name.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        return self._made


class NotificationTarget:
    """The operator's notifier: an address that may be anywhere in their network.

    Args:
        url: where to POST.
        token: for ``Authorization: Bearer``; None for none.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self._http = OutboundHttp(allow_local=True)
        self._url = url
        self._headers = {"Content-Type": "application/json", "User-Agent": "Dragoman"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def __call__(self, body: bytes, /) -> OutboundAnswer:
        """One attempt, within 10 seconds."""
        return await self._http.post(
            self._url, headers=self._headers, body=body, seconds=NOTIFIER_SECONDS
        )

    async def aclose(self) -> None:
        """End what is open."""
        await self._http.aclose()


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _in_words(error: Exception, seconds: float) -> str:
    """What went wrong, for people, without anything of the request."""
    match error:
        case RefusedAddressError():
            return f"refused: {error}"
        case httpx.InvalidURL():
            return "refused: it is no address"
        case TimeoutError():
            return f"no answer within {seconds:g} s"
        case httpx.ConnectTimeout():
            return f"no connection within {CONNECT_SECONDS:g} s"
        case httpx.ConnectError():
            return f"no connection: {error}"[:200]
        case socket.gaierror():
            return "the name cannot be resolved"
        case httpx.HTTPError():
            return f"the exchange broke off: {type(error).__name__}"
    return f"the request cannot be made: {type(error).__name__}"
