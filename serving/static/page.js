// The page: what is chosen, and when the text is sent to which model.

import { generate, listModels, ServerError, useKey } from "./api.js";
import { Panel } from "./panel.js";

const PAUSE = 150; // milliseconds without a key stroke before the text is sent
const LONGEST_PAUSE = 1000;
const POLL = 2000; // milliseconds until a server that is not ready is asked again

const element = (id) => document.getElementById(id);
const [text, source, target, model, second] = ["text", "source", "target", "model", "second"].map(element);
const panels = [new Panel(element("panels")), new Panel(element("panels"))];
const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

let models = [];
let asking = new AbortController(); // aborts the requests for the text as it was
let timer = 0;
let pause = PAUSE;

/** Waits for the models, asking for a key if the server wants one, and then shows what can be chosen. */
async function start() {
  element("key-form").hidden = true;
  try {
    models = await listModels();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (error.needsKey) askForKey(error);
    else {
      element("server").textContent = error.message;
      setTimeout(start, POLL);
    }
    return;
  }
  element("server").textContent = "";
  element("choices").hidden = false;
  element("tasks").hidden = new Set(models.map(({ task }) => task)).size < 2;
  (tasks().find((input) => input.checked) ?? tasks().find((input) => input.value === models[0].task)).checked = true;
  choose();
}

function askForKey(error) {
  element("server").textContent = "";
  element("key-note").textContent = error.message;
  element("key-form").hidden = false;
  element("key").focus();
}

/** Fills each list with what the choices before it leave, and sends the text to the models that are chosen. */
function choose() {
  const task = tasks().find((input) => input.checked).value;
  const translates = task === "translation";
  let fitting = models.filter((one) => one.task === task);
  for (const [select, field] of translates ? [[source, "source"], [target, "target"]] : []) {
    const codes = fitting.map((one) => one[field]).filter((code) => code !== null);
    fill(select, new Map((codes.length ? codes : [""]).map((code) => [code, language(code)])));
    fitting = fitting.filter((one) => one[field] === null || one[field] === select.value); // null: it takes any
  }
  fill(model, new Map(fitting.map((one) => [one.id, `${one.id} (${one.precision})`])));
  const rest = fitting.filter((one) => one.id !== model.value);
  const compared = new Map(rest.map((one) => [one.id, `${one.id} (${one.precision})`]));
  fill(second, rest.length ? new Map([...compared, ["", "nothing"]]) : compared);

  for (const select of [source, target]) select.parentElement.hidden = !translates;
  second.parentElement.hidden = !rest.length;
  element("swap").hidden = !translates || !models.some((one) => one.source === target.value && one.target === source.value);
  element("text-label").textContent = translates ? "Text to translate" : "Text to summarize";
  text.lang = translates ? source.value : "";
  [model, second].forEach((select, index) => panels[index].assign(models.find((one) => one.id === select.value)));
  element("panels").classList.toggle("compare", second.value !== "");
  answer();
}

/** Replaces a list's entries; what was chosen stays chosen, else the first is. */
function fill(select, entries) {
  const chosen = select.options.length ? select.value : null;
  select.replaceChildren(...[...entries].map(([value, label]) => new Option(label, value)));
  if (entries.has(chosen)) select.value = chosen;
}

function language(code) {
  if (!code) return "any language";
  try {
    return names.of(code.replaceAll("_", "-"));
  } catch {
    return code; // not a language tag
  }
}

/** Sends the text to the models, one after the other so that neither's latency has the other's time in it. */
async function answer() {
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const input = text.value;
  const shown = panels.filter((panel) => panel.model);
  if (!input.trim()) return shown.forEach((panel) => panel.clear());
  shown.forEach((panel) => panel.wait());
  let total = 0;
  let retryAfter = 0;
  for (const panel of shown) {
    try {
      const { output, milliseconds } = await generate(panel.model, input, signal);
      if (signal.aborted) return;
      panel.show(output, milliseconds);
      total += milliseconds;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServerError)) throw error;
      panel.fail(error);
      if (error.needsKey) return askForKey(error);
      retryAfter = Math.max(retryAfter, error.retryAfter);
    }
  }
  pause = Math.min(Math.max(PAUSE, total), LONGEST_PAUSE);
  if (retryAfter) timer = setTimeout(answer, 1000 * retryAfter);
}

function typed(event) {
  if (event.isComposing) return; // the input method has not finished the word
  clearTimeout(timer);
  if (text.value.trim()) timer = setTimeout(answer, pause);
  else answer();
}

function tasks() {
  return [...document.querySelectorAll("[name=task]")];
}

text.addEventListener("input", typed);
text.addEventListener("compositionend", typed);
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) answer();
});
element("choices").addEventListener("change", choose);
element("clear").addEventListener("click", () => {
  text.value = "";
  text.focus();
  answer();
});
element("swap").addEventListener("click", () => {
  const translated = panels[0].output.textContent;
  const [from, to] = [source.value, target.value];
  source.value = to;
  target.replaceChildren(new Option(from, from)); // the list has the targets of the former source
  if (translated) text.value = translated;
  choose();
});
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(element("key").value);
  start();
});
element("choices").addEventListener("submit", (event) => event.preventDefault());

start();
