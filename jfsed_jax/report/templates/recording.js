// The page of a recording. What it shows comes from #data and is written by textContent alone.
(async () => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { seconds, rate, count, titles } = data;
  const audio = $("audio");
  const heard = data.onsets.map((onset, i) => ({
    onset, offset: data.offsets[i], label: data.labels[i], mean: data.means[i], maximum: data.maxima[i],
  }));
  const levels = await unpack(data.posteriors);
  // What can be heard: excerpts, whose sound stands in the static list, or the whole.
  const kept = [...document.querySelectorAll("#excerpts audio")].map((element) => element.src);
  const sounds = data.excerpts
    ? data.excerpts.map(([from, to], i) => ({ from, to, source: kept[i] }))
    : [{ from: 0, to: Infinity }].filter(() => audio);
  const shown = titles.map(() => true);
  const PER_PAGE = 100;
  const SPANS = [10, 30, 120, 600].filter((span) => span < seconds);
  let events = heard; // of the command, or of the thresholds that are tried
  let tried = null; // thresholds, or null
  let listed = []; // events of shown classes, in the order of the list
  let now = 0, start = 0, page = 0, selected = null;
  let sound = null; // of `sounds`, the one under the cursor, which the player holds
  if (SPANS.length < 4) SPANS.push(seconds);
  let span = SPANS[Math.min(1, SPANS.length - 1)];

  // Parts

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function bytes(text) {
    const raw = atob(text), array = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) array[i] = raw.charCodeAt(i);
    return array;
  }

  // [C, T'] in 0 to 255, a class after the other; null where the browser cannot inflate.
  async function unpack(text) {
    try {
      const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    } catch {
      return null;
    }
  }

  function clock(time, decimals = 1) {
    const unit = 10 ** decimals, parts = Math.floor(time * unit + 0.5);
    const pad = (value) => String(value).padStart(2, "0");
    const whole = Math.floor(parts / unit);
    const end = decimals ? "." + String(parts % unit).padStart(decimals, "0") : "";
    return `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}${end}`;
  }

  const clamp = (value, low, high) => Math.max(low, Math.min(value, high));
  const figure = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A canvas as sharp as the screen, empty: its context and its size in CSS pixels.
  function clear(canvas) {
    const { width, height } = canvas.getBoundingClientRect();
    const scale = Math.min(devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    return { context, width, height };
  }

  function track(kind, described) {
    const canvas = make("canvas", { role: "img" });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", described);
    return make("div", { className: `track ${kind}` }, canvas);
  }

  // The rows of the overview with their ticks, the lanes of the window

  const overview = $("overview"), view = $("window");
  const rows = titles.map((title, c) => {
    const tick = make("input", { type: "checkbox", checked: true });
    const number = make("small");
    const label = make("label", { className: "lane" }, tick, make("span", { textContent: title }), number);
    const row = track("", `${title}: how much of the time it is heard`);
    overview.append(label, row);
    tick.addEventListener("change", () => { shown[c] = tick.checked; refresh(); });
    row.addEventListener("click", (event) => {
      seek(seconds * share(event, row));
      position.focus({ preventScroll: true });
    });
    return { tick, number, label, row, canvas: row.firstChild };
  });
  const position = make("input", { type: "range", id: "position", min: 0, max: seconds, step: 0.1, value: 0 });
  position.setAttribute("aria-label", "Position in the recording");
  overview.append(make("span", { className: "lane position", textContent: "position" }), position);

  const lanes = [];
  if (data.pictures.length) {
    const name = make("span", { className: "lane" }, "log-mel", make("small", { textContent: " kHz" }));
    const row = track("mel", "Log-mel of the window");
    view.append(name, row);
    lanes.push({ row, name, draw: drawMel, shown: () => true, canvas: row.firstChild });
  }
  titles.forEach((title, c) => {
    const name = make("span", { className: "lane", textContent: title });
    const row = track("", "");
    view.append(name, row);
    lanes.push({ row, name, draw: drawLane, label: c, shown: () => shown[c], canvas: row.firstChild });
  });
  if (data.excerpts) {
    const name = make("span", { className: "lane", textContent: "sound in this page" });
    const row = track("sound", "");
    view.append(name, row);
    lanes.push({ row, name, draw: drawSound, shown: () => true, canvas: row.firstChild });
  }
  const axis = make("div", { className: "time" });
  view.append(make("span", { className: "lane seconds", textContent: "time" }), axis);
  for (const { row } of lanes) {
    row.addEventListener("click", (event) => {
      seek(start + span * share(event, row));
      position.focus({ preventScroll: true });
    });
  }

  // Drawing

  const pictures = new Map(); // minute to image; the latest few
  function picture(minute) {
    if (!pictures.has(minute)) {
      const image = make("img", { src: `data:image/png;base64,${data.pictures[minute]}` });
      image.decode().then(drawWindow, () => {});
      pictures.set(minute, image);
      if (pictures.size > 30) pictures.delete(pictures.keys().next().value);
    }
    return pictures.get(minute);
  }

  function drawMel({ context, width, height }) {
    const each = data.pictureSeconds, last = Math.min(data.pictures.length, Math.ceil((start + span) / each));
    for (let minute = Math.floor(start / each); minute < last; minute++) {
      const image = picture(minute);
      if (!image.complete || !image.naturalWidth) continue;
      const left = ((minute * each - start) / span) * width;
      const lasts = minute < data.pictures.length - 1 ? each : data.lastSeconds;
      const wide = (lasts / span) * width;
      context.drawImage(image, left, 0, wide + 0.5, height);
    }
    const bands = data.bandHz.length;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    let free = height;
    for (const hz of [125, 250, 500, 1000, 2000, 4000, 8000, 16000]) {
      const above = data.bandHz.findIndex((centre) => centre >= hz);
      if (above < 1) continue;
      const low = data.bandHz[above - 1], band = above - (data.bandHz[above] - hz) / (data.bandHz[above] - low);
      const y = height * (1 - (band + 0.5) / bands);
      if (y < 7 || y > free - 14) continue;
      free = y;
      context.fillStyle = "#fff";
      context.strokeStyle = "#000";
      context.lineWidth = 3;
      context.fillRect(0, y - 0.5, 5, 1);
      context.strokeText(String(hz / 1000), 8, y);
      context.fillText(String(hz / 1000), 8, y);
    }
  }

  function drawLane({ context, width, height }, { label, canvas }) {
    const x = (time) => ((time - start) / span) * width;
    if (levels) {
      const first = label * count;
      context.fillStyle = colour("--area");
      context.beginPath();
      context.moveTo(0, height);
      // At most a step for each pixel; of the values in it, the largest.
      const each = Math.max(1, Math.floor((span * rate) / width));
      for (let t = Math.floor(start * rate); t < Math.min(count, (start + span) * rate); t += each) {
        let largest = 0;
        for (let i = t; i < Math.min(count, t + each); i++) largest = Math.max(largest, levels[first + i]);
        const y = height * (1 - largest / 255);
        context.lineTo(x(t / rate), y);
        context.lineTo(x(Math.min(count, t + each) / rate), y);
      }
      context.lineTo(x(Math.min(count / rate, start + span)), height);
      context.fill();
    }
    const threshold = data.thresholds && (tried || data.thresholds)[label];
    if (threshold !== null) {
      context.strokeStyle = colour("--soft");
      context.setLineDash([4, 3]);
      context.beginPath();
      context.moveTo(0, height * (1 - threshold));
      context.lineTo(width, height * (1 - threshold));
      context.stroke();
    }
    const inside = events.filter((e) => e.label === label && e.offset > start && e.onset < start + span);
    for (const event of inside) {
      const left = x(event.onset), wide = Math.max(2, x(event.offset) - left);
      if (event === selected) {
        context.fillStyle = colour("--wash");
        context.fillRect(left, 0, wide, height);
      }
      context.fillStyle = colour(tried ? "--green" : "--orange");
      context.fillRect(left, 4, wide, event === selected ? 10 : 7);
    }
    describe(canvas, titles[label], inside.map((e) => [e.onset, e.offset]));
  }

  function describe(canvas, what, found) {
    const spans = found.slice(0, 20).map(([from, to]) => `${clock(from)} to ${clock(to)}`);
    if (found.length > 20) spans.push(`and ${found.length - 20} more`);
    canvas.setAttribute("aria-label", `${what} in the window: ${spans.join(", ") || "none"}`);
  }

  function drawSound({ context, width, height }, { canvas }) {
    const inside = data.excerpts.filter(([from, to]) => to > start && from < start + span);
    context.fillStyle = colour("--blue");
    for (const [from, to] of inside) {
      context.fillRect(((from - start) / span) * width, 4, Math.max(2, ((to - from) / span) * width), height - 8);
    }
    describe(canvas, "Sound", inside);
  }

  function drawWindow() {
    for (const lane of lanes) {
      lane.row.hidden = lane.name.hidden = !lane.shown();
      if (lane.shown()) lane.draw(clear(lane.canvas), lane);
    }
    drawAxis();
    paint();
  }

  function drawAxis() {
    const fit = Math.max(2, Math.floor(axis.clientWidth / 100));
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((s) => span / s <= fit) || 7200;
    const end = start + span, labels = [];
    for (let t = Math.ceil(start / step) * step; t <= end - 0.9 * step; t += step) labels.push(t);
    labels.push(end);
    axis.replaceChildren(...labels.map((time) => {
      const whole = Math.abs(time - Math.round(time)) < 0.05;
      const text = make("span", { textContent: clock(time, whole ? 0 : 1) });
      text.style.left = `${(100 * (time - start)) / span}%`;
      if (time === end) text.className = "last";
      else if ((time - start) / span < 0.04) text.className = "first";
      return text;
    }));
  }

  // How much of the time that two pixels stand for each class is heard; the most is darkest.
  function drawOverview() {
    const wide = 2, length = Math.max(1, Math.floor(rows[0].row.clientWidth / wide));
    const scale = length / seconds;
    const totals = titles.map(() => 0), bins = titles.map(() => new Float64Array(length));
    for (const { label, onset, offset } of events) {
      totals[label] += 1;
      const from = clamp(onset * scale, 0, length), to = clamp(offset * scale, from, length);
      for (let bin = Math.floor(from); bin < to; bin++) {
        bins[label][bin] += Math.min(to, bin + 1) - Math.max(from, bin);
      }
    }
    const most = bins.reduce((m, row, c) => (shown[c] ? row.reduce((a, b) => Math.max(a, b), m) : m), 1e-9);
    rows.forEach(({ number, canvas, row }, c) => {
      number.textContent = figure(totals[c]);
      const { context, height } = clear(canvas);
      context.fillStyle = colour(tried ? "--green" : "--orange");
      bins[c].forEach((part, bin) => {
        if (!part || !shown[c]) return;
        context.globalAlpha = 0.2 + 0.8 * Math.min(1, part / most);
        context.fillRect(wide * bin, 0, wide, height);
      });
      row.classList.toggle("left-out", !shown[c]);
    });
  }

  // What moves as the sound plays.
  function paint() {
    const at = (100 * (now - start)) / span;
    view.style.setProperty("--at", at >= 0 && at <= 100 ? `${at}%` : "-10px");
    overview.style.setProperty("--at", `${(100 * now) / seconds}%`);
    overview.style.setProperty("--from", `${(100 * start) / seconds}%`);
    overview.style.setProperty("--wide", `${(100 * span) / seconds}%`);
    position.value = now;
    position.setAttribute("aria-valuetext", `${clock(now)} of ${clock(seconds)}`);
    $("time").textContent = `${clock(now)} of ${clock(seconds)}`;
  }

  // Time

  function look(from) {
    const before = start;
    start = clamp(from, 0, Math.max(0, seconds - span));
    if (start !== before) drawWindow();
    $("earlier").disabled = start <= 0;
    $("later").disabled = start >= seconds - span;
  }

  function show(time) {
    if (time < start || time > start + span) look(time - 0.1 * span);
  }

  function seek(time, event = null) {
    now = clamp(time, 0, seconds);
    place();
    $("status").textContent = silence();
    if (selected !== event) {
      selected = event;
      drawWindow();
    }
    show(now);
    if (event && event.offset > start + span) look(event.onset - 0.1 * span);
    mark();
    paint();
  }

  // Sound: the player stands where the cursor stands, or rests where there is none.

  const soundAt = (time) => sounds.find(({ from, to }) => time >= from && time <= to) || null;

  function place() {
    const plays = audio && !audio.paused, before = sound;
    sound = soundAt(now);
    if (!sound) {
      if (plays) audio.pause();
      return;
    }
    if (sound.source && (sound !== before || !audio.src)) audio.src = sound.source;
    audio.currentTime = now - sound.from;
    if (plays) resume();
  }

  function silence() {
    return data.excerpts && !sound ? "The sound of this moment is not in this page." : "";
  }

  // Whether it is in an excerpt as the note of the page counts it (excerpts.py); times are rounded.
  function hasSound({ onset, offset }) {
    const end = Math.min(offset, onset + data.longest) - 2e-3;
    return sounds.some(({ from, to }) => from <= onset + 2e-3 && end <= to);
  }

  function moved() {
    if (!sound || audio.readyState < 1) return;
    const inside = now >= start && now <= start + span;
    now = clamp(sound.from + audio.currentTime, 0, seconds);
    if (inside) show(now);
    paint();
  }

  function play() {
    if (!audio) return;
    if (!sound) $("status").textContent = silence();
    else if (audio.paused) resume();
    else audio.pause();
  }

  function resume() {
    // Another sound or a pause that comes before it began ends a start, too.
    audio.play().catch(({ name }) => { if (name !== "AbortError") unplayable(); });
  }

  function unplayable() {
    $("status").textContent = audio.src.startsWith("data:") ? "This browser cannot play the sound of this page."
      : "The audio cannot be played: is it where it was, beside this page?";
  }

  if (audio) {
    follow(audio, moved);
    audio.addEventListener("error", unplayable);
    if (audio.error) unplayable();
    for (const name of ["play", "pause", "ended"]) {
      audio.addEventListener(name, () => { $("play").textContent = audio.paused ? "Play" : "Pause"; });
    }
    $("play").addEventListener("click", play);
    place();
  }
  position.addEventListener("input", () => seek(Number(position.value)));

  function zoom(to) {
    const middle = now >= start && now <= start + span ? (now - start) / span : 0.5;
    const held = start + middle * span;
    span = to;
    start = -1; // so that the window is drawn
    look(held - middle * span);
    for (const button of $("zoom").children) {
      button.setAttribute("aria-pressed", String(Number(button.value) === span));
    }
  }

  for (const length of SPANS) {
    const text = length === seconds ? "all" : length < 60 ? `${length} s` : `${length / 60} min`;
    const button = make("button", { type: "button", value: length, textContent: text });
    button.addEventListener("click", () => zoom(length));
    $("zoom").append(button);
  }
  $("earlier").addEventListener("click", () => look(start - 0.9 * span));
  $("later").addEventListener("click", () => look(start + 0.9 * span));

  // The list

  const ORDERS = {
    time: (a, b) => a.onset - b.onset,
    confident: (a, b) => b.mean - a.mean || a.onset - b.onset,
    doubtful: (a, b) => a.mean - b.mean || a.onset - b.onset,
    long: (a, b) => b.offset - b.onset - (a.offset - a.onset) || a.onset - b.onset,
  };

  // Everything that hangs on the classes shown and on the events.
  function refresh() {
    listed = events.filter((event) => shown[event.label]).sort(ORDERS[$("order").value]);
    if (!listed.includes(selected)) selected = null;
    const at = listed.indexOf(selected);
    page = at < 0 ? 0 : Math.floor(at / PER_PAGE);
    drawOverview();
    drawWindow();
    fill();
  }

  function fill() {
    const first = page * PER_PAGE, pages = Math.ceil(listed.length / PER_PAGE);
    $("list").replaceChildren(...listed.slice(first, first + PER_PAGE).map((event) => {
      const button = make("button", { type: "button" },
        make("span", { textContent: `${clock(event.onset)} – ${clock(event.offset)}` }),
        make("span", { textContent: titles[event.label] }),
        make("span", { textContent: event.mean.toFixed(2) }));
      if (data.excerpts && !hasSound(event)) button.children[1].append(make("small", { textContent: " no sound" }));
      button.addEventListener("click", () => choose(event));
      return make("li", {}, button);
    }));
    const last = Math.min(first + PER_PAGE, listed.length);
    $("range").textContent = listed.length ? `${figure(first + 1)} to ${figure(last)} of ${figure(listed.length)}` : "no event";
    if (tried) $("range").textContent += ", at the threshold tried";
    $("before").disabled = page <= 0;
    $("after").disabled = page >= pages - 1;
    $("previous").disabled = $("next").disabled = !listed.length;
    $("taken").textContent = `${figure(listed.length)} event${listed.length === 1 ? "" : "s"}, as listed`;
    mark();
  }

  // With excerpts an event is played at once, with what is before it.
  function choose(event) {
    const excerpt = data.excerpts && soundAt(event.onset);
    seek(excerpt ? Math.max(excerpt.from, event.onset - data.around) : event.onset, event);
    if (excerpt) resume();
  }

  // The button of the selected event, wherever the list stands.
  function mark() {
    const at = listed.indexOf(selected);
    if (at >= 0 && Math.floor(at / PER_PAGE) !== page) {
      page = Math.floor(at / PER_PAGE);
      fill();
      return;
    }
    [...$("list").children].forEach(({ firstChild: button }, i) => {
      if (at >= 0 && i === at - page * PER_PAGE) {
        button.setAttribute("aria-current", "true");
        const { offsetTop, offsetHeight } = button, list = $("list"), above = offsetTop - list.offsetTop;
        if (above < list.scrollTop || above + offsetHeight > list.scrollTop + list.clientHeight) {
          list.scrollTop = above - list.clientHeight / 3;
        }
      } else {
        button.removeAttribute("aria-current");
      }
    });
  }

  function step(by) {
    let at = listed.indexOf(selected);
    if (at >= 0) at += by;
    else if ($("order").value !== "time") at = 0;
    else if (by > 0) at = listed.findIndex((event) => event.onset > now + 1e-3);
    else at = listed.findLastIndex((event) => event.onset < now - 1e-3);
    const event = listed[at];
    if (event) seek(event.onset, event);
    $("status").textContent = event
      ? `Event ${figure(at + 1)} of ${figure(listed.length)}: ${titles[event.label]}, ${clock(event.onset)}. ${silence()}`.trim()
      : `No ${by > 0 ? "later" : "earlier"} event.`;
  }

  $("next").addEventListener("click", () => step(1));
  $("previous").addEventListener("click", () => step(-1));
  $("order").addEventListener("change", refresh);
  for (const [id, by] of [["before", -1], ["after", 1]]) {
    $(id).addEventListener("click", () => { page += by; selected = null; drawWindow(); fill(); });
  }
  const CHOICES = { all: () => true, some: (c) => events.some((e) => e.label === c), none: () => false };
  for (const [id, choose] of Object.entries(CHOICES)) {
    $(id).addEventListener("click", () => {
      rows.forEach(({ tick: box }, c) => { box.checked = shown[c] = choose(c); });
      refresh();
    });
  }

  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || !target.closest("main")) return;
    if (target.matches("select, audio, summary, input:not(#position):not([type=checkbox])")) return;
    if (key === " " && target.matches("button, [type=checkbox]")) return;
    const act = {
      " ": play, n: () => step(1), p: () => step(-1), Home: () => seek(0), End: () => seek(seconds),
      ArrowLeft: () => seek(now - (event.shiftKey ? 10 : 1)),
      ArrowRight: () => seek(now + (event.shiftKey ? 10 : 1)),
      "+": () => zoom(SPANS[Math.max(0, SPANS.indexOf(span) - 1)]),
      "-": () => zoom(SPANS[Math.min(SPANS.length - 1, SPANS.indexOf(span) + 1)]),
    }[key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // Other thresholds: figure 4 on the values of this page (sed/postprocessing.py)

  function median(active, window) {
    const half = (window - 1) / 2, length = active.length, result = new Uint8Array(length);
    if (!half) return active;
    // Beyond its ends a recording goes on as its mirror image.
    const at = (t) => {
      const turn = ((t % (2 * length)) + 2 * length) % (2 * length);
      return active[turn < length ? turn : 2 * length - 1 - turn];
    };
    let total = 0;
    for (let t = -half; t <= half; t++) total += at(t);
    for (let t = 0; t < length; t++) {
      result[t] = total > half ? 1 : 0;
      total += at(t + half + 1) - at(t - half);
    }
    return result;
  }

  function replay(thresholds) {
    const found = [];
    thresholds.forEach((threshold, label) => {
      const values = levels.subarray(label * count, (label + 1) * count);
      let active = values.map((value) => (value / 255 > threshold ? 1 : 0));
      for (let i = 0; i < data.medians; i++) active = median(active, data.windows[label]);
      for (let t = 0; t < count; t++) {
        if (!active[t]) continue;
        const first = t;
        let sum = 0, maximum = 0;
        for (; t < count && active[t]; t++) {
          sum += values[t];
          maximum = Math.max(maximum, values[t]);
        }
        found.push({
          onset: first / rate, offset: Math.min(t / rate, seconds), label,
          mean: sum / (t - first) / 255, maximum: maximum / 255,
        });
      }
    });
    return found.sort(ORDERS.time);
  }

  function explore(thresholds) {
    tried = thresholds;
    events = tried ? replay(tried) : heard;
    selected = null;
    $("back").disabled = !tried;
    $("legend-explored").hidden = !tried;
    refresh();
  }

  if (data.thresholds) {
    if (!levels) $("explore").hidden = true;
    const choice = $("tried"), slider = $("threshold");
    choice.append(make("option", { value: "", textContent: "all classes" }),
      ...titles.map((title, c) => make("option", { value: c, textContent: title })));
    const settle = () => {
      const values = tried || data.thresholds;
      slider.value = values[Number(choice.value)];
      $("value").textContent = choice.value || values.every((v) => v === values[0])
        ? Number(slider.value).toFixed(2) : "differs between classes";
    };
    let waiting = false;
    slider.addEventListener("input", () => {
      $("value").textContent = Number(slider.value).toFixed(2);
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        const value = Number(slider.value), of = choice.value;
        explore((tried || data.thresholds).map((v, c) => (of === "" || c === Number(of) ? value : v)));
      });
    });
    choice.addEventListener("change", settle);
    $("back").addEventListener("click", () => { explore(null); settle(); });
    settle();
  }

  // To take away

  function download(ending, lines) {
    const name = data.name.split(/[\\/]/).pop().replace(/\.[^.]+$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_");
    const address = URL.createObjectURL(new Blob([lines.join("\n"), "\n"], { type: "text/plain" }));
    make("a", { href: address, download: `${name}${tried ? ".explored" : ""}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  // A tab or a line break in a name would begin a column or a row.
  const cell = (text) => text.replace(/[\t\r\n]/g, " ");
  const inTime = () => [...listed].sort(ORDERS.time);
  $("tsv").addEventListener("click", () => {
    const header = ["filename", "onset", "offset", "event_label", "confidence_mean", "confidence_max"];
    download("tsv", [header.join("\t"), ...inTime().map((e) => [
      cell(data.name), e.onset.toFixed(3), e.offset.toFixed(3), cell(data.classes[e.label]),
      e.mean.toFixed(3), e.maximum.toFixed(3)].join("\t"))]);
  });
  $("audacity").addEventListener("click", () => {
    download("txt", inTime().map((e) =>
      [e.onset.toFixed(3), e.offset.toFixed(3), cell(data.classes[e.label])].join("\t")));
  });

  $("app").hidden = false;
  $("static").remove();
  zoom(span);
  refresh();
  new ResizeObserver(() => { drawOverview(); drawWindow(); }).observe(overview);
  // Other colours: by night, and on paper.
  for (const medium of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(medium).addEventListener("change", () => { drawOverview(); drawWindow(); });
  }
})();
