"""What the documentation is made of besides docs/*.md, as MkDocs asks for it: ``make docs`` builds it.

- Links from a page to a file of the repository outside of docs/ lead to a copy of it within the site.
- ``<!-- commands -->`` in a page is where the help of every command stands, ``<!-- landmarks -->`` and
  ``<!-- blendshapes -->`` are where the parts of a face are drawn and named, ``<!-- notebook -->`` is that
  of examples/.
- A public name of the package that no page documents ends the build.
"""

import builtins
import importlib
import inspect
import json
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import griffe
import numpy as np
import numpy.typing as npt
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from synopticon_rtc.commands import synopticon
from synopticon_rtc.faces import GROUPS, TESSELATION, topology
from synopticon_rtc.faces import model as face_model
from synopticon_rtc.faces.wire import BLENDSHAPES, _model  # the one face that the package has

ROOT = Path(__file__).parents[1]
PUBLIC = ("", ".faces", ".signaling", ".signaling.access", ".signaling.nats", ".sync")
"""Modules of the package all of whose public names are documented."""
REFERENCE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
LINES = {name: getattr(topology, name.upper()) for name in GROUPS}
MARGINS = {"left_iris": 1.1, "right_iris": 1.1}
"""What is shown around a group, of its larger side; around an iris, so much that the eye is seen."""
WIDE = {"lips", "face_oval"}
"""Groups of many landmarks, whose drawings are as wide as the page."""
OUTSIDE = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
LOADED = re.compile(
    r"""<(?:script|link|img|iframe|source|video|audio)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^\s"'>]*"""
    r"""|(?:url\(|@import )["']?(?:https?:)?//[^\s"')]*"""
)
CODE = re.compile(r"(?<=<code>)[^<]*--[^<]*(?=</code>)")
ROLE = re.compile(r":(?P<kind>attr|class|data|func|meth|mod):`(?P<short>~?)(?P<target>[\w.]+)`")

_documented: set[str] = set()
"""What the pages that were read so far document."""


class Docstrings(griffe.Extension):
    """Makes links of the roles in docstrings, such as ``:meth:`start```, and figures of defaults that have names."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - griffe's signature
        """Do so for one object."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_link, obj.docstring.value)
        for parameter in obj.parameters if isinstance(obj, griffe.Function) else ():
            constant = obj.module.members.get(str(parameter.default))
            if isinstance(constant, griffe.Attribute):
                parameter.default = constant.value


def _link(role: re.Match[str]) -> str:
    target = role["target"]
    shown = target.rpartition(".")[2] if role["short"] else target
    linked = role["kind"] != "attr" and not hasattr(builtins, target)  # attributes stand in a list of their class
    return f"[`{shown}`][{target}]" if linked else f"`{shown}`"


def on_pre_build(**_: Any) -> None:  # noqa: ANN401 - MkDocs' signature, as below
    """Begin anew."""
    _documented.clear()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages lead to."""
    for file in list(files.documentation_pages()):
        for link in OUTSIDE.finditer(file.content_string):
            if outside := _outside(file, link["path"]):
                copy = File.generated(config, _copied(outside), abs_src_path=str(outside))
                if copy.src_uri not in files.src_uris:
                    files.append(copy)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:  # noqa: ANN401
    """Fill in what is made, and have links lead to the copies."""
    for name, make in MADE.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", "\n".join(make()))
    _documented.update(REFERENCE.findall(markdown))

    def copied(link: re.Match[str]) -> str:
        outside = _outside(page.file, link["path"])
        if outside is None:
            return link[0]
        return f"]({os.path.relpath(_copied(outside), Path(page.file.src_uri).parent)}{link['anchor'] or ''})"

    return OUTSIDE.sub(copied, markdown)


def on_page_content(html: str, **_: Any) -> str:  # noqa: ANN401
    """Keep options whole: a browser would end a line after the first ``-`` of one."""
    return CODE.sub(lambda code: re.sub(r"--[\w-]+", r'<span class="option">\g<0></span>', code[0]), html)


def on_post_build(config: MkDocsConfig) -> None:
    """End the build where a public name is not documented, or a page would load something from elsewhere."""
    shown = list(map(pkgutil.resolve_name, _documented))
    ids = {id(part) for found in shown for part in (found, *(vars(found).values() if inspect.ismodule(found) else ()))}
    if missing := [name for name in public_names() if id(pkgutil.resolve_name(name)) not in ids]:
        raise PluginError(f"no page documents {', '.join(missing)}: add '::: NAME' to a page of docs/reference/")
    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in {".html", ".css"} and (loaded := LOADED.search(file.read_text(encoding="utf-8"))):
            raise PluginError(f"{file} loads from elsewhere: {loaded[0]}")


def public_names() -> Iterator[str]:
    """Give the full names of all that is public."""
    for below in PUBLIC:
        module = importlib.import_module(f"synopticon_rtc{below}")
        yield from (f"{module.__name__}.{name}" for name in getattr(module, "__all__", ()))


def _outside(page: File, path: str) -> Path | None:
    """Return the file of the repository that a link of a page leads to, None where it stays within docs/."""
    target = Path(os.path.normpath(ROOT / "docs" / Path(page.src_uri).parent / path))
    return target if target.is_file() and not target.is_relative_to(ROOT / "docs") else None


def _copied(file: Path) -> str:
    return f"source/{file.relative_to(ROOT).as_posix()}"


# What is made


def _commands() -> Iterator[str]:
    """Give the help of every command."""
    modules = [importlib.import_module(f"synopticon_rtc.commands.{name}") for name in synopticon.COMMANDS]
    commands = {
        f"synopticon {found.name}": found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, click.Command)
    }
    for name, command in (commands | {"python -m synopticon_rtc.faces.model": face_model.main}).items():
        with click.Context(command, info_name=name) as context:
            yield f"## {name}\n\n```text\n{command.get_usage(context)}\n```\n"
            yield from (f"{_plain(text)}\n" for text in inspect.cleandoc(command.help or "").split("\n\n"))
            for parameter in command.get_params(context):
                if record := parameter.get_help_record(context):
                    yield f"`{record[0]}`\n:   {_plain(record[1])}\n"


def _plain(text: str) -> str:
    """Return a text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_>\[\]{}])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _blendshapes() -> Iterator[str]:
    """Give a list of MediaPipe's blendshapes."""
    yield '<ol class="blendshapes" start="0">'
    yield from (f"<li><code>{name}</code></li>" for name in BLENDSHAPES)
    yield "</ol>"


def _notebook() -> Iterator[str]:
    """Give the cells of the notebook."""
    for cell in json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        yield f"```python\n{text}\n```\n" if cell["cell_type"] == "code" else re.sub("^# .*\n", "", text)
        yield ""


def _landmarks() -> Iterator[str]:
    """Draw each group of landmarks, with its numbers, on the mean face of ``faces/1``."""
    face = 1000 * _model(478).mean.reshape(3, -1)[:2].T.astype(float)
    yield '<div class="landmarks">'
    for name, group in GROUPS.items():
        low, high = face[group].min(axis=0), face[group].max(axis=0)
        extent = max(high - low)
        low, high = low - extent * MARGINS.get(name, 0.2), high + extent * MARGINS.get(name, 0.2)
        (left, top), (width, height) = low, high - low
        letter = width * (0.019 if name in WIDE else 0.036)
        out = face[group] - face[group].mean(axis=0)
        labels = face[group] + out / np.linalg.norm(out, axis=1, keepdims=True) * letter * 1.2
        mesh, lines = (_path(face[pairs], low, high) for pairs in (TESSELATION, LINES[name]))
        points = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{letter / 4:.1f}"/>' for x, y in face[group])
        numbers = "".join(
            f'<text x="{x:.1f}" y="{y:.1f}">{index}</text>' for index, (x, y) in zip(group, labels, strict=True)
        )
        yield (
            f'<figure class="{"wide" if name in WIDE else "narrow"}">'
            f'<svg viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" role="img" aria-label="{name}">'
            f'<g stroke-width="{letter / 10:.2f}"><path class="mesh" d="{mesh}"/><path class="lines" d="{lines}"/></g>'
            f'<g class="points">{points}</g>'
            f'<g font-size="{letter:.1f}" text-anchor="middle" dominant-baseline="central">{numbers}</g></svg>'
            f"<figcaption><code>{name}</code>: {' '.join(map(str, group))}</figcaption></figure>"
        )
    yield "</div>"


def _path(lines: npt.NDArray[np.float64], low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> str:
    """Return those lines of shape (n, 2, 2) that reach into a rectangle, as SVG has them."""
    inside = np.any(np.all((lines >= low) & (lines <= high), axis=2), axis=1)
    return "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in lines[inside].reshape(-1, 4))


MADE = {"commands": _commands, "notebook": _notebook, "blendshapes": _blendshapes, "landmarks": _landmarks}
