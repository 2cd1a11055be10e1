"""Tables and settings of the documents, rendered from kept results; never typed."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance import settings_docs
from benchmarks import results
from models.cards import AnswererCard, all_cards

README = results.ROOT / "README.md"
ENV_EXAMPLE = results.ROOT / ".env.example"
MODELS_PAGE = results.ROOT / "docs" / "models.md"
COMMUNITY_PAGE = results.ROOT / "docs" / "community.md"
BOT_PAGE = results.ROOT / "docs" / "bot.md"
ADMIN_PAGE = results.ROOT / "docs" / "admin.md"
FAULTS_PAGE = results.ROOT / "docs" / "faults.md"
MEASURED_PAGE = results.ROOT / "docs" / "measured.md"


def render_all(*, write: bool) -> list[Path]:
    """Render every document.

    Parameters
    ----------
    write : bool
        False only tells what is stale.

    Returns
    -------
    list of Path
        Documents that changed or would change.
    """
    changed = []
    texts_of = (
        *((page, blocks()) for page in (README, COMMUNITY_PAGE, BOT_PAGE, ADMIN_PAGE, MEASURED_PAGE)),
        (MODELS_PAGE, models_blocks()),
        (FAULTS_PAGE, {"faults": faults()}),
    )
    for document, texts in texts_of:
        before = document.read_text(encoding="utf-8")
        if results.render_into(document, texts):
            changed.append(document)
            if not write:
                document.write_text(before, encoding="utf-8")
    if not ENV_EXAMPLE.exists() or ENV_EXAMPLE.read_text(encoding="utf-8") != settings_docs.as_env():
        changed.append(ENV_EXAMPLE)
        if write:
            ENV_EXAMPLE.write_text(settings_docs.as_env(), encoding="utf-8")
    return changed


def blocks() -> dict[str, str]:
    """Return the text of every block that has its data."""
    found = {"settings": settings_docs.as_table(), "tree": tree()}
    for suite, table in TABLES.items():
        document = results.load(suite)
        if document is not None:
            found[suite] = table(document["result"]) + "\n\n" + _origin(document)
    if (document := results.load("retrieval")) is not None:
        found["not-run"] = _not_run(document["result"])
    return found


def models_blocks() -> dict[str, str]:
    """Return the blocks of the models' page: the catalogue, and kept results."""
    found = {"catalogue": catalogue()}
    for suite, table in MODELS_TABLES.items():
        document = results.load(suite)
        if document is not None:
            found[suite] = table(document["result"]) + "\n\n" + _origin(document)
    return found


