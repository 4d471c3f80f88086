// Opens the pages of `corelog report` in a browser, and holds what they show against the runs' own summaries.
//
// node check.js DIRECTORY, by tests/report.sh. With a second argument, pictures of the pages are put there.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const { browser: browserToStart } = require("./browser.js");

const [place, pictures] = process.argv.slice(2);
const HOSTILE = "</script><img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";
const HOSTILE_NAME = "two <img src=x onerror=window.hacked=1>";
const POINTS_PER_NINE = 32;
const FIELDS = {
  min: "min_ns", mean: "mean_ns", p50: "p50_ns", p90: "p90_ns", p99: "p99_ns", "p99.9": "p99_9_ns", "p99.99": "p99_99_ns", max: "max_ns",
};

const summary = (run) => JSON.parse(fs.readFileSync(path.join(place, run, "summary.json"), "utf8"));

function nanoseconds(text) {
  const [number, unit] = text.split(" ");
  const size = { ns: 1, "µs": 1e3, ms: 1e6, s: 1e9 }[unit];
  assert.ok(size, `no time: ${text}`);
  return Number(number) * size;
}
/// Three digits are shown.
function near(text, ns, what) {
  const shown = nanoseconds(text);
  assert.ok(Math.abs(shown / ns - 1) <= 0.0051, `${what}: ${text} is shown for ${ns} ns`);
}

/// What a page complained of or asked for, which is nothing.
const problems = [];

