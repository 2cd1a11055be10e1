// Section: the log of administrative acts.

import { make } from "../dom.js";
import { card, desk, number, when } from "./frame.js";
import { words } from "./words.js";

export const name = "audit";
export const least = "admin";

// What an act's details say; one that is not here is shown as it is kept.
const DETAILS = {
  cause: (cause) => (cause === "hand" ? "" : words().causes[cause]),
  days: (days) => (days ? term(days) : words().for_good),
  role: (role) => words().roles[role],
  mode: (mode) => words().modes[mode] ?? words().guards[mode],
  to: (to) => words().ways[to?.way] ?? words().repeat_ways[to],
  state: (state) => words().channel_states[state],
  given: (given) => (given ? words().consent_give : words().consent_back),
  count: (count) => words().names_count(count),
  removed: (count) => words().posts_removed(count),
  plan: (plan) => plan,
  channel: (channel) => channel,
  stars: (stars) => `${number(stars)} ★`,
  scopes: (scopes) => scopes.join(", "),
  language: (language) => language.toUpperCase(),
  reset: (reset) => (reset ? words().take_back : ""),
  receipt: (receipt) => words().receipt(receipt),
  answer: () => "",
};

const term = (days) => (days < 1 ? words().for_minutes(Math.round(days * 1440)) : words().for_days(days));

function about({ about, subject }) {
  if (about) return about;
  if (subject.startsWith("user:")) return words().gone;
  return /^(question|answer):/.test(subject) ? "" : subject; // their numbers tell nobody anything
}

export async function show(root) {
  const acts = await desk("audit?limit=200");
  const list = make("ul", { class: "lines" });
  for (const act of acts) {
    const detail = Object.entries(act.detail).map(([key, value]) => DETAILS[key]?.(value) ?? `${key}: ${JSON.stringify(value)}`);
    const said = [about(act), ...detail].filter(Boolean).join(" · ");
    const by = act.actor ?? (act.actor_id ? words().gone : words().by_itself);
    list.append(
      make(
        "li",
        {},
        make("div", { class: "who" }, words().acts[act.kind] ?? act.kind, said ? make("small", {}, said) : ""),
        make("small", {}, `${by} · ${when(act.happened_at)}`),
      ),
    );
  }
  root.append(card(words().sections.audit, acts.length ? list : make("p", { class: "said" }, words().nothing_yet)));
}
