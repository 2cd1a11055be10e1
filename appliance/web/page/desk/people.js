// Section: members, requests, bans, roles.

import { make } from "../dom.js";
import { ask, button, card, choice, desk, toast, when } from "./frame.js";
import { words } from "./words.js";

export const name = "people";
export const least = "moderator";

const STAFF = ["moderator", "admin", "owner"];
let only = "";
let wanted = "";
let page = 0;

export async function show(root, me, again) {
  const found = await desk(`people?${new URLSearchParams({ only, wanted, page })}`);
  const look = make("input", { type: "search", class: "search", placeholder: words().find_person, value: wanted, maxlength: 64 });
  look.addEventListener("change", () => {
    wanted = look.value;
    page = 0;
    again();
  });
  const filters = choice(Object.entries(words().filters), only, async (value) => {
    only = value;
    page = 0;
    await again();
  });
  const list = make("ul", { class: "lines" });
  for (const one of found.people) list.append(person(one, me, again));
  const box = card(words().sections.people, make("div", { class: "row" }, filters, look));
  box.append(found.people.length ? list : make("p", { class: "said" }, words().nobody));
  const turn = (text, to) => button(text, async () => { page = to; await again(); });
  const row = make("div", { class: "row end" });
  if (page > 0) row.append(turn("←", page - 1));
  if ((page + 1) * found.page < found.total) row.append(turn("→", page + 1));
  box.append(make("p", { class: "said" }, words().people_found(found.total)), row);
  root.append(box);
}

function person(one, me, again) {
  const act = (text, path, body, kind) => button(text, () => desk(`people/${path}`, { user_id: one.user_id, ...body }).then(again), kind);
  const title = make("span", {}, one.name, one.username ? ` @${one.username}` : "");
  if (one.role !== "member") title.append(make("span", { class: "badge" }, words().roles[one.role] ?? one.role));
  if (one.state === "waiting") title.append(make("span", { class: "badge" }, words().states.waiting));
  if (one.state === "refused") title.append(make("span", { class: "badge bad" }, words().states.refused));
  if (one.ban) title.append(make("span", { class: "badge bad" }, words().states.banned));
  const said = make("small", {}, words().seen(when(one.seen_at)));
  const who = make("div", { class: "who" }, title, said);
  if (one.ban) who.append(make("small", {}, banned(one.ban)));
  const row = make("div", { class: "row" });
  if (one.state === "waiting") row.append(act(words().let_in, "decide", { let_in: true }, "solid"), act(words().decline, "decide", { let_in: false }));
  if (one.state === "refused") row.append(act(words().let_in, "decide", { let_in: true }));
  if (one.ban) {
    row.append(act(words().lift, "lift", {}));
    if (one.ban.appealed_at && !one.ban.answered_at) row.append(act(words().keep, "keep", {}));
  } else if (!STAFF.includes(one.role)) row.append(button(words().ban, () => ban(one, again)));
  if (me.role !== "moderator" && one.role !== "owner") row.append(button(words().role, () => role(one, me, again), "quiet"));
  return make("li", {}, who, row);
}

function banned(made) {
  const why = made.cause === "hand" ? made.reason : words().causes[made.cause];
  const until = made.until ? words().until(when(made.until)) : words().for_good;
  const appeal = made.appealed_at && !made.answered_at ? words().appeals_now : "";
  return [until, why, appeal].filter(Boolean).join(" · ");
}

async function ban(one, again) {
  const fields = [
    { name: "days", label: words().ban_days, type: "number", min: "0.01", max: "3650", step: "any", placeholder: words().for_good },
    { name: "reason", label: words().ban_reason, rows: 3, maxlength: 500 },
  ];
  const act = ({ days, reason }) => desk("people/ban", { user_id: one.user_id, days: days ? Number(days) : null, reason });
  if (!(await ask(words().ban_whom(one.name), fields, words().ban, { danger: true, act }))) return;
  toast(words().ban_told);
  again();
}

async function role(one, me, again) {
  const box = make("dialog", { class: "asking" }, make("h2", {}, words().role_whom(one.name)));
  const roles = ["member", "trusted", "moderator", ...(me.role === "owner" ? ["admin", "owner"] : [])];
  const close = () => {
    box.close();
    box.remove();
  };
  box.append(
    choice(roles.map((value) => [value, words().roles[value]]), one.role, async (value) => {
      if (value === "owner" && !(await ask(words().owner_sure(one.name), [], words().owner_make, { danger: true }))) return;
      await desk("people/role", { user_id: one.user_id, role: value }).catch((error) => toast(error.message));
      close();
      again();
    }),
    make("div", { class: "row end" }, button(words().cancel, close, "quiet")),
  );
  document.body.append(box);
  box.showModal();
}
