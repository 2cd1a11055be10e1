// The admin pages: log in, choose a section. A section is a module with `name`, `least` (role) and `show(root, me)`.

import { find, make } from "../dom.js";
import { choose, tongue } from "../words.js";
import * as attacks from "./attacks.js";
import * as audit from "./audit.js";
import * as channels from "./channels.js";
import * as chats from "./chats.js";
import { button, card, desk, mark, toast } from "./frame.js";
import * as overview from "./overview.js";
import * as people from "./people.js";
import * as plans from "./plans.js";
import * as questions from "./questions.js";
import * as texts from "./texts.js";
import { words } from "./words.js";

const SECTIONS = [overview, people, questions, channels, chats, plans, texts, attacks, audit];
const RANKS = ["moderator", "admin", "owner"];
const root = find("#desk");
let me = null;
let shown = 0;

const may = (section) => RANKS.indexOf(me.role) >= RANKS.indexOf(section.least);

function speak() {
  document.documentElement.lang = tongue();
  document.title = `${words().desk} · PostFinder`;
  find("#tongues").setAttribute("aria-label", words().tongues);
  for (const one of document.querySelectorAll("[data-tongue]")) {
    one.setAttribute("aria-pressed", String(one.dataset.tongue === tongue()));
  }
  find("#leave").textContent = words().leave;
  find("#leave").hidden = !me;
  find("#me").textContent = me ? [me.name, words().roles[me.role]].filter(Boolean).join(", ") : "";
  const nav = find("#sections");
  nav.hidden = !me;
  nav.setAttribute("aria-label", words().desk);
  nav.replaceChildren(
    ...(me ? SECTIONS.filter(may) : []).map((section) =>
      make("a", { href: `#${section.name}`, "aria-current": section === current() && "page" }, words().sections[section.name]),
    ),
  );
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

const current = () => SECTIONS.find((section) => `#${section.name}` === location.hash && may(section)) ?? overview;

async function show() {
  speak();
  if (!me) return login();
  const mine = ++shown;
  const page = make("div", {});
  try {
    await current().show(page, me, show);
  } catch (error) {
    if (error.code === "login_needed") {
      me = null;
      return show();
    }
    page.replaceChildren(card("", make("p", {}, error.message)));
  }
  if (mine !== shown) return undefined; // another section was chosen meanwhile
  root.replaceChildren(page);
  root.dataset.shown = current().name;
  return undefined;
}

async function login() {
  const ways = await desk("login").catch(() => ({}));
  const box = make("div", { class: "login" }, make("h1", {}, words().desk), make("p", {}, words().login));
  if (ways.bot_id) {
    const asked = new URLSearchParams({ bot_id: ways.bot_id, origin: location.origin, return_to: `${location.origin}/admin` });
    box.append(make("a", { class: "solid", href: `https://oauth.telegram.org/auth?${asked}` }, words().by_telegram));
  }
  root.replaceChildren(box);
  root.dataset.shown = "login";
}

async function enter(proof) {
  try {
    mark((await desk("login", proof)).csrf);
  } catch (error) {
    toast(error.message);
  }
}

// What came with the address: a link's secret waits for a press, so that a preview of the link uses nothing up.
async function arrive() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const once = fragment.get("once");
  const signed = fragment.get("tgAuthResult");
  const app = fragment.get("tgWebAppData");
  if (once || signed || app) history.replaceState(null, "", "/admin");
  if (once) {
    const box = make("div", { class: "login" }, make("h1", {}, words().desk), make("p", {}, words().once));
    await new Promise((resolve) => {
      box.append(button(words().enter, () => enter({ once }).then(resolve), "solid"));
      root.replaceChildren(box);
      root.dataset.shown = "once";
    });
  } else if (signed) {
    try {
      const text = atob(signed.replaceAll("-", "+").replaceAll("_", "/"));
      const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
      await enter({ widget: JSON.parse(new TextDecoder().decode(bytes)) });
    } catch {
      toast(words().no_network);
    }
  } else if (app) await enter({ init_data: app });
}

async function begin() {
  speak();
  await arrive();
  try {
    me = await desk("me");
    mark(me.csrf);
  } catch {
    me = null;
  }
  await show();
}

for (const one of document.querySelectorAll("[data-tongue]")) {
  one.addEventListener("click", () => {
    choose(one.dataset.tongue);
    show();
  });
}
find("#leave").addEventListener("click", async () => {
  await desk("logout", {}).catch(() => {});
  me = null;
  show();
});
// A link pasted where the page is open loads nothing anew: it arrives here.
addEventListener("hashchange", () => (/^#(once|tgAuthResult|tgWebAppData)=/.test(location.hash) ? begin() : show()));
begin();
