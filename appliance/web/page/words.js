// The page's words. Both languages hold the same keys; a function takes what it speaks of.

const plural = (tongue, count, forms) => {
  const rule = new Intl.PluralRules(tongue).select(count);
  return `${count.toLocaleString(tongue)} ${forms[rule] ?? forms.other}`;
};
export const ru = (count, one, few, many) => plural("ru", count, { one, few, many, other: few });
export const en = (count, one, other) => plural("en", count, { one, other });

const WORDS = {
  ru: {
    skip: "К вопросу",
    fresh: "Новый разговор",
    tongues: "Язык",
    hero: "Спросите — ответят посты",
    corpus: (posts, channels, until) =>
      `${ru(posts, "пост", "поста", "постов")} в ${ru(channels, "канале", "каналах", "каналах")}` +
      (until ? `, последний — ${until}` : ""),
    question: "Ваш вопрос",
    ask_first: "Что вы хотите узнать?",
    ask_next: "Уточните или спросите ещё",
    send: "Спросить",
    stop: "Остановить",
    keys: "Enter — спросить, Shift+Enter — новая строка",
    channels: "Где искать",
    since: "с",
    until: "по",
    unlimit: "Искать везде",
    everywhere: "Все каналы",
    always: "за всё время",
    some_channels: (count) => ru(count, "канал", "канала", "каналов"),
    from_day: (day) => `с ${day}`,
    to_day: (day) => `по ${day}`,
    examples: "Примеры вопросов",
    searching: "Ищу в постах…",
    writing: "Пишу ответ…",
    sources: "Источники",
    source: (number, title) => `Источник ${number}: ${title}`,
    open_post: (title) => `Открыть пост: ${title}`,
    open_in_telegram: "Открыть в Telegram",
    to_telegram: (title) => `В Telegram: ${title}`,
    close: "Закрыть пост",
    picture: "Пост без текста",
    loading: "Открываю…",
    edited: (day) => `изменён ${day}`,
    not_found: "Ответа в постах не нашлось",
    searched: (posts, channels, until) =>
      `Проверено ${ru(posts, "пост", "поста", "постов")} (${channels})${until ? `, последний — ${until}` : ""}.`,
    searched_nothing: "Под эти условия не попал ни один пост. Попробуйте искать шире.",
    nearest: "Ближайшее по смыслу",
    and_more: (count) => `и ещё ${count}`,
    searched_in: "Искал:",
    without: (limit) => `Искать без условия «${limit}»`,
    story: "История темы",
    story_none: "Больше об этом ничего не нашлось.",
    related: "Похожие посты",
    posts: (count) => ru(count, "пост", "поста", "постов"),
    quotes: "цитаты из постов",
    model: (name) => `модель ${name}`,
    times: (links, complete) => `ссылки за ${links} мс, ответ за ${complete} мс`,
    rate: "Оценить ответ",
    good: "Хороший ответ",
    bad: "Плохой ответ",
    thanks: "Спасибо, записано",
    what_wrong: "Что не так?",
    wrong: ["Не о том", "Неполно", "Устарело", "Неверно"],
    wrong_other: "Своими словами",
    tell: "Отправить",
    stopped: "Остановлено.",
    again: "Ещё раз",
    no_network: "Сервер не отвечает.",
    no_network_cure: "Проверьте соединение и попробуйте ещё раз.",
    empty: "Здесь пока нет постов",
    empty_cure: "Выгрузите канал в Telegram Desktop («Экспорт истории чата», формат JSON) и загрузите его командой на сервере:",
    empty_where: "Как только посты появятся, здесь можно будет спрашивать.",
    look_again: "Проверить ещё раз",
  },
  en: {
    skip: "Go to the question",
    fresh: "New conversation",
    tongues: "Language",
    hero: "Ask, and the posts answer",
    corpus: (posts, channels, until) =>
      `${en(posts, "post", "posts")} in ${en(channels, "channel", "channels")}` + (until ? `, the latest of ${until}` : ""),
    question: "Your question",
    ask_first: "What would you like to know?",
    ask_next: "Ask a follow-up, or something else",
    send: "Ask",
    stop: "Stop",
    keys: "Enter asks, Shift+Enter makes a new line",
    channels: "Where to look",
    since: "from",
    until: "to",
    unlimit: "Look everywhere",
    everywhere: "All channels",
    always: "any time",
    some_channels: (count) => en(count, "channel", "channels"),
    from_day: (day) => `from ${day}`,
    to_day: (day) => `to ${day}`,
    examples: "Example questions",
    searching: "Searching the posts…",
    writing: "Writing the answer…",
    sources: "Sources",
    source: (number, title) => `Source ${number}: ${title}`,
    open_post: (title) => `Open the post: ${title}`,
    open_in_telegram: "Open in Telegram",
    to_telegram: (title) => `In Telegram: ${title}`,
    close: "Close the post",
    picture: "A post without text",
    loading: "Opening…",
    edited: (day) => `edited ${day}`,
    not_found: "The posts hold no answer to this",
    searched: (posts, channels, until) =>
      `Searched ${en(posts, "post", "posts")} (${channels})${until ? `, the latest of ${until}` : ""}.`,
    searched_nothing: "No post fits these limits. Try a wider search.",
    nearest: "Nearest in meaning",
    and_more: (count) => `and ${count} more`,
    quotes: "quotes from the posts",
    model: (name) => `model ${name}`,
    times: (links, complete) => `links in ${links} ms, answer in ${complete} ms`,
    rate: "Rate the answer",
    good: "Good answer",
    bad: "Bad answer",
    thanks: "Thank you, noted",
    searched_in: "Searched:",
    without: (limit) => `Search without “${limit}”`,
    story: "The story so far",
    story_none: "Nothing more was found.",
    related: "Related posts",
    posts: (count) => en(count, "post", "posts"),
    what_wrong: "What is wrong?",
    wrong: ["Off the point", "Incomplete", "Out of date", "Not true"],
    wrong_other: "In your own words",
    tell: "Send",
    stopped: "Stopped.",
    again: "Try again",
    no_network: "The server does not answer.",
    no_network_cure: "Check the connection and try again.",
    empty: "There are no posts here yet",
    empty_cure: "Export a channel in Telegram Desktop (“Export chat history”, JSON) and import it with a command on the server:",
    empty_where: "As soon as there are posts, you can ask here.",
    look_again: "Look again",
  },
};

const preferred = () => {
  let kept = null;
  try {
    kept = localStorage.getItem("tongue");
  } catch {
    // storage may be forbidden: the browser's language decides
  }
  if (kept in WORDS) return kept;
  const wish = navigator.languages.map((name) => name.slice(0, 2).toLowerCase()).find((name) => name in WORDS);
  return wish ?? "en";
};

let spoken = preferred();

export const tongue = () => spoken;
export const words = () => WORDS[spoken];

export function choose(next) {
  spoken = next;
  try {
    localStorage.setItem("tongue", next);
  } catch {
    // the choice lasts as long as the page
  }
}

export const day = (time) =>
  new Intl.DateTimeFormat(spoken === "en" ? "en-GB" : spoken, { day: "numeric", month: "long", year: "numeric" })
    .format(new Date(time))
    .replace(/\sг\.$/, "");
