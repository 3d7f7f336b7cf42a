// Small functions that everything on the page uses. Texts of videos are hostile: they only ever become text nodes.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "hidden") element.hidden = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}

const STEM = 4;

// A text with the words that answer the query marked; inflected forms count.
export function marked(text, words) {
  const stems = words.flatMap((word) => word.toLocaleLowerCase().split(/[^\p{L}\p{N}]+/u)).filter((word) => word.length > 1)
    .map((word) => (word.length > STEM + 1 ? word.slice(0, Math.max(STEM, word.length - 2)) : word));
  if (!stems.length) return [text];
  return text.split(/([\p{L}\p{N}]+)/u).filter(Boolean).map((part) => {
    const lower = part.toLocaleLowerCase();
    const hit = stems.some((stem) => (stem.length >= STEM ? lower.startsWith(stem) : lower === stem));
    return hit ? h("mark", {}, part) : part;
  });
}

// The part of a long text around the first word that answers.
export function excerpt(text, words, most = 180) {
  if (text.length <= most) return text;
  const lower = text.toLocaleLowerCase();
  const places = words.map((word) => lower.indexOf(word.toLocaleLowerCase().slice(0, STEM + 1))).filter((place) => place >= 0);
  const start = Math.max(0, Math.min(places.length ? Math.min(...places) - most / 4 : 0, text.length - most));
  const from = start ? text.indexOf(" ", start) + 1 : 0;
  return `${from ? "… " : ""}${text.slice(from, from + most).trim()}${from + most < text.length ? " …" : ""}`;
}

export class Failure extends Error {
  constructor(what, hint, status) {
    super(what);
    this.hint = hint || "";
    this.status = status;
  }
}

export async function api(path, parameters = {}, signal = undefined, body = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) query.append(name, one);
    }
  }
  let response;
  try {
    response = await fetch(`/api/v1/${path}${query.size ? `?${query}` : ""}`, {
      signal, ...(body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer", "is clamr serve still running?", 0);
  }
  let record = null;
  try {
    record = await response.json();
  } catch {
    throw new Failure("The answer cannot be read", "", response.status);
  }
  if (!response.ok) throw new Failure(record.error || response.statusText, record.hint, response.status);
  return record;
}