def catalogue() -> str:
    """Return the table of the model cards."""
    lines = [
        "| card | kind | GPU from, GiB | parameters | weights | context | licence |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in all_cards().values():
        least = (card.min_vram_gb or "CPU") if isinstance(card, AnswererCard) else ""
        lines.append(
            f"| {card.name} | {card.kind} | {least} | {card.parameters / 1e9:.1f}B | {card.quantisation} | "
            f"{card.context:,} | {card.licence} |"
        )
    return "\n".join(lines)


FOLDERS = {
    "appliance": "the product: posts in, answers out",
    "models": "the machine room: runs weights, has never heard of Telegram",
    "benchmarks": "suites, results, the log of what did not work",
    "compose": "the appliance under containers",
    "tests": "mirror of the rooms; `servers/` on loopback, `live/` opt-in",
    "docs": "bot, admins, operations, models, API, figures, architecture, decisions",
    "locks": "locked, hashed dependencies",
}


def tree() -> str:
    """Return the tree: a purpose per line, read from the modules' docstrings."""
    lines = ["```"]
    for folder, purpose in FOLDERS.items():
        if not (results.ROOT / folder).is_dir():
            continue
        lines.append(f"{folder + '/':26}{purpose}")
        if folder in {"appliance", "models"}:
            for path in sorted((results.ROOT / folder).iterdir()):
                source = path / "__init__.py" if path.is_dir() else path
                if source.suffix != ".py" or path.name == "__init__.py" or not source.exists():
                    continue
                lines.append(f"  {path.name + '/' * path.is_dir():24}{purpose_of(source)}")
    return "\n".join([*lines, "```"])


def purpose_of(source: Path) -> str:
    """Return the first line of a module's docstring."""
    doc = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return doc.split("\n", 1)[0]


def _origin(document: dict[str, Any]) -> str:
    machine = document["machine"]
    return (
        f"<sub>`{document['command']}` at {document['commit']}, {document['date']}: {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}.</sub>"
    )


METHODS = {
    "jaccard": "Jaccard over lemmas",
    "raw": "BM25, words as typed",
    "stems": "BM25, stems",
    "n-grams": "BM25, character 3–5-grams",
    "lexical": "BM25, lemmas",
    "dense": "default embedder, cosine",
    "m3 dense": "BGE-M3, dense",
    "m3 sparse": "BGE-M3, sparse",
    "m3 multi-vector": "BGE-M3, multi-vector",
    "ranks": "both, reciprocal ranks",
    "summed": "both, z-scores, words × 0.15",
    "learned": "both, weights learned on the other sets",
    "fused": "**PostFinder**",
    "cross-encoder": "PostFinder, its first 20 read again by a cross-encoder",
}


def _retrieval(result: dict[str, Any]) -> str:
    sets = result["sets"]
    lines = [f"| nDCG@10 | {' | '.join(sets)} | ms a query | MB |", "|---" * (len(sets) + 3) + "|"]
    first = next(iter(sets.values()))["methods"]
    for method, shown in METHODS.items():
        if method not in first:
            continue
        figures = [f"{one['methods'][method]['ndcg@10']:.3f}" for one in sets.values()]
        cost = first[method]
        figures.append(f"{cost['ms']:.2f}" if "ms" in cost else "")
        figures.append(f"{cost['memory_mb']:.0f}" if "memory_mb" in cost else "")
        lines.append(f"| {shown} | {' | '.join(figures)} |")
    chosen = "; ".join(
        f"{name} {one['methods']['fused']['hit@10']:.3f} / {one['methods']['fused']['mrr@10']:.3f}"
        for name, one in sets.items()
    )
    lines += [
        "",
        f"PostFinder's hit@10 / MRR@10: {chosen}. Milliseconds and MB of the first set, without the embedding.",
    ]
    return "\n".join(lines)


def _not_run(result: dict[str, Any]) -> str:
    lines = [f"* {METHODS[method]}: {reason}" for method, reason in result.get("not_run", {}).items()]
    return "\n".join(lines or ["None: every method was run."])


def _answers(result: dict[str, Any]) -> str:
    sample, lines = result["sample"], ["| of the answers that quote | share |", "|---|---|"]
    rows = [
        ("the sample's answerable questions: answered", sample["answered"]),
        ("… citing a post that answers", sample["cites_an_answering_post"]),
        ("… quoting the very words of the answer", sample["says_the_answer"]),
        ("the sample's unanswerable questions: refused", sample["refused_unanswerable"]),
    ]
    if (wiki := result.get("wiki-qa")) is not None:
        rows += [
            ("wiki-qa: answered", wiki["answered_when_kept"]),
            ("wiki-qa with the page withheld: refused", wiki["refused_without_the_page"]),
            ("wiki-qa, kept against page withheld: AUROC of the evidence", wiki["refusal_auroc"]),
            ("… against only the paragraph withheld, its neighbours left: AUROC", wiki["refusal_auroc_same_page_left"]),
        ]
    return "\n".join([*lines, *(f"| {what} | {value:.2f} |" for what, value in rows)])


def _ask(result: dict[str, Any]) -> str:
    lines = ["| what a member waits for | p50, ms | p95, ms |", "|---|---|---|"]
    lines += [f"| {row['what']} | {row['p50_ms']:.2f} | {row['p95_ms']:.2f} |" for row in result["waits"]]
    lines.append("")
    lines.append(
        f"{result['posts']:,} posts, {result['questions']} different questions, one at a time; "
        f"resident memory {result['rss_mb']:.0f} MB."
    )
    return "\n".join(lines)


def _import(result: dict[str, Any]) -> str:
    return "\n".join(
        [
            "| posts | posts/s | the embedder alone, posts/s | share by the clock | by CPU time | peak memory, MB |",
            "|---|---|---|---|---|---|",
            f"| {result['posts']:,} | {result['posts_per_s']:.0f} | {result['embedder_posts_per_s']:.0f} | "
            f"{result['share_of_embedder']:.0%} | {result['share_of_cpu']:.0%} | {result['peak_rss_mb']:.0f} |",
        ]
    )


def _repeats(result: dict[str, Any]) -> str:
    counts, halves = result["messages"], (result["tuned"], result["held_out"])
    pointed = sum(half["pointed"] for half in halves)
    both = f"{pointed}, {pointed - sum(round(half['pointed'] * half['precision']) for half in halves)}"
    return "\n".join(
        [
            f"| {counts['repeat']} repeats, {counts['near']} near misses, {counts['chatter']} of chatter | share |",
            "|---|---|",
            f"| of what it points at: the post answers | {result['precision']:.2f} |",
            f"| of the repeats: pointed at a post that answers | {result['recall']:.2f} |",
            f"| near misses and chatter answered wrongly | {result['near_wrong'] + result['chatter_answered']} |",
            f"| on both halves: pointed at, of which another post | {both} |",
            f"| likeness of embeddings alone, at that recall: precision | {result['likeness_alone_precision']:.2f} |",
        ]
    )


def faults() -> str:
    """Return the table of the suites of faults that have their data."""
    lines = ["| what was done | what came of it | the control, broken on purpose | run |", "|---|---|---|---|"]
    for suite, row in FAULTS.items():
        if (document := results.load(suite)) is not None:
            run = f"`{document['command']}`, {document['commit']}, {document['date']}"
            lines.append(f"| {' | '.join(row(document['result']))} | {run} |")
    return "\n".join(lines)


def _kill(found: dict[str, Any]) -> tuple[str, str, str]:
    done = ", ".join(f"{count:,} {what}" for what, count in found["acknowledged"].items())
    return (
        f"{found['rounds']:,} kills of the whole service, {found['rounds_per_minute']:.1f} a minute; "
        f"acknowledged: {done}",
        f"lost {found['lost_in_all']}, twice {found['twice_in_all']}, did not open {found['unopenable']}",
        f"lost {found['control_lost']}",
    )


def _power(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['images']:,} power cuts; {found['acknowledged']:,} things acknowledged before them",
        f"lost {found['lost']}, wrong {found['wrong']}, did not open {found['unopenable']}; {found['healed']} healed",
        f"lost {found['control_lost']}",
    )


