"""Writing a tensor's file as a bundle does, and putting another in its place."""

from __future__ import annotations

import json
import zipfile

import numpy as np

from snncompile.backends.bundle import files, tensors


def write(path, array):
    """One array as its own file; how it is stored."""
    whole, how = tensors.stored(array)
    np.save(path, whole)
    return how


def put(bundle, file, whole):
    """Another content for a tensor's file or entry, with right hashes; the file's name in the bundle."""
    name, _, entry = file.partition("#")
    path = bundle / "tensors" / name
    if entry:
        kept = dict(np.load(path).items()) | {entry: whole}
        with zipfile.ZipFile(path, "w") as archive:
            for key, value in kept.items():
                with archive.open(f"{key}.npy", "w") as out:
                    np.lib.format.write_array(out, np.asarray(value))
    else:
        np.save(path, whole)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][f"tensors/{name}"] = files.digest(path)
    (bundle / "manifest.json").write_text(files.to_json(manifest))
    return f"tensors/{name}"
