// The page: the URL is its state; search, library, player and panels are drawn from it.

import { h, api, clock, excerpt, marked } from "./dom.js";
import { Player } from "./player.js";
import { LANES, Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const NAMES = Object.fromEntries(LANES);
const STRONG = 0.8;
const NEAREST = 3;
const PAGE = 60;
const FIELDS = ["since", "until", "folder", "language"];
const KEYS = [
  ["/", "search"], ["j k", "next, previous result"], ["Enter", "play the result"], ["Space", "play or pause"],
  ["← →", "5 seconds back, on"], ["Shift ← →", "1 second back, on"], ["?", "this help"], ["Esc", "close"],
];

// --- state: what the URL says -----------------------------------------------------------------------------------------

let state = read();
let searching = null;
let answer = null;
let searchError = null;
let shown = { video: "", record: null, hit: null };
let library = [];
// The picture that is searched for: its content in base64 and an address to show it. It is no part of the URL.
let example = null;

const asks = () => Boolean(state.q || example);

function read() {
  const query = new URLSearchParams(location.search);
  const values = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) || ""]));
  return {
    ...values,
    q: query.get("q") || "",
    in: (query.get("in") || "").split(",").filter((name) => name in NAMES),
    strong: query.has("strong"),
    view: query.get("view") === "list" ? "list" : query.get("view") === "grid" ? "grid" : "",
    v: query.get("v") || "",
    m: query.get("m") || "",
    t: Math.max(0, Number(query.get("t")) || 0),
    tab: query.get("tab") || "",
  };
}

function address(next) {
  const query = new URLSearchParams();
  if (next.q) query.set("q", next.q);
  if (next.in.length) query.set("in", next.in.join(","));
  for (const name of FIELDS) if (next[name]) query.set(name, next[name]);
  if (next.strong) query.set("strong", "");
  if (next.view) query.set("view", next.view);
  if (next.v) {
    query.set("v", next.v);
    if (next.m) query.set("m", next.m);
    if (next.t) query.set("t", String(Math.round(next.t * 10) / 10));
    if (next.tab) query.set("tab", next.tab);
  }
  const text = query.toString().replace(/strong=(&|$)/, "strong$1");
  return text ? `/?${text}` : "/";
}

// Changes the state; `replace` where going back should not return to what was.
function go(changes, { replace = false, play = false } = {}) {
  state = { ...state, ...changes };
  history[replace ? "replaceState" : "pushState"](null, "", address(state));
  render(play);
}

addEventListener("popstate", () => {
  state = read();
  render(false);
});

const queryKey = (of) => JSON.stringify([of.q, example?.url, of.in, ...FIELDS.map((name) => of[name])]);
let drawn = "";

function render(play) {
  fillForm();
  const key = queryKey(state);
  if (key !== drawn) {
    drawn = key;
    answer = searchError = null;
    if (asks()) search();
    else browse();
  } else if (answer) drawHits();
  else if (!asks()) drawLibrary();
  watch(play);
  document.title = state.v && shown.record ? `${titleOf(shown.record)} · clamr` : state.q ? `${state.q} · clamr` : "clamr";
}

// --- search -----------------------------------------------------------------------------------------------------------

async function search() {
  if (searching) searching.abort();
  const mine = (searching = new AbortController());
  $("results").setAttribute("aria-busy", "true");
  const slow = setTimeout(() => { if (mine === searching) skeleton(); }, 250);
  try {
    const folder = state.folder && !/[*?]/.test(state.folder) ? `${state.folder.replace(/\/$/, "")}/*` : state.folder;
    answer = await api(example ? "search/picture" : "search", {
      q: state.q, modality: state.in, since: state.since, until: state.until, path: folder, language: state.language,
      limit: 50,
    }, mine.signal, example ? { picture: example.content } : undefined);
    if (mine !== searching) return;
    drawHits();
    lightTimeline();
    drawTabs();
  } catch (error) {
    if (mine === searching && error.name !== "AbortError") fault(error);
  } finally {
    clearTimeout(slow);
    if (mine === searching) $("results").removeAttribute("aria-busy");
  }
}

