"""Tells whether a regular expression takes time in proportion to a text, whatever the text is: processes choose theirs.

Python's engine may take a time that grows with the square of a text or doubles with each character, and nothing else
runs meanwhile. So its steps are counted, by an engine that tries the same ways in the same order, and gives up: on
texts that a part which repeats would repeat on, and that do not match in the end. No clock is asked, and the answer is
the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from enum import Enum
from re import _compiler, _parser  # type: ignore[attr-defined]  # re.sre_compile, re.sre_parse of old
from re import _constants as op  # type: ignore[attr-defined]
from typing import Any

TEXT_CHARS = 1024
"""Of each text that is tried."""
STEPS_PER_CHARACTER = 450
"""Usual patterns take less than ten; a part that repeats up to 128 times takes 400, from each character on."""
MAX_STEPS = 2_000_000
"""With all texts together: a second, which no usual pattern takes."""
MAX_INSTRUCTIONS = 4_096
MAX_PART_CHARS = 256
"""Of a part that repeats, and of what stands before it."""
STAIRS = 45
"""So many characters, from none to 44 of them, fill a text."""
FEW = 16
"""Repeats up to so many times are tried with their own part only."""
USUAL = "a0_ -./=:"
END = "\x01"
"""What hardly any pattern takes."""

_CATEGORIES = {op.CATEGORY_DIGIT: "0", op.CATEGORY_SPACE: " ", op.CATEGORY_NOT_WORD: "-", op.CATEGORY_NOT_DIGIT: "a"}
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_CHARACTERS = (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY)


class OutOfProportionError(Exception):
    """It takes too many steps, or is too large to tell."""


def takes_time_in_proportion(pattern: str) -> bool:
    """Whether no text was found that takes longer; some 10 ms of work, at most a second.

    Raises:
        re.error, RecursionError, OverflowError: it is no regular expression.
    """
    parsed = _parser.parse(pattern)
    engine = _Engine()
    try:
        compiler = _Compiler()
        program = compiler.program(parsed, parsed.state.flags)
        for text in dict.fromkeys(_attacks(parsed, compiler.unlike(USUAL))):
            engine.search(program, text)
    except OutOfProportionError:
        return False
    return True


class _Do(Enum):
    """What an instruction does; what else it says stands behind it."""

    TAKE = 1
    """(match): one character, or a place between two."""
    RUN = 2
    """(match, least, lazy): the most characters, and where that fails fewer; or from the least on."""
    TRY = 3
    """(first, second): goes on there, and there when that fails."""
    ENTER = 4
    """Notes where a part begins."""
    LEAVE = 5
    """Fails where nothing was taken since."""
    WHOLE = 6
    """(program): another program, whose first way is its only one."""
    LOOK = 7
    """(program, wanted, back): whether one would match, so many characters before; nothing is taken."""


Program = list[tuple[Any, ...]]
Take = Callable[[str, int], "re.Match[str] | None"]


class _Compiler:
    """Parsed pattern to program: a part that repeats is written out, and a reference is the group once more."""

    def __init__(self) -> None:
        self._groups: dict[int, tuple[Any, int]] = {}
        self._characters: dict[tuple[str, int], Take] = {}
        self._written = 0

    def program(self, parsed: Any, flags: int) -> Program:
        """The program of a part."""
        made: Program = []
        self._add(made, parsed, flags)
        return made

    def _count(self) -> None:
        self._written += 1
        if self._written > MAX_INSTRUCTIONS:
            raise OutOfProportionError

    def _write(self, program: Program, *instruction: Any) -> None:
        self._count()
        program.append(instruction)

    def _add(self, program: Program, parsed: Any, flags: int) -> None:
        for kind, given in parsed:
            if kind in _REPEATS:
                self._add_repeat(program, kind, given, flags)
            elif kind is op.BRANCH:
                self._add_choice(program, given[1], flags)
            elif kind is op.GROUPREF_EXISTS:
                self._add_choice(program, [given[1], given[2] or ()], flags)
            elif kind is op.SUBPATTERN:
                group, more, less, body = given
                self._groups[group] = body, flags
                self._add(program, body, (flags | more) & ~less)
            elif kind is op.ATOMIC_GROUP:
                self._write(program, _Do.WHOLE, self.program(given, flags))
            elif kind in (op.ASSERT, op.ASSERT_NOT):
                direction, body = given
                back = body.getwidth()[0] if direction < 0 else 0
                self._write(program, _Do.LOOK, self.program(body, flags), kind is op.ASSERT, back)
            elif kind is op.GROUPREF:
                self._add(program, *self._groups[given])
            else:
                self._write(program, _Do.TAKE, self._taking(kind, given, flags))

    def _taking(self, kind: Any, given: Any, flags: int) -> Take:
        key = repr((kind, given)), flags
        take = self._characters[key] = self._characters.get(key) or _taking(kind, given, flags)
        return take

    def unlike(self, characters: str) -> str:
        """Those of the characters that the pattern tells apart."""
        known = [*self._characters.values(), _taking(op.IN, [(op.CATEGORY, op.CATEGORY_WORD)], 0)]
        return "".join({tuple(take(one, 0) is None for take in known): one for one in characters}.values())

    def _add_choice(self, program: Program, branches: Any, flags: int) -> None:
        ends = []
        for branch in branches[:-1]:
            at = len(program)
            self._write(program)
            self._add(program, branch, flags)
            ends.append(len(program))
            self._write(program)
            program[at] = _Do.TRY, at + 1, len(program)
        self._add(program, branches[-1], flags)
        for at in ends:
            program[at] = _Do.TRY, len(program), None

    def _add_repeat(self, program: Program, kind: Any, given: Any, flags: int) -> None:
        least, most, body = given
        if kind is op.POSSESSIVE_REPEAT:
            self._write(program, _Do.WHOLE, self.program([(op.MAX_REPEAT, given)], flags))
            return
        lazy = kind is op.MIN_REPEAT
        if len(body) == 1 and body[0][0] in _CHARACTERS:
            self._taking(body[0][0], body[0][1], flags)
            self._write(program, _Do.RUN, _taking(op.MAX_REPEAT, (*given[:2], list(body)), flags), least, lazy)
            return
        for _ in range(least):
            self._count()  # a part that takes nothing costs the genuine engine memory, too
            self._add(program, body, flags)
        begins = []
        for _ in range(1 if most is op.MAXREPEAT else most - least):
            begins.append(len(program))
            self._write(program)
            self._write(program, _Do.ENTER)
            self._add(program, body, flags)
            self._write(program, _Do.LEAVE)
        if most is op.MAXREPEAT:
            self._write(program, _Do.TRY, begins[0], None)
        for at in begins:
            ways = (at + 1, len(program))
            program[at] = _Do.TRY, *(reversed(ways) if lazy else ways)


def _taking(kind: Any, given: Any, flags: int) -> Take:
    """What the genuine engine says of a character, however often it is taken, or of a place between two."""
    state = _parser.State()
    state.flags, state.str = flags, ""
    if kind is op.MAX_REPEAT:
        given = *given[:2], _parser.SubPattern(state, list(given[2]))
    compiled: re.Pattern[str] = _compiler.compile(_parser.SubPattern(state, [(kind, given)]), flags)
    return compiled.match


_Way = tuple[int, int, int, Any]
"""Where in the program, where in the text, the last place there that is to be tried (one by one), what was entered."""


class _Engine:
    """Runs programs as Python's engine does, and counts."""

    def __init__(self) -> None:
        self._left = MAX_STEPS
        self._text = ""

    def search(self, program: Program, text: str) -> None:
        """Looks for all that match.

        Raises:
            OutOfProportionError: it takes too many steps.
        """
        allowed = min(self._left, STEPS_PER_CHARACTER * (len(text) + 1))
        kept, self._left, self._text = self._left - allowed, allowed, text
        at = 0
        while at <= len(text):
            end = self._match(program, at)
            at = at + 1 if end is None else max(end, at + 1)
        self._left += kept

    def _match(self, program: Program, at: int) -> int | None:
        """Where a match that begins here ends; None where there is none."""
        ways: list[_Way] = [(0, at, at, None)]
        while ways:
            pc, at, last, entered = ways.pop()
            if at != last:
                ways.append((pc, at + (1 if last > at else -1), last, entered))
            while pc < len(program):
                self._spend(1)
                match program[pc]:
                    case _Do.TRY, pc, second:
                        if second is not None:
                            ways.append((second, at, at, entered))
                        continue
                    case (_Do.ENTER,):
                        entered = at, entered
                    case (_Do.LEAVE,):
                        begun, entered = entered
                        if begun == at:
                            break
                    case _Do.RUN, take, least, lazy:
                        ends = self._run(take(self._text, at), at + least, lazy=lazy)
                        ways += [(pc + 1, *both, entered) for both in ends]
                        break
                    case instruction:
                        end = self._end(instruction, at)
                        if end is None:
                            break
                        at = end
                pc += 1
            else:
                return at
        return None

    def _run(self, found: re.Match[str] | None, fewest: int, *, lazy: bool) -> list[tuple[int, int]]:
        """The first end that a run can have, and its last; none where there are too few characters."""
        if found is None:
            return []
        most = found.end()
        self._spend(0 if lazy else most - found.start())
        return [(fewest, most) if lazy else (most, fewest)]

    def _end(self, instruction: tuple[Any, ...], at: int) -> int | None:
        """Where what has but one way ends; None where it fails."""
        match instruction:
            case _Do.TAKE, take:
                found = take(self._text, at)
                return None if found is None else int(found.end())
            case _Do.WHOLE, program:
                return self._match(program, at)
            case _, program, wanted, back:
                fits = at >= back and self._match(program, at - back) is not None
                return at if fits is wanted else None
        raise AssertionError(instruction)

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise OutOfProportionError


