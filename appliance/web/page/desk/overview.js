// Section: how things stand, the numbers with their pictures, who may ask, the switch.

import { make } from "../dom.js";
import { columns } from "./draw.js";
import { ask, button, card, choice, desk, figure, number, percent, used, when } from "./frame.js";
import { tongue } from "../words.js";
import { words } from "./words.js";

export const name = "overview";
export const least = "moderator";

export async function show(root, me, again) {
  const [state, numbers] = await Promise.all([desk("overview"), desk("numbers")]);
  const isAdmin = me.role !== "moderator";
  for (const trouble of state.troubles) root.append(alarm(make("p", {}, trouble)));
  if (state.paused) {
    const said = words().paused_by(state.paused.name, when(state.paused.at));
    const box = alarm(make("h2", {}, words().paused), make("p", {}, said));
    if (state.paused.word) box.append(make("p", {}, `«${state.paused.word}»`));
    if (isAdmin) box.append(make("div", { class: "row end" }, button(words().resume, () => desk("resume", {}).then(again), "solid")));
    root.append(box);
  }
  const counts = [
    figure(state.counts.waiting, words().waiting),
    figure(state.counts.appeals, words().appeals),
    figure(state.counts.banned, words().banned),
    figure(words().guards[state.antifraud], words().guard),
  ];
  root.append(card(words().now, make("div", { class: "figures" }, ...counts)));
  root.append(...figures(numbers));
  if (isAdmin) root.append(admission(state, again), ...(state.paused ? [] : [pause(again)]));
}

function alarm(...inside) {
  const box = card("", ...inside);
  box.classList.add("alarm");
  return box;
}

function figures(numbers) {
  const days = numbers.by_day;
  const label = (day) => `${day.slice(8)}.${day.slice(5, 7)}`;
  const parts = [
    { name: words().questions, kind: "plain", values: days.map((day) => day.questions) },
    { name: words().answered, kind: "full", values: days.map((day) => day.answered) },
  ];
  const legend = make("p", { class: "legend" });
  for (const part of parts) legend.append(make("span", {}, make("i", { class: part.kind }), part.name));
  const figures = make(
    "div",
    { class: "figures" },
    figure(number(numbers.dau), words().dau),
    figure(number(numbers.people), words().people(numbers.days)),
    figure(number(numbers.questions), words().asked(numbers.days)),
    figure(percent(numbers.answered_share), words().answered_share),
    figure(percent(numbers.satisfaction), words().satisfaction),
    figure(numbers.score === null ? "—" : numbers.score.toLocaleString(tongue(), { maximumFractionDigits: 1 }), words().score),
    figure(number(numbers.scored), words().scored),
    figure(percent(numbers.repeats), words().repeats),
    figure(percent(numbers.churn), words().churn),
    figure(number(numbers.newcomers), words().newcomers),
  );
  const waits = make("ul", { class: "lines" });
  for (const [stage, wait] of Object.entries(numbers.waits_ms)) {
    waits.append(make("li", {}, make("span", { class: "who" }, words().waits[stage] ?? stage), make("span", {}, words().wait(wait.p50, wait.p95))));
  }
  const list = (rows, text) => {
    const made = make("ul", { class: "lines" });
    for (const row of rows) made.append(make("li", {}, make("span", { class: "who" }, text(row)), make("small", {}, words().of_people(row.people))));
    return rows.length ? made : make("p", { class: "said" }, words().nothing_yet);
  };
  const plans = make("ul", { class: "lines" });
  for (const one of numbers.plans) {
    const title = make("span", {}, one.type_id ? one.plan : words().plan_free);
    plans.append(make("li", {}, make("div", { class: "who" }, title, make("small", {}, used(one)))));
  }
  return [
    card(
      words().by_day,
      columns(days.map((day) => label(day.day)), parts, { title: words().by_day }),
      legend,
    ),
    card(words().numbers, figures, make("p", { class: "said" }, words().few_hidden)),
    make(
      "div",
      { class: "two" },
      card(words().topics, list(numbers.topics, (row) => row.title)),
      card(words().gaps, list(numbers.gaps, (row) => row.words)),
    ),
    ...(numbers.plans.length ? [card(words().sections.plans, plans)] : []),
    card(words().waits_title, waits.childElementCount ? waits : make("p", { class: "said" }, words().nothing_yet)),
  ];
}

function admission(state, again) {
  const modes = Object.entries(words().modes);
  const chosen = choice(modes, state.admission, (mode) => desk("admission", { mode }).then(again));
  const box = card(words().who_may_ask, chosen, make("p", { class: "said" }, words().modes_said[state.admission]));
  if (state.admission !== "open") {
    const keys = make("div", { class: "row end" }, button(words().invite, () => invite(words().invite, false)));
    if (state.counts.invited) keys.prepend(button(words().uninvite, () => invite(words().uninvite, true), "quiet"));
    box.append(make("p", { class: "said" }, words().invited(state.counts.invited)), keys);
  }
  async function invite(title, back) {
    const act = ({ names }) => desk("people/invite", { names: names.split(/[\s,;]+/).filter(Boolean), back });
    if (await ask(title, [{ name: "names", label: words().invite_names, rows: 4, required: true }], title, { act })) again();
  }
  return box;
}

function pause(again) {
  const stop = button(
    words().pause,
    async () => {
      const said = await ask(words().pause_sure, [{ name: "word", label: words().pause_word, maxlength: 500, rows: 3 }], words().pause, { danger: true });
      if (said) {
        await desk("pause", { word: said.word });
        again();
      }
    },
    "soft danger",
  );
  return card(words().switch, make("p", { class: "said" }, words().pause_said), make("div", { class: "row end" }, stop));
}
