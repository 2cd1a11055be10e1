// An error in words, with its cure.

import { make } from "./dom.js";
import { words } from "./words.js";

// Trying again the same may help with these.
const HOPEFUL = new Set(["no_network", "internal", "store", "startup", "slow_down", "error", undefined]);

export function told(problem, retry) {
  return make(
    "div",
    { class: "problem", role: "alert" },
    make("p", {}, make("strong", {}, problem.message)),
    problem.cure ? make("p", {}, problem.cure) : "",
    HOPEFUL.has(problem.code) ? make("button", { type: "button", class: "soft", on: { click: retry } }, words().again) : "",
  );
}
