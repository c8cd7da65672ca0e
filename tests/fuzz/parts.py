"""Model files as one flat text of their members: mutations of it stay archives with right checksums.

A member begins with a line that names it; the places of the checksums hold the names of the members.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zipfile

_MARK = b"\n=== member "
_DIGEST = re.compile(rb'"digest of ([^"\\]*)"')


def flatten(archive: bytes) -> bytes:
    """Return the members of a model file as one text."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    header = members.pop("model.json")
    for name, blob in members.items():
        digest = hashlib.sha256(blob).hexdigest().encode()
        header = header.replace(digest, b"digest of " + name.removesuffix(".npy").encode(), 1)
    return header + b"".join(_MARK + name.encode() + b"\n" + blob for name, blob in members.items())


def pack(flat: bytes) -> bytes:
    """Return the model file of members that `flatten` gave, or of what has become of them."""
    header, *others = flat.split(_MARK)
    members = {name.decode("latin-1"): blob for name, _, blob in (part.partition(b"\n") for part in others)}

    def digest(match: re.Match[bytes]) -> bytes:
        blob = members.get(match[1].decode("latin-1") + ".npy", b"")
        return b'"' + hashlib.sha256(blob).hexdigest().encode() + b'"'

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as file:
        warnings.simplefilter("ignore")  # a name that stands twice
        file.writestr(zipfile.ZipInfo("model.json"), _DIGEST.sub(digest, header))
        for name, blob in members.items():
            file.writestr(zipfile.ZipInfo(name or "-"), blob)
    return buffer.getvalue()


def pack_arrays(flat: bytes) -> bytes:
    """Return the archive of arrays, as `numpy.savez` makes it, of members after an empty header."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as file:
        warnings.simplefilter("ignore")
        for part in flat.split(_MARK)[1:]:
            name, _, blob = part.partition(b"\n")
            file.writestr(zipfile.ZipInfo(name.decode("latin-1") or "-"), blob)
    return buffer.getvalue()


def flatten_arrays(archive: bytes) -> bytes:
    """Return the members of an archive of arrays as one text."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return b"".join(_MARK + name.encode() + b"\n" + file.read(name) for name in file.namelist())
