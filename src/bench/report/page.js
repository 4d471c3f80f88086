// Draws the report from the data in the page. No library, no network; every text from a run goes in as text.
(() => {
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const several = runs.length > 1;
const page = document.getElementById('page');
const tip = document.getElementById('tip');
const COLOURS = 8;
const DASHES = ['', '7 3', '2 3', '9 3 2 3'];
const HEAT_STEPS = 12;

// Elements.

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
const colour = (run) => `var(--run-${run % COLOURS})`;
// Run by run another dash, so that curves are told apart in black and white too.
const dash = (run) => DASHES[(run + Math.floor(run / COLOURS)) % DASHES.length];

// Numbers as text.

function digits(value) {
  return value === 0 ? '0' : value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
function time(ns) {
  if (ns === null || ns === undefined) return '–';
  if (ns === 0) return '0';
  // The borders are where three digits would round up to the next unit.
  if (ns < 999.5) return `${Math.round(ns)} ns`;
  if (ns < 999.5e3) return `${digits(ns / 1e3)} µs`;
  if (ns < 999.5e6) return `${digits(ns / 1e6)} ms`;
  return `${digits(ns / 1e9)} s`;
}
// Histograms tell nothing below a microsecond apart.
const latencyTime = (ns) => (ns < 1e3 ? '< 1 µs' : time(ns));
function tickTime(ns) {
  if (ns === 0) return '0';
  const [unit, size] = ns < 1e3 ? ['ns', 1] : ns < 1e6 ? ['µs', 1e3] : ns < 1e9 ? ['ms', 1e6] : ['s', 1e9];
  return `${Number((ns / size).toPrecision(6))} ${unit}`;
}
const count = (value) => (value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en-US'));
function short(value) {
  for (const [size, suffix] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (value >= size) return `${Number((value / size).toPrecision(4))} ${suffix}`;
  }
  return String(Number(value.toPrecision(4)));
}
const rate = (value) => (value === null || value === undefined ? '–' : `${count(value)}/s`);
function bytes(value) {
  if (value === null || value === undefined) return '–';
  return value >= 1e9 ? `${digits(value / 1e9)} GB/s` : value >= 1e6 ? `${digits(value / 1e6)} MB/s` : `${digits(value / 1e3)} kB/s`;
}
const seconds = (s) => `${Number(s.toFixed(3))} s`;
function percentile(nines) {
  const decimals = Math.max(0, Math.min(9, Math.ceil(nines) - 1));
  return `p${Number((100 * (1 - 10 ** -nines)).toFixed(decimals + (nines < 1 ? 0 : 1)))}`;
}
const times = (ratio) => (Number.isFinite(ratio) ? `× ${ratio.toFixed(ratio < 10 ? 3 : 1)}` : '–');

// Scales.

function logTicks(low, high) {
  const ticks = [];
  const decades = Math.log10(high / low);
  const steps = decades > 4 ? [1] : decades > 1.6 ? [1, 3] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const step of steps) {
      const at = step * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) ticks.push(at);
    }
  }
  return ticks;
}
function linearTicks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw) || power;
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) ticks.push(Number(at.toPrecision(12)));
  return ticks;
}
// A log scale from a border of a third of a decade to another.
function around(values) {
  const low = Math.max(100, values.reduce((a, b) => Math.min(a, b), Infinity));
  const high = Math.max(low * 1.01, values.reduce((a, b) => Math.max(a, b), 0));
  return [10 ** (Math.floor(Math.log10(low) * 3) / 3), 10 ** (Math.ceil(Math.log10(high) * 3) / 3)];
}

// Hovering.

function showTip(event, title, rows) {
  tip.replaceChildren(el('b', {}, title), ...rows.map(([name, text, paint]) => el('span', {},
    paint ? el('u', { class: 'swatch', style: `background:${paint}` }) : null, el('i', {}, name), text)));
  tip.hidden = false;
  const size = tip.getBoundingClientRect();
  const beside = event.clientX + 14 + size.width > innerWidth ? event.clientX - 14 - size.width : event.clientX + 14;
  tip.style.left = `${Math.max(4, beside)}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - size.height - 4, event.clientY + 14))}px`;
}
function hideTip() { tip.hidden = true; }
addEventListener('keydown', (event) => { if (event.key === 'Escape') hideTip(); });
addEventListener('scroll', hideTip, { passive: true });

// Pictures. `draw(width)` makes the picture for a width in pixels, so that letters keep their size on a phone.

const pictures = [];
function picture(caption, more, draw, ...below) {
  const place = el('div', { class: 'picture' });
  const figure = el('figure', {}, el('figcaption', {}, caption, more ? el('small', {}, more) : null), place, ...below);
  const entry = { place, draw, width: 0 };
  pictures.push(entry);
  figure.redraw = () => { entry.width = 0; drawOne(entry); };
  return figure;
}
function drawOne(entry) {
  const width = Math.round(Math.max(280, Math.min(1200, entry.place.clientWidth || 640)));
  if (width === entry.width) return;
  entry.width = width;
  entry.place.replaceChildren(entry.draw(width));
}
const drawAll = () => pictures.forEach(drawOne);

const MARGIN = { left: 62, right: 14, top: 10, bottom: 42 };