function drawHits() {
  const { hits, reason } = answer;
  const open = document.querySelector(".weak-hits")?.open;
  const good = hits.filter((hit) => !hit.weak && (!state.strong || hit.confidence >= STRONG));
  const weak = state.strong ? [] : hits.filter((hit) => hit.weak);
  const notes = [];
  const fixed = Object.entries(answer.corrections || {});
  if (fixed.length) notes.push(`Searched for “${answer.query}”.`);
  if (answer.indexing) notes.push("Videos are being indexed; there may be more soon.");
  if (answer.of) notes.push(`${answer.searched} of ${answer.of} videos can be searched so far.`);
  notes.push(...(answer.notes || []));
  let head = good.length ? `${good.length} ${good.length === 1 ? "video" : "videos"}` : "";
  const parts = [];
  if (good.length) parts.push(cards(good.map((hit) => hitCard(hit))));
  if (!good.length && weak.length) {
    head = "Nothing answers clearly. These are the nearest.";
    parts.push(cards(weak.slice(0, NEAREST).map((hit) => hitCard(hit))));
    weak.splice(0, NEAREST);
  }
  if (weak.length) {
    const fold = h("details", { class: "weak-hits" },
      h("summary", {}, `${weak.length} weak ${weak.length === 1 ? "hit" : "hits"}`, h("span", { class: "names" },
        weak.slice(0, 4).map((hit) => titleOf(hit)).join(" · "))),
      cards(weak.map((hit) => hitCard(hit))));
    fold.open = Boolean(open);
    parts.push(fold);
  }
  if (!hits.length) parts.push(empty("Nothing was found", reason || "try other words, or fewer filters"));
  else if (!parts.length) parts.push(empty("No hit is strong", "", h("button", { type: "button", onclick: () => go({ strong: false }) }, "Show the others")));
  $("status").replaceChildren(head, ...notes.map((note) => h("span", { class: "note" }, note)));
  $("hits").replaceChildren(...parts);
  mark();
}

function cards(items) {
  return h("ul", { class: `cards ${view()}` }, ...items.map((item) => h("li", {}, item)));
}

const view = () => state.view || (asks() ? "list" : "grid");
const titleOf = (record) => record.title || (record.path || "").split(/[\\/]/).pop() || record.video_id;

function placeOf(record) {
  const parts = (record.path || "").split(/[\\/]/);
  const file = parts.pop();
  return [record.title && record.title !== file ? file : "", parts.slice(-2).join("/")].filter(Boolean).join("  ·  ");
}

function picture(videoId, time, label) {
  const image = h("img", {
    src: pictureOf(videoId, time), alt: "", loading: "lazy", decoding: "async",
  });
  image.addEventListener("error", () => image.replaceWith(h("span", { class: "no-picture", "aria-hidden": "true" }, "♪")));
  return h("span", { class: "picture" }, image, h("span", { class: "badge" }, label));
}

function level(hit) {
  const name = hit.weak ? "weak" : hit.confidence >= STRONG ? "strong" : "fair";
  return h("span", { class: `level ${name}`, title: `Confidence ${Math.round(100 * hit.confidence)} %` }, name);
}

function hitCard(hit) {
  const lines = hit.lines.filter((line) => line.modality !== "metadata" || line.text !== hit.title).slice(0, 2);
  return card(hit, hit.open_at, clock(hit.open_at), [
    h("span", { class: "heading" }, h("span", { class: "name" }, ...marked(titleOf(hit), wordsOf(hit))), level(hit)),
    h("span", { class: "place" }, placeOf(hit), hit.offline ? h("span", { class: "offline" }, "offline") : ""),
    ...lines.map((line) => h("span", { class: "line" },
      h("span", { class: `kind m-${line.modality}` }, NAMES[line.modality] || line.modality),
      h("span", {}, line.start === null ? "" : h("span", { class: "at" }, clock(line.start)), " ",
        line.speaker ? h("b", {}, `${line.speaker}: `) : "",
        ...(line.text ? marked(excerpt(line.text, line.words), line.words) : [h("i", {}, line.words.join(", ") || "like it")])))),
  ], hit.moment_id);
}

const wordsOf = (hit) => hit.lines.flatMap((line) => line.words);

function card(record, time, label, text, moment = "", pictured = time) {
  const link = { ...state, v: record.video_id, m: moment, t: time };
  return h("a", {
    class: "card", href: address(link), "data-video": record.video_id, "data-moment": moment,
    onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go({ v: record.video_id, m: moment, t: time, tab: "" }, { play: true });
    },
  }, picture(record.video_id, pictured, label), h("span", { class: "text" }, ...text));
}

