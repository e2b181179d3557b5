"""Which Prometheus may be asked, and who gets the operator's token."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from advisor_mcp import access
from advisor_mcp.errors import UsageError
from advisor_mcp.gpus.fleet.address import Address, chosen, parsed

OWN = "https://metrics.example/prom"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "_TOKEN", "_TOKEN_FILE", "_CA", "_INSECURE"):
        monkeypatch.delenv(f"ADVISOR_MCP_PROMETHEUS{name}", raising=False)
    monkeypatch.setattr(access, "_prometheus", None)


def refused(given: str) -> str:
    with pytest.raises(UsageError) as caught:
        chosen(given)
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("http://localhost:9090", Address("http", "localhost", 9090), "http://localhost:9090"),
        ("http://localhost:9090/api/v1/", Address("http", "localhost", 9090), "http://localhost:9090"),
        ("https://h/prom/", Address("https", "h", 443, "/prom"), "https://h/prom"),
        ("http://[::1]:9090", Address("http", "::1", 9090), "http://[::1]:9090"),
    ],
)
def test_an_address_is_read_from_its_url(url: str, address: Address, shown: str) -> None:
    assert parsed(url) == address
    assert str(address) == shown


def test_user_and_password_become_basic_authentication_and_are_not_shown() -> None:
    address = parsed("https://ann:p%40ss@h:9090")
    assert address.authorization == "Basic " + base64.b64encode(b"ann:p@ss").decode()
    assert str(address) == "https://h:9090"
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    "url", ["", "localhost:9090", "ftp://h", "file:///etc/passwd", "http://", "http://h:port", "http://h\r\nX: y", "http://h?x=1"]
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused_without_repeating_it(url: str) -> None:
    sentence = refused(url)
    assert sentence.startswith("prometheus ")
    assert "passwd" not in sentence
    assert "X: y" not in sentence


def test_the_token_goes_to_the_operators_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS", OWN)
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_TOKEN", "s3cret")
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_INSECURE", "1")
    own = Address("https", "metrics.example", 443, "/prom", "Bearer s3cret", verify=False)
    assert (chosen("default"), chosen(OWN)) == (own, own)
    assert chosen("https://elsewhere.example") == Address("https", "elsewhere.example", 443)
    assert chosen("http://metrics.example/prom") == Address("http", "metrics.example", 80, "/prom")


def test_a_token_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS", OWN)
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_TOKEN_FILE", str(tmp_path / "token"))
    assert chosen("default").authorization == "Bearer from-file"
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_TOKEN_FILE", str(tmp_path / "none"))
    assert refused("default").endswith("which cannot be read: no such file or directory")


def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS", OWN)
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_TOKEN", "s3cret\r\nX: y")
    assert "s3cret" not in refused("default")


def test_a_ca_file_that_holds_no_certificate_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("ADVISOR_MCP_PROMETHEUS_CA", str(tmp_path / "ca.pem"))
    with pytest.raises(UsageError) as caught:
        chosen("https://h").tls()
    assert caught.value.message.startswith("ADVISOR_MCP_PROMETHEUS_CA names no readable file")


def test_without_an_operators_server_there_is_no_default() -> None:
    assert refused("default") == "no Prometheus is set here; give its URL, or set ADVISOR_MCP_PROMETHEUS"


def test_over_the_network_only_the_operators_server_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with access.limited(None):
        assert refused("http://169.254.169.254").endswith("ask its operator for --prometheus URL")
        access.allow_prometheus(OWN)
        assert refused("http://169.254.169.254").endswith("give prometheus='default'")
        assert refused("https://metrics.example/other").endswith("give prometheus='default'")
        assert chosen("default") == chosen(OWN) == Address("https", "metrics.example", 443, "/prom")
