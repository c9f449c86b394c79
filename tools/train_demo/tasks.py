"""The exact tasks: each generator returns one question with its only right answer.

A `Task` carries a `key` that names the *item* (operands, word, name and age ...).
`held_out(key)` decides by a hash whether the item belongs to the test split, so no test
item can be seen in training.  Tasks over a short closed list (capitals, days, months)
cannot hold items back; there the key also names the wording and the format.
"""

import random
import zlib
from dataclasses import dataclass

from words import BOYS, CAPITALS, DAYS, FOODS, GIRLS, MONTHS, OBJECTS, WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = GIRLS + BOYS
CITIES = sorted({c for c in CAPITALS.values() if " " not in c and "'" not in c})


@dataclass
class Task:
    """One question.

    `by_char` asks for an answer encoded one character per token; `closed` marks tasks over
    a short list of items; `framed` marks questions whose end must be visible (in the format
    `raw`, "Say this: tea cup tea" might have ended before its last word).
    """

    kind: str
    key: str
    prompt: str
    answer: str
    by_char: bool = False
    closed: bool = False
    framed: bool = False


def held_out(key: str) -> bool:
    """True for about one item in twenty: those belong to the test split only."""
    return zlib.crc32(key.encode()) % 20 == 0


def pseudo_word(rng: random.Random, pieces=()) -> str:
    """A word that need not exist: random letters, syllables, or tokens glued together."""
    how = rng.random()
    if pieces and how < 0.45:
        word = rng.choice(pieces)
        while len(word) < 3 or (len(word) < 7 and rng.random() < 0.6):
            word += rng.choice(pieces)
        return word[:8]
    if how < 0.75:
        word = "".join(rng.choice("bcdfghjklmnpqrstvwxyz") + rng.choice("aeiou")
                       + rng.choice(("", "", "n", "r", "s", "t", "l"))
                       for _ in range(rng.randint(1, 3)))
        return (word + rng.choice(LETTERS))[:8]
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 8)))


def any_word(rng: random.Random, pieces=()) -> str:
    """A dictionary word in half of the cases, otherwise a pseudo word."""
    return rng.choice(WORDS) if rng.random() < 0.5 else pseudo_word(rng, pieces)


def any_name(rng: random.Random, pieces=()) -> str:
    """A first name from the lists, sometimes an invented one."""
    return rng.choice(NAMES) if rng.random() < 0.7 else pseudo_word(rng, pieces).capitalize()


def _number(rng: random.Random) -> int:
    """A number of one to three digits; three digits most often."""
    return rng.randrange(10 ** rng.choice((1, 2, 2, 3, 3, 3, 3)))


def _arith_key(op: str, a: int, b: int) -> str:
    # Everything below twenty is always trained, so small sums never surprise.
    return f"{op}|{a}|{b}" if max(a, b) >= 20 else "small"


def add(rng, pieces):
    a, b = _number(rng), _number(rng)
    prompt = rng.choice((f"What is {a} + {b}?", f"{a} + {b} =", f"Add {a} and {b}.",
                         f"Calculate {a} + {b}.", f"What is {a} plus {b}?", f"{a}+{b}="))
    return Task("add", _arith_key("add", a, b), prompt, str(a + b))


def sub(rng, pieces):
    a, b = _number(rng), _number(rng)
    if rng.random() < 0.12:  # close operands, where most digits cancel
        b = min(999, max(0, a + rng.randint(-20, 20)))
    if a < b and rng.random() < 0.5:
        a, b = b, a
    prompt = rng.choice((f"What is {a} - {b}?", f"{a} - {b} =", f"Subtract {b} from {a}.",
                         f"Calculate {a} - {b}.", f"What is {a} minus {b}?", f"{a}-{b}="))
    return Task("sub", _arith_key("sub", a, b), prompt, str(a - b))


def _letters(kind, wordings, answer):
    def make(rng, pieces):
        word = any_word(rng, pieces)
        prompt = rng.choice(wordings).format(word)
        if rng.random() < 0.3:
            prompt = prompt.rstrip(".")
        return Task(kind, f"{kind}|{word}", prompt, answer(word), by_char=True)
    return make


reverse = _letters("reverse", (
    "Reverse the letters of {}.", "Reverse the word {}.", "Spell {} backwards.",
    "Write {} backwards.", 'Reverse "{}".'), lambda w: w[::-1])
sort_letters = _letters("sort", (
    "Sort the letters of {}.", "Put the letters of {} in alphabetical order.",
    "Sort the letters of the word {}.", 'Sort the letters of "{}".'),
    lambda w: "".join(sorted(w)))
spell = _letters("spell", (
    "Spell the word {}.", "Spell {}.", "Spell out the letters of {}."), "-".join)


def _case(kind, wordings, source, target):
    def make(rng, pieces):
        words = [any_word(rng, pieces) for _ in range(rng.choice((1, 1, 1, 2)))]
        text = " ".join(words)
        prompt = rng.choice(wordings).format(source(text))
        if rng.random() < 0.3:
            prompt = prompt.rstrip(".")
        return Task(kind, f"{kind}|{text}", prompt, target(text), by_char=True)
    return make


upper = _case("upper", (
    "Write {} in upper case.", "Write {} in capital letters.", "Upper-case {}.",
    "Convert {} to upper case.", "Make this upper case: {}"), str, str.upper)
lower = _case("lower", (
    "Write {} in lower case.", "Lower-case {}.", "Convert {} to lower case.",
    "Make this lower case: {}"), str.upper, str)


