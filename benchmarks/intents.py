"""Suite `intents`: commands in plain words, trained from a list of phrases and measured on others' words.

The list that is trained on is judged with whole phrases held out; `intents.toml` was written before the reader and is
never trained on, `unseen.toml` after it was frozen.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from itertools import product
from math import prod
from time import thread_time
from typing import Any

import numpy as np
import orjson

from appliance import intents
from appliance.intents import CAREFUL, QUESTION, Reading, careful, features, judged, read, unknown_in
from appliance.text import lemmas, words
from benchmarks.results import ROOT, SHARED, SUITES

WEIGHTS = ROOT / "appliance" / "intent_weights.json"
UNIT = 0.01
MOST_OF_A_PHRASE = (28, 24)  # texts of a command's phrase, of a question's
SHARED_BY = 3  # questions' phrases that make a word of theirs known
OPENINGS = (("please ", "bot, ", "hey, "), ("пожалуйста, ", "слушай, ", "бот, ", "а ", "ну "))
FOLDS = 3
STEPS = 300
RATE = 6.0
L2 = 5e-5
Example = tuple[str, dict[str, float], int]  # text, its intents with their weights, its phrase


def examples(seed: int = 0) -> list[Example]:
    """Expand the phrases into texts."""
    data = tomllib.loads((SUITES / "phrases.toml").read_text("utf-8"))
    rng = random.Random(seed)
    found: list[Example] = []
    groups = [({name: 1.0}, phrase) for name, phrases in data["command"].items() for phrase in phrases]
    groups += [
        (dict.fromkeys(names.split(), 1 / len(names.split())), phrase)
        for names, phrases in data["between"].items()
        for phrase in phrases
    ]
    groups += [({QUESTION: 1.0}, phrase) for phrase in data["question"]["lines"]]
    for number, (target, phrase) in enumerate(groups):
        most = MOST_OF_A_PHRASE[QUESTION in target]
        seen: set[str] = set()
        made = ways(phrase, most, rng)
        for text in made * (4 if len(made) * 4 <= most else 2 if len(made) * 2 <= most else 1):
            filled = filled_in(text, data, rng)
            if QUESTION not in target:
                opening = OPENINGS[re.search("[а-я]", filled) is not None]
                filled = rng.choice(("", "", "", rng.choice(opening))) + filled
            filled = rng.choice((filled, filled, filled.capitalize(), filled + rng.choice(".!?")))
            if filled not in seen:
                seen.add(filled)
                found.append((filled, target, number))
    return found


def ways(phrase: str, most: int, rng: random.Random) -> list[str]:
    """Make all choices of a phrase where they are few, else some of them."""
    parts = [part.split("|") for part in re.split(r"[()]", phrase)]  # text, choices, text, choices, …
    parts = [["|".join(part)] if place % 2 == 0 else part for place, part in enumerate(parts)]
    if prod(map(len, parts)) <= most:
        return ["".join(chosen) for chosen in product(*parts)]
    found = {"".join(rng.choice(part) for part in parts) for _ in range(3 * most)}
    return rng.sample(sorted(found), min(most, len(found)))


def filled_in(phrase: str, data: dict[str, Any], rng: random.Random) -> str:
    """Fill the slots of a phrase."""
    is_russian = re.search("[а-яё]", phrase) is not None
    topics = [one for one in data["topics"] if (re.search("[а-яё]", one) is not None) == is_russian]
    common = data["common"] if is_russian else data["common_en"]
    while "{t}" in phrase:
        phrase = phrase.replace("{t}", rng.choice(common if rng.random() < 0.25 else topics), 1)
    phrase = phrase.replace("{p}", rng.choice(data["periods"] if is_russian else data["periods_en"]))
    return re.sub(r"\s+([,:])", r"\1", " ".join(phrase.split()))


def lexicon(data: dict[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Collect the word forms of commands and those that many questions share, without slots; and their lemmas."""
    lines = [line for part in ("command", "between") for phrases in data[part].values() for line in phrases]
    forms = {word for line in lines for word in words(_spelled(line))}
    shared = Counter(word for line in data["question"]["lines"] for word in set(words(_spelled(line))))
    forms |= {word for word, count in shared.items() if count >= SHARED_BY}
    forms |= {word for period in data["periods"] + data["periods_en"] for word in words(period)}
    forms -= {word for topic in data["topics"] for word in words(topic)}
    return frozenset(forms), frozenset(lemma for form in forms for lemma in lemmas(form)[:1])


