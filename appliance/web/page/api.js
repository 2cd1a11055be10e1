// The appliance's HTTP API (docs/api.md).

import { tongue, words } from "./words.js";

const posts = new Map(); // "channel/message" → promise of a post

export class Problem extends Error {
  constructor({ code, message, cure }) {
    super(message);
    this.code = code;
    this.cure = cure;
  }
}

export async function call(path, body, { stream = false, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        Accept: stream ? "text/event-stream" : "application/json",
        "Accept-Language": tongue(),
        "X-PostFinder-Door": "web",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_network", message: words().no_network, cure: words().no_network_cure });
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Problem({ code: said.code, message: said.message ?? `HTTP ${response.status}`, cure: said.cure ?? "" });
  }
  return stream ? events(response.body) : response.json();
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const whole = held.split("\n\n");
      held = whole.pop();
      for (const event of whole) {
        let name = "message";
        let data = "";
        for (const line of event.split("\n")) {
          if (line.startsWith("event: ")) name = line.slice(7);
          else if (line.startsWith("data: ")) data += line.slice(6);
        }
        if (data) yield [name, JSON.parse(data)];
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_network", message: words().no_network, cure: words().no_network_cure });
  }
}

export function post([channel, message]) {
  const key = `${channel}/${message}`;
  if (!posts.has(key)) {
    const coming = call(`/posts/${key}`);
    coming.catch(() => posts.delete(key)); // the next look asks again
    posts.set(key, coming);
  }
  return posts.get(key);
}
