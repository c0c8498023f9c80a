// The panel of a model: its output for the text, how long that took, and what is to be said about it.

export class Panel {
  /** Adds a panel to the page; it is hidden until it has a model. */
  constructor(parent) {
    const copy = document.getElementById("answer").content.cloneNode(true);
    this.element = copy.querySelector("section");
    for (const name of ["h2", "latency", "copy", "output", "note"]) {
      this[name] = copy.querySelector(name === "h2" ? name : `.${name}`);
    }
    this.copy.addEventListener("click", () => this.toClipboard());
    parent.append(copy);
    this.assign(null);
  }

  /** Shows the panel for a model, or hides it. */
  assign(model) {
    this.element.hidden = !model;
    if (model?.id !== this.model?.id) this.clear();
    this.model = model;
    if (!model) return;
    this.h2.textContent = model.id;
    this.element.setAttribute("aria-label", `Answer of ${model.id}`);
    this.output.lang = model.target ?? "";
  }

  /** Says that a newer output is on its way. */
  wait() {
    this.output.setAttribute("aria-busy", "true");
  }

  show(output, milliseconds) {
    this.fill(output.text, notes(output).join(" "));
    this.latency.textContent = duration(milliseconds);
  }

  fail(error) {
    this.fill("", error.message);
    this.note.classList.add("error");
  }

  clear() {
    this.fill("", "");
  }

  fill(text, note) {
    this.output.textContent = text;
    this.output.removeAttribute("aria-busy");
    this.note.textContent = note;
    this.note.classList.remove("error");
    this.latency.textContent = "";
    this.copy.hidden = !text || !navigator.clipboard; // browsers offer it to secure origins only
  }

  async toClipboard() {
    await navigator.clipboard.writeText(this.output.textContent);
    this.copy.textContent = "Copied";
    setTimeout(() => (this.copy.textContent = "Copy"), 1500);
  }
}

function notes(output) {
  const ends = {
    length: "The output reached the model's length limit and may be incomplete.",
    repetition: "The model began to repeat itself; the repetition was cut off.",
  };
  const cut = "The text is longer than the model reads; its end was cut off.";
  return [...(output.truncated ? [cut] : []), ...(ends[output.finish_reason] ? [ends[output.finish_reason]] : [])];
}

function duration(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}
