"""Buttons under an answer: ratings, and ways to go on from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup

from appliance.bot.render import rating_buttons
from appliance.schema import Answer, Language, Vote
from appliance.texts import say

WAYS = "e:"  # callback data of the ways to go on


def wider_button(question_id: str, language: Language) -> InlineKeyboardButton:
    """Return the button that shows all posts found for a question, with pages and filters."""
    return InlineKeyboardButton(text=say("search_wider", language), callback_data=f"e:s:{question_id}")


def answer_buttons(answer: Answer, language: Language) -> InlineKeyboardMarkup | None:
    """Return the buttons under an answer: 👍 and 👎, without its limits, related posts, the story of its subject.

    Parameters
    ----------
    answer : Answer
    language : {'ru', 'en'}

    Returns
    -------
    InlineKeyboardMarkup or None
        None under what cannot be rated.
    """
    if answer.outcome not in {"answered", "not_found"}:
        return None
    rows = list(rating_buttons(answer.id).inline_keyboard)
    if answer.limits and answer.are_limits_held:
        rows.append([InlineKeyboardButton(text=say("limits_off", language), callback_data=f"e:w:{answer.id}")])
    if answer.outcome == "not_found":
        rows.append([wider_button(answer.id, language)])
    if answer.outcome == "answered":
        rows.append(
            [
                InlineKeyboardButton(text=say("related_button", language), callback_data=f"e:n:{answer.id}"),
                InlineKeyboardButton(text=say("story_button", language), callback_data=f"e:h:{answer.id}"),
            ]
        )
    return InlineKeyboardMarkup(inline_keyboard=rows)


def rated_buttons(
    question_id: str,
    chosen: Vote,
    before: InlineKeyboardMarkup | None,
    reasons: Sequence[list[InlineKeyboardButton]] = (),
) -> InlineKeyboardMarkup:
    """Return the buttons of an answer with the chosen rating ticked, the ways to go on as they were.

    Parameters
    ----------
    question_id : str
    chosen : {'up', 'down'}
    before : InlineKeyboardMarkup or None
        As they are now.
    reasons : sequence of list of InlineKeyboardButton, optional
        Rows under the rating.

    Returns
    -------
    InlineKeyboardMarkup
    """
    ways = [
        row
        for row in (before.inline_keyboard if before else [])
        if all((button.callback_data or "").startswith(WAYS) for button in row)
    ]
    rating = rating_buttons(question_id, chosen).inline_keyboard
    return InlineKeyboardMarkup(inline_keyboard=[*rating, *reasons, *ways])
