"""Builds a Dockerfile in containers of tests/support/containers.py: each instruction is carried out, none is skipped.

base = base_image.layer(world, tmp_path / "base")
image = images.build(world, base, Path("infra/docker/Dockerfile"), context=root, folder=tmp_path)
with world.container("assay", image.layers) as container:
    container.run(image.argv(["--help"]), **image.settings())

What a machine without network lacks is replaced, and only that: tests/support/base_image.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import base_image
import containers
import pathspec
from dockerfile_parse import DockerfileParser

_TAR = ("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner")  # an overlay keeps what is deleted in attributes
_MOUNT = re.compile(r"--mount=type=cache,target=(\S+)\s+")


@dataclass
class Stage:
    """What the instructions of one stage have set so far."""

    container: containers.Container
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def variables(self) -> dict[str, str]:
        return {"PATH": base_image.PATH, **self.arguments, **self.environment}

    def expand(self, text: str) -> str:
        return string.Template(text).substitute(self.variables)

    def path(self, text: str) -> str:
        return os.path.normpath(Path(self.workdir) / text)


@dataclass(frozen=True)
class Image:
    """`layers`: for a container, topmost first; `installed`: what apt-get was asked for."""

    layers: tuple[str, ...]
    environment: Mapping[str, str]
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    installed: tuple[str, ...]

    def argv(self, command: Sequence[str] | None, entrypoint: Sequence[str] | None = None) -> list[str]:
        """The words an engine starts: without a command the image's own, unless the entrypoint is given anew."""
        if entrypoint is not None:
            return [*entrypoint, *(command or ())]
        return [*self.entrypoint, *(self.command if command is None else command)]

    def settings(self, environment: Mapping[str, str] | None = None) -> dict[str, object]:
        """For `Container.run` and `Container.start`."""
        return {"user": self.user, "cwd": self.workdir, "environment": {**self.environment, **(environment or {})}}