// The frame of a chart: axes, grid, title, and the places of values. `x` and `y` have min, max, ticks, label, title.
function frame(width, height, name, description, x, y) {
  const right = width - MARGIN.right;
  const bottom = height - MARGIN.bottom;
  const span = (scale, value) => (scale.log
    ? Math.log(value / scale.min) / Math.log(scale.max / scale.min)
    : (value - scale.min) / ((scale.max - scale.min) || 1));
  const sx = (value) => MARGIN.left + span(x, value) * (right - MARGIN.left);
  const sy = (value) => bottom - Math.max(-0.02, span(y, value)) * (bottom - MARGIN.top);
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', tabindex: 0, 'aria-label': `${name}. ${description}` },
    svg('title', {}, name), svg('desc', {}, description));
  let lastEnd = -Infinity;
  for (const tick of x.ticks) {
    const at = sx(tick);
    root.append(svg('line', { class: 'grid', x1: at, x2: at, y1: MARGIN.top, y2: bottom }));
    const text = x.label(tick);
    const half = text.length * 3.4;
    if (at - half < lastEnd + 4 || at + half > width + 2) continue;
    lastEnd = at + half;
    root.append(svg('text', { x: at, y: bottom + 16, 'text-anchor': 'middle' }, text));
  }
  let lastY = Infinity;
  for (const tick of y.ticks) {
    const at = sy(tick);
    root.append(svg('line', { class: 'grid', x1: MARGIN.left, x2: right, y1: at, y2: at }));
    if (lastY - at < 13) continue;
    lastY = at;
    root.append(svg('text', { x: MARGIN.left - 6, y: at + 4, 'text-anchor': 'end' }, y.label(tick)));
  }
  root.append(svg('path', { class: 'axis', d: `M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}` }));
  root.append(svg('text', { x: (MARGIN.left + right) / 2, y: height - 6, 'text-anchor': 'middle' }, x.title));
  const ix = (pixel) => {
    const part = Math.max(0, Math.min(1, (pixel - MARGIN.left) / (right - MARGIN.left)));
    return x.min + part * (x.max - x.min);
  };
  return { root, sx, sy, ix, right, bottom, top: MARGIN.top, left: MARGIN.left };
}

// Pointer and arrow keys over a chart. `at(x, pixelX, pixelY)` gives { x, title, rows, dots } or null.
function hover(chart, width, stops, at) {
  const cursor = svg('line', { class: 'cursor', y1: chart.top, y2: chart.bottom, visibility: 'hidden' });
  const dots = svg('g', {});
  chart.root.append(cursor, dots);
  let key = -1;
  const clear = () => { cursor.setAttribute('visibility', 'hidden'); dots.replaceChildren(); hideTip(); };
  const show = (place, x, px, py) => {
    const found = at(x, px, py);
    if (!found) { clear(); return; }
    const cx = chart.sx(found.x);
    cursor.setAttribute('x1', cx);
    cursor.setAttribute('x2', cx);
    cursor.setAttribute('visibility', 'visible');
    dots.replaceChildren(...(found.dots || []).map(([y, paint]) =>
      svg('circle', { class: 'dot', cx, cy: chart.sy(y), r: 4, fill: paint })));
    showTip(place, found.title, found.rows);
  };
  const onPointer = (event) => {
    const box = chart.root.getBoundingClientRect();
    const scale = width / box.width;
    const px = (event.clientX - box.left) * scale;
    show(event, chart.ix(px), px, (event.clientY - box.top) * scale);
  };
  chart.root.addEventListener('pointermove', onPointer);
  chart.root.addEventListener('pointerdown', onPointer);
  chart.root.addEventListener('pointerleave', clear);
  chart.root.addEventListener('blur', clear);
  chart.root.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !stops.length) return;
    event.preventDefault();
    key = Math.max(0, Math.min(stops.length - 1, key + step));
    const box = chart.root.getBoundingClientRect();
    const x = chart.sx(stops[key]);
    show({ clientX: box.left + (x * box.width) / width, clientY: box.top + box.height / 3 }, stops[key], x, chart.top + 1);
  });
}

// With dashes for curves; lines over time are too ragged for them.
function legend(entries, dashed) {
  return el('ul', { class: 'legend' }, entries.map(([name, run]) => el('li', {},
    svg('svg', { viewBox: '0 0 28 12', 'aria-hidden': 'true' }, svg('line', {
      x1: 0, x2: 28, y1: 6, y2: 6, stroke: colour(run), 'stroke-width': 3, 'stroke-dasharray': dashed ? dash(run) : null,
    })), name)));
}
const path = (points, chart) => points.map(([x, y], at) => `${at ? 'L' : 'M'}${chart.sx(x).toFixed(1)} ${chart.sy(y).toFixed(1)}`).join('');

// Percentile curves.

let curvesLog = true;
function curves(metric, title) {
  const shown = runs.map((run, at) => [run, at]).filter(([run]) => run[metric].curve.length);
  if (!shown.length) return null;
  const values = shown.flatMap(([run]) => run[metric].curve.map((point) => point[1]));
  const last = Math.max(1, ...shown.map(([run]) => run[metric].curve[run[metric].curve.length - 1][0]));
  const ticks = [Math.log10(2)];
  for (let nines = 1; nines <= last + 0.01; nines += 1) ticks.push(nines);
  const draw = (width) => {
    const [low, high] = curvesLog ? around(values) : [0, Math.max(...values) * 1.02];
    const x = { min: 0, max: last, ticks, label: percentile, title: 'percentile; each nine leaves a tenth of the records' };
    const y = { min: low, max: high, log: curvesLog, ticks: curvesLog ? logTicks(low, high) : linearTicks(low, high, 6), label: tickTime };
    const chart = frame(width, Math.min(380, Math.max(260, width * 0.62)), title,
      `Latency by percentile of ${shown.map(([run]) => run.name).join(', ')}; the numbers are in the table of latencies.`, x, y);
    for (const [run, at] of shown) {
      chart.root.append(svg('path', {
        class: 'curve', d: path(run[metric].curve, chart), stroke: colour(at), 'stroke-dasharray': dash(at),
        'data-run': run.name, 'data-curve': metric,
      }, svg('title', {}, run.name)));
    }
    const longest = shown.reduce((a, [run]) => (run[metric].curve.length > a.length ? run[metric].curve : a), []);
    hover(chart, width, longest.map((point) => point[0]), (nines) => {
      const near = longest.reduce((a, b) => (Math.abs(b[0] - nines) < Math.abs(a[0] - nines) ? b : a))[0];
      const rows = [];
      const dots = [];
      for (const [run, at] of shown) {
        const end = run[metric].curve[run[metric].curve.length - 1];
        const point = run[metric].curve.find(([x2]) => Math.abs(x2 - near) < 1e-6);
        if (!point && near <= end[0]) continue;
        rows.push([run.name, point ? time(point[1]) : `max ${time(end[1])}`, colour(at)]);
        if (point) dots.push([point[1], colour(at)]);
      }
      return { x: near, title: near === 0 ? 'lowest' : `${percentile(near)} · one in ${count(10 ** near)}`, rows, dots };
    });
    return chart.root;
  };
  return picture(title, null, draw, several ? legend(shown.map(([run, at]) => [run.name, at]), true) : null);
}

