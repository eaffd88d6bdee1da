"""Everything under deploy/ of a build folder: a function of the build alone."""

from __future__ import annotations

from broadaxe import resources
from broadaxe.build import Build
from broadaxe.deploy.ports import ports_json

COPIED = ("driver.py",)


def deployment(build: Build) -> dict[str, bytes]:
    """The files of deploy/, by path inside the build folder."""
    files = ports_json(build)
    files |= {name: (resources.folder("templates") / "deploy" / name).read_text() for name in COPIED}
    return {
        f"deploy/{name}": content if isinstance(content, bytes) else content.encode() for name, content in files.items()
    }
