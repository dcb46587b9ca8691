// Elements, icons, toasts, menus and announcements: the few things every part of the page builds with.

/** Builds an element. `props` are attributes, except `class`, `text`, `on` (listeners) and `data`. Strings become text, never markup. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export const $ = (selector, root = document) => root.querySelector(selector);

/** Paths of icons in a 24 by 24 box, drawn as lines. */
const ICONS = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h10",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM6 15H5V4h10v2",
  check: "M5 12.5l4.5 4.5L19 7.5",
  redo: "M20 5v5h-5M19.5 10A8 8 0 1 0 20 14",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  play: "M8 5l11 7-11 7z",
  tokens: "M4 6h6v5H4zM14 6h6v5h-6zM4 15h10v4H4zM18 15h2v4h-2z",
  chart: "M4 4v16h16M8 15l4-5 3 3 5-7",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M18.7 5.3l-1.4 1.4M6.7 17.3l-1.4 1.4",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.500z",
  auto: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 4v16M12 8h5.500M12 12h8M12 16h5.5",
  export: "M12 15V4M7.5 8.500L12 4l4.5 4.500M5 14v6h14v-6",
  import: "M12 4v11M7.5 10.500L12 15l4.5-4.500M5 14v6h14v-6",
  keyboard: "M3 7h18v11H3zM7 11h.01M11 11h.01M15 11h.01M8 14.500h8",
  tool: "M14.5 6.500a4 4 0 0 0-5 5L4 17l3 3 5.5-5.500a4 4 0 0 0 5-5L15 12l-3-3z",
  braces: "M9 4c-3 0-3 2-3 4s0 3-2 4c2 1 2 2 2 4s0 4 3 4M15 4c3 0 3 2 3 4s0 3 2 4c-2 1-2 2-2 4s0 4-3 4",
};

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon. `label` is its accessible name and its tooltip; `text`, if given, is visible. */
export function button(name, label, onClick, { text, ...props } = {}) {
  const extra = props.class ? ` ${props.class}` : "";
  const content = text ? [icon(name), el("span", { text })] : [icon(name)];
  return el("button", { type: "button", "aria-label": text ? undefined : label, title: label, ...props,
    class: (text ? "button" : "icon-button") + extra, on: { click: onClick } }, content);
}

/** Puts icons into the elements of index.html that name one with `data-icon`. */
export function placeIcons(root = document) {
  for (const node of root.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
}

/** Shows a message for some seconds. `action` is `{label, run}`, such as Undo. */
export function toast(message, action) {
  const box = el("div", { class: "toast" }, el("span", { text: message }));
  const close = () => box.remove();
  if (action) box.append(el("button", { type: "button", class: "link", text: action.label, on: { click: () => { close(); action.run(); } } }));
  box.append(button("close", "Dismiss", close));
  $("#toasts").append(box);
  setTimeout(close, action ? 10_000 : 6_000);
}

/** Has a screen reader speak a sentence when it is idle. */
export function announce(sentence) {
  const region = $("#announcer");
  region.append(el("p", { text: sentence }));
  while (region.childElementCount > 20) region.firstElementChild.remove();
}

/** Places a fixed element beside a rectangle, below it if there is room, inside the window. */
export function placeBeside(node, rect, gap = 6) {
  const { offsetWidth: width, offsetHeight: height } = node;
  const below = rect.bottom + gap + height <= innerHeight - 8;
  const top = below ? rect.bottom + gap : Math.max(8, rect.top - gap - height);
  node.style.left = `${Math.max(8, Math.min(rect.left, innerWidth - width - 8))}px`;
  node.style.top = `${Math.min(top, Math.max(8, innerHeight - height - 8))}px`;
}

/** Opens a menu at a button. `items` are `{icon, label, run}`. Arrow keys move, Escape closes. */
export function openMenu(anchor, items) {
  const menu = el("div", { class: "menu", role: "menu", popover: "auto" });
  for (const item of items) {
    menu.append(el("button", { type: "button", role: "menuitem", tabindex: "-1",
      on: { click: () => { menu.hidePopover(); item.run(); } } }, icon(item.icon), el("span", { text: item.label })));
  }
  menu.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Tab") menu.hidePopover();
    if (!step) return;
    event.preventDefault();
    const buttons = [...menu.children];
    const next = buttons.indexOf(document.activeElement) + step;
    buttons[(next + buttons.length) % buttons.length].focus();
  });
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    const inside = menu.contains(document.activeElement);
    anchor.setAttribute("aria-expanded", "false");
    menu.remove();
    if (inside || document.activeElement === document.body) anchor.focus();
  });
  document.body.append(menu);
  menu.showPopover();
  placeBeside(menu, anchor.getBoundingClientRect());
  anchor.setAttribute("aria-expanded", "true");
  menu.firstElementChild.focus();
}

/** Copies text and says so on the button that was pressed. */
export async function copyText(text, source) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    toast("The browser did not allow copying.");
    return;
  }
  announce("Copied.");
  if (!source) return;
  const before = source.firstElementChild;
  const mark = icon("check");
  before.replaceWith(mark);
  setTimeout(() => mark.replaceWith(before), 1200);
}

/** Offers a string as a file to save. */
export function saveFile(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Calls `run` at most once per animation frame, with the latest arguments. */
export function perFrame(run) {
  let waiting = false;
  let latest = [];
  return (...args) => {
    latest = args;
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; run(...latest); });
  };
}

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
/** Formats a count, such as 12,345. */
export const count = (value) => numbers.format(value);
/** Formats a number with three significant digits. */
export const short = (value) => (value >= 100 ? numbers.format(value) : value.toPrecision(value >= 1 ? 3 : 2).replace(/\.?0+$/, ""));
/** Formats seconds as ms, s or min. */
export function duration(seconds) {
  if (seconds < 0.0995) return `${short(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