// What happens over time.

const duration = (run) => run.columns.end_s[run.columns.end_s.length - 1] || 0;
const columnAt = (columns, s) => columns.start_s.findIndex((start, at) => s >= start && s < columns.end_s[at] + 1e-9);

let patterns = 0;
function hatch(root, stroke) {
  const id = `hatch-${patterns += 1}`;
  root.append(svg('defs', {}, svg('pattern', { id, width: 7, height: 7, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    svg('rect', { width: 7, height: 7, fill: stroke, opacity: 0.13 }), svg('line', { x1: 0, y1: 0, x2: 0, y2: 7, stroke, 'stroke-width': 2.5, opacity: 0.75 }))));
  return `url(#${id})`;
}
function drawInvalid(chart, run, stroke) {
  if (!run.invalid.length) return;
  const fillWith = hatch(chart.root, stroke);
  for (const stretch of run.invalid) {
    const from = chart.sx(stretch.start_s);
    chart.root.append(svg('rect', {
      class: 'invalid', x: from, width: Math.max(1, chart.sx(stretch.end_s) - from), y: chart.top, height: chart.bottom - chart.top, fill: fillWith,
    }, svg('title', {}, `invalid: ${stretch.why}`)));
  }
}
const timeScale = (max) => ({ min: 0, max: max || 1, ticks: linearTicks(0, max || 1, 6), label: (s) => String(s), title: 'seconds since the first interval' });
const invalidAt = (run, s) => run.invalid.find((stretch) => s >= stretch.start_s && s < stretch.end_s);

// Lines over time: `pick(run)` gives a value for each column, `text` writes it, `more(run, column)` adds rows to the hover.
function overTime(title, note, pick, text, tickText, log, more) {
  const shown = runs.map((run, at) => [run, at]).filter(([run]) => pick(run).some((value) => value > 0));
  if (!shown.length) return null;
  const values = shown.flatMap(([run]) => pick(run)).filter((value) => value > 0);
  const draw = (width) => {
    const [low, high] = log ? around(values) : [0, values.reduce((a, b) => Math.max(a, b), 0) * 1.08];
    const chart = frame(width, Math.min(300, Math.max(220, width * 0.45)), title, `${title} over time of ${shown.map(([run]) => run.name).join(', ')}.`,
      timeScale(Math.max(...shown.map(([run]) => duration(run)))),
      { min: low, max: high, log, ticks: log ? logTicks(low, high) : linearTicks(low, high, 5), label: tickText });
    for (const [run, at] of shown) {
      drawInvalid(chart, run, several ? colour(at) : 'var(--hatch)');
      // A column without valid intervals breaks the line, and so does time in which nothing was measured.
      const parts = [[]];
      pick(run).forEach((value, column) => {
        if (column && run.columns.start_s[column] > run.columns.end_s[column - 1] + 1e-3) parts.push([]);
        if (value === null) { parts.push([]); return; }
        const middle = (run.columns.start_s[column] + run.columns.end_s[column]) / 2;
        parts[parts.length - 1].push([middle, log ? Math.max(low, value) : value]);
      });
      const d = parts.filter((part) => part.length).map((part) =>
        path(part.length > 1 ? part : [[part[0][0] - 1e-3, part[0][1]], part[0]], chart)).join('');
      chart.root.append(svg('path', { class: 'curve thin', d, stroke: colour(at), 'data-run': run.name },
        svg('title', {}, run.name)));
    }
    const first = shown.reduce((a, b) => (duration(b[0]) > duration(a[0]) ? b : a))[0].columns;
    hover(chart, width, first.start_s.map((start, at) => (start + first.end_s[at]) / 2), (s) => {
      const rows = [];
      const dots = [];
      for (const [run, at] of shown) {
        const column = columnAt(run.columns, s);
        if (column < 0) continue;
        const value = pick(run)[column];
        rows.push([run.name, value === null ? 'invalid' : text(value), colour(at)]);
        if (value !== null && (!log || value > 0)) dots.push([value, colour(at)]);
        if (more) rows.push(...more(run, column));
        const stretch = invalidAt(run, s);
        if (stretch) rows.push(['invalid', stretch.why]);
        const rebalances = run.columns.rebalances[column];
        if (rebalances) rows.push(['rebalances of members', count(rebalances)]);
      }
      return rows.length ? { x: s, title: `at ${seconds(s)}`, rows, dots } : null;
    });
    return chart.root;
  };
  return picture(title, note, draw, several ? legend(shown.map(([run, at]) => [run.name, at]), false) : null);
}

// A heat map of one run; all runs have the same scales, so that they can be held against each other.
function heat(metric, title) {
  const columns = runs.flatMap((run) => run[metric].heat);
  if (!columns.some((column) => column.length)) return [];
  let [low, high, most] = [Infinity, -Infinity, 0];
  for (const column of columns) {
    for (let at = 0; at < column.length; at += 2) {
      low = Math.min(low, column[at]);
      high = Math.max(high, column[at]);
      most = Math.max(most, column[at + 1]);
    }
  }
  const edge = (row) => 10 ** (row / data.rows_per_decade);
  // A row below a microsecond holds what is too short to be told apart: the map begins there.
  low = Math.max(low, Math.floor(2.5 * data.rows_per_decade));
  const longest = Math.max(...runs.map(duration));
  const level = (cell) => Math.min(HEAT_STEPS - 1, Math.floor((Math.log(cell) / Math.log(most + 1)) * HEAT_STEPS));
  return runs.filter((run) => run[metric].heat.some((column) => column.length)).map((run) => {
    const name = several ? `${title}: ${run.name}` : title;
    const draw = (width) => {
      const y = { min: edge(low), max: edge(high + 1), log: true, ticks: logTicks(edge(low), edge(high + 1)), label: tickTime };
      const chart = frame(width, Math.min(340, Math.max(240, width * 0.5)), name,
        'How many records had which latency, interval by interval.', timeScale(longest), y);
      const paths = Array.from({ length: HEAT_STEPS }, () => []);
      let cells = 0;
      run[metric].heat.forEach((column, at) => {
        const left = chart.sx(run.columns.start_s[at]);
        const right = chart.sx(run.columns.end_s[at]);
        for (let cell = 0; cell < column.length; cell += 2) {
          const row = Math.max(low, column[cell]);
          const [top, bottom] = [chart.sy(edge(row + 1)), chart.sy(edge(row))];
          // A hair more than the cell, or the ground shines through between them.
          paths[level(column[cell + 1])].push(`M${left.toFixed(1)} ${top.toFixed(1)}H${(right + 0.3).toFixed(1)}V${(bottom + 0.3).toFixed(1)}H${left.toFixed(1)}z`);
          cells += 1;
        }
      });
      paths.forEach((parts, step) => {
        if (parts.length) chart.root.append(svg('path', { d: parts.join(''), fill: `var(--heat-${step})` }));
      });
      chart.root.setAttribute('data-heat', metric);
      chart.root.setAttribute('data-cells', cells);
      drawInvalid(chart, run, 'var(--hatch)');
      hover(chart, width, run.columns.start_s.map((start, at) => (start + run.columns.end_s[at]) / 2), (s, px, py) => {
        const column = columnAt(run.columns, s);
        if (column < 0) return null;
        const part = (chart.bottom - py) / (chart.bottom - chart.top);
        const row = Math.floor(low + part * (high + 1 - low));
        const cells2 = run[metric].heat[column];
        let [here, all] = [0, 0];
        for (let cell = 0; cell < cells2.length; cell += 2) {
          if (Math.max(low, cells2[cell]) === row) here += cells2[cell + 1];
          all += cells2[cell + 1];
        }
        const rows = [];
        if (row >= low && row <= high) rows.push([`${time(edge(row))} to ${time(edge(row + 1))}`, `${count(here)} of ${count(all)}`]);
        rows.push(['p50', time(run[metric].p50[column])], ['p99', time(run[metric].p99[column])], ['max', time(run[metric].max[column])]);
        const stretch = invalidAt(run, s);
        if (stretch) rows.push(['invalid', stretch.why]);
        return { x: s, title: `${seconds(run.columns.start_s[column])} to ${seconds(run.columns.end_s[column])}`, rows };
      });
      return chart.root;
    };
    const keys = el('div', { class: 'scale' }, 'records in a cell: 1',
      svg('svg', { viewBox: '0 0 168 12', 'aria-hidden': 'true' }, Array.from({ length: HEAT_STEPS }, (_, step) =>
        svg('rect', { x: step * 14, width: 14.3, height: 12, fill: `var(--heat-${step})` }))), count(most));
    if (run.invalid.length) {
      const key = svg('svg', { class: 'key', viewBox: '0 0 24 12', 'aria-hidden': 'true' });
      key.append(svg('rect', { width: 24, height: 12, fill: hatch(key, 'var(--hatch)') }));
      keys.append(key, 'invalid: the generator was late, and nothing of it is counted');
    }
    return picture(name, null, draw, keys);
  });
}

// Stages.

const KINDS = [
  ['network', 'network', ['read', 'socket_write']],
  ['wait', 'waiting', ['admission_wait', 'queue', 'mesh_hop', 'write_queue', 'ack_wait', 'fetch_wait', 'reply_queue', 'replicate']],
  ['work', 'computing', ['decode', 'check', 'append', 'log_read', 'encode']],
  ['device', 'device', ['device_write', 'sync', 'device_read']],
  ['rest', 'other', []],
];
function kindOf(stage) {
  return (KINDS.find(([, , names]) => names.includes(stage)) || KINDS[KINDS.length - 1]);
}
// Stages in the order of the request's way, each with a colour of its kind, neighbours of a kind with another shade.
function painted(stages) {
  const seen = {};
  return stages.map((stage) => {
    const [kind, word] = kindOf(stage.name);
    seen[kind] = (seen[kind] || 0) + 1;
    return { ...stage, word, paint: `var(--kind-${kind}-${(seen[kind] - 1) % 2})` };
  });
}
const share = (part, whole) => (whole > 0 ? `${digits((100 * part) / whole)} %` : '–');

const totalsOf = (view) => view.start_s.map((_, at) => view.stages.reduce((sum, stage) => sum + stage.means[at], 0));

// `views` are those of the same kind in all runs: they share their scales.
function stackOverTime(run, view, stages, views) {
  const totals = totalsOf(view);
  const high = views.flatMap(totalsOf).reduce((a, b) => Math.max(a, b), 0) * 1.05;
  if (!(high > 0)) return null;
  const longest = Math.max(...views.map((each) => each.end_s[each.end_s.length - 1]));
  const name = `${view.kind} in the broker, mean of each stage${several ? `: ${run.name}` : ''}`;
  const draw = (width) => {
    const chart = frame(width, Math.min(320, Math.max(240, width * 0.5)), name, 'Mean time in each stage, stacked, interval by interval; the numbers are in the table of stages.',
      timeScale(longest), { min: 0, max: high, ticks: linearTicks(0, high, 5), label: tickTime });
    const below = totals.map(() => 0);
    for (const stage of stages) {
      const up = [];
      const down = [];
      stage.means.forEach((mean, at) => {
        const [from, to] = [chart.sx(view.start_s[at]).toFixed(1), chart.sx(view.end_s[at]).toFixed(1)];
        const [bottom, top] = [chart.sy(below[at]).toFixed(1), chart.sy(below[at] + mean).toFixed(1)];
        up.push(`${at ? 'L' : 'M'}${from} ${top}H${to}`);
        down.unshift(`L${to} ${bottom}H${from}`);
        below[at] += mean;
      });
      chart.root.append(svg('path', { d: `${up.join('')}${down.join('')}z`, fill: stage.paint, 'data-stage': stage.name }, svg('title', {}, stage.name)));
    }
    hover(chart, width, view.start_s.map((start, at) => (start + view.end_s[at]) / 2), (s) => {
      const at = columnAt(view, s);
      if (at < 0) return null;
      const rows = stages.filter((stage) => stage.means[at] > 0).map((stage) => [stage.name, `${time(stage.means[at])} · ${share(stage.means[at], totals[at])}`, stage.paint]).reverse();
      return { x: s, title: `${seconds(view.start_s[at])} to ${seconds(view.end_s[at])}: ${time(totals[at])}`, rows };
    });
    return chart.root;
  };
  return picture(name, 'Means add up to the whole; percentiles of stages do not, and are in the table.', draw);
}

function bars(name, note, rows) {
  // Each row: [label, [[part, ns, paint], …]].
  const most = Math.max(...rows.map(([, parts]) => parts.reduce((sum, part) => sum + part[1], 0)));
  if (!(most > 0)) return null;
  const draw = (width) => {
    const height = rows.length * 46 + 34;
    const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': name }, svg('title', {}, name));
    const sx = (ns) => 1 + (ns / most) * (width - 16);
    rows.forEach(([label, parts], at) => {
      const top = at * 46;
      root.append(svg('text', { class: 'strong', x: 0, y: top + 14 }, label));
      let left = 0;
      for (const [part, ns, paint] of parts) {
        if (!(ns > 0)) continue;
        const piece = svg('rect', { class: 'edge', x: sx(left), width: Math.max(0.5, sx(left + ns) - sx(left)), y: top + 19, height: 20, fill: paint, 'data-part': part });
        const whole = parts.reduce((sum, each) => sum + each[1], 0);
        piece.addEventListener('pointermove', (event) => showTip(event, label, [[part, `${time(ns)} · ${share(ns, whole)}`, paint]]));
        piece.addEventListener('pointerleave', hideTip);
        piece.append(svg('title', {}, `${part}: ${time(ns)}`));
        root.append(piece);
        left += ns;
      }
    });
    for (const tick of linearTicks(0, most, Math.max(2, Math.min(6, width / 110)))) {
      root.append(svg('line', { class: 'grid', x1: sx(tick), x2: sx(tick), y1: rows.length * 46, y2: rows.length * 46 + 5 }),
        svg('text', { x: sx(tick), y: height - 14, 'text-anchor': tick === 0 ? 'start' : sx(tick) > width - 30 ? 'end' : 'middle' }, tickTime(tick)));
    }
    return root;
  };
  return picture(name, note, draw);
}

const swatch = (paint) => el('span', { class: 'swatch', style: `background:${paint}` });

function stageTable(run, view, stages) {
  const whole = view.total ? view.total.mean_ns : stages.reduce((sum, stage) => sum + stage.latency.mean_ns, 0);
  const line = (name, latency, paint, word) => [
    [paint ? swatch(paint) : null, name], el('td', { class: 'word' }, word), time(latency.mean_ns), share(latency.mean_ns, whole),
    ...['p50_ns', 'p99_ns', 'p99_9_ns', 'max_ns'].map((field) => latencyCell(latency, field))];
  const rows = stages.map((stage) => line(stage.name, stage.latency, stage.paint, stage.word));
  if (view.unaccounted) rows.push(line('unaccounted', view.unaccounted, null, 'in no stage'));
  if (view.total) rows.push(line('total', view.total, null, `${count(view.total.count)} requests`));
  return table(`${view.kind} in the broker${several ? `: ${run.name}` : ''}`,
    ['stage', 'kind', 'mean', 'of the whole', 'p50', 'p99', 'p99.9', 'max'], rows, { 'data-table': `stages-${view.kind}` });
}

// The means of several runs, next to each other.
function stageComparison(kind, of) {
  const names = [...new Set(of.flatMap(([, view]) => view.stages.map((stage) => stage.name)))];
  const line = (name, pick) => {
    const means = of.map(([, view]) => pick(view)).map((latency) => (latency ? latency.mean_ns : null));
    return [name, ...means.map((mean, at) => (at > 0 && mean && means[0] ? el('td', {}, time(mean), el('small', {}, times(mean / means[0]))) : time(mean)))];
  };
  const rows = names.map((name) => line(name, (view) => (view.stages.find((stage) => stage.name === name) || {}).latency));
  rows.push(line('unaccounted', (view) => view.unaccounted), line('total', (view) => view.total));
  return table(`${kind} in the broker: means`, ['stage', ...of.map(([run]) => run.name)], rows, { 'data-table': `stages-${kind}-means` });
}

const PARTS = {
  'generator late': 'var(--kind-rest-0)', client: 'var(--kind-wait-0)', network: 'var(--kind-network-0)',
  'client and network': 'var(--kind-network-0)', broker: 'var(--kind-work-0)',
};
// Of the mean record's latency. Runs of older programs do not tell what waited in the client.
function splitOf({ produce, client }, late, broker) {
  if (client.requests > 0 && client.request_ns > 0) {
    const rest = Math.max(0, produce.mean_ns - client.wait_ns);
    const share = Math.min(1, broker / client.request_ns);
    const waited = Math.max(0, client.wait_ns - late);
    return [['generator late', Math.min(late, client.wait_ns)], ['client', waited], ['network', rest * (1 - share)], ['broker', rest * share]];
  }
  const rest = produce.mean_ns - late - broker;
  return rest < 0 ? null : [['generator late', late], ['client and network', rest], ['broker', broker]];
}

function stageSection(section) {
  const withStages = runs.filter((run) => run.stages.Ok);
  const split = [];
  for (const run of withStages) {
    const view = run.stages.Ok.find((each) => each.kind === 'produce' && each.total);
    if (!view || !run.summary.produce.count) continue;
    const late = run.summary.lateness.mean_ns;
    const read = view.stages.filter((stage) => kindOf(stage.name)[0] === 'network').reduce((sum, stage) => sum + stage.latency.mean_ns, 0);
    const broker = Math.max(0, view.total.mean_ns - read);
    const parts = splitOf(run.summary, late, broker);
    if (!parts) {
      section.append(el('p', { class: 'note' }, `${run.name}: the broker's mean request takes longer than the client's mean record, so the client's time cannot be split. Large batches do that: the broker counts requests, the client records.`));
      continue;
    }
    split.push([`${run.name}: ${time(run.summary.produce.mean_ns)}`, parts.map(([name, value]) => [name, value, PARTS[name]])]);
  }
  if (split.length) {
    const figure = bars('Where the mean record’s time went: client, network, broker',
      'Client: until the record’s request was sent, the wait for a batch to fill included. The rest is shared out as the mean request’s time is: the broker’s stages but for the socket’s, and what lies between it and the client.', split);
    if (figure) {
      const used = Object.keys(PARTS).filter((name) => split.some(([, parts]) => parts.some(([part]) => part === name)));
      figure.append(el('ul', { class: 'legend' }, used.map((name) => el('li', {}, swatch(PARTS[name]), name))));
      section.append(figure);
    }
  }
  const figures = el('div', { class: 'figures' });
  const tables = el('div', { class: 'tables' });
  for (const kind of [...new Set(withStages.flatMap((run) => run.stages.Ok.map((view) => view.kind)))]) {
    const of = withStages.map((run) => [run, run.stages.Ok.find((view) => view.kind === kind)]).filter(([, view]) => view);
    const views = of.map(([, view]) => view);
    figures.append(...of.map(([run, view]) => stackOverTime(run, view, painted(view.stages), views)).filter(Boolean));
    const whole = of.map(([run, view]) => stageTable(run, view, painted(view.stages)));
    if (of.length > 1) tables.append(stageComparison(kind, of), folded(`${kind}: all percentiles of the stages`, whole));
    else tables.append(...whole);
  }
  section.append(figures, tables);
  for (const run of runs.filter((each) => !each.stages.Ok)) {
    section.append(el('p', { class: 'note' }, several ? `${run.name}: ${run.stages.Err}` : run.stages.Err));
  }
}

// Tables. A cell is a text, a node, or a list of them; the first of a row is its head.

function table(caption, heads, rows, attributes, marks) {
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption }, el('table', attributes,
    el('caption', {}, caption),
    el('thead', {}, el('tr', {}, heads.map((head) => el('th', { scope: 'col', class: head === 'kind' ? 'word' : null }, head)))),
    el('tbody', {}, rows.map((row, at) => el('tr', { class: marks && marks[at] }, row.map((cell, column) => {
      if (column === 0) return el('th', { scope: 'row' }, cell);
      return cell instanceof Element && cell.tagName === 'TD' ? cell : el('td', {}, cell);
    }))))));
}

