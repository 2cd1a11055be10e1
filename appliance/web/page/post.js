// One post: a panel at the side, or a sheet from below.

import { post } from "./api.js";
import { find, make, toTelegram } from "./dom.js";
import { related } from "./explore.js";
import { told } from "./told.js";
import { day, words } from "./words.js";

export const wide = matchMedia("(min-width: 68rem)");
const panel = find("#post");
let opener = null; // what had the focus before the post was opened

export const isOpen = () => panel.open;

export async function openPost(citation, sentences, from) {
  opener = from;
  const title = find("#post-title");
  const text = find("#post-text");
  title.textContent = citation.channel;
  find("#post-when").textContent = day(citation.date);
  text.textContent = words().loading;
  text.scrollTop = 0;
  const link = toTelegram(citation.link);
  find("#post-link").hidden = !link;
  if (link) find("#post-link").href = link;
  else find("#post-link").removeAttribute("href");
  if (!panel.open) {
    if (wide.matches) panel.show();
    else panel.showModal();
    document.body.classList.toggle("reading", wide.matches);
  }
  title.focus({ preventScroll: true });
  try {
    const { post: found } = await post(citation.post);
    const changed = found.edited_at ? words().edited(day(found.edited_at)) : "";
    find("#post-when").textContent = [found.author, day(found.date), changed].filter(Boolean).join(" · ");
    const quoted = sentences.filter((one) => one.citations.includes(citation.number)).map((one) => one.text);
    text.replaceChildren(...marked(found.text || words().picture, quoted));
    text.querySelector("mark")?.scrollIntoView({ block: "center" });
    const shown = text.firstChild;
    const like = await related(citation.post, openPost);
    if (text.firstChild === shown) text.append(like); // another post may have been opened meanwhile
  } catch (problem) {
    text.replaceChildren(told(problem, () => openPost(citation, sentences, from)));
  }
}

// Mark the quoted sentences in a post; spaces may have been folded and a long sentence cut by an ellipsis.
function marked(text, quoted) {
  const spans = [];
  for (const quote of quoted) {
    const pieces = quote.replace(/…$/, "").split(/\s+/).filter(Boolean);
    const pattern = pieces.map((piece) => piece.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("\\s+");
    const match = pattern && text.match(new RegExp(pattern));
    if (match) spans.push([match.index, match.index + match[0].length]);
  }
  spans.sort((one, other) => one[0] - other[0]);
  const parts = [];
  let place = 0;
  for (const [start, end] of spans) {
    if (start < place) continue;
    parts.push(text.slice(place, start), make("mark", {}, text.slice(start, end)));
    place = end;
  }
  parts.push(text.slice(place));
  return parts;
}

export function closePost() {
  if (panel.open) panel.close();
}

panel.addEventListener("close", () => {
  document.body.classList.remove("reading");
  opener?.focus({ preventScroll: true });
  opener = null;
});
panel.addEventListener("click", (event) => event.target === panel && closePost()); // the backdrop
wide.addEventListener("change", closePost);