def count_range(rng, pieces):
    start = rng.randrange(0, rng.choice((10, 30, 100)))
    size = rng.randint(2, 10)
    if rng.random() < 0.35 and start >= size:
        stop, step = start - size + 1, -1
        prompt = rng.choice((f"Count down from {start} to {stop}.",
                             f"Count from {start} down to {stop}.",
                             f"Count backwards from {start} to {stop}."))
    else:
        stop, step = start + size - 1, 1
        prompt = rng.choice((f"Count from {start} to {stop}.",
                             f"Please count from {start} to {stop}.",
                             f"List the numbers from {start} to {stop}."))
    answer = ", ".join(str(i) for i in range(start, stop + step, step))
    return Task("count", f"count|{start}|{stop}", prompt, answer)


def count_letters(rng, pieces):
    word = any_word(rng, pieces)
    if rng.random() < 0.5:
        prompt = rng.choice((f"How many letters are in {word}?",
                             f"How many letters does the word {word} have?",
                             f"Count the letters of {word}."))
        return Task("letters", f"letters|{word}", prompt, str(len(word)))
    letter = rng.choice(word) if rng.random() < 0.8 else rng.choice(LETTERS)
    prompt = rng.choice((f"How many times does the letter {letter} appear in {word}?",
                         f"How often is {letter} in {word}?",
                         f"Count the letter {letter} in {word}."))
    return Task("letters", f"letters|{letter}|{word}", prompt, str(word.count(letter)))


def count_items(rng, pieces):
    size = rng.randint(1, 9)
    if rng.random() < 0.4:
        items = [rng.choice(OBJECTS)] * size
    else:
        items = [rng.choice(OBJECTS + FOODS) for _ in range(size)]
    text = ", ".join(items)
    prompt = rng.choice((f"Count the items: {text}.", f"How many things are in this list: {text}?",
                         f"How many items: {text}?"))
    return Task("items", f"items|{text}", prompt, str(size))


def _cycle(kind, noun, names):
    def make(rng, pieces):
        i = rng.randrange(len(names))
        forms = ((f"What {noun} comes after {names[i]}?", 1), (f"Which {noun} follows {names[i]}?", 1),
                 (f"What is the {noun} after {names[i]}?", 1), (f"Next {noun} after {names[i]}:", 1),
                 (f"What {noun} comes before {names[i]}?", -1),
                 (f"What is the {noun} before {names[i]}?", -1))
        which = rng.randrange(len(forms))
        prompt, step = forms[which]
        return Task(kind, f"{kind}|{i}|{which}", prompt, names[(i + step) % len(names)], closed=True)
    return make


next_day = _cycle("day", "day", DAYS)
next_month = _cycle("month", "month", MONTHS)


def capital(rng, pieces):
    country, city = rng.choice(tuple(CAPITALS.items()))
    forms = (f"What is the capital of {country}?", f"Name the capital of {country}.",
             f"Tell me the capital of {country}.", f"What is the capital city of {country}?",
             f"The capital of {country} is")
    which = rng.randrange(len(forms))
    return Task("capital", f"capital|{country}|{which}", forms[which], city, closed=True)


def repeat(rng, pieces):
    words = [any_word(rng, pieces) if rng.random() < 0.8 else any_name(rng, pieces)
             for _ in range(rng.randint(1, 6))]
    if rng.random() < 0.15:
        words[rng.randrange(len(words))] = rng.choice(words)
    text = " ".join(words)
    prompt = rng.choice(("Repeat after me: {}", "Repeat: {}", "Say this: {}", "Please repeat: {}",
                         'Say "{}".')).format(text)
    return Task("repeat", f"repeat|{text}", prompt, text, framed=len(set(words)) < len(words))


def to_json(rng, pieces):
    name, age = any_name(rng, pieces), rng.randint(1, 99)
    city = rng.choice(CITIES) if rng.random() < 0.25 else None
    comma = rng.choice(("", ","))
    text = f"name {name}{comma} age {age}" + (f"{comma} city {city}" if city else "")
    prompt = rng.choice((f"Turn into JSON: {text}", f"Convert to JSON: {text}",
                         f"Write as JSON: {text}", f"JSON: {text}", f"Turn {text} into JSON."))
    answer = f'{{"name": "{name}", "age": {age}' + (f', "city": "{city}"}}' if city else "}")
    return Task("json", f"json|{name}|{age}", prompt, answer)


# (generator, share of the training questions)
TASKS = {
    "add": (add, 10), "sub": (sub, 20), "reverse": (reverse, 12), "sort": (sort_letters, 16),
    "spell": (spell, 5), "upper": (upper, 5), "lower": (lower, 4), "count": (count_range, 4),
    "letters": (count_letters, 11), "items": (count_items, 5), "day": (next_day, 1),
    "month": (next_month, 1), "capital": (capital, 3), "repeat": (repeat, 9), "json": (to_json, 5),
}
_KINDS = list(TASKS)
_SHARES = [TASKS[k][1] for k in _KINDS]

# Plain formats give (text to continue, text before the answer).
PLAIN = {"raw": ("{}", " "), "qa": ("Q: {}\nA:", " "), "line": ("{}\n", "")}
FORMATS = ("raw", "qa", "line", "chat")
_FORMAT_SHARES = (22, 14, 12, 52)


def sample(rng: random.Random, split: str, pieces=(), kind=None, fmt=None):
    """Draws a task of the wanted split; returns (task, format)."""
    while True:
        name = kind or rng.choices(_KINDS, _SHARES)[0]
        form = fmt or rng.choices(FORMATS, _FORMAT_SHARES)[0]
        task = TASKS[name][0](rng, pieces)
        if task.framed and form == "raw":
            continue
        key = f"{task.key}|{form}" if task.closed else task.key
        if held_out(key) == (split == "test"):
            return task, form
