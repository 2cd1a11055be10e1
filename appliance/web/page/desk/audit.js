// Section: the log of administrative acts.

import { make } from "../dom.js";
import { card, desk, when } from "./frame.js";
import { words } from "./words.js";

export const name = "audit";
export const least = "admin";

export async function show(root) {
  const acts = await desk("audit?limit=200");
  const list = make("ul", { class: "lines" });
  for (const act of acts) {
    const detail = Object.entries(act.detail ?? {}).map(([key, value]) => `${key}: ${value}`).join(", ");
    const by = act.actor ?? (act.actor_id ? `№ ${act.actor_id}` : words().by_itself);
    list.append(
      make(
        "li",
        {},
        make("div", { class: "who" }, words().acts[act.kind] ?? act.kind, act.subject ? make("small", {}, [act.subject, detail].filter(Boolean).join(" · ")) : detail ? make("small", {}, detail) : ""),
        make("small", {}, `${by} · ${when(act.happened_at)}`),
      ),
    );
  }
  root.append(card(words().sections.audit, acts.length ? list : make("p", { class: "said" }, words().nothing_yet)));
}
