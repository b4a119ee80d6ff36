// Playground: sends one request at a time and shows the router's decision and the answer.
"use strict";

const HISTORY = 20;
const KEY = "pointsman-key";
const SCALE = 1000; // coordinates of an answer, regardless of the picture's size

const $ = (id) => document.getElementById(id);
const state = {
  labels: [],
  digests: {},
  pictures: [], // data URLs, in order
  sample: null, // the sample that the form holds
  adding: false, // whether the next chosen files join the others
  shown: null, // the record on display
  running: null, // {record, controller} of the request in flight
  history: [], // newest first
};

// --- small helpers --------------------------------------------------------------------------

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const percent = (share) => (share > 0 && share < 0.001 ? "<0.1 %" : `${(share * 100).toFixed(1)} %`);
const milliseconds = (time) =>
  time >= 9999.5 ? `${(time / 1000).toFixed(1)} s` : `${time.toFixed(time < 9.95 ? 1 : 0)} ms`;
const number = (value) => (typeof value === "number" ? value.toFixed(2) : "unknown");
const nameOf = (adapter) => adapter ?? "base";
const spoken = (adapter) => (nameOf(adapter) === "base" ? "the base" : nameOf(adapter));
const short = (digest) => String(digest).replace(/^sha256:/, "").slice(0, 12);

function showError(message) {
  $("error").textContent = message ?? "";
  $("error").hidden = !message;
}

// --- server ---------------------------------------------------------------------------------

class ServerError extends Error {
  constructor(message, status, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off
  }
}

async function call(path, options = {}) {
  const key = $("key").value.trim() || storedKey();
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Is it still running?", 0, null);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  if (response.status === 401) askForKey(key);
  throw new ServerError(messageOf(body) ?? `The server answered ${response.status}.`, response.status, body);
}

function messageOf(body) {
  const error = body?.error ?? body?.detail ?? body?.message;
  const message = typeof error === "string" ? error : error?.message;
  return typeof message === "string" && message ? message : null;
}

function askForKey(refused) {
  $("key-help").textContent = refused
    ? "The server did not accept this key. Check it and try again."
    : "This server asks for a key. It stays in this browser tab only.";
  $("key-panel").hidden = false;
  $("key").focus();
  $("key").select();
}

/** Yields the objects of a stream of server-sent events, as {type, data}. */
async function* events(response, signal) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      buffer += done ? decoder.decode() + "\n\n" : decoder.decode(value, { stream: true });
      const blocks = buffer.split(/\r?\n\r?\n/);
      buffer = blocks.pop();
      for (const block of blocks) {
        let type = "message";
        const data = [];
        for (const line of block.split(/\r?\n/)) {
          if (line.startsWith("event:")) type = line.slice(6).trim();
          if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        }
        if (data.length) yield { type, data: data.join("\n") };
      }
      if (done) return;
    }
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") throw error;
    throw new ServerError("The connection broke before the answer was complete.", 0, null);
  } finally {
    reader.cancel().catch(() => {});
  }
}

// --- start ----------------------------------------------------------------------------------

async function start() {
  try {
    const { data } = await (await call("/v1/models")).json();
    state.labels = data.filter((model) => model.parent && model.id !== "auto").map((model) => model.id);
    state.digests = Object.fromEntries(data.map((model) => [model.id, model.digest]));
    const base = data.find((model) => model.id === "base");
    const root = base?.root ?? data.find((model) => model.id === "auto")?.root;
    const count = state.labels.length === 1 ? "1 adapter" : `${state.labels.length} adapters`;
    $("server").textContent = root && root !== "base" && root !== "auto" ? `${root}, ${count}` : count;
    offerModels(data.map((model) => model.id));
    if (!$("key-panel").hidden) $("instruction").focus({ preventScroll: true });
    $("key-panel").hidden = true;
    showError(null);
  } catch (error) {
    $("server").textContent = error.status === 401 ? "API key needed" : "Not connected";
    showError(error.message);
    return;
  }
  await loadSamples().catch(() => {}); // the page works without them
}

