"""What a call may read, and how a path that it names is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from advisor_mcp import access
from advisor_mcp.errors import UsageError


def test_a_path_of_the_users_own_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path))
    assert access.readable("~/x") == tmp_path / "x"


def test_the_home_of_a_user_who_is_not_known_is_refused_in_a_sentence() -> None:
    sentence = "'~no-such-user/x' names a home folder that is not known; give the whole path"
    with pytest.raises(UsageError) as caught:
        access.readable("~no-such-user/x")
    assert caught.value.message == sentence


def test_below_a_root_a_tilde_is_a_name_like_any_other(tmp_path: Path) -> None:
    with access.limited(tmp_path):
        assert access.readable("~no-such-user/x") == tmp_path.resolve() / "~no-such-user" / "x"