// --- library ----------------------------------------------------------------------------------------------------------

async function browse() {
  if (searching) searching.abort();
  const mine = (searching = new AbortController());
  try {
    skeleton();
    const folder = state.folder && !/[*?]/.test(state.folder) ? `${state.folder.replace(/\/$/, "")}/*` : state.folder;
    library = [];
    for (let total = 1; library.length < total && library.length < 20000;) {
      const page = await api("videos", { limit: 1000, offset: library.length, path: folder }, mine.signal);
      if (mine !== searching) return;
      total = page.total;
      library.push(...page.videos);
      if (!page.videos.length) break;
    }
    drawLibrary();
    const folders = [...new Set(library.map((row) => row.path.replace(/[\\/][^\\/]*$/, "")))].sort().slice(0, 300);
    $("folders").replaceChildren(...folders.map((one) => h("option", { value: one })));
  } catch (error) {
    if (mine === searching && error.name !== "AbortError") fault(error);
  } finally {
    if (mine === searching) $("results").removeAttribute("aria-busy");
  }
}

function drawLibrary(count = PAGE) {
  const rows = library.filter((row) => row.state === "indexed");
  const failed = library.filter((row) => row.state === "failed");
  const seconds = rows.reduce((sum, row) => sum + (row.duration || 0), 0);
  $("status").replaceChildren(rows.length ? `${rows.length} ${rows.length === 1 ? "video" : "videos"}, ${clock(seconds)} in all` : "");
  const parts = [];
  if (!library.length) parts.push(empty(state.folder ? "No video is in that folder" : "Nothing is indexed yet", state.folder ? "" : "Run: clamr index FOLDER"));
  if (rows.length) {
    parts.push(cards(rows.slice(0, count).map((row) => card(row, 0, clock(row.duration), [
      h("span", { class: "heading" }, h("span", { class: "name" }, titleOf(row))),
      h("span", { class: "place" }, placeOf(row), row.offline ? h("span", { class: "offline" }, "offline") : ""),
    ], "", (row.duration || 0) / 4))));
  }
  if (rows.length > count) {
    parts.push(h("button", { type: "button", class: "wide", onclick: () => drawLibrary(count + 4 * PAGE) }, `Show more of ${rows.length}`));
  }
  if (failed.length) {
    parts.push(h("details", { class: "weak-hits" }, h("summary", {}, `${failed.length} could not be read`),
      h("ul", { class: "plain" }, ...failed.map((row) => h("li", {}, h("b", {}, titleOf(row)), ` ${row.error || ""}`)))));
  }
  $("hits").replaceChildren(...parts);
  mark();
}

function skeleton() {
  $("results").setAttribute("aria-busy", "true");
  $("status").replaceChildren("Searching…");
  $("hits").replaceChildren(h("ul", { class: `cards ${view()} waiting`, "aria-hidden": "true" },
    ...Array.from({ length: 6 }, () => h("li", {}, h("span", { class: "card" }, h("span", { class: "picture" }), h("span", { class: "text" }, h("span", { class: "bar" }), h("span", { class: "bar short" })))))));
}

function empty(what, hint, more = "") {
  return h("div", { class: "empty" }, h("p", { class: "what" }, what), hint ? h("p", {}, hint) : "", more);
}

function fault(error) {
  searchError = asks() ? error : null;
  const signedOut = error.status === 401;
  $("status").replaceChildren();
  $("hits").replaceChildren(empty(error.message, error.hint, signedOut ? "" : h("button", {
    type: "button", onclick: () => { drawn = ""; render(false); },
  }, "Try again")));
  drawTabs();
}

// --- the player and what is known of its video ------------------------------------------------------------------------

const player = new Player($("video"), {
  onWay: (kind, text) => {
    $("stage").dataset.way = kind;
    $("way").textContent = text;
  },
  onError: (text) => {
    const note = $("stage-note");
    note.hidden = !text;
    note.replaceChildren(text ? h("p", {}, text) : "");
    $("stage").classList.toggle("broken", Boolean(text));
  },
});
const pictureOf = (video, second) => `/api/v1/thumbnails/${encodeURIComponent(video)}?t=${second.toFixed(2)}`;
const timeline = new Timeline($("timeline"), (second) => seek(second), (second) => pictureOf(state.v, second));

function seek(second, play = true) {
  player.seek(second, play);
  timeline.moveTo(second);
}