def _attacks(parsed: Any, usual: str) -> Iterator[str]:
    """The beginning that a repeated part needs, and the part or a usual character: once to as often as fits."""
    for before, part, often in dict.fromkeys((("", "", True), *_repeats(parsed, ""))):
        yield "".join([before + part * times + END for times in range(STAIRS)])[:TEXT_CHARS]
        for one in (part, *(usual if often else "")):
            for text in (before + one * TEXT_CHARS, (before + one) * TEXT_CHARS):
                yield text[:TEXT_CHARS] + END


def _repeats(parsed: Any, before: str) -> Generator[tuple[str, str, bool], None, str]:
    """Of each part that repeats: a text before it, one that it takes, if often. Returns one that all takes, perhaps."""
    text = ""
    for kind, given in parsed:
        if kind in _REPEATS:
            least, most, body = given
            one = yield from _repeats(body, before + text)
            yield before + text, one, most > FEW
            text += one * min(max(least, 1), MAX_PART_CHARS)
        elif kind is op.BRANCH:
            first, *others = given[1]
            for branch in others:
                yield from _repeats(branch, before + text)
            text += yield from _repeats(first, before + text)
        elif kind in (op.SUBPATTERN, op.ATOMIC_GROUP):
            text += yield from _repeats(given[-1] if kind is op.SUBPATTERN else given, before + text)
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            yield from _repeats(given[1], before + text)
        else:
            text += _character(kind, given)
        text = text[:MAX_PART_CHARS]
    return text


def _character(kind: Any, given: Any) -> str:
    """One that it takes, perhaps; empty for what takes none."""
    if kind is op.LITERAL:
        return chr(given)
    if kind is op.IN:
        return _character(*given[0])
    if kind is op.RANGE:
        return chr(given[0])
    if kind is op.CATEGORY:
        return _CATEGORIES.get(given, "a")
    return "a" if kind in (op.ANY, op.NOT_LITERAL, op.NEGATE) else ""
