// The page: ask, read the answer as it streams, open a cited post, rate the answer.
// Text is set with textContent alone; links come only from the API's citations.

import { WORDS, keep, preferred } from "./words.js";

const find = (selector) => document.querySelector(selector);
const form = find("#ask");
const box = find("#question");
const talk = find("#talk");
const panel = find("#post");
const wide = matchMedia("(min-width: 68rem)");

let tongue = preferred();
let channels = [];
let dialogue = null; // the id that a follow-up continues
let asking = null; // AbortController of the answer being streamed
let opener = null; // what had the focus before the post was opened
const posts = new Map(); // "channel/message" → promise of a post

const words = () => WORDS[tongue];

/* ---- small tools ---- */

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...inside);
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

const day = (time) =>
  new Intl.DateTimeFormat(tongue === "en" ? "en-GB" : tongue, { day: "numeric", month: "long", year: "numeric" })
    .format(new Date(time))
    .replace(/\sг\.$/, "");
const toTelegram = (link) => (typeof link === "string" && link.startsWith("https://t.me/") ? link : null);

/* ---- the API ---- */

class Problem extends Error {
  constructor({ code, message, cure }) {
    super(message);
    this.code = code;
    this.cure = cure;
  }
}

async function call(path, body, { stream = false, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        Accept: stream ? "text/event-stream" : "application/json",
        "Accept-Language": tongue,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_network", message: words().no_network, cure: words().no_network_cure });
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Problem({ code: said.code, message: said.message ?? `HTTP ${response.status}`, cure: said.cure ?? "" });
  }
  return stream ? events(response.body) : response.json();
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const whole = held.split("\n\n");
      held = whole.pop();
      for (const event of whole) {
        let name = "message";
        let data = "";
        for (const line of event.split("\n")) {
          if (line.startsWith("event: ")) name = line.slice(7);
          else if (line.startsWith("data: ")) data += line.slice(6);
        }
        if (data) yield [name, JSON.parse(data)];
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_network", message: words().no_network, cure: words().no_network_cure });
  }
}

function post([channel, message]) {
  const key = `${channel}/${message}`;
  if (!posts.has(key)) {
    const coming = call(`/posts/${key}`);
    coming.catch(() => posts.delete(key)); // the next look asks again
    posts.set(key, coming);
  }
  return posts.get(key);
}

/* ---- words, channels, limits ---- */

function speak(next) {
  tongue = next;
  document.documentElement.lang = tongue;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words()[element.dataset.word];
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", words()[element.dataset.label]);
    if (element.tagName === "BUTTON") element.title = words()[element.dataset.label];
  }
  for (const button of document.querySelectorAll("[data-tongue]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tongue === tongue));
  }
  box.placeholder = talk.childElementCount ? words().ask_next : words().ask_first;
  sayCorpus();
  sayLimits();
}

function sayCorpus() {
  const count = channels.reduce((sum, status) => sum + status.posts, 0);
  const latest = channels.map((status) => status.last).filter(Boolean).sort().at(-1);
  find("#corpus").textContent = count ? words().corpus(count, channels.length, latest && day(latest)) : "";
}

const picked = () => [...document.querySelectorAll("#channels input:checked")].map((input) => input.value);

function limits() {
  const until = find("#until").value;
  const after = until ? new Date(Date.parse(until) + 86_400_000).toISOString().slice(0, 10) : undefined; // the API's end is exclusive
  const chosen = picked();
  return { channels: chosen.length ? chosen : undefined, since: find("#since").value || undefined, until: after };
}

function sayLimits() {
  const chosen = picked();
  const titles = channels.filter((status) => chosen.includes(String(status.channel.id))).map((status) => status.channel.title);
  const where =
    chosen.length === 0 ? words().everywhere : chosen.length === 1 ? titles[0] : words().some_channels(chosen.length);
  const since = find("#since").value && words().from_day(day(find("#since").value));
  const until = find("#until").value && words().to_day(day(find("#until").value));
  const when = [since, until].filter(Boolean).join(" ") || words().always;
  find("#narrow-said").textContent = `${where} · ${when}`;
  const narrowed = Boolean(chosen.length || since || until);
  find("#narrow").classList.toggle("on", narrowed);
  find("#unlimit").hidden = !narrowed;
}

function showChannels() {
  find("fieldset").hidden = channels.length < 2;
  find("#channels").replaceChildren(
    ...channels.map((status) =>
      make(
        "label",
        {},
        make("input", { type: "checkbox", value: String(status.channel.id), on: { change: sayLimits } }),
        make("span", {}, status.channel.title),
        make("small", {}, status.posts.toLocaleString(tongue)),
      ),
    ),
  );
}