class Build:
    """Carries out instructions, one method each; an instruction without a method is an error."""

    def __init__(self, world: containers.World, context: Path, base: str, arguments: Mapping[str, str]) -> None:
        self.world, self.context, self.base = world, context, base
        self.given = dict(arguments)
        self.defaults: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}
        self.stage: Stage | None = None
        self.open = ExitStack()

    def carry_out(self, instruction: str, value: str) -> None:
        method = getattr(self, f"_{instruction.lower()}", None)
        if method is None:
            raise ValueError(f"instruction {instruction} is not known to this builder")
        method(value)

    @property
    def current(self) -> Stage:
        if self.stage is None:
            raise ValueError("an instruction before FROM")
        return self.stage

    def _arg(self, value: str) -> None:
        name, _, default = value.partition("=")
        if self.stage is None:
            self.defaults[name] = self.given.get(name, default)
        else:
            self.stage.arguments[name] = self.given.get(name, self.defaults.get(name, default))

    def _from(self, value: str) -> None:
        image, name = re.fullmatch(r"(\S+)(?:\s+[Aa][Ss]\s+(\S+))?", value).groups()  # type: ignore[union-attr]
        base_image.check(string.Template(image).substitute(self.defaults))
        container = self.open.enter_context(self.world.container(name or "stage", (self.base,)))
        self.stage = Stage(container, environment={"HOME": "/root"})
        self.stages[name or str(len(self.stages))] = self.stage

    def _env(self, value: str) -> None:
        pairs = [word.partition("=") for word in shlex.split(self.current.expand(value))]
        self.current.environment.update({name: text for name, _, text in pairs})

    def _label(self, value: str) -> None:
        if any("=" not in word for word in shlex.split(self.current.expand(value))):
            raise ValueError(f"LABEL {value}: name=value is expected")

    def _workdir(self, value: str) -> None:
        self.current.workdir = self.current.path(self.current.expand(value))
        (self.current.container.root / self.current.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _user(self, value: str) -> None:
        self.current.user = self.current.expand(value)
        self.current.environment["HOME"] = _home(self.current.container, self.current.user)

    def _entrypoint(self, value: str) -> None:
        self.current.entrypoint = tuple(json.loads(value))

    def _cmd(self, value: str) -> None:
        self.current.command = tuple(json.loads(value))

    def _copy(self, value: str) -> None:
        words = shlex.split(self.current.expand(value))
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        stage = options.pop("from", None)
        if options:
            raise ValueError(f"COPY --{next(iter(options))} is not known to this builder")
        folder = self.context if stage is None else self.stages[stage].container.root
        root = self.current.container.root / self.current.path(target).lstrip("/")
        for source in (folder / source.lstrip("/") for source in sources):
            if not source.exists():
                raise ValueError(f"COPY {value}: no such file in the context: {source.relative_to(folder)}")
            into_folder = source.is_dir() or target.endswith("/")
            (root if into_folder else root.parent).mkdir(parents=True, exist_ok=True)
            # As root's files, whoever owns them outside.
            what = f"{source}/." if source.is_dir() else str(source)
            subprocess.run(["cp", "--recursive", "--no-dereference", "--preserve=mode", what, str(root)], check=True)

    def _run(self, value: str) -> None:
        stage = self.current
        while cache := _MOUNT.match(value):
            (stage.container.root / cache[1].lstrip("/")).mkdir(parents=True, exist_ok=True)
            value = value[cache.end() :]
        if value.startswith(("--", "[")):
            raise ValueError(f"RUN {value}: this form is not known to this builder")
        done = stage.container.run(
            ["/bin/sh", "-c", value],
            user=stage.user,
            environment={**stage.variables, **base_image.OFFLINE},
            cwd=stage.workdir,
        )
        if done.returncode:
            raise RuntimeError(f"RUN {value}\nended with {done.returncode}:\n{done.stdout}")


def build(
    world: containers.World,
    base: str,
    dockerfile: Path,
    context: Path,
    folder: Path,
    arguments: Mapping[str, str] | None = None,
) -> Image:
    """Build the last stage of `dockerfile`; `folder` is for the context as the engine would see it.

    Raises:
        ValueError: an instruction, or a form of one, that this builder does not know.
        RuntimeError: a RUN that failed, with its output.
    """
    copied = copy_context(context, folder / "context")
    build = Build(world, copied, base, arguments or {})
    with build.open:
        for step in DockerfileParser(path=str(dockerfile), cache_content=True).structure:
            if step["instruction"] != "COMMENT":
                build.carry_out(step["instruction"], step["value"])
        last = build.current
        asked = last.container.root / base_image.ASKED.lstrip("/")
        installed = tuple(line.split()[0] for line in asked.read_text().splitlines()) if asked.exists() else ()
    return Image(
        (last.container.layer, base), {"PATH": base_image.PATH, **last.environment}, last.user or "0:0",
        last.workdir, last.entrypoint, last.command, installed,
    )  # fmt: skip


def save(world: containers.World, image: Image, folder: Path) -> None:
    """Put what the build added to its base, and the settings, into a folder that any world can load."""
    folder.mkdir(parents=True)
    (folder / "image.json").write_text(json.dumps(asdict(image)), encoding="utf-8")
    world.run(*_TAR, "--create", f"--file={folder / 'layer.tar'}", f"--directory={image.layers[0]}", ".")


def load(world: containers.World, base: str, folder: Path) -> Image:
    """An image that `save` wrote, over this world's own base."""
    layer = world.folder / "loaded"
    world.run("mkdir", str(layer))
    world.run(*_TAR, "--extract", f"--file={folder / 'layer.tar'}", f"--directory={layer}")
    kept = json.loads((folder / "image.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in kept.items()}
    return Image(**{**settings, "layers": (str(layer), base)})


def copy_context(context: Path, target: Path) -> Path:
    """What `docker build` would send: the tree without what .dockerignore names."""
    lines = (context / ".dockerignore").read_text(encoding="utf-8").splitlines()
    ignored = pathspec.PathSpec.from_lines("gitignore", lines)  # the last rule that matches decides, as Docker has it

    def left_out(folder: str, names: list[str]) -> list[str]:
        inside = Path(folder).relative_to(context)
        paths = {name: Path(folder, name) for name in names}
        return [n for n, path in paths.items() if ignored.match_file(f"{inside / n}{'/' if path.is_dir() else ''}")]

    shutil.copytree(context, target, ignore=left_out)
    return target


def _home(container: containers.Container, user: str) -> str:
    """The home of a user, given by number, as the container's own list of users has it."""
    wanted = user.partition(":")[0]
    for line in (container.root / "etc/passwd").read_text(encoding="utf-8").splitlines():
        fields = line.split(":")
        if fields[2] == wanted:
            return fields[5]
    return "/"
