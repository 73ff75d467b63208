// The page of `whinchat serve`. It sends the same requests as any other client.

const $ = (id) => document.getElementById(id);
const TYPING_PAUSE = 120; // milliseconds without a key before the text is classified
const SPEAKING_PAUSE = 700; // milliseconds before a screen reader reads the answer, so that no letter interrupts it

let server; // the response of /v1/model
let current; // the chosen classifier
let busy = false; // a request is under way
let outdated = false; // the text or the classifier has changed since that request
let timer, speaking;

function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

// A bar chart as a table, which shows the number beside each bar.
function bars(caption, entries, whole) {
  const rows = entries.map(([label, value, shown]) => {
    const bar = element("i");
    bar.style.width = `${whole ? (100 * value) / whole : 0}%`;
    const track = element("div", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    const head = element("th", { scope: "row", title: label }, label);
    return element("tr", {}, head, element("td", {}, track), element("td", {}, shown));
  });
  return element("table", { className: "bars" }, element("caption", {}, caption), element("tbody", {}, ...rows));
}

function answerBox(title, result, kind) {
  const verdict = element("p", { className: "verdict" }, result.label);
  if (result.unsure) verdict.append(element("span", { className: "unsure" }, "unsure"));
  const shares = Object.entries(result.probabilities).map(([label, share]) => [label, share, percent(share)]);
  return element(
    "div", { className: `answer ${kind}` }, element("h3", {}, title), verdict, bars("Probability of each label", shares, 1),
  );
}

async function errorMessage(response) {
  const { detail } = await response.json().catch(() => ({}));
  return detail || `the server answered ${response.status}`;
}

function showError(id, message) {
  $(id).textContent = message;
  $(id).hidden = !message;
}

// Classify the text. One request at a time; a text that changes meanwhile is classified next.
async function classify() {
  clearTimeout(speaking);
  showPressedExample();
  outdated = busy;
  if (busy) return;
  busy = true;
  $("answers").classList.add("stale");
  try {
    do {
      outdated = false;
      await showAnswer($("text").value, current);
    } while (outdated);
    showError("fault", "");
  } catch (error) {
    $("answers").replaceChildren();
    showError("fault", error.message);
  } finally {
    busy = false;
    $("answers").classList.remove("stale");
  }
}

async function showAnswer(text, model) {
  if (!text.trim()) {
    $("answers").replaceChildren();
    $("said").textContent = "";
    return;
  }
  const response = await fetch("/v1/classify", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ texts: text, model: model.name, before: model.has_before }),
  });
  if (!response.ok) throw new Error(await errorMessage(response));
  const [result] = (await response.json()).results;
  const shown = [answerBox(result.before ? "After fine-tuning" : "Answer", result, "after")];
  if (result.before) shown.push(answerBox("Before fine-tuning", result.before, "before"));
  $("answers").replaceChildren(...shown);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const unsure = result.unsure ? ", unsure" : "";
    const before = result.before ? ` Before fine-tuning: ${result.before.label}.` : "";
    $("said").textContent = `${result.label}${unsure}, ${percent(result.probabilities[result.label])}.${before}`;
  }, SPEAKING_PAUSE);
}

// Yield the lines of a response as they arrive.
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

async function labelTable(event) {
  event.preventDefault();
  const [file] = $("file").files;
  if (!file) return;
  $("start").disabled = true;
  $("table-found").hidden = true;
  showError("table-fault", "");
  try {
    const query = new URLSearchParams({ name: file.name, model: current.name });
    if ($("column").value.trim()) query.set("column", $("column").value.trim());
    const response = await fetch(`/v1/table?${query}`, { method: "POST", body: file });
    if (!response.ok) throw new Error(await errorMessage(response));
    $("table-progress").hidden = false;
    const pieces = [];
    let last;
    for await (const line of lines(response)) {
      last = JSON.parse(line);
      pieces.push(last.table);
      $("bar").max = last.total || 1;
      $("bar").value = last.done;
      $("bar-label").textContent = `Labelling: ${last.done} of ${last.total} rows`;
    }
    if (last?.error) throw new Error(`${last.error}; ${last.done} of ${last.total} rows were labelled`);
    if (!last || last.done < last.total) throw new Error("the response ended before the whole table was labelled; try again");
    showTable(file, pieces, last);
  } catch (error) {
    showError("table-fault", error.message);
  } finally {
    $("start").disabled = false;
    $("table-progress").hidden = true;
  }
}

