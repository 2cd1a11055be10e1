// Ways to go on: without a limit read from the words, the story of a subject, posts like a post.

import { call } from "./api.js";
import { make } from "./dom.js";
import { told } from "./told.js";
import { day, tongue, words } from "./words.js";

// Limits that hold, each with a cross that asks again without it.
export function limits(done, without) {
  if (!done.limits.length || !done.are_limits_held) return "";
  const kinds = [...new Set(done.limits.map((limit) => limit.kind))];
  const said = (kind) => [...new Set(done.limits.filter((limit) => limit.kind === kind).map((limit) => limit.words))].join(", ");
  return make(
    "p",
    { class: "limits" },
    words().searched_in,
    ...kinds.map((kind) =>
      make(
        "button",
        { type: "button", "aria-label": words().without(said(kind)), title: words().without(said(kind)), on: { click: () => without(kind) } },
        make("span", {}, said(kind)),
        make("span", { "aria-hidden": "true" }, "×"),
      ),
    ),
  );
}

// A button that tells the story of what was asked, once.
export function story(subject, limited, open) {
  const button = make("button", { type: "button", class: "soft", on: { click: show } }, words().story);
  async function show() {
    button.disabled = true;
    try {
      const found = await call("/story", { subject, language: tongue(), ...limited() });
      button.replaceWith(chapters(found, open));
    } catch (problem) {
      button.replaceWith(told(problem, show));
    }
  }
  return button;
}

function chapters(found, open) {
  if (!found.chapters.length) return make("p", { class: "said" }, words().story_none);
  const most = Math.max(...found.chapters.map((chapter) => chapter.posts));
  const citation = (number) => found.citations.find((one) => one.number === number);
  return make(
    "section",
    { class: "story" },
    make("h3", {}, words().story),
    make(
      "ol",
      {},
      ...found.chapters.map((chapter) =>
        make(
          "li",
          {},
          make(
            "div",
            { class: "when" },
            make("span", {}, chapter.words),
            make("meter", { min: 0, max: most, value: chapter.posts, "aria-hidden": "true" }),
            make("span", { class: "said" }, words().posts(chapter.posts)),
          ),
          ...chapter.sentences.map((sentence) =>
            make(
              "button",
              {
                type: "button",
                class: "saying",
                on: { click: (event) => open(citation(sentence.citations[0]), [sentence], event.currentTarget) },
              },
              sentence.text,
            ),
          ),
        ),
      ),
    ),
  );
}

// Posts like an opened one, as a list of buttons; nothing where there are none.
export async function related([channel, message], open) {
  const found = await call(`/posts/${channel}/${message}/related?limit=4`).catch(() => []);
  if (!found.length) return "";
  return make(
    "section",
    { class: "related" },
    make("h3", {}, words().related),
    ...found.map((hit) => {
      const title = hit.post.text.trim().split("\n")[0].slice(0, 110) || words().picture;
      const citation = {
        number: 0,
        link: hit.link,
        channel: hit.channel.title,
        date: hit.post.date,
        title,
        post: [hit.post.channel_id, hit.post.message_id],
      };
      return make(
        "button",
        { type: "button", class: "saying", on: { click: (event) => open(citation, [], event.currentTarget) } },
        make("span", {}, title),
        make("span", { class: "from" }, `${hit.channel.title} · ${day(hit.post.date)}`),
      );
    }),
  );
}
