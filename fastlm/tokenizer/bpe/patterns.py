r"""The patterns that cut a text into pre-tokens: those of known models by name, and any other.

A pattern is a sequence of steps, and each step splits every piece that the steps before it have
left. A step that is "isolated" makes a piece of each match and of each gap between two matches.

GPT-4's pattern, cl100k, is here as tiktoken has it. The copies of Hugging Face and of Llama 3 lack
its `\s++$`, so that they split "\n " at the end of a text in two, and tiktoken does not.
"""

import json
from collections.abc import Iterable
from typing import Literal, NamedTuple

Cuts = Literal["spaces", "lines", "words", "specials", "never"]
"""Where a text may be cut without another id (blocks.py)"""

KINDS = (
    "isolated",
    "removed",
    "contiguous",
    "merged_with_previous",
    "merged_with_next",
    "prefix_space",
)


class Step(NamedTuple):
    """One step of a pattern, with the names of behaviours that `tokenizers` has.

    A step of kind "prefix_space" puts a blank before each piece that does not begin with one, and
    has no expression. is_inverted takes gaps for matches and matches for gaps.
    """

    regex: str
    kind: str = "isolated"
    is_inverted: bool = False


class Pattern(NamedTuple):
    """The steps of a pattern, its name if it is a known one, and where a text may be cut.

    name is empty for a pattern of the user.
    """

    name: str
    steps: tuple[Step, ...]
    cuts: Cuts = "specials"

    @property
    def spelled(self) -> str:
        """The name, or else the expression, or else the steps as JSON: find_pattern reads each."""
        if self.name:
            return self.name
        if len(self.steps) == 1 and self.steps[0] == Step(self.steps[0].regex):
            return self.steps[0].regex
        return json.dumps([list(step) for step in self.steps], ensure_ascii=False)


def _known(name: str, *regexes: str, cuts: Cuts = "lines") -> Pattern:
    return Pattern(name, tuple(map(Step, regexes)), cuts)


_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

GPT2 = _known("gpt2", _GPT2, cuts="spaces")
"""Source: Radford et al. 2019 and tiktoken's r50k_base"""

CL100K = _known(
    "cl100k",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
)
"""GPT-3.5 and GPT-4; source: tiktoken's cl100k_base"""

O200K = _known(
    "o200k",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""GPT-4o and gpt-oss; source: tiktoken's o200k_base"""

LLAMA3 = _known(
    "llama3",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Source: Llama 3's tokenizer.json"""

QWEN2 = _known(
    "qwen2",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Qwen2, 2.5 and 3; source: their tokenizer.json, which also brings texts to NFC"""

NANOCHAT = _known(
    "nanochat",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
)
"""Source: nanochat/tokenizer.py"""

SMOLLM = _known("smollm", r"\p{N}", _GPT2, cuts="spaces")
"""StarCoder and SmolLM: each digit alone, then GPT-2's; source: their tokenizer.json"""

DEEPSEEK = _known(
    "deepseek",
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""DeepSeek V3 and R1; source: their tokenizer.json"""

PATTERNS = {
    pattern.name: pattern
    for pattern in (GPT2, CL100K, O200K, LLAMA3, QWEN2, NANOCHAT, SMOLLM, DEEPSEEK)
}

_OLD_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_NEW_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# `{1,3}+` takes at most three digits in tiktoken; in the engine of `tokenizers` it would take all.
_CL100K_THERE = CL100K.steps[0].regex.replace("{1,3}+", "{1,3}")
_SPELLINGS: dict[str, Pattern] = {
    _OLD_GPT2: GPT2,
    _NEW_GPT2: GPT2,
    _CL100K_THERE: CL100K,
    # Copies of one pattern in files of others: each is the same on every text.
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+": LLAMA3,
} | {pattern.steps[0].regex: pattern for pattern in PATTERNS.values() if len(pattern.steps) == 1}


def spellings_of(pattern: Pattern) -> list[str]:
    """Return the expressions that files have for a known pattern of one step."""
    return [expression for expression, known in _SPELLINGS.items() if known == pattern]


def find_pattern(given: str) -> Pattern:
    """Return the pattern of a name, of an expression, or of steps as Pattern.spelled writes them.

    Raises:
        TypeError: if it is no str.
        ValueError: if it is neither a name nor an expression.
    """
    if not isinstance(given, str):
        raise TypeError(f"pattern must be a name or a regular expression: got {given!r}")
    if given in PATTERNS:
        return PATTERNS[given]
    if given == "[]":
        return Pattern("", ())
    if given.startswith("[["):
        try:
            steps = tuple(Step(str(r), str(k), bool(i)) for r, k, i in json.loads(given))
        except (ValueError, TypeError, RecursionError):
            steps = ()
        if steps and all(step.kind in KINDS for step in steps):
            return pattern_of(steps)
    if given in _SPELLINGS:
        return _SPELLINGS[given]
    if not given or given.replace("_", "").replace("-", "").replace(".", "").isalnum():
        raise ValueError(
            f"pattern must be one of {', '.join(PATTERNS)}, or a regular expression: got {given!r}"
        )
    _check_expression(given)
    return Pattern("", (Step(given),))


def pattern_of(steps: Iterable[Step]) -> Pattern:
    """Return the pattern of steps: a known one if they are its own, in whichever spelling."""
    steps = tuple(steps)
    plain = tuple(
        # Isolated matches and the text between them are pieces alike: which are which is no matter.
        Step(step.regex, "isolated") if step.kind == "isolated" else step
        for step in steps
    )
    if len(plain) == 1 and plain[0].regex in _SPELLINGS:
        known = _SPELLINGS[plain[0].regex]
        # The known ones match every character, so that nothing lies between their matches.
        if plain[0].kind == "isolated" or plain[0] == Step(plain[0].regex, "removed", True):
            return known
    spelled = tuple(
        step._replace(regex=_GPT2) if _SPELLINGS.get(step.regex) is GPT2 else step for step in plain
    )
    for pattern in PATTERNS.values():
        if spelled == pattern.steps:
            return pattern
    for step in plain:
        if step.kind != "prefix_space":
            _check_expression(step.regex)
    return Pattern("", plain)


def _check_expression(regex: str) -> None:
    from fastlm.tokenizer.bpe.by_regex import compile_expression

    compile_expression(regex)


def expression_for_tokenizers(step: Step) -> str:
    """Return the expression of a step as `tokenizers` must have it to find the same matches."""
    return _CL100K_THERE if step == CL100K.steps[0] else step.regex
