// Section: plans, who has which, payments.

import { make } from "../dom.js";
import { ask, button, card, desk, number, toast, used, when } from "./frame.js";
import { words } from "./words.js";

export const name = "plans";
export const least = "admin";

export async function show(root, me, again) {
  const found = await desk("plans");
  const plans = card(words().sections.plans);
  if (!found.on) plans.append(make("p", { class: "said" }, words().plans_off));
  const list = make("ul", { class: "lines" });
  for (const one of found.plans) list.append(plan(one, found.use.find((use) => use.type_id === one.type_id), again));
  plans.append(list, make("div", { class: "row end" }, button(words().plan_new, () => save({ name: "", stars: 0 }, again), "solid")));

  const holders = card(words().plan_holders(found.holding));
  const held = make("ul", { class: "lines" });
  for (const one of found.holders) {
    const until = one.until ? words().until(when(one.until)) : words().for_good;
    const how = one.is_given ? words().plan_given : one.renews ? words().plan_renews : words().plan_ends;
    held.append(make("li", {}, make("div", { class: "who" }, make("span", {}, one.name), make("small", {}, `${one.plan} · ${until} · ${how}`))));
  }
  holders.append(found.holders.length ? held : make("p", { class: "said" }, words().nobody));
  holders.append(make("div", { class: "row end" }, button(words().plan_give, () => give(again))));

  const payments = card(words().payments);
  const paid = make("ul", { class: "lines" });
  for (const one of found.payments) paid.append(payment(one, again));
  payments.append(found.payments.length ? paid : make("p", { class: "said" }, words().nothing_yet));
  root.append(plans, holders, payments);
}

function plan(one, use, again) {
  const title = make("span", {}, one.type_id ? one.name : words().plan_free);
  if (one.is_retired) title.append(make("span", { class: "badge" }, words().plan_retired));
  const price = !one.type_id ? "" : one.stars ? words().plan_price(number(one.stars)) : words().plan_only_given;
  const limits = [one.per_day && words().per_day(number(one.per_day)), one.per_month && words().per_month(number(one.per_month))].filter(Boolean);
  const said = [price, ...(limits.length ? limits : [words().no_limit])].filter(Boolean).join(" · ");
  const row = make("div", { class: "row" });
  if (one.type_id) {
    row.append(button(words().change, () => save(one, again)));
    if (one.stars) row.append(button(one.is_retired ? words().plan_sell : words().plan_retire, () => desk("plans/save", { ...body(one), is_retired: !one.is_retired }).then(again), "quiet"));
  }
  const who = make("div", { class: "who" }, title, make("small", {}, said));
  if (use) who.append(make("small", {}, used(use)));
  return make("li", {}, who, row);
}

const body = ({ name, stars, per_day, per_month, is_retired }) => ({ name, stars, per_day: per_day ?? null, per_month: per_month ?? null, is_retired: Boolean(is_retired) });

async function save(one, again) {
  const limit = { type: "number", min: "1", step: "1", placeholder: words().no_limit };
  const fields = [
    { name: "name", label: words().plan_name, value: one.name, required: true, maxlength: 32, readonly: one.name !== "" },
    { name: "stars", label: words().plan_stars, type: "number", min: "0", max: "10000", step: "1", value: one.stars, required: true },
    { ...limit, name: "per_day", label: words().plan_per_day, value: one.per_day ?? "" },
    { ...limit, name: "per_month", label: words().plan_per_month, value: one.per_month ?? "" },
  ];
  const count = (value) => (value ? Number(value) : null);
  const act = (said) =>
    desk("plans/save", { ...body(one), name: said.name, stars: Number(said.stars), per_day: count(said.per_day), per_month: count(said.per_month) });
  if (!(await ask(one.name || words().plan_new, fields, words().save, { act }))) return;
  toast(words().plan_saved);
  again();
}

async function give(again) {
  const fields = [
    { name: "who", label: words().plan_whom, required: true, maxlength: 64, placeholder: "@anna" },
    { name: "plan", label: words().plan_name, required: true, maxlength: 32 },
    { name: "days", label: words().plan_days, type: "number", min: "1", max: "3650", step: "1", placeholder: words().for_good },
  ];
  const act = ({ who, plan, days }) => desk("plans/grant", { who, plan, days: days ? Number(days) : null });
  if (!(await ask(words().plan_give, fields, words().plan_give, { act }))) return;
  toast(words().plan_was_given);
  again();
}

function payment(one, again) {
  const title = make("span", {}, `${one.name} · ${number(one.stars)} ★`);
  if (one.refunded_at) title.append(make("span", { class: "badge" }, words().refunded));
  const who = make("div", { class: "who" }, title, make("small", {}, [one.plan, when(one.paid_at)].filter(Boolean).join(" · ")));
  const row = make("div", { class: "row" });
  if (!one.refunded_at) row.append(button(words().refund, () => refund(one, again), "soft danger"));
  return make("li", {}, who, row);
}

async function refund(one, again) {
  if (!(await ask(words().refund_sure(one.name, number(one.stars)), [], words().refund, { danger: true }))) return;
  await desk("plans/refund", { charge_id: one.charge_id });
  toast(words().refund_sent);
  again();
}