const folded = (summary, ...content) => el('details', {}, el('summary', {}, summary), ...content);

const LATENCIES = [
  ['records', 'count'], ['min', 'min_ns'], ['mean', 'mean_ns'], ['p50', 'p50_ns'], ['p90', 'p90_ns'], ['p99', 'p99_ns'],
  ['p99.9', 'p99_9_ns'], ['p99.99', 'p99_99_ns'], ['p99.999', 'p99_999_ns'], ['max', 'max_ns'],
];
// A percentile that fewer values than its nines need is the maximum by another name.
const NEEDS = { p99_9_ns: 1e3, p99_99_ns: 1e4, p99_999_ns: 1e5 };
function latencyCell(latency, field) {
  if (!latency.count) return '–';
  if (field === 'count') return count(latency.count);
  if (latency.count < (NEEDS[field] || 0)) return el('span', { title: `fewer than ${count(NEEDS[field])} values` }, '–');
  return latencyTime(latency[field]);
}
function latencyTables() {
  const metrics = [['produce', 'produce'], ['e2e', 'end to end'], ['lateness', 'generator’s lateness'], ['connect', 'connect'],
    ['metadata', 'metadata'], ['join', 'joining a group'], ['commit', 'commit of offsets']]
    .filter(([metric]) => runs.some((run) => run.summary[metric].count));
  if (!several) {
    const summary = runs[0].summary;
    return [table('Latency', ['', ...metrics.map(([, name]) => name)], LATENCIES.map(([name, field]) =>
      [name === 'records' ? 'values' : name, ...metrics.map(([metric]) => latencyCell(summary[metric], field))]), { 'data-table': 'latency' })];
  }
  const tables = metrics.map(([metric, title]) =>
    table(`Latency: ${title}`, ['', ...runs.map((run) => run.name)], LATENCIES.map(([name, field]) =>
      [name === 'records' ? 'values' : name, ...runs.map((run, at) => {
        const first = runs[0].summary[metric];
        const cell = latencyCell(run.summary[metric], field);
        const isRatio = at > 0 && field !== 'count' && typeof cell === 'string' && cell !== '–' && first[field] > 0;
        return isRatio ? el('td', {}, cell, el('small', {}, times(run.summary[metric][field] / first[field]))) : cell;
      })]), { 'data-table': `latency-${metric}` }));
  // Of the generator and of connecting one wants to know when something is wrong.
  const main = runs.some((run) => run.summary.produce.count) + runs.some((run) => run.summary.e2e.count);
  const rest = tables.slice(main);
  return [el('div', { class: 'tables' }, tables.slice(0, main)), rest.length ? folded('The generator’s lateness, connecting, metadata, groups', el('div', { class: 'tables' }, rest)) : null];
}
function writeAmplification({ writes, write_amplification: ratio }) {
  if (ratio === null) return 'not readable';
  const size = (value) => `${short(value)}B`;
  const parts = `${size(writes.device_bytes)} to devices (${size(writes.journal_bytes)} to journals, ${size(writes.segment_bytes)} to segments) for ${size(writes.appended_bytes)} of records`;
  return el('span', { title: parts }, ratio.toFixed(2));
}
function countTable() {
  const counts = [['sent', 'sent'], ['acknowledged', 'acked'], ['received', 'received'], ['lost', 'lost'], ['errors', 'errors'],
    ['retried requests', 'retries'], ['duplicates', 'duplicates'], ['out of order', 'reordered']];
  const ofGroups = [['commits', 'commits'], ['refused commits', 'commits_refused'], ['rebalances of members', 'rebalances']];
  if (runs.some((run) => run.summary.totals.commits)) counts.push(...ofGroups);
  // A histogram log alone tells nothing of this.
  const line = (name, pick) => [name, ...runs.map((run) => (run.known ? pick(run) : '–'))];
  const always = (name, pick) => [name, ...runs.map(pick)];
  const rows = [
    always('begun, UTC', (run) => (run.summary.started_wall_ms > 0 ? new Date(run.summary.started_wall_ms).toISOString().replace('T', ' ').slice(0, 19) : '–')),
    always('valid intervals', (run) => `${count(run.summary.intervals_valid)} of ${count(run.summary.intervals_valid + run.summary.intervals_invalid)}`),
    always('measured', (run) => seconds(run.summary.measured_s)),
    line('mode', (run) => (run.summary.mode === 'closed-loop' ? 'closed loop' : 'open loop')),
    line('acknowledged a second', (run) => rate(run.summary.throughput.acked_records)),
    line('bytes acknowledged', (run) => bytes(run.summary.throughput.acked_bytes)),
    line('received a second', (run) => rate(run.summary.throughput.received_records)),
    line('bytes received', (run) => bytes(run.summary.throughput.received_bytes)),
    line('write amplification', (run) => writeAmplification(run.summary)),
    ...counts.map(([name, field]) => line(name, (run) =>
      el('td', { class: ['lost', 'errors'].includes(field) && run.summary.totals[field] ? 'lost' : null }, count(run.summary.totals[field])))),
  ];
  return table('Counts, with warm-up and drain; rates of the valid intervals', ['', ...runs.map((run) => run.name)], rows, { 'data-table': 'counts' });
}

const TOPICS_SHOWN = 20;
function topicTables() {
  const columns = [['sent', 'sent'], ['received', 'received'], ['lost', 'lost'], ['errors', 'errors'],
    ['duplicates', 'duplicates'], ['out of order', 'reordered']];
  const trouble = (topic) => topic.lost * 1e6 + topic.errors + topic.duplicates + topic.reordered;
  const tables = runs.filter((run) => run.summary.topics.length > 1).map((run) => {
    const { topics } = run.summary;
    const shown = [...topics].sort((a, b) => trouble(b) - trouble(a)).slice(0, TOPICS_SHOWN);
    const partitions = `of ${count(topics[0].partitions)} ${topics[0].partitions === 1 ? 'partition' : 'partitions'}`;
    const title = `${runs.length > 1 ? `${run.name}: ` : ''}${count(topics.length)} topics ${partitions}${shown.length < topics.length ? `, ${TOPICS_SHOWN} of them` : ''}`;
    const rows = shown.map((topic) => [topic.name, ...columns.map(([, field]) =>
      el('td', { class: ['lost', 'errors'].includes(field) && topic[field] ? 'lost' : null }, count(topic[field])))]);
    return table(title, ['', ...columns.map(([name]) => name)], rows, { 'data-table': 'topics' });
  });
  return tables.length ? folded('Topic by topic', el('div', { class: 'tables' }, tables)) : null;
}

