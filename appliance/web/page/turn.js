// A question and its answer as it streams: sentences with numbers, sources, figures.

import { post } from "./api.js";
import { icon, make, toTelegram } from "./dom.js";
import { limits, story } from "./explore.js";
import { openPost } from "./post.js";
import { rating } from "./rating.js";
import { day, tongue, words } from "./words.js";

export function newTurn(text, { without, limited }) {
  const status = make("p", { class: "status", role: "status" }, words().searching);
  const answer = make("div", { class: "answer", "aria-live": "polite", "aria-busy": "true" });
  const sources = make("section", { class: "sources", hidden: true });
  const foot = make("footer", { class: "foot" });
  const title = make("h2", {}, text);
  const root = make("article", { class: "turn" }, title, status, answer, sources, foot);
  let citations = [];
  let sentences = [];

  const piece = (sentence) => {
    sentences.push(sentence);
    status.hidden = true;
    const key = sentence.citations.join(",");
    let paragraph = answer.lastElementChild;
    if (paragraph?.dataset.from !== key) {
      paragraph = make("p", { "data-from": key });
      answer.append(paragraph);
    }
    paragraph.querySelectorAll(".chip").forEach((chip) => chip.remove()); // chips close the group, not each sentence
    paragraph.append(
      make("span", {}, sentence.text + " "),
      ...sentence.citations.flatMap((number) => {
        const citation = citations.find((one) => one.number === number);
        return citation ? [chip(citation, sentences, root)] : [];
      }),
    );
  };

  const showSources = (title) => {
    const heading = make("h3", {}, title);
    sources.replaceChildren(heading, make("ol", {}, ...citations.map((citation) => card(citation, sentences, root))));
    sources.hidden = citations.length === 0;
  };

  return {
    root,
    links(found) {
      citations = found;
      status.textContent = words().writing;
      showSources(words().sources);
    },
    piece,
    final(done) {
      root.dataset.answer = done.id;
      answer.lang = done.language;
      const streamed = sentences;
      if (JSON.stringify(streamed) !== JSON.stringify(done.sentences)) {
        sentences = []; // a model that broke off half-way is replaced by quotes
        answer.replaceChildren();
        done.sentences.forEach(piece);
      }
      if (done.outcome === "answered") {
        const cited = new Set(done.citations.map((citation) => String(citation.number)));
        for (const one of sources.querySelectorAll(".card")) if (!cited.has(one.dataset.number)) one.remove();
      } else {
        citations = done.citations;
        answer.replaceChildren(refusal(done));
        showSources(words().nearest);
      }
      if (done.remark) answer.append(make("p", { class: "said" }, done.remark));
      title.after(limits(done, without));
      foot.replaceChildren(rating(done.id), figures(done));
      if (done.outcome === "answered") foot.append(story(text, limited, openPost));
    },
    end(element) {
      answer.append(element);
    },
    settle() {
      status.hidden = true;
      answer.setAttribute("aria-busy", "false");
    },
  };
}

function refusal(done) {
  const { posts: count, channels: titles, until } = done.searched;
  const named = titles.slice(0, 3).map((title) => (tongue() === "ru" ? `«${title}»` : `“${title}”`));
  if (titles.length > 3) named.push(words().and_more(titles.length - 3));
  const searched = count ? words().searched(count, named.join(", "), until && day(until)) : words().searched_nothing;
  return make("div", { class: "refusal" }, make("p", {}, make("strong", {}, words().not_found)), make("p", {}, searched));
}

function figures(done) {
  const { links, complete } = done.times_ms;
  const ms = (time) => (time < 10 ? time.toFixed(1) : time.toFixed(0)).replace(".", tongue() === "ru" ? "," : ".");
  const times = links === undefined || complete === undefined ? "" : words().times(ms(links), ms(complete));
  const maker = done.outcome !== "answered" ? "" : done.model === "quotes" ? words().quotes : words().model(done.model);
  return make("p", { class: "figures" }, [maker, times].filter(Boolean).join(" · "));
}

/* ---- sources ---- */

function chip(citation, sentences, root) {
  return make(
    "button",
    {
      type: "button",
      class: "chip",
      "aria-label": words().source(citation.number, citation.title),
      title: citation.title,
      on: { click: (event) => openPost(citation, sentences, event.currentTarget), ...lighting(citation, root) },
    },
    String(citation.number),
  );
}

function lighting(citation, root) {
  const light = (on) => () =>
    root.querySelector(`.card[data-number="${citation.number}"]`)?.classList.toggle("lit", on);
  return { mouseenter: light(true), mouseleave: light(false), focus: light(true), blur: light(false) };
}

function card(citation, sentences, root) {
  const snippet = make("span", { class: "snippet" });
  post(citation.post).then(
    (found) => (snippet.textContent = afterTitle(found.post.text, citation.title)),
    () => snippet.remove(), // a post deleted meanwhile keeps its title; opening it says why
  );
  const link = toTelegram(citation.link);
  const open = make(
    "button",
    {
      type: "button",
      class: "open",
      "aria-label": words().open_post(citation.title || words().picture),
      on: { click: (event) => openPost(citation, sentences, event.currentTarget) },
    },
    make("span", { class: "number", "aria-hidden": "true" }, String(citation.number)),
    make(
      "span",
      { class: "about" },
      make("span", { class: "title" }, citation.title || words().picture),
      snippet,
      make("span", { class: "from" }, `${citation.channel} · ${day(citation.date)}`),
    ),
  );
  const out = link
    ? make(
        "a",
        { class: "round", href: link, target: "_blank", rel: "noopener noreferrer", "aria-label": words().to_telegram(citation.title), title: words().open_in_telegram },
        icon("out"),
      )
    : "";
  return make("li", { class: "card", "data-number": citation.number }, open, out);
}

// What follows the title in a post; a title cut by an ellipsis goes on.
function afterTitle(text, title) {
  const flat = text.trim().replace(/\s+/g, " ");
  const shown = title.replace(/…$/, "");
  const rest = flat.startsWith(shown) ? flat.slice(shown.length) : flat;
  return rest.replace(/(\s*#\S+)+$/, "").trim().slice(0, 300);
}