function showTable(file, pieces, last) {
  const counts = Object.entries(last.labels).map(([label, count]) => [
    label, count, last.done ? `${count} (${percent(count / last.done)})` : "0",
  ]);
  const most = Math.max(...counts.map(([, count]) => count), 1);
  $("table-chart").replaceChildren(bars("Rows of each label", counts, most));
  const parts = [`${last.done} ${last.done === 1 ? "row" : "rows"} labelled`];
  if (last.unsure) parts.push(`${last.unsure} of them unsure`);
  if (last.bad) parts.push(`${last.bad} could not be read; the column "error" gives the reason`);
  $("table-said").textContent = `${parts.join(", ")}.`;
  const [, stem, ending] = file.name.match(/^(.*?)(\.[^.]*)?$/);
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(new Blob(pieces, { type: "text/plain;charset=utf-8" }));
  $("download").download = `${stem}-labelled${ending || ""}`;
  $("table-found").hidden = false;
}

function showPressedExample() {
  for (const button of $("examples").children) button.setAttribute("aria-pressed", button.textContent === $("text").value);
}

function tryExample(text) {
  $("text").value = text;
  classify();
}

// Show the examples of a classifier. A text that somebody has typed stays; otherwise the first example is classified.
function showExamples({ examples }, former) {
  const typed = $("text").value.trim() && !former?.examples.includes($("text").value);
  $("examples").replaceChildren(
    ...examples.map((text) => {
      const button = element("button", { type: "button", className: "example", title: text }, text);
      button.addEventListener("click", () => tryExample(text));
      return button;
    }),
  );
  if (!typed && examples.length) {
    $("text").value = examples[0];
    // Selected, so that typing replaces the example.
    $("text").select();
  }
}

function choose(name) {
  const former = current;
  current = server.models.find((model) => model.name === name);
  document.title = `${current.name}: whinchat`;
  $("name").textContent = current.name;
  const tuned = current.base_model ? `${current.method} on ${current.base_model}. ` : "";
  $("about").textContent = `${current.description ? `${current.description}. ` : ""}${tuned}Labels: ${current.labels.join(", ")}.`;
  $("column").placeholder = current.text_column;
  const pages = [["Model card", current.card], ["Report", current.report]].filter(([, address]) => address);
  $("run-links").replaceChildren(
    ...pages.flatMap(([title, href], at) => [at ? " · " : "", element("a", { href }, title)]),
  );
  $("figures").replaceChildren(
    ...current.figures.map(({ url, alt }) => element("figure", {}, element("img", { src: url, alt, loading: "lazy" }))),
  );
  $("run").hidden = !pages.length && !current.figures.length;
  const body = JSON.stringify({ texts: ["what a lovely day", "meh"], model: current.name });
  $("curl").textContent = `curl -s ${location.origin}/v1/classify --json '${body}'`;
  showExamples(current, former);
  classify();
}

function listen() {
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(classify, TYPING_PAUSE);
  });
  $("model").addEventListener("change", () => choose($("model").value));
  $("table-form").addEventListener("submit", labelTable);
  const drop = $("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        $("file").files = event.dataTransfer.files;
        $("table-form").requestSubmit();
      }
    });
  }
}

async function start() {
  const response = await fetch("/v1/model");
  if (!response.ok) throw new Error(await errorMessage(response));
  server = await response.json();
  $("model").append(...server.models.map(({ name }) => element("option", { value: name }, name)));
  $("choice").hidden = server.models.length < 2;
  $("text").maxLength = server.limits.max_chars;
  listen();
  choose(server.default);
}

start().catch((error) => showError("fault", error.message));
