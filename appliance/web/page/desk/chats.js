// Section: how the bot answers in groups and in their topics.

import { make } from "../dom.js";
import { card, choice, desk, percent, pick, toast } from "./frame.js";
import { words } from "./words.js";

export const name = "chats";
export const least = "admin";

export async function show(root, me, again) {
  const found = await desk("chats");
  const box = card(words().sections.chats, make("p", { class: "said" }, words().chats_said));
  const list = make("ul", { class: "lines" });
  for (const one of found.chats) list.append(line(one, found, again));
  box.append(found.chats.length ? list : make("p", { class: "said" }, words().nothing_yet));
  root.append(box);
}

function line(one, { ways, confidences }, again) {
  const set = async (way, above) => {
    await desk("chats/mode", { chat_id: one.chat_id, topic_id: one.topic_id, way, above });
    toast(words().way_set);
    await again();
  };
  const title = one.title || words().chat_number(one.chat_id);
  const where = one.topic_id ? words().topic_number(one.topic_id) : words().whole_chat;
  const who = make("div", { class: "who" }, make("span", {}, title), make("small", {}, where));
  const way = pick(ways.map((value) => [value, words().ways[value]]), one.mode.way, title, (value) => set(value, one.mode.above));
  const row = make("div", { class: "row" }, way);
  if (one.mode.way === "auto") row.append(choice(confidences.map((value) => [value, words().from_sure(percent(value))]), one.mode.above, (value) => set("auto", value)));
  return make("li", {}, who, row);
}
