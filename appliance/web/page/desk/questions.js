// Section: what waits for a decision: channels of the pool, questions without an answer, frequent ones.

import { make } from "../dom.js";
import { button, card, desk, when } from "./frame.js";
import { words } from "./words.js";

export const name = "questions";
export const least = "moderator";

export async function show(root, me, again) {
  const found = await desk("questions");
  const isAdmin = me.role !== "moderator";
  const list = (rows, text, small, buttons) => {
    const made = make("ul", { class: "lines" });
    for (const row of rows) {
      const keys = make("div", { class: "row" }, ...buttons(row));
      made.append(make("li", {}, make("div", { class: "who" }, text(row), make("small", {}, small(row))), keys));
    }
    return rows.length ? made : make("p", { class: "said" }, words().nothing_yet);
  };
  const act = (text, path, body, kind) => button(text, () => desk(`questions/${path}`, body).then(again), kind);
  const decide = (path, body) =>
    isAdmin
      ? [act(words().take_in, path, { ...body, state: "approved" }, "solid"), act(words().decline, path, { ...body, state: "refused" })]
      : [];
  if (found.pool.length) {
    root.append(
      card(words().pool, list(found.pool, (row) => row.title, (row) => (row.username ? `@${row.username}` : ""), (row) => decide("pool", { name: row.username ? `@${row.username}` : String(row.id ?? row.title) }))),
    );
  }
  root.append(
    card(
      words().unanswered,
      make("p", { class: "said" }, words().unanswered_said),
      list(found.queue, (row) => row.text, (row) => words().times_asked(row.asked, when(row.asked_at)), (row) => [act(words().drop, "drop", { question_id: row.question_id }, "quiet")]),
    ),
    card(
      words().faq,
      list(found.faq, (row) => row.text, (row) => words().faq_states[row.state] ?? row.state, (row) => (row.state === "approved" ? [] : decide("faq", { question_id: row.question_id }))),
    ),
  );
}