// What `compare` makes of the runs.

const VERDICTS = { faster: 'faster', slower: 'slower', not_told_apart: 'not told apart', none: 'no verdict' };
function valueText(unit, value) {
  return unit === 'nanoseconds' ? latencyTime(value) : unit === 'bytes_per_second' ? bytes(value) : rate(value);
}
function verdictCell(unit, value, against) {
  const range = against.low !== null && against.high !== null ? `${against.low.toFixed(3)} to ${against.high.toFixed(3)}` : against.why;
  return el('td', { class: `verdict ${against.verdict}` }, `${VERDICTS[against.verdict]} `,
    el('small', {}, `${valueText(unit, value)}${against.ratio === null ? '' : ` · ${times(against.ratio)}`}`), range ? el('small', {}, range) : null);
}
function verdicts(section) {
  if (data.comparison.Err) {
    section.append(el('p', { class: 'alert warn lines' }, `There are no verdicts: ${data.comparison.Err}`));
    return;
  }
  const { names, unnamed, notes, metrics } = data.comparison.Ok;
  if (unnamed.length) section.append(el('p', { class: 'alert warn' }, `The runs differ in more than was said to differ (--differs), and any of it may be the reason for what is told here: ${unnamed.map((each) => each.name).join(', ')}.`));
  for (const note of notes) section.append(el('p', { class: 'note' }, note));
  section.append(el('p', { class: 'note' }, `Each run against ${names[0]}, with the 95 % confidence interval of the ratio. Runs are not told apart where the interval holds 1.`),
    el('div', { class: 'tables' }, metrics.map((metric) => table(metric.name, ['', ...names], metric.rows.map((row) =>
      [row.name, valueText(metric.unit, row.values[0]), ...row.against.map((against, at) => verdictCell(metric.unit, row.values[at + 1], against))]),
    { 'data-table': `verdicts-${metric.name}` }))));
}