def _telegram(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['updates']:,} updates by polling and webhook, {found['kills']} kills, {found['refused']} times 429",
        f"lost {found['lost']}; twice {found['twice']}, all in the named windows ({found['maybe_twice_share']:.2%} of "
        f"the updates); beyond them {found['beyond']}; calls inside a `retry_after` {found['inside_retry_after']}",
        f"lost {found['control_lost']}",
    )


def _garbage(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['inputs']:,} bad inputs: " + ", ".join(f"{n:,} {kind}" for kind, n in found["given"].items()),
        f"server errors {found['server_errors']}; slowest good answer after any {found['good_after_max_s']:.1f} s",
        f"server errors {found['control_errors']}",
    )


def _canary(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"a person in {found['tables']} tables and a channel of {found['posts']} posts, erased",
        f"in plain while alive {found['plain_while_alive']}; left {found['left_after_erasure']}, in a restored backup "
        f"{found['left_after_a_restore']}; {found['sealed_values']} sealed values, opened by any key "
        f"{found['opened_with_any_key']}",
        f"in plain {found['control_plain']}, opened {found['control_opened']}",
    )


def _restore(found: dict[str, Any]) -> tuple[str, str, str]:
    took = found["update_ms"]
    return (
        f"{found['posts']:,} posts, {found['backup_mb']:.0f} MB",
        f"restored in {found['restore_s']:.1f} s, open {found['open_s']:.1f} s later; an update costs "
        f"{took['sealed']:.2f} ms, {took['plain']:.2f} unsealed, {took['without']:.2f} without a journal",
        f"one bit flipped: {'refused' if found['control_refused'] else 'taken'}",
    )


def _sealing(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['posts']:,} posts stored and asked about, sealed and not",
        f"sealing adds {found['sealing_ms_per_post']:.2f} ms a post ({found['share_of_import']:.1%} of an import), "
        f"{found['question_added_ms']:.2f} ms a question, {found['start_added_s']:.2f} s a start; disk × "
        f"{found['disk_ratio']:.2f}",
        "the same run without",
    )


