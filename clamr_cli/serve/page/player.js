// Plays a video the best way that the server offers and this browser can go; falls to the next where playing fails.

import Hls from "./vendor/hls.light.min.mjs";

const WAYS = {
  direct: "",
  remux: "Repackaged for this browser, the picture is untouched",
  transcode: "Converted while you watch",
};

export class Player {
  // `onWay(kind, text)` is told the way that is tried, `onError(text)` why none works, "" once it plays.
  constructor(video, { onWay, onError }) {
    this.video = video;
    this.onWay = onWay;
    this.onError = onError;
    this.hls = null;
    this.ways = [];
    this.turn = 0;
    video.addEventListener("error", () => this.fail());
    video.addEventListener("loadedmetadata", () => {
      // A browser that knows the container but not the codec plays the sound alone.
      if (this.expectsPicture && !video.videoWidth) this.fail();
      else this.onError("");
    });
  }

  async open(videoId, time, play) {
    this.close();
    const turn = ++this.turn;
    this.time = time;
    this.wanted = play;
    const response = await fetch(`/media/${encodeURIComponent(videoId)}/plan`);
    const plan = await response.json();
    if (turn !== this.turn) return;
    if (!response.ok) {
      this.onError([plan.error, plan.hint].filter(Boolean).join(": "));
      return;
    }
    this.expectsPicture = plan.width > 0;
    this.ways = plan.ways.filter((way) => this.can(way));
    this.next();
  }

  can(way) {
    if (way.kind === "direct") return this.video.canPlayType(way.mime) !== "";
    if (Hls.isSupported()) return MediaSource.isTypeSupported(way.mime);
    return this.video.canPlayType("application/vnd.apple.mpegurl") !== "";
  }

  next() {
    this.detach();
    const way = this.ways.shift();
    if (!way) {
      this.onWay("", "");
      this.onError("This browser cannot play the video.");
      return;
    }
    this.kind = way.kind;
    this.onWay(way.kind, WAYS[way.kind]);
    if (way.kind === "direct" || !Hls.isSupported()) {
      this.video.src = way.url;
      if (this.time > 0) this.video.currentTime = this.time;
    } else {
      const turn = this.turn;
      this.hls = new Hls({
        enableWorker: false,
        startPosition: this.time,
        maxBufferLength: way.kind === "transcode" ? 12 : 30,
        maxMaxBufferLength: 60,
        backBufferLength: 60,
        fragLoadPolicy: {
          default: {
            maxTimeToFirstByteMs: 60000, maxLoadTimeMs: 120000,
            timeoutRetry: { maxNumRetry: 1, retryDelayMs: 0, maxRetryDelayMs: 0 },
            errorRetry: { maxNumRetry: 3, retryDelayMs: 1000, maxRetryDelayMs: 4000 },
          },
        },
      });
      let mended = false;
      this.hls.on(Hls.Events.ERROR, (_, data) => {
        if (!data.fatal || turn !== this.turn) return;
        if (data.type === Hls.ErrorTypes.MEDIA_ERROR && !mended) {
          mended = true;
          this.hls.recoverMediaError();
        } else this.fail();
      });
      this.hls.loadSource(way.url);
      this.hls.attachMedia(this.video);
    }
    if (this.wanted) this.play();
  }

  // Where autoplay is forbidden the picture stands at its moment.
  play() {
    this.video.play().catch(() => {});
  }

  fail() {
    if (!this.kind || (!this.video.getAttribute("src") && !this.hls)) return;
    if (this.video.currentTime > 0) this.time = this.video.currentTime;
    this.wanted = this.wanted || !this.video.paused;
    this.next();
  }

  seek(time, play) {
    this.time = time;
    this.video.currentTime = time;
    if (play) this.play();
  }

  detach() {
    this.kind = "";
    if (this.hls) this.hls.destroy();
    this.hls = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  close() {
    this.turn++;
    this.ways = [];
    this.video.pause();
    this.detach();
    this.onError("");
    this.onWay("", "");
  }
}