async function watch(play) {
  document.body.classList.toggle("watching", Boolean(state.v));
  $("watch").hidden = !state.v;
  mark();
  if (!state.v) {
    if (shown.video) player.close();
    shown = { video: "", record: null, hit: null };
    return;
  }
  if (shown.video === state.v) {
    if (shown.t !== state.t || play) seek(state.t, play);
    shown.t = state.t;
    lightTimeline();
    drawTabs();
    return;
  }
  const video = state.v;
  shown = { video, t: state.t, record: null, entries: [], explained: {} };
  $("title").textContent = "";
  $("clock").textContent = "";
  $("panel").replaceChildren();
  timeline.show([], 1, null);
  $("video").setAttribute("poster", pictureOf(video, state.t));
  for (const track of [...$("video").querySelectorAll("track")]) track.remove();
  player.open(video, state.t, play).catch(() => player.onError("The server does not answer."));
  if (innerWidth < 900) scrollTo(0, 0);
  try {
    const [record, line] = await Promise.all([
      api(`videos/${encodeURIComponent(video)}`), api(`videos/${encodeURIComponent(video)}/timeline`),
    ]);
    if (shown.video !== video) return;
    shown.record = { ...record, path: record.files[0]?.path || "" };
    shown.entries = line.timeline;
    $("title").textContent = titleOf(shown.record);
    document.title = `${titleOf(shown.record)} · clamr`;
    const spoken = line.timeline.filter((entry) => entry.modality === "speech");
    if (spoken.length) {
      $("video").append(h("track", {
        kind: "captions", label: "Transcript", srclang: record.language || "en",
        src: `/api/v1/videos/${encodeURIComponent(video)}/transcript.vtt`,
      }));
    }
    timeline.show(line.timeline, record.duration, hitOf()?.start === undefined ? null : hitOf());
    timeline.moveTo(state.t);
    lightTimeline();
    drawTabs();
  } catch (error) {
    if (shown.video === video) $("panel").replaceChildren(empty(error.message, error.hint));
  }
}

const hitOf = () => (answer ? answer.hits.find((hit) => hit.video_id === state.v) : undefined);

// Which moment of a video is meant, only the answer tells where the address does not.
const waits = () => Boolean(asks() && !answer && !state.m);

// What a panel says while the answer is awaited, or where there is none.
function drawWaiting() {
  $("panel").replaceChildren(searchError && waits() ? empty(searchError.message, searchError.hint) : h("p", { class: "quiet-text" }, "Comparing…"));
}

async function explanation() {
  const moment = state.m || hitOf()?.moment_id || `${state.v}#0`;
  const key = `${state.q} ${moment}`;
  const { explained } = shown;
  explained[key] ??= api(`moments/${encodeURIComponent(moment)}/explain`, { q: state.q });
  explained[key].catch(() => { delete explained[key]; });
  return explained[key];
}

async function lightTimeline() {
  const video = state.v;
  if (!video || !shown.record || waits()) return;
  if (!state.q || example) {
    timeline.light((hitOf()?.lines || []).filter((line) => line.start !== null)
      .map((line) => ({ ...line, end: line.start, strength: 1 })));
    return;
  }
  try {
    const why = await explanation();
    if (state.v !== video) return;
    const found = why.words.flatMap((word) => Object.values(word.by_modality));
    for (const line of hitOf()?.lines || []) {
      if (line.start !== null) found.push({ ...line, end: line.start });
    }
    const best = Math.max(0.01, ...found.map((one) => one.similarity));
    // Evidence is of a word; what is lit is the whole segment that holds it.
    timeline.light(found.map((one) => {
      const entry = shown.entries.find((other) => other.modality === one.modality && other.start - 0.01 <= one.start && one.start < other.end)
        || one;
      return { ...entry, strength: Math.max(0, Math.min(1, one.similarity / best)) ** 2 };
    }));
  } catch {
    timeline.light([]);
  }
}

// --- panels -----------------------------------------------------------------------------------------------------------

const PANELS = {
  why: ["Why this hit", drawWhy, () => Boolean(state.q && !example)],
  said: ["Transcript", () => drawLines("speech", "Nothing is said in this video, as far as the index knows."), () => true],
  written: ["On screen", () => drawLines("ocr", "No text was read on screen."), () => true],
  frames: ["Frames", drawFrames, () => Boolean(state.q && !example && shown.record.media.video_codec)],
  similar: ["Similar", drawSimilar, () => true],
  file: ["File", drawFile, () => true],
};