def _hostile(found: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{found['posts']:,} hostile posts, quoted and written from",
        f"foreign links {found['bad_links']}, invented addresses {found['bad_unknown_urls']}, hidden marks "
        f"{found['bad_marks']}, closed posts {found['bad_foreign']}, secrets {found['bad_secrets']}",
        f"clickable {found['control_clickable']}",
    )


FAULTS: dict[str, Callable[[dict[str, Any]], tuple[str, str, str]]] = {
    "faults-kill": _kill,
    "faults-power": _power,
    "faults-telegram": _telegram,
    "faults-garbage": _garbage,
    "faults-canary": _canary,
    "faults-restore": _restore,
    "sealing": _sealing,
    "hostile": _hostile,
}


def _load_people(result: dict[str, Any]) -> str:
    people, server = result["people"], result["server"]
    names = (
        ("an answer that is remembered", "remembered", "remembered"),
        ("links to the posts", "links", "links"),
        ("the first words", "first_token", "first piece"),
        ("the complete answer", "complete", "complete"),
        ("the bot's message in Telegram", "", "telegram answer"),
    )
    lines = [
        "**Four waits of a community:** for a remembered answer, links, the first words and the complete answer; the "
        "bot's message beside them. People ask at both doors, as many as a community of thousands has, and popular "
        "questions come again. *Recorded* is what the appliance took, *seen* what a person waited for.",
        "",
        "| what a member waits for | recorded p50, ms | p95, ms | seen p50, ms | p95, ms |",
        "|---|---|---|---|---|",
    ]
    for what, stage, event in names:
        inside, outside = server.get(stage), people.get(event)
        shown = [f"{inside[key]:.1f}" if inside else "" for key in ("p50", "p95")]
        shown += [f"{outside[key]:.0f}" if outside else "" for key in ("p50_ms", "p95_ms")]
        if any(shown):
            lines.append(f"| {what} | {' | '.join(shown)} |")
    return "\n".join([*lines, "", f"{result['answers_per_s']:.0f} questions a second, answered in quotes."])


def _load(result: dict[str, Any]) -> str:
    links, people, memory = result["links"], result["people"], result["memory_mb"]
    shed = people.get("shed", {"p50_ms": 0.0})
    return (
        f"**How many at once?** Links: {links['per_s']:.0f} a second for {links['seconds'] / 60:.0f} minutes, p50 "
        f"{links['p50_ms']:.1f} ms and p95 **{links['p95_ms']:.0f} ms** from the moment each was due, on the "
        f"same two cores that make the load; {links['failed']} of {links['asked']:,} failed, "
        f"{links['shed'] / links['asked']:.1%} were asked to come back (a cold memory, at the start), "
        f"{links['recalled'] / max(links['answered'], 1):.0%} "
        f"recalled; memory {memory['most']:.0f} MB at most, {memory['links_growth']:+.2%} after it had settled. Then "
        f"people who ask again at once, up to 96: {result['answers_per_s']:.0f} complete answers a second; those "
        f"beyond what the machine can do are asked to come back within {shed['p50_ms']:.0f} ms (median)."
    )


