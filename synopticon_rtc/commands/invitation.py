"""Links by which people come in: to broadcast from a browser, or to watch, with a code for the cameras of phones."""

import secrets
import sys
import time
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode, urljoin, urlsplit

import click
import segno
from rich.console import Console
from rich.text import Text

from synopticon_rtc.basics.text import is_unicode
from synopticon_rtc.commands.cli import Output
from synopticon_rtc.signaling.addresses import is_loopback
from synopticon_rtc.signaling.server.access import Role
from synopticon_rtc.signaling.server.tokens import Claims, make_token

PAGES: dict[Role, str] = {"broadcast": "camera", "receive": "", "record": ""}
LONGEST = 2_048  # characters of a link: what mail programs, browsers and servers take, and a code can show
MARGIN = 2  # modules around a code; the standard asks for 4, and a terminal has some room of its own


@dataclass(frozen=True)
class Invitation:
    """A link with a token.

    Attributes:
        url: The link.
        role: What it lets people do.
        room: Where they meet.
        expires: When it ends (s since the epoch).
    """

    url: str
    role: Role
    room: str
    expires: float

    @classmethod
    def make(
        cls, base: str, secret: bytes, *, role: Role, room: str, lasts: float, name: str = "", lab: str = ""
    ) -> Self:
        """Make one: to broadcast it is for one person at a time, to watch for any number.

        Args:
            base: The address of the server's pages.
            secret: What the server's tokens are signed with.
            role: What it lets people do.
            room: Where they meet.
            lasts: How long it is good (s).
            name: What they are called; empty to let them say it.
            lab: Who asks them, as the page says; empty to leave that out.

        Raises:
            click.UsageError: It would be too long to be given to anybody.
        """
        expires = time.time() + lasts
        alone = secrets.token_urlsafe(6) if role == "broadcast" else ""
        token = make_token(secret, Claims("", room, frozenset({role}), name, expires, alone))
        query = {"room": room, "lab": lab, "token": token}
        said = urlencode({key: value for key, value in query.items() if value})
        url = f"{urljoin(base, PAGES[role])}?{said}"
        if len(url) > LONGEST:
            raise click.UsageError(
                f"The link would have {len(url)} characters, and {LONGEST} are the most: shorten the room, or a name."
            )
        return cls(url, role, room, expires)

    def tell(self, output: Output, note: str = "") -> None:
        """Show it, in a terminal with its code, and a note if there is one."""
        output.event("invitation", url=self.url, role=self.role, room=self.room, expires=int(self.expires))
        whom = "one person" if self.role == "broadcast" else "everybody who has it"
        output.say(f"invitation {self.url}")
        output.say(f"           good for {whom}, until {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.expires))}")
        if note:
            output.say(f"           {note}")
        here = is_loopback(urlsplit(self.url).hostname or "")
        if here:
            output.say("           on this machine alone: --serve 0.0.0.0:PORT --tls-self lets others in")
        elif not self.url.startswith("https:"):
            why = "browsers give it no camera" if self.role == "broadcast" else "others on the way can read it"
            output.say(f"           without https:// {why}: --tls-self, or a proxy or tunnel that has it, mends that")
        if not (output.json or here) and sys.stdout.isatty():
            show_code(self.url)


def show_code(text: str) -> None:
    """Print a QR code, dark on light whatever colours the terminal has; nothing where it does not fit."""
    lines = code(text).splitlines()
    console = Console()
    if len(lines[0]) <= console.width:
        console.print(Text("\n".join(lines), style="bright_white on black", no_wrap=True))


def code(text: str) -> str:
    """Draw a QR code, two rows of it in a line."""
    made = segno.make(text, error="l", boost_error=False)
    rows = [[not dark for dark in row] for row in made.matrix_iter(border=MARGIN)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    blocks = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    return "\n".join(
        "".join(blocks[pair] for pair in zip(*rows[i : i + 2], strict=True)) for i in range(0, len(rows), 2)
    )


def check_base(url: str) -> str:
    """Return the address of a server's pages, as something can be put behind it.

    Raises:
        click.UsageError: It is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a bracket that is not closed, or no port that there can be
        parts, port = urlsplit(""), None
    is_pages = parts.scheme in {"http", "https"} and parts.hostname and port != 0 and is_unicode(url)
    if not is_pages or "@" in parts.netloc or parts.query or parts.fragment:
        raise click.UsageError(f"{url!r} is no address of pages: give one like https://lab.example.org/.")
    return url if url.endswith("/") else f"{url}/"


def origin_of(url: str) -> str:
    """Return the origin of a page (RFC 6454)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
