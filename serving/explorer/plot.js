// Points on a canvas that is panned, zoomed and pointed at.

const RADIUS = 2.6,
  REACH = 14,
  MAX_ZOOM = 60,
  STEP = 1.3,
  PAN = 40,
  MARGIN = 16,
  MAX_STRETCH = 1.7;

// on.hover, on.pick: called with the place of a point, or -1; how: "mouse", "touch", "key".
export class Plot {
  constructor(canvas, x, y, on) {
    Object.assign(this, {
      canvas,
      x,
      y,
      on,
      groups: [],
      zoom: 1,
      at: [0, 0],
      marked: -1,
      dim: null,
      pointers: new Map(),
      moved: 0,
    });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.on.hover(-1));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  leave() {
    this.observer.disconnect();
  }

  get size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  // Pixels of a unit, across and up: the map fills the canvas, as long as it is not stretched much.
  get scale() {
    const [width, height] = this.size,
      short = Math.min(width, height) * MAX_STRETCH;
    return [Math.min(width, short), Math.min(height, short)].map((side) => (side / 2 - MARGIN) * this.zoom);
  }

  // Where a point is drawn.
  place(i) {
    const [width, height] = this.size,
      [across, up] = this.scale;
    return [width / 2 + (this.x[i] - this.at[0]) * across, height / 2 - (this.y[i] - this.at[1]) * up];
  }

  show(groups) {
    this.groups = groups;
    this.draw();
  }

  mark(i, { centre = false } = {}) {
    this.marked = i;
    if (centre && i >= 0) {
      this.at = [this.x[i], this.y[i]];
      this.zoom = Math.max(this.zoom, 2.5);
    }
    this.draw();
  }

  draw() {
    const [width, height] = this.size,
      ratio = devicePixelRatio,
      context = this.canvas.getContext("2d");
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    context.scale(ratio, ratio);
    const radius = RADIUS * Math.min(2.2, this.zoom ** 0.35);
    for (const group of this.groups) {
      context.globalAlpha = this.dim && this.dim !== group.name ? 0.08 : 0.8;
      context.fillStyle = group.colour;
      context.beginPath();
      for (const i of group.points) {
        const [x, y] = this.place(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 7);
      }
      context.fill();
    }
    if (this.marked >= 0) this.ring(context, radius);
  }

  ring(context, radius) {
    context.globalAlpha = 1;
    context.lineWidth = 2.5;
    context.strokeStyle = getComputedStyle(this.canvas).color;
    context.beginPath();
    context.arc(...this.place(this.marked), radius + 4, 0, 7);
    context.stroke();
  }

  nearest(x, y) {
    let best = -1,
      least = REACH ** 2;
    for (const group of this.groups) {
      if (this.dim && this.dim !== group.name) continue;
      for (const i of group.points) {
        const [px, py] = this.place(i),
          distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
    }
    return best;
  }

  zoomAt(factor, x = this.size[0] / 2, y = this.size[1] / 2) {
    const zoom = Math.max(0.5, Math.min(MAX_ZOOM, this.zoom * factor)),
      before = this.scale;
    this.zoom = zoom;
    const [width, height] = this.size,
      [across, up] = this.scale.map((after, side) => 1 / before[side] - 1 / after);
    this.at = [this.at[0] + (x - width / 2) * across, this.at[1] - (y - height / 2) * up];
    this.draw();
  }

  pan(dx, dy) {
    const [across, up] = this.scale;
    this.at = [this.at[0] - dx / across, this.at[1] + dy / up];
    this.draw();
  }

  reset() {
    Object.assign(this, { zoom: 1, at: [0, 0] });
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.zoomAt(
      STEP ** (-Math.sign(event.deltaY) * Math.min(1, Math.abs(event.deltaY) / 60)),
      event.offsetX,
      event.offsetY,
    );
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 1) this.moved = 0;
  }

  move(event) {
    const here = [event.offsetX, event.offsetY],
      before = this.pointers.get(event.pointerId);
    if (!before) return this.on.hover(this.nearest(...here), here);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) this.pinch(before, here, others[0][1]);
    else this.pan(here[0] - before[0], here[1] - before[1]);
    this.moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
    return this.pointers.set(event.pointerId, here);
  }

  pinch(before, here, other) {
    const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
    this.zoomAt(apart(here) / apart(before), (here[0] + other[0]) / 2, (here[1] + other[1]) / 2);
  }

  up(event) {
    const held = this.pointers.delete(event.pointerId);
    if (!held || this.pointers.size || this.moved > 5 || event.type === "pointercancel") return;
    this.on.pick(this.nearest(event.offsetX, event.offsetY), event.pointerType === "mouse" ? "mouse" : "touch");
  }

  key(event) {
    const keys = {
      ArrowLeft: () => this.pan(PAN, 0),
      ArrowRight: () => this.pan(-PAN, 0),
      ArrowUp: () => this.pan(0, PAN),
      ArrowDown: () => this.pan(0, -PAN),
      "+": () => this.zoomAt(STEP),
      "=": () => this.zoomAt(STEP),
      "-": () => this.zoomAt(1 / STEP),
      0: () => this.reset(),
      Enter: () => this.on.pick(this.marked, "key"),
    };
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }
}