async function opened(browser, file, options) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  const page = await context.newPage();
  const address = `file://${path.resolve(place, file)}`;
  page.on("console", (message) => problems.push(`${file} says ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`${file}: ${error.stack}`));
  page.on("request", (request) => {
    if (request.url() !== address && !request.url().startsWith("data:")) problems.push(`${file} asks for ${request.url()}`);
  });
  await page.goto(address);
  assert.deepEqual(problems, []);
  assert.equal(await page.locator("#latency h2").count(), 1);
  assert.equal(await page.evaluate(() => window.hacked), undefined, "a text of the run was run");
  assert.equal(await page.locator("img").count(), 0);
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(beyond <= 0, `${file} is ${beyond} pixels wider than its window of ${page.viewportSize().width}`);
  return page;
}

/// The rows of a table: texts of the cells by the text of the row's head.
function rows(page, name) {
  return page.locator(`table[data-table="${name}"]`).evaluate((table) => Object.fromEntries([...table.tBodies[0].rows].map((row) =>
    [row.cells[0].textContent, [...row.cells].slice(1).map((cell) => cell.firstChild ? cell.firstChild.textContent : "")])));
}
const heads = (page, name) => page.locator(`table[data-table="${name}"] thead th`).allTextContents();

async function curvesAreWhole(page, metric, runs) {
  const shown = await page.locator(`path[data-curve="${metric}"]`).evaluateAll((paths) =>
    paths.map((path) => [path.dataset.run, path.getAttribute("d")]));
  assert.deepEqual(shown.map(([run]) => run), runs);
  for (const [run, d] of shown) {
    const points = d.slice(1).split("L").map((point) => point.split(" ").map(Number));
    assert.equal(points.length, Math.floor(Math.log10(summary(run)[metric].count) * POINTS_PER_NINE) + 2, `${run}: points of ${metric}`);
    assert.ok(points.every(([x, y]) => Number.isFinite(x) && Number.isFinite(y)), d);
    // Rightwards and upwards, which is downwards in numbers.
    assert.ok(points.every(([x, y], at) => at === 0 || (x >= points[at - 1][0] && y <= points[at - 1][1])), d);
  }
}

/// What is told when the pointer is at a place of a picture, given as parts of its width and height.
async function told(page, picture, x, y) {
  await picture.scrollIntoViewIfNeeded();
  // Scrolling hides what is told, a frame later.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const box = await picture.boundingBox();
  await page.mouse.move(box.x + x, box.y + y * box.height);
  await page.waitForSelector("#tip:not([hidden])");
  return page.locator("#tip").evaluate((tip) => ({
    title: tip.querySelector("b").textContent,
    rows: [...tip.querySelectorAll("span")].map((row) => [row.querySelector("i").textContent, row.lastChild.textContent]),
  }));
}

async function oneRun(browser) {
  const page = await opened(browser, "one.html", { colorScheme: "light" });
  const expect = summary("one");
  const latency = await rows(page, "latency");
  const columns = await heads(page, "latency");
  for (const [metric, column] of [["produce", "produce"], ["e2e", "end to end"]]) {
    const at = columns.indexOf(column) - 1;
    assert.equal(latency.values[at].replaceAll(",", ""), String(expect[metric].count));
    for (const [row, field] of Object.entries(FIELDS)) near(latency[row][at], expect[metric][field], `${metric} ${row}`);
  }
  const counts = await rows(page, "counts");
  assert.equal(counts.sent[0].replaceAll(",", ""), String(expect.totals.sent));
  assert.equal(counts["valid intervals"][0], "56 of 60");
  assert.equal(counts["write amplification"][0], "2.07");
  await curvesAreWhole(page, "produce", ["one"]);
  await curvesAreWhole(page, "e2e", ["one"]);

  const curve = page.locator("svg", { has: page.locator("path[data-curve=produce]") });
  const tick = await curve.locator("text", { hasText: /^p99$/ }).evaluate((text) => Number(text.getAttribute("x")));
  const scale = await curve.evaluate((svg) => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width);
  const p99 = await told(page, curve, tick * scale, 0.5);
  assert.equal(p99.title, "p99 · one in 100");
  near(p99.rows[0][1], expect.produce.p99_ns, "p99 under the pointer");
  const width = (await curve.boundingBox()).width;
  const last = await told(page, curve, width - 13 * scale, 0.5);
  near(last.rows[0][1], expect.produce.max_ns, "the end of the curve");
  await curve.focus();
  for (let press = 0; press <= POINTS_PER_NINE; press += 1) await page.keyboard.press("ArrowRight");
  near(await page.locator("#tip span").first().evaluate((row) => row.lastChild.textContent), expect.produce.p90_ns, "p90 by keys");

  const map = page.locator("svg[data-heat=produce]");
  assert.ok(Number(await map.getAttribute("data-cells")) > 60 * 10);
  assert.deepEqual(await map.locator("rect.invalid").evaluateAll((rects) => rects.length), 2);
  const box = await map.boundingBox();
  const left = 62 + (box.width - 62 - 14) * (21.5 / 60);
  const invalid = await told(page, map, left, 0.5);
  assert.equal(invalid.title, "21 s to 22 s");
  assert.deepEqual(invalid.rows.at(-1), ["invalid", "a record was 5 ms late"]);
  const valid = await told(page, map, 62 + (box.width - 62 - 14) * (10.5 / 60), 0.5);
  assert.equal(valid.title, "10 s to 11 s");
  assert.ok(valid.rows.some(([name]) => name === "p99") && valid.rows.every(([name]) => name !== "invalid"));

  assert.deepEqual(await page.locator("path[data-stage]").evaluateAll((paths) => paths.map((path) => path.dataset.stage)),
    ["read", "queue", "check", "write_queue", "device_write", "sync"]);
  const stages = await rows(page, "stages-produce");
  const sum = Object.keys(stages).filter((name) => name !== "total").reduce((all, name) => all + nanoseconds(stages[name][1]), 0);
  assert.ok(Math.abs(sum / nanoseconds(stages.total[1]) - 1) < 0.03, `the stages' means come to ${sum} ns of ${stages.total[1]}`);
  assert.deepEqual(await page.locator("rect[data-part]").evaluateAll((parts) => parts.map((part) => part.dataset.part)),
    ["generator late", "client", "network", "broker"]);

  const workload = await rows(page, "workload");
  assert.equal(workload["topic.name"][0], HOSTILE);
  assert.equal((await rows(page, "machine")).governor[0], "powersave");
  if (pictures) await page.screenshot({ path: path.join(pictures, "one-light.png"), fullPage: true });
  await page.getByRole("button", { name: "linear time" }).click();
  await curvesAreWhole(page, "produce", ["one"]);
}

async function threeRuns(browser) {
  const page = await opened(browser, "three.html", { colorScheme: "dark" });
  const runs = ["one", HOSTILE_NAME, "three"];
  assert.match(await page.title(), /^LOST RECORDS · /);
  assert.equal((await page.locator("#top > *").first().textContent()).startsWith(`${HOSTILE_NAME} LOST 17 acknowledged records`), true);
  assert.ok((await page.locator(".alert").allTextContents()).some((text) => text.startsWith("three: Closed loop")));
  await curvesAreWhole(page, "produce", runs);
  await curvesAreWhole(page, "e2e", runs);
  const table = await rows(page, "latency-produce");
  runs.forEach((run, at) => Object.entries(FIELDS).forEach(([row, field]) => near(table[row][at], summary(run).produce[field], `${run} ${row}`)));
  const colours = await page.locator("path[data-curve=produce]").evaluateAll((paths) => paths.map((path) => getComputedStyle(path).stroke));
  assert.equal(new Set(colours).size, 3);
  const curve = page.locator("svg", { has: page.locator("path[data-curve=produce]") });
  const here = await told(page, curve, 200, 0.5);
  assert.deepEqual(here.rows.map(([name]) => name), runs);
  assert.deepEqual(await rows(page, "machine-differs"), { governor: ["powersave", "not readable", "not readable"] });
  assert.deepEqual(Object.keys(await rows(page, "configs-differs")), ["num.partitions"]);
  assert.equal((await rows(page, "configs-same")).x[0], HOSTILE);
  assert.equal((await rows(page, "complaints"))[HOSTILE][0], "3");
  assert.ok((await page.locator("#stages").textContent()).includes("three: The run has no stages"));
  assert.equal(await page.locator("svg[data-heat=e2e]").count(), 3);
  assert.deepEqual(await heads(page, "verdicts-produce latency"), ["", ...runs]);
  const verdicts = await rows(page, "verdicts-produce latency");
  assert.deepEqual(verdicts.p50.slice(1), ["slower ", "slower "]);
  assert.deepEqual(verdicts.max.slice(1), ["no verdict ", "no verdict "]);
  if (pictures) await page.screenshot({ path: path.join(pictures, "three-dark.png"), fullPage: true });
}

async function elsewhere(browser) {
  const log = await opened(browser, "log.html");
  assert.equal((await rows(log, "counts")).lost[0], "–", "a log alone does not tell what was lost");
  for (const file of ["one.html", "three.html", "hour.html", "log.html"]) {
    const page = await opened(browser, file, { viewport: { width: 360, height: 740 }, colorScheme: "light", hasTouch: true });
    const letters = await page.locator("svg text").first().evaluate((text) => text.getBoundingClientRect().height);
    assert.ok(letters >= 10, `${file}: letters of ${letters} pixels on a telephone`);
    if (pictures) await page.screenshot({ path: path.join(pictures, `${path.parse(file).name}-phone.png`), fullPage: true });
    await page.context().close();
  }
  const hour = await opened(browser, "hour.html", { colorScheme: "dark" });
  assert.equal((await rows(hour, "counts"))["valid intervals"][0], "3,596 of 3,600");
  await curvesAreWhole(hour, "produce", ["hour"]);
  if (pictures) await hour.screenshot({ path: path.join(pictures, "hour-dark.png"), fullPage: true });
  const paper = await opened(browser, "three.html", { colorScheme: "dark" });
  await paper.emulateMedia({ media: "print" });
  assert.equal(await paper.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(255, 255, 255)");
  assert.ok((await paper.pdf()).length > 10_000);
  assert.equal(await paper.locator("details:not([open])").count(), 0, "paper shows what is folded away");
  const bare = await browser.newContext({ javaScriptEnabled: false });
  const page = await bare.newPage();
  await page.goto(`file://${path.join(place, "one.html")}`);
  assert.ok((await page.locator("main").textContent()).includes("scripts are switched off"));
}

async function main() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ ...browserToStart(), args });
  try {
    await oneRun(browser);
    await threeRuns(browser);
    await elsewhere(browser);
    assert.deepEqual(problems, []);
  } finally {
    await browser.close();
  }
  console.log("the pages show what the runs hold");
}

main().catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
