// The evidence time line: four lanes of what the index knows of a video, what answers the query lit, a click seeks.

import { h, clock } from "./dom.js";

export const LANES = [["video", "shown"], ["speech", "said"], ["ocr", "written"], ["metadata", "metadata"]];
const LANE = 22;
const GAP = 6;

export class Timeline {
  // `onSeek(seconds)` is called with the second that was chosen.
  // `pictureOf(seconds)` is the address of the picture that is shown then.
  constructor(root, onSeek, pictureOf) {
    this.onSeek = onSeek;
    this.pictureOf = pictureOf;
    this.entries = [];
    this.lit = [];
    this.duration = 0;
    this.span = null;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.cursor = h("div", { class: "cursor", "aria-hidden": "true" });
    this.picture = h("img", { alt: "" });
    this.words = h("span");
    this.tip = h("div", { class: "tip", hidden: true }, this.picture, this.words);
    this.area = h("div", {
      class: "lanes", role: "slider", tabindex: "0", "aria-label": "Position in the video", "aria-valuemin": "0",
    }, this.canvas, this.cursor, this.tip);
    const names = h("div", { class: "lane-names", "aria-hidden": "true" },
      ...LANES.map(([modality, name]) => h("span", { class: `m-${modality}` }, name)));
    this.scale = h("div", { class: "scale", "aria-hidden": "true" });
    root.replaceChildren(names, h("div", { class: "lane-body" }, this.area, this.scale));
    this.area.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.area.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.onSeek(this.second(event));
    });
    this.area.addEventListener("pointermove", (event) => {
      if (this.dragging) this.onSeek(this.second(event));
      this.point(event);
    });
    this.area.addEventListener("pointerup", () => { this.dragging = false; });
    this.area.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.area.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowRight: 5, PageDown: -30, PageUp: 30 }[event.key];
      if (event.key === "Home") this.onSeek(0);
      else if (event.key === "End") this.onSeek(Math.max(0, this.duration - 1));
      else if (step) this.onSeek(Math.min(this.duration, Math.max(0, this.now + step)));
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    new ResizeObserver(() => this.draw()).observe(this.area);
  }

  show(entries, duration, span) {
    this.entries = entries;
    this.duration = Math.max(duration, 0.1);
    this.span = span;
    this.area.setAttribute("aria-valuemax", String(Math.round(this.duration)));
    const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => h("span", {}, clock(part * this.duration)));
    this.scale.replaceChildren(...marks);
    this.moveTo(0);
    this.draw();
  }

  // `lit` are evidence: modality, start, end, similarity, text.
  light(lit) {
    this.lit = lit;
    this.draw();
  }

  moveTo(second) {
    this.now = second;
    this.cursor.style.left = `${100 * Math.min(1, second / this.duration)}%`;
    this.area.setAttribute("aria-valuenow", String(Math.round(second)));
    this.area.setAttribute("aria-valuetext", `${clock(second)} of ${clock(this.duration)}`);
  }

  second(event) {
    const box = this.area.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const at = part * this.duration;
    // A click on a segment goes to its beginning, as people mean the line and not a place in it.
    const hit = this.under(event);
    return hit && this.isNarrow(hit, box.width) ? hit.start : at;
  }

  isNarrow(entry, width) {
    return ((entry.end - entry.start) / this.duration) * width < 40;
  }

  under(event) {
    const box = this.area.getBoundingClientRect();
    const lane = Math.floor((event.clientY - box.top) / (LANE + GAP));
    const modality = LANES[Math.min(LANES.length - 1, Math.max(0, lane))][0];
    const at = ((event.clientX - box.left) / box.width) * this.duration;
    const slack = (3 / box.width) * this.duration;
    const near = (entry) => entry.modality === modality && entry.start - slack <= at && at <= entry.end + slack;
    return this.lit.find(near) || this.entries.find(near);
  }

  point(event) {
    const box = this.area.getBoundingClientRect();
    const at = Math.min(this.duration, Math.max(0, ((event.clientX - box.left) / box.width) * this.duration));
    const hit = this.under(event);
    const text = hit && hit.text ? ` ${hit.text.length > 140 ? `${hit.text.slice(0, 140)}…` : hit.text}` : "";
    this.words.replaceChildren(h("b", {}, clock(hit && this.isNarrow(hit, box.width) ? hit.start : at)), text);
    const frame = this.entries.findLast((entry) => entry.modality === "video" && entry.start <= at);
    const address = frame ? this.pictureOf(frame.start) : "";
    if (address && this.picture.getAttribute("src") !== address) this.picture.src = address;
    this.picture.hidden = !address;
    this.tip.hidden = false;
    const left = Math.min(box.width - this.tip.offsetWidth, Math.max(0, event.clientX - box.left - this.tip.offsetWidth / 2));
    this.tip.style.left = `${left}px`;
  }

  draw() {
    const width = this.area.clientWidth;
    if (!width || !this.duration) return;
    const ratio = window.devicePixelRatio || 1;
    const height = LANES.length * (LANE + GAP) - GAP;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(this.area);
    const colour = (name) => style.getPropertyValue(name).trim();
    const x = (second) => (second / this.duration) * width;
    LANES.forEach(([modality], lane) => {
      const top = lane * (LANE + GAP);
      pen.fillStyle = colour("--lane");
      pen.beginPath();
      pen.roundRect(0, top, width, LANE, 5);
      pen.fill();
      pen.save();
      pen.clip();
      pen.fillStyle = colour(`--${modality}`);
      for (const entry of this.entries) {
        if (entry.modality !== modality) continue;
        const left = x(entry.start);
        pen.globalAlpha = 0.3;
        if (modality === "video") {
          // A frame is a tick where it was seen; what it stands for is a thin line.
          pen.fillRect(left, top + LANE - 5, Math.max(1, x(entry.end) - left - 1), 3);
          pen.fillRect(left, top + 5, 1.5, LANE - 10);
        } else {
          pen.fillRect(left, top + 5, Math.max(2, x(entry.end) - left - 1), LANE - 10);
        }
      }
      for (const entry of this.lit) {
        if (entry.modality !== modality) continue;
        const left = x(entry.start);
        pen.globalAlpha = 0.4 + 0.6 * entry.strength;
        pen.beginPath();
        // What holds for the whole video is a line, so that it does not outshine the moments.
        const inset = entry.end - entry.start > 0.9 * this.duration ? 8 : 2;
        pen.roundRect(left, top + inset, Math.max(5, x(entry.end) - left - 1), LANE - 2 * inset, 3);
        pen.fill();
      }
      pen.globalAlpha = 1;
      pen.restore();
    });
    if (this.span && this.span.end - this.span.start < this.duration - 1) {
      pen.strokeStyle = colour("--accent");
      pen.lineWidth = 1.5;
      pen.strokeRect(x(this.span.start) + 1, 1, Math.max(2, x(this.span.end) - x(this.span.start) - 2), height - 2);
    }
  }
}
