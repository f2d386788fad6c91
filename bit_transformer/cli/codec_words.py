"""The words of `compress` and `decompress`, as users of gzip, xz and zstd type them.

tyro knows neither joined short options such as -kf9 nor options between file names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VALUED = {"-o": "--out", "-T": "--threads", "-M": "--memory-limit"}
"""Short options that take a value, in the same word or in the next one."""
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
    """Options and file names, in whatever order they were typed."""

    options: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    level: int | None = None
    """The last level given by -1 to -9 or --level."""

    def ordered(self) -> list[str]:
        """Return all words, with -- between the options and the names."""
        return [*self.options, "--", *self.names] if self.names else self.options


def split_words(words: Sequence[str]) -> Words:
    """Split joined short options, and separate options from names.

    A single - is a name, and so is every word after --.
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
            # Joined by "=", because the value may begin with a minus.
            found.options += [f"{VALUED[flag]}={value}"] if value else [flag]
            return
        if flag[1] in "123456789":
            found.level = int(flag[1])
            found.options += ["--level", flag[1]]
        else:
            found.options.append(flag)
