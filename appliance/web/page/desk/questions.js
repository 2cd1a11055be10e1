// Section: what waits for a decision: channels of the pool, questions without an answer, frequent ones.

import { make } from "../dom.js";
import { ask, button, card, desk, toast, when } from "./frame.js";
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
  const approve = (path, body) => act(words().take_in, path, { ...body, state: "approved" }, "solid");
  const pool = (row) => {
    const body = { name: row.username ? `@${row.username}` : String(row.id ?? row.title) };
    const refuse = async () => {
      if (row.posts && !(await ask(words().refuse_sure(row.title, row.posts), [], words().decline, { danger: true }))) return;
      await desk("questions/pool", { ...body, state: "refused" });
      await again();
    };
    return isAdmin ? [approve("pool", body), button(words().decline, refuse)] : [];
  };
  const waiting = ({ question_id, text }) => {
    const answer = async () => {
      const fields = [{ name: "text", label: words().answer_label, rows: 6, required: true, maxlength: 4000 }];
      const act = async (said) => {
        const kept = await desk("questions/answer", { question_id, text: said.text });
        toast(kept.is_open ? words().answer_kept : words().answer_kept_closed);
      };
      if (await ask(text, fields, words().answer, { act })) await again();
    };
    return [button(words().answer, answer), act(words().drop, "drop", { question_id }, "quiet")];
  };
  const faq = ({ question_id, state }) => {
    if (!isAdmin) return [];
    const hide = (text) => act(text, "faq", { question_id, state: "refused" });
    return state === "approved" ? [hide(words().hide)] : [approve("faq", { question_id }), hide(words().decline)];
  };
  if (found.pool.length) {
    root.append(
      card(words().pool, list(found.pool, (row) => row.title, (row) => (row.username ? `@${row.username}` : ""), pool)),
    );
  }
  root.append(
    card(
      words().unanswered,
      make("p", { class: "said" }, words().unanswered_said),
      list(found.queue, (row) => row.text, (row) => words().times_asked(row.asked, when(row.asked_at)), waiting),
    ),
    card(
      words().faq,
      list(found.faq, (row) => row.text, (row) => words().faq_states[row.state] ?? row.state, faq),
    ),
  );
}
