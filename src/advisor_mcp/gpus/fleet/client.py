"""The part of Prometheus' HTTP API that is needed here, bounded in time, bytes, series and samples.

Paths, parameters and status codes are those of https://prometheus.io/docs/prometheus/latest/querying/api/ .
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from advisor_mcp import __version__
from advisor_mcp.errors import CannotAnswer, shown
from advisor_mcp.gpus.fleet.address import CA_FILE, TOKEN, Address

Labels: TypeAlias = Mapping[str, str]
_CHUNK = 2**16
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may cost: seconds for a query and for all of them, bytes of an answer once unpacked, series, samples."""

    query_s: float = 20
    total_s: float = 60
    response_bytes: int = 64 * 2**20
    series: int = 20_000
    samples: int = 400_000


@dataclass(frozen=True, slots=True)
class Value:
    """One series of an instant query."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range query; `points` are (Unix time in seconds, value), finite values only."""

    labels: Labels
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """A Prometheus server, asked with GET only. Every failure is a `CannotAnswer` of one sentence without secrets."""

    def __init__(
        self, address: Address, limits: Limits | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        self.address = address
        self.limits = limits or Limits()
        self._check = check
        self._ends = time.monotonic() + self.limits.total_s
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Prometheus:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def now(self) -> float:
        """The server's own clock, as Unix time in seconds: samples carry its time, not this machine's."""
        data = self._data("/api/v1/query", {"query": "time()"})
        try:
            return float(data["result"][0])
        except (TypeError, KeyError, IndexError, ValueError):
            raise self._foreign() from None

    def names(self, pattern: str, start: float, end: float) -> list[str]:
        """The names of metrics that match an anchored regular expression and had samples around that span."""
        match = "{__name__=~" + json.dumps(pattern) + "}"
        query = {"match[]": match, "start": f"{start:.3f}", "end": f"{end:.3f}"}
        data = self._data("/api/v1/label/__name__/values", query)
        if not isinstance(data, list):
            raise self._foreign()
        return [name for name in data if isinstance(name, str)]

    def instant(self, query: str, at: float) -> list[Value]:
        """The value of each series of an expression at a time; series whose value is not finite are left out."""
        rows = self._rows("/api/v1/query", {"query": query, "time": f"{at:.3f}"}, "vector")
        found = [Value(self._labels(row), self._number(row.get("value"))) for row in rows]
        return [value for value in found if math.isfinite(value.value)]

    def range(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """The values of each series of an expression from `start` to `end`, every `step` seconds."""
        span = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        rows = self._rows("/api/v1/query_range", {"query": query, **span}, "matrix")
        return [Series(self._labels(row), tuple(self._points(row))) for row in rows]

    def _rows(self, path: str, query: Mapping[str, str], kind: str) -> list[dict[str, Any]]:
        data = self._data(path, query)
        rows = data.get("result") if isinstance(data, dict) and data.get("resultType") == kind else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._foreign()
        if len(rows) > self.limits.series:
            raise CannotAnswer(
                f"{self.address} answers with {len(rows):,} series where at most {self.limits.series:,} are read",
                ["a shorter window, or a Prometheus of fewer GPUs"],
            )
        return rows

    def _labels(self, row: Mapping[str, Any]) -> Labels:
        labels = row.get("metric")
        if not isinstance(labels, dict):
            raise self._foreign()
        return {str(name): str(text) for name, text in labels.items()}

    def _number(self, point: Any) -> float:
        try:
            return float(point[1])
        except (TypeError, IndexError, ValueError):
            raise self._foreign() from None

    def _points(self, row: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
        for point in row.get("values") or ():
            number = self._number(point)
            if math.isfinite(number):
                yield float(point[0]), number

    def _data(self, path: str, query: Mapping[str, str]) -> Any:
        """The `data` of a successful answer; raises `CannotAnswer` for everything else."""
        status, body = self._asked(path, {**query, "timeout": f"{self.limits.query_s:g}s"})
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status == 200 and isinstance(answer, dict) and answer.get("status") == "success":
            return answer.get("data")
        raise self._refusal(status, answer)

    def _refusal(self, status: int, answer: Any) -> CannotAnswer:
        if status in (401, 403):
            sent = "with the token that is set" if self.address.authorization else "without a token"
            return CannotAnswer(
                f"{self.address} refuses this call {sent} (HTTP {status})",
                [f"ADVISOR_MCP_PROMETHEUS with its URL, and {TOKEN}: a token is sent to that server only"],
            )
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            reason = shown(answer["error"], _LONGEST_REASON)
            return CannotAnswer(f"{self.address} could not answer a query (HTTP {status}): {reason}")
        if 300 <= status < 400:
            return CannotAnswer(
                f"{self.address} redirects elsewhere, which is not followed (HTTP {status})", ["its final address"]
            )
        return self._foreign(status)

    def _foreign(self, status: int = 200) -> CannotAnswer:
        return CannotAnswer(
            f"{self.address} does not answer as a Prometheus does (HTTP {status})",
            ["the address of its HTTP API, up to but without /api/v1"],
        )

    def _asked(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and unpacked body of one request, over the connection of the one before where it still stands."""
        self._check()
        seconds = min(self.limits.query_s, self._ends - time.monotonic())
        if seconds <= 0:
            raise self._late(self.limits.total_s)
        target = f"{quote(self.address.path)}{path}?{urlencode(query)}"
        try:
            return self._exchange(target, seconds, again=self._connection is not None)
        except TimeoutError:
            raise self._late(seconds) from None
        except ssl.SSLCertVerificationError:
            raise CannotAnswer(
                f"the certificate of {self.address} is not trusted here", [f"its CA's certificate, named by {CA_FILE}"]
            ) from None
        except ssl.SSLError:
            raise CannotAnswer(
                f"{self.address} does not speak TLS as expected", ["http:// or its right port"]
            ) from None
        except socket.gaierror:
            raise CannotAnswer(f"the host of {self.address} is not known here", ["its name or IP address"]) from None
        except ConnectionRefusedError:
            raise CannotAnswer(
                f"nothing listens at {self.address} (connection refused)", ["the address of a running Prometheus"]
            ) from None
        except (OSError, http.client.HTTPException, zlib.error) as error:
            raise CannotAnswer(f"{self.address} broke off its answer ({type(error).__name__})") from None
        finally:
            if self._ends <= time.monotonic():
                self._drop()

    def _late(self, seconds: float) -> CannotAnswer:
        return CannotAnswer(f"{self.address} did not answer within {seconds:.3g} s", ["a shorter window"])

    def _exchange(self, target: str, seconds: float, again: bool) -> tuple[int, bytes]:
        """One request; a kept connection that the server closed meanwhile is opened anew, once."""
        try:
            connection = self._opened(seconds)
            with _cut_off(connection, seconds):
                connection.request("GET", target, headers=self._headers())
                response = connection.getresponse()
                body = self._body(response)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._drop()
            if not again:
                raise
            return self._exchange(target, seconds, again=False)
        except BaseException:
            self._drop()
            raise
        return response.status, body

    def _opened(self, seconds: float) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self.address.host, self.address.port
            if self.address.scheme == "https":
                self._connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=self.address.tls())
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=seconds)
            self._connection.connect()
        self._connection.sock.settimeout(seconds)
        return self._connection

    def _headers(self) -> dict[str, str]:
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": f"advisor-mcp/{__version__}"}
        return sent | ({"Authorization": self.address.authorization} if self.address.authorization else {})

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        packed = response.headers.get("Content-Encoding", "") == "gzip"
        parts, size = list[bytes](), 0
        for part in _unpacked(response) if packed else iter(lambda: response.read(_CHUNK), b""):
            parts.append(part)
            size += len(part)
            if size > self.limits.response_bytes:
                raise CannotAnswer(
                    f"{self.address} answers with more than {self.limits.response_bytes // 2**20} MiB",
                    ["a shorter window"],
                )
        return b"".join(parts)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _unpacked(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """A gzip body in pieces of bounded size, however well it was packed."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    for packed in iter(lambda: response.read(_CHUNK), b""):
        while packed:
            yield unpacker.decompress(packed, _CHUNK)
            packed = unpacker.unconsumed_tail
    yield unpacker.flush()


@contextmanager
def _cut_off(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """End the exchange inside after so many seconds, even with a server that sends a byte now and then."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError, AttributeError):  # closed meanwhile
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError
