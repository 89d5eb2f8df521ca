"""What the three commands share: errors in one line, a clean end, ``--json``, ``-v``."""

import asyncio
import contextlib
import datetime as dt
import errno
import functools
import io
import json
import logging
import math
import os
import re
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import click
import msgspec

from synopticon_rtc.basics import system
from synopticon_rtc.basics.text import visible
from synopticon_rtc.errors import SynopticonError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PREFIX = "SYNOPTICON"
# Kubernetes sets SYNOPTICON_PORT to such an address for all that run beside a service that is called synopticon.
SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://.*", re.IGNORECASE)


class Quantity(click.FloatRange):
    """A number in a range: ``nan``, which click takes to be in every one, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's signature
        """Read it."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class Output:
    """Stdout: either lines for people or, with ``--json``, one JSON object a line, each flushed at once."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.failure: SynopticonError | None = None  # why stdout takes no more
        if isinstance(sys.stdout, io.TextIOWrapper):  # which may be of an encoding that lacks what names are written in
            if json:
                sys.stdout.reconfigure(encoding="utf-8")  # as others expect it (RFC 8259, 8.1)
            else:
                sys.stdout.reconfigure(errors="backslashreplace")

    def say(self, text: str) -> None:
        """Print a line for people, whoever's words are in it."""
        if not self.json:
            self._print(visible(text))

    def event(self, event: str, /, **fields: object) -> None:
        """Print a JSON line: ``{"event": event, ...}``."""
        if self.json:
            self._print(_json({"event": event, **fields}))

    def _print(self, line: str) -> None:
        try:
            click.echo(line)
        except OSError as error:
            # Nobody reads any more (`| head`), or a disk is full: end as on Ctrl-C, and print the rest to nowhere.
            if not isinstance(error, BrokenPipeError):
                self.failure = SynopticonError(f"stdout cannot be written: {error.strerror}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                signal.raise_signal(signal.SIGTERM)


class Command(click.Command):
    """A command whose callback is a coroutine function; it gets an ``output`` beside its own options.

    Ctrl-C and SIGTERM cancel the coroutine, whose ``finally`` may print a summary; the exit code is then 0. A second
    one ends the process at once. A :class:`SynopticonError` is one line on stderr and exit 1, wrong usage one line and
    exit 2. Every option can be set by ``SYNOPTICON_<OPTION>``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # click's own signature
        kwargs["context_settings"] = {"auto_envvar_prefix": PREFIX} | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["--json"], is_flag=True, help="Print one JSON object a line, and nothing else."),
            click.Option(["-v", "--verbose"], count=True, help="Log each step to stderr (-vv: every detail)."),
            click.Option(["--log-json"], is_flag=True, help="Log each step to stderr, one JSON object a line."),
        ]
        self._links: dict[str, str] = {}
        self._variables = {o: _variables(o) for o in self.params if isinstance(o, click.Option) and o.envvar is None}

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401  # click's own signature
        """Parse, without those variables of the environment that only happen to be called like an option."""
        self._links = {
            variable: value
            for variables in self._variables.values()
            for variable in variables
            if variable.endswith("_PORT") and SERVICE_LINK.fullmatch(value := os.environ.get(variable, ""))
        }
        for option, variables in self._variables.items():
            option.allow_from_autoenv = False  # click's way knows only what a function calls the option
            option.envvar = [variable for variable in variables if variable not in self._links]
        return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the callback to its end, or to a signal."""
        _log_to_stderr(ctx.params.pop("verbose"), json=ctx.params.pop("log_json"))
        system.raise_file_limit()  # each connection takes some
        for variable, value in self._links.items():
            logging.getLogger(__name__).warning(
                "%s=%s is ignored: it tells of a service of that name (Kubernetes sets it), and is no setting of ours",
                variable,
                value[:100],
            )
        output = ctx.params["output"] = Output(json=ctx.params.pop("json"))
        result = asyncio.run(_until_signal(super().invoke(ctx)))
        if output.failure is not None:
            raise output.failure
        return result

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # click's own signature
        """Parse, run and exit."""
        _open_closed_streams()
        try:
            sys.exit(super().main(*args, **kwargs | {"standalone_mode": False}))
        except click.ClickException as error:
            hint = " Try --help" if isinstance(error, click.UsageError) else ""
            self._fail(error.format_message() + hint, error.exit_code)
        except SynopticonError as error:
            self._fail(str(error), 1)
        except click.Abort:
            sys.exit(128 + signal.SIGINT)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EPIPE):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which Python writes to once more
            self._fail(f"stdout cannot be written: {error.strerror}", 1)

    def _fail(self, text: str, code: int) -> None:
        click.echo(visible(f"{self.name}: {' '.join(text.split())}"), err=True)
        sys.exit(code)


def _variables(option: click.Option) -> list[str]:
    """List the variables of the environment that set an option: those of its flags, and of what it sets."""
    flags = [flag.removeprefix("--") for flag in option.opts if flag.startswith("--")]
    names = [*flags, *([option.name] if option.name else [])]
    return list(dict.fromkeys(f"{PREFIX}_{name.replace('-', '_')}".upper() for name in names))


def _open_closed_streams() -> None:
    """Read from and write to nowhere what was closed (``>&-``), so that no socket gets the number of a stream."""
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.dup2(opened := os.open(os.devnull, os.O_RDWR), number)
                if opened != number:
                    os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _json(fields: dict[str, object]) -> str:
    line = msgspec.json.encode(fields, enc_hook=str).decode()
    # JSON leaves control characters beyond ASCII as they are, and terminals obey some of them.
    return line if line.isprintable() else json.dumps(msgspec.json.decode(line), separators=(",", ":"))


async def _until_signal(main: Coroutine[Any, Any, object]) -> object:
    task, stopped = asyncio.current_task(), False

    def stop(number: signal.Signals) -> None:
        nonlocal stopped
        stopped = True
        for other, forget in forgets.items():
            forget()
            signal.signal(other, signal.SIG_DFL)
        logging.getLogger(__name__).info("%s: ending", number.name)
        if task:
            task.cancel()

    forgets = {number: system.on_signal(number, functools.partial(stop, number)) for number in SIGNALS}
    try:
        return await main
    except asyncio.CancelledError:
        if not stopped:
            raise
        return 0


@contextlib.contextmanager
def terminating() -> Iterator[asyncio.Event]:
    """Take SIGTERM as a request to end soon: it sets the event, and a second one ends the process at once."""
    asked = asyncio.Event()

    def ask() -> None:
        forget()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        asked.set()

    forget = system.on_signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        forget()


class _Lines(logging.Formatter):
    """Lines for people, whoever's words are in them; a trace keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Make one line of it."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's own signature
        """Make lines of a trace."""
        return "\n".join(visible(line) for line in super().formatException(ei).splitlines())


class _JSONLines(logging.Formatter):
    """One JSON object a record: when, how grave, what, and the fields that it came with."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", "message"),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _json(line)


def _log_to_stderr(verbose: int, *, json: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JSONLines() if json else _Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])  # other libraries: warnings alone
    level = [logging.WARNING, logging.INFO, logging.DEBUG][min(max(verbose, json), 2)]
    logging.getLogger("synopticon_rtc").setLevel(level)