function offerModels(known) {
  const chosen = $("model").value;
  const options = [["auto", "auto: the router chooses"], ...state.labels.map((label) => [label, label])];
  if (known.includes("base")) options.push(["base", "base: no adapter"]);
  $("model").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === chosen)) $("model").value = chosen;
}

async function loadSamples() {
  const { samples } = await (await call("/samples")).json();
  const loaded = await Promise.all(
    samples.map(async (sample) => {
      const url = await dataUrl(await (await call(sample.image)).blob());
      return { ...sample, url };
    }),
  );
  $("samples").replaceChildren(
    ...loaded.map((sample) => {
      const picture = make("img", { src: sample.url, alt: "" });
      const button = make("button", { type: "button", title: sample.text }, picture, make("span", { textContent: sample.text }));
      button.dataset.sample = sample.name;
      button.setAttribute("aria-label", `Sample ${sample.name}: ${sample.text}`);
      button.addEventListener("click", () => {
        setForm([sample.url], sample.text, sample);
        clearResult();
      });
      return make("li", {}, button);
    }),
  );
  $("samples-panel").hidden = !loaded.length;
  renderPictures();
}

// --- request: pictures and instruction ------------------------------------------------------

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

function setForm(pictures, text, sample = null) {
  state.pictures = [...pictures];
  state.sample = sample;
  if (text !== null) $("instruction").value = text;
  renderPictures();
}

async function takeFiles(files, adding = false) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/"));
  if (!pictures.length) {
    if (files.length) showError("That is not a picture. Use PNG, JPEG or WebP.");
    return;
  }
  try {
    const urls = await Promise.all(pictures.map(dataUrl));
    showError(null);
    setForm(adding ? [...state.pictures, ...urls] : urls, null);
    clearResult();
    if (!$("instruction").value) $("instruction").focus({ preventScroll: true });
  } catch (error) {
    showError(error.message);
  }
}

function renderPictures() {
  const { pictures } = state;
  const filled = pictures.length > 0;
  $("empty").hidden = filled;
  $("stage").hidden = !filled;
  $("drop").classList.toggle("filled", filled);
  $("add").hidden = $("clear").hidden = !filled;
  $("choose").textContent = filled ? "Replace" : "Choose file";
  if (filled && $("picture").src !== pictures[0]) $("picture").src = pictures[0];
  if (!filled) $("picture").removeAttribute("src");
  $("thumbs").hidden = pictures.length < 2;
  $("thumbs").replaceChildren(
    ...pictures.map((url, place) => {
      const remove = make("button", { type: "button", textContent: "×" });
      remove.setAttribute("aria-label", `Remove picture ${place + 1}`);
      remove.addEventListener("click", () => {
        setForm(pictures.filter((_, other) => other !== place), null);
        clearResult();
        ($("thumbs").querySelector("button") ?? $("choose")).focus();
      });
      return make("li", {}, make("img", { src: url, alt: `Picture ${place + 1}` }), remove);
    }),
  );
  for (const button of $("samples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(state.sample?.name === button.dataset.sample));
  }
}

// --- sending --------------------------------------------------------------------------------

function send() {
  const text = $("instruction").value.trim();
  if (!text) {
    showError("Type an instruction first.");
    $("instruction").focus();
    return;
  }
  const sample = state.sample?.text === text ? state.sample : null;
  ask({ model: $("model").value, text, pictures: state.pictures, sample });
}

async function ask({ model, text, pictures, sample }) {
  if (state.running) return;
  const record = {
    model, text, pictures, sample,
    answer: "", decision: null, digests: state.digests, error: null, outcome: "running",
    decided: null, firstToken: null, total: null, usage: null,
  };
  const controller = new AbortController();
  state.running = { record, controller };
  state.history = [record, ...state.history].slice(0, HISTORY);
  showError(null);
  show(record);
  const began = performance.now();
  const since = () => performance.now() - began;
  try {
    await follow(record, controller.signal, since);
    record.outcome = "done";
  } catch (error) {
    if (controller.signal.aborted) {
      record.outcome = "stopped";
    } else {
      record.outcome = "failed";
      record.error = error.message;
      const decision = error.body?.pointsman;
      if (decision) [record.decision, record.decided] = [decision, since()];
      if (record.decision?.refused || (error.status === 422 && decision)) record.outcome = "refused";
    }
  }
  record.total = since();
  state.running = null;
  render(record);
}

async function follow(record, signal, since) {
  const images = record.pictures.map((url) => ({ type: "image_url", image_url: { url } }));
  const response = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    signal,
    body: JSON.stringify({
      model: record.model,
      messages: [{ role: "user", content: [...images, { type: "text", text: record.text }] }],
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0,
    }),
  });
  let finished = false;
  for await (const { type, data } of events(response, signal)) {
    if (data === "[DONE]") return;
    let chunk;
    try {
      chunk = JSON.parse(data);
    } catch {
      throw new ServerError("The server sent something that is not JSON.", 0, null);
    }
    if (type === "error" || chunk.error) {
      throw new ServerError(messageOf(chunk) ?? "The server stopped with an error.", 0, chunk);
    }
    if (chunk.pointsman && !record.decision) {
      record.decision = chunk.pointsman;
      record.decided = since();
    }
    if (chunk.usage) record.usage = chunk.usage;
    const [choice] = chunk.choices ?? [];
    if (choice?.delta?.content) {
      record.firstToken ??= since();
      record.answer += choice.delta.content;
    }
    if (choice?.finish_reason) {
      finished = true;
      record.finish = choice.finish_reason;
    }
    render(record);
  }
  if (!finished) throw new ServerError("The connection ended before the answer was complete.", 0, null);
}