const firstTab = () => (state.q && !example ? "why" : shown.entries?.some((entry) => entry.modality === "speech") ? "said" : "file");

function drawTabs() {
  if (!shown.record) return;
  const names = Object.keys(PANELS).filter((name) => PANELS[name][2]());
  const active = names.includes(state.tab) ? state.tab : firstTab();
  $("tabs").replaceChildren(...names.map((name) => h("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === active), "aria-controls": "panel",
    tabindex: name === active ? "0" : "-1", onclick: () => go({ tab: name }, { replace: true }),
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      go({ tab: names[(names.indexOf(name) + step + names.length) % names.length] }, { replace: true });
      $("tabs").querySelector("[aria-selected=true]").focus();
    },
  }, PANELS[name][0])));
  $("panel").setAttribute("aria-labelledby", `tab-${active}`);
  $("tabs").scrollLeft = $(`tab-${active}`).offsetLeft - $("tabs").offsetLeft - 40;
  const key = [state.v, active, active === "why" || active === "similar" ? state.m : "", answer ? `${state.q} ${example?.url}` : "", searchError ? "failed" : ""].join(" ");
  if (shown.panel !== key) {
    shown.panel = key;
    shown.follow = null;
    PANELS[active][1]();
  }
}

function drawLines(modality, none) {
  const entries = shown.entries.filter((entry) => entry.modality === modality);
  if (!entries.length) {
    $("panel").replaceChildren(h("p", { class: "quiet-text" }, none));
    return;
  }
  const words = state.q.split(/\s+/);
  const rows = entries.map((entry) => h("button", { type: "button", class: "row", onclick: () => seek(entry.start) },
    h("span", { class: "at" }, clock(entry.start)), h("span", {}, entry.speaker ? h("b", {}, `${entry.speaker}: `) : "",
      ...marked(entry.text, words))));
  $("panel").replaceChildren(h("div", { class: "rows" }, ...rows));
  shown.follow = { entries, rows, last: -1 };
  follow($("video").currentTime || state.t);
}

function follow(second) {
  const { follow: list } = shown;
  if (!list) return;
  let now = -1;
  list.entries.forEach((entry, place) => { if (entry.start <= second + 0.05) now = place; });
  if (now === list.last) return;
  list.rows[list.last]?.removeAttribute("aria-current");
  list.last = now;
  const row = list.rows[now];
  if (!row) return;
  row.setAttribute("aria-current", "true");
  const box = $("panel");
  if (!box.matches(":hover") && box.scrollHeight > box.clientHeight) {
    box.scrollTo({ top: row.offsetTop - box.offsetTop - box.clientHeight / 3, behavior: "smooth" });
  }
}

function bar(value) {
  const fill = h("span", {});
  fill.style.width = `${Math.round(100 * Math.max(0, Math.min(1, value)))}%`;
  return h("span", { class: "meter", "aria-hidden": "true" }, fill);
}

