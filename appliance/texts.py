"""All words a member reads, in Russian and English. Pure."""

from __future__ import annotations

from datetime import datetime

from appliance.schema import Language

# key: (Russian, English). Names in braces are filled by `say`.
TEXTS: dict[str, tuple[str, str]] = {
    # the bot introduces itself
    "start": (
        "Здравствуйте! Я отвечаю на вопросы по постам этого сообщества и под каждым ответом даю ссылки.\n\n"
        "Просто напишите вопрос. Ответьте на моё сообщение — и я пойму продолжение разговора. "
        "Всё остальное — в /help.",
        "Hello! I answer questions from this community's posts, with links under every answer.\n\n"
        "Just write a question. Reply to my message to carry on. Everything else is in /help.",
    ),
    "start_nothing": (
        "Постов пока нет: как только владелец добавит каналы, я начну отвечать.",
        "There are no posts yet: I will answer once the owner adds channels.",
    ),
    "help": (
        "Что я умею:\n"
        "• вопрос обычными словами — отвечу цитатами из постов со ссылками;\n"
        "• /find @канал вопрос — искать только в одном канале (без канала — во всех);\n"
        "• /digest день или /digest неделя — главное из постов;\n"
        "• ответ на моё сообщение — продолжение разговора;\n"
        "• 👍 и 👎 под ответом помогают мне стать точнее.\n\n"
        "В группах я отвечаю, если меня упомянуть, ответить мне или написать /find.\n"
        "Если в постах ответа нет, я так и скажу.",
        "What I can do:\n"
        "• a question in plain words: I answer with quotes from the posts and links;\n"
        "• /find @channel question: search one channel (without a channel, all of them);\n"
        "• /digest day or /digest week: the main posts;\n"
        "• a reply to my message carries the conversation on;\n"
        "• 👍 and 👎 under an answer help me get better.\n\n"
        "In groups I answer when mentioned, replied to, or asked with /find.\n"
        "When the posts hold no answer, I say so.",
    ),
    "help_channels": ("Ищу в каналах: {channels}.", "I search these channels: {channels}."),
    "command_start": ("Познакомиться", "Get to know the bot"),
    "command_help": ("Что я умею", "What I can do"),
    "command_digest": ("Главное за неделю или день", "The week's or the day's main posts"),
    "command_find": ("Найти: /find @канал вопрос", "Find: /find @channel question"),
    "command_privacy": ("Что я храню и ваши права", "What I keep, and your rights"),
    "command_mydata": ("Всё, что я о вас храню", "Everything I keep about you"),
    "command_forget": ("Стереть всё обо мне", "Erase everything about me"),
    # a person's rights
    "consent": (
        "Чтобы отвечать и продолжать разговор, я храню ваше имя в Telegram, вопросы, ответы и оценки — в зашифрованном "
        "виде и только на сервере этого сообщества. Подробности — /privacy, всё ваше — /mydata, стереть — /forget.",
        "To answer and to carry a conversation on, I keep your Telegram name, questions, answers and ratings, "
        "encrypted and only on this community's server. Details: /privacy; all that is yours: /mydata; to erase it: "
        "/forget.",
    ),
    "agree": ("Согласен", "I agree"),
    "agreed": ("Спасибо, согласие записано.", "Thank you, your consent is recorded."),
    "privacy": (
        "Что я храню (редакция {version}):\n"
        "• имя, ник и номер в Telegram — чтобы узнавать вас и ваши права; пока вы не сотрёте их или не исчезнете "
        "на {people} дн.;\n"
        "• вопросы, ответы и оценки — чтобы отвечать, вести разговор и становиться точнее; {questions} дн.;\n"
        "• журнал действий администраторов — {events} дн.\n\n"
        "Тексты и имена зашифрованы вашим личным ключом. Видит их владелец этого сервера; никому другому я их не "
        "передаю. Посты принадлежат авторам: автор может попросить владельца больше их не показывать.\n\n"
        "Ваши права: получить всё — /mydata; стереть всё, и из резервных копий тоже — /forget; отозвать согласие — "
        "тоже /forget.",
        "What I keep (version {version}):\n"
        "• your name, username and number in Telegram, to know you and your rights; until you erase them or are away "
        "for {people} days;\n"
        "• questions, answers and ratings, to answer, carry a conversation on and get better; {questions} days;\n"
        "• the log of administrators' acts; {events} days.\n\n"
        "Texts and names are encrypted with a key of your own. The owner of this server can see them; I give them to "
        "nobody else. Posts belong to their authors, who may ask the owner to show them no more.\n\n"
        "Your rights: get everything with /mydata; erase everything, backups included, with /forget; withdraw consent "
        "with /forget too.",
    ),
    "mydata": (
        "Всё, что я о вас храню: для чтения и для программ.",
        "Everything I keep about you, to read and for programs.",
    ),
    "nothing_kept": ("Я ничего о вас не храню.", "I keep nothing about you."),
    "forget_ask": (
        "Стереть всё о вас: имя, вопросы, ответы, оценки? Вернуть будет нельзя, и из резервных копий тоже.",
        "Erase everything about you: name, questions, answers, ratings? It cannot be undone, backups included.",
    ),
    "forget_yes": ("Стереть", "Erase"),
    "forget_no": ("Оставить", "Keep"),
    "kept": ("Всё осталось как было.", "Everything stays as it was."),
    "erased": (
        "Всё о вас стёрто. Квитанция {receipt}, {when}.",
        "Everything about you is erased. Receipt {receipt}, {when}.",
    ),
    "post_forgotten": (
        "Пост удалён отсюда навсегда. Квитанция {receipt}.",
        "The post is removed from here for good. Receipt {receipt}.",
    ),
    "no_such_post": (
        "Такого поста здесь нет. Скопируйте ссылку из самого поста: /forget ссылка.",
        "There is no such post here. Copy the link from the post itself: /forget link.",
    ),
    # answers
    "sources": ("Источники", "Sources"),
    "sources_one": ("Источник", "Source"),
    "not_found": ("В постах ответа не нашлось.", "The posts hold no answer to this."),
    "searched": (
        "Где искал: {channels} — {posts}, последний от {until}.",
        "Searched: {channels} — {posts}, up to {until}.",
    ),
    "searched_as": ("Искал: {query}", "Searched: {query}"),
    "searched_nothing": ("Искать пока негде: постов нет.", "There is nothing to search yet: no posts."),
    "and_more": ("и ещё {count}", "and {count} more"),
    "nearest": ("Ближе всего по смыслу", "Nearest posts"),
    "refused": ("На это я отвечать не буду.", "I will not answer that."),
    "failed": (
        "Не получилось ответить: что-то сломалось у меня. Попробуйте ещё раз чуть позже.",
        "I could not answer: something broke on my side. Try again a little later.",
    ),
    "model_down": (
        "Модель сейчас недоступна, поэтому показываю цитаты из постов.",
        "The model is not available now, so these are quotes from the posts.",
    ),
    "model_unsupported": (
        "Ответ модели не подтвердился постами, поэтому показываю цитаты.",
        "The posts did not bear out the model's answer, so these are quotes.",
    ),
    # ratings
    "rated_up": ("Спасибо, запомнил 👍", "Thank you, noted 👍"),
    "rated_down": ("Спасибо, запомнил 👎 Буду искать лучше.", "Thank you, noted 👎 I will look harder."),
    "rating_lost": (
        "Этот ответ уже не найти, оценку записать некуда.",
        "That answer is gone; there is nothing to rate.",
    ),
    "bad_button": ("Эта кнопка больше не работает.", "This button no longer works."),
    # what cannot be used
    "empty_question": (
        "Не вижу здесь вопроса. Напишите его словами, например: «Когда следующая встреча?»",
        "I see no question here. Write it in words, for example: “When is the next meeting?”",
    ),
    "question_too_long": (
        "Вопрос слишком длинный. Задайте его короче, в двух-трёх предложениях.",
        "The question is too long. Ask it in two or three sentences.",
    ),
    "find_usage": (
        "Напишите вопрос после команды: /find @канал вопрос. Канал можно не указывать.",
        "Write the question after the command: /find @channel question. The channel may be left out.",
    ),
    "text_only": (
        "Я понимаю только текст. Напишите вопрос словами.",
        "I understand text only. Write the question in words.",
    ),
    "edited": (
        "Исправленное сообщение я заметил, но отвечаю на новые: отправьте вопрос ещё раз.",
        "I saw your edit, but I answer new messages: please send the question again.",
    ),
    "unknown_command": (
        "Такой команды нет. Есть /find, /help и /start, а вопрос можно задать просто текстом.",
        "There is no such command. There are /find, /help and /start, or just ask in plain text.",
    ),
    # errors
    "error": (
        "Что-то пошло не так. Попробуйте ещё раз чуть позже.",
        "Something went wrong. Try again a little later.",
    ),
    "bad_input": ("Это не получается прочитать. Напишите иначе.", "This cannot be read. Write it another way."),
    "unknown_channel": (
        "Такого канала нет среди тех, что вам видны. Список каналов — в /help.",
        "There is no such channel among those you may see. /help lists the channels.",
    ),
    "bad_export": (
        "Этот файл не похож на экспорт Telegram Desktop в формате JSON.",
        "This file does not look like a Telegram Desktop export in JSON.",
    ),
    "not_allowed": ("На это у вас нет прав.", "You have no right to do this."),
    "slow_down": ("Слишком часто. Подождите немного и повторите.", "Too fast. Wait a little and try again."),
    "slow_down_wait": ("Слишком часто. Повторите через {wait}.", "Too fast. Try again in {wait}."),
    "store": (
        "Хранилище сейчас недоступно. Владелец уже может видеть причину; попробуйте позже.",
        "The store is not available now. The operator can see why; try later.",
    ),
    "startup": ("Я ещё запускаюсь. Попробуйте через минуту.", "I am still starting. Try again in a minute."),
}

# key: (one, few, many) in Russian; (one, other) in English
COUNTED: dict[str, tuple[tuple[str, str, str], tuple[str, str]]] = {
    "posts": (("пост", "поста", "постов"), ("post", "posts")),
    "seconds": (("секунду", "секунды", "секунд"), ("second", "seconds")),
    "channels": (("канал", "канала", "каналов"), ("channel", "channels")),
}
_MONTHS_EN = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def say(key: str, language: Language, **values: object) -> str:
    """Return a text in a language.

    Parameters
    ----------
    key : str
        Of `TEXTS`; an error's ``code`` that is not there reads as ``"error"``.
    language : {'ru', 'en'}
    **values
        Filled into the text's braces; never read as a template themselves.

    Returns
    -------
    str
    """
    russian, english = TEXTS.get(key, TEXTS["error"])
    return (russian if language == "ru" else english).format(**values)


def count(key: str, number: int, language: Language) -> str:
    """Return a number with its noun in the right form: "3 поста", "1 post".

    Parameters
    ----------
    key : str
        Of `COUNTED`.
    number : int
        Not negative.
    language : {'ru', 'en'}

    Returns
    -------
    str
        The number with spaces between thousands.
    """
    russian, english = COUNTED[key]
    shown = f"{number:,}".replace(",", "\u00a0")
    if language == "en":
        return f"{shown} {english[number != 1]}"
    if number % 10 == 1 and number % 100 != 11:
        return f"{shown} {russian[0]}"
    if number % 10 in {2, 3, 4} and number % 100 not in {12, 13, 14}:
        return f"{shown} {russian[1]}"
    return f"{shown} {russian[2]}"


def date(moment: datetime, language: Language) -> str:
    """Return a date as people write it: "12.03.2026", "12 Mar 2026"."""
    if language == "ru":
        return f"{moment:%d.%m.%Y}"
    return f"{moment.day} {_MONTHS_EN[moment.month - 1]} {moment.year}"


def language_of_code(code: str | None) -> Language:
    """Choose the interface's language by an IETF tag, as Telegram's ``language_code``: Russian unless another is named.

    Parameters
    ----------
    code : str or None

    Returns
    -------
    {'ru', 'en'}
        Russian too for the neighbours who mostly read it (be, kk, ky, uk, uz, tg, tt, ba, hy, az).
    """
    tag = (code or "ru").lower().replace("_", "-").split("-")[0]
    return "ru" if tag in {"ru", "be", "kk", "ky", "uk", "uz", "tg", "tt", "ba", "hy", "az"} else "en"