async function look() {
  try {
    channels = await call("/channels");
  } catch (problem) {
    talk.replaceChildren(told(problem, look));
    return;
  }
  talk.querySelector(":scope > .problem")?.remove();
  const bare = channels.every((status) => status.posts === 0);
  find("#empty").hidden = !bare;
  find("#hero").hidden = bare;
  form.hidden = bare;
  document.body.dataset.loaded = "";
  if (bare) return;
  showChannels();
  sayCorpus();
  sayLimits();
  if (matchMedia("(hover: hover)").matches) box.focus({ preventScroll: true }); // on a phone it would call the keyboard
  const suggested = await call("/examples").catch(() => []); // a page without examples is a page all the same
  find("#examples").hidden = suggested.length === 0 || talk.childElementCount > 0;
  find("#examples").replaceChildren(
    ...suggested.map((text) => make("li", {}, make("button", { type: "button", on: { click: () => ask(text) } }, text))),
  );
}

/* ---- asking ---- */

async function ask(text) {
  if (asking || !text.trim()) return;
  asking = new AbortController();
  document.body.dataset.state = "talk";
  find("#fresh").hidden = false;
  find("#examples").hidden = true;
  box.value = "";
  grow();
  box.placeholder = words().ask_next;
  narrow(false);
  busy(true);

  const turn = newTurn(text);
  talk.append(turn.root);
  turn.root.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  try {
    const body = { question: text, dialogue_id: dialogue ?? undefined, language: tongue, ...limits() };
    for await (const [name, data] of await call("/ask", body, { stream: true, signal: asking.signal })) {
      if (name === "links") turn.links(data.citations);
      else if (name === "piece") turn.piece(data);
      else if (name === "final") turn.final(data);
      else if (name === "error") throw new Problem(data);
    }
  } catch (error) {
    if (error.name === "AbortError") {
      turn.end(make("p", { class: "said" }, words().stopped));
    } else {
      turn.end(told(error, () => (turn.root.remove(), ask(text))));
      if (!box.value) box.value = text;
      grow();
    }
  } finally {
    turn.settle();
    asking = null;
    busy(false);
    if (wide.matches) box.focus({ preventScroll: true });
  }
}