// --- result ---------------------------------------------------------------------------------

function show(record) {
  state.shown = record;
  setForm(record.pictures, record.text, record.sample);
  render(record);
}

function clearResult() {
  state.shown = null;
  render(null);
}

function render(record) {
  renderRunning();
  renderHistory();
  if (record !== state.shown) {
    renderInstead(state.shown); // the request in flight goes on in the history
    return;
  }
  renderDecision(record);
  renderTimes(record);
  renderAnswer(record);
  renderInstead(record);
}

function renderRunning() {
  const busy = state.running !== null;
  const focused = document.activeElement;
  // Whoever uses the keyboard keeps their place: the two buttons hand the focus to each other.
  if (busy) $("stop").hidden = false;
  else $("send").disabled = false;
  if (busy && focused === $("send")) $("stop").focus({ preventScroll: true });
  if (!busy && focused === $("stop")) $("send").focus({ preventScroll: true });
  $("stop").hidden = !busy;
  $("send").disabled = busy;
}

/** What the router did: {badge, kind, chosen, verdict}. */
function reading(record) {
  const decision = record?.decision;
  if (!record) return { verdict: "Send a request to see which adapter the router picks." };
  const named = record.model !== "auto";
  if (named) {
    const by = spoken(decision ? decision.adapter : record.model);
    return { badge: "overruled", chosen: nameOf(decision ? decision.adapter : record.model), verdict: `You chose ${by}. The router was not asked.` };
  }
  if (!decision) {
    return { verdict: record.outcome === "running" ? "The router is reading the request…" : "The router did not decide." };
  }
  const score = `The score is ${number(decision.score)}`;
  const threshold = typeof decision.threshold === "number" ? `the threshold is ${number(decision.threshold)}` : null;
  if (decision.abstained) {
    const why = threshold
      ? `The score ${number(decision.score)} is below the threshold ${number(decision.threshold)}: the request looks like none of the adapters' own.`
      : `${score}. That is too low: the request looks like none of the adapters' own.`;
    if (decision.refused) return { badge: "abstained", kind: "bad", chosen: "no adapter", verdict: `${why} Nobody answers.` };
    const who = decision.adapter ? `The fallback ${decision.adapter} answers.` : "The base answers, without an adapter.";
    return { badge: "abstained", kind: "warn", chosen: nameOf(decision.adapter), verdict: `${why} ${who}` };
  }
  const sentences = [decision.held ? "The session kept this adapter. Alone, the router would have decided otherwise." : "The router chose this adapter."];
  if (typeof decision.score === "number") sentences.push(threshold ? `${score}, ${threshold}.` : `${score}.`);
  const others = (decision.candidates ?? []).filter((name) => name !== decision.adapter);
  if (others.length) sentences.push(`Also possible: ${others.join(", ")}.`);
  const label = record.sample?.adapter;
  if (label) sentences.push(label === decision.adapter ? "That is right for this sample." : `The sample is meant for ${label}.`);
  return { badge: decision.held ? "kept" : "routed", kind: "good", chosen: nameOf(decision.adapter), verdict: sentences.join(" ") };
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // a live region repeats what is set
}

