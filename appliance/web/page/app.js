// The page: ask, read the answer as it streams, open a cited post, rate the answer.
// Text is set with textContent alone; links come only from the API's citations.

import { Problem, call } from "./api.js";
import { find, make } from "./dom.js";
import { closePost, isOpen, wide } from "./post.js";
import { told } from "./told.js";
import { newTurn } from "./turn.js";
import { choose, day, tongue, words } from "./words.js";

const form = find("#ask");
const box = find("#question");
const talk = find("#talk");

let channels = [];
let dialogue = null; // the id that a follow-up continues
let asking = null; // AbortController of the answer being streamed

/* ---- words, channels, limits ---- */

function speak() {
  document.documentElement.lang = tongue();
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words()[element.dataset.word];
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", words()[element.dataset.label]);
    if (element.tagName === "BUTTON") element.title = words()[element.dataset.label];
  }
  for (const button of document.querySelectorAll("[data-tongue]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tongue === tongue()));
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
        make("small", {}, status.posts.toLocaleString(tongue())),
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

async function ask(text, unread = []) {
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

  const limited = limits(); // as they were when this was asked
  const turn = newTurn(text, {
    limited: () => limited,
    without: (kind) => {
      if (asking) return;
      turn.root.remove();
      ask(text, [...unread, kind]);
    },
  });
  talk.append(turn.root);
  turn.root.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  try {
    let done = false;
    const body = { question: text, dialogue_id: dialogue ?? undefined, language: tongue(), unread: unread.length ? unread : undefined, ...limited };
    for await (const [name, data] of await call("/ask", body, { stream: true, signal: asking.signal })) {
      if (name === "links") turn.links(data.citations);
      else if (name === "piece") turn.piece(data);
      else if (name === "final") {
        done = true;
        dialogue = data.dialogue_id;
        turn.final(data);
      } else if (name === "error") throw new Problem(data);
    }
    if (!done) throw new Problem({ code: "no_network", message: words().no_network, cure: words().no_network_cure });
  } catch (error) {
    if (error.name === "AbortError") {
      turn.end(make("p", { class: "said" }, words().stopped));
    } else {
      const again = () => {
        turn.root.remove();
        ask(text, unread);
      };
      turn.end(told(error, again));
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
  speak();
  box.focus();
});
for (const button of document.querySelectorAll("[data-tongue]")) {
  button.addEventListener("click", () => {
    choose(button.dataset.tongue);
    speak();
    if (channels.length) {
      const chosen = picked();
      showChannels();
      for (const input of document.querySelectorAll("#channels input")) input.checked = chosen.includes(input.value);
    }
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && isOpen()) closePost();
  else if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
    event.preventDefault();
    box.focus();
  }
});

speak();
look();
