// Section: the live view of attacks, looked at anew every few seconds while it is open.

import { make } from "../dom.js";
import { columns } from "./draw.js";
import { button, card, choice, desk, figure, number, when } from "./frame.js";
import { words } from "./words.js";

export const name = "attacks";
export const least = "moderator";
const EVERY_MS = 5000;

export async function show(root, me, again) {
  const live = make("div", {});
  draw(live, await desk("attacks"), me, again);
  root.append(live);
  const look = async () => {
    if (!live.isConnected) return;
    if (document.visibilityState === "visible" && !document.querySelector("dialog[open]")) {
      const view = await desk("attacks").catch(() => null);
      if (view && live.isConnected) draw(live, view, me, again);
    }
    setTimeout(look, EVERY_MS);
  };
  setTimeout(look, EVERY_MS);
}

function draw(live, view, me, again) {
  const guard = card(words().guard);
  if (me.role !== "moderator") {
    guard.append(choice(Object.entries(words().guards), view.mode, (mode) => desk("attacks/mode", { mode }).then(again)));
  }
  guard.append(make("p", { class: "said" }, words().guards_said[view.mode]));
  const hour = make(
    "div",
    { class: "figures" },
    figure(number(view.hour.seen), words().seen_acts),
    figure(number(view.hour.signs), words().signs),
    figure(number(view.hour.slowed), words().slowed),
    figure(number(view.hour.stopped), words().stopped),
  );
  const clock = (at) => new Date(at * 1000).toTimeString().slice(0, 5);
  const parts = [
    { name: words().seen_acts, kind: "plain", values: view.minutes.map((one) => one.seen) },
    { name: words().slowed, kind: "full", values: view.minutes.map((one) => one.slowed) },
    { name: words().stopped, kind: "bad", values: view.minutes.map((one) => one.stopped) },
  ];
  const legend = make("p", { class: "legend" });
  for (const part of parts) legend.append(make("span", {}, make("i", { class: part.kind }), part.name));
  const picture = columns(view.minutes.map((one) => clock(one.at)), parts, { every: 10, title: words().last_hour });
  const kinds = Object.entries(view.signs).map(([sign, count]) => figure(number(count), words().causes[sign] ?? sign));
  live.replaceChildren(guard, card(words().last_hour, hour, picture, legend));
  if (kinds.length) live.append(card(words().signs_found, make("div", { class: "figures" }, ...kinds)));
  const list = make("ul", { class: "lines" });
  for (const line of view.incidents) {
    const step = words().steps[line.step] ?? line.step;
    const who = line.name ?? (typeof line.who === "number" ? words().unknown_person : String(line.who));
    const row = make("div", { class: "row" });
    if (line.step === "stop" && line.real && line.user_id) {
      row.append(button(words().lift, () => desk("people/lift", { user_id: line.user_id }).then(again)));
    }
    const kind = line.step === "stop" ? "badge bad" : "badge";
    const shadow = line.real || line.step === "flag" || line.step === "sign" ? "" : ` (${words().shadow})`;
    list.append(
      make(
        "li",
        {},
        make("div", { class: "who" }, who, make("span", { class: kind }, `${step}${shadow}`), make("small", {}, `${words().causes[line.sign] ?? line.sign} · ${when(line.at * 1000)}`)),
        row,
      ),
    );
  }
  live.append(card(words().incidents, view.incidents.length ? list : make("p", { class: "said" }, words().quiet)));
}
