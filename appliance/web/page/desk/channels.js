// Section: the channels that are searched.

import { make } from "../dom.js";
import { ask, button, card, desk, number, percent, toast, when } from "./frame.js";
import { words } from "./words.js";

export const name = "channels";
export const least = "moderator";

export async function show(root, me, again) {
  const found = await desk("channels");
  const list = make("ul", { class: "lines" });
  for (const status of found) list.append(line(status, me, again));
  const box = card(words().sections.channels);
  box.append(found.length ? list : make("p", { class: "said" }, words().no_channels));
  root.append(box);
}

function line({ channel, posts, last, state, is_live }, me, again) {
  const title = make("span", {}, channel.title, channel.username ? ` @${channel.username}` : "");
  if (!channel.is_open) title.append(make("span", { class: "badge" }, words().closed));
  if (state === "waiting" || state === "refused") title.append(make("span", { class: "badge bad" }, words().channel_states[state]));
  if (is_live) title.append(make("span", { class: "badge" }, words().live));
  if (!channel.is_cross) title.append(make("span", { class: "badge" }, words().only_named));
  const signs = make("small", { hidden: true });
  const who = make("div", { class: "who" }, title, make("small", {}, words().posts_until(number(posts), last && when(last))), signs);
  const row = make("div", { class: "row" });
  row.append(
    button(words().look, async () => {
      const said = await desk(`channels/${channel.id}/signs`);
      signs.hidden = false;
      signs.textContent = `${said.suspicious ? words().suspicious : words().clean} — ${words().channel_signs(percent(said.spam), percent(said.repeated), percent(said.forwarded))}`;
    }, "quiet"),
  );
  if (me.role !== "moderator") {
    if (state === "waiting" || state === "refused") {
      row.append(button(words().take_in, () => desk("questions/pool", { name: String(channel.id), state: "approved" }).then(again), "solid"));
    }
    const path = { channel_id: channel.id, is_open: !channel.is_open };
    row.append(
      button(channel.is_cross ? words().consent_back : words().consent_give, () => desk("channels/consent", { channel_id: channel.id, given: !channel.is_cross }).then(again)),
      button(channel.is_open ? words().close : words().open, () => desk("channels/open", path).then(again)),
      button(words().remove, () => remove(channel, again), "soft danger"),
    );
  }
  return make("li", {}, who, row);
}

async function remove(channel, again) {
  const said = await ask(words().remove_sure(channel.title), [{ name: "title", label: words().remove_title, required: true, autocomplete: "off" }], words().remove, { danger: true });
  if (!said) return;
  if (said.title.trim() !== channel.title.trim()) return toast(words().remove_other);
  const receipt = await desk("channels/remove", { channel_id: channel.id, title: said.title });
  toast(words().removed(receipt.receipt_id));
  again();
}
