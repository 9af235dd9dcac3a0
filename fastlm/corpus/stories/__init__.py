"""Children's stories generated from a seed: the default text that fastlm trains on.

A story is one plot of plots.py, told with the words of lexicon.py and the sentences of phrases.py
by the rules of a small template language:

    [a|b|]      one of the alternatives, of which one may be empty
    {toy}       a word of the rule "toy", drawn once and then the same in the whole story
    {toy+}      its plural; {toy#n} its plural unless the number bound to n is one
    <toy>       a word of the rule that this story has not used yet, as long as there is one
    <try*>      one to three different alternatives of the rule, one after the other
    <spot@place>  an alternative of the rule named "spot" and the word bound to place
    {^he} <^bug>  the same with a capital letter
    //          a new paragraph

Capitals after full stops and the choice between "a" and "an" are corrected in the finished text.
"""

import functools
import hashlib
import random
import re
from collections.abc import Callable, Iterator

from fastlm.corpus.documents import END_OF_TEXT
from fastlm.corpus.stories.lexicon import IRREGULAR_PLURALS, PEOPLE, SCENES, SYNONYMS, THINGS
from fastlm.corpus.stories.phrases import SENTENCES
from fastlm.corpus.stories.plots import PLOTS

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PRONOUNS = {
    "girl": ("she", "her", "her", "herself"),
    "boy": ("he", "him", "his", "himself"),
}
_MARK = re.compile(r"([\[\]|]|\{[^{}]*\}|<[^<>]*>)")
_LOWER_START = re.compile(r"(?:[.!?] \"?|\.\" )[a-z]")
_VOWEL_AFTER_A = re.compile(r"\b([Aa]) (?=[aeio]|un[^i]|u[^ns]|hour|honest)(?!one\b|once\b)")
_SPACES = re.compile(r"  +")


def story(seed: int, index: int) -> str:
    """Tell story number `index` of a seed: ASCII text, paragraphs separated by one newline.

    A pure function of its arguments, with the same result on every platform and Python version.
    Stories do not depend on each other, so ranges of indices can be told in parallel.
    """
    return _Telling(seed, index).tell()


def generate_stories(seed: int, n_bytes: int, *, first: int = 0) -> Iterator[str]:
    """Yield stories first, first + 1 ... until they fill n_bytes of a text file.

    Each story counts with the "\\n<|endoftext|>\\n" that follows it in the file, so the file
    exceeds n_bytes by less than one story.

    Raises:
        ValueError: if n_bytes is below 1 or first below 0.
    """
    if n_bytes < 1:
        raise ValueError(f"n_bytes must be at least 1: got {n_bytes}")
    if first < 0:
        raise ValueError(f"first must be at least 0: got {first}")
    return _until_full(seed, n_bytes, first)


def _until_full(seed: int, n_bytes: int, index: int) -> Iterator[str]:
    while n_bytes > 0:
        text = story(seed, index)
        yield text
        n_bytes -= len(text) + len(END_OF_TEXT) + 2
        index += 1


def plural(noun: str) -> str:
    """Give the plural of a noun of the word lists.

    >>> plural("cherry tree"), plural("piece of cheese"), plural("bunch")
    ('cherry trees', 'pieces of cheese', 'bunches')
    """
    head, of, rest = noun.partition(" of ")
    if of:
        return plural(head) + of + rest
    before, space, last = noun.rpartition(" ")
    if last in IRREGULAR_PLURALS:
        return before + space + IRREGULAR_PLURALS[last]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


class _Telling:
    """State of one story: its characters, the bound words, and the alternatives told so far."""

    __slots__ = ("_rules", "_told", "random", "words")

    def __init__(self, seed: int, index: int) -> None:
        # Python guarantees only that an integer seed and random() give the same numbers forever.
        digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=8).digest()
        self.random = random.Random(int.from_bytes(digest, "little")).random
        self._rules = _rules()
        self._told: dict[str, set[int]] = {}
        self.words: dict[str, str] = {"was": "was", "is": "is", "it": "it"}
        self._cast()

    def tell(self) -> str:
        text = _SPACES.sub(" ", self.draw("plot"))
        text = "\n".join([part.strip() for part in text.split("//")])
        text = _VOWEL_AFTER_A.sub(r"\1n ", text)
        text = _LOWER_START.sub(_upper, text)
        return re.sub(r"(?<=\n)[a-z]", _upper, text[0].upper() + text[1:])

    def draw(self, rule: str) -> str:
        """Tell an alternative of a rule that this story has not told yet, if there is one."""
        alternatives = self._rules[rule]
        n = len(alternatives)
        told = self._told.setdefault(rule, set())
        if len(told) == n:
            told.clear()
        at = int(self.random() * n)
        while at in told:
            at = (at + 1) % n
        told.add(at)
        alternative = alternatives[at]
        return alternative if isinstance(alternative, str) else alternative(self)

    def bind(self, name: str) -> str:
        """Return the word bound to a name; draw it at the first use."""
        if name not in self.words:
            if name in ("n", "k", "left"):
                self._count()
            else:
                # toy2 is another word of the rule toy.
                self.words[name] = self.draw(name.rstrip("23"))
        return self.words[name]

    def _count(self) -> None:
        n = 3 + int(self.random() * 7)
        k = 1 + int(self.random() * (n - 1))
        self.words.update(n=_NUMBERS[n], k=_NUMBERS[k], left=_NUMBERS[n - k])

    def _cast(self) -> None:
        """Choose the hero, the friend (2), the elder (3) and the helper (4)."""
        words = self.words
        animals = self.random() < 0.4
        for person, name in (("", "N"), ("2", "F"), ("3", "E"), ("4", "H")):
            sex = "girl" if self.random() < 0.5 else "boy"
            for form, word in zip(("he", "him", "his", "himself"), _PRONOUNS[sex], strict=True):
                words[form + person] = word
            if name == "E":
                words[name] = self.draw("she-elder" if sex == "girl" else "he-elder")
            elif name == "H":
                words[name] = self.draw("helper")
            else:
                self._introduce(name, person, sex, animals)
        # Some names are in several lists.
        while words["F"] == words["N"]:
            words["F"] = self.draw("girl" if words["he2"] == "she" else "boy")

    def _introduce(self, name: str, person: str, sex: str, animal: bool) -> None:
        pet_names = "she-animal" if sex == "girl" else "he-animal"
        self.words[name] = self.draw(pet_names if animal and self.random() < 0.7 else sex)
        noun = self.draw("species") if animal else sex
        looks = _compiled("[little|young|] [<coat>|]" if animal else "[little|little|young|]")
        self.words["noun" + person] = noun
        self.words["kind" + person] = " ".join([*looks(self).split(), noun])


