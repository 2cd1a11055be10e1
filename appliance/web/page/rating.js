// What the reader thinks of an answer: a vote at once, a reason if they like.

import { call } from "./api.js";
import { icon, make } from "./dom.js";
import { tongue, words } from "./words.js";

export function rating(id) {
  const said = make("span", { class: "said", role: "status" });
  const root = make("div", { class: "rating", role: "group", "aria-label": words().rate });
  const store = async (vote, reason = "") => {
    try {
      await call(`/answers/${id}/rating`, { vote, reason, language: tongue() });
      said.textContent = words().thanks;
      return true;
    } catch (problem) {
      said.textContent = [problem.message, problem.cure].filter(Boolean).join(" ");
      return false;
    }
  };
  const button = (vote, label) =>
    make(
      "button",
      {
        type: "button",
        class: `round ${vote}`,
        "aria-label": label,
        title: label,
        "aria-pressed": "false",
        on: {
          async click(event) {
            const pressed = event.currentTarget;
            for (const other of root.querySelectorAll(".round")) other.setAttribute("aria-pressed", String(other === pressed));
            root.parentElement.querySelector(".why")?.remove();
            if ((await store(vote)) && vote === "down") root.parentElement.append(why((reason) => store(vote, reason)));
          },
        },
      },
      icon("thumb"),
    );
  root.append(button("up", words().good), button("down", words().bad), said);
  return root;
}

function why(store) {
  const other = make("input", { type: "text", maxlength: "500", placeholder: words().wrong_other, "aria-label": words().wrong_other });
  const root = make(
    "form",
    {
      class: "why",
      on: {
        async submit(event) {
          event.preventDefault();
          if (other.value.trim() && (await store(other.value))) root.remove();
        },
      },
    },
    make("span", {}, words().what_wrong),
    ...words().wrong.map((reason) =>
      make("button", { type: "button", class: "soft", on: { click: async () => (await store(reason)) && root.remove() } }, reason),
    ),
    other,
    make("button", { type: "submit", class: "soft" }, words().tell),
  );
  return root;
}
