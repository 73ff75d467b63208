// The page of `whinchat serve`. It asks the same addresses as any other client.

const $ = (id) => document.getElementById(id);
const WAIT = 120; // milliseconds without a key before a text is asked about
const SPEAK_AFTER = 700; // and before a screen reader is told, so that it is not interrupted at every letter

let about; // what /v1/model says
let current; // the chosen classifier
let asking = false; // a request is under way
let again = false; // and there is something newer to ask about
let timer, speaking;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

// Bars as a table: what a bar shows stands beside it as a number.
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

function answer(title, result, kind) {
  const verdict = element("p", { className: "verdict" }, result.label);
  if (result.unsure) verdict.append(element("span", { className: "unsure" }, "unsure"));
  const shares = Object.entries(result.probabilities).map(([label, share]) => [label, share, percent(share)]);
  return element(
    "div", { className: `answer ${kind}` }, element("h3", {}, title), verdict, bars("Probability of each label", shares, 1),
  );
}

async function fault(response) {
  const body = await response.json().catch(() => ({}));
  const detail = body.detail;
  if (Array.isArray(detail)) return detail.map((one) => `${one.loc.slice(1).join(".")}: ${one.msg}`).join("; ");
  return detail || `the server answered ${response.status}`;
}

function complain(id, message) {
  $(id).textContent = message;
  $(id).hidden = !message;
}

// One request at a time; what was typed meanwhile is asked about next.
async function classify() {
  clearTimeout(speaking);
  again = asking;
  if (asking) return;
  asking = true;
  $("answers").classList.add("stale");
  try {
    do {
      again = false;
      await ask($("text").value, current);
    } while (again);
    complain("fault", "");
  } catch (problem) {
    $("answers").replaceChildren();
    complain("fault", problem.message);
  } finally {
    asking = false;
    $("answers").classList.remove("stale");
  }
}

async function ask(text, model) {
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
  if (!response.ok) throw new Error(await fault(response));
  const [result] = (await response.json()).results;
  const shown = [answer(result.before ? "After fine-tuning" : "Answer", result, "after")];
  if (result.before) shown.push(answer("Before", result.before, "before"));
  $("answers").replaceChildren(...shown);
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    const doubt = result.unsure ? ", unsure" : "";
    const before = result.before ? ` Before fine-tuning: ${result.before.label}.` : "";
    $("said").textContent = `${result.label}${doubt}, ${percent(result.probabilities[result.label])}.${before}`;
  }, SPEAK_AFTER);
}

// Lines of a response as they come.
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
  complain("table-fault", "");
  try {
    const asked = new URLSearchParams({ name: file.name, model: current.name });
    if ($("column").value.trim()) asked.set("column", $("column").value.trim());
    const response = await fetch(`/v1/table?${asked}`, { method: "POST", body: file });
    if (!response.ok) throw new Error(await fault(response));
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
    if (!last || last.done < last.total) throw new Error("the server ended before the table was labelled; try again");
    showTable(file, pieces, last);
  } catch (problem) {
    complain("table-fault", problem.message);
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
  const parts = [`${last.done} rows labelled`];
  if (last.unsure) parts.push(`${last.unsure} of them unsure`);
  if (last.bad) parts.push(`${last.bad} could not be read: the column "error" says why`);
  $("table-said").textContent = `${parts.join(", ")}.`;
  const [, stem, ending] = file.name.match(/^(.*?)(\.[^.]*)?$/);
  URL.revokeObjectURL($("download").href);
  $("download").href = URL.createObjectURL(new Blob(pieces, { type: "text/plain;charset=utf-8" }));
  $("download").download = `${stem}-labelled${ending || ""}`;
  $("table-found").hidden = false;
}

function choose(name) {
  current = about.models.find((one) => one.name === name);
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
  classify();
}

function listen() {
  $("text").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(classify, WAIT);
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
  if (!response.ok) throw new Error(await fault(response));
  about = await response.json();
  $("model").append(...about.models.map(({ name }) => element("option", { value: name }, name)));
  $("choice").hidden = about.models.length < 2;
  $("text").maxLength = about.limits.max_chars;
  listen();
  choose(about.default);
}

start().catch((problem) => complain("fault", problem.message));