async function drawWhy() {
  const video = state.v;
  drawWaiting();
  if (waits()) return;
  let why;
  try {
    why = await explanation();
  } catch (error) {
    if (state.v === video) $("panel").replaceChildren(empty(error.message, error.hint));
    return;
  }
  if (state.v !== video || $("panel").getAttribute("aria-labelledby") !== "tab-why") return;
  const shares = Object.entries(why.shares).filter(([, share]) => share > 0.005).sort((a, b) => b[1] - a[1]);
  const changes = why.what_if.filter((one) => one.rank !== why.rank);
  $("panel").replaceChildren(
    h("p", { class: "lead" }, `Rank ${why.rank} of ${why.total} for “${why.query}”, `, level(why), ` with a confidence of ${Math.round(100 * why.confidence)} %.`),
    h("table", { class: "why" },
      h("thead", {}, h("tr", {}, ...["Query", "Best match", "Similarity"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...why.words.map((word) => {
        const best = word.best;
        return h("tr", {}, h("th", { scope: "row" }, word.query_token), best ? h("td", {},
          h("span", { class: `kind m-${best.modality}` }, NAMES[best.modality] || best.modality || "all"), " ",
          best.modality === "metadata" ? "" : h("button", { type: "button", class: "at", onclick: () => seek(best.start) }, clock(best.start)), " ",
          best.modality === "video" ? "" : h("span", {}, ...marked(excerpt(best.text, [word.query_token], 110), [word.query_token]))) : h("td", {}, "nothing"),
        h("td", { class: "number" }, best ? bar(best.similarity) : "", best ? best.similarity.toFixed(2) : ""));
      }))),
    h("h3", {}, "Where the score comes from"),
    h("ul", { class: "shares" }, ...shares.map(([modality, share]) => h("li", { class: `m-${modality}` },
      h("span", {}, NAMES[modality] || modality), bar(share), h("span", { class: "number" }, `${Math.round(100 * share)} %`)))),
    changes.length ? h("p", { class: "quiet-text" }, changes.map((one) => (one.rank === null
      ? `Without ${NAMES[one.without] || one.without} it would not be found.`
      : `Without ${NAMES[one.without] || one.without} it would be at rank ${one.rank}.`)).join(" ")) : "");
}

async function drawSimilar() {
  const video = state.v;
  const moment = state.m || hitOf()?.moment_id || `${state.v}#0`;
  drawWaiting();
  if (waits()) return;
  try {
    const similar = await api(`moments/${encodeURIComponent(moment)}/similar`, { limit: 8 });
    if (state.v !== video || $("panel").getAttribute("aria-labelledby") !== "tab-similar") return;
    const hits = similar.hits || similar.moments || similar;
    $("panel").replaceChildren(hits.length ? cards(hits.map((hit) => card(hit, hit.open_at ?? hit.at ?? hit.start, clock(hit.open_at ?? hit.at ?? hit.start), [
      h("span", { class: "heading" }, h("span", { class: "name" }, titleOf(hit))),
      h("span", { class: "place" }, `${clock(hit.start)}–${clock(hit.end)}`),
    ], hit.moment_id))) : h("p", { class: "quiet-text" }, "No other moment is like this one."));
    $("panel").querySelector(".cards")?.classList.replace("list", "grid");
  } catch (error) {
    if (state.v === video) $("panel").replaceChildren(empty(error.message, error.hint));
  }
}

async function drawFrames() {
  const video = state.v;
  const panel = $("panel");
  const isHere = () => state.v === video && panel.getAttribute("aria-labelledby") === "tab-frames";
  drawWaiting();
  try {
    const { frames } = await api("frames", { q: state.q, video, limit: 12 });
    if (!isHere()) return;
    const good = frames.filter((frame) => !frame.weak);
    panel.replaceChildren(
      h("p", { class: "quiet-text" }, good.length ? "The frames of this video that answer best." : "Probably no frame of this video answers. These are the nearest."),
      cards((good.length ? good : frames.slice(0, NEAREST)).map((frame) => card(shown.record, frame.time, clock(frame.time), [
        h("span", { class: "line" }, h("span", { class: `kind m-${frame.modality}` }, NAMES[frame.modality] || ""),
          h("span", {}, ...matchOf(frame))),
      ]))));
    panel.querySelector(".cards").classList.replace("list", "grid");
  } catch (error) {
    if (!isHere()) return;
    panel.replaceChildren(error.status !== 409 ? empty(error.message, error.hint) : empty("Only the main frames of this video are known",
      "The server can prepare the video, to choose among all of its frames. That takes a while.",
      h("button", { type: "button", onclick: () => prepare(video, isHere) }, "Prepare it")));
  }
}

// What of a frame answers: the words it shows, or the words that are said, written or noted there.
function matchOf(frame) {
  const own = frame.evidence.filter((one) => one.modality === frame.modality);
  const words = [...new Set(own.map((one) => one.query_token))];
  if (frame.modality === "video") return [words.join(", ")];
  const texts = [...new Set(own.map((one) => one.text).filter(Boolean))];
  return marked(excerpt(texts.join(" · "), words, 90), words);
}

// Has the server prepare a video for questions, and shows how far that is.
async function prepare(video, isHere) {
  const text = h("p", { role: "status" }, "Starting");
  const done = h("progress", { max: "1", value: "0", "aria-label": "Progress" });
  let job;
  const stop = h("button", { type: "button", onclick: () => fetch(`/api/v1/jobs/${job.id}`, { method: "DELETE" }) }, "Stop");
  const events = new EventSource("/api/v1/events");
  const end = (error) => {
    events.close();
    if (!isHere()) return;
    if (error) $("panel").replaceChildren(empty(error.message, error.hint));
    else drawFrames();
  };
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) end({ message: "The server does not answer" });
  });
  try {
    job = await api("jobs", {}, undefined, { kind: "frames", video_id: video });
  } catch (error) {
    end(error);
    return;
  }
  if (isHere()) $("panel").replaceChildren(h("div", { class: "empty" }, text, done, stop));
  events.addEventListener("job", (event) => {
    const now = JSON.parse(event.data);
    if (now.id !== job?.id) return;
    const what = now.text || (now.state === "waiting" ? "Waiting for another job" : "Starting");
    if (text.textContent !== what) text.textContent = what;
    done.value = now.done;
    if (now.state === "failed") end({ message: now.error });
    else if (now.state === "done" || now.state === "cancelled") end();
  });
}