function busy(on) {
  find("#send").hidden = on;
  find("#stop").hidden = !on;
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Trying again the same may help with these.
const HOPEFUL = new Set(["no_network", "internal", "store", "startup", "slow_down", "error", undefined]);

function told(problem, retry) {
  return make(
    "div",
    { class: "problem", role: "alert" },
    make("p", {}, make("strong", {}, problem.message)),
    problem.cure ? make("p", {}, problem.cure) : "",
    HOPEFUL.has(problem.code) ? make("button", { type: "button", class: "soft", on: { click: retry } }, words().again) : "",
  );
}

function newTurn(text) {
  const status = make("p", { class: "status", role: "status" }, words().searching);
  const answer = make("div", { class: "answer", "aria-live": "polite", "aria-busy": "true" });
  const sources = make("section", { class: "sources", hidden: true });
  const foot = make("footer", { class: "foot" });
  const root = make("article", { class: "turn" }, make("h2", {}, text), status, answer, sources, foot);
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
      dialogue = done.dialogue_id;
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
      foot.replaceChildren(rating(done.id), figures(done));
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
  const named = titles.slice(0, 3).map((title) => (tongue === "ru" ? `«${title}»` : `“${title}”`));
  if (titles.length > 3) named.push(words().and_more(titles.length - 3));
  const searched = count ? words().searched(count, named.join(", "), until && day(until)) : words().searched_nothing;
  return make("div", { class: "refusal" }, make("p", {}, make("strong", {}, words().not_found)), make("p", {}, searched));
}

function figures(done) {
  const { links, complete } = done.times_ms;
  const ms = (time) => (time < 10 ? time.toFixed(1) : time.toFixed(0)).replace(".", tongue === "ru" ? "," : ".");
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
    (found) => (snippet.textContent = afterTitle(found.post.text)),
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

const afterTitle = (text) => {
  const [first, ...rest] = text.trim().split("\n");
  return (rest.join(" ").trim() || first).slice(0, 300);
};

/* ---- one post ---- */

async function openPost(citation, sentences, from) {
  opener = from;
  const title = find("#post-title");
  const text = find("#post-text");
  title.textContent = citation.channel;
  find("#post-when").textContent = day(citation.date);
  text.textContent = words().loading;
  text.scrollTop = 0;
  const link = toTelegram(citation.link);
  find("#post-link").hidden = !link;
  if (link) find("#post-link").href = link;
  else find("#post-link").removeAttribute("href");
  if (!panel.open) {
    if (wide.matches) panel.show();
    else panel.showModal();
    document.body.classList.toggle("reading", wide.matches);
  }
  title.focus({ preventScroll: true });
  try {
    const { post: found } = await post(citation.post);
    const changed = found.edited_at ? words().edited(day(found.edited_at)) : "";
    find("#post-when").textContent = [found.author, day(found.date), changed].filter(Boolean).join(" · ");
    const quoted = sentences.filter((one) => one.citations.includes(citation.number)).map((one) => one.text);
    text.replaceChildren(...marked(found.text || words().picture, quoted));
    text.querySelector("mark")?.scrollIntoView({ block: "center" });
  } catch (problem) {
    text.replaceChildren(told(problem, () => openPost(citation, sentences, from)));
  }
}

// Mark the quoted sentences in a post; spaces may have been folded and a long sentence cut by an ellipsis.
function marked(text, quoted) {
  const spans = [];
  for (const quote of quoted) {
    const pieces = quote.replace(/…$/, "").split(/\s+/).filter(Boolean);
    const pattern = pieces.map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
    const match = pattern && text.match(new RegExp(pattern));
    if (match) spans.push([match.index, match.index + match[0].length]);
  }
  spans.sort((one, other) => one[0] - other[0]);
  const parts = [];
  let place = 0;
  for (const [start, end] of spans) {
    if (start < place) continue;
    parts.push(text.slice(place, start), make("mark", {}, text.slice(start, end)));
    place = end;
  }
  parts.push(text.slice(place));
  return parts;
}

function closePost() {
  if (panel.open) panel.close();
}

panel.addEventListener("close", () => {
  document.body.classList.remove("reading");
  opener?.focus({ preventScroll: true });
  opener = null;
});
panel.addEventListener("click", (event) => event.target === panel && closePost()); // the backdrop
wide.addEventListener("change", closePost);

/* ---- rating ---- */

function rating(id) {
  const said = make("span", { class: "said", role: "status" });
  const root = make("div", { class: "rating", role: "group", "aria-label": words().rate });
  const store = async (vote, reason = "") => {
    try {
      await call(`/answers/${id}/rating`, { vote, reason, language: tongue });
      said.textContent = words().thanks;
      return true;
    } catch (problem) {
      said.textContent = [problem.message, problem.cure].filter(Boolean).join(" ");
      return false;
    }
  };
  const button = (vote, label) =>
    make(
      "button",
      {
        type: "button",
        class: `round ${vote}`,
        "aria-label": label,
        title: label,
        "aria-pressed": "false",
        on: {
          async click(event) {
            const pressed = event.currentTarget;
            for (const other of root.querySelectorAll(".round")) other.setAttribute("aria-pressed", String(other === pressed));
            root.parentElement.querySelector(".why")?.remove();
            if ((await store(vote)) && vote === "down") root.parentElement.append(why((reason) => store(vote, reason)));
          },
        },
      },
      icon("thumb"),
    );
  root.append(button("up", words().good), button("down", words().bad), said);
  return root;
}

function why(store) {
  const other = make("input", { type: "text", maxlength: "500", placeholder: words().wrong_other, "aria-label": words().wrong_other });
  const root = make(
    "form",
    {
      class: "why",
      on: {
        async submit(event) {
          event.preventDefault();
          if (other.value.trim() && (await store(other.value))) root.remove();
        },
      },
    },
    make("span", {}, words().what_wrong),
    ...words().wrong.map((reason) =>
      make("button", { type: "button", class: "soft", on: { click: async () => (await store(reason)) && root.remove() } }, reason),
    ),
    other,
    make("button", { type: "submit", class: "soft" }, words().tell),
  );
  return root;
}

/* ---- the form ---- */

function grow() {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 180)}px`;
}

function narrow(on) {
  find("#limits").hidden = !on;
  find("#narrow").setAttribute("aria-expanded", String(on));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(box.value);
});
box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
find("#stop").addEventListener("click", () => asking?.abort());
find("#narrow").addEventListener("click", () => narrow(find("#limits").hidden));
for (const input of [find("#since"), find("#until")]) input.addEventListener("change", sayLimits);
find("#unlimit").addEventListener("click", () => {
  for (const input of document.querySelectorAll("#channels input")) input.checked = false;
  find("#since").value = find("#until").value = "";
  sayLimits();
});
find("#post-close").addEventListener("click", closePost);
find("#look-again").addEventListener("click", look);
find("#fresh").addEventListener("click", () => {
  asking?.abort();
  dialogue = null;
  closePost();
  talk.replaceChildren();
  document.body.dataset.state = "start";
  find("#fresh").hidden = true;
  find("#examples").hidden = find("#examples").childElementCount === 0;
  box.value = "";
  grow();
  speak(tongue);
  box.focus();
});
for (const button of document.querySelectorAll("[data-tongue]")) {
  button.addEventListener("click", () => {
    keep(button.dataset.tongue);
    speak(button.dataset.tongue);
    if (channels.length) {
      const chosen = picked();
      showChannels();
      for (const input of document.querySelectorAll("#channels input")) input.checked = chosen.includes(input.value);
    }
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && panel.open) closePost();
  else if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
    event.preventDefault();
    box.focus();
  }
});

speak(tongue);
look();
