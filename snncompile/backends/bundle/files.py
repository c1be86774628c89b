"""Files of a bundle: hashes, reproducible zip archives, safe extraction, atomic publication."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from snncompile.errors import CompileError, fail
from snncompile.files import BAD_ZIP

MANIFEST = "manifest.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
LARGEST_MANIFEST = 64 << 20
CHUNK = 1 << 20


def digest_of(row: Mapping[str, Any]) -> str:
    """SHA-256 of plain data, as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            total.update(block)
            size += len(block)
    return {"bytes": size, "sha256": total.hexdigest()}


def contents(folder: Path) -> list[str]:
    """Every file but the manifest, as sorted relative paths with slashes; caches of a runner that was run do not count."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if not p.is_dir())
    return sorted(p.as_posix() for p in found if p.as_posix() != MANIFEST and "__pycache__" not in p.parts)


def to_json(value: Mapping[str, Any]) -> str:
    """JSON with sorted keys, the same bytes for the same content."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_zip(folder: Path, archive: Path) -> None:
    """All files of a folder, sorted, without dates and owners."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
        for name in [MANIFEST, *contents(folder)]:
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            out.writestr(info, (folder / name).read_bytes())


def extract(archive: zipfile.ZipFile, shown: str, into: Path) -> None:
    """Unpack regular files that stay inside ``into``, no more bytes than the manifest announces (SNN033, SNN035)."""
    rows = {i.filename: i for i in archive.infolist() if not i.is_dir()}
    for name, info in rows.items():
        path = PurePosixPath(name)
        odd = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts
        if odd or stat.S_ISLNK(info.external_attr >> 16):
            help_text = "do not unpack this archive; get the bundle from its maker again"
            raise fail("SNN035", f"{shown} is not safe to unpack: it holds '{name}', which would be written outside of it", help=help_text)
    if MANIFEST not in rows:
        raise not_a_bundle(shown)
    if rows[MANIFEST].file_size > LARGEST_MANIFEST:
        raise damaged(shown, MANIFEST, f"has {rows[MANIFEST].file_size} bytes")
    _copy(archive, rows[MANIFEST], into, shown)
    announced = manifest_of(into, shown).get("files", {})
    for name, info in rows.items():
        if name == MANIFEST:
            continue
        row = announced.get(name)
        if not isinstance(row, dict):
            raise damaged(shown, name, "is not listed in the manifest")
        if row.get("bytes") != info.file_size:
            raise damaged(shown, name, f"has {info.file_size} bytes, the manifest says {row.get('bytes')}")
        _copy(archive, info, into, shown)


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, into: Path, shown: str) -> None:
    target = into / info.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(info) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
    except BAD_ZIP as e:
        raise damaged(shown, info.filename, f"cannot be unpacked ({e})") from e


def manifest_of(folder: Path, shown: str) -> dict[str, Any]:
    """The manifest as JSON (SNN032 if there is none, SNN033 if it is damaged)."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise not_a_bundle(shown) from None
    except (OSError, UnicodeDecodeError) as e:
        raise damaged(shown, MANIFEST, "cannot be read") from e
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise damaged(shown, MANIFEST, f"is not JSON ({e})") from e
    if not isinstance(value, dict):
        raise damaged(shown, MANIFEST, "is not a JSON object")
    return value


def not_a_bundle(shown: str) -> CompileError:
    """SNN032."""
    return fail("SNN032", f"{shown} is not a bundle: it has no {MANIFEST}", help="write one with snncompile export MODEL -o OUT")


def damaged(shown: str, name: str, reason: str) -> CompileError:
    """SNN033."""
    return fail("SNN033", f"the bundle {shown} is damaged: {name} {reason}", help="export it again, or copy it again from where it came")


def unwritable(path: Path, error: OSError) -> CompileError:
    """SNN030."""
    return fail("SNN030", f"cannot write {path}: {error.strerror or error}", help="choose another place with -o")


__all__ = [
    "MANIFEST", "contents", "damaged", "digest", "digest_of", "extract", "manifest_of", "not_a_bundle", "to_json",
    "unwritable", "write_zip",
]  # fmt: skip