function renderDecision(record) {
  const { badge, kind, chosen, verdict } = reading(record);
  setText($("badge"), badge ?? "");
  $("badge").className = `badge ${kind ?? ""}`;
  $("badge").hidden = !badge;
  setText($("chosen"), chosen ?? "");
  $("chosen").hidden = !chosen;
  setText($("verdict"), verdict);

  const decision = record?.decision;
  const probabilities = Object.entries(decision?.probabilities ?? {});
  if ($("bars").decision !== decision) {
    $("bars").decision = decision;
    if (probabilities.length > 8) probabilities.sort((one, other) => other[1] - one[1]);
    const rows = probabilities.map(([name, share]) => bar(name, share, !decision.abstained && name === decision.adapter));
    $("bars").replaceChildren(...rows);
    requestAnimationFrame(() => {
      for (const row of rows) {
        const fill = row.querySelector(".fill");
        fill.style.width = `${fill.share * 100}%`;
      }
    });
  }
  $("bars").hidden = !probabilities.length;
  if (probabilities.length > 8) $("bars").tabIndex = 0; // it scrolls
  else $("bars").removeAttribute("tabindex");

  const digests = [];
  if (decision?.router_digest) digests.push(["Router", decision.router_digest]);
  const adapter = decision?.adapter;
  const digest = adapter && (decision.adapter_digests?.[adapter] ?? record.digests[adapter]);
  if (digest && !decision.refused) digests.push([`Adapter ${adapter}`, digest]);
  $("digests").replaceChildren(
    ...digests.map(([term, full]) => {
      const value = make("dd", { textContent: short(full), title: full });
      return make("div", {}, make("dt", { textContent: term }), value);
    }),
  );
  $("digests").hidden = !digests.length;
}

function bar(name, share, on) {
  const fill = make("span", { className: "fill", share: Math.min(1, Math.max(0, share)) });
  const track = make("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  const row = make(
    "li",
    { className: on ? "on" : "" },
    make("span", { className: "name", textContent: name, title: name }),
    track,
    make("span", { className: "value", textContent: percent(share) }),
  );
  row.dataset.adapter = name;
  return row;
}

function renderTimes(record) {
  const facts = [];
  if (record?.decision && record.model === "auto") facts.push(["Decision", record.decided, "Until the decision arrived here"]);
  if (record?.firstToken != null) facts.push(["First token", record.firstToken, "Until the first text arrived here"]);
  if (record?.total != null && record.answer) facts.push(["Whole answer", record.total, "Until the answer was complete"]);
  const rows = facts.map(([term, time, title]) => [term, milliseconds(time), title]);
  const overhead = record?.decision?.overhead_ms;
  if (typeof overhead === "number") rows.push(["Routing cost", milliseconds(overhead), `Added by the router, as the server measured it${record.decision.plan ? ` (plan: ${record.decision.plan})` : ""}`]);
  if (record?.usage?.completion_tokens != null) {
    rows.push(["Tokens", String(record.usage.completion_tokens), `${record.usage.prompt_tokens} tokens of prompt`]);
  }
  $("times").replaceChildren(
    ...rows.map(([term, value, title]) => make("div", { title }, make("dt", { textContent: term }), make("dd", { textContent: value }))),
  );
  $("times").hidden = !rows.length;
}

