"""What ``dragoman demo`` shows: plain lines everywhere, colours and a status line on a terminal."""

import os
import re
import time
from typing import Any, TextIO

_LABEL_WIDTH = 10
_MAX_TEXT = 400
_COLOURS = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_LABEL_COLOURS = {
    "error": "red",
    "says": "cyan",
    "uses": "blue",
    "changes": "yellow",
    "task": "magenta",
    "run": "magenta",
}
_CLEAR_LINE = "\r\x1b[K"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """Writes to a stream; times are seconds since it was made."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = time.monotonic()
        self._is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colours = self._is_terminal and not os.environ.get("NO_COLOR")
        self._status = ""

    def line(self, label: str, text: str) -> None:
        """One thing that happened. Texts of agents come through here: no control gets out."""
        clean = printable(" ".join(text.split()))[:_MAX_TEXT]
        shown = self._coloured(f"{label:<{_LABEL_WIDTH}}", _LABEL_COLOURS.get(label, "bold"))
        seconds = self._coloured(f"{time.monotonic() - self._began:6.1f} s", "dim")
        self._write(f"{seconds}  {shown} {clean}\n")

    def error(self, text: str) -> None:
        """What went wrong: its first line with time and label, then the others."""
        first, _, rest = text.strip().partition("\n")
        self.status("")
        self.line("error", first)
        if rest:
            self.text(rest)

    def text(self, text: str) -> None:
        """Lines without time and label; an empty text is an empty line."""
        self._write(f"{printable(text)}\n")

    def status(self, text: str) -> None:
        """What is going on now: the last line of a terminal, nothing elsewhere."""
        self._status = printable(text)[:100]
        self._write("")

    def diff(self, patch: str) -> None:
        """A unified diff."""
        for line in patch.splitlines():
            self._write(f"    {self._coloured(printable(line), _diff_colour(line))}\n")

    def event(self, event: dict[str, Any]) -> None:
        """A progress event of an agent (see docs/operator.md); others than these say too little."""
        match event:
            case {"type": "message", "text": text}:
                self.line("says", text)
            case {"type": "tool_call", "name": name}:
                self.line("uses", f"{name}: {event.get('title') or event.get('kind')}")
            case {"type": "file_change", "path": path, "kind": kind}:
                self.line("changes", f"{path} ({kind})")
            case {"type": "plan", "items": items}:
                done = sum(item["status"] == "completed" for item in items)
                now = next((i["text"] for i in items if i["status"] == "in_progress"), "")
                self.status(f"{done} of {len(items)} steps done  {now}")
            case {"type": "warning", "text": text}:
                self.line("warning", text)
            case {"type": "result"}:
                self.line("result", event.get("text") or event.get("error") or event["verdict"])

    def _write(self, text: str) -> None:
        if self._is_terminal:
            status = self._coloured(self._status, "dim") if self._status else ""
            text = f"{_CLEAR_LINE}{text}{status}"
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()

    def _coloured(self, text: str, colour: str) -> str:
        if not (self._has_colours and colour):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def printable(text: str) -> str:
    """The text without characters that could steer a terminal; tabs and newlines stay."""
    return _CONTROLS.sub("\ufffd", text)


def _diff_colour(line: str) -> str:
    if line.startswith(("diff ", "index ", "+++", "---", "new file", "deleted file")):
        return "bold"
    if line.startswith("@@"):
        return "cyan"
    return {"+": "green", "-": "red"}.get(line[:1], "")