def _spelled(line: str) -> str:
    return re.sub(
        r"\{\w\}", " ", re.sub(r"(\w*)\(([^()]*)\)", lambda m: " ".join(m[1] + part for part in m[2].split("|")), line)
    )


def train(found: Sequence[Example]) -> dict[str, Any]:
    """Fit the reader to texts of the phrases."""
    data = tomllib.loads((SUITES / "phrases.toml").read_text("utf-8"))
    forms, known = lexicon(data)
    return fit(found, forms, known, [*data["command"], QUESTION])


def fit(
    found: Sequence[Example], forms: frozenset[str], known: frozenset[str], names: Sequence[str], steps: int = STEPS
) -> dict[str, Any]:
    """Fit a softmax regression; returns the coefficients as they are shipped.

    Full batches with Nesterov's momentum; classes weigh by the root of their share.
    """
    rows = [features(text, forms, known) for text, _, _ in found]
    counts = Counter(feature for row in rows for feature in row)
    columns = {feature: place for place, feature in enumerate(sorted(f for f, n in counts.items() if n >= 3))}
    kept = [np.array([*(columns[feature] for feature in row if feature in columns), len(columns)]) for row in rows]
    flat = np.concatenate(kept)
    ends = np.cumsum([len(row) for row in kept])
    starts = np.concatenate([[0], ends[:-1]])
    order = np.argsort(flat, kind="stable")
    owner = np.repeat(np.arange(len(rows)), [len(row) for row in kept])[order]
    firsts = np.searchsorted(flat[order], np.arange(len(columns) + 1))
    target = np.zeros((len(rows), len(names)), dtype=np.float32)
    for number, (_, wanted, _) in enumerate(found):
        for name, weight in wanted.items():
            target[number, names.index(name)] = weight
    share = target.sum(axis=0)
    weight = (target / np.sqrt(np.maximum(share, 1))).sum(axis=1, keepdims=True)
    weight /= weight.sum()
    fitted = np.zeros((len(columns) + 1, len(names)), dtype=np.float32)
    ahead = fitted.copy()
    for step in range(steps):
        logits = np.add.reduceat(ahead[flat], starts, axis=0)
        power = np.exp(logits - logits.max(axis=1, keepdims=True))
        power /= power.sum(axis=1, keepdims=True)
        slope = np.add.reduceat(((power - target) * weight)[owner], firsts, axis=0) + L2 * ahead
        after = ahead - RATE * slope
        ahead = after + step / (step + 3) * (after - fitted)
        fitted = after
    whole = np.rint(fitted / UNIT).astype(int)
    shipped = {
        feature: [int(v) for at in np.flatnonzero(np.abs(whole[place]) > 9) for v in (at, whole[place, at])]
        for feature, place in columns.items()
    }
    return {
        "unit": UNIT,
        "intents": list(names),
        "bias": whole[-1].tolist(),
        "forms": sorted(forms),
        "lemmas": sorted(known),
        "weights": {feature: flat for feature, flat in shipped.items() if flat},
    }


class Trained:
    """A reader with coefficients of its own."""

    def __init__(self, shipped: dict[str, Any]) -> None:
        self.names = shipped["intents"]
        self.forms, self.known = frozenset(shipped["forms"]), frozenset(shipped["lemmas"])
        self.bias = np.array(shipped["bias"]) * UNIT
        self.rows = {}
        for feature, flat in shipped["weights"].items():
            row = np.zeros(len(self.names))
            row[flat[::2]] = np.array(flat[1::2]) * UNIT
            self.rows[feature] = row

    def scores(self, text: str) -> dict[str, float]:
        """Give every intent its probability."""
        logits = self.bias.copy()
        for feature in features(text, self.forms, self.known):
            if feature in self.rows:
                logits += self.rows[feature]
        power = np.exp(logits - logits.max())
        return dict(zip(self.names, (power / power.sum()).tolist(), strict=True))

    def read(self, text: str) -> Reading:
        """Read a text as `appliance.intents.read` does with the shipped coefficients."""
        return careful(text, judged(self.scores(text), unknown_in(text, self.forms, self.known)))