def _upper(match: re.Match[str]) -> str:
    return match.group().upper()


_Piece = str | Callable[[_Telling], str]


@functools.cache
def _rules() -> dict[str, tuple[_Piece, ...]]:
    """Parse the word lists, sentences and plots, once, at the first story."""
    rules: dict[str, tuple[_Piece, ...]] = {}
    for block in (PEOPLE, THINGS, SCENES):
        for line in block.replace("\n ", " ").strip().splitlines():
            name, _, words = line.partition(": ")
            rules[name] = tuple(_piece(word) for word in words.split(", "))
    for block in (SENTENCES, PLOTS):
        for part in block.split("\n= ")[1:]:
            name, *lines = part.replace("\n ", " ").splitlines()
            rules[name] = tuple(_piece(_with_synonyms(line)) for line in lines)
    return rules


def _with_synonyms(template: str) -> str:
    """Replace words of SYNONYMS outside marks by a choice of their synonyms."""
    tokens = _MARK.split(template)
    return "".join(
        token if _MARK.fullmatch(token) else _synonym_pattern().sub(_synonym_choice, token)
        for token in tokens
    )


@functools.cache
def _synonyms() -> dict[str, str]:
    lines = (line.partition(": ") for line in SYNONYMS.strip().splitlines())
    return {word: "[" + others.replace(", ", "|") + "]" for word, _, others in lines}


@functools.cache
def _synonym_pattern() -> re.Pattern[str]:
    longest_first = sorted(_synonyms(), key=len, reverse=True)
    # No synonym before a comma: "Then, crash!" should not become "Next, crash!".
    return re.compile(r"\b(?:" + "|".join(longest_first) + r")\b(?![',])")


def _synonym_choice(match: re.Match[str]) -> str:
    return _synonyms()[match.group()]


def _piece(template: str) -> _Piece:
    return _compiled(template) if _MARK.search(template) else template


@functools.cache
def _compiled(template: str) -> Callable[[_Telling], str]:
    tokens = [token for token in _MARK.split(template) if token]
    piece, end = _sequence(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"expected [ and ] in pairs, got {template!r}")
    return piece if callable(piece) else lambda telling: piece


def _sequence(tokens: list[str], at: int) -> tuple[_Piece, int]:
    """Compile tokens up to the | or ] that ends this sequence, or to the end."""
    parts: list[_Piece] = []
    while at < len(tokens) and tokens[at] not in ("|", "]"):
        token = tokens[at]
        if token == "[":
            part, at = _choice(tokens, at + 1)
        elif token[0] == "{":
            part = _capital(token[1:-1], _bound)
        elif token[0] == "<":
            part = _capital(token[1:-1], _fresh)
        else:
            part = token
        parts.append(part)
        at += 1
    if not parts:
        return "", at
    if len(parts) == 1:
        return parts[0], at
    return lambda t: "".join([p if isinstance(p, str) else p(t) for p in parts]), at


def _choice(tokens: list[str], at: int) -> tuple[_Piece, int]:
    options: list[_Piece] = []
    while True:
        option, at = _sequence(tokens, at)
        options.append(option)
        if at == len(tokens):
            raise ValueError(f"expected ] at the end of {''.join(tokens)!r}")
        if tokens[at] == "]":
            break
        at += 1
    n = len(options)

    def choose(telling: _Telling) -> str:
        option = options[int(telling.random() * n)]
        return option if isinstance(option, str) else option(telling)

    return choose, at


def _capital(
    name: str, make: Callable[[str], Callable[[_Telling], str]]
) -> Callable[[_Telling], str]:
    if not name.startswith("^"):
        return make(name)
    plain = make(name[1:])

    def capital(telling: _Telling) -> str:
        text = plain(telling)
        return text[:1].upper() + text[1:]

    return capital


def _bound(name: str) -> Callable[[_Telling], str]:
    if name.endswith("+"):
        return lambda t: plural(t.bind(name[:-1]))
    noun, mark, number = name.partition("#")
    if mark:
        return lambda t: t.bind(noun) if t.bind(number) == "one" else plural(t.bind(noun))

    def bound(telling: _Telling) -> str:
        word = telling.words.get(name)
        return telling.bind(name) if word is None else word

    return bound


def _fresh(name: str) -> Callable[[_Telling], str]:
    if name.endswith("+"):
        return lambda t: plural(t.draw(name[:-1]))
    if name.endswith("*"):
        return lambda t: " ".join([t.draw(name[:-1]) for _ in range(1 + int(t.random() * 3))])
    rule, mark, of = name.partition("@")
    if mark:
        return lambda t: t.draw(f"{rule} {t.bind(of)}")
    return lambda t: t.draw(name)