function renderAnswer(record) {
  const running = record?.outcome === "running";
  const words = { running: record?.answer ? "Answering" : "Waiting", stopped: "Stopped", failed: "Failed", refused: "No answer" };
  setText($("state"), record ? (words[record.outcome] ?? (record.finish === "length" ? "Cut off at the token limit" : "Complete")) : "");
  $("state").classList.toggle("busy", running);
  $("answer").setAttribute("aria-busy", String(running));
  $("answer").classList.toggle("none", Boolean(record) && !running);
  setText($("answer"), record?.answer.trim() ?? "");
  if (record) showError(record.error);

  const actions = record ? actionsOf(record.answer) : [];
  const signature = JSON.stringify(actions);
  if ($("actions").signature === signature && $("actions").record === record) return;
  Object.assign($("actions"), { signature, record });
  $("actions").replaceChildren(...actions.map((action) => make("li", {}, chip(action))));
  $("actions").hidden = !actions.length;
  renderMarks(actions);
}

/** The arguments of every complete tool call in a text. */
function actionsOf(text) {
  const actions = [];
  for (const [, call] of text.matchAll(/<tool_call>\s*([\s\S]*?)\s*<\/tool_call>/g)) {
    try {
      const found = JSON.parse(call)?.arguments;
      if (found && typeof found === "object" && !Array.isArray(found)) actions.push(found);
    } catch {
      // not JSON: the text is shown as it is
    }
  }
  return actions;
}

function pointOf(action) {
  const point = action.coordinate;
  const fits = Array.isArray(point) && point.length === 2 && point.every((side) => typeof side === "number" && side >= 0 && side <= SCALE);
  return fits ? point : null;
}

function describe(action) {
  const name = typeof action.action === "string" ? action.action : "action";
  const point = pointOf(action);
  const parts = [name.replaceAll("_", " ")];
  if (point) parts.push(point.join(", "));
  if (typeof action.text === "string") parts.push(`“${action.text}”`);
  return parts.join(" ");
}

function chip(action) {
  if (!pointOf(action) || !state.pictures.length) return make("span", { textContent: describe(action) });
  const button = make("button", { type: "button", textContent: describe(action), title: "Show it on the screenshot" });
  button.addEventListener("click", () => {
    const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    $("stage").scrollIntoView({ block: "center", behavior: reduced ? "auto" : "smooth" });
    for (const mark of $("marks").children) {
      mark.classList.remove("ping");
      void mark.offsetWidth; // restarts the animation
      mark.classList.add("ping");
    }
  });
  return button;
}

function renderMarks(actions) {
  const marks = [];
  for (const action of actions) {
    const point = pointOf(action);
    if (point) {
      const [x, y] = point;
      const label = make("b", { textContent: describe(action) });
      const mark = make("div", { className: "mark ping" }, make("i"), label);
      mark.style.left = `${(x / SCALE) * 100}%`;
      mark.style.top = `${(y / SCALE) * 100}%`;
      mark.classList.toggle("low", y > 850);
      mark.classList.toggle("left", x < 180);
      mark.classList.toggle("right", x > 820);
      marks.push(mark);
    } else if (typeof action.text === "string" && marks.length) {
      const label = marks.at(-1).querySelector("b"); // what is typed goes where was clicked
      label.textContent += `\n${describe(action)}`;
    }
  }
  $("marks").replaceChildren(...marks);
  const clicks = actions.filter(pointOf).map(describe).join("; ");
  $("picture").alt = clicks ? `Screenshot of the request, marked: ${clicks}` : "Screenshot of the request";
}

function renderInstead(record) {
  const over = record && record.outcome !== "running" && !state.running;
  const refused = record?.decision?.refused;
  const by = record?.decision ? nameOf(record.decision.adapter) : record?.model;
  const names = [...state.labels, "base"].filter((name) => refused || name !== by);
  if (record && record.model !== "auto") names.unshift("auto");
  $("instead-panel").hidden = !over || !names.length;
  const signature = JSON.stringify([names, over]);
  if (!over || ($("instead").record === record && $("instead").signature === signature)) return;
  Object.assign($("instead"), { record, signature });
  $("instead").replaceChildren(
    ...names.map((name) => {
      const text = name === "auto" ? "Let the router choose" : `Answer with ${spoken(name)} instead`;
      const button = make("button", { type: "button", textContent: text });
      button.dataset.model = name;
      button.addEventListener("click", () => {
        ask({ ...record, model: name });
        $("stop").focus({ preventScroll: true }); // this button is about to go
      });
      return button;
    }),
  );
}