def run() -> dict[str, Any]:
    """Train with phrases held out, then on all of them; ship; measure on lists and questions that it never saw."""
    found = examples()
    held = by_phrase(found)
    shipped = train(found)
    WEIGHTS.write_bytes(orjson.dumps(shipped))
    intents._model.cache_clear()
    result: dict[str, Any] = {
        "phrases": len({phrase for _, _, phrase in found}),
        "texts": len(found),
        "kilobytes": round(WEIGHTS.stat().st_size / 1024),
        "held_out_phrases": held,
        "own_list": judge_list(tomllib.loads((SUITES / "intents.toml").read_text("utf-8"))),
        "unseen": judge_list(tomllib.loads((SUITES / "unseen.toml").read_text("utf-8"))),
    }
    real = real_questions()
    if real:
        result["real_questions"] = judge_questions(real)
        result["cost_ms"] = cost(real)
    if (SHARED / "intents" / "train.jsonl").exists():
        result["general_59_labels"] = general()
    result["false_destructive"] = (
        result["own_list"]["false_destructive"]
        + result["unseen"]["false_destructive"]
        + result.get("real_questions", {}).get("false_destructive", 0)
    )
    return result


def by_phrase(found: Sequence[Example]) -> dict[str, Any]:
    """Judge every text by a reader that never saw its phrase."""
    phrases = sorted({phrase for _, _, phrase in found})
    random.Random(1).shuffle(phrases)
    fold_of = {phrase: place % FOLDS for place, phrase in enumerate(phrases)}
    counts: Counter[str] = Counter()
    for fold in range(FOLDS):
        reader = Trained(train([one for one in found if fold_of[one[2]] != fold]))
        for text, target, phrase in found:
            if fold_of[phrase] != fold or len(target) > 1:
                continue
            reading = reader.read(text)
            kind = "question" if QUESTION in target else "command"
            counts[kind] += 1
            counts[f"{kind}_right"] += reading.intent in target
            counts[f"{kind}_offered"] += reading.intent in target or (
                reading.intent == "ask" and bool(set(reading.among) & set(target))
            )
            counts["confirmations"] += reading.intent in CAREFUL and reading.intent not in target
    return {
        "commands": counts["command"],
        "commands_right": counts["command_right"] / counts["command"],
        "commands_right_or_asked": counts["command_offered"] / counts["command"],
        "questions_right": counts["question_right"] / counts["question"],
        "needless_confirmations": counts["confirmations"] / sum(counts[kind] for kind in ("command", "question")),
    }


SAME = {"alerts": "unsubscribe", "missed": "digest", "plan_cancel": "plan"}  # the lists' coarser names


