"""The words of `compress` and `decompress`, as users of gzip, xz and zstd type them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VALUED = {"-o": "--out", "-T": "--threads", "-M": "--memory-limit"}
"""Short options that a value follows, in the same word or in the next one."""
_LONG_VALUED = {
    *VALUED.values(),
    *("--given", "--level", "--block-bytes", "--segment-bytes", "--table-bits", "--lanes"),
}
_SYNONYMS: Mapping[str, str] = {
    "--to-stdout": "--stdout",
    "--uncompress": "--decompress",
    "--output": "--out",
    "--memlimit": "--memory-limit",
    "--silent": "--quiet",
}


@dataclass
class Words:
    """Options and names, told apart wherever they stand."""

    options: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    level: int | None = None
    """The last of -1 to -9, or of --level."""

    def ordered(self) -> list[str]:
        """Options first, for a parser that takes what follows -- as it is."""
        return [*self.options, "--", *self.names] if self.names else self.options


def split_words(words: Sequence[str]) -> Words:
    """Take short options that stand in one word apart, and options from between names.

    A single - is a name, and so is all that follows --.
    """
    found, rest = Words(), list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.names += rest
            break
        if word == "-" or not word.startswith("-"):
            found.names.append(word)
        elif word.startswith("--"):
            _long(word, rest, found)
        else:
            _short(word, rest, found)
    return found


def _long(word: str, rest: list[str], found: Words) -> None:
    name, equals, value = word.partition("=")
    name = _SYNONYMS.get(name, name)
    found.options.append(f"{name}{equals}{value}")
    if name in _LONG_VALUED and not equals:
        value = rest.pop(0) if rest else ""
        found.options += [value] if value else []
    if name == "--level" and value.isdecimal():
        found.level = int(value)


def _short(word: str, rest: list[str], found: Words) -> None:
    letters = word[1:]
    while letters:
        flag, letters = f"-{letters[0]}", letters[1:]
        if flag in VALUED:
            value = letters.removeprefix("=") or (rest.pop(0) if rest else "")
            # In one word, for a value may begin with a minus too.
            found.options += [f"{VALUED[flag]}={value}"] if value else [flag]
            return
        if flag[1] in "123456789":
            found.level = int(flag[1])
            found.options += ["--level", flag[1]]
        else:
            found.options.append(flag)
