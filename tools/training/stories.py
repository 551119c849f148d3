"""A small grammar that tells animal stories, and the vocabulary that turns them into token ids and back.

The stories were written for this model, so that they may be given away with it. They are small but not
memoryless: names, things and places recur later in a story, so a model must look back to continue well.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

END = "<end>"
UNKNOWN = "<unknown>"
WORDS = re.compile(r"<\w+>|[a-z]+|[.,!?]")

ANIMALS = [
    "fox",
    "hare",
    "owl",
    "mouse",
    "bear",
    "frog",
    "goose",
    "hedgehog",
    "badger",
    "squirrel",
    "otter",
    "mole",
]
NAMES = {
    "she": ["ada", "mia", "nora", "ruby", "tess", "wilma"],
    "he": ["ben", "felix", "hugo", "otto", "sam", "theo"],
}
POSSESSIVE = {"she": "her", "he": "his"}
TEMPERS = ["small", "old", "clever", "shy", "brave", "lazy", "kind", "curious"]
HOMES = ["in a hollow tree", "by the river", "under a green hill", "near the old mill", "in a warm burrow"]
TIMES = ["one morning", "one evening", "one cold day", "after the rain", "when the moon was full"]
PLACES = {  # things that can be found at each place
    "forest": ["acorn", "mushroom", "feather", "berry", "lantern"],
    "river": ["fish", "pebble", "boat", "bottle", "reed"],
    "meadow": ["flower", "kite", "clover", "drum", "ribbon"],
    "village": ["cake", "bell", "candle", "coin", "hat"],
}
COLOURS = ["red", "blue", "golden", "silver", "green", "white"]
DEEDS = {  # actions with a thing
    "share": ["acorn", "mushroom", "berry", "fish", "clover", "cake"],
    "hide": ["feather", "pebble", "coin", "bottle", "ribbon", "candle"],
    "play with": ["kite", "drum", "boat", "bell", "hat"],
    "look at": ["lantern", "reed", "flower"],
}
DONE = {"share": "shared", "hide": "hid", "play with": "played with", "look at": "looked at"}
FEELINGS = ["happy", "proud", "glad", "surprised"]
ENDINGS = ["and they were friends for ever", "and then it was time to sleep", "and nobody was sad that day"]


def story(draw: random.Random) -> str:
    """One story of 85 to 108 words and marks, all lower case, words and marks separated by single blanks."""
    animal, other_animal = draw.sample(ANIMALS, 2)
    pronoun, other_pronoun = draw.choice(["she", "he"]), draw.choice(["she", "he"])
    name = draw.choice(NAMES[pronoun])
    other = draw.choice([candidate for candidate in NAMES[other_pronoun] if candidate != name])
    temper, feeling, colour = draw.choice(TEMPERS), draw.choice(FEELINGS), draw.choice(COLOURS)
    place = draw.choice(list(PLACES))
    thing = draw.choice(PLACES[place])
    deed = next(deed for deed, things in DEEDS.items() if thing in things)

    article = "an" if temper == "old" else "a"
    sentences = [
        f"once upon a time there was {article} {temper} {animal} named {name} .",
        f"{name} the {animal} lived {draw.choice(HOMES)} .",
        f"{draw.choice(TIMES)} {pronoun} went to the {place} and found a {colour} {thing} .",
    ]
    if draw.random() < 0.6:
        sentences.append(f"what a {draw.choice(['fine', 'strange', 'lovely'])} {thing} , said {name} .")
    sentences.append(f"then {pronoun} met {other} the {other_animal} .")
    if draw.random() < 0.5:
        sentences += [
            f"will you {deed} the {thing} with me ? asked {name} .",
            f"yes , said {other} , i will {deed} the {colour} {thing} with you .",
        ]
    else:
        sentences += [
            f"may i {deed} the {thing} too ? asked {other} .",
            f"of course , said {name} the {animal} .",
        ]
    sentences.append(f"so {name} and {other} {DONE[deed]} the {thing} .")
    sentences.append(f"{other} was {feeling} , {POSSESSIVE[pronoun]} friend {name} was {feeling} too , ")
    sentences.append(f"{draw.choice(ENDINGS)} . {END}")
    return " ".join(" ".join(sentences).split())


@dataclass(frozen=True)
class Vocabulary:
    """The tokens by their ids; the same for any order of the texts."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        words = {word for text in texts for word in WORDS.findall(text)}
        return cls((END, UNKNOWN, *sorted(words - {END, UNKNOWN})))

    def encode(self, text: str) -> list[int]:
        """The ids of a text; a word that is not in the vocabulary becomes UNKNOWN."""
        ids = {token: number for number, token in enumerate(self.tokens)}
        return [ids.get(word, ids[UNKNOWN]) for word in WORDS.findall(text.lower())]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, up to the end of the story; marks follow their word without a blank."""
        words = [self.tokens[number] for number in ids]
        whole = " ".join(words[: words.index(END)] if END in words else words)
        return re.sub(r" ([.,!?])", r"\1", whole)
