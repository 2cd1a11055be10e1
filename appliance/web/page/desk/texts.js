// Section: the words members read.

import { make } from "../dom.js";
import { button, card, desk, toast } from "./frame.js";
import { words } from "./words.js";

export const name = "texts";
export const least = "admin";

export async function show(root) {
  const found = await desk("words");
  const look = make("input", { type: "search", class: "search", placeholder: words().find_text });
  const list = make("ul", { class: "lines words" });
  const lines = found.map((text) => [text, line(text)]);
  list.append(...lines.map(([, made]) => made));
  look.addEventListener("input", () => {
    const part = look.value.trim().toLowerCase();
    for (const [text, made] of lines) {
      made.hidden = !`${text.key} ${text.ru} ${text.en} ${Object.values(text.changed).join(" ")}`.toLowerCase().includes(part);
    }
  });
  root.append(card(words().sections.texts, make("p", { class: "said" }, words().texts_said), make("div", { class: "row" }, look), list));
}

function line(text) {
  const shown = (language) => text.changed[language] ?? text[language];
  const head = make("span", {}, first(shown("ru")));
  const badge = make("span", { class: "badge", hidden: !Object.keys(text.changed).length }, words().changed);
  const inside = make("div", {});
  const box = make("details", { class: "who" }, make("summary", {}, head, badge, make("small", {}, make("code", {}, text.key))), inside);
  box.addEventListener("toggle", () => {
    if (!box.open || inside.childElementCount) return;
    for (const language of ["ru", "en"]) {
      const area = make("textarea", { rows: 4, maxlength: 1500, lang: language });
      area.value = shown(language);
      const save = async (value) => {
        await desk("words", { key: text.key, language, words: value });
        if (value && value !== text[language]) text.changed[language] = value;
        else delete text.changed[language];
        area.value = shown(language);
        head.textContent = first(shown("ru"));
        badge.hidden = !Object.keys(text.changed).length;
        toast(value ? words().saved : words().taken_back);
      };
      const row = make("div", { class: "row end" }, button(words().take_back, () => save(""), "quiet"), button(words().save, () => save(area.value.trim())));
      inside.append(make("label", { class: "field" }, make("span", {}, language === "ru" ? "Русский" : "English"), area), row);
    }
    if (text.names.length) inside.prepend(make("p", { class: "said" }, words().names(text.names.map((name) => `{${name}}`).join(", "))));
  });
  return make("li", {}, box);
}

const first = (text) => {
  const line = text.trim().split("\n")[0];
  return line.length > 90 ? `${line.slice(0, 89)}…` : line;
};
