"use strict";
// The film of the collapse. Without this script the page shows three moments of it, which print too.
for (const film of document.querySelectorAll(".film")) {
  const data = JSON.parse(film.querySelector("script").textContent);
  const part = name => film.querySelector(".film-" + name);
  const [live, slider, play, plane, epoch] = ["live", "slider", "play", "plane", "epoch"].map(part);
  const curve = part("curve").firstElementChild;
  const last = data.epochs.length - 1;
  const still = matchMedia("(prefers-reduced-motion: reduce)"), dark = matchMedia("(prefers-color-scheme: dark)");
  const values = film.classList.contains("film-values");

  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const whole = text => new Int16Array(bytes(text).buffer);
  for (const panel of data.panels) {
    for (const own of Object.values(panel.planes)) {
      [own.points, own.means, own.kinds] = [whole(own.points), whole(own.means), bytes(own.kinds)];
    }
  }

  const text = value => value === null ? "–" : value >= 1e-3 && value < 1e4 ? String(+value.toPrecision(3)) : value.toExponential(1);
  const make = (tag, name, ...children) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  };
  const views = data.panels.map(panel => {
    const label = make("span", "loss", panel.label), value = make("span", "film-value"), canvas = make("canvas");
    label.style.setProperty("--loss", panel.colour);
    canvas.setAttribute("role", "img");
    part("panels").append(make("figure", "film-panel", make("figcaption", "", label, value), canvas));
    return {panel, value, canvas};
  });
  const columns = () => innerWidth < 704 ? Math.min(2, views.length) : Math.min(views.length, views.length === 4 ? 2 : views.length > 6 ? 4 : 3);

  // Colours are those of the page, so that light and dark need no list of their own here.
  let look;
  const styled = () => {
    const style = getComputedStyle(film), of = name => style.getPropertyValue(name).trim();
    look = {ink: of("--ink"), quiet: of("--quiet"), line: of("--line"), card: of("--card"), font: style.fontFamily};
    look.kinds = Array.from({length: 10}, (_, place) => of("--c" + place));
    look.losses = data.panels.map(panel => readable(panel.colour, 3));
    look.labels = data.panels.map(panel => readable(panel.colour, 4.5));
  };
  const channels = colour => [1, 3, 5].map(start => parseInt(colour.slice(start, start + 2), 16));
  const light = colour => {
    const [r, g, b] = channels(colour).map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const readable = (colour, least) => {
    // The colour of a loss, nearer to the ink where it would vanish on the ground.
    const contrast = () => (Math.max(light(colour), light(look.card)) + .05) / (Math.min(light(colour), light(look.card)) + .05);
    for (let step = 0; step < 12 && contrast() < least; step += 1) {
      const ink = channels(look.ink);
      colour = "#" + channels(colour).map((c, k) => Math.round(.8 * c + .2 * ink[k]).toString(16).padStart(2, "0")).join("");
    }
    return colour;
  };
  const begin = canvas => {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px " + look.font;
    pen.textBaseline = "middle";
    return [pen, width, height];
  };

  const drawPanel = ({panel, canvas}, at) => {
    const [pen, width, height] = begin(canvas);
    const own = panel.planes[plane.value];
    pen.textAlign = "center";
    if (!own) {
      pen.fillStyle = look.quiet;
      pen.fillText("no plane", width / 2, height / 2);
      return;
    }
    const count = own.kinds.length, means = own.means.length / 2 / data.epochs.length;
    const one = Math.floor(at), other = Math.min(last, one + 1), share = at - one;
    const place = (list, size, index) => [0, 1].map(axis => {
      const value = (1 - share) * list[2 * (one * size + index) + axis] + share * list[2 * (other * size + index) + axis];
      return (axis ? -1 : 1) * value / own.reach * width / 2 + width / 2;
    });
    pen.globalAlpha = .6;
    for (let index = 0; index < count; index += 1) {
      const [x, y] = place(own.points, count, index);
      pen.fillStyle = look.kinds[own.kinds[index]];
      pen.beginPath();
      pen.arc(x, y, width < 240 ? 1.8 : 2.6, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
    const radius = width < 240 ? 7 : 9;
    pen.font = `600 ${width < 240 ? 10 : 12}px ${look.font}`;
    for (let index = 0; index < means; index += 1) {
      const [x, y] = place(own.means, means, index);
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fillStyle = look.card;
      pen.fill();
      pen.lineWidth = 2.5;
      pen.strokeStyle = look.kinds[index];
      pen.stroke();
      pen.fillStyle = look.ink;
      pen.fillText(data.names[index], x, y + .5);
    }
    drawBar(pen, width, height, own);
  };
  const drawBar = (pen, width, height, own) => {
    // A round number of the features' unit, about a fifth of the panel.
    const unit = 2 * own.reach * own.scale, power = 10 ** Math.floor(Math.log10(unit / 5));
    const size = [5, 2, 1].map(factor => factor * power).find(length => length <= unit / 4) || power;
    const length = size / unit * width, right = width - 8, y = height - 8;
    pen.strokeStyle = pen.fillStyle = look.quiet;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(right - length, y);
    pen.lineTo(right, y);
    pen.stroke();
    pen.font = "11px " + look.font;
    pen.fillText(String(+size.toPrecision(1)), right - length / 2, y - 8);
  };

  // Epochs on a scale of log(1 + epoch), which has a place for epoch 0.
  const along = value => {
    const low = Math.log1p(data.epochs[0]), high = Math.log1p(data.epochs[last]);
    return (Math.log1p(value) - low) / (high - low);
  };
  let box = {left: 0, right: 1};
  const drawCurve = at => {
    const [pen, width, height] = begin(curve);
    const drawn = data.panels.flatMap(panel => panel.curve).filter(value => value > 0);
    const ends = data.panels.map((panel, index) => ({index, value: panel.curve.findLast(value => value > 0)})).filter(end => end.value);
    const widest = Math.max(...data.panels.map(panel => pen.measureText(panel.label).width));
    const named = widest < width / 3 && ends.length * 14 < height - 40;
    box = {left: 46, right: width - (named ? widest + 12 : 12), top: 18, bottom: height - 24};
    let [low, high] = [Math.min(...drawn), Math.max(...drawn)];
    if (!drawn.length) [low, high] = [.1, 1];
    [low, high] = [Math.log10(low) - .08, Math.log10(high) + .08];
    const x = value => box.left + along(value) * (box.right - box.left);
    const y = value => box.bottom - (Math.log10(value) - low) / (high - low) * (box.bottom - box.top);
    pen.fillStyle = look.quiet;
    pen.strokeStyle = look.line;
    pen.textAlign = "left";
    pen.fillText(data.measure, 4, 8);
    pen.textAlign = "right";
    const decades = Array.from({length: 40}, (_, k) => k - 20).filter(power => power >= low && power <= high);
    const ticks = decades.length > 1 ? decades.map(power => 10 ** power)
      : [.01, .1, 1, 10].flatMap(base => [1, 2, 5].map(k => k * base * 10 ** Math.floor(high))).filter(value => Math.log10(value) >= low && Math.log10(value) <= high);
    for (const tick of ticks.filter((_, k) => k % Math.ceil(ticks.length / 5) === 0)) {
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(box.left, y(tick));
      pen.lineTo(box.right, y(tick));
      pen.stroke();
      pen.fillText(tick >= 1e-3 && tick < 1e4 ? String(+tick.toPrecision(1)) : tick.toExponential(0), box.left - 6, y(tick));
    }
    pen.textAlign = "center";
    let free = -Infinity;
    for (const [index, value] of data.epochs.entries()) {
      const half = pen.measureText(value).width / 2;
      if (x(value) - half < free || (index !== last && x(data.epochs[last]) - x(value) < half + 26)) continue;
      pen.fillText(value, x(value), height - 10);
      free = x(value) + half + 10;
    }
    data.panels.forEach((panel, index) => {
      pen.strokeStyle = look.losses[index];
      pen.lineWidth = 2;
      pen.beginPath();
      let joined = false;
      panel.curve.forEach((value, frame) => {
        if (value > 0) pen[joined ? "lineTo" : "moveTo"](x(data.epochs[frame]), y(value));
        joined = value > 0;
      });
      pen.stroke();
    });
    if (named) {
      ends.sort((a, b) => b.value - a.value);
      let above = -Infinity;
      pen.textAlign = "left";
      ends.forEach((end, k) => {
        const place = Math.min(Math.max(y(end.value), above + 14), height - 10 - 14 * (ends.length - 1 - k));
        pen.fillStyle = look.labels[end.index];
        pen.fillText(data.panels[end.index].label, box.right + 8, place);
        above = place;
      });
    }
    const frame = Math.floor(at), other = Math.min(last, frame + 1), share = at - frame;
    const now = box.left + ((1 - share) * along(data.epochs[frame]) + share * along(data.epochs[other])) * (box.right - box.left);
    pen.strokeStyle = look.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(now, box.top - 4);
    pen.lineTo(now, box.bottom);
    pen.stroke();
    if (share === 0) {
      data.panels.forEach((panel, index) => {
        if (!(panel.curve[frame] > 0)) return;
        pen.fillStyle = look.losses[index];
        pen.beginPath();
        pen.arc(now, y(panel.curve[frame]), 4, 0, 7);
        pen.fill();
      });
    }
  };

  let at = last;
  const draw = () => {
    const frame = Math.round(at);
    for (const view of views) {
      drawPanel(view, at);
      const value = `${data.measure} ${text(view.panel.curve[frame])}`;
      view.value.textContent = value;
      view.canvas.setAttribute("aria-label", `${view.panel.label}, epoch ${data.epochs[frame]}: ${value}`);
    }
    drawCurve(at);
    epoch.textContent = `epoch ${data.epochs[frame]} of ${data.epochs[last]}`;
    slider.value = frame;
    const spoken = views.map(view => `${view.panel.label} ${text(view.panel.curve[frame])}`).join(", ");
    slider.setAttribute("aria-valuetext", `epoch ${data.epochs[frame]}; ${data.measure}: ${spoken}`);
  };
  const lay = () => {
    part("panels").style.setProperty("--columns", columns());
    for (const entry of part("legend").children) {
      entry.hidden = !values && !data.planes[plane.value].kinds.includes(Number(entry.dataset.place));
    }
    styled();
    draw();
  };

  // It never plays by itself. Where less motion is wanted, it steps from snapshot to snapshot.
  let playing = 0;
  const pause = () => {
    cancelAnimationFrame(playing);
    playing = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  };
  const go = frame => {
    pause();
    at = Math.max(0, Math.min(last, frame));
    draw();
  };
  const toggle = () => {
    if (playing) return go(Math.round(at));
    const each = Math.max(60, Math.min(700, 20000 / last)), from = at >= last ? 0 : Math.round(at);
    let begun;
    const step = now => {
      begun ??= now;
      const passed = from + (now - begun) / each, frame = Math.floor(passed);
      // Half the time at a snapshot, half on the way to the next one.
      at = Math.min(last, still.matches ? frame : frame + Math.max(0, 2 * (passed - frame) - 1));
      draw();
      if (at >= last) return pause();
      playing = requestAnimationFrame(step);
    };
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    playing = requestAnimationFrame(step);
  };

  play.addEventListener("click", toggle);
  slider.addEventListener("input", () => go(Number(slider.value)));
  plane.addEventListener("change", lay);
  const keys = {ArrowLeft: () => at - 1, ArrowRight: () => at + 1, Home: () => 0, End: () => last};
  film.addEventListener("keydown", event => {
    if (event.target === plane || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target !== play) toggle();
    else if (event.key in keys && event.target !== slider) go(Math.round(keys[event.key]()));
    else return;
    event.preventDefault();
  });
  const point = event => {
    if (!event.buttons) return;
    const share = (event.offsetX - box.left) / (box.right - box.left);
    const far = data.epochs.map(value => Math.abs(along(value) - share));
    go(far.indexOf(Math.min(...far)));
  };
  curve.addEventListener("pointerdown", point);
  curve.addEventListener("pointermove", point);

  live.hidden = false;
  part("still").hidden = true;
  lay();
  new ResizeObserver(lay).observe(live);
  dark.addEventListener("change", lay);
}
