// Small pictures of numbers as inline SVG: colours come from classes, so light and dark need nothing more.

const SPACE = "http://www.w3.org/2000/svg";

function shape(name, attributes, text) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Columns by day or minute; `parts` are drawn over each other, the widest first: [{name, kind, values}].
export function columns(labels, parts, { height = 150, every = 7, title = "" } = {}) {
  const width = matchMedia("(max-width: 600px)").matches ? 320 : 640; // a phone shrinks it: its words stay readable
  const low = height - 20;
  const most = Math.max(1, ...parts.flatMap((part) => part.values));
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": title });
  const step = (width - 34) / labels.length;
  for (const share of [0, 0.5, 1]) {
    const y = low - share * (low - 12);
    svg.append(shape("line", { x1: 34, x2: width, y1: y, y2: y, class: "grid" }));
    const value = Math.round(most * share);
    if (share === 0 || value > 0) svg.append(shape("text", { x: 28, y: y + 4, class: "axis end" }, String(value)));
  }
  labels.forEach((label, place) => {
    const x = 34 + place * step;
    const column = shape("g", {});
    column.append(shape("title", {}, `${label}\n${parts.map((part) => `${part.name}: ${part.values[place]}`).join("\n")}`));
    column.append(shape("rect", { x, y: 0, width: step, height: low, class: "touch" }));
    for (const part of parts) {
      const tall = (part.values[place] / most) * (low - 12);
      if (tall > 0) {
        const shown = Math.max(tall, 1.5);
        column.append(
          shape("rect", { x: x + step * 0.14, y: low - shown, width: step * 0.72, height: shown, rx: Math.min(2, step / 6), class: part.kind }),
        );
      }
    }
    svg.append(column);
    if (place % every === 0) svg.append(shape("text", { x: x + step / 2, y: height - 5, class: "axis" }, label));
  });
  return svg;
}
