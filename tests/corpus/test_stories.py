"""Claims about generated stories: the same everywhere, all different, and true to themselves."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import pytest

from fastlm.corpus import stories
from fastlm.corpus.stories import generate_stories, plural, story
from fastlm.corpus.stories.lexicon import PEOPLE, SCENES, SYNONYMS, THINGS
from fastlm.corpus.stories.phrases import SENTENCES
from fastlm.corpus.stories.plots import PLOTS

FIRST_THOUSAND_SHA256 = "68c01ede730c5d31e7678ecea355d2f3f35ee58206034977495518ac14633052"
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def sample() -> list[str]:
    return [story(11, index) for index in range(3000)]


@pytest.fixture(scope="module")
def ten_megabytes() -> list[str]:
    return list(generate_stories(0, 10_000_000))


def digest(seed: int, n_stories: int) -> str:
    text = "".join(story(seed, index) for index in range(n_stories))
    return hashlib.sha256(text.encode()).hexdigest()


def test_stories_are_those_of_every_other_machine() -> None:
    assert digest(0, 1000) == FIRST_THOUSAND_SHA256


@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_stories_do_not_depend_on_the_hash_seed(hash_seed: str) -> None:
    code = (
        "import hashlib\n"
        "from fastlm.corpus.stories import story\n"
        "text = ''.join(story(5, index) for index in range(60))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == digest(5, 60)


def test_story_is_a_function_of_seed_and_index_alone() -> None:
    forward = [story(2, index) for index in range(50)]
    assert [story(2, index) for index in reversed(range(50))] == forward[::-1]
    later = list(generate_stories(2, 10_000, first=20))
    assert later == forward[20 : 20 + len(later)]
    assert story(2, 0) != story(3, 0) != story(-3, 0)


@pytest.mark.parametrize("n_bytes", [1, 1000, 12_345])
def test_stories_fill_the_bytes_by_less_than_one_story(n_bytes: int) -> None:
    sizes = [len(text.encode()) + len("\n<|endoftext|>\n") for text in generate_stories(1, n_bytes)]
    assert sum(sizes) - sizes[-1] < n_bytes <= sum(sizes)


def test_impossible_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="n_bytes must be at least 1: got 0"):
        generate_stories(0, 0)
    with pytest.raises(ValueError, match="first must be at least 0: got -1"):
        generate_stories(0, 10, first=-1)


def test_no_story_comes_twice_in_ten_megabytes(ten_megabytes: list[str]) -> None:
    assert len(set(ten_megabytes)) == len(ten_megabytes)
    openings = {re.split(r"(?<=[.!?]) ", text)[0] for text in ten_megabytes}
    assert len(openings) > 0.97 * len(ten_megabytes)


def test_text_is_about_as_compressible_as_real_stories(ten_megabytes: list[str]) -> None:
    data = "\n<|endoftext|>\n".join(ten_megabytes).encode()
    ratio = len(data) / len(zlib.compress(data, 6))
    words = set(re.findall(r"[a-z]+", data.decode().lower()))
    mean_bytes = len(data) / len(ten_megabytes)
    print(f"zlib ratio {ratio:.2f}, {len(words)} words, {mean_bytes:.0f} bytes a story")
    assert 3.0 < ratio < 4.5
    assert len(words) > 1500
    assert 700 < mean_bytes < 1200


def test_sizes_vary_but_stay_small(sample: list[str]) -> None:
    words = sorted(len(text.split()) for text in sample)
    assert words[0] >= 80
    assert words[-1] <= 320
    assert words[-len(words) // 20] > 1.3 * words[len(words) // 20]


@pytest.mark.parametrize(
    ("mistake", "pattern"),
    [
        ("a before a vowel", r"\b[Aa] (?!one\b|uni)[aeiou]"),
        ("an before a consonant", r"\b[Aa]n (?!hour|honest)[^aeiou]"),
        ("two spaces", r"  "),
        ("space at an end of a line", r" \n|\n | $|^ "),
        ("empty line", r"\n\n"),
        ("space before a comma or stop", r" [,.!?]"),
        ("two commas or stops", r"[,.!?]{2}"),
        ("no space after a comma or stop", r"[,.!?](?![ \n\"]|$)"),
        ("small letter after a stop", r"[.!?] \"?[a-z]|\.\" [a-z]"),
        ("small letter at a line's start", r"(^|\n)\"?[a-z]"),
        ("line without a stop", r"[^.!?\"](\n|$)"),
        ("the same word twice", r"\b(\w+) \1\b"),
        ("a mark left over", r"[\[\]{}<>|@#+*/_]"),
        ("another character than plain ones", r"[^\n -~]"),
        ("speech without a comma", r"\w\" (said|asked|cried|he|she)\b"),
        ("one and a plural", r"\b(one|One) (apples|eggs|coins|cookies|buns|carrots)\b"),
        ("more and a singular", r"\b(two|three|four|five|six) (apple|egg|coin|cookie|bun|time)\b"),
        (
            "wrong verb",
            r"\b(they|They|we|We|you) was\b|(?<!if )\b(he|she) were\b|\bone \w+ were left",
        ),
    ],
)
def test_grammar_slip_is_absent(sample: list[str], mistake: str, pattern: str) -> None:
    found = [match.group() for text in sample for match in re.finditer(pattern, text)]
    assert found == [], mistake


def test_every_quotation_is_closed_in_its_paragraph(sample: list[str]) -> None:
    for text in sample:
        for paragraph in text.split("\n"):
            assert paragraph.count('"') % 2 == 0, paragraph
            inside = paragraph.split('"')[1::2]
            assert all(speech and speech == speech.strip() for speech in inside), paragraph


def test_no_sentence_is_said_twice_in_a_story(sample: list[str]) -> None:
    # "They looked ... Nothing." is the one that is meant to come twice.
    repeated = Counter(
        sentence
        for text in sample
        for sentence, n in Counter(re.split(r"(?<=[.!?])\"? |\n", text)).items()
        if n > 1 and len(sentence) > 25
    )
    assert sum(repeated.values()) < 0.01 * len(sample), repeated.most_common(5)


def test_pronouns_follow_the_persons() -> None:
    wrong = {"she": r"\b(he|him|his|himself)\b", "he": r"\b(she|her|hers|herself)\b"}
    n_checked = 0
    for index in range(3000):
        telling = stories._Telling(4, index)
        pronouns = {telling.words["he" + person] for person in ("", "2", "3", "4")}
        text = telling.tell()
        if len(pronouns) == 1:
            n_checked += 1
            assert re.search(wrong[pronouns.pop()], text, re.IGNORECASE) is None, text
    assert n_checked > 200


def test_hero_and_friend_have_different_names_and_fitting_pronouns() -> None:
    girls = set(rule("girl") + rule("she-animal"))
    boys = set(rule("boy") + rule("he-animal"))
    for index in range(2000):
        words = stories._Telling(4, index).words
        assert words["N"] != words["F"]
        for name, pronoun in (("N", "he"), ("F", "he2"), ("E", "he3")):
            female = words[pronoun] == "she"
            if name == "E":
                assert (words[name] in rule("she-elder")) == female
            else:
                assert words[name] in (girls if female else boys)


def rule(name: str) -> list[str]:
    words = re.search(rf"^{name}: (.*(?:\n .*)*)", PEOPLE, re.MULTILINE)
    assert words
    return words.group(1).replace("\n", "").split(", ")


def test_what_is_eaten_and_what_is_left_add_up(sample: list[str]) -> None:
    n_checked = 0
    for text in sample:
        had = re.search(r" had (\w+) ([a-z ]+?) in an? ", text)
        ate = re.search(r" (?:ate|munched) (\w+) of the ", text)
        left = re.search(r"Now there (was|were) (\w+) ([a-z ]+) left\.", text)
        if had and ate and left:
            n_checked += 1
            n, k, rest = (NUMBERS.index(found) for found in (had[1], ate[1], left[2]))
            assert n == k + rest, text
            assert left[1] == ("was" if rest == 1 else "were"), text
            assert (left[3] if rest > 1 else plural(left[3])) == had[2], text
    assert n_checked > 30


def test_eggs_and_coins_add_up(sample: list[str]) -> None:
    n_checked = 0
    for text in sample:
        eggs = re.search(r"carried the (\w+) eggs.* (\w+) eggs? broke, so only (\w+) egg", text)
        coins = re.search(
            r"cost (\w+) coins, but s?he had only (\w+)\. S?he needed (\w+) more", text
        )
        for found in (eggs, coins):
            if found:
                n_checked += 1
                n, k, rest = (NUMBERS.index(word.lower()) for word in found.groups())
                assert n == k + rest, text
    assert n_checked > 60


def test_lost_thing_is_found_with_its_colour_and_name(sample: list[str]) -> None:
    n_checked = 0
    for text in sample:
        lost = re.search(
            r" had an? ([a-z ]+?)(?: with a[^.]*)?\. It was (?:his|her) favorite", text
        )
        if lost:
            n_checked += 1
            end = text.split("\n")[-1]
            found = re.search(
                r"(sleeping on|hugging|sitting beside|sitting next to|sitting by|playing with) the (.+?)!",
                text,
            )
            assert found, text
            assert found[2] == lost[1], text
            assert lost[1] in end, text
    assert n_checked > 40


def test_every_plot_is_told(sample: list[str]) -> None:
    told: Counter[int] = Counter()
    for index in range(1000):
        telling = stories._Telling(9, index)
        telling.tell()
        told.update(telling._told["plot"])
    n_plots = len(re.findall(r"^(?=\S)(?!=)", PLOTS, re.MULTILINE))
    assert n_plots >= 30
    assert len(told) == n_plots


def test_every_mark_of_the_templates_has_a_rule() -> None:
    rules = stories._rules()
    given = {*stories._Telling(0, 0).words, "n", "k", "left"}
    templates = "\n".join((PEOPLE, THINGS, SCENES, SYNONYMS, SENTENCES, PLOTS)).replace("\n ", " ")
    for mark, name in re.findall(r"([{<])\^?([^{}<>]*)[}>]", templates):
        name, *rest = re.split(r"[@#]", name.rstrip("+*"))
        if mark == "{":
            assert name in given or name.rstrip("23") in rules, name
            assert not rest or rest[0] in given, rest
        elif rest:
            assert all(f"{name} {place}" in rules for place in rules[rest[0]]), name
        else:
            assert name in rules, name


def test_unpaired_brackets_of_a_template_are_an_error() -> None:
    for template in ("a [b|c", "a] b", "[[a|b]"):
        with pytest.raises(ValueError, match="expected"):
            stories._compiled(template)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("ball", "balls"),
        ("cherry tree", "cherry trees"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("toy mouse", "toy mice"),
        ("box", "boxes"),
        ("peach", "peaches"),
        ("brush", "brushes"),
        ("glass", "glasses"),
        ("piece of cheese", "pieces of cheese"),
        ("gingerbread man", "gingerbread men"),
        ("was", "were"),
    ],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected
