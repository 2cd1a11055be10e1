// The desk's frame: calls with the session and its mark, a toast, small pieces that sections are made of.

import { make } from "../dom.js";
import { tongue } from "../words.js";
import { words } from "./words.js";

export class Refusal extends Error {
  constructor(said, status) {
    super(said.message ?? `HTTP ${status}`);
    this.code = said.code;
  }
}

let csrf = "";
export const mark = (value) => {
  csrf = value;
};

export async function desk(path, body) {
  let response;
  try {
    response = await fetch(`/admin/desk/${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        Accept: "application/json",
        "Accept-Language": tongue(),
        ...(body === undefined ? {} : { "Content-Type": "application/json", "X-CSRF": csrf }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal({ code: "no_network", message: words().no_network }, 0);
  }
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(said, response.status);
  return said;
}

let fading = 0;
export function toast(text) {
  const box = document.querySelector("#toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => (box.hidden = true), 4000);
}

export function button(text, action, kind = "soft") {
  const made = make("button", { type: "button", class: kind }, text);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try {
      await action(made);
    } catch (error) {
      toast(error.message);
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

// A choice of a few, the one in force pressed.
export function choice(options, now, action) {
  const row = make("div", { class: "choice", role: "group" });
  for (const [value, text] of options) {
    const made = button(text, () => action(value), "");
    made.setAttribute("aria-pressed", String(value === now));
    row.append(made);
  }
  return row;
}

// A choice of more, in the browser's own list.
export function pick(options, now, label, action) {
  const list = make("select", { class: "pick", "aria-label": label });
  for (const [value, text] of options) list.append(make("option", { value, selected: value === now }, text));
  list.addEventListener("change", () => action(list.value).catch((error) => toast(error.message)));
  return list;
}

export const card = (title, ...inside) =>
  make("section", { class: "panel" }, ...(title ? [make("h2", {}, title)] : []), ...inside);

export const figure = (value, name) =>
  make("div", { class: "figure" }, make("b", {}, String(value)), make("span", {}, name));

export const when = (time) =>
  time
    ? new Intl.DateTimeFormat(tongue() === "en" ? "en-GB" : "ru", { dateStyle: "medium", timeStyle: "short" }).format(
        new Date(time),
      )
    : "—";

export const number = (value) => (value === null || value === undefined ? words().too_few : value.toLocaleString(tongue()));
export const percent = (value) =>
  value === null || value === undefined ? "—" : value.toLocaleString(tongue(), { style: "percent", maximumFractionDigits: 0 });

// How a plan is used: by how many, and how much of its limits.
export const used = ({ people, day, month }) => {
  const share = (value) => (value === null ? words().too_few : percent(value));
  const said = (part, text) => part && text(number(part.asked), number(part.allowed), share(part.at_limit));
  return [words().plan_people(number(people)), said(day, words().used_day), said(month, words().used_month)].filter(Boolean).join(" · ");
};

// Asks in a dialog of the page; returns the fields' values, or null. What `act` refuses is told in the dialog, and
// stays as it was typed.
export function ask(title, fields, yes, { danger = false, act = async () => {} } = {}) {
  return new Promise((resolve) => {
    const inputs = fields.map(({ name, label, ...attributes }) => {
      const input = make(attributes.rows ? "textarea" : "input", { id: `f-${name}`, name, ...attributes });
      return make("label", { class: "field" }, make("span", {}, label), input);
    });
    const form = make("form", { method: "dialog" }, make("h2", {}, title), ...inputs);
    const go = make("button", { type: "submit", class: danger ? "solid danger" : "solid" }, yes);
    const wrong = make("p", { class: "wrong", role: "alert", hidden: true });
    const row = make("div", { class: "row end" });
    const box = make("dialog", { class: "asking" }, form);
    const done = (value) => {
      box.close();
      box.remove();
      resolve(value);
    };
    row.append(make("button", { type: "button", class: "quiet", on: { click: () => done(null) } }, words().cancel), go);
    form.append(wrong, row);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const given = Object.fromEntries(new FormData(form));
      go.disabled = true;
      try {
        await act(given);
        done(given);
      } catch (error) {
        wrong.textContent = error.message;
        wrong.hidden = false;
      } finally {
        go.disabled = false;
      }
    });
    box.addEventListener("cancel", () => done(null));
    document.body.append(box);
    box.showModal();
  });
}
