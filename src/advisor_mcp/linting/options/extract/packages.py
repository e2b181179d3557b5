"""Published packages as folders of source: downloaded by pip, unpacked, never installed and never imported."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

EPOCH = "2023-01-01"  # reproducible builds write some fixed day before this one; it says nothing
DATE = ".date"

LIBRARY = re.compile(r"\.(so|dylib)(\.\d+)*$")
WORD = re.compile(rb"\x00([A-Z][A-Z0-9]*_[A-Z0-9_]{2,})(?=\x00)")  # C strings in capitals, such as variables have

Keep = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Release:
    """The source files of one release, below `root`."""

    version: str
    root: Path
    beside: Release | None = None  # another package that this one builds on

    @property
    def date(self) -> str:
        """The day on which the archive was made (ISO), or "" where the archive does not say."""
        mark = self.root / DATE
        return mark.read_text(encoding="utf-8") if mark.exists() else ""

    def text(self, path: str) -> str:
        """A file's text, "" where this release has no such file."""
        file = self.root / path
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def first(self, *paths: str) -> str:
        """The first of `paths` that this release has, "" where it has none."""
        return next((path for path in paths if (self.root / path).is_file()), "")

    def files(self, pattern: str) -> list[str]:
        """The paths that match a glob pattern, in order."""
        return sorted(p.relative_to(self.root).as_posix() for p in self.root.glob(pattern) if p.is_file())


def python_only(path: str) -> bool:
    """Whether an archive's member is Python source outside its tests (or the package's own metadata)."""
    return path.endswith((".py", "METADATA", "PKG-INFO")) and not path.startswith(("tests/", "test/"))


def obtain(package: str, version: str, cache: Path, keep: Keep = python_only, platform: str = "") -> Release:
    """The source of PACKAGE==VERSION, from the cache or downloaded with `pip download --no-deps`.

    `keep` picks the members to unpack. `platform` asks for a wheel of that platform (the smallest one, where a
    package's wheels differ in their binaries only). Raises `subprocess.CalledProcessError` where pip finds none.
    """
    root = cache / f"{package}-{version}"
    if not (root / DATE).exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unpack(download(package, version, Path(folder), platform), root, keep)
    return Release(version, root)


def download(package: str, version: str, folder: Path, platform: str = "") -> Path:
    """The archive of PACKAGE==VERSION in `folder`: a wheel for any recent Python, else the source distribution."""
    wheel = ["--only-binary", ":all:", *(["--platform", platform] if platform else [])]
    tries = [[*wheel, "--python-version", python] for python in ("3.12", "3.11", "3.13")] + [["--no-binary", package]]
    base = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    failure: subprocess.CalledProcessError | None = None
    for options in tries:
        try:
            subprocess.run([*base, *options, f"{package}=={version}"], check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            failure = error
        else:
            return next(path for path in folder.iterdir() if path.is_file())
    assert failure is not None
    raise failure


def unpack(archive: Path, root: Path, keep: Keep) -> None:
    """Writes the members of a wheel or source distribution that `keep` picks below `root`, and the archive's date."""
    date = ""
    for name, day, data in members(archive, keep):
        parts = PurePosixPath(name).parts
        if ".." in parts or name.startswith("/"):
            continue
        if parts[-1] in {"METADATA", "PKG-INFO"} and day > EPOCH:
            date = max(date, day)
        if LIBRARY.search(name):  # of a binary, only the words that it holds
            name, data = f"{name}.names", b"\n".join(sorted(set(WORD.findall(data))))
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (root / DATE).write_text(date, encoding="utf-8")


def members(archive: Path, keep: Keep) -> Iterator[tuple[str, str, bytes]]:
    """Path, day and bytes of the members that `keep` picks; a source distribution's leading folder is dropped."""
    if archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if not info.is_dir() and keep(info.filename):
                    year, month, day = info.date_time[:3]
                    yield info.filename, f"{year:04}-{month:02}-{day:02}", wheel.read(info)
    else:
        with tarfile.open(archive) as source:
            for member in source:
                name = member.name.partition("/")[2]
                if member.isfile() and keep(name) and (handle := source.extractfile(member)):
                    yield name, day_of(member.mtime), handle.read()


def day_of(seconds: float) -> str:
    """The UTC day (ISO) of a timestamp."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def from_git(repository: Path, tag: str, version: str, cache: Path, paths: tuple[str, ...]) -> Release:
    """The source of one tag of a stored repository, for what no package holds; the date is the commit's."""
    root = cache / f"{repository.parent.name}-{tag}"
    if not (root / DATE).exists():
        git = ["git", "-C", str(repository)]
        listed = subprocess.run([*git, "ls-tree", "-r", "--name-only", tag, *paths], check=True, capture_output=True)
        for name in listed.stdout.decode().splitlines():
            if name.endswith((".py", ".cc", ".cpp", ".h")):
                shown = subprocess.run([*git, "show", f"{tag}:{name}"], check=True, capture_output=True)
                target = root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(shown.stdout)
        day = subprocess.run([*git, "log", "-1", "--format=%cs", tag], check=True, capture_output=True)
        root.mkdir(parents=True, exist_ok=True)
        (root / DATE).write_text(day.stdout.decode().strip(), encoding="utf-8")
    return Release(version, root)