// Names and values of each run. Where several runs differ comes first, what they share can be opened.
function facts(section, caption, pick, id) {
  const names = [...new Set(runs.flatMap((run) => pick(run).map(([name]) => name)))];
  if (!names.length) return false;
  const maps = runs.map((run) => new Map(pick(run)));
  const row = (name) => [name, ...maps.map((map) => (map.has(name) ? map.get(name) : '–'))];
  const heads = ['', ...runs.map((run) => run.name)];
  if (!several) {
    section.append(table(caption, ['', 'value'], names.map(row), { class: 'words', 'data-table': id }));
    return true;
  }
  const differ = names.filter((name) => maps.some((map) => map.get(name) !== maps[0].get(name)));
  const same = names.filter((name) => !differ.includes(name));
  if (differ.length) section.append(table(`${caption}: different`, heads, differ.map(row), { class: 'words', 'data-table': `${id}-differs` }, differ.map(() => 'differs')));
  else section.append(el('p', {}, `${caption}: the same in all runs.`));
  if (same.length) {
    section.append(folded(`${caption}: ${same.length} the same`,
      table(`${caption}: the same`, ['', 'all runs'], same.map((name) => [name, maps[0].get(name)]), { class: 'words', 'data-table': `${id}-same` })));
  }
  return true;
}

// The page.

function section(id, title) {
  const node = el('section', { id }, el('h2', {}, title));
  page.append(node);
  return node;
}