def judge_list(data: dict[str, Any]) -> dict[str, Any]:
    """Judge a list of commands, of questions like commands and of what is between."""
    wrong: list[list[str]] = []
    counts: Counter[str] = Counter()
    topics: Counter[str] = Counter()
    for item in data["command"]:
        reading = read(item["text"])
        names = {reading.intent, SAME.get(reading.intent, reading.intent)}
        counts["commands_right"] += item["intent"] in names
        counts["commands_asked"] += reading.intent == "ask" and item["intent"] in {
            SAME.get(name, name) for name in reading.among
        } | set(reading.among)
        if item["intent"] not in names:
            wrong.append([item["text"], item["intent"], reading.intent, *reading.among])
        counts["false_destructive"] += reading.intent in CAREFUL and item["intent"] not in names
        if item.get("topic"):
            topics["of"] += 1
            topics["right"] += intents.topic_of(item["text"]).casefold() == item["topic"].casefold()
    for item in data["question"]:
        reading = read(item["text"])
        counts["questions_right"] += reading.intent == QUESTION
        counts["questions_asked"] += reading.intent == "ask"
        counts["false_destructive"] += reading.intent in CAREFUL
        if reading.intent != QUESTION:
            wrong.append([item["text"], QUESTION, reading.intent, *reading.among])
    for item in data.get("ambiguous", []):
        reading = read(item["text"])
        counts["ambiguous_asked"] += reading.intent == "ask"
    commands, questions = len(data["command"]), len(data["question"])
    return {
        "commands": commands,
        "questions": questions,
        "ambiguous": len(data.get("ambiguous", [])),
        "accuracy": (counts["commands_right"] + counts["questions_right"]) / (commands + questions),
        "commands_right": counts["commands_right"] / commands,
        "commands_right_or_asked": (counts["commands_right"] + counts["commands_asked"]) / commands,
        "questions_right": counts["questions_right"] / questions,
        "questions_taken_for_commands": questions - counts["questions_right"] - counts["questions_asked"],
        "ambiguous_asked": counts["ambiguous_asked"],
        "topics_right": topics["right"] / topics["of"] if topics["of"] else None,
        "false_destructive": counts["false_destructive"],
        "wrong": wrong,
    }


def real_questions() -> list[str]:
    """Read people's questions of the shared data, where it is there."""
    files = (
        "questions-open/rubq_dev.jsonl",
        "questions-open/miracl_ru_train.jsonl",
        "telegram-search/queries.jsonl",
        "wiki-qa/queries.jsonl",
    )
    lines = [line for name in files if (SHARED / name).exists() for line in (SHARED / name).read_bytes().splitlines()]
    return [orjson.loads(line)["text"] for line in lines]


def judge_questions(texts: Sequence[str]) -> dict[str, Any]:
    """Count real questions that are taken for commands, or doubted."""
    readings = [read(text) for text in texts]
    taken = [text for text, one in zip(texts, readings, strict=True) if one.intent not in {QUESTION, "ask"}]
    doubted = [text for text, one in zip(texts, readings, strict=True) if one.intent == "ask"]
    return {
        "questions": len(texts),
        "taken_for_commands": len(taken),
        "share": len(taken) / len(texts),
        "doubted": len(doubted),
        "false_destructive": sum(one.intent in CAREFUL for one in readings),
        "which": taken + doubted,
    }


def cost(texts: Sequence[str]) -> dict[str, float]:
    """Time the reader in processor time, on words not met before and on words whose lemmas search has looked up."""
    sample = list(texts[:400])
    first: list[float] = []
    again: list[float] = []
    for times in (first, again):
        for text in sample:
            before = thread_time()
            read(text)
            times.append((thread_time() - before) * 1000)
    return {
        "first_p50": float(np.percentile(first, 50)),
        "first_p95": float(np.percentile(first, 95)),
        "p50": float(np.percentile(again, 50)),
        "p95": float(np.percentile(again, 95)),
    }


def general(seed: int = 0) -> dict[str, Any]:
    """Fit the same model to the 59 intents of a home assistant, as a check of the method."""
    lines = [orjson.loads(line) for line in (SHARED / "intents" / "train.jsonl").read_bytes().splitlines()]
    random.Random(seed).shuffle(lines)
    kept, held = lines[len(lines) // 5 :], lines[: len(lines) // 5]
    names = sorted({line["label"] for line in lines})
    counts = Counter(word for line in kept for word in set(words(line["text"])))
    forms = frozenset(word for word, count in counts.items() if count >= 2)
    known = frozenset(lemma for form in forms for lemma in lemmas(form)[:1])
    reader = Trained(fit([(line["text"], {line["label"]: 1.0}, 0) for line in kept], forms, known, names, steps=120))
    hits = sum(
        max(scores, key=scores.__getitem__) == line["label"] for line in held if (scores := reader.scores(line["text"]))
    )
    most = Counter(line["label"] for line in kept).most_common(1)[0][0]
    return {
        "trained": len(kept),
        "judged": len(held),
        "accuracy": hits / len(held),
        "commonest_label": sum(line["label"] == most for line in held) / len(held),
    }