def _hot(result: dict[str, Any]) -> str:
    lines = [
        "**Vectors in RAM against LanceDB's indexes:** one search for ten chunks; real vectors up to "
        f"{result['real_texts']:,}, then mixes of them, {result['questions']} real questions. For each index: the "
        "fastest settings with recall ≥ .99, else those with the highest recall. LanceDB reads files: its memory is "
        "the system's cache, not told here.",
        "",
        "| chunks | how | recall@10 | p50, ms | p95, ms | memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    best: dict[tuple[int, str], dict[str, Any]] = {}  # of the settings of an index the last was as good as it gets
    for row in result["rows"]:
        best[row["chunks"], row["method"].partition(",")[0]] = row
    lines += [
        f"| {row['chunks']:,} | {row['method']} | {row['recall']:.3f} | {row['p50_ms']:.2f} | {row['p95_ms']:.2f} "
        f"| {'' if row['method'].startswith('LanceDB') else round(row['memory_mb'])} |"
        for row in best.values()
    ]
    faster = ", ".join(f"{times:.1f} × at {int(size):,}" for size, times in result["times_faster"].items())
    return "\n".join([*lines, "", f"Faster than the fastest of them with that recall: {faster}."])


def _webhook(result: dict[str, Any]) -> str:
    commits = " + ".join(f"{took:.2f}" for took in result["commits"].values())
    return (
        "A remembered answer in Telegram, from the posted update to the call that answers it, "
        f"{result['per_second']:.0f} a second: p50 {result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f} ms. "
        f"Its three commits to disk alone take {commits} ms."
    )


def _wording(result: dict[str, Any]) -> str:
    lines = ["| list | questions | limits in them | precision | recall |", "|---|---|---|---|---|"]
    names = {
        "dev": "the rules were made on it",
        "held_out": "seen once, mended since (at first sight: precision 0.87, recall 0.90)",
        "fresh": "seen once, mended since (at first sight: recall 0.905)",
    }
    for key, shown in names.items():
        if (one := result.get(key)) is not None:
            lines.append(
                f"| {shown} | {one['questions']} | {one['limits']} | {one['precision']:.3f} | {one['recall']:.3f} |"
            )
    return "\n".join(lines)


def _alerts(result: dict[str, Any]) -> str:
    lines = [
        "| level | told from, probability | of the wanted posts told | other posts told, of 1,000 |",
        "|---|---|---|---|",
    ]
    for name, above in result["in_force"].items():
        of_sets = [levels[name] for levels in result["levels"].values()]
        told = " / ".join(f"{one['told']:.2f}" for one in of_sets)
        others = " / ".join(f"{one['others']:.1f}" for one in of_sets)
        lines.append(f"| {name} | {above} | {told} | {others} |")
    sets = ", ".join(f"{name} ({one['alerts']})" for name, one in result["sets"].items())
    lines += [
        "",
        f"Questions taken as alerts: {sets}; levels are chosen on half of them, figures are of the other half.",
    ]
    return "\n".join(lines)


def _intents(result: dict[str, Any]) -> str:
    lines = ["| list | commands, questions | right | commands right or asked about | questions taken for commands |"]
    lines.append("|---|---|---|---|---|")
    for key, shown in (("own_list", "written for these commands"), ("unseen", "phrasings never seen")):
        one = result[key]
        lines.append(
            f"| {shown} | {one['commands']}, {one['questions']} | {one['accuracy']:.3f} | "
            f"{one['commands_right_or_asked']:.3f} | {one['questions_taken_for_commands']} |"
        )
    real = result["real_questions"]
    lines += [
        "",
        f"Of {real['questions']:,} real questions {real['taken_for_commands']} were taken for commands. False "
        f"destructive acts: {result['false_destructive']}. Reading costs {result['cost_ms']['p95']:.2f} ms (p95).",
    ]
    return "\n".join(lines)


def _antifraud(result: dict[str, Any]) -> str:
    simulated, control, waits = result["simulation"], result["control"], result["wait"]["by_attack"]
    lines = [
        "| attack | caught | after acts (median) | caught by the control that forgets | "
        "honest people's p95, a minute | first 3 s |",
        "|---|---|---|---|---|---|",
    ]
    for name, recall in simulated["recall"].items():
        after = simulated["stopped_after_acts"][name]
        shown = f"{after:.0f}" if after is not None else "not stopped: one allowance for all"
        lines.append(f"| {name} | {recall:.0%} | {shown} | {control['recall'][name]:.0%} | {_wait(waits[name])} |")
    lines += [
        "",
        f"Ordinary people simulated: {simulated['honest']:,}, stopped: {simulated['false_stops']}, slowed at times: "
        f"{simulated['honest_slowed_share']:.1%}. A look costs {result['look_us']:.0f} µs.",
    ]
    return "\n".join(lines)


def _wait(wait: dict[str, Any]) -> str:
    alone, beside, opening = wait["alone_p95_ms"], wait["p95_ms"], wait["opening_p95_ms"]
    return f"{alone:.0f} → {beside:.0f} ms ({wait['growth']:+.0%}) | {opening:.0f} ms"


_FORGOTTEN = {
    "memory": "in what is remembered",
    "posts": "where a post is opened",
    "story": "in stories",
    "related": "among related posts",
    "alerts": "when an alert is told",
    "guests": "with guests",
}


def _rights(result: dict[str, Any]) -> str:
    broken = result["leaks_of_broken"]
    return (
        f"**Does anybody see what is closed to them?** {result['operations']:,} operations in {result['towns']} "
        f"communities of {result['people']} people and {result['channels']} channels, {result['at_once']} at once, by "
        f"every door, answers remembered, rights given and taken: **{result['leaks']} leaks**. With rights forgotten "
        + "; ".join(f"{where}: {broken[how]}" for how, where in _FORGOTTEN.items() if how in broken)
        + "."
    )


def _updates(result: dict[str, Any]) -> str:
    rates = result["per_core_s"]
    lines = ["| one core | updates a second | of bare aiogram |", "|---|---|---|"]
    lines += [f"| {name} | {rate:,.0f} | {rate / rates['bare']:.2f} |" for name, rate in rates.items()]
    return "\n".join(lines)


def _russian(result: dict[str, Any]) -> str:
    lines = ["| found among the first five | as typed, not respelled | respelled | written carefully | of |"]
    lines.append("|---|---|---|---|---|")
    held = result.get("held_out", {})
    kinds = [key.removesuffix("_of") for key in held if key.endswith("_of")]
    rows = [(name, f"{name}_") for name in kinds] + [("**all**", "")]
    for shown, prefix in rows:
        figures = " | ".join(str(held[f"{prefix}{name}"]) for name in ("before", "hits", "clean", "of"))
        lines.append(f"| {shown} | {figures} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "retrieval": _retrieval,
    "answers": _answers,
    "ask": _ask,
    "import": _import,
    "repeats": _repeats,
    "load": _load,
    "load-people": _load_people,
    "hot": _hot,
    "webhook": _webhook,
    "wording": _wording,
    "russian": _russian,
    "alerts": _alerts,
    "intents": _intents,
    "antifraud": _antifraud,
    "rights": _rights,
    "updates": _updates,
}


def _plan(result: dict[str, Any]) -> str:
    lines = [
        "| GPU, GiB | answerer | answers at once | weights, GiB | KV cache, GiB | BGE-M3 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {memory} | {row['card']} | {row['at_once']} × {row['context']:,} tokens | "
        f"{row['weights_gib']:.1f} | {row['kv_gib']:.1f} | {row['embedder'].upper()} |"
        for memory, fits in result["memories"].items()
        for row in fits[:2]
    ]
    lines.append("")
    lines.append(
        f"The two largest that fit. {result['cases']} cases counted by hand: the cache is off by "
        f"{result['largest_error']:.1%} at most; sizes of published files by {result['published_largest_error']:.1%}."
    )
    return "\n".join(lines)


def _embed_server(result: dict[str, Any]) -> str:
    lines = ["| tiny BGE-M3, one thread | texts/s of processor time | against one by one |", "|---|---|---|"]
    lines += [f"| {row['way']} | {row['texts_per_cpu_s']:.0f} | {row['ratio']:.2f} |" for row in result["ways"]]
    lines.append("")
    lines.append(f"{result['texts']} texts of 1 to 120 words. It ranks the ways; real weights are 500 times as many.")
    return "\n".join(lines)


def _answers_model(result: dict[str, Any]) -> str:
    rows = [
        ("questions, and asked of the model", f"{result['questions']}, {result['asked_of_the_model']}"),
        ("of these written by it; else quoted", f"{result['written']:.2f}"),
        ("invented links", f"{result['invented_links']}"),
        ("cited posts that were shown to it", f"{result['cited_were_shown']:.2f}"),
        ("in the question's language", f"{result['in_the_questions_language']:.2f}"),
        ("unanswerable questions refused", f"{result['refused_unanswerable']:.2f}"),
        ("first token, ms at the median", f"{result['first_token_p50_ms']:.0f}"),
        ("tokens a second at the median", f"{result['tokens_per_s_p50']:.0f}"),
    ]
    if (judge := result.get("judge")) is not None:
        told = (
            f"{judge['won']} won, {judge['lost']} lost, {judge['tied']} tied; {judge['unreadable']} unreadable verdicts"
        )
        rows.append((f"against quotes, judged by {judge['judge']}: of {judge['pairs']} pairs", told))
    lines = [f"| {result['model']} | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    return "\n".join(lines)


MODELS_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "plan": _plan,
    "embed-server": _embed_server,
    "answers-model": _answers_model,
}
