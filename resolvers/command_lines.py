"""Command lines as text: into words, without a shell, and only where no shell would differ.

A line is accepted where it means to ``/bin/sh`` exactly the words it is split into here. Whatever
a shell would interpret (pipes, variables, patterns …) is refused with its name, because who
writes it expects a shell, and there is none.
"""

import shlex
import unicodedata
from dataclasses import dataclass

LINE_LENGTH = 4_096
WORDS_MAX = 100

_OPERATORS = "|&;<>()"
_PATTERNS = "*?["
_EXPANSIONS = "$`"
_FEATURES = {
    **dict.fromkeys(_OPERATORS, "pipes, redirections and lists of commands"),
    **dict.fromkeys(_PATTERNS, "patterns of file names"),
    **dict.fromkeys("{}", "braces"),
    **dict.fromkeys("!", "history and negation"),
    "$": "variables and substitutions",
    "`": "substitutions",
    "~": "home folders",
    "#": "comments",
}
_BLANKS = " \t"
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d")


class UnreadableLineError(ValueError):
    """A line that cannot be taken as a command; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class SplitLine:
    """The words of a line, and names of the shell's features in it that are not there."""

    words: tuple[str, ...]
    features: tuple[str, ...] = ()


def normalise(text: str) -> str:
    """A text as rules compare it: compatible forms made one, invisible characters left out."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c) not in {"Cf", "Cc", "Cs", "Co"})


def check_characters(line: str) -> None:
    """Refuse a line with characters that deceive its reader or a program.

    Raises:
        UnreadableLineError: control characters (also line ends and NUL), invisible ones, blanks
            that are not spaces, a dash that only looks like one at a word's beginning.
    """
    if len(line) > LINE_LENGTH:
        raise UnreadableLineError(f"It has more than {LINE_LENGTH} characters")
    before = " "
    for character in line:
        kind = unicodedata.category(character)
        if kind == "Cc" and character != "\t":
            raise UnreadableLineError(
                "It has a line end or another control character in it; one command on one line"
            )
        if kind in {"Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
            raise UnreadableLineError("It has an invisible character in it")
        if kind == "Zs" and character != " ":
            raise UnreadableLineError("It has a blank in it that is not a space")
        if character in _DASHES and before in " \t\"'=":
            raise UnreadableLineError("It has a character in it that looks like - and is not")
        before = character


def split_line(line: str) -> SplitLine:
    """The words of a command line, as ``shlex`` and a POSIX shell both split it.

    Raises:
        UnreadableLineError: empty, too long, unbalanced quotes, deceiving characters, or a word on
            which the two do not agree.
    """
    check_characters(line)
    scanner = _Scanner(line)
    scanner.run()
    try:
        words = shlex.split(line, comments=False, posix=True)
    except ValueError as error:
        raise UnreadableLineError(f"Its quotes do not match: {error}") from error
    if not words:
        raise UnreadableLineError("It is empty")
    if len(words) > WORDS_MAX:
        raise UnreadableLineError(f"It has more than {WORDS_MAX} words")
    features = list(dict.fromkeys(scanner.features))
    if _is_assignment(line.lstrip(_BLANKS)):
        features.append("assignments")
    if not features and words != scanner.words:
        raise UnreadableLineError("It can be read in two ways; use single quotes")
    return SplitLine(tuple(words), tuple(features))


def _is_assignment(line: str) -> bool:
    name, equals, _ = line.partition("=")
    return bool(equals) and name.isascii() and name.isidentifier()


class _Scanner:
    """Walks over a line as a POSIX shell does, and notes what it would interpret."""

    def __init__(self, line: str) -> None:
        self.words: list[str] = []
        self.features: list[str] = []
        self._rest = iter(line)
        self._word: list[str] | None = None

    def run(self) -> None:
        """Walk to the end. Raises UnreadableLineError for quotes that do not match."""
        for character in self._rest:
            if character in _BLANKS:
                self._end_word()
            elif character == "'":
                self._quoted()
            elif character == '"':
                self._double_quoted()
            elif character == "\\":
                self._take(next(self._rest, None))
            else:
                self._plain(character)
        self._end_word()

    def _plain(self, character: str) -> None:
        starts = self._word is None
        if character in _FEATURES and (starts or character not in "~#"):
            self.features.append(_FEATURES[character])
        elif character == "~" and self._word and self._word[-1] in {"=", ":"}:
            self.features.append(_FEATURES["~"])
        self._take(character)

    def _quoted(self) -> None:
        self._word = self._word or []
        for character in self._rest:
            if character == "'":
                return
            self._word.append(character)
        raise UnreadableLineError("Its quotes do not match")

    def _double_quoted(self) -> None:
        self._word = self._word or []
        for character in self._rest:
            if character == '"':
                return
            if character in _EXPANSIONS:
                self.features.append(_FEATURES[character])
            taken: str | None = character
            if character == "\\":
                taken = next(self._rest, None)
                if taken is not None and taken not in '"\\$`':
                    self._word.append("\\")
            self._take(taken)
        raise UnreadableLineError("Its quotes do not match")

    def _take(self, character: str | None) -> None:
        if character is None:
            raise UnreadableLineError("It ends with a backslash")
        self._word = self._word or []
        self._word.append(character)

    def _end_word(self) -> None:
        if self._word is not None:
            self.words.append("".join(self._word))
        self._word = None