// --- history --------------------------------------------------------------------------------

function summary(record) {
  const by = record.decision ? nameOf(record.decision.adapter) : record.model;
  if (record.outcome === "running") return "answering…";
  if (record.outcome === "refused") return "abstained, no answer";
  if (record.outcome === "failed") return `${by}, failed`;
  const how = record.model !== "auto" ? "overruled" : record.decision?.abstained ? "abstained" : "routed";
  const share = how === "routed" ? record.decision?.probabilities?.[by] : undefined;
  return [by, how, share === undefined ? null : percent(share), record.outcome === "stopped" ? "stopped" : null].filter(Boolean).join(", ");
}

function renderHistory() {
  $("history-panel").hidden = !state.history.length;
  const signature = state.history.map(summary).join("\n") + state.history.indexOf(state.shown) + state.history.length;
  if ($("history").signature === signature && $("history").newest === state.history[0]) return;
  const focused = [...$("history").querySelectorAll("button")].find((button) => button === document.activeElement)?.record;
  Object.assign($("history"), { signature, newest: state.history[0] });
  $("history").replaceChildren(
    ...state.history.map((record) => {
      const picture = record.pictures.length
        ? make("img", { src: record.pictures[0], alt: "" })
        : make("span", { className: "blank" });
      const text = make("span", { className: "text", textContent: record.text });
      const by = make("span", { className: "by", textContent: summary(record) });
      const button = make("button", { type: "button", record, title: record.text }, picture, make("span", {}, text, by));
      if (record === state.shown) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => show(record));
      return make("li", {}, button);
    }),
  );
  if (focused) [...$("history").querySelectorAll("button")].find((button) => button.record === focused)?.focus();
}

// --- events ---------------------------------------------------------------------------------

$("request").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) {
    event.preventDefault();
    if (event.target === $("key")) $("key-panel").requestSubmit();
    else send();
  }
  if (event.key === "Escape" && state.running) state.running.controller.abort();
});
$("stop").addEventListener("click", () => state.running?.controller.abort());
$("instruction").addEventListener("input", () => {
  if (!state.running) showError(null);
});

$("key-panel").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    sessionStorage.setItem(KEY, $("key").value.trim());
  } catch {
    // storage is switched off: the field keeps the key
  }
  start();
});

for (const [id, adding] of [["choose", false], ["add", true]]) {
  $(id).addEventListener("click", () => {
    state.adding = adding;
    $("file").click();
  });
}
$("file").addEventListener("change", async () => {
  await takeFiles($("file").files, state.adding);
  $("file").value = ""; // the same file can be chosen again
  state.adding = false;
});
$("clear").addEventListener("click", () => {
  setForm([], null);
  clearResult();
  $("choose").focus();
});
document.addEventListener("paste", (event) => {
  const { files } = event.clipboardData;
  const typing = event.target.matches?.("input, textarea") && event.clipboardData.getData("text/plain");
  if (!files.length || typing) return; // text goes where the cursor is
  event.preventDefault();
  takeFiles(files);
});

let depth = 0; // dragenter and dragleave come for every element on the way
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => {
  if (carriesFiles(event)) $("drop").classList.toggle("over", ++depth > 0);
});
document.addEventListener("dragleave", (event) => {
  if (carriesFiles(event)) $("drop").classList.toggle("over", --depth > 0);
});
document.addEventListener("dragover", (event) => {
  if (carriesFiles(event)) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("drop").classList.remove("over");
  takeFiles(event.dataTransfer.files);
});
$("forget").addEventListener("click", () => {
  state.history = state.running ? [state.running.record] : [];
  renderHistory();
  $("instruction").focus();
});

start();