function drawFile() {
  const { record } = shown;
  const { media } = record;
  const sound = media.audio.map((track) => [track.codec, track.language, track.title].filter(Boolean).join(" ")).join(", ");
  const facts = [
    ["Title", record.title], ["Uploader", record.uploader], ["Date", record.date], ["Language", record.language],
    ["Length", clock(record.duration)],
    ["Picture", media.video_codec ? `${media.width} × ${media.height}, ${media.video_codec}, ${Math.round(100 * media.fps) / 100} fps` : "none"],
    ["Sound", sound || "none"],
    ...record.files.map((file) => [file.offline ? "File (offline)" : "File", file.path]),
    ["Indexed", record.indexed_at.replace("T", " ").slice(0, 16)], ["Id", record.video_id],
  ];
  const notes = shown.entries.filter((entry) => entry.modality === "metadata").map((entry) => entry.text);
  $("panel").replaceChildren(
    h("dl", { class: "facts" }, ...facts.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    notes.length ? h("h3", {}, "Metadata") : "", ...notes.map((text) => h("p", { class: "note-line" }, text)));
}

// --- the form, and what the whole page does ---------------------------------------------------------------------------

function fillForm() {
  if (document.activeElement !== $("q") || !$("q").value) $("q").value = state.q;
  for (const name of FIELDS) if (document.activeElement !== $(name)) $(name).value = state[name];
  $("strong").checked = state.strong;
  $("example").hidden = !example;
  if (example) {
    $("example").replaceChildren(h("img", { src: example.url, alt: "The picture that is searched for" }),
      h("button", { type: "button", class: "quiet", onclick: () => lookFor(null) }, "Remove"));
  }
  const set = FIELDS.filter((name) => state[name]).length;
  $("more-label").textContent = set ? `Filters (${set})` : "More filters";
  $("modalities").replaceChildren(...LANES.map(([modality, name]) => h("button", {
    type: "button", class: `chip m-${modality}`, "aria-pressed": String(state.in.includes(modality)),
    onclick: () => go({ in: state.in.includes(modality) ? state.in.filter((one) => one !== modality) : [...state.in, modality] }),
  }, name)));
  $("views").replaceChildren(...["list", "grid"].map((name) => h("button", {
    type: "button", class: "chip", "aria-pressed": String(view() === name), onclick: () => go({ view: name }, { replace: true }),
  }, name)));
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = $("q").value.trim();
  $("q").blur();
  drawn = q === state.q ? "" : drawn;
  go({ q, v: "", m: "", t: 0, tab: "" });
});
$("file").addEventListener("change", () => {
  if ($("file").files[0]) lookFor($("file").files[0]);
  $("file").value = "";
});
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) lookFor(file);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const file = [...event.dataTransfer.files].find((one) => one.type.startsWith("image/"));
  if (file) lookFor(file);
});

const SIDE = 640;

// Searches by a picture, or without one. The browser decodes it and makes it small, so any size is quickly sent.
async function lookFor(file) {
  if (example) URL.revokeObjectURL(example.url);
  example = null;
  if (file) {
    try {
      const image = await createImageBitmap(file);
      const scale = Math.min(1, SIDE / Math.max(image.width, image.height));
      const canvas = h("canvas", { width: Math.max(1, Math.round(image.width * scale)), height: Math.max(1, Math.round(image.height * scale)) });
      const pen = canvas.getContext("2d");
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
      const bytes = new Uint8Array(await blob.arrayBuffer());
      const content = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
      example = { url: URL.createObjectURL(blob), content };
    } catch {
      $("status").replaceChildren(`${file.name || "The file"} is no picture that this browser reads.`);
      return;
    }
  }
  go({ v: "", m: "", t: 0, tab: "" });
}

