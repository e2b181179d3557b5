"""Which Prometheus a call may ask, and with which credentials: the operator's go to the operator's own server only."""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from advisor_mcp import access
from advisor_mcp.errors import UsageError, shown

DEFAULT = "default"
TOKEN = "ADVISOR_MCP_PROMETHEUS_TOKEN"
TOKEN_FILE = "ADVISOR_MCP_PROMETHEUS_TOKEN_FILE"
CA_FILE = "ADVISOR_MCP_PROMETHEUS_CA"
INSECURE = "ADVISOR_MCP_PROMETHEUS_INSECURE"
_PORTS = {"http": 80, "https": 443}
_LONGEST_SECRET = 16_384


@dataclass(frozen=True)
class Address:
    """Where a Prometheus is. `authorization` is the header's value and is never shown; `verify` is off on request."""

    scheme: str
    host: str
    port: int
    path: str = ""
    authorization: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_file: str | None = None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a credential belongs to: scheme, host and port."""
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        """The address without user, password or query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    def tls(self) -> ssl.SSLContext:
        """The context for TLS; raises `UsageError` where the CA file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError):
            raise UsageError(f"{CA_FILE} names no readable file of PEM certificates; correct or unset it") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def chosen(given: str) -> Address:
    """The Prometheus that a call named, with what the operator set for it; `"default"` is the operator's own.

    A call over the network may ask the operator's only, so that nobody reads this server's network through it. Token
    and unchecked certificates hold for the operator's server alone: a URL that a caller was talked into gets neither.
    Raises `UsageError` for a URL that is not usable or not allowed.
    """
    own = access.operators_prometheus()
    if given == DEFAULT and own is None:
        raise UsageError(f"no Prometheus is set here; give its URL, or set {access.PROMETHEUS}")
    address = parsed(own if given == DEFAULT and own else given)
    operators = parsed(own) if own else None
    if not access.anywhere() and (operators is None or (address.origin, address.path) != _place(operators)):
        raise UsageError(
            "this server asks no Prometheus but its operator's; "
            + (f"give prometheus={DEFAULT!r}" if operators else "ask its operator for --prometheus URL")
        )
    if operators is None or address.origin != operators.origin:
        return _with(address, ca_file=os.environ.get(CA_FILE) or None)
    return _with(
        address,
        authorization=address.authorization or operators.authorization or _bearer(),
        verify=os.environ.get(INSECURE, "") not in ("1", "true", "yes"),
        ca_file=os.environ.get(CA_FILE) or None,
    )


def _place(address: Address) -> tuple[tuple[str, str, int], str]:
    return address.origin, address.path


def _with(address: Address, ca_file: str | None, authorization: str | None = None, verify: bool = True) -> Address:
    return Address(
        address.scheme,
        address.host,
        address.port,
        address.path,
        authorization or address.authorization,
        verify,
        ca_file,
    )


def parsed(url: str) -> Address:
    """An address from its URL; user and password become basic authentication. Raises `UsageError` without echoing them."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise UsageError("prometheus is no usable URL; write http://HOST:9090 or https://HOST/PATH") from None
    if parts.scheme not in _PORTS or not parts.hostname or not _clean(url):
        raise UsageError("prometheus must be a URL such as http://localhost:9090 or https://HOST/PATH")
    if parts.query or parts.fragment:
        raise UsageError("prometheus must be a URL without ? and #; give the server's address alone")
    path = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path, _basic(parts))


def _clean(url: str) -> bool:
    return url.strip().isascii() and url.strip().isprintable() and " " not in url.strip()


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _bearer() -> str | None:
    token = os.environ.get(TOKEN) or _from_file(os.environ.get(TOKEN_FILE))
    if token is None:
        return None
    if not (token.isascii() and token.isprintable() and " " not in token and token):
        raise UsageError(f"the token of {TOKEN} or {TOKEN_FILE} must be printable ASCII without spaces")
    return f"Bearer {token}"


def _from_file(path: str | None) -> str | None:
    if not path:
        return None
    try:
        with Path(path).open("rb") as file:
            return file.read(_LONGEST_SECRET).decode("ascii", errors="replace").strip()
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
        raise UsageError(f"{TOKEN_FILE} names {shown(path)}, which cannot be read: {reason}") from None
