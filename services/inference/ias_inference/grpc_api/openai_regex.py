"""Bounds for regular expressions, which an engine makes automata of before it answers.

Read once, without trying anything out, so the time it takes is that of the length. Engines try
nothing out either: what makes a matcher that does so slow, as `(a|aa)*`, costs an automaton nothing
(xgrammar: 1 ms). Its size is what can grow: by repetitions, counted or endless, of repetitions.
"""

import re
from dataclasses import dataclass

from ias_inference.domain.errors import InvalidRequest

MAX_REGEX = 1000
"""Characters of a regular expression."""
MAX_REPEATED = 10_000
"""What the counted repetitions of an expression, multiplied where they nest, may make of it."""

_TOO_MANY = f"more than {MAX_REPEATED} repetitions"
_COUNTED = re.compile(r"([0-9]+)(,?)([0-9]*)\}")


def check_regex(field: str, pattern: str | None) -> None:
    """Bounds a regular expression; None is none. Raises InvalidRequest."""
    if pattern is None:
        return
    if len(pattern) > MAX_REGEX:
        raise InvalidRequest(field, f"'{field}' has more than {MAX_REGEX} characters.")
    try:
        _Scan(pattern).run()
    except ValueError as error:
        raise InvalidRequest(field, f"Invalid regular expression in '{field}': {error}.") from None


@dataclass(slots=True)
class _Atom:
    """One thing that may be repeated."""

    size: int
    loops: bool = False
    """Whether it can match the same text in endlessly many ways when it is repeated."""
    fixed: bool = True
    """Whether it must be there."""


class _Group(_Atom):
    """An open group, and what the branch that is being read has so far."""

    branch_loops = False
    branch_fixed = False

    def add(self, atom: _Atom) -> None:
        """Takes an atom into the branch. Raises ValueError when the group grows too large."""
        self.size += atom.size
        if self.size > MAX_REPEATED:
            raise ValueError(_TOO_MANY)
        self.branch_loops |= atom.loops
        self.branch_fixed |= atom.fixed

    def end_branch(self) -> None:
        """At a `|`, or at the end."""
        self.loops |= self.branch_loops and not self.branch_fixed
        self.branch_loops = self.branch_fixed = False


class _Scan:
    """Reads an expression once."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._groups = [_Group(0)]
        self._atom: _Atom | None = None

    def run(self) -> None:
        """Raises ValueError, saying what is wrong."""
        while self._at < len(self._pattern):
            character = self._pattern[self._at]
            self._at += 1
            if character in "*+":
                self._loop()
            elif character == "?":
                self._repeated().fixed = False
            elif character != "{" or not self._count():
                self._close_atom()
                self._read(character)
        self._close_atom()
        if len(self._groups) > 1:
            raise ValueError("a ')' is missing")

    def _read(self, character: str) -> None:
        if character == "(":
            self._open_group()
        elif character == ")":
            if len(self._groups) == 1:
                raise ValueError("a ')' too many")
            self._groups[-1].end_branch()
            self._atom = self._groups.pop()
        elif character == "|":
            self._groups[-1].end_branch()
        else:
            self._skip(character)
            self._atom = _Atom(1)

    def _open_group(self) -> None:
        rest = self._pattern[self._at : self._at + 3]
        if rest.startswith("?"):
            if not rest.startswith("?:"):
                raise ValueError("no look-around, no named groups, no flags")
            self._at += 2
        self._groups.append(_Group(0))

    def _skip(self, character: str) -> None:
        pattern = self._pattern
        if character == "\\":
            if self._at == len(pattern):
                raise ValueError("it ends with a '\\'")
            if pattern[self._at] in "123456789":
                raise ValueError("no back references")
            self._at += 1
        elif character == "[":
            end = self._at + (pattern[self._at : self._at + 1] == "^") + 1
            while end < len(pattern) and pattern[end] != "]":
                end += 1 + (pattern[end] == "\\")
            if end >= len(pattern):
                raise ValueError("a ']' is missing")
            self._at = end + 1

    def _repeated(self) -> _Atom:
        if self._atom is None:
            raise ValueError("nothing to repeat")
        return self._atom

    def _loop(self) -> None:
        atom = self._repeated()
        if atom.loops:
            raise ValueError("no endless repetition of an endless repetition")
        self._atom = _Atom(atom.size, loops=True, fixed=False)

    def _count(self) -> bool:
        """Takes `{n}`, `{n,}` or `{n,m}`. False when what stands there is none of them."""
        found = _COUNTED.match(self._pattern, self._at)
        if found is None:
            return False
        self._at = found.end()
        least, comma, most = found.groups()
        if max(len(least), len(most)) > 6:
            raise ValueError(_TOO_MANY)
        if comma and not most:
            self._loop()
        atom = self._repeated()
        atom.size *= int(most or least)
        if atom.size > MAX_REPEATED:
            raise ValueError(_TOO_MANY)
        return True

    def _close_atom(self) -> None:
        if self._atom is not None:
            self._groups[-1].add(self._atom)
            self._atom = None