$("q").addEventListener("input", () => { if (!$("q").value && state.q) go({ q: "", v: "" }); });
for (const name of FIELDS) $(name).addEventListener("change", () => go({ [name]: $(name).value.trim() }));
$("strong").addEventListener("change", () => go({ strong: $("strong").checked }));
$("clear").addEventListener("click", () => go(Object.fromEntries(FIELDS.map((name) => [name, ""]))));
$("home").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  example = null;
  go({ q: "", v: "", m: "", t: 0, in: [], strong: false, tab: "", ...Object.fromEntries(FIELDS.map((name) => [name, ""])) });
});
$("close").addEventListener("click", close);
$("link").addEventListener("click", async () => {
  const t = $("video").currentTime || state.t;
  go({ t }, { replace: true });
  try {
    await navigator.clipboard.writeText(location.href);
    $("link").textContent = "Copied";
  } catch {
    $("link").textContent = "In the address bar";
  }
  setTimeout(() => { $("link").textContent = "Copy link"; }, 1500);
});
$("help-button").addEventListener("click", () => $("help").showModal());
$("keys").append(...KEYS.flatMap(([keys, what]) => [h("dt", {}, ...keys.split(" ").map((key) => h("kbd", {}, key))), h("dd", {}, what)]));

function close() {
  const last = document.querySelector(`.card[data-video="${CSS.escape(state.v)}"]`);
  go({ v: "", m: "", t: 0, tab: "" });
  last?.focus();
}

$("video").addEventListener("timeupdate", () => {
  const second = $("video").currentTime;
  if (!player.kind) return;
  timeline.moveTo(second);
  $("clock").textContent = `${clock(second)} / ${clock(shown.record?.duration || $("video").duration || 0)}`;
  follow(second);
});

const focusable = () => [...document.querySelectorAll("#hits .card[href]")].filter((one) => one.offsetParent);

function mark() {
  for (const one of document.querySelectorAll("#hits .card[href]")) {
    one.classList.toggle("current", one.dataset.video === state.v);
    if (one.dataset.video === state.v) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
}

function step(by) {
  const all = focusable();
  const here = all.indexOf(document.activeElement);
  const place = here >= 0 ? here : all.findIndex((one) => one.classList.contains("current"));
  const next = all[Math.min(all.length - 1, Math.max(0, place < 0 ? 0 : place + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.metaKey || event.ctrlKey || event.altKey || $("help").open) return;
  const typing = target.matches("input:not([type=checkbox]), textarea, select");
  if (key === "Escape") {
    if (typing) target.blur();
    else if (state.v) close();
    return;
  }
  if (typing) {
    if (key === "ArrowDown" && target === $("q")) {
      event.preventDefault();
      step(0);
    }
    return;
  }
  const video = $("video");
  const onButton = target.matches("button, summary, input");
  const onVideo = target === video;
  const acts = {
    "/": () => { $("q").focus(); $("q").select(); },
    "?": () => $("help").showModal(),
    j: () => step(1),
    k: () => step(-1),
  };
  if (!target.closest("#watch")) {
    acts.ArrowDown = () => step(1);
    acts.ArrowUp = () => step(-1);
  }
  if (state.v && !onVideo) {
    const far = event.shiftKey ? 1 : 5;
    acts.ArrowLeft = () => seek(Math.max(0, video.currentTime - far), !video.paused);
    acts.ArrowRight = () => seek(Math.min(video.duration || 1e9, video.currentTime + far), !video.paused);
    if (!onButton) acts[" "] = () => (video.paused ? player.play() : video.pause());
  }
  if (acts[key]) {
    event.preventDefault();
    acts[key]();
  }
});

const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

function theme(name) {
  const next = name in THEMES ? name : "auto";
  document.documentElement.dataset.theme = next;
  $("theme").textContent = THEMES[next];
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[next].toLowerCase()}`);
  $("theme").title = "Light, dark, or as the system has it";
  try {
    localStorage.setItem("clamr-theme", next);
  } catch { /* a browser without storage forgets it */ }
  timeline.draw();
}

$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => timeline.draw());
let stored = "auto";
try {
  stored = localStorage.getItem("clamr-theme") || "auto";
} catch { /* as above */ }
theme(stored);
if (state.q || state.v) $("q").blur();
render(false);
