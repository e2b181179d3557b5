"use strict";
(() => {
  const lanes = document.getElementById("lanes");
  const sheet = lanes.querySelector(".sheet");
  const tip = document.getElementById("tip");
  const said = document.getElementById("zoom");
  const known = JSON.parse(document.getElementById("names").textContent);
  const span = Number(lanes.dataset.span);
  let zoom = 1;
  let lit = null;

  const time = (ns) => {
    for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
      if (ns >= size) return `${Number((ns / size).toPrecision(4))} ${unit}`;
    }
    return `${ns} ns`;
  };

  const boxes = (track) =>
    (track.boxes ??= Array.from(track.querySelectorAll("rect"), (rect) => {
      const [name, start, length, count, busy] = rect.dataset.b.split(",").map(Number);
      return { rect, name, start, length, count, busy, kind: known.kinds[rect.getAttribute("class").slice(2)] };
    }));

  const told = (box) => {
    const name = box.name < 0 ? "(a name that is rare here)" : known.names[box.name];
    const where = `lasts ${time(box.length)}, starts at ${time(box.start)}`;
    return box.count === 1
      ? `${name}\n${box.kind}\n${where}`
      : `${box.count} short events, the longest: ${name}\nmostly: ${box.kind}\n${where}, filled to ${box.busy} %`;
  };

  const show = (box, x, y) => {
    lit?.classList.remove("on");
    lit = box.rect;
    lit.classList.add("on");
    tip.textContent = told(box);
    tip.hidden = false;
    tip.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 12 : y + 18}px`;
  };

  const hide = () => {
    lit?.classList.remove("on");
    lit = null;
    tip.hidden = true;
  };

  // the box under the pointer, or the nearest within a few pixels: most are narrower than a finger or a pointer's tip
  const nearest = (track, x) => {
    const area = track.getBoundingClientRect();
    const at = ((x - area.left) / area.width) * span;
    const reach = (4 / area.width) * span;
    let best = null;
    let least = reach;
    for (const box of boxes(track)) {
      const away = Math.max(box.start - at, at - box.start - box.length, 0);
      if (away < least || (away === 0 && best !== null && box.length < best.length)) {
        best = box;
        least = away;
      }
    }
    return best;
  };

  const point = (event) => {
    const track = event.target.closest(".track");
    const box = track && nearest(track, event.clientX);
    if (box) show(box, event.clientX, event.clientY);
    else hide();
  };
  lanes.addEventListener("pointermove", point);
  lanes.addEventListener("click", point);
  lanes.addEventListener("pointerleave", hide);
  lanes.addEventListener("focusout", hide);

  const select = (track, place) => {
    const all = boxes(track);
    track.place = Math.max(0, Math.min(place, all.length - 1));
    const box = all[track.place];
    const area = track.getBoundingClientRect();
    const middle = ((box.start + box.length / 2) / span) * area.width;
    if (zoom > 1) lanes.scrollLeft = middle - lanes.clientWidth / 2;
    show(box, lanes.getBoundingClientRect().left + middle - lanes.scrollLeft, area.bottom - 8);
  };

  for (const track of lanes.querySelectorAll(".track")) {
    track.addEventListener("focus", () => {
      if (track.matches(":focus-visible")) select(track, track.place ?? 0);
    });
    track.addEventListener("keydown", (event) => {
      const place = track.place ?? -1;
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: Infinity }[event.key];
      if (event.key === "Escape") hide();
      if (to === undefined) return;
      event.preventDefault();
      select(track, to);
    });
  }

  const enlarge = (to) => {
    const middle = (lanes.scrollLeft + lanes.clientWidth / 2) / zoom;
    zoom = Math.max(1, Math.min(to, 64));
    sheet.style.width = `${zoom * 100}%`;
    lanes.classList.toggle("fine", zoom >= 4);
    lanes.scrollLeft = middle * zoom - lanes.clientWidth / 2;
    said.textContent = `${zoom}×`;
    hide();
  };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => enlarge(zoom * Number(button.dataset.zoom)));
  }
  addEventListener("beforeprint", () => {
    enlarge(1);
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  document.documentElement.classList.add("js");
})();
