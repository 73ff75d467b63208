// The page of `whinchat serve`. It sends the same requests as any other client.

const $ = (id) => document.getElementById(id);
const TYPING_PAUSE = 120; // milliseconds without a key before the text is classified
const SPEAKING_PAUSE = 700; // milliseconds before a screen reader reads the answer, so that no letter interrupts it
const WORKING_PAUSE = 250; // milliseconds before the page says that it is working, so that fast answers do not flicker
const FEW = 5; // rows of a bar chart that are shown in full
const SHOWN = 3; // rows that are shown of a longer one, the highest
const HEAD_BYTES = 1 << 20; // of a table, from which the server reads its columns

let server; // the response of /v1/model
let current; // the chosen classifier
let busy = false; // a request is under way
let outdated = false; // the text or the classifier has changed since that request
let table; // the columns of the chosen file
let showsAll = false; // whether all rows of the bar charts are shown
let timer, speaking;

function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function number(count) {
  return count.toLocaleString("en");
}

// A bar chart as a table, which shows the number beside each bar. Of many rows it shows the highest, and a button.
function bars(caption, entries, whole) {
  const isLong = entries.length > FEW;
  const ordered = isLong ? entries.toSorted(([, one], [, other]) => other - one) : entries;
  const rows = ordered.map(([label, value, shown], at) => {
    const bar = element("i");
    bar.style.width = `${whole ? (100 * value) / whole : 0}%`;
    const track = element("div", { className: "track" }, bar);
    track.setAttribute("aria-hidden", "true");
    const head = element("th", { scope: "row" }, element("span", {}, label));
    const row = element("tr", {}, head, element("td", {}, track), element("td", {}, shown));
    row.classList.toggle("further", isLong && at >= SHOWN);
    return row;
  });
  const chart = element(
    "table", { className: "bars" }, element("caption", {}, caption), element("tbody", {}, ...rows),
  );
  return isLong ? [chart, allButton(entries.length)] : [chart];
}

function allButton(count) {
  const button = element("button", { type: "button", className: "all" });
  button.dataset.count = count;
  button.addEventListener("click", () => {
    showsAll = !showsAll;
    showAll();
  });
  return button;
}

// Show all rows of the bar charts, or the highest: of every chart alike, and of the answers to come.
function showAll() {
  document.body.classList.toggle("shows-all", showsAll);
  for (const button of document.querySelectorAll("button.all")) {
    button.textContent = showsAll ? `Show the ${SHOWN} highest` : `Show all ${button.dataset.count} labels`;
    button.setAttribute("aria-expanded", showsAll);
  }
}

function answerBox(title, result, kind) {
  const verdict = element("p", { className: "verdict" }, result.label);
  if (result.unsure) verdict.append(element("span", { className: "unsure" }, "unsure"));
  const shares = Object.entries(result.probabilities).map(([label, share]) => [label, share, percent(share)]);
  return element(
    "div", { className: `answer ${kind}` }, element("h3", {}, title), verdict,
    ...bars("Probability of each label", shares, 1),
  );
}

// The answer to one question: its verdict, and a bar for each option. A score also has the expected level on its scale.
function questionBox(name, { type, answer, unsure, expected, probabilities }, student) {
  const verdict = element("p", { className: "verdict" }, spoken(answer));
  if (unsure) verdict.append(element("span", { className: "unsure" }, "unsure"));
  const shares = Object.entries(probabilities).map(([option, share]) => [option, share, percent(share)]);
  const box = element("div", { className: "answer after" }, element("h3", {}, `${name}${student}`), verdict);
  if (type === "score") {
    const levels = shares.length - 1;
    const range = element("meter", { min: 0, max: levels, value: expected });
    range.setAttribute("aria-label", `Expected level of ${name}`);
    box.append(element("p", { className: "scale" }, range, ` expected level ${expected.toFixed(2)} of 0 to ${levels}`));
  }
  box.append(...bars(type === "multi" ? "Probability that each option applies" : "Probability of each option", shares, 1));
  return box;
}

function spoken(answer) {
  return Array.isArray(answer) ? answer.join(", ") || "none" : answer;
}

// Send a request. Where it fails, throw an error with a sentence for the reader of this page.
async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. It may have been stopped, or the connection is gone.");
  }
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(sentence(detail || `the server answered with status ${response.status}`));
}

