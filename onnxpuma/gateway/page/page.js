"use strict";
// The page of the gateway: chats with a model, and shows for each answer what it cost and what each server saw.

const at = (id) => document.getElementById(id);
const talk = at("talk");
let models = [];
let chat = []; // the messages so far
let running = null; // the AbortController of the answer that is being written

function headers() {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

// The answer to a request; an error in the gateway's own words if it is refused.
async function fetched(path, options = {}) {
  const answer = await fetch(path, { headers: headers(), ...options });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) at("entry").hidden = false;
  throw new Error(said.error?.message ?? `the gateway answers with status ${answer.status}`);
}

function problem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; bytes >= 1000 && place < units.length - 1; place++) bytes /= 1000;
  return `${place && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[place]}`;
}

const model = () => models.find((each) => each.id === at("model").value);
const writes = (each) => each.onnxpuma.endpoints.some((path) => path.endsWith("/completions"));
const chats = (each) => each.onnxpuma.endpoints.includes("/v1/chat/completions");

async function load() {
  problem("");
  try {
    models = (await (await fetched("/v1/models")).json()).data;
  } catch (error) {
    problem(error.message);
    return;
  }
  at("entry").hidden = true;
  const before = at("model").value;
  at("model").replaceChildren(
    ...models.map((each) => {
      const option = new Option(each.id, each.id, false, each.id === before);
      option.disabled = each.onnxpuma.task !== null && !writes(each);
      if (option.disabled) option.textContent += ` (${each.onnxpuma.task})`;
      return option;
    }),
  );
  const first = models.find(writes);
  if (first && !writes(model() ?? first)) at("model").value = first.id;
  show();
}

// What is known of the servers of the chosen model.
function show() {
  const chosen = model();
  const place = at("cluster");
  place.replaceChildren();
  if (!chosen) return;
  for (const cluster of chosen.onnxpuma.clusters) {
    const list = document.createElement("ul");
    cluster.servers.forEach((server, number) => {
      const item = document.createElement("li");
      item.textContent = `server ${number}: ${server.name} at ${server.host}`;
      list.append(item);
    });
    place.append(list);
  }
  const digest = chosen.onnxpuma.model_digest;
  if (digest) {
    const line = document.createElement("div");
    const code = document.createElement("code");
    code.textContent = digest;
    line.append("model digest, on which you and the servers agree: ", code);
    place.append(line);
  }
  const usable = writes(chosen);
  at("prompt-label").textContent = chats(chosen) || !usable ? "Message" : "Text to continue";
  at("system").disabled = !chats(chosen);
  at("send").disabled = !usable;
  if (!usable) {
    const task = chosen.onnxpuma.task;
    problem(task ? `${chosen.id} is a model for ${task}: it writes no text` : `the servers of ${chosen.id} have not answered yet`);
  } else {
    problem("");
  }
}

function turn(who, text) {
  const made = at("turn").content.cloneNode(true).firstElementChild;
  made.querySelector("h2").textContent = who;
  made.querySelector(".text").textContent = text;
  talk.append(made);
  made.scrollIntoView({ block: "end" });
  return made;
}

function cost(place, figures, usage) {
  const line = place.querySelector(".figures");
  const tokens = usage.completion_tokens;
  const later = figures.seconds - (figures.first_token_seconds ?? figures.seconds);
  const rate = tokens > 1 && later > 0 ? (tokens - 1) / later : null;
  const parts = [
    `${tokens} tokens`,
    `${figures.seconds.toFixed(2)} s`,
    rate ? `${rate < 10 ? rate.toFixed(2) : Math.round(rate)} tokens a second after the first` : "",
    figures.bytes ? `${size(figures.bytes)} between the servers` : "",
    figures.rounds ? `${figures.rounds.toLocaleString("en")} rounds` : "",
  ];
  line.replaceChildren(
    ...parts.filter(Boolean).map((part) => {
      const span = document.createElement("span");
      span.textContent = part;
      return span;
    }),
  );
  line.hidden = false;
  const shares = figures.shares ?? [];
  place.querySelector(".seen").hidden = !shares.length;
  place.querySelector("tbody").replaceChildren(
    ...shares.map((share) => {
      const row = document.createElement("tr");
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = `${share.server}: ${figures.servers[share.server]?.name ?? ""}`;
      const received = row.appendChild(document.createElement("td"));
      received.className = "size";
      received.textContent = size(share.bytes);
      const noise = row.appendChild(document.createElement("td"));
      noise.className = "bytes";
      noise.textContent = share.first_bytes.replace(/../g, "$& ");
      row.prepend(name);
      return row;
    }),
  );
}

// The objects of a stream of server-sent events.
async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function request(chosen, text) {
  const asked = { model: chosen.id, stream: true, stream_options: { include_usage: true }, show_shares: true };
  if (at("most").value) asked.max_tokens = Number(at("most").value);
  if (at("temperature").value) asked.temperature = Number(at("temperature").value);
  if (at("fixed").checked) asked.fixed_length = true;
  if (!chats(chosen)) return ["/v1/completions", { ...asked, prompt: text }];
  const system = at("system").value.trim();
  const messages = [...(system ? [{ role: "system", content: system }] : []), ...chat];
  return ["/v1/chat/completions", { ...asked, messages }];
}

async function ask(text) {
  const chosen = model();
  problem("");
  turn("You", text).classList.add("own");
  chat.push({ role: "user", content: text });
  const place = turn(chosen.id, "");
  place.classList.add("writing");
  const shown = place.querySelector(".text");
  running = new AbortController();
  busy(true);
  try {
    const [path, body] = request(chosen, text);
    const answer = await fetched(path, { method: "POST", body: JSON.stringify(body), signal: running.signal });
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      const piece = choice?.delta?.content ?? choice?.text ?? "";
      if (piece) shown.append(piece);
      if (!choice && event.usage) cost(place, event.onnxpuma, event.usage);
      place.scrollIntoView({ block: "end" });
    }
    chat.push({ role: "assistant", content: shown.textContent });
  } catch (error) {
    if (error.name === "AbortError") {
      chat.push({ role: "assistant", content: shown.textContent });
    } else {
      chat.pop();
      if (!shown.textContent) place.remove();
      problem(error.message);
    }
  } finally {
    place.classList.remove("writing");
    running = null;
    busy(false);
  }
}

function busy(is) {
  talk.setAttribute("aria-busy", String(is));
  at("stop").hidden = !is;
  at("send").hidden = is;
  at("model").disabled = is;
  if (!is) at("prompt").focus();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("prompt").value;
  if (running || !text.trim() || !model() || !writes(model())) return;
  at("prompt").value = "";
  ask(text);
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("stop").addEventListener("click", () => running?.abort());
at("fresh").addEventListener("click", () => {
  running?.abort();
  chat = [];
  talk.replaceChildren();
  at("prompt").focus();
});
at("model").addEventListener("change", () => {
  chat = [];
  talk.replaceChildren();
  show();
});
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value.trim());
  load();
});
load();
