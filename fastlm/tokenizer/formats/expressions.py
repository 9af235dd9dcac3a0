r"""Expressions that find the same matches in every engine that a tokenizer's file may go to.

`tokenizers` uses Oniguruma, tiktoken uses fancy-regex, and this package uses `regex`. They agree on
a common language. Outside of it they differ in silence: `$` is the end of a line in the first and
may stand before a last line break in the third, and `\p{N}{1,3}+` takes three digits in the second
and third and any number in the first.
"""

import re

_CATEGORIES = (
    "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp Cc "
    "Han Hiragana Katakana Hangul Latin Greek Cyrillic Arabic Hebrew Thai Devanagari"
)
_ESCAPE = rf"\\(?:[rntfvsSdD]|[^A-Za-z0-9\s]|[pP]\{{(?:{'|'.join(_CATEGORIES.split())})\}})"
_IN_CLASS = rf"(?:{_ESCAPE}|[^\\\[\]&|~-]|[&|~](?![&|~])|-(?!-))"
_CLASS = rf"\[\^?{_IN_CLASS}+\]"
# Without regard to case only ASCII words are alike: elsewhere one letter may match two.
_CASELESS = r"\(\?i:(?:\[[A-Za-z]+\]|[A-Za-z|'])+\)"
_PAIRS = re.compile(r"(?i)ss|st|ff|fi|fl|'n|[hjtwy]'")
_QUANTIFIER = r"(?:[*+?][+?]?|\{[0-9]+(?:,[0-9]*)?\})"
_PART = re.compile(
    rf"({_CASELESS}|\(\?:|\(\?=|\(\?!|\(\?<!|\(\?<=|\(\?>|\((?!\?))|({_ESCAPE}|{_CLASS})|([|)])"
    rf"|({_QUANTIFIER})|([^\\\[\](){{}}*+?^$|])"
)


def is_portable(expression: str) -> bool:
    """Return whether all engines find the same matches, as far as this is known of its parts."""
    place = 0
    may_repeat = False
    while place < len(expression):
        part = _PART.match(expression, place)
        if part is None:
            return False
        group, _, _, quantifier, _ = part.groups()
        if group is not None and group.startswith("(?i:") and _PAIRS.search(group):
            return False
        if quantifier is not None and not may_repeat:
            return False
        # A quantifier after another one means different things.
        may_repeat = quantifier is None
        place = part.end()
    return True
