"""Stands for `python:3.11-slim` and all that a build asks the network for, where there is none.

- FROM: the base image is this machine's own file system, with the Python that runs the tests as `python`;
- apt-get: notes what it is asked to install, and fails unless this machine has a package of that name;
- the package index: wheels of every distribution installed here with its real name, version, requirements and commands,
  whose code is this environment's own. pip resolves, checks constraints and installs as it would from an index.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import containers

OURS = "corpus-assay"
WHEELS, CODE, ASKED = "/stand-in/wheels", "/stand-in/code", "/stand-in/apt"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS, "PIP_CONFIG_FILE": os.devnull}
PATH = f"{Path(sys.base_prefix, 'bin')}:{containers.PATH}"
# What Python imports first. Most that a small job costs is to import torch and transformers, and a sixth of that is to
# look for garbage meanwhile.
_SITE = "import gc\n\ngc.set_threshold(50_000, 20, 100)\n"
_APT_GET = f"""#!/bin/sh
case "$1" in
update) exit 0 ;;
install) shift ;;
*) echo "apt-get $1 is not expected here" >&2; exit 100 ;;
esac
for word in "$@"; do
    case "$word" in -*) ;; *) dpkg-query --show "$word" >> {ASKED} || exit 100 ;; esac
done
"""


def missing(dockerfile: Path) -> str | None:
    """Why this machine cannot stand for the base image of `dockerfile`, or None: tests skip with it."""
    wanted = re.search(r"^ARG BASE=python:(\d+\.\d+)\.", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted is not None and wanted[1] != ours:
        return f"the image has Python {wanted[1]}, the tests run under {ours}"
    if not Path(sys.base_prefix, "bin", "pip").exists():
        return f"the Python in {sys.base_prefix} has no pip"
    absent = [tool for tool in ("dpkg-query", "g++", "tar", "useradd", "wget") if shutil.which(tool) is None]
    return f"the base image stands on this machine, which lacks {', '.join(absent)}" if absent else None


def check(name: str) -> None:
    """The base that is named must have the Python that stands for it here."""
    ours = f"python:{sys.version_info.major}.{sys.version_info.minor}."
    if not name.startswith(ours):
        raise ValueError(f"{name}: the tests run under {ours.rstrip('.')}, which must be the image's Python")


def layer(world: containers.World, folder: Path) -> str:
    """A layer that makes of this machine's root what the base image has; `folder` is for its files."""
    with world.container("base") as container:
        _prepare(container, folder)
    return container.layer


def _prepare(container: containers.Container, folder: Path) -> None:
    """What the base image has, and stand-ins of apt-get and the package index."""
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    site = Path(sysconfig.get_paths()["purelib"])
    for place in (python.resolve(), site):
        for parent in place.parents:  # the image's user may read what the base image has
            inside = container.root / str(parent).lstrip("/")
            if (mode := inside.stat().st_mode) & 0o555 != 0o555:
                inside.chmod(mode | 0o555)
    container.write("/usr/local/sbin/apt-get", _APT_GET, 0o755)
    _link_code(site, folder / "code")
    _write_wheels(site, folder / "wheels")
    container.add(folder / "code", CODE)
    container.add(folder / "wheels", WHEELS)


def _link_code(site: Path, target: Path) -> None:
    """Every module of `site`, and nothing that says which distribution it is of; and `sitecustomize`."""
    target.mkdir(parents=True)
    for path in site.iterdir():
        hidden = path.name.startswith(("__editable__", "pip", "__pycache__"))
        if not hidden and path.suffix not in (".dist-info", ".pth"):
            (target / path.name).symlink_to(path)
    (target / "sitecustomize.py").write_text(_SITE, encoding="utf-8")


def _write_wheels(site: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for found in metadata.distributions(path=[str(site)]):
        name = re.sub(r"[-_.]+", "_", found.metadata["Name"])
        if name.replace("_", "-").lower() == OURS:
            continue
        info = f"{name}-{found.version}.dist-info"
        files = {
            f"{info}/METADATA": found.read_text("METADATA") or "",
            f"{info}/entry_points.txt": found.read_text("entry_points.txt") or "",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"stand_in_{name}.pth": f"{CODE}\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
        with zipfile.ZipFile(target / f"{name}-{found.version}-py3-none-any.whl", "w") as wheel:
            for path, text in files.items():
                wheel.writestr(path, text)