// Return the detail of a refusal in the words of this page, which has one text where a request has a list of texts.
function sentence(detail) {
  const plain = detail.replace(/^'texts\[0\]'/, "The text").replace(/^texts\[0\]: /, "The text: ").replace(/`/g, '"');
  return `${plain[0].toUpperCase()}${plain.slice(1)}.`.replace(/[.]{2}$/, ".");
}

function showError(id, message) {
  $(id).textContent = message;
  $(id).hidden = !message;
  if (message) bringIntoView($(id));
}

function bringIntoView(target) {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  target.scrollIntoView({ behavior, block: "nearest" });
}

// Classify the text. One request at a time; a text that changes meanwhile is classified next.
async function classify() {
  clearTimeout(speaking);
  showPressedExample();
  outdated = busy;
  if (busy) return;
  busy = true;
  const working = setTimeout(() => {
    $("working").hidden = false;
    $("answers").classList.add("stale");
    $("answers-area").setAttribute("aria-busy", "true");
  }, WORKING_PAUSE);
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
    clearTimeout(working);
    $("working").hidden = true;
    $("answers").classList.remove("stale");
    $("answers-area").removeAttribute("aria-busy");
  }
}

async function showAnswer(text, model) {
  if (!text.trim()) {
    $("answers").replaceChildren();
    $("said").textContent = "";
    return;
  }
  const asksQuestions = model.questions.length > 0;
  const body = { texts: text, model: model.name };
  const response = await ask(asksQuestions ? "/v1/answer" : "/v1/classify", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asksQuestions ? body : { ...body, before: model.has_before }),
  });
  const [result] = (await response.json()).results;
  const student = result.by_student ? ", by the student" : "";
  if (asksQuestions) {
    const answers = Object.entries(result.answers);
    $("answers").replaceChildren(...answers.map(([name, answer]) => questionBox(name, answer, student)));
    showAll();
    say(answers.map(([name, answer]) => `${name}: ${spoken(answer.answer)}${answer.unsure ? ", unsure" : ""}.`).join(" "));
    return;
  }
  const shown = [answerBox(`${result.before ? "After fine-tuning" : "Answer"}${student}`, result, "after")];
  if (result.before) shown.push(answerBox("Before fine-tuning", result.before, "before"));
  $("answers").replaceChildren(...shown);
  showAll();
  const unsure = result.unsure ? ", unsure" : "";
  const before = result.before ? ` Before fine-tuning: ${result.before.label}.` : "";
  say(`${result.label}${unsure}, ${percent(result.probabilities[result.label])}.${before}`);
}

// Have a screen reader say the answer once the text has not changed for a while.
function say(words) {
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    $("said").textContent = words;
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

function showProgress(label, done, total) {
  $("bar-label").textContent = label;
  // Without a value, the bar shows that something goes on.
  if (total) Object.assign($("bar"), { max: total, value: done });
  else $("bar").removeAttribute("value");
  if ($("table-progress").hidden) {
    $("table-progress").hidden = false;
    bringIntoView($("table-progress"));
  }
}

// Ask the server for the columns of the chosen file, and offer them.
async function readColumns() {
  const [file] = $("file").files;
  table = undefined;
  $("table-found").hidden = true;
  showError("table-fault", "");
  $("column").disabled = true;
  if (!file) return;
  $("column").replaceChildren(element("option", { value: "" }, "Reading the columns"));
  const found = await columnsOf(file).catch((error) => error);
  if (file !== $("file").files[0]) return; // another file was chosen meanwhile
  if (found instanceof Error) {
    $("column").replaceChildren(element("option", { value: "" }, "Choose another file"));
    showError("table-fault", found.message);
    return;
  }
  table = found;
  const names = found.columns.length || !current.text_column ? found.columns : [current.text_column];
  const template = found.text_template;
  const made = template ? [element("option", { value: template }, `As in training: ${template}`)] : [];
  $("column").replaceChildren(
    element("option", { value: "" }, "Choose a column"),
    ...made,
    ...names.map((name) => element("option", { value: name }, name)),
  );
  $("column").value = template ?? (names.length === 1 ? names[0] : (found.text_column ?? ""));
  $("column").disabled = false;
}

async function columnsOf(file) {
  const most = server.limits.max_table_bytes;
  if (file.size > most) {
    throw new Error(`${file.name} has ${number(file.size)} bytes; a table may have at most ${number(most)}. Send it in parts.`);
  }
  const query = new URLSearchParams({ name: file.name, model: current.name });
  return (await ask(`/v1/columns?${query}`, { method: "POST", body: file.slice(0, HEAD_BYTES) })).json();
}

async function labelTable(event) {
  event.preventDefault();
  const [file] = $("file").files;
  if (!file || !table) return;
  $("start").disabled = true;
  $("table-found").hidden = true;
  showError("table-fault", "");
  showProgress("Sending the table");
  try {
    const query = new URLSearchParams({ name: file.name, model: current.name, prefix: table.prefix });
    const column = $("column").value;
    if (column !== table.text_template) query.set("column", column);
    const response = await ask(`/v1/table?${query}`, { method: "POST", body: file });
    const pieces = [];
    let last;
    for await (const line of lines(response)) {
      last = JSON.parse(line);
      pieces.push(last.table);
      showProgress(`${number(last.done)} of ${number(last.total)} rows labelled`, last.done, last.total);
    }
    if (last?.error) throw new Error(`${sentence(last.error)} ${number(last.done)} of ${number(last.total)} rows were labelled.`);
    if (!last || last.done < last.total) throw new Error("The response ended before the whole table was labelled. Try again.");
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
    label, count, last.done ? `${number(count)} (${percent(count / last.done)})` : "0",
  ]);
  const most = Math.max(...counts.map(([, count]) => count), 1);
  $("table-chart").replaceChildren(...bars(current.questions.length ? "Rows of each answer" : "Rows of each label", counts, most));
  showAll();
  const parts = [`${number(last.done)} ${last.done === 1 ? "row" : "rows"} labelled`];
  if (last.unsure) parts.push(`${number(last.unsure)} of them unsure`);
  if (last.bad) parts.push(`${number(last.bad)} could not be read; the column "${table.prefix}error" gives the reason`);
  const renamed = table.prefix ? ` The table has a column of such a name already, so the added columns begin with "${table.prefix}".` : "";
  $("table-said").textContent = `${parts.join(", ")}.${renamed}`;
  const [, stem, ending] = file.name.match(/^(.*?)(\.[^.]*)?$/);
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(new Blob(pieces, { type: "text/plain;charset=utf-8" }));
  $("download").download = `${stem}-labelled${ending || ""}`;
  $("table-found").hidden = false;
  bringIntoView($("table-found"));
}

function showPressedExample() {
  for (const button of $("examples").children) button.setAttribute("aria-pressed", button.textContent === $("text").value);
}

async function tryExample(text) {
  $("text").value = text;
  await classify();
  bringIntoView($("answers"));
}

// Show the examples of a classifier. A text that somebody has typed stays; otherwise the first example is classified.
function showExamples({ examples }, former) {
  const typed = $("text").value.trim() && !former?.examples.includes($("text").value);
  $("examples-note").hidden = !examples.length;
  $("examples").replaceChildren(
    ...examples.map((text) => {
      const button = element("button", { type: "button", className: "example", title: text }, text);
      button.addEventListener("click", () => tryExample(text));
      return button;
    }),
  );
  if (typed) return;
  $("text").value = examples[0] ?? "";
  // Selected, so that typing replaces the example.
  $("text").select();
}

function describe({ description, base_model, method, labels, questions }) {
  const tuned = base_model ? `${method} on ${base_model}. ` : "";
  const names = questions.length ? questions : labels;
  const shown = names.length > 12 ? `${names.slice(0, 10).join(", ")} and ${names.length - 10} more` : names.join(", ");
  return `${description ? `${description.replace(/[.]$/, "")}. ` : ""}${tuned}${questions.length ? "Questions" : "Labels"}: ${shown}.`;
}

function choose(name) {
  const former = current;
  current = server.models.find((model) => model.name === name);
  document.title = `${current.name}: whinchat`;
  $("name").textContent = current.name;
  $("about").textContent = describe(current);
  const pages = [["Model card", current.card], ["Report", current.report]].filter(([, address]) => address);
  $("run-links").replaceChildren(
    ...pages.flatMap(([title, href], at) => [at ? " · " : "", element("a", { href }, title)]),
  );
  $("figures").replaceChildren(
    ...current.figures.map(({ url, alt }) => element("figure", {}, element("img", { src: url, alt, loading: "lazy" }))),
  );
  $("run").hidden = !pages.length && !current.figures.length;
  const body = JSON.stringify({ texts: [current.examples[0] ?? "what a lovely day"], model: current.name });
  $("curl").textContent = `curl -s ${location.origin}/v1/${current.questions.length ? "answer" : "classify"} --json '${body.replaceAll("'", "'\\''")}'`;
  showExamples(current, former);
  classify();
  if (former) readColumns();
}

function listen() {
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(classify, TYPING_PAUSE);
  });
  $("model").addEventListener("change", () => choose($("model").value));
  $("file").addEventListener("change", readColumns);
  $("table-form").addEventListener("submit", labelTable);
  const drop = $("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        $("file").files = event.dataTransfer.files;
        readColumns();
      }
    });
  }
}

async function start() {
  server = await (await ask("/v1/model")).json();
  $("model").append(...server.models.map(({ name }) => element("option", { value: name }, name)));
  $("choice").hidden = server.models.length < 2;
  $("text").maxLength = server.limits.max_chars;
  listen();
  choose(server.default);
}

start().catch((error) => showError("fault", error.message));