function head() {
  const top = document.getElementById('top');
  const names = runs.map((run) => run.name);
  const lost = runs.filter((run) => run.summary.totals.lost);
  document.title = `${lost.length ? 'LOST RECORDS · ' : ''}${names.join(', ')} · corelog report`;
  for (const run of lost) {
    top.append(el('p', { class: 'alert bad', role: 'alert' }, `${run.name} LOST ${count(run.summary.totals.lost)} acknowledged ${run.summary.totals.lost === 1 ? 'record' : 'records'}. Whatever else it shows, it shows a broker that broke its word.`));
  }
  top.append(el('h1', {}, names.join(' · ')));
  top.append(el('p', { class: 'soft' }, `${several ? `${runs.length} runs` : 'a run'}, drawn by corelog ${data.corelog}`));
  for (const run of runs) {
    const { totals, intervals_valid: valid, intervals_invalid: invalid } = run.summary;
    const say = (kind, text) => top.append(el('p', { class: `alert ${kind}` }, several ? `${run.name}: ${text}` : text));
    if (totals.errors) say('bad', `${count(totals.errors)} records were refused, or nobody knows what became of them.`);
    if (!valid) say('bad', invalid ? 'No interval is valid: the generator could not keep up, and this run says nothing about the broker.' : 'The run has no intervals: nothing was measured.');
    else if (invalid) say('warn', `${count(invalid)} of ${count(valid + invalid)} intervals are invalid: the generator was late in them. They are hatched, and no number counts them.`);
    const disturbed = run.columns.rebalances.filter((members) => members > 0).length;
    if (totals.rebalances) say('warn', `Rebalances took or changed the partitions of group members ${count(totals.rebalances)} times, in ${count(disturbed)} of ${count(run.columns.rebalances.length)} columns of time: end to end is longer there, and the pictures over time say where.`);
    if (run.summary.mode === 'closed-loop') say('warn', 'Closed loop: a request waits for the one before, so a stall of the broker hides the requests it held up. Compare throughput, not tails.');
    for (const note of run.notes) say('warn', note);
  }
  if (several) return;
  const { summary } = runs[0];
  const tiles = [
    ['acknowledged', runs[0].known && rate(summary.throughput.acked_records)], ['bytes', runs[0].known && bytes(summary.throughput.acked_bytes)],
    ['produce p50', summary.produce.count && time(summary.produce.p50_ns)], ['produce p99', summary.produce.count && time(summary.produce.p99_ns)],
    ['produce max', summary.produce.count && time(summary.produce.max_ns)], ['end to end p99', summary.e2e.count && time(summary.e2e.p99_ns)],
    ['lost records', runs[0].known && count(summary.totals.lost)],
  ];
  top.append(el('dl', { class: 'tiles' }, tiles.filter(([, text]) => text).map(([name, text]) => el('div', { class: 'tile' }, el('dt', {}, name), el('dd', {}, text)))));
}

function contents() {
  const links = [...page.querySelectorAll('section')].map((node) => el('li', {}, el('a', { href: `#${node.id}` }, node.querySelector('h2').textContent)));
  document.getElementById('top').append(el('nav', { 'aria-label': 'Contents' }, el('ul', {}, links)));
}

function build() {
  head();
  const latency = section('latency', 'Latency');
  const shapes = [curves('produce', 'Produce, from the intended sending to the acknowledgement'), curves('e2e', 'End to end, from the intended sending to the consumer')].filter(Boolean);
  if (shapes.length) {
    const button = el('button', { type: 'button', 'aria-pressed': 'false' }, 'linear time');
    button.addEventListener('click', () => {
      curvesLog = !curvesLog;
      button.setAttribute('aria-pressed', String(!curvesLog));
      shapes.forEach((figure) => figure.redraw());
    });
    latency.append(el('div', { class: 'controls' }, button), el('div', { class: 'figures' }, shapes));
  } else {
    latency.append(el('p', {}, 'No latency was measured.'));
  }
  latency.append(...latencyTables().filter(Boolean));

  if (data.comparison) verdicts(section('verdicts', 'Verdicts'));

  const overview = section('counts', 'Records and throughput');
  overview.append(el('div', { class: 'figures' },
    overTime('Acknowledged records a second', null, (run) => run.columns.acked, rate, short, false, (run, at) => [['sent', rate(run.columns.sent[at])], ['bytes', bytes(run.columns.acked_bytes[at])]]),
    overTime('Received records a second', null, (run) => run.columns.received, rate, short, false, (run, at) => [['bytes', bytes(run.columns.received_bytes[at])]])));
  overview.append(countTable());
  const topics = topicTables();
  if (topics) overview.append(topics);
  for (const run of runs.filter((each) => each.summary.complaints.length)) {
    overview.append(table(several ? `What went wrong: ${run.name}` : 'What went wrong', ['message', 'times'], run.summary.complaints.map(([message, n]) => [message, count(n)]), { 'data-table': 'complaints' }));
  }

  const maps = [...heat('produce', 'Produce'), ...heat('e2e', 'End to end')];
  if (maps.length) {
    section('time', 'Latency over time').append(el('div', { class: 'figures' }, maps,
      overTime('Produce p99', null, (run) => run.produce.p99, time, tickTime, true, (run, at) => [['p50', time(run.produce.p50[at])], ['max', time(run.produce.max[at])]]),
      overTime('End to end p99', null, (run) => run.e2e.p99, time, tickTime, true, (run, at) => [['p50', time(run.e2e.p50[at])], ['max', time(run.e2e.max[at])]])));
  }
  stageSection(section('stages', 'Stages in the broker'));

  const asked = section('workload', several ? 'Workloads' : 'Workload');
  const known = facts(asked, 'Workload', (run) => (run.known ? [...run.workload, ['seed', String(run.summary.seed)]] : []), 'workload');
  if (!known) asked.append(el('p', {}, 'Nothing is known of the workload.'));
  for (const run of runs.filter((each) => each.command)) asked.append(el('pre', {}, run.command));
  const around2 = section('environment', several ? 'Environments' : 'Environment');
  const machine = facts(around2, 'Machine', (run) => run.machine, 'machine');
  const broker = facts(around2, 'Broker', (run) => run.broker, 'broker');
  if (!machine && !broker) around2.append(el('p', {}, 'Nothing is known of the machine and the broker.'));
  if (runs.some((run) => run.configs.length)) {
    const place = several ? around2 : folded(`Broker settings: ${runs[0].configs.length}`);
    facts(place, 'Broker settings', (run) => run.configs, 'configs');
    if (!several) around2.append(place);
  }
  contents();
  drawAll();
}

build();
let waiting = 0;
addEventListener('resize', () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 100); });
// Paper shows all that is folded away.
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach((node) => { node.open = true; }));
})();
